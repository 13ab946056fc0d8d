/* What ps(1) shows as the command line of a process that was forked, not exec'ed. */
#ifndef BULKHEAD_TITLE_H
#define BULKHEAD_TITLE_H

/* Remembers where the command line lies. Call it first, with main's own argv. */
void title_init(int argc, char **argv);

/* Writes over it, cut to the room there is. Nothing may use main's argv afterwards. */
__attribute__((format(printf, 1, 2))) void title_set(const char *format, ...);

#endif

/* bulkhead status: what a running bulkheadd holds. */
#ifndef BULKHEAD_STATUS_H
#define BULKHEAD_STATUS_H

/* argv[0] is "status". Returns the code to exit with. */
int status_main(int argc, char **argv);

struct option_table;
extern const struct option_table status_table;

#endif

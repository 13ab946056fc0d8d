/* bulkhead run: a command with a bulkheadd of its own. */
#ifndef BULKHEAD_RUN_H
#define BULKHEAD_RUN_H

/* argv[0] is "run". Returns the code to exit with. */
int run_main(int argc, char **argv);

struct option_table;
extern const struct option_table run_table;

#endif

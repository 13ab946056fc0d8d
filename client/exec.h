/* bulkhead exec: a command on a bulkheadd that is running. */
#ifndef BULKHEAD_EXEC_H
#define BULKHEAD_EXEC_H

/* argv[0] is "exec". Returns the code to exit with. */
int exec_main(int argc, char **argv);

struct option_table;
extern const struct option_table exec_table;

#endif

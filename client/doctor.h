/* bulkhead doctor: what this host gives to this user, and what to do about the rest. */
#ifndef BULKHEAD_DOCTOR_H
#define BULKHEAD_DOCTOR_H

/* argv[0] is "doctor". Returns the code to exit with. */
int doctor_main(int argc, char **argv);

struct option_table;
extern const struct option_table doctor_table;

#endif

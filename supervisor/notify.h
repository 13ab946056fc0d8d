/* Tells the service manager how we are: sd_notify(3), without its library. */
#ifndef BULKHEAD_NOTIFY_H
#define BULKHEAD_NOTIFY_H

/* state: "READY=1", "STOPPING=1". Does nothing when no manager asked for it. */
void notify(const char *state);

#endif

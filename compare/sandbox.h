/* Running a program that a model wrote. */
#ifndef KVT_COMPARE_SANDBOX_H
#define KVT_COMPARE_SANDBOX_H

#include <stdbool.h>

#include "kvt/kvt.h"

/* How programs are run: in a sandbox of bubblewrap (no network, no files but a read-only /usr, an empty home, no other processes), or bare. Both have
 * limits on processor time, memory, processes and output. */
struct kvt_sandbox { bool bare; double seconds; };

/* Whether it can be had here: EUNSUP with what to install or to say. Runs a program once. */
int kvt_sandbox_check(const struct kvt_sandbox *s, struct kvt_err *err);
/* *passed: the Python program ended with status 0 within the time. An error only where it couldn't be run at all. */
int kvt_sandbox_run(const struct kvt_sandbox *s, const char *program, volatile const int *interrupted, bool *passed, struct kvt_err *err);

#endif

/* kvinfo --follow: a run while it is written. */
#ifndef KVT_TRACER_KVINFO_FOLLOW_H
#define KVT_TRACER_KVINFO_FOLLOW_H

#include "kvt/kvt.h"

/* Prints a line for what is new until the run ends. 0: it is complete; EINTR: it was interrupted; EIO: it failed or died. */
int kvinfo_follow(const char *path, const char *prompt_id, struct kvt_err *err);

#endif

/* The names that a trace's file has in its life, and what becomes of it where somebody takes them away.
 *
 *   run.h5.part.new-PID   while the objects are made; a kill leaves it, and a later run removes it
 *   run.h5.part           from the moment it can be opened by others, to the end
 *   run.h5                complete (or interrupted), synced */
#ifndef KVT_TRACER_TRACE_NAME_H
#define KVT_TRACER_TRACE_NAME_H

#include "kvt/kvt.h"

/* path.part.new-PID, malloc'ed; removes what killed runs left under such names. NULL without memory. */
char *kvt_trace_fresh_name(const char *path);
/* Gives the file `fresh` the name `part`, of which only one run can be the owner: EINPUT where another has it. The file of a
 * run that is dead is removed. */
int kvt_trace_claim(const char *fresh, const char *part, struct kvt_err *err);
/* Syncs `from`, gives it the name `path`, replacing what has it, and syncs the folder. */
int kvt_trace_publish(const char *from, const char *path, struct kvt_err *err);
/* The same for the file that is open as fd and whose name should be `from`: where the name is gone or another file's, nothing is
 * renamed, the data is saved into the working directory, and the error says where it is. */
int kvt_trace_publish_open(int fd, const char *from, const char *path, struct kvt_err *err);

#endif

/* Making the .part of a killed run an ordinary HDF5 file. */
#ifndef KVT_TRACER_TRACE_REPAIR_H
#define KVT_TRACER_TRACE_REPAIR_H

#include <stdbool.h>

#include "kvt/kvt.h"

/* Clears the mark of being written in path and sets status to interrupted. EINPUT for a file that a living process
 * writes, and for what isn't a trace. A file without the mark stays as it is. */
int kvt_trace_repair(const char *path, struct kvt_err *err);
/* Whether another process has the file open, as the run that writes it does; true also where that can't be asked. */
bool kvt_trace_is_open(const char *path);

#endif

/* What a device did (kernels/profile.h), into the file at a run's end and out of it again. */
#ifndef KVT_TRACER_TRACE_DEVICE_H
#define KVT_TRACER_TRACE_DEVICE_H

#include "kernels/profile.h"
#include "tracer/trace_objects.h"

/* Nothing where the trace has no room for it. */
bool kvt_device_write(struct kvt_trace_file *f, const struct kvt_device_times *t);

#endif

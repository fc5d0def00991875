/* Times of parts on their way into the file: gathered until a chunk is full, so that each chunk is written once. */
#ifndef KVT_TRACER_TRACE_TIMES_H
#define KVT_TRACER_TRACE_TIMES_H

#include "tracer/trace_objects.h"

struct kvt_timeline;

/* Goes on behind what the file has (a run that is resumed). NULL without memory, or where the trace hasn't a timeline (*has false). */
struct kvt_timeline *kvt_timeline_open(const struct kvt_trace_shape *s, struct kvt_trace_file *f, bool *has);
void kvt_timeline_close(struct kvt_timeline *t);
/* lost: records that were lost before they came here. */
bool kvt_timeline_add(struct kvt_timeline *t, struct kvt_trace_file *f, const struct kvt_time *time, int n, int64_t lost);
bool kvt_timeline_end(struct kvt_timeline *t, struct kvt_trace_file *f);

#endif

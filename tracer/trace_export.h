/* Any dataset of a trace as a file of another kind. */
#ifndef KVT_TRACER_TRACE_EXPORT_H
#define KVT_TRACER_TRACE_EXPORT_H

#include <stdio.h>

#include "kvt/trace.h"

enum kvt_export_as { KVT_EXPORT_TSV, KVT_EXPORT_JSON, KVT_EXPORT_NPY };

/* name: a path below /prompt/<id>, as "score/mass" or "branches/01/evicted_at", or a dimension. f16 comes out as f32, scaled.
 * TSV: a line for each value, behind the values of its dimensions. JSON: path, unit, meaning, dims, shape, data; NaN is null.
 * NPY: numpy's version 1.0; texts are bytes of fixed length. */
int kvt_trace_export(struct kvt_trace *t, const char *name, enum kvt_export_as as, FILE *out, struct kvt_err *err);
/* The times of a run as Chrome's trace events (JSON), which Perfetto opens. */
int kvt_trace_timeline(struct kvt_trace *t, FILE *out, struct kvt_err *err);

#endif

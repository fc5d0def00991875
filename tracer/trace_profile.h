/* What a device did, out of a trace (kvtrace --profile). */
#ifndef KVT_TRACER_TRACE_PROFILE_H
#define KVT_TRACER_TRACE_PROFILE_H

#include "kernels/profile.h"
#include "kvt/trace.h"

struct kvt_profile_read {
    struct kvt_device_times times;
    struct kvt_device_call *call;
    struct kvt_device_record *record;
    char *text;                /* (n_names) of fixed length */
    const char **name;
};

/* version 0 and nothing else where the trace has no profile, or one that didn't come to its end. Indices are in their ranges or -1. */
int kvt_profile_read(struct kvt_trace *t, struct kvt_profile_read *out, struct kvt_err *err);
void kvt_profile_free(struct kvt_profile_read *p);
/* "?" for -1. */
const char *kvt_profile_name(const struct kvt_profile_read *p, int32_t name);

#endif

/* The writer's side of the ring: messages into the file. One thread at a time. */
#ifndef KVT_TRACER_TRACE_STORE_H
#define KVT_TRACER_TRACE_STORE_H

#include "tracer/trace_objects.h"
#include "tracer/trace_pack.h"

struct kvt_trace_store;
struct kvt_device_times;

/* The file at path was made by kvt_trace_make; name is what errors call it. */
int kvt_trace_store_open(struct kvt_trace_store **out, const char *path, const char *name, const struct kvt_trace_plan *plan,
                         const struct kvt_trace_shape *s, struct kvt_err *err);
/* *wrote: bytes of full maps that went to the file. */
int kvt_trace_store_put(struct kvt_trace_store *st, const struct kvt_msg *m, size_t *wrote, struct kvt_err *err);
/* What the device did, when all messages are in. */
int kvt_trace_store_device(struct kvt_trace_store *st, const struct kvt_device_times *times, struct kvt_err *err);
/* The last words and closing; frees st. ok false: an earlier write failed, so only the status is tried. */
int kvt_trace_store_close(struct kvt_trace_store **st, bool ok, const char *status, uint64_t logits_hash, int64_t dropped,
                          struct kvt_err *err);

#endif

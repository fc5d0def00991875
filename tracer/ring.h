/* A bounded ring of messages between one producer and one consumer thread.
 *
 * A message is one contiguous piece of memory: the producer reserves, fills and commits it; the consumer peeks at it
 * in place and releases it. Sizes are bytes. */
#ifndef KVT_TRACER_RING_H
#define KVT_TRACER_RING_H

#include <stdbool.h>
#include <stddef.h>

#include "kvt/kvt.h"

struct kvt_ring;

int kvt_ring_open(struct kvt_ring **out, size_t capacity, struct kvt_err *err);
/* Both threads must be done with it. */
void kvt_ring_close(struct kvt_ring **r);

/* Producer. The largest message that is sure to fit. */
size_t kvt_ring_max(const struct kvt_ring *r);
/* Room for a message, aligned to 16 bytes. Where it is full: waits if `wait`, else NULL. NULL also once the consumer
 * gave up. bytes <= kvt_ring_max(). */
void *kvt_ring_reserve(struct kvt_ring *r, size_t bytes, bool wait);
/* Hands over the reserved message. */
void kvt_ring_commit(struct kvt_ring *r);
/* No more messages. */
void kvt_ring_end(struct kvt_ring *r);

/* Consumer. The oldest message, waiting for one; NULL when the producer ended and all were taken. */
const void *kvt_ring_peek(struct kvt_ring *r, size_t *bytes);
void kvt_ring_release(struct kvt_ring *r);
/* The consumer takes no more: a waiting producer wakes and gets NULL. */
void kvt_ring_give_up(struct kvt_ring *r);

#endif

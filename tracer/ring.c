/* The ring: offsets count bytes ever written and read, so full and empty can't be confused. A message that would cross
 * the end of the buffer starts at its beginning instead, behind a filler. A mutex is enough: there are few messages a
 * millisecond, each thousands of bytes, and both sides copy or write files outside the lock. */
#include "tracer/ring.h"

#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"

#define HEAD 16 /* bytes before a message: its size, and whether it is a filler; keeps the payload aligned */

struct head {
    uint64_t bytes; /* whole, header included, multiple of 16 */
    uint64_t payload; /* of the message; UINT64_MAX: a filler */
};

struct kvt_ring {
    unsigned char *buf;
    size_t cap;          /* multiple of 16 */
    uint64_t head, tail; /* written, read: bytes since open; under lock */
    size_t pending;      /* bytes of the reserved message, the producer's own */
    bool ended, gave_up; /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t more, room;
};

static size_t round16(size_t n) { return (n + 15) & ~(size_t)15; }

int kvt_ring_open(struct kvt_ring **out, size_t capacity, struct kvt_err *err)
{
    *out = NULL;
    struct kvt_ring *r = calloc(1, sizeof *r);
    if (!r)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the trace ring");
    r->cap = round16(capacity < 4096 ? 4096 : capacity);
    r->buf = kvt_calloc(r->cap, 1);
    if (!r->buf) {
        free(r);
        return kvt_fail(err, KVT_ENOMEM, "no memory for the trace ring of %zu bytes", capacity);
    }
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->more, NULL);
    pthread_cond_init(&r->room, NULL);
    *out = r;
    return KVT_OK;
}

void kvt_ring_close(struct kvt_ring **r)
{
    if (!*r)
        return;
    pthread_cond_destroy(&(*r)->room);
    pthread_cond_destroy(&(*r)->more);
    pthread_mutex_destroy(&(*r)->lock);
    free((*r)->buf);
    free(*r);
    *r = NULL;
}

/* Half: wherever the ring's end falls, a message and the filler before it fit when all else was read. */
size_t kvt_ring_max(const struct kvt_ring *r) { return r->cap / 2 - 2 * HEAD; }

void *kvt_ring_reserve(struct kvt_ring *r, size_t bytes, bool wait)
{
    assert(bytes <= kvt_ring_max(r) && !r->pending);
    size_t need = HEAD + round16(bytes);
    pthread_mutex_lock(&r->lock);
    size_t at = (size_t)(r->head % r->cap), to_end = r->cap - at, filler = need > to_end ? to_end : 0;
    while (!r->gave_up && r->cap - (size_t)(r->head - r->tail) < filler + need) {
        if (!wait) {
            pthread_mutex_unlock(&r->lock);
            return NULL;
        }
        pthread_cond_wait(&r->room, &r->lock);
    }
    bool gone = r->gave_up;
    if (!gone && filler) {
        *(struct head *)(void *)(r->buf + at) = (struct head){filler, UINT64_MAX};
        r->head += filler;
        at = 0;
    }
    pthread_mutex_unlock(&r->lock);
    if (gone)
        return NULL;
    *(struct head *)(void *)(r->buf + at) = (struct head){need, bytes};
    r->pending = need;
    return r->buf + at + HEAD;
}

void kvt_ring_commit(struct kvt_ring *r)
{
    assert(r->pending);
    pthread_mutex_lock(&r->lock);
    r->head += r->pending;
    r->pending = 0;
    pthread_cond_signal(&r->more);
    pthread_mutex_unlock(&r->lock);
}

void kvt_ring_end(struct kvt_ring *r)
{
    pthread_mutex_lock(&r->lock);
    r->ended = true;
    pthread_cond_signal(&r->more);
    pthread_mutex_unlock(&r->lock);
}

const void *kvt_ring_peek(struct kvt_ring *r, size_t *bytes)
{
    const unsigned char *msg = NULL;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (r->head == r->tail && !r->ended)
            pthread_cond_wait(&r->more, &r->lock);
        if (r->head == r->tail)
            break;
        const unsigned char *p = r->buf + (size_t)(r->tail % r->cap);
        const struct head *h = (const void *)p;
        if (h->payload == UINT64_MAX) {
            r->tail += h->bytes;
            pthread_cond_signal(&r->room);
            continue;
        }
        *bytes = (size_t)h->payload;
        msg = p + HEAD;
        break;
    }
    pthread_mutex_unlock(&r->lock);
    return msg;
}

void kvt_ring_release(struct kvt_ring *r)
{
    pthread_mutex_lock(&r->lock);
    assert(r->tail < r->head);
    r->tail += ((const struct head *)(const void *)(r->buf + (size_t)(r->tail % r->cap)))->bytes;
    pthread_cond_signal(&r->room);
    pthread_mutex_unlock(&r->lock);
}

void kvt_ring_give_up(struct kvt_ring *r)
{
    pthread_mutex_lock(&r->lock);
    r->gave_up = true;
    pthread_cond_signal(&r->room);
    pthread_mutex_unlock(&r->lock);
}

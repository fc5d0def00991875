/* The ring and the writer behind it with both threads at work: a plain program, so that it also runs under
 * ThreadSanitizer. Catches: a lost or torn message, a message out of order, a full ring that never wakes, a drop where it
 * must wait, a consumer that stopped and leaves the producer waiting, a race on any of it. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvt/trace.h"
#include "mktrace.h"
#include "tracer/ring.h"

#define CHECK(x)                                                              \
    do {                                                                      \
        if (!(x)) {                                                           \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x);   \
            return 1;                                                         \
        }                                                                     \
    } while (0)

enum { MESSAGES = 20000 };

static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    return x * 0x846ca68bu;
}

/* Sizes from 4 bytes to half of the ring, so that the end of the buffer falls everywhere. */
static size_t size_of(uint32_t i, size_t most)
{
    size_t n = 4 + mix(i) % (i % 17 ? 200 : (uint32_t)(most - 4));
    return n < most ? n : most;
}

struct reader { struct kvt_ring *ring; uint32_t seen, stop_after; int bad; };

static void *consume(void *arg)
{
    struct reader *c = arg;
    size_t bytes;
    const unsigned char *p;
    while ((p = kvt_ring_peek(c->ring, &bytes))) {
        uint32_t i;
        memcpy(&i, p, sizeof i);
        c->bad += (uintptr_t)p % 16 != 0 || bytes != size_of(i, kvt_ring_max(c->ring));
        for (size_t k = sizeof i; k < bytes; k++)
            c->bad += p[k] != (unsigned char)(i + k);
        c->bad += c->stop_after == UINT32_MAX && i != c->seen;
        c->seen++;
        if (c->seen == c->stop_after) {
            kvt_ring_give_up(c->ring);
            return NULL;
        }
        kvt_ring_release(c->ring);
    }
    return NULL;
}

static int produce(struct kvt_ring *r, bool wait, uint32_t *sent)
{
    *sent = 0;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        size_t n = size_of(i, kvt_ring_max(r));
        unsigned char *p = kvt_ring_reserve(r, n, wait);
        if (!p)
            continue;
        memcpy(p, &i, sizeof i);
        for (size_t k = sizeof i; k < n; k++)
            p[k] = (unsigned char)(i + k);
        kvt_ring_commit(r);
        ++*sent;
    }
    kvt_ring_end(r);
    return 0;
}

static int run(bool wait, uint32_t stop_after, struct reader *c, uint32_t *sent)
{
    struct kvt_ring *r;
    pthread_t thread;
    CHECK(!kvt_ring_open(&r, 8192, NULL));
    *c = (struct reader){r, 0, stop_after, 0};
    CHECK(!pthread_create(&thread, NULL, consume, c));
    produce(r, wait, sent);
    pthread_join(thread, NULL);
    kvt_ring_close(&r);
    return 0;
}

/* A ring that nobody reads takes what fits, then refuses at once. */
static int full_ring(void)
{
    struct kvt_ring *r;
    CHECK(!kvt_ring_open(&r, 4096, NULL));
    int n = 0;
    while (kvt_ring_reserve(r, 1000, false)) {
        kvt_ring_commit(r);
        n++;
    }
    CHECK(n == 4); /* 4 x (1000 + 16, rounded up to 1024) */
    size_t bytes;
    CHECK(kvt_ring_peek(r, &bytes) && bytes == 1000);
    kvt_ring_release(r);
    CHECK(kvt_ring_reserve(r, 1000, false));
    kvt_ring_commit(r);
    CHECK(!kvt_ring_reserve(r, 1000, false));
    kvt_ring_end(r);
    for (n = 0; kvt_ring_peek(r, &bytes); n++)
        kvt_ring_release(r);
    CHECK(n == 4);
    kvt_ring_close(&r);
    return 0;
}

/* A whole trace through both threads, under both policies. */
static int whole_trace(bool drop)
{
    char path[] = "/tmp/kvt_plain_ring_XXXXXX", file[64];
    CHECK(mkdtemp(path));
    snprintf(file, sizeof file, "%s/t.h5", path);
    struct mktrace_opts o = {.path = file, .drop = drop, .n_shots = 12, .n_new = 6};
    struct kvt_err err = {0};
    struct kvt_trace *t;
    CHECK(!mktrace(&o, &err));
    CHECK(!kvt_trace_open(&t, file, NULL, &err));
    CHECK(!strcmp(kvt_trace_info(t)->status, "complete") && kvt_trace_info(t)->n_steps == 6);
    kvt_trace_close(&t);
    CHECK(!unlink(file) && !rmdir(path));
    return 0;
}

int main(void)
{
    struct reader c;
    uint32_t sent;
    if (full_ring() || run(true, UINT32_MAX, &c, &sent))
        return 1;
    CHECK(sent == MESSAGES && c.seen == MESSAGES && !c.bad);
    if (run(false, 0, &c, &sent)) /* dropping: what arrives is whole, and as much as was sent */
        return 1;
    CHECK(c.seen == sent && !c.bad && sent > 0);
    if (run(true, 100, &c, &sent)) /* the consumer gives up: the producer doesn't hang */
        return 1;
    CHECK(c.seen == 100 && sent >= 100 && sent < MESSAGES);
    if (whole_trace(false) || whole_trace(true))
        return 1;
    puts("ok");
    return 0;
}

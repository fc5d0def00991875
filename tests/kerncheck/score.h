/* What score.c and score_query.c share: a branch that holds some of another's slots, and the judgement of an op over it. */
#ifndef KERNCHECK_SCORE_H
#define KERNCHECK_SCORE_H

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kerncheck/kerncheck.h"

/* score_query.c */
void kc_check_query(struct kc *k);

static inline float *floats(struct kc *k, size_t n) { return kc_host(k, n * sizeof(float)); }
static inline double *doubles(struct kc *k, size_t n) { return kc_host(k, n * sizeof(double)); }

struct shape {
    int H, G, D;
    enum kvt_dtype type;
};
static const struct shape shapes[] = {
    {9, 3, 64, KVT_F16}, {4, 4, 80, KVT_F32}, {6, 1, 96, KVT_BF16}, {10, 2, 128, KVT_F16}, {3, 1, 72, KVT_F16}, {16, 2, 40, KVT_BF16},
};
static const int lengths[] = {1, 2, 15, 16, 17, 33, 64, 100, 131, 300};
enum { N_SHAPE = sizeof shapes / sizeof shapes[0], N_LENGTH = sizeof lengths / sizeof lengths[0], LAYER = 1, BRANCH = 1 };

/* A case: branch 1 of a cache holds some of branch 0's n slots, each head its own. */
struct held {
    struct shape s;
    int n;
    const float *k, *v;      /* (n, G, D) as appended */
    const int32_t *slot, *count; /* (G, n), (G) of branch 1 */
    double *key, *value;     /* (G, n, D) what branch 1 holds, decoded */
};

static inline struct held hold(struct kc *k, int turn, enum kc_fill_kind fill)
{
    struct held x = {.s = shapes[turn % N_SHAPE], .n = lengths[turn % N_LENGTH]};
    size_t nk = (size_t)(x.n * x.s.G * x.s.D);
    float *key = floats(k, nk), *value = floats(k, nk);
    kc_fill(k, key, nk, fill);
    kc_fill(k, value, nk, KC_NORMAL);
    int32_t *slot = kc_host(k, (size_t)(x.s.G * x.n) * sizeof *slot), *count = kc_host(k, (size_t)x.s.G * sizeof *count);
    for (int g = 0; g < x.s.G; g++)
        for (int j = 0; j < x.n; j++)
            if ((turn + g) % 4 == 0 || j == x.n - 1 || kc_int(k, 0, 9) < 7)
                slot[g * x.n + count[g]++] = j;
    x.k = key, x.v = value, x.slot = slot, x.count = count;
    x.key = doubles(k, nk), x.value = doubles(k, nk);
    return x;
}

static inline struct kvt_cache *grow(struct kc *k, struct kc_cand *c, struct held *x)
{
    struct kvt_cache_opts o = {.L = 2, .G = x->s.G, .D = x->s.D, .max_branch = 2, .max_slots = x->n, .type = x->s.type};
    struct kvt_cache *cache = NULL;
    kc_rc(k, c, "score", c->ops->cache_open(c->dev, &cache, &o, NULL), "cache_open");
    int32_t *zero = kc_host(k, (size_t)x->n * sizeof *zero), *pos = kc_host(k, (size_t)x->n * sizeof *pos);
    for (int i = 0; i < x->n; i++)
        pos[i] = i + i / 9; /* gaps: a position is not a slot */
    size_t rows = (size_t)(x->n * x->s.G * x->s.D) * sizeof(float);
    float *rows_k = kc_put(k, c, x->k, rows), *rows_v = kc_put(k, c, x->v, rows);
    for (int l = 0; l < 2; l++)
        kc_rc(k, c, "score", c->ops->cache_append(c->dev, &(struct kvt_append_args){cache, l, x->n, rows_k, rows_v, zero, pos}), "append");
    kc_rc(k, c, "score", c->ops->cache_fork(c->dev, cache, 0, BRANCH), "fork");
    size_t slots = (size_t)(x->s.G * x->n) * sizeof(int32_t), counts = (size_t)x->s.G * sizeof(int32_t);
    struct kvt_keep_args keep = {cache, BRANCH, LAYER, kc_put(k, c, x->slot, slots), kc_put(k, c, x->count, counts), x->n};
    kc_rc(k, c, "score", c->ops->cache_keep(c->dev, &keep), "keep");
    float *kv = floats(k, 2 * (size_t)(x->n * x->s.D));
    for (int g = 0; g < x->s.G; g++) {
        c->ops->cache_peek(c->dev, cache, BRANCH, LAYER, g, kv, kv + x->n * x->s.D);
        for (int i = 0; i < x->count[g] * x->s.D; i++) {
            x->key[g * x->n * x->s.D + i] = kv[i];
            x->value[g * x->n * x->s.D + i] = kv[x->n * x->s.D + i];
        }
    }
    return cache;
}

/* Slots that an op with this limit shows of a cell. */
static inline int shown(const struct held *x, int g, int limit) { return x->count[g] < limit ? x->count[g] : limit; }

/* An op with one output (G, n): run on ref and all candidates, and judged wherever it is written. */
struct one {
    const char *op, *what;
    int limit;
    int (*call)(struct kc *k, struct kc_cand *c, const struct held *x, const struct kvt_slots *at, float *out, const void *arg);
    const void *arg;
    /* allow[j], absolute, for slot j of head g: x holds what was read back */
    double (*allow)(struct kc *k, const struct held *x, int g, int j, double want, const void *arg);
    void (*also)(struct kc *k, struct kc_cand *c, const struct held *x, const void *arg, const float *got); /* or NULL */
};

static inline void judge(struct kc *k, struct held *x, const struct one *o)
{
    size_t count = (size_t)(x->s.G * x->n), bytes = count * sizeof(float);
    float *want = floats(k, count), *allow = floats(k, count), *mark = floats(k, count), *got[2] = {floats(k, count), floats(k, count)};
    for (size_t i = 0; i < count; i++)
        mark[i] = -7; /* what isn't asked isn't written */
    for (int i = -1; i < k->n_cand; i++) {
        struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
        struct kvt_cache *cache = grow(k, c, x);
        struct kvt_slots at = {cache, BRANCH, LAYER, o->limit};
        float *dev = kc_put_shifted(k, c, mark, bytes, 4), *out = i < 0 ? want : got[i % 2];
        kc_rc(k, c, o->op, o->call(k, c, x, &at, dev, o->arg), "%s D=%d n=%d", o->what, x->s.D, x->n);
        kc_get(k, c, out, dev, bytes);
        c->ops->cache_close(c->dev, &cache);
        if (i < 0) {
            for (int j = 0; j < x->s.G * x->n; j++)
                if (j % x->n < shown(x, j / x->n, o->limit))
                    allow[j] = (float)(o->allow(k, x, j / x->n, j % x->n, (double)want[j], o->arg) + 1e-37);
        } else {
            kc_judge(k, c, o->op, want, out, allow, count, "%s H=%d G=%d D=%d %s n=%d limit %d", o->what, x->s.H, x->s.G, x->s.D,
                     kvt_dtypes[x->s.type].name, x->n, o->limit);
            if (c->threads > 1)
                kc_same(k, c, o->op, got[0], got[1], bytes, "1 and more threads, %s n=%d", o->what, x->n);
            if (o->also)
                o->also(k, c, x, o->arg, out);
        }
        kc_end_cand(k, c, o->op);
    }
    kc_end_case(k, o->op);
}

static inline int limit_of(int turn, int n) { return turn % 3 ? INT_MAX : n * 3 / 4 + 1; }
static inline const double *key_of(const struct held *x, int g, int j) { return x->key + (size_t)(g * x->n + j) * (size_t)x->s.D; }
static inline const double *value_of(const struct held *x, int g, int j) { return x->value + (size_t)(g * x->n + j) * (size_t)x->s.D; }

#endif

/* A cache, raw scores and a recording probe: what a test of the evictor needs, without a model. */
#ifndef KVT_TESTS_EVICT_RIG_H
#define KVT_TESTS_EVICT_RIG_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/evict.h"

enum { RIG_D = 4, RIG_EVENTS = 65536 };

struct rig_lost {
    int branch, layer, g, step, pos;
};

struct rig {
    const struct kvt_ops *ops;
    struct kvt_dev *dev;
    struct kvt_cache *cache;
    struct kvt_evict_env env;
    struct kvt_prefill_scores raw;
    struct kvt_probe probe;
    float *score;              /* (1 + windows + 1, L, H, n_prompt) backend: mass, windows, last */
    float *row;                /* (H, max_slots) backend */
    int32_t *pos;              /* (G, max_slots) backend */
    float *kv;                 /* (max_slots, G, D) backend */
    float *norms;              /* (L, G, n_prompt) backend: of the context's values through a made-up output projection */
    /* what the probe saw, of the last prefill */
    int decision_R, n_decisions;
    float *decided;            /* (L, G, n_context) */
    float *threshold;          /* (L, G) */
    uint8_t *reason;           /* (L, G, n_context) */
    double effective;
    bool fallback;
    char note[160];
    int32_t *budget_tok, *kept_tok; /* (L, G) */
    const int32_t *match;      /* (L, G) what a budget of KVT_BUDGET_MATCH follows */
    struct rig_lost *lost;     /* (RIG_EVENTS) */
    int n_lost;
};

static inline uint64_t rig_next(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static inline int rig_below(uint64_t *x, int n) { return (int)(rig_next(x) >> 33) % n; }

static inline void rig_wants(void *self, struct kvt_wants *w)
{
    (void)self;
    w->decisions = true;
}

static inline int rig_see(void *self, const struct kvt_event *ev)
{
    struct rig *r = self;
    size_t G = (size_t)r->env.G, n = (size_t)r->env.n_context, cells = (size_t)r->env.L * G;
    if (ev->kind == KVT_EV_DECISION) {
        const struct kvt_ev_decision *d = &ev->decision;
        size_t at = (size_t)d->layer * G;
        r->decision_R = d->R;
        r->n_decisions++;
        memcpy(r->decided + at * n, d->score, (size_t)d->R * n * sizeof(float));
        memcpy(r->threshold + at, d->threshold, (size_t)d->R * sizeof(float));
        memcpy(r->reason + at * n, d->reason, G * n);
    } else if (ev->kind == KVT_EV_BUDGET) {
        r->effective = ev->budget.effective_keep;
        r->fallback = ev->budget.fallback;
        snprintf(r->note, sizeof r->note, "%s", ev->budget.note);
        memcpy(r->budget_tok, ev->budget.budget_tok, cells * sizeof(int32_t));
        memcpy(r->kept_tok, ev->budget.kept_tok, cells * sizeof(int32_t));
    } else if (ev->kind == KVT_EV_EVICT) {
        for (int i = 0; i < ev->evict.n && r->n_lost < RIG_EVENTS; i++)
            r->lost[r->n_lost++] =
                (struct rig_lost){ev->evict.branch, ev->evict.layer, ev->evict.g, ev->evict.step, ev->evict.pos[i]};
    }
    return 0;
}

/* The first and last dimension of keys and values name their place, so that a slot can be recognised wherever it moves. */
static inline float rig_key(int layer, int g, int pos) { return (float)(pos + 1000 * g + 10000 * layer); }

/* Those between point anywhere, for scores that are made from keys and values. */
static inline float rig_between(int layer, int g, int pos, size_t d)
{
    uint64_t x = ((uint64_t)pos * 31 + (uint64_t)g) * 37 + (uint64_t)layer * 41 + (uint64_t)d * 1000003 + 1;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (float)((x ^ (x >> 31)) >> 40) * 0x1p-8f - 32768;
}

static inline void rig_append(struct rig *r, int branch, int layer, int from, int to)
{
    size_t G = (size_t)r->env.G, T = (size_t)(to - from);
    float *host = calloc(T * G * RIG_D, sizeof *host);
    int32_t *at = calloc(2 * T, sizeof *at);
    for (size_t t = 0; t < T; t++) {
        at[t] = branch;
        at[T + t] = from + (int)t;
        for (size_t g = 0; g < G; g++)
            for (size_t d = 0; d < RIG_D; d++)
                host[(t * G + g) * RIG_D + d] = d % (RIG_D - 1) ? rig_between(layer, (int)g, from + (int)t, d) : rig_key(layer, (int)g, from + (int)t);
    }
    cr_assert_eq(r->ops->write(r->dev, r->kv, host, T * G * RIG_D * sizeof *host), 0);
    struct kvt_append_args a = {
        .cache = r->cache, .layer = layer, .T = (int)T, .k = r->kv, .v = r->kv, .branch = at, .pos = at + T};
    cr_assert_eq(r->ops->cache_append(r->dev, &a), 0);
    free(host);
    free(at);
}

/* Raw scores are zero; branch 0 of max_branch holds the context. windows: n_windows of them. */
static inline void rig_open(struct rig *r, const struct kvt_ops *ops, int threads, int L, int H, int G, int n_prompt,
                            int n_context, int n_new, int max_branch, const int *window, int n_windows)
{
    struct kvt_err err = {0};
    memset(r, 0, sizeof *r);
    r->ops = ops;
    cr_assert_eq(ops->open(&r->dev, &(struct kvt_dev_opts){.threads = threads}, &err), 0, "%s", err.text);
    int slots = n_prompt + n_new;
    struct kvt_cache_opts co = {
        .L = L, .G = G, .D = RIG_D, .max_branch = max_branch, .max_slots = slots, .type = KVT_F32};
    cr_assert_eq(ops->cache_open(r->dev, &r->cache, &co, &err), 0, "%s", err.text);
    size_t scores = (size_t)L * (size_t)H * (size_t)n_prompt, cells = (size_t)L * (size_t)G, n = (size_t)n_context;
    r->score = ops->alloc(r->dev, (size_t)(2 + n_windows) * scores * sizeof(float));
    r->row = ops->alloc(r->dev, (size_t)H * (size_t)slots * sizeof(float));
    r->pos = ops->alloc(r->dev, (size_t)G * (size_t)slots * sizeof(int32_t));
    r->kv = ops->alloc(r->dev, (size_t)slots * (size_t)G * RIG_D * sizeof(float));
    r->decided = calloc(cells * n, sizeof(float));
    r->threshold = calloc(cells, sizeof(float));
    r->reason = calloc(cells * n, 1);
    r->budget_tok = calloc(cells, sizeof(int32_t));
    r->kept_tok = calloc(cells, sizeof(int32_t));
    r->lost = calloc(RIG_EVENTS, sizeof *r->lost);
    r->probe = (struct kvt_probe){r, rig_wants, rig_see};
    r->env = (struct kvt_evict_env){.ops = ops,
                                    .dev = r->dev,
                                    .cache = r->cache,
                                    .L = L,
                                    .H = H,
                                    .G = G,
                                    .D = RIG_D,
                                    .max_slots = slots,
                                    .probe = &r->probe,
                                    .n_prompt = n_prompt,
                                    .n_context = n_context};
    r->raw = (struct kvt_prefill_scores){.ld = n_prompt, .mass = r->score, .n_windows = n_windows};
    for (int i = 0; i < n_windows; i++) {
        r->raw.window[i] = window[i];
        r->raw.wmass[i] = r->score + (size_t)(1 + i) * scores;
    }
    r->raw.last = r->score + (size_t)(1 + n_windows) * scores;
    r->raw.given = r->raw.last; /* (L, G, n_prompt): the first part of it */
    size_t wide = (size_t)H * RIG_D;
    float *w = calloc(wide * wide, sizeof *w), *wo = ops->alloc(r->dev, wide * wide * sizeof *w);
    for (size_t i = 0; i < wide * wide; i++)
        w[i] = (float)(i * 7 % 13) - 6;
    cr_assert_eq(ops->write(r->dev, wo, w, wide * wide * sizeof *w), 0);
    r->norms = ops->alloc(r->dev, cells * (size_t)n_prompt * sizeof *r->norms);
    r->raw.out_norms = r->norms;
    for (int l = 0; l < L; l++) {
        rig_append(r, 0, l, 0, n_context);
        cr_assert_eq(kvt_evict_out_norms(&r->env, l, (struct kvt_mat){.data = wo, .type = KVT_F32, .n = (int)wide, .k = (int)wide}, 0,
                                         r->norms + (size_t)(l * G) * (size_t)n_prompt, n_prompt), 0);
    }
    ops->free(r->dev, wo);
    free(w);
}

static inline void rig_close(struct rig *r)
{
    r->ops->cache_close(r->dev, &r->cache);
    r->ops->free(r->dev, r->score);
    r->ops->free(r->dev, r->row);
    r->ops->free(r->dev, r->pos);
    r->ops->free(r->dev, r->kv);
    r->ops->free(r->dev, r->norms);
    r->ops->close(&r->dev);
    free(r->decided);
    free(r->threshold);
    free(r->reason);
    free(r->budget_tok);
    free(r->kept_tok);
    free(r->lost);
}

/* Fills one of the raw arrays: which 0 mass, 1 + i window i, 1 + n_windows last; from (L, H, n_prompt) on the host. */
static inline void rig_scores(struct rig *r, int which, const float *host)
{
    size_t scores = (size_t)r->env.L * (size_t)r->env.H * (size_t)r->env.n_prompt;
    cr_assert_eq(r->ops->write(r->dev, r->score + (size_t)which * scores, host, scores * sizeof *host), 0);
}

/* Random positive scores everywhere, some of them equal (ties must not matter). */
static inline void rig_random_scores(struct rig *r, uint64_t seed)
{
    size_t scores = (size_t)r->env.L * (size_t)r->env.H * (size_t)r->env.n_prompt;
    float *host = calloc(scores, sizeof *host);
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (int which = 0; which < r->raw.n_windows + 2; which++) {
        for (size_t i = 0; i < scores; i++)
            host[i] = (float)(rig_next(&x) >> 52) / 4096.0f;
        rig_scores(r, which, host);
    }
    free(host);
}

/* Positions of a cell in slot order; returns how many. */
static inline int rig_positions(struct rig *r, int branch, int layer, int g, int32_t *out)
{
    int32_t *count = calloc((size_t)r->env.L * (size_t)r->env.G, sizeof *count);
    struct kvt_positions_args a = {
        .cache = r->cache, .branch = branch, .layer = layer, .pos = r->pos, .ld = r->env.max_slots};
    cr_assert_eq(r->ops->cache_positions(r->dev, &a), 0);
    cr_assert_eq(r->ops->cache_lengths(r->dev, r->cache, branch, count), 0);
    int n = count[layer * r->env.G + g];
    cr_assert_eq(r->ops->read(r->dev, out, r->pos + (size_t)g * (size_t)r->env.max_slots, (size_t)n * sizeof *out), 0);
    free(count);
    return n;
}

static inline int rig_ascending(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static inline void rig_spec(struct kvt_spec *spec, const char *text)
{
    struct kvt_err err = {0};
    cr_assert_eq(kvt_spec_parse(spec, text, strlen(text), &err), 0, "%s", err.text);
}

static inline struct kvt_budget rig_tokens(int tokens)
{
    return (struct kvt_budget){.kind = KVT_BUDGET_TOKENS, .tokens = tokens};
}
static inline struct kvt_budget rig_keep(int64_t ppm)
{
    return (struct kvt_budget){.kind = KVT_BUDGET_KEEP, .keep_ppm = ppm};
}

/* Forks branch 0 into `branch`, opens an evictor there and runs prefill's end. */
static inline struct kvt_evictor *rig_evict(struct rig *r, int branch, const char *method, struct kvt_budget budget)
{
    struct kvt_err err = {0};
    struct kvt_spec spec;
    struct kvt_evictor *e = NULL;
    rig_spec(&spec, method);
    cr_assert_eq(kvt_evict_check(&spec, &budget, r->env.n_prompt, r->env.n_context, r->env.n_shots, &err), 0, "%s",
                 err.text);
    cr_assert_eq(r->ops->cache_fork(r->dev, r->cache, 0, branch), 0);
    cr_assert_eq(kvt_evictor_open(&e, &r->env, branch, &spec, &budget, &err), 0, "%s", err.text);
    float gate[64]; /* of classes: some equal */
    cr_assert_leq(r->env.L * r->env.G, 64);
    for (int i = 0; i < 64; i++)
        gate[i] = (float)(i * 7 % 5) / 5;
    if (spec.policy.alloc == KVT_ALLOC_CLASS)
        cr_assert_eq(kvt_evictor_classes(e, gate, &err), 0, "%s", err.text);
    if (budget.kind == KVT_BUDGET_MATCH)
        kvt_evictor_match(e, r->match);
    r->n_decisions = 0;
    cr_assert_eq(kvt_evict_prefill(e, &r->raw, &err), 0, "%s", err.text);
    return e;
}

/* Appends position pos to a layer of a branch and lets the evictor act; row (H, live slots) on the host or NULL. */
static inline void rig_step(struct rig *r, struct kvt_evictor *e, int branch, int layer, int pos, int step,
                            const float *row, int n)
{
    struct kvt_err err = {0};
    rig_append(r, branch, layer, pos, pos + 1);
    for (int h = 0; row && h < r->env.H; h++)
        cr_assert_eq(
            r->ops->write(r->dev, r->row + (size_t)h * (size_t)r->env.max_slots, row + h * n, (size_t)n * sizeof *row),
            0);
    if (kvt_evictor_steps(e))
        cr_assert_eq(kvt_evict_step(e, layer, row ? r->row : NULL, r->env.max_slots, pos, step, &err), 0, "%s",
                     err.text);
}

/* Asserts that a cell holds exactly these positions, in any slot order, each slot with its own key and value. */
static inline void rig_expect(struct rig *r, int branch, int layer, int g, const int32_t *want, int n_want,
                              const char *when)
{
    int32_t *got = calloc((size_t)r->env.max_slots, sizeof *got);
    float *k = calloc((size_t)r->env.max_slots * RIG_D * 2, sizeof *k), *v = k + r->env.max_slots * RIG_D;
    int n = rig_positions(r, branch, layer, g, got);
    cr_assert_eq(r->ops->cache_peek(r->dev, r->cache, branch, layer, g, k, v), 0);
    for (int i = 0; i < n; i++) {
        cr_assert_eq(k[i * RIG_D], rig_key(layer, g, got[i]), "%s: slot %d of layer %d head %d has another's key", when,
                     i, layer, g);
        cr_assert_eq(v[i * RIG_D + RIG_D - 1], rig_key(layer, g, got[i]), "%s: slot %d has another's value", when, i);
    }
    qsort(got, (size_t)n, sizeof *got, rig_ascending);
    char text[512] = "";
    for (int i = 0; i < n && strlen(text) < 490; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), " %d", got[i]);
    cr_assert(n == n_want && !memcmp(got, want, (size_t)n * sizeof *got), "%s: layer %d head %d holds%s", when, layer,
              g, text);
    free(got);
    free(k);
}

#define RIG_EXPECT(r, branch, layer, g, when, ...) \
    rig_expect(r, branch, layer, g, (const int32_t[]){__VA_ARGS__}, \
               (int)(sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)), when)

#endif

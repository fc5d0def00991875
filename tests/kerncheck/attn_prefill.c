/* attn: a prefill and all that can be seen of it, against the definition; allowances as attn.c derives them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "tests/kerncheck/attn.h"

enum { SEE_MASS, SEE_W0, SEE_W1, SEE_LAST, SEE_ENTROPY, SEE_KEYS, SEE_SINK, SEE_LOCAL, SEE_WS0, SEE_WS1, SEE_D0, SEE_D1, SEE_POS, SEE_TOP, SEE_LATER,
       SEE_MEAN, SEE_MAX, SEE_DISTANCE, SEE_OFFSET, SEE_SPANS, SEE_BEST, SEE_BEST_AT, SEE_ROWS, SEE_OUT, N_SEE };
/* Where there are weights the pooled map is finished: then `pool mean` and `pool max` are what came in f16. */
static const char *const see_name[] = {"mass", "window 32", "window 5", "last", "entropy", "keys", "sink", "local", "squares of window 32",
                                       "squares of window 7", "squares", "squares at a distance", "window 23 times positions", "maximum", "later", "pool mean", "pool max",
                                       "distance", "offsets", "spans", "top", "columns of top", "rows", "out"};
enum { N_OFFSETS = 5 };

struct prefill {
    struct kc_attn_shape s;
    int T, cut, R, C;        /* rows [0, cut) and [cut, T) in two calls; cut 0: one call */
    int window;
    int distance, max_from, n_units, n_segments, n_local, far_from, top_k;
    const int32_t *unit, *segment;
    int32_t offset[N_OFFSETS];
    const float *weight;     /* (R, C) of finished maps */
    uint16_t *map;           /* (2, H, R, C) the candidate's, where there are weights */
    bool alone;              /* mass and the first window are asked for, nothing else */
    struct kc_attn_numbers x;
    size_t count[N_SEE];
};

static void ask(const struct prefill *p, float *const *dev, float *rows, uint16_t *half, struct kvt_see *see)
{
    int T = p->T;
    *see = (struct kvt_see){.ld = T, .n_rows = T, .mass = dev[SEE_MASS], .n_windows = p->alone ? 1 : 2, .window = {32, 5},
                            .wmass = {dev[SEE_W0], dev[SEE_W1]}};
    if (p->alone)
        return;
    struct kvt_see all = *see;
    all.n_squares = 5;
    struct kvt_square square[] = {{32, 0, false}, {7, p->distance / 2, false}, {0, 0, false}, {0, p->distance, false}, {23, 0, true}};
    for (int i = 0; i < 5; i++) {
        all.square[i] = square[i];
        all.sqmass[i] = dev[SEE_WS0 + i];
    }
    all.max = dev[SEE_TOP], all.max_from = p->max_from, all.later = dev[SEE_LATER], all.unit = p->unit, all.n_units = p->n_units;
    all.last = dev[SEE_LAST], all.entropy = dev[SEE_ENTROPY], all.keys = dev[SEE_KEYS], all.sink = dev[SEE_SINK], all.n_sink = 4;
    all.local = dev[SEE_LOCAL], all.n_local = p->n_local, all.distance = dev[SEE_DISTANCE], all.far_from = p->far_from;
    all.offset = dev[SEE_OFFSET], all.offset_at = p->offset, all.n_offsets = N_OFFSETS;
    all.spans = dev[SEE_SPANS], all.segment = p->segment, all.n_segments = p->n_segments;
    all.top_k = p->top_k, all.top = dev[SEE_BEST], all.top_at = (int32_t *)(void *)dev[SEE_BEST_AT];
    all.R = p->R, all.C = p->C, all.pool_mean = dev[SEE_MEAN], all.pool_max = dev[SEE_MAX];
    all.weight = p->weight, all.map_mean = p->map, all.map_max = p->map ? p->map + p->count[SEE_MEAN] : NULL;
    all.row_heads = 1 | UINT64_C(1) << (p->s.H - 1), all.rows = rows, all.half = half;
    *see = all;
}

/* got[SEE_BEST_AT] holds columns as numbers. */
static void prefill_run(struct kc *k, struct kc_cand *c, const struct prefill *given, bool exact, float *const *got)
{
    struct prefill own = *given;
    const struct prefill *p = &own;
    size_t maps = 2 * p->count[SEE_MEAN] * sizeof *p->map;
    if (p->weight) {
        own.weight = kc_put(k, c, p->weight, (size_t)(p->R * p->C) * sizeof(float));
        own.map = kc_put(k, c, NULL, maps);
    }
    int T = p->T, H = p->s.H, G = p->s.G, D = p->s.D;
    struct kvt_cache_opts o = {.L = 1, .G = G, .D = D, .max_branch = 1, .max_slots = T, .type = p->s.type};
    struct kvt_cache *cache = NULL;
    kc_rc(k, c, "attn", c->ops->cache_open(c->dev, &cache, &o, NULL), "cache_open");
    int32_t *branch = kc_host(k, (size_t)T * sizeof *branch), *pos = kc_host(k, (size_t)T * sizeof *pos);
    for (int t = 0; t < T; t++)
        pos[t] = t;
    float *dev[SEE_ROWS];
    size_t most = 0;
    for (int i = 0; i < SEE_ROWS; i++)
        most = p->count[i] > most ? p->count[i] : most;
    const float *zero = kc_floats(k, most);
    for (int i = 0; i < SEE_ROWS; i++)
        dev[i] = kc_put(k, c, zero, p->count[i] * sizeof(float));
    for (int t0 = 0, t1; t0 < T; t0 = t1) {
        t1 = t0 < p->cut ? p->cut : T;
        int rows = t1 - t0;
        size_t in = (size_t)(rows * G * D) * sizeof(float);
        struct kvt_append_args ap = {cache, 0, rows, kc_put(k, c, p->x.k + t0 * G * D, in), kc_put(k, c, p->x.v + t0 * G * D, in), branch, pos + t0};
        kc_rc(k, c, "attn", c->ops->cache_append(c->dev, &ap), "append");
        size_t values = (size_t)(2 * rows * T), bytes = values * sizeof(float);
        float *run_rows = kc_put(k, c, NULL, bytes), *host = kc_host(k, bytes);
        uint16_t *run_half = kc_put(k, c, NULL, bytes / 2), *host_half = kc_host(k, bytes / 2);
        struct kvt_see see;
        ask(p, dev, run_rows, run_half, &see);
        struct kvt_attn_args a = {.cache = cache, .T = rows, .H = H, .q = kc_put(k, c, p->x.q + t0 * H * D, (size_t)(rows * H * D) * sizeof(float)),
                                  .out = kc_put(k, c, NULL, (size_t)(rows * H * D) * sizeof(float)), .branch = branch, .pos = pos + t0,
                                  .scale = 1 / sqrtf((float)D), .cap = p->x.cap, .window = p->window, .exact = exact, .see = &see};
        kc_rc(k, c, "attn", c->ops->attn(c->dev, &a), "prefill");
        kc_get(k, c, got[SEE_OUT] + t0 * H * D, a.out, (size_t)(rows * H * D) * sizeof(float));
        if (p->alone)
            continue;
        kc_get(k, c, host, run_rows, bytes);
        kc_get(k, c, host_half, run_half, bytes / 2);
        int wrong = 0;
        for (size_t i = 0; i < values; i++)
            wrong += host_half[i] != kvt_f16_from_f32(host[i] * KVT_HALF_SCALE);
        kc_that(k, c, "attn", !wrong, "%d of %zu f16 values aren't their rows' T=%d", wrong, values, T);
        for (int i = 0; i < 2; i++)
            memcpy(got[SEE_ROWS] + (size_t)((i * T + t0) * T), host + (size_t)(i * rows * T), (size_t)(rows * T) * sizeof(float));
    }
    for (int i = 0; i < SEE_ROWS; i++)
        kc_get(k, c, got[i], dev[i], p->count[i] * sizeof(float));
    if (p->weight && !p->alone) {
        uint16_t *map = kc_host(k, maps);
        kc_get(k, c, map, p->map, maps);
        for (size_t i = 0; i < 2 * p->count[SEE_MEAN]; i++) {
            size_t at = i % p->count[SEE_MEAN];
            float *to = got[i == at ? SEE_MEAN : SEE_MAX] + at;
            if (*to != 0)
                kc_that(k, c, "attn", false, "pool sum %zu is %g, not zero again T=%d", i, (double)*to, T);
            *to = kvt_f32_from_f16(map[i]) / KVT_HALF_SCALE;
        }
    }
    for (size_t i = 0; i < p->count[SEE_BEST_AT]; i++) {
        int32_t at;
        memcpy(&at, got[SEE_BEST_AT] + i, sizeof at);
        got[SEE_BEST_AT][i] = (float)at;
    }
    c->ops->cache_close(c->dev, &cache);
}

/* The columns of the largest: each once, and what the definition's row has there is what was said to be there. */
static void top_holds(struct kc *k, struct kc_cand *c, const struct prefill *p, float *const *got, const float *want_rows, double r)
{
    for (int i = 0; i < 2; i++)
        for (int t = 0; t < p->T; t++) {
            size_t at = ((size_t)(i ? p->s.H - 1 : 0) * (size_t)p->T + (size_t)t) * (size_t)p->top_k;
            const float *top = got[SEE_BEST] + at, *column = got[SEE_BEST_AT] + at, *row = want_rows + (size_t)(i * p->T + t) * (size_t)p->T;
            for (int n = 0; n < p->top_k; n++) {
                int j = (int)column[n];
                bool once = true;
                for (int m = 0; m < n; m++)
                    once = once && (j < 0 || column[m] != column[n]) && top[m] >= top[n] && (top[m] > top[n] || j < 0 || column[m] < column[n]);
                kc_that(k, c, "attn", once && (j < 0) == (top[n] == 0) && j <= t && (j < 0 || fabs(top[n] - row[j]) <= 2 * r * row[j] + KC_TINY),
                        "row %d: %g at column %d is no %dth of the largest", t, (double)top[n], j, n + 1);
            }
        }
}

static double allowance(const struct prefill *p, int i, double want, double r)
{
    int T = p->T;
    double entropy = 2 * r * (1 + log(T + 1.0)) + 2 * r, half = p->weight ? 0x1p-10 : 0, quantum = p->weight ? 0x1p-24 / (double)KVT_HALF_SCALE : 0;
    switch (i) {
    case SEE_WS0: case SEE_WS1: case SEE_D0: case SEE_D1: return want * (2 * r + (2 * T + 4) * KC_EPS) + KC_TINY; /* a square is off by twice as much */
    case SEE_POS:     return want * (r + (2 * T + 2) * KC_EPS) + KC_TINY;
    case SEE_ENTROPY: return entropy;
    case SEE_KEYS:    return want * (expm1(entropy) + 4 * KC_EPS);
    case SEE_MEAN:    return want * (r + 2.0 * T * T * KC_EPS + half) + quantum + KC_TINY; /* two roundings to f16 */
    case SEE_MAX:     return want * (r + 2 * T * KC_EPS + half) + quantum + KC_TINY;
    case SEE_DISTANCE: case SEE_OFFSET: case SEE_SPANS: return want * (r + 2.0 * T * T * KC_EPS) + KC_TINY; /* T x T pairs and less */
    case SEE_OUT:     return p->x.v_max * (r + (T + 8) * KC_EPS) + KC_TINY;
    default:          return want * (r + 2 * T * KC_EPS) + KC_TINY; /* sums of up to T rows, by the reference too, in floats: T u and less */
    }
}

static void script(struct kc *k, struct prefill *p, int turn)
{
    int T = p->T;
    p->cut = turn % 4 == 3 ? T / 3 : 0;
    p->distance = turn % 5 == 4 ? T + 3 : 1 + turn % 11, p->max_from = turn % 3 ? T * 3 / 5 : 0;
    p->n_local = 1 + turn * 7 % 40, p->far_from = turn % 4 ? T / 5 : 31, p->top_k = 1 + turn % 9;
    int32_t offset[N_OFFSETS] = {0, 3, 9, T / 2, T + 5};
    memcpy(p->offset, offset, sizeof offset);
    int32_t *unit = kc_host(k, 2 * (size_t)(T + 1) * sizeof *unit), *segment = kc_host(k, (size_t)(T + 2) * sizeof *segment);
    for (int at = turn % 3; at < T; p->n_units++) { /* single slots and long runs, with gaps and without; the last may end with the rows */
        unit[2 * p->n_units] = at;
        at += kc_int(k, 1, turn % 2 ? 5 : 60);
        unit[2 * p->n_units + 1] = at < T ? at : T;
        at += kc_int(k, 0, 3);
    }
    while (segment[p->n_segments] < T) { /* the last may end behind the rows */
        p->n_segments++;
        segment[p->n_segments] = segment[p->n_segments - 1] + kc_int(k, 1, turn % 3 ? 70 : 6);
    }
    if (turn % 2) {
        float *weight = kc_floats(k, (size_t)(p->R * p->C));
        for (int i = 0; i < T; i++)
            for (int j = 0; j <= i; j++)
                weight[i * p->R / T * p->C + j * p->C / T]++;
        for (int i = 0; i < p->R * p->C; i++)
            weight[i] = weight[i] > 0 ? 1 / weight[i] : NAN;
        p->weight = weight;
    }
    p->unit = unit;
    p->segment = segment;
    p->window = turn % 3 == 2 ? T / 3 + 1 : 0;
    size_t col = (size_t)(p->s.H * T), pool = (size_t)(p->s.H * p->R * p->C);
    for (int i = 0; i < SEE_MEAN; i++)
        p->count[i] = col;
    p->count[SEE_MEAN] = p->count[SEE_MAX] = pool;
    p->count[SEE_DISTANCE] = (size_t)(p->s.H * kvt_distance_bins(T));
    p->count[SEE_OFFSET] = (size_t)(p->s.H * N_OFFSETS);
    p->count[SEE_SPANS] = (size_t)(p->s.H * p->n_segments * p->n_segments);
    p->count[SEE_BEST] = p->count[SEE_BEST_AT] = col * (size_t)p->top_k;
    p->count[SEE_ROWS] = (size_t)(2 * T * T);
    p->count[SEE_OUT] = (size_t)(T * p->s.H * p->s.D);
}

/* Mass and windows are the rows' sums, bit for bit, in the order that row_sums tells. */
static void sums_follow(struct kc *k, struct kc_cand *c, const struct prefill *p, float *const *g)
{
    static const struct { int see, window; } of[] = {{SEE_MASS, 1 << 30}, {SEE_W0, 32}, {SEE_W1, 5}};
    int T = p->T, wrong = 0;
    if (!c->ops->row_sums)
        return;
    uint8_t *level = kc_host(k, (size_t)T);
    if (p->cut)
        c->ops->row_sums(p->cut, level);
    c->ops->row_sums(T - p->cut, level + p->cut);
    for (int i = 0; i < 3 * 2 * T; i++) {
        int j = i % T, side = i / T % 2, h = side ? p->s.H - 1 : 0, see = i / (2 * T), from = T - of[see].window > 0 ? T - of[see].window : 0;
        float all = 0, strip = 0, part = 0;
        for (int t = from; t < T; t++) {
            if (level[t]) {
                strip += part, part = 0;
                if (level[t] == 2)
                    all += strip, strip = 0;
            }
            part += g[SEE_ROWS][(size_t)(side * T + t) * (size_t)T + (size_t)j];
        }
        strip += part;
        wrong += all + strip != g[of[see].see][h * T + j];
    }
    kc_that(k, c, "attn", !wrong, "%d of %d sums over rows aren't made in the order that row_sums tells, T=%d cut=%d", wrong, 6 * T, T, p->cut);
}

static void check_candidate(struct kc *k, struct kc_cand *c, const struct prefill *p, float *const *want, float *const *allow, float *const *g,
                            float *const *twin, float *const *other, double r, const char *kind)
{
    int T = p->T, H = p->s.H;
    prefill_run(k, c, p, false, g);
    for (int s = 0; s < N_SEE; s++) {
        if (s != SEE_BEST_AT)
            kc_judge(k, c, "attn", want[s], g[s], allow[s], p->count[s], "%s H=%d G=%d D=%d %s T=%d cut=%d %s cap=%g window=%d", see_name[s], H,
                     p->s.G, p->s.D, kvt_dtypes[p->s.type].name, T, p->cut, kind, (double)p->x.cap, p->window);
        if (twin)
            kc_same(k, c, "attn", twin[s], g[s], p->count[s] * sizeof(float), "1 and more threads, %s T=%d", see_name[s], T);
    }
    top_holds(k, c, p, g, want[SEE_ROWS], r + 2 * T * KC_EPS);
    sums_follow(k, c, p, g);
    for (int h = 0; h < H; h++) {
        double sum = 0, spans = 0, far = 0;
        int bins = kvt_distance_bins(T), counted = T > p->far_from ? T - p->far_from : 0;
        for (int j = 0; j < T; j++)
            sum += g[SEE_MASS][h * T + j];
        for (int i = 0; i < p->n_segments * p->n_segments; i++)
            spans += g[SEE_SPANS][h * p->n_segments * p->n_segments + i];
        for (int i = 0; i < bins; i++)
            far += g[SEE_DISTANCE][h * bins + i];
        double off = T * (r + (T + 40) * KC_EPS);
        kc_that(k, c, "attn", fabs(sum - T) <= off, "mass of head %d sums to %g of %d rows", h, sum, T);
        kc_that(k, c, "attn", fabs(spans - T) <= off, "spans of head %d sum to %g of %d rows", h, spans, T);
        kc_that(k, c, "attn", fabs(far - counted) <= off, "distances of head %d sum to %g of %d rows", h, far, counted);
    }
    for (int t = 0; t < 2 * T; t++)
        for (int j = t % T + 1; j < T; j++)
            kc_that(k, c, "attn", g[SEE_ROWS][t * T + j] == 0, "row %d sees the later key %d", t % T, j);
    struct prefill q = *p; /* what is seen doesn't depend on what else is */
    q.alone = true;
    prefill_run(k, c, &q, false, other);
    static const int some[] = {SEE_MASS, SEE_W0, SEE_OUT};
    for (int i = 0; i < 3; i++)
        kc_same(k, c, "attn", g[some[i]], other[some[i]], p->count[some[i]] * sizeof(float), "%s alone and among all T=%d", see_name[some[i]], T);
    q = *p; /* rows that come in another call */
    q.cut = p->cut ? 0 : T / 2;
    prefill_run(k, c, p, true, g);
    prefill_run(k, c, &q, true, other);
    kc_same(k, c, "attn", g[SEE_OUT], other[SEE_OUT], p->count[SEE_OUT] * sizeof(float), "exact: one call and two, T=%d", T);
    prefill_run(k, c, p, false, g); /* what the twin is compared with */
    kc_end_cand(k, c, "attn");
}

static void check_prefill(struct kc *k)
{
    static const int lengths[] = {1, 15, 16, 17, 33, 49, 100, 130, 210}; /* from 193 on a strip has more than one tile */
    for (int turn = 0; turn < 27; turn++) {
        if (kc_skip(k))
            continue;
        struct prefill p = {.s = kc_attn_shapes[turn % KC_ATTN_SHAPES], .T = lengths[turn % 9], .R = turn % 2 ? 16 : 7, .C = turn % 3 ? 16 : 64};
        int T = p.T, kind = turn % KC_ATTN_KINDS;
        if (turn % 9 == 7) /* as many bins as rows, and more */
            p.R = T, p.C = T + 30;
        script(k, &p, turn);
        p.x = kc_attn_make(k, &p.s, T, T, kind);
        p.x.cap = turn % 4 == 2 ? 5 : 0;
        float *want[N_SEE], *allow[N_SEE], *got[2][N_SEE], *other[N_SEE];
        for (int i = 0; i < N_SEE; i++) {
            want[i] = kc_floats(k, p.count[i]);
            allow[i] = kc_floats(k, p.count[i]);
            got[0][i] = kc_floats(k, p.count[i]);
            got[1][i] = kc_floats(k, p.count[i]);
            other[i] = kc_floats(k, p.count[i]);
        }
        prefill_run(k, &k->ref, &p, false, want);
        double r = kc_attn_rho(&p.s, &p.x, T, false);
        for (int i = 0; i < N_SEE; i++)
            for (size_t j = 0; j < p.count[i]; j++)
                allow[i][j] = (float)allowance(&p, i, want[i][j], r);
        for (int i = 0; i < k->n_cand; i++)
            check_candidate(k, &k->cand[i], &p, want, allow, got[i % 2], k->cand[i].threads > 1 ? got[0] : NULL, other, r, kc_attn_kind[kind]);
        kc_end_case(k, "attn");
    }
}

/* A chunk of a prefill over what is left of the chunks before it: columns are slots, kv heads hold different numbers of them. */
static void gaps_run(struct kc *k, struct kc_cand *c, const struct kc_attn_shape *s, const struct kc_attn_numbers *x, int before, int T, float *const *got)
{
    enum { MASS, WINDOW, SQUARE, LAST, OUT };
    int H = s->H, G = s->G, D = s->D, n = before + T;
    size_t col = (size_t)(H * n), out = (size_t)(T * H * D);
    struct kvt_cache_opts o = {.L = 1, .G = G, .D = D, .max_branch = 1, .max_slots = n, .type = s->type};
    struct kvt_cache *cache = NULL;
    kc_rc(k, c, "attn", c->ops->cache_open(c->dev, &cache, &o, NULL), "cache_open");
    int32_t *branch = kc_host(k, (size_t)n * sizeof *branch), *pos = kc_host(k, (size_t)n * sizeof *pos);
    for (int i = 0; i < n; i++)
        pos[i] = i < before ? i + i / 2 : before + before / 2 + 3 + (i - before);
    const float *key = kc_put(k, c, x->k, (size_t)(n * G * D) * sizeof *key), *value = kc_put(k, c, x->v, (size_t)(n * G * D) * sizeof *value);
    struct kvt_append_args ap = {cache, 0, before, key, value, branch, pos};
    kc_rc(k, c, "attn", c->ops->cache_append(c->dev, &ap), "append");
    int32_t *slot = kc_host(k, (size_t)(G * n) * sizeof *slot), *count = kc_host(k, (size_t)G * sizeof *count);
    for (int g = 0; g < G; g++) /* head g lost every (g + 2)th slot */
        for (int i = 0; i < before; i++)
            if (i % (g + 2) != 1)
                slot[g * n + count[g]++] = i;
    struct kvt_keep_args keep = {.cache = cache, .slot = kc_put(k, c, slot, (size_t)(G * n) * sizeof *slot),
                                 .count = kc_put(k, c, count, (size_t)G * sizeof *count), .ld = n};
    kc_rc(k, c, "attn", c->ops->cache_keep(c->dev, &keep), "keep");
    ap = (struct kvt_append_args){cache, 0, T, key + before * G * D, value + before * G * D, branch, pos + before};
    kc_rc(k, c, "attn", c->ops->cache_append(c->dev, &ap), "append");
    float *dev[LAST + 1];
    for (int i = 0; i <= LAST; i++)
        dev[i] = kc_put(k, c, kc_floats(k, col), col * sizeof(float));
    struct kvt_see see = {.ld = n, .n_rows = pos[n - 1] + 1, .mass = dev[MASS], .n_windows = 1, .window = {5}, .wmass = {dev[WINDOW]}, .n_squares = 1,
                          .sqmass = {dev[SQUARE]}, .last = dev[LAST]};
    struct kvt_attn_args a = {.cache = cache, .T = T, .H = H, .q = kc_put(k, c, x->q, out * sizeof(float)), .out = kc_put(k, c, NULL, out * sizeof(float)),
                              .branch = branch, .pos = pos + before, .scale = 1 / sqrtf((float)D), .see = &see};
    kc_rc(k, c, "attn", c->ops->attn(c->dev, &a), "a chunk");
    for (int i = 0; i <= LAST; i++)
        kc_get(k, c, got[i], dev[i], col * sizeof(float));
    kc_get(k, c, got[OUT], a.out, out * sizeof(float));
    c->ops->cache_close(c->dev, &cache);
}

static void check_gaps(struct kc *k)
{
    static const int length[][2] = {{40, 1}, {33, 16}, {100, 37}, {5, 130}};
    static const char *const what[] = {"mass", "window 5", "squares", "last", "out"};
    for (int turn = 0; turn < 2 * KC_ATTN_SHAPES; turn++) {
        if (kc_skip(k))
            continue;
        const struct kc_attn_shape *s = &kc_attn_shapes[turn % KC_ATTN_SHAPES];
        int before = length[turn % 4][0], T = length[turn % 4][1], n = before + T;
        struct kc_attn_numbers x = kc_attn_make(k, s, T, n, turn % 2);
        size_t count[5] = {(size_t)(s->H * n), (size_t)(s->H * n), (size_t)(s->H * n), (size_t)(s->H * n), (size_t)(T * s->H * s->D)};
        float *want[5], *got[5], *allow[5];
        for (int i = 0; i < 5; i++)
            want[i] = kc_floats(k, count[i]), got[i] = kc_floats(k, count[i]), allow[i] = kc_floats(k, count[i]);
        gaps_run(k, &k->ref, s, &x, before, T, want);
        double r = kc_attn_rho(s, &x, n, false);
        for (int i = 0; i < 5; i++) /* as of a whole prefill */
            for (size_t j = 0; j < count[i]; j++)
                allow[i][j] = (float)(i == 4 ? x.v_max * (r + (n + 8) * KC_EPS) : want[i][j] * ((i == 2 ? 2 : 1) * r + (2 * T + 4) * KC_EPS)) + KC_TINY;
        for (int i = 0; i < k->n_cand; i++) {
            gaps_run(k, &k->cand[i], s, &x, before, T, got);
            for (int w = 0; w < 5; w++)
                kc_judge(k, &k->cand[i], "attn", want[w], got[w], allow[w], count[w], "a chunk behind gaps: %s H=%d G=%d D=%d before=%d T=%d", what[w],
                         s->H, s->G, s->D, before, T);
            kc_end_cand(k, &k->cand[i], "attn");
        }
        kc_end_case(k, "attn");
    }
}

void kc_check_prefill(struct kc *k)
{
    check_prefill(k);
    check_gaps(k);
}

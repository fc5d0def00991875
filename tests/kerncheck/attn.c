/* attn: rows of probabilities, everything that can be seen of them, and the weighted sums, against the definition.
 *
 * Where the allowances come from. Let S be the largest scale * sum |q k| of the call and u = 2^-24. A score is a chain of
 * D products and sums, a scaling, and two roundings in storage: off by (D + 4) u S at most, and so is the maximum. exp
 * turns an absolute error of its argument into a relative one of its value and adds a unit or two; a sum of n terms of
 * one sign adds n u. So a probability is off by a relative rho = 2 (D + 8) u S + (n + 40) u, plus what is cut below e^-87.
 * Renumbering rotates: a pair grows by at most 2 and gets a few more roundings. A cap shrinks differences of scores and
 * adds its own error, 4e-7 of the hyperbolic tangent and four roundings, times the cap. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kerncheck/kerncheck.h"

#define TINY 1e-37

enum { N_POS = 700, MAX_B = 25 };

struct shape {
    int H, G, D;
    enum kvt_dtype type;
};
static const struct shape shapes[] = {
    {9, 3, 64, KVT_F16}, {4, 4, 80, KVT_F32}, {6, 1, 96, KVT_BF16}, {10, 2, 128, KVT_F16}, {3, 1, 72, KVT_F16}, {2, 2, 16, KVT_F32},
    {16, 2, 40, KVT_BF16},
};
enum { N_SHAPE = sizeof shapes / sizeof shapes[0] };

/* Numbers of one case, the same for every backend. */
struct numbers {
    const float *q, *k, *v;  /* (rows, H, D), (slots, G, D) twice */
    double score;            /* S */
    float cap;
    float v_max;
};

static float *floats(struct kc *k, size_t n) { return kc_host(k, n * sizeof(float)); }

static float *max_of(struct kc *k, size_t n, enum kc_fill_kind fill, float by)
{
    float *x = floats(k, n);
    kc_fill(k, x, n, fill);
    for (size_t i = 0; i < n; i++)
        x[i] *= by;
    return x;
}

static const char *const kind_name[] = {"normal", "scores of hundreds", "all equal", "zero", "denormal"};
enum { N_KIND = 5 };

static struct numbers make(struct kc *k, const struct shape *s, int rows, int slots, int kind)
{
    static const enum kc_fill_kind fill[N_KIND] = {KC_NORMAL, KC_NORMAL, KC_EQUAL, KC_ZERO, KC_DENORMAL};
    size_t nq = (size_t)(rows * s->H * s->D), nk = (size_t)(slots * s->G * s->D);
    float *q = max_of(k, nq, fill[kind], kind == 1 ? 40.0f : 1.0f), *key = max_of(k, nk, fill[kind], 1.0f);
    struct numbers x = {.q = q, .k = key, .v = max_of(k, nk, KC_NORMAL, 1.0f)};
    double q2 = 0, k2 = 0;
    for (size_t i = 0; i < nq; i += (size_t)s->D) {
        double sum = 0;
        for (int d = 0; d < s->D; d++)
            sum += (double)q[i + (size_t)d] * q[i + (size_t)d];
        q2 = fmax(q2, sum);
    }
    for (size_t i = 0; i < nk; i += (size_t)s->D) {
        double sum = 0;
        for (int d = 0; d < s->D; d++)
            sum += (double)key[i + (size_t)d] * key[i + (size_t)d];
        k2 = fmax(k2, sum);
    }
    x.score = sqrt(q2 * k2 / s->D); /* sum |q k| <= |q| |k| */
    for (size_t i = 0; i < nk; i++)
        x.v_max = fmaxf(x.v_max, fabsf(x.v[i]));
    return x;
}

static double rho(const struct shape *s, const struct numbers *x, int n, bool renumber)
{
    return 2 * (s->D + (renumber ? 24 : 8)) * KC_EPS * x->score * (renumber ? 2 : 1) + (n + 40) * KC_EPS + 2 * (double)x->cap * (4e-7 + 4 * KC_EPS);
}

static uint32_t next(uint64_t *r) /* a script's own numbers: every backend must get the same script */
{
    *r ^= *r << 13;
    *r ^= *r >> 7;
    *r ^= *r << 17;
    return (uint32_t)(*r >> 32);
}

static float *rope_table(struct kc *k, int D)
{
    float *t = floats(k, (size_t)N_POS * (size_t)D);
    for (int p = 0; p < N_POS; p++)
        for (int i = 0; i < D / 2; i++) {
            double angle = p * pow(10000, -2.0 * i / D);
            t[(p * (D / 2) + i) * 2] = (float)cos(angle);
            t[(p * (D / 2) + i) * 2 + 1] = (float)sin(angle);
        }
    return t;
}

/* ---- rows of many branches ---- */

struct decode {
    struct shape s;
    int B, n, T;
    uint64_t seed;
    bool renumber, halves;
    const float *table;
    const int32_t *branch, *pos, *row_at;
    const uint8_t *turned;
    struct numbers x;
    int row_ld, window;
};

/* Branch 0 gets n slots; the others fork, keep a part, lose some slots one by one and get a few more. */
static struct kvt_cache *grow(struct kc *k, struct kc_cand *c, const struct decode *d)
{
    uint64_t r = d->seed;
    int G = d->s.G, D = d->s.D;
    struct kvt_cache_opts o = {.L = 1, .G = G, .D = D, .max_branch = d->B, .max_slots = d->n + 8, .type = d->s.type};
    struct kvt_cache *cache = NULL;
    kc_rc(k, c, "attn", c->ops->cache_open(c->dev, &cache, &o, NULL), "cache_open");
    int32_t *branch = kc_host(k, (size_t)(d->n + 8) * sizeof *branch), *pos = kc_host(k, (size_t)(d->n + 8) * sizeof *pos);
    for (int i = 0; i < d->n; i++)
        pos[i] = i + i / 9; /* gaps: a position is not a slot */
    struct kvt_append_args all = {cache, 0, d->n, d->x.k, d->x.v, branch, pos};
    kc_rc(k, c, "attn", c->ops->cache_append(c->dev, &all), "append");
    size_t slot_bytes = (size_t)(G * d->n) * sizeof(int32_t), count_bytes = (size_t)G * sizeof(int32_t);
    int32_t *slot = kc_host(k, slot_bytes), *count = kc_host(k, count_bytes);
    for (int b = 1; b < d->B; b++) {
        kc_rc(k, c, "attn", c->ops->cache_fork(c->dev, cache, 0, b), "fork");
        uint32_t share = next(&r) % 101;
        for (int g = 0; g < G; g++) {
            count[g] = 0;
            for (int i = 0; i < d->n; i++)
                if (next(&r) % 100 < share || (i < 33 && b % 2))
                    slot[g * d->n + count[g]++] = i;
        }
        struct kvt_keep_args keep = {cache, b, 0, kc_put(k, c, slot, slot_bytes), kc_put(k, c, count, count_bytes), d->n};
        kc_rc(k, c, "attn", c->ops->cache_keep(c->dev, &keep), "keep");
        for (int g = 0; g < G; g++) {
            int n = count[g];
            count[g] = n > 3 && b % 3 == 0 ? 3 : 0;
            for (int i = 0; i < count[g]; i++)
                slot[g * d->n + i] = n * (count[g] - i) / 4; /* descending */
        }
        struct kvt_remove_args gone = {cache, b, 0, kc_put(k, c, slot, slot_bytes), kc_put(k, c, count, count_bytes), d->n, NULL, 0};
        kc_rc(k, c, "attn", c->ops->cache_remove(c->dev, &gone), "remove");
        int more = b % 4;
        for (int i = 0; i < more; i++) {
            branch[i] = b;
            pos[i] = d->n + d->n / 9 + 1 + i;
        }
        struct kvt_append_args some = {cache, 0, more, d->x.k + b * G * D, d->x.v + b * G * D, branch, pos};
        if (more)
            kc_rc(k, c, "attn", c->ops->cache_append(c->dev, &some), "append");
        memset(branch, 0, (size_t)more * sizeof *branch);
    }
    return cache;
}

static void attend(struct kc *k, struct kc_cand *c, const struct decode *d, struct kvt_cache *cache, int t0, int T, float *out,
                   float *row)
{
    size_t q_row = (size_t)(d->s.H * d->s.D), bytes = (size_t)T * q_row * sizeof(float);
    size_t row_bytes = (size_t)T * (size_t)d->s.H * (size_t)d->row_ld * sizeof(float);
    struct kvt_see see = {.row_at = d->row_at, .row = kc_put(k, c, row, row_bytes), .row_ld = d->row_ld};
    struct kvt_attn_args a = {
        .cache = cache, .T = T, .H = d->s.H, .q = kc_put_shifted(k, c, d->x.q + (size_t)t0 * q_row, bytes, 4),
        .out = kc_put_shifted(k, c, NULL, bytes, 4), .branch = d->branch + t0, .pos = d->pos + t0,
        .renumber = d->renumber ? d->turned + t0 : NULL,
        .rope = {kc_put(k, c, d->table, (size_t)N_POS * (size_t)d->s.D * sizeof(float)), N_POS, d->s.D, d->halves},
        .scale = 1 / sqrtf((float)d->s.D), .cap = d->x.cap, .window = d->window, .exact = true, .see = &see,
    };
    kc_rc(k, c, "attn", c->ops->attn(c->dev, &a), "T=%d", T);
    kc_get(k, c, out, a.out, bytes);
    kc_get(k, c, row, see.row, row_bytes);
}

/* Rows are probabilities of what the row sees: they sum to 1, and a slot at a later position, or before the window, gets 0. */
static void row_holds(struct kc *k, struct kc_cand *c, const struct decode *d, struct kvt_cache *cache, const float *row)
{
    int32_t *pos = kc_put(k, c, NULL, (size_t)(d->s.G * d->row_ld) * sizeof *pos), *held = kc_host(k, (size_t)(d->s.G * d->row_ld) * sizeof *held);
    for (int t = 0; t < d->T; t++) {
        kc_rc(k, c, "attn", c->ops->cache_positions(c->dev, &(struct kvt_positions_args){cache, d->branch[t], 0, pos, NULL, d->row_ld}), "positions");
        kc_get(k, c, held, pos, (size_t)(d->s.G * d->row_ld) * sizeof *held);
        for (int h = 0; h < d->s.H; h++) {
            const float *p = row + (size_t)(t * d->s.H + h) * (size_t)d->row_ld;
            const int32_t *at = held + h / (d->s.H / d->s.G) * d->row_ld;
            double sum = 0;
            int seen = 0, later = 0;
            for (int j = 0; j < d->row_ld && at[j] >= 0; j++) {
                sum += p[j];
                bool sees = at[j] <= d->pos[t] && (!d->window || at[j] > d->pos[t] - d->window);
                seen += sees;
                later += !sees && p[j] != 0;
            }
            kc_that(k, c, "attn", fabs(sum - (seen != 0)) <= (seen + 40) * KC_EPS, "row %d head %d sums to %g", t, h, sum);
            kc_that(k, c, "attn", !later, "row %d head %d sees %d slots that it shouldn't", t, h, later);
        }
    }
}

static void check_rows(struct kc *k)
{
    static const int lengths[] = {1, 15, 16, 17, 33, 100, 270, 300}; /* above 256 a row has two parts */
    for (int turn = 0; turn < 28; turn++) {
        struct decode d = {.s = shapes[turn % N_SHAPE], .n = lengths[turn % 8], .B = lengths[turn % 8] == 33 ? MAX_B : kc_int(k, 1, 4),
                           .seed = kc_u64(k) | 1, .renumber = turn % 3 == 1, .halves = turn % 2};
        int kind = turn % N_KIND, G = d.s.G, D = d.s.D;
        d.T = 2 * d.B; /* two rows of each branch, as when a question is fed */
        d.row_ld = d.n + 13;
        d.x = make(k, &d.s, d.T, d.n + MAX_B + 4, kind);
        d.x.cap = turn % 4 == 2 ? 5 : 0;
        d.window = turn % 5 >= 3 ? d.n / (turn % 5 - 1) + 1 : 0; /* halves and thirds: some parts are out of sight */
        d.table = rope_table(k, D);
        int32_t *branch = kc_host(k, (size_t)d.T * sizeof *branch), *pos = kc_host(k, (size_t)d.T * sizeof *pos);
        int32_t *row_at = kc_host(k, (size_t)d.T * sizeof *row_at);
        uint8_t *turned = kc_host(k, (size_t)d.T);
        for (int t = 0; t < d.T; t++) {
            branch[t] = t / 2;
            pos[t] = t % 2 ? d.n + d.n / 9 + 4 : d.n / 2; /* the first of the two doesn't see everything */
            row_at[t] = t;
            turned[t] = t % 3 != 0;
        }
        d.branch = branch;
        d.pos = pos;
        d.row_at = row_at;
        d.turned = turned;
        size_t n_out = (size_t)(d.T * d.s.H * D), n_row = (size_t)(d.T * d.s.H * d.row_ld);
        float *want = floats(k, n_out), *want_row = floats(k, n_row), *allow = floats(k, n_out), *allow_row = floats(k, n_row);
        float *got[2] = {floats(k, n_out), floats(k, n_out)}, *row[2] = {floats(k, n_row), floats(k, n_row)};
        double p = rho(&d.s, &d.x, d.n + 4, d.renumber);
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            struct kvt_cache *cache = grow(k, c, &d);
            float *out = i < 0 ? want : got[i % 2], *rows = i < 0 ? want_row : row[i % 2];
            memset(rows, 0, n_row * sizeof *rows);
            attend(k, c, &d, cache, 0, d.T, out, rows);
            if (i < 0) {
                for (size_t j = 0; j < n_out; j++)
                    allow[j] = (float)(d.x.v_max * (p + (d.n + 8) * KC_EPS) + TINY);
                for (size_t j = 0; j < n_row; j++)
                    allow_row[j] = (float)(want_row[j] * p + TINY);
            } else {
                kc_judge(k, c, "attn", want, out, allow, n_out, "out H=%d G=%d D=%d %s n=%d B=%d %s cap=%g window=%d%s", d.s.H, G, D,
                         kvt_dtypes[d.s.type].name, d.n, d.B, kind_name[kind], (double)d.x.cap, d.window, d.renumber ? " renumbered" : "");
                kc_judge(k, c, "attn", want_row, rows, allow_row, n_row, "row H=%d G=%d D=%d %s n=%d B=%d %s cap=%g window=%d%s", d.s.H, G, D,
                         kvt_dtypes[d.s.type].name, d.n, d.B, kind_name[kind], (double)d.x.cap, d.window, d.renumber ? " renumbered" : "");
                if (c->threads > 1) {
                    kc_same(k, c, "attn", got[0], got[1], n_out * sizeof *out, "1 and more threads, out");
                    kc_same(k, c, "attn", row[0], row[1], n_row * sizeof *out, "1 and more threads, row");
                }
                int t = d.T - 1; /* by itself as among the others */
                float *one = floats(k, (size_t)(d.s.H * D)), *one_row = floats(k, (size_t)(d.s.H * d.row_ld));
                attend(k, c, &d, cache, t, 1, one, one_row);
                kc_same(k, c, "attn", out + (size_t)(t * d.s.H * D), one, (size_t)(d.s.H * D) * sizeof *one, "row %d alone", t);
                kc_same(k, c, "attn", rows + (size_t)(t * d.s.H * d.row_ld), one_row, (size_t)(d.s.H * d.row_ld) * sizeof *one,
                        "probabilities of row %d alone", t);
                row_holds(k, c, &d, cache, rows);
            }
            c->ops->cache_close(c->dev, &cache);
            kc_end_cand(k, c, "attn");
        }
        kc_end_case(k, "attn");
    }
}

/* The order of slots is bookkeeping: shuffled, the probabilities are shuffled alike and the output is the same. */
static void check_order(struct kc *k)
{
    for (int turn = 0; turn < 6; turn++) {
        struct shape s = shapes[turn % N_SHAPE];
        int n = 100, G = s.G, D = s.D, H = s.H;
        bool renumber = turn % 2;
        struct numbers x = make(k, &s, 1, n, 0);
        float *k2 = floats(k, (size_t)(n * G * D)), *v2 = floats(k, (size_t)(n * G * D)), *table = rope_table(k, D);
        int32_t *order = kc_host(k, (size_t)n * sizeof *order), *pos = kc_host(k, (size_t)n * sizeof *pos);
        int32_t *pos2 = kc_host(k, (size_t)n * sizeof *pos), *branch = kc_host(k, (size_t)n * sizeof *branch), zero = 0, last = 3 * n;
        for (int i = 0; i < n; i++) {
            order[i] = (i * 37 + 11) % n;
            pos[i] = i < 4 ? i : 2 * i + 50;
            pos2[i] = order[i] < 4 ? order[i] : 2 * order[i] + 50;
            memcpy(k2 + i * G * D, x.k + order[i] * G * D, (size_t)(G * D) * sizeof *k2);
            memcpy(v2 + i * G * D, x.v + order[i] * G * D, (size_t)(G * D) * sizeof *v2);
        }
        double p = 2 * rho(&s, &x, n, renumber);
        for (int i = 0; i < k->n_cand; i++) {
            struct kc_cand *c = &k->cand[i];
            float *out[2] = {floats(k, (size_t)(H * D)), floats(k, (size_t)(H * D))}, *row[2] = {floats(k, (size_t)(H * n)), floats(k, (size_t)(H * n))};
            for (int w = 0; w < 2; w++) {
                struct kvt_cache_opts o = {.L = 1, .G = G, .D = D, .max_branch = 1, .max_slots = n, .type = s.type};
                struct kvt_cache *cache = NULL;
                kc_rc(k, c, "attn", c->ops->cache_open(c->dev, &cache, &o, NULL), "cache_open");
                struct kvt_append_args ap = {cache, 0, n, w ? k2 : x.k, w ? v2 : x.v, branch, w ? pos2 : pos};
                kc_rc(k, c, "attn", c->ops->cache_append(c->dev, &ap), "append");
                struct kvt_see see = {.row_at = &zero, .row = kc_put(k, c, NULL, (size_t)(H * n) * sizeof(float)), .row_ld = n};
                struct kvt_attn_args a = {.cache = cache, .T = 1, .H = H, .q = kc_put(k, c, x.q, (size_t)(H * D) * sizeof(float)),
                                          .out = kc_put(k, c, NULL, (size_t)(H * D) * sizeof(float)), .branch = branch, .pos = &last,
                                          .renumber = renumber ? (const uint8_t *)"\1" : NULL, .rope = {table, N_POS, D, true},
                                          .scale = 1 / sqrtf((float)D), .exact = true, .see = &see};
                kc_rc(k, c, "attn", c->ops->attn(c->dev, &a), "shuffled");
                kc_get(k, c, out[w], a.out, (size_t)(H * D) * sizeof(float));
                kc_get(k, c, row[w], see.row, (size_t)(H * n) * sizeof(float));
                c->ops->cache_close(c->dev, &cache);
            }
            float *want = floats(k, (size_t)(H * n)), *allow = floats(k, (size_t)(H * n)), *allow_out = floats(k, (size_t)(H * D));
            for (int h = 0; h < H; h++)
                for (int j = 0; j < n; j++) {
                    want[h * n + j] = row[0][h * n + order[j]];
                    allow[h * n + j] = (float)(want[h * n + j] * p + TINY);
                }
            for (int j = 0; j < H * D; j++)
                allow_out[j] = (float)(x.v_max * (p + 2 * n * KC_EPS));
            kc_judge(k, c, "attn", want, row[1], allow, (size_t)(H * n), "row, slots shuffled, D=%d", D);
            kc_judge(k, c, "attn", out[0], out[1], allow_out, (size_t)(H * D), "out, slots shuffled, D=%d", D);
        }
        kc_end_case(k, "attn");
    }
}

/* ---- a prefill and all that can be seen of it ---- */

enum { SEE_MASS, SEE_W0, SEE_W1, SEE_LAST, SEE_ENTROPY, SEE_SINK, SEE_WS0, SEE_WS1, SEE_D0, SEE_D1, SEE_TOP, SEE_LATER, SEE_MEAN, SEE_MAX,
       SEE_ROWS, SEE_OUT, N_SEE };
static const char *const see_name[] = {"mass", "window 32", "window 5", "last", "entropy", "sink", "squares of window 32", "squares of window 7",
                                       "squares", "squares at a distance", "maximum", "later", "pool mean", "pool max", "rows", "out"};

struct prefill {
    struct shape s;
    int T, cut, R, C;        /* rows [0, cut) and [cut, T) in two calls; cut 0: one call */
    int window;
    int distance, max_from, n_units;
    const int32_t *unit;
    struct numbers x;
    size_t count[N_SEE];
};

static void prefill_run(struct kc *k, struct kc_cand *c, const struct prefill *p, bool exact, float *const *got)
{
    int T = p->T, H = p->s.H, G = p->s.G, D = p->s.D;
    struct kvt_cache_opts o = {.L = 1, .G = G, .D = D, .max_branch = 1, .max_slots = T, .type = p->s.type};
    struct kvt_cache *cache = NULL;
    kc_rc(k, c, "attn", c->ops->cache_open(c->dev, &cache, &o, NULL), "cache_open");
    int32_t *branch = kc_host(k, (size_t)T * sizeof *branch), *pos = kc_host(k, (size_t)T * sizeof *pos);
    for (int t = 0; t < T; t++)
        pos[t] = t;
    float *dev[SEE_ROWS];
    for (int i = 0; i < SEE_ROWS; i++)
        dev[i] = kc_put(k, c, floats(k, p->count[i]), p->count[i] * sizeof(float));
    for (int t0 = 0, t1; t0 < T; t0 = t1) {
        t1 = t0 < p->cut ? p->cut : T;
        int rows = t1 - t0;
        struct kvt_append_args ap = {cache, 0, rows, p->x.k + t0 * G * D, p->x.v + t0 * G * D, branch, pos + t0};
        kc_rc(k, c, "attn", c->ops->cache_append(c->dev, &ap), "append");
        size_t bytes = (size_t)(2 * rows * T) * sizeof(float);
        float *run_rows = kc_put(k, c, NULL, bytes), *host = kc_host(k, bytes);
        uint64_t heads = 1 | UINT64_C(1) << (H - 1);
        struct kvt_see see = {
            .ld = T, .n_rows = T, .mass = dev[SEE_MASS], .n_windows = 2, .window = {32, 5}, .wmass = {dev[SEE_W0], dev[SEE_W1]},
            .n_squares = 4, .square = {{32, 0}, {7, p->distance / 2}, {0, 0}, {0, p->distance}},
            .sqmass = {dev[SEE_WS0], dev[SEE_WS1], dev[SEE_D0], dev[SEE_D1]},
            .max = dev[SEE_TOP], .max_from = p->max_from, .later = dev[SEE_LATER], .unit = p->unit, .n_units = p->n_units,
            .last = dev[SEE_LAST], .entropy = dev[SEE_ENTROPY], .sink = dev[SEE_SINK], .n_sink = 4, .R = p->R, .C = p->C,
            .pool_mean = dev[SEE_MEAN], .pool_max = dev[SEE_MAX], .row_heads = heads, .rows = run_rows,
        };
        struct kvt_attn_args a = {.cache = cache, .T = rows, .H = H, .q = kc_put(k, c, p->x.q + t0 * H * D, (size_t)(rows * H * D) * sizeof(float)),
                                  .out = kc_put(k, c, NULL, (size_t)(rows * H * D) * sizeof(float)), .branch = branch, .pos = pos + t0,
                                  .scale = 1 / sqrtf((float)D), .cap = p->x.cap, .window = p->window, .exact = exact, .see = &see};
        kc_rc(k, c, "attn", c->ops->attn(c->dev, &a), "prefill");
        kc_get(k, c, got[SEE_OUT] + t0 * H * D, a.out, (size_t)(rows * H * D) * sizeof(float));
        kc_get(k, c, host, run_rows, bytes);
        for (int i = 0; i < 2; i++)
            memcpy(got[SEE_ROWS] + (size_t)((i * T + t0) * T), host + (size_t)(i * rows * T), (size_t)(rows * T) * sizeof(float));
    }
    for (int i = 0; i < SEE_ROWS; i++)
        kc_get(k, c, got[i], dev[i], p->count[i] * sizeof(float));
    c->ops->cache_close(c->dev, &cache);
}

static void check_prefill(struct kc *k)
{
    static const int lengths[] = {1, 15, 16, 17, 33, 49, 100, 130, 210}; /* from 193 on a strip has more than one tile */
    for (int turn = 0; turn < 27; turn++) {
        struct prefill p = {.s = shapes[turn % N_SHAPE], .T = lengths[turn % 9], .R = turn % 2 ? 16 : 7, .C = turn % 3 ? 16 : 64};
        int T = p.T, H = p.s.H, D = p.s.D, kind = turn % N_KIND;
        p.cut = turn % 4 == 3 ? T / 3 : 0;
        p.distance = turn % 5 == 4 ? T + 3 : 1 + turn % 11, p.max_from = turn % 3 ? T * 3 / 5 : 0;
        int32_t *unit = kc_host(k, 2 * (size_t)(T + 1) * sizeof *unit);
        for (int at = turn % 3; at < T; p.n_units++) { /* single slots and long runs, with gaps and without; the last may end with the rows */
            unit[2 * p.n_units] = at;
            at += kc_int(k, 1, turn % 2 ? 5 : 60);
            unit[2 * p.n_units + 1] = at < T ? at : T;
            at += kc_int(k, 0, 3);
        }
        p.unit = unit;
        p.x = make(k, &p.s, T, T, kind);
        p.x.cap = turn % 4 == 2 ? 5 : 0;
        p.window = turn % 3 == 2 ? T / 3 + 1 : 0;
        size_t col = (size_t)(H * T), pool = (size_t)(H * p.R * p.C);
        size_t count[N_SEE] = {col, col, col, col, col, col, col, col, col, col, col, col, pool, pool, (size_t)(2 * T * T), (size_t)(T * H * D)};
        memcpy(p.count, count, sizeof count);
        float *want[N_SEE], *allow[N_SEE], *got[2][N_SEE], *cut[N_SEE];
        for (int i = 0; i < N_SEE; i++) {
            want[i] = floats(k, count[i]);
            allow[i] = floats(k, count[i]);
            got[0][i] = floats(k, count[i]);
            got[1][i] = floats(k, count[i]);
            cut[i] = floats(k, count[i]);
        }
        prefill_run(k, &k->ref, &p, false, want);
        double r = rho(&p.s, &p.x, T, false);
        for (int i = 0; i < N_SEE; i++)
            for (size_t j = 0; j < count[i]; j++) {
                /* sums of up to T rows or of a bin's T x T pairs, by the reference too, in floats: T u and less */
                double a = want[i][j] * (r + 2 * T * KC_EPS) + TINY;
                if (i >= SEE_WS0 && i <= SEE_D1)
                    a = want[i][j] * (2 * r + (2 * T + 4) * KC_EPS) + TINY; /* a square is off by twice as much */
                if (i == SEE_ENTROPY)
                    a = 2 * r * (1 + log(T + 1.0)) + 2 * r;
                else if (i == SEE_MEAN)
                    a = want[i][j] * (r + 2.0 * T * T * KC_EPS) + TINY;
                else if (i == SEE_OUT)
                    a = p.x.v_max * (r + (T + 8) * KC_EPS) + TINY;
                allow[i][j] = (float)a;
            }
        for (int i = 0; i < k->n_cand; i++) {
            struct kc_cand *c = &k->cand[i];
            float *const *g = got[i % 2];
            prefill_run(k, c, &p, false, g);
            for (int s = 0; s < N_SEE; s++) {
                kc_judge(k, c, "attn", want[s], g[s], allow[s], count[s], "%s H=%d G=%d D=%d %s T=%d cut=%d %s cap=%g window=%d", see_name[s], H,
                         p.s.G, D, kvt_dtypes[p.s.type].name, T, p.cut, kind_name[kind], (double)p.x.cap, p.window);
                if (c->threads > 1)
                    kc_same(k, c, "attn", got[0][s], got[1][s], count[s] * sizeof(float), "1 and more threads, %s T=%d", see_name[s], T);
            }
            for (int h = 0; h < H; h++) {
                double sum = 0;
                for (int j = 0; j < T; j++)
                    sum += g[SEE_MASS][h * T + j];
                kc_that(k, c, "attn", fabs(sum - T) <= T * (r + (T + 40) * KC_EPS), "mass of head %d sums to %g of %d rows", h, sum, T);
            }
            for (int t = 0; t < 2 * T; t++)
                for (int j = t % T + 1; j < T; j++)
                    kc_that(k, c, "attn", g[SEE_ROWS][t * T + j] == 0, "row %d sees the later key %d", t % T, j);
            struct prefill q = p; /* rows that come in another call */
            q.cut = p.cut ? 0 : T / 2;
            prefill_run(k, c, &p, true, (float *const *)got[i % 2]);
            prefill_run(k, c, &q, true, cut);
            kc_same(k, c, "attn", got[i % 2][SEE_OUT], cut[SEE_OUT], count[SEE_OUT] * sizeof(float), "exact: one call and two, T=%d", T);
            prefill_run(k, c, &p, false, g); /* what the twin is compared with */
            kc_end_cand(k, c, "attn");
        }
        kc_end_case(k, "attn");
    }
}

/* A chunk of a prefill over what is left of the chunks before it: columns are slots, kv heads hold different numbers of them. */
static void gaps_run(struct kc *k, struct kc_cand *c, const struct shape *s, const struct numbers *x, int before, int T, float *const *got)
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
    struct kvt_append_args ap = {cache, 0, before, x->k, x->v, branch, pos};
    kc_rc(k, c, "attn", c->ops->cache_append(c->dev, &ap), "append");
    int32_t *slot = kc_host(k, (size_t)(G * n) * sizeof *slot), *count = kc_host(k, (size_t)G * sizeof *count);
    for (int g = 0; g < G; g++) /* head g lost every (g + 2)th slot */
        for (int i = 0; i < before; i++)
            if (i % (g + 2) != 1)
                slot[g * n + count[g]++] = i;
    struct kvt_keep_args keep = {.cache = cache, .slot = kc_put(k, c, slot, (size_t)(G * n) * sizeof *slot),
                                 .count = kc_put(k, c, count, (size_t)G * sizeof *count), .ld = n};
    kc_rc(k, c, "attn", c->ops->cache_keep(c->dev, &keep), "keep");
    ap = (struct kvt_append_args){cache, 0, T, x->k + before * G * D, x->v + before * G * D, branch, pos + before};
    kc_rc(k, c, "attn", c->ops->cache_append(c->dev, &ap), "append");
    float *dev[LAST + 1];
    for (int i = 0; i <= LAST; i++)
        dev[i] = kc_put(k, c, floats(k, col), col * sizeof(float));
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
    for (int turn = 0; turn < 2 * N_SHAPE; turn++) {
        const struct shape *s = &shapes[turn % N_SHAPE];
        int before = length[turn % 4][0], T = length[turn % 4][1], n = before + T;
        struct numbers x = make(k, s, T, n, turn % 2);
        size_t count[5] = {(size_t)(s->H * n), (size_t)(s->H * n), (size_t)(s->H * n), (size_t)(s->H * n), (size_t)(T * s->H * s->D)};
        float *want[5], *got[5], *allow[5];
        for (int i = 0; i < 5; i++)
            want[i] = floats(k, count[i]), got[i] = floats(k, count[i]), allow[i] = floats(k, count[i]);
        gaps_run(k, &k->ref, s, &x, before, T, want);
        double r = rho(s, &x, n, false);
        for (int i = 0; i < 5; i++) /* as of a whole prefill */
            for (size_t j = 0; j < count[i]; j++)
                allow[i][j] = (float)(i == 4 ? x.v_max * (r + (n + 8) * KC_EPS) : want[i][j] * ((i == 2 ? 2 : 1) * r + (2 * T + 4) * KC_EPS)) + TINY;
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

static void check(struct kc *k)
{
    check_rows(k);
    check_order(k);
    check_prefill(k);
    check_gaps(k);
}

const struct kc_subject kc_attn = {"attn", check, kc_attn_bench, kc_attn_sabotage};

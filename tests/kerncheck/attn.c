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

#include "tests/kerncheck/attn.h"

#define TINY KC_TINY

enum { N_POS = 700, MAX_B = 25 };

const struct kc_attn_shape kc_attn_shapes[KC_ATTN_SHAPES] = {
    {9, 3, 64, KVT_F16}, {4, 4, 80, KVT_F32}, {6, 1, 96, KVT_BF16}, {10, 2, 128, KVT_F16}, {3, 1, 72, KVT_F16}, {2, 2, 16, KVT_F32},
    {16, 2, 40, KVT_BF16},
};

float *kc_floats(struct kc *k, size_t n) { return kc_host(k, n * sizeof(float)); }

static float *max_of(struct kc *k, size_t n, enum kc_fill_kind fill, float by)
{
    float *x = kc_floats(k, n);
    kc_fill(k, x, n, fill);
    for (size_t i = 0; i < n; i++)
        x[i] *= by;
    return x;
}

const char *const kc_attn_kind[KC_ATTN_KINDS] = {"normal", "scores of hundreds", "all equal", "zero", "denormal"};

struct kc_attn_numbers kc_attn_make(struct kc *k, const struct kc_attn_shape *s, int rows, int slots, int kind)
{
    static const enum kc_fill_kind fill[KC_ATTN_KINDS] = {KC_NORMAL, KC_NORMAL, KC_EQUAL, KC_ZERO, KC_DENORMAL};
    size_t nq = (size_t)(rows * s->H * s->D), nk = (size_t)(slots * s->G * s->D);
    float *q = max_of(k, nq, fill[kind], kind == 1 ? 40.0f : 1.0f), *key = max_of(k, nk, fill[kind], 1.0f);
    struct kc_attn_numbers x = {.q = q, .k = key, .v = max_of(k, nk, KC_NORMAL, 1.0f)};
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

double kc_attn_rho(const struct kc_attn_shape *s, const struct kc_attn_numbers *x, int n, bool renumber)
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
    float *t = kc_floats(k, (size_t)N_POS * (size_t)D);
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
    struct kc_attn_shape s;
    int B, n, T;
    uint64_t seed;
    int every;               /* a position is passed over after so many: pages with and without gaps */
    bool renumber, halves;
    int rot;
    const float *table;
    const int32_t *branch, *pos, *row_at;
    const uint8_t *turned;
    struct kc_attn_numbers x;
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
        pos[i] = i + i / d->every; /* gaps: a position is not a slot */
    const float *key = kc_put(k, c, d->x.k, (size_t)((d->n + MAX_B + 4) * G * D) * sizeof *key); /* all that kc_attn_make gave */
    const float *value = kc_put(k, c, d->x.v, (size_t)((d->n + MAX_B + 4) * G * D) * sizeof *value);
    struct kvt_append_args all = {cache, 0, d->n, key, value, branch, pos};
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
            pos[i] = d->n + d->n / d->every + 1 + i;
        }
        struct kvt_append_args some = {cache, 0, more, key + b * G * D, value + b * G * D, branch, pos};
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
        .rope = {kc_put(k, c, d->table, (size_t)N_POS * (size_t)d->rot * sizeof(float)), N_POS, d->rot, d->halves},
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
        if (kc_skip(k))
            continue;
        struct decode d = {.s = kc_attn_shapes[turn % KC_ATTN_SHAPES], .n = lengths[turn % 8], .B = lengths[turn % 8] == 33 ? MAX_B : kc_int(k, 1, 4),
                           .seed = kc_u64(k) | 1, .renumber = turn % 3 == 1, .halves = turn % 2, .every = turn % 4 < 2 ? 9 : 70};
        int kind = turn % KC_ATTN_KINDS, G = d.s.G, D = d.s.D;
        d.T = 2 * d.B; /* two rows of each branch, as when a question is fed */
        d.row_ld = d.n + 13;
        d.rot = turn % 5 ? D : D / 4 * 2; /* also where only the head's first dims are rotated */
        d.x = kc_attn_make(k, &d.s, d.T, d.n + MAX_B + 4, kind);
        d.x.cap = turn % 4 == 2 ? 5 : 0;
        d.window = turn % 5 >= 3 ? d.n / (turn % 5 - 1) + 1 : 0; /* halves and thirds: some parts are out of sight */
        d.table = rope_table(k, d.rot);
        int32_t *branch = kc_host(k, (size_t)d.T * sizeof *branch), *pos = kc_host(k, (size_t)d.T * sizeof *pos);
        int32_t *row_at = kc_host(k, (size_t)d.T * sizeof *row_at);
        uint8_t *turned = kc_host(k, (size_t)d.T);
        for (int t = 0; t < d.T; t++) {
            branch[t] = t / 2;
            pos[t] = t % 2 ? d.n + d.n / d.every + 4 : d.n / 2; /* the first of the two doesn't see everything */
            row_at[t] = t;
            turned[t] = t % 3 != 0;
        }
        d.branch = branch;
        d.pos = pos;
        d.row_at = row_at;
        d.turned = turned;
        size_t n_out = (size_t)(d.T * d.s.H * D), n_row = (size_t)(d.T * d.s.H * d.row_ld);
        float *want = kc_floats(k, n_out), *want_row = kc_floats(k, n_row), *allow = kc_floats(k, n_out), *allow_row = kc_floats(k, n_row);
        float *got[2] = {kc_floats(k, n_out), kc_floats(k, n_out)}, *row[2] = {kc_floats(k, n_row), kc_floats(k, n_row)};
        double p = kc_attn_rho(&d.s, &d.x, d.n + 4, d.renumber);
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
                         kvt_dtypes[d.s.type].name, d.n, d.B, kc_attn_kind[kind], (double)d.x.cap, d.window, d.renumber ? " renumbered" : "");
                kc_judge(k, c, "attn", want_row, rows, allow_row, n_row, "row H=%d G=%d D=%d %s n=%d B=%d %s cap=%g window=%d%s", d.s.H, G, D,
                         kvt_dtypes[d.s.type].name, d.n, d.B, kc_attn_kind[kind], (double)d.x.cap, d.window, d.renumber ? " renumbered" : "");
                if (c->threads > 1) {
                    kc_same(k, c, "attn", got[0], got[1], n_out * sizeof *out, "1 and more threads, out");
                    kc_same(k, c, "attn", row[0], row[1], n_row * sizeof *out, "1 and more threads, row");
                }
                int t = d.T - 1; /* by itself as among the others */
                float *one = kc_floats(k, (size_t)(d.s.H * D)), *one_row = kc_floats(k, (size_t)(d.s.H * d.row_ld));
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
        if (kc_skip(k))
            continue;
        struct kc_attn_shape s = kc_attn_shapes[turn % KC_ATTN_SHAPES];
        int n = 100, G = s.G, D = s.D, H = s.H;
        bool renumber = turn % 2;
        struct kc_attn_numbers x = kc_attn_make(k, &s, 1, n, 0);
        float *k2 = kc_floats(k, (size_t)(n * G * D)), *v2 = kc_floats(k, (size_t)(n * G * D)), *table = rope_table(k, D);
        int32_t *order = kc_host(k, (size_t)n * sizeof *order), *pos = kc_host(k, (size_t)n * sizeof *pos);
        int32_t *pos2 = kc_host(k, (size_t)n * sizeof *pos), *branch = kc_host(k, (size_t)n * sizeof *branch), zero = 0, last = 3 * n;
        for (int i = 0; i < n; i++) {
            order[i] = (i * 37 + 11) % n;
            pos[i] = i < 4 ? i : 2 * i + 50;
            pos2[i] = order[i] < 4 ? order[i] : 2 * order[i] + 50;
            memcpy(k2 + i * G * D, x.k + order[i] * G * D, (size_t)(G * D) * sizeof *k2);
            memcpy(v2 + i * G * D, x.v + order[i] * G * D, (size_t)(G * D) * sizeof *v2);
        }
        double p = 2 * kc_attn_rho(&s, &x, n, renumber);
        for (int i = 0; i < k->n_cand; i++) {
            struct kc_cand *c = &k->cand[i];
            float *out[2] = {kc_floats(k, (size_t)(H * D)), kc_floats(k, (size_t)(H * D))}, *row[2] = {kc_floats(k, (size_t)(H * n)), kc_floats(k, (size_t)(H * n))};
            for (int w = 0; w < 2; w++) {
                struct kvt_cache_opts o = {.L = 1, .G = G, .D = D, .max_branch = 1, .max_slots = n, .type = s.type};
                struct kvt_cache *cache = NULL;
                kc_rc(k, c, "attn", c->ops->cache_open(c->dev, &cache, &o, NULL), "cache_open");
                size_t bytes = (size_t)(n * G * D) * sizeof(float);
                struct kvt_append_args ap = {cache, 0, n, kc_put(k, c, w ? k2 : x.k, bytes), kc_put(k, c, w ? v2 : x.v, bytes), branch, w ? pos2 : pos};
                kc_rc(k, c, "attn", c->ops->cache_append(c->dev, &ap), "append");
                struct kvt_see see = {.row_at = &zero, .row = kc_put(k, c, NULL, (size_t)(H * n) * sizeof(float)), .row_ld = n};
                struct kvt_attn_args a = {.cache = cache, .T = 1, .H = H, .q = kc_put(k, c, x.q, (size_t)(H * D) * sizeof(float)),
                                          .out = kc_put(k, c, NULL, (size_t)(H * D) * sizeof(float)), .branch = branch, .pos = &last,
                                          .renumber = renumber ? (const uint8_t *)"\1" : NULL, .rope = {kc_put(k, c, table, (size_t)N_POS * (size_t)D * sizeof(float)), N_POS, D, true},
                                          .scale = 1 / sqrtf((float)D), .exact = true, .see = &see};
                kc_rc(k, c, "attn", c->ops->attn(c->dev, &a), "shuffled");
                kc_get(k, c, out[w], a.out, (size_t)(H * D) * sizeof(float));
                kc_get(k, c, row[w], see.row, (size_t)(H * n) * sizeof(float));
                c->ops->cache_close(c->dev, &cache);
            }
            float *want = kc_floats(k, (size_t)(H * n)), *allow = kc_floats(k, (size_t)(H * n)), *allow_out = kc_floats(k, (size_t)(H * D));
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

static void check(struct kc *k)
{
    check_rows(k);
    check_order(k);
    kc_check_prefill(k);
}

const struct kc_subject kc_attn = {"attn", check, kc_attn_bench, kc_attn_sabotage};

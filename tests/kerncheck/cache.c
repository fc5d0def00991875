/* cache: pages, tables and the choice of slots. Nothing here is approximate: every comparison is exact. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kerncheck/kerncheck.h"

static float *floats(struct kc *k, size_t n) { return kc_host(k, n * sizeof(float)); }

/* ---- pages ---- */

static uint32_t next(uint64_t *r) /* a script's own numbers: every backend must get the same script */
{
    *r ^= *r << 13;
    *r ^= *r >> 7;
    *r ^= *r << 17;
    return (uint32_t)(*r >> 32);
}

struct script {
    int L, G, D, B, max;
    enum kvt_dtype type;
    uint64_t seed;
    const float *k, *v;      /* (64, G, D) rows to append, starting anywhere */
    size_t cell;             /* floats of one cell's trace */
};

/* Everything that can be read of a cache, as floats and ints, for a comparison of bytes. */
static void trace(struct kc *k, struct kc_cand *c, const struct script *s, struct kvt_cache *cache, float *kv, int32_t *pos)
{
    size_t bytes = (size_t)(s->G * s->max) * sizeof(int32_t);
    for (int b = 0; b < s->B; b++) {
        int32_t *count = kc_host(k, (size_t)(s->L * s->G) * sizeof *count);
        kc_rc(k, c, "cache", c->ops->cache_lengths(c->dev, cache, b, count), "lengths");
        for (int l = 0; l < s->L; l++) {
            int32_t *at = pos + (size_t)(b * s->L + l) * (size_t)(s->G * s->max);
            int32_t *dev = kc_put(k, c, NULL, bytes), *n = kc_put(k, c, NULL, (size_t)s->G * sizeof *n), *host = kc_host(k, (size_t)s->G * sizeof *n);
            kc_rc(k, c, "cache", c->ops->cache_positions(c->dev, &(struct kvt_positions_args){cache, b, l, dev, n, s->max}), "positions");
            kc_get(k, c, at, dev, bytes);
            kc_get(k, c, host, n, (size_t)s->G * sizeof *n);
            kc_same(k, c, "cache", count + l * s->G, host, (size_t)s->G * sizeof *n, "lengths and positions agree");
            for (int g = 0; g < s->G; g++) {
                float *to = kv + ((size_t)(b * s->L + l) * (size_t)s->G + (size_t)g) * s->cell;
                kc_rc(k, c, "cache", c->ops->cache_peek(c->dev, cache, b, l, g, to, to + s->max * s->D), "peek");
            }
        }
    }
}

/* Random appends, keeps, removals, forks and drops. state travels with the slots. */
static void play(struct kc *k, struct kc_cand *c, const struct script *s, float *kv, int32_t *pos, float *state, struct kvt_cache_bytes *bytes)
{
    uint64_t r = s->seed;
    struct kvt_cache_opts o = {.L = s->L, .G = s->G, .D = s->D, .max_branch = s->B, .max_slots = s->max, .type = s->type};
    struct kvt_cache *cache = NULL;
    kc_rc(k, c, "cache", c->ops->cache_open(c->dev, &cache, &o, NULL), "open");
    int32_t *n = kc_host(k, (size_t)(s->L * s->G) * sizeof *n), *branch = kc_host(k, (size_t)s->max * sizeof *branch);
    int32_t *where = kc_host(k, (size_t)s->max * sizeof *where), *slot = kc_host(k, (size_t)(s->G * s->max) * sizeof *slot), *count = kc_host(k, (size_t)s->G * sizeof *count);
    size_t slot_bytes = (size_t)(s->G * s->max) * sizeof *slot, count_bytes = (size_t)s->G * sizeof *count;
    int seen = 0;
    for (int step = 0; step < 60; step++) {
        int b = (int)(next(&r) % (uint32_t)s->B), l = (int)(next(&r) % (uint32_t)s->L), what = (int)(next(&r) % 8);
        c->ops->cache_lengths(c->dev, cache, b, n);
        int most = 0, all = 0;
        for (int i = 0; i < s->L * s->G; i++) {
            all += n[i];
            most = i / s->G == l && n[i] > most ? n[i] : most;
        }
        if (what < 3) {
            int rows = 1 + (int)(next(&r) % 40), from = (int)(next(&r) % 20);
            if (most + rows > s->max)
                continue;
            for (int t = 0; t < rows; t++) {
                branch[t] = b;
                where[t] = seen++;
            }
            const float *key = kc_put_shifted(k, c, s->k + from * s->G * s->D, (size_t)(rows * s->G * s->D) * sizeof *key, 4);
            const float *value = kc_put_shifted(k, c, s->v + from * s->G * s->D, (size_t)(rows * s->G * s->D) * sizeof *key, 4);
            struct kvt_append_args a = {cache, l, rows, key, value, branch, where};
            kc_rc(k, c, "cache", c->ops->cache_append(c->dev, &a), "append %d", rows);
        } else if (what < 5) {
            uint32_t share = next(&r) % 5 * 25, whole = next(&r) % 2; /* of slots, or of whole pages */
            for (int g = 0; g < s->G; g++) {
                bool in = true;
                count[g] = 0;
                for (int i = 0; i < n[l * s->G + g]; i++) {
                    if (!whole || i % 16 == 0)
                        in = next(&r) % 100 < share;
                    if (in)
                        slot[g * s->max + count[g]++] = i;
                }
            }
            struct kvt_keep_args a = {cache, b, l, kc_put(k, c, slot, slot_bytes), kc_put(k, c, count, count_bytes), s->max};
            kc_rc(k, c, "cache", c->ops->cache_keep(c->dev, &a), "keep");
        } else if (what < 7) {
            size_t bytes_ = (size_t)(s->G * s->max) * sizeof *state;
            float *dev = kc_put(k, c, state, bytes_);
            for (int g = 0; g < s->G; g++) {
                int at = n[l * s->G + g];
                for (count[g] = 0; at > 0 && count[g] < 5; count[g]++) {
                    at -= 1 + (int)(next(&r) % 7);
                    if (at < 0)
                        break;
                    slot[g * s->max + count[g]] = at;
                }
            }
            struct kvt_remove_args a = {cache, b, l, kc_put(k, c, slot, slot_bytes), kc_put(k, c, count, count_bytes), s->max, dev, s->max};
            kc_rc(k, c, "cache", c->ops->cache_remove(c->dev, &a), "remove");
            kc_get(k, c, state, dev, bytes_);
        } else {
            int to = (b + 1) % s->B;
            if (to == b)
                continue;
            c->ops->cache_drop(c->dev, cache, to);
            if (all)
                kc_rc(k, c, "cache", c->ops->cache_fork(c->dev, cache, b, to), "fork");
        }
    }
    trace(k, c, s, cache, kv, pos);
    for (int b = 0; b < s->B; b++) {
        c->ops->cache_bytes(c->dev, cache, b, &bytes[b]);
        bytes[b].tables = 0; /* a backend's own affair */
    }
    for (int b = 0; b < s->B; b++)
        c->ops->cache_drop(c->dev, cache, b);
    struct kvt_cache_bytes none;
    c->ops->cache_bytes(c->dev, cache, 0, &none);
    kc_that(k, c, "cache", none.held == 0, "%zu bytes held after all was dropped", none.held);
    c->ops->cache_close(c->dev, &cache);
}

static void check_pages(struct kc *k)
{
    static const enum kvt_dtype types[] = {KVT_F16, KVT_F32, KVT_BF16};
    for (int turn = 0; turn < 24; turn++) {
        if (kc_skip(k))
            continue;
        struct script s = {.L = 1 + turn % 2, .G = 1 + turn % 3, .D = turn % 4 == 3 ? 12 : 64, .B = 1 + turn % 4, .max = 150,
                           .type = types[turn % 3], .seed = kc_u64(k) | 1};
        size_t rows = (size_t)(64 * s.G * s.D), cells = (size_t)(s.B * s.L * s.G);
        float *key = floats(k, rows), *value = floats(k, rows);
        kc_fill(k, key, rows, (enum kc_fill_kind)(turn % KC_N_FILL));
        kc_fill(k, value, rows, KC_NORMAL);
        s.k = key;
        s.v = value;
        s.cell = (size_t)(2 * s.max * s.D);
        float *kv[2] = {floats(k, cells * s.cell), floats(k, cells * s.cell)}, *state[2];
        int32_t *pos[2] = {kc_host(k, cells * (size_t)s.max * 4), kc_host(k, cells * (size_t)s.max * 4)};
        struct kvt_cache_bytes bytes[2][4] = {0};
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            int w = i >= 0;
            state[w] = floats(k, (size_t)(s.G * s.max));
            for (int j = 0; j < s.G * s.max; j++)
                state[w][j] = (float)j;
            memset(kv[w], 0, cells * s.cell * sizeof(float));
            play(k, c, &s, kv[w], pos[w], state[w], bytes[w]);
            if (w) {
                kc_same(k, c, "cache", kv[0], kv[1], cells * s.cell * sizeof(float), "K and V, %s D=%d B=%d", kvt_dtypes[s.type].name, s.D, s.B);
                kc_same(k, c, "cache", pos[0], pos[1], cells * (size_t)s.max * 4, "positions, B=%d", s.B);
                kc_same(k, c, "cache", state[0], state[1], (size_t)(s.G * s.max) * sizeof(float), "state, B=%d", s.B);
                for (int b = 0; c->ops != &kvt_ops_cpu && b < s.B; b++) { /* others may hold new and old pages of a layer at once for a while */
                    size_t more = (size_t)(s.G * (s.max / KVT_PAGE_SLOTS + 1) * 2 * KVT_PAGE_SLOTS * s.D) * (s.type == KVT_F32 ? 4 : 2);
                    kc_that(k, c, "cache", bytes[1][b].peak >= bytes[0][b].peak && bytes[1][b].peak <= bytes[0][b].peak + more,
                            "peak %zu, ref's is %zu", bytes[1][b].peak, bytes[0][b].peak);
                    bytes[1][b].peak = bytes[0][b].peak;
                }
                kc_same(k, c, "cache", bytes[0], bytes[1], (size_t)s.B * sizeof bytes[0][0], "bytes, B=%d", s.B);
            }
            kc_end_cand(k, c, "cache");
        }
        kc_end_case(k, "cache");
    }
}

/* ---- reductions ---- */

static void check_reductions(struct kc *k)
{
    for (int turn = 0; turn < 30; turn++) {
        if (kc_skip(k))
            continue;
        int G = kc_int(k, 1, 4), per = kc_int(k, 1, 5), H = G * per, n = kc_int(k, 1, 90), ld = n + kc_int(k, 0, 20);
        size_t in_n = (size_t)(H * ld), bytes = in_n * sizeof(float);
        float *in = floats(k, in_n), *base = floats(k, in_n), *want = floats(k, in_n), *got = floats(k, in_n);
        kc_fill(k, in, in_n, (enum kc_fill_kind)(turn % KC_N_FILL));
        kc_fill(k, base, in_n, KC_UNIFORM);
        int32_t seg[9] = {0};
        for (int i = 1; i < 9; i++)
            seg[i] = seg[i - 1] + (i == 4 ? 0 : kc_int(k, 0, (n - seg[i - 1]) / 2));
        for (int op = 0; op < 4; op++)
            for (int i = -1; i < k->n_cand; i++) {
                struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
                const float *din = kc_put_shifted(k, c, in, bytes, 4);
                float *out = kc_put_shifted(k, c, base, bytes, 8);
                static const char *const name[] = {"group", "pool", "combine", "segment_mean"};
                int rc = 0;
                if (op == 0)
                    rc = c->ops->group(c->dev, &(struct kvt_group_args){din, out, H, G, n, ld, (enum kvt_group)(turn % 3)});
                else if (op == 1)
                    rc = c->ops->pool(c->dev, &(struct kvt_pool_args){din, out, H, ld, n / 7, n, 1 + 2 * (turn % 5), (enum kvt_pool)(turn % 3)});
                else if (op == 2)
                    rc = c->ops->combine(c->dev, &(struct kvt_combine_args){din, out, H, ld, n, 0.37f, turn % 2 == 0, turn % 3 == 0, turn % 4 < 2});
                else
                    rc = c->ops->segment_mean(c->dev, &(struct kvt_segment_mean_args){din, kc_put(k, c, seg, sizeof seg), out, H < 2 ? 1 : H / 2, ld, 8 < ld ? 8 : 1, (enum kvt_reduce)(turn % 3)});
                kc_rc(k, c, name[op], rc, "H=%d G=%d n=%d ld=%d", H, G, n, ld);
                kc_get(k, c, i < 0 ? want : got, out, bytes);
                if (i >= 0)
                    kc_same(k, c, name[op], want, got, bytes, "H=%d G=%d n=%d ld=%d turn=%d", H, G, n, ld, turn);
            }
        kc_end_case(k, "reductions");
    }
    /* methods.md 0.6: an average counts the padding's zeros */
    for (int i = 0; i < k->n_cand; i++) {
        struct kc_cand *c = &k->cand[i];
        static const float in[5] = {1, 2, 3, 4, 5}, avg[5] = {1, 2, 3, 4, 3}, max[5] = {2, 3, 4, 5, 5};
        for (int m = 0; m < 2; m++) {
            float *out = kc_put(k, c, NULL, sizeof in), got[5];
            kc_rc(k, c, "pool", c->ops->pool(c->dev, &(struct kvt_pool_args){kc_put(k, c, in, sizeof in), out, 1, 5, 0, 5, 3, m ? KVT_POOL_MAX : KVT_POOL_AVG}), "1..5");
            kc_get(k, c, got, out, sizeof got);
            kc_same(k, c, "pool", m ? max : avg, got, sizeof got, "1..5 at 3, %s", m ? "max" : "avg");
        }
    }
    kc_end_case(k, "pool");
}

/* ---- selection ---- */

void kc_fill_scores(struct kc *k, float *score, size_t n, int kind)
{
    for (size_t i = 0; i < n; i++) {
        score[i] = kind == 0 ? kc_uniform(k, -1, 1) : kind == 1 ? (float)kc_int(k, 0, 4) : kind == 2 ? 0.5f : kc_uniform(k, 0, 1);
        if (kind == 3) { /* what a broken method may hand over */
            int odd = kc_int(k, 0, 9);
            score[i] = odd == 0 ? NAN : odd == 1 ? -INFINITY : odd == 2 ? INFINITY : odd == 3 ? -0.0f : odd == 4 ? 0.0f : score[i];
        }
    }
}

static void check_topk(struct kc *k)
{
    for (int turn = 0; turn < 60; turn++) {
        if (kc_skip(k))
            continue;
        bool is_long = turn == 31 || turn == 33; /* a backend may have another way for long rows: with NaN and pos; with ties */
        int R = kc_int(k, 1, 4), ld = is_long ? 5000 : turn % 9 == 8 ? 700 : kc_int(k, 1, 90), kind = turn % 4;
        size_t n_all = (size_t)(R * ld), ints = n_all * 4;
        float *score = floats(k, n_all);
        uint8_t *protect = kc_host(k, n_all);
        int32_t *pos = kc_host(k, ints), budget[4], n[4];
        kc_fill_scores(k, score, n_all, kind);
        for (size_t i = 0; i < n_all; i++) {
            protect[i] = (uint8_t)(kc_int(k, 0, 5) ? 0 : kc_int(k, 0, 1) ? KVT_KEPT_WINDOW : KVT_KEPT_PROTECTED);
            pos[i] = (int32_t)((i % (size_t)ld * 7919 + 13) % 7927); /* distinct, not in order */
        }
        for (int r = 0; r < R; r++) {
            n[r] = kc_int(k, 0, ld);
            budget[r] = kc_int(k, 0, ld + 3);
        }
        int32_t *kept[2], *left[2], counts[2][8];
        uint8_t *reason[2];
        float threshold[2][4];
        for (int w = 0; w < 2; w++) {
            kept[w] = kc_host(k, ints);
            left[w] = kc_host(k, ints);
            reason[w] = kc_host(k, n_all);
        }
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            int w = i >= 0;
            size_t rows = (size_t)R * 4;
            struct kvt_topk_args a = {
                .score = kc_put_shifted(k, c, score, ints, 4), .protect = turn % 2 ? kc_put(k, c, protect, n_all) : NULL,
                .pos = turn % 3 ? kc_put(k, c, pos, ints) : NULL, .budget = kc_put(k, c, budget, rows), .n = kc_put(k, c, n, rows),
                .R = R, .ld = ld, .kept = kc_put(k, c, NULL, ints), .left = kc_put(k, c, NULL, ints), .n_kept = kc_put(k, c, NULL, rows),
                .n_left = kc_put(k, c, NULL, rows), .reason = kc_put(k, c, NULL, n_all), .threshold = kc_put(k, c, NULL, rows),
            };
            kc_rc(k, c, "topk", c->ops->topk(c->dev, &a), "ld=%d", ld);
            kc_get(k, c, kept[w], a.kept, ints);
            kc_get(k, c, left[w], a.left, ints);
            kc_get(k, c, counts[w], a.n_kept, rows);
            kc_get(k, c, counts[w] + 4, a.n_left, rows);
            kc_get(k, c, reason[w], a.reason, n_all);
            kc_get(k, c, threshold[w], a.threshold, rows);
            if (w) {
                kc_same(k, c, "topk", kept[0], kept[1], ints, "kept, ld=%d scores=%d", ld, kind);
                kc_same(k, c, "topk", left[0], left[1], ints, "left, ld=%d scores=%d", ld, kind);
                kc_same(k, c, "topk", counts[0], counts[1], rows, "n_kept, ld=%d", ld);
                kc_same(k, c, "topk", counts[0] + 4, counts[1] + 4, rows, "n_left, ld=%d", ld);
                kc_same(k, c, "topk", reason[0], reason[1], n_all, "reason, ld=%d", ld);
                for (int r = 0; r < R; r++)
                    kc_that(k, c, "topk", threshold[0][r] == threshold[1][r] || (isnan(threshold[0][r]) && isnan(threshold[1][r])),
                            "threshold %g, not %g", (double)threshold[1][r], (double)threshold[0][r]);
                /* the contract itself, whatever ref says */
                for (int r = 0; r < R; r++) {
                    int safe = 0;
                    for (int j = 0; turn % 2 && j < n[r]; j++)
                        safe += protect[r * ld + j] != 0;
                    int should = budget[r] > n[r] ? n[r] : budget[r] > safe ? budget[r] : safe;
                    kc_that(k, c, "topk", counts[1][r] == should && counts[1][r] + counts[1][4 + r] == n[r], "keeps %d of %d, budget %d", counts[1][r], n[r], budget[r]);
                    for (int j = 1; j < counts[1][4 + r]; j++)
                        kc_that(k, c, "topk", left[1][r * ld + j] < left[1][r * ld + j - 1], "left descends");
                }
            }
        }
        kc_end_case(k, "topk");
    }
}

/* As steps ask it: one slot too many, and only who leaves. */
static void check_topk_step(struct kc *k)
{
    for (int turn = 0; turn < 60; turn++) {
        if (kc_skip(k))
            continue;
        int R = kc_int(k, 1, 4), ld = kc_int(k, 1, 90);
        size_t n_all = (size_t)(R * ld), ints = n_all * 4, rows = (size_t)R * 4;
        float *score = floats(k, n_all);
        uint8_t *protect = kc_host(k, n_all);
        int32_t *pos = kc_host(k, ints), budget[4], n[4], *left[2] = {kc_host(k, ints), kc_host(k, ints)}, gone[2][4];
        kc_fill_scores(k, score, n_all, turn % 4);
        for (size_t i = 0; i < n_all; i++) {
            protect[i] = (uint8_t)(kc_int(k, 0, turn % 7) ? KVT_KEPT_WINDOW : 0);
            pos[i] = (int32_t)((i % (size_t)ld * 7919 + 13) % 7927);
        }
        for (int r = 0; r < R; r++) {
            n[r] = kc_int(k, 0, ld);
            budget[r] = n[r] - 1;
        }
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            int w = i >= 0;
            struct kvt_topk_args a = {.score = kc_put(k, c, score, ints), .protect = turn % 2 ? kc_put(k, c, protect, n_all) : NULL,
                                      .pos = turn % 3 ? kc_put(k, c, pos, ints) : NULL, .budget = kc_put(k, c, budget, rows),
                                      .n = kc_put(k, c, n, rows), .R = R, .ld = ld, .left = kc_put(k, c, NULL, ints),
                                      .n_left = kc_put(k, c, NULL, rows)};
            kc_rc(k, c, "topk", c->ops->topk(c->dev, &a), "ld=%d", ld);
            kc_get(k, c, left[w], a.left, ints);
            kc_get(k, c, gone[w], a.n_left, rows);
            kc_same(k, c, "topk", gone[0], gone[w], rows, "n_left of a step, ld=%d case %d", ld, turn);
            kc_same(k, c, "topk", left[0], left[w], ints, "left of a step, ld=%d case %d", ld, turn);
        }
        kc_end_case(k, "topk");
    }
}

static void check_units(struct kc *k)
{
    for (int turn = 0; turn < 80; turn++) {
        if (kc_skip(k))
            continue;
        int R = kc_int(k, 1, 3), S = kc_int(k, 1, 12), n = kc_int(k, 20, 120), ld = n + kc_int(k, 0, 9), kind = turn % 4;
        size_t n_all = (size_t)(R * ld), ints = n_all * 4, units = (size_t)(R * S), rows = (size_t)R * 4;
        float *score = floats(k, units), threshold[2][3];
        uint8_t *protect = kc_host(k, n_all), candidate[12], *reason[2], *unit[2];
        int32_t seg[13], budget[3], *kept[2], counts[2][3];
        kc_fill_scores(k, score, units, kind);
        seg[0] = kc_int(k, 0, 5);
        for (int i = 1; i <= S; i++) {
            int room = (n - seg[i - 1]) / 3;
            seg[i] = seg[i - 1] + kc_int(k, 0, room);
            candidate[i - 1] = kc_int(k, 0, 3) != 0;
        }
        for (size_t i = 0; i < n_all; i++)
            protect[i] = kc_int(k, 0, 6) ? 0 : KVT_KEPT_WINDOW;
        for (int r = 0; r < R; r++)
            budget[r] = kc_int(k, 0, n + 5);
        for (int w = 0; w < 2; w++) {
            kept[w] = kc_host(k, ints);
            reason[w] = kc_host(k, n_all);
            unit[w] = kc_host(k, units);
        }
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            int w = i >= 0;
            struct kvt_pick_units_args a = {
                .score = kc_put(k, c, score, units * 4), .seg = kc_put(k, c, seg, (size_t)(S + 1) * 4),
                .candidate = turn % 2 ? kc_put(k, c, candidate, (size_t)S) : NULL, .protect = turn % 3 ? kc_put(k, c, protect, n_all) : NULL,
                .budget = kc_put(k, c, budget, rows), .max_units = turn % 5 ? -1 : S / 2, .min_units = turn % 7 == 0,
                .overflow = (enum kvt_overflow)(turn / 2 % 3), .R = R, .S = S, .n = n, .ld = ld, .kept = kc_put(k, c, NULL, ints),
                .n_kept = kc_put(k, c, NULL, rows), .unit_kept = kc_put(k, c, NULL, units), .reason = kc_put(k, c, NULL, n_all),
                .threshold = kc_put(k, c, NULL, rows),
            };
            kc_rc(k, c, "pick_units", c->ops->pick_units(c->dev, &a), "S=%d", S);
            kc_get(k, c, kept[w], a.kept, ints);
            kc_get(k, c, counts[w], a.n_kept, rows);
            kc_get(k, c, reason[w], a.reason, n_all);
            kc_get(k, c, unit[w], a.unit_kept, units);
            kc_get(k, c, threshold[w], a.threshold, rows);
            if (!w)
                continue;
            kc_same(k, c, "pick_units", kept[0], kept[1], ints, "kept, S=%d scores=%d", S, kind);
            kc_same(k, c, "pick_units", counts[0], counts[1], rows, "n_kept, S=%d", S);
            kc_same(k, c, "pick_units", reason[0], reason[1], n_all, "reason, S=%d", S);
            kc_same(k, c, "pick_units", unit[0], unit[1], units, "unit_kept, S=%d", S);
            for (int r = 0; r < R; r++) { /* the contract: within the budget unless what must stay is more */
                int must = n, whole = 1;
                for (int s = 0; s < S; s++)
                    for (int j = seg[s]; j < seg[s + 1]; j++) {
                        bool free_slot = (!a.candidate || candidate[s]) && !(a.protect && protect[r * ld + j]);
                        must -= free_slot;
                        whole &= !free_slot || (reason[1][r * ld + j] == reason[1][r * ld + seg[s + 1] - 1] || (a.protect && protect[r * ld + seg[s + 1] - 1]));
                    }
                int limit = budget[r] > must ? budget[r] : must;
                kc_that(k, c, "pick_units", a.max_units >= 0 || a.min_units || counts[1][r] <= limit, "keeps %d, budget %d", counts[1][r], limit);
                kc_that(k, c, "pick_units", whole, "row %d breaks a unit", r);
            }
        }
        kc_end_case(k, "pick_units");
    }
}

static void check(struct kc *k)
{
    check_pages(k);
    kc_check_limit(k);
    check_reductions(k);
    check_topk(k);
    check_topk_step(k);
    check_units(k);
    kc_check_pick(k);
}

/* ---- sabotage ---- */

static int wrong_append(struct kvt_dev *dev, const struct kvt_append_args *a)
{
    struct kvt_append_args b = *a;
    b.v = a->k;
    return kvt_ops_cpu.cache_append(dev, &b);
}

static int wrong_remove(struct kvt_dev *dev, const struct kvt_remove_args *a)
{
    struct kvt_remove_args b = *a;
    b.state = NULL;
    return kvt_ops_cpu.cache_remove(dev, &b);
}

static int wrong_bytes(struct kvt_dev *dev, struct kvt_cache *cache, int branch, struct kvt_cache_bytes *out)
{
    int rc = kvt_ops_cpu.cache_bytes(dev, cache, branch, out);
    out->own = out->alone;
    return rc;
}

static int wrong_peak(struct kvt_dev *dev, struct kvt_cache *cache, int branch, struct kvt_cache_bytes *out)
{
    int rc = kvt_ops_cpu.cache_bytes(dev, cache, branch, out);
    out->peak = out->held;
    return rc;
}

static int wrong_held(struct kvt_dev *dev, struct kvt_cache *cache, int branch, struct kvt_cache_bytes *out)
{
    int rc = kvt_ops_cpu.cache_bytes(dev, cache, branch, out);
    out->held += out->alone - out->own; /* pages that others hold too count once more */
    return rc;
}

static int wrong_ties(struct kvt_dev *dev, const struct kvt_topk_args *a)
{
    struct kvt_topk_args b = *a;
    b.pos = NULL;
    return kvt_ops_cpu.topk(dev, &b);
}

static int wrong_overflow(struct kvt_dev *dev, const struct kvt_pick_units_args *a)
{
    struct kvt_pick_units_args b = *a;
    b.overflow = KVT_OVERFLOW_SKIP;
    return kvt_ops_cpu.pick_units(dev, &b);
}

static int wrong_pool(struct kvt_dev *dev, const struct kvt_pool_args *a)
{
    struct kvt_pool_args b = *a;
    b.width = a->width > 1 ? a->width - 2 : 1;
    return kvt_ops_cpu.pool(dev, &b);
}

static int wrong_group(struct kvt_dev *dev, const struct kvt_group_args *a)
{
    struct kvt_group_args b = *a;
    b.n = a->n - 1;
    return kvt_ops_cpu.group(dev, &b);
}

static int wrong_combine(struct kvt_dev *dev, const struct kvt_combine_args *a)
{
    struct kvt_combine_args b = *a;
    b.visible_mean = false;
    return kvt_ops_cpu.combine(dev, &b);
}

static int wrong_segments(struct kvt_dev *dev, const struct kvt_segment_mean_args *a)
{
    int rc = kvt_ops_cpu.segment_mean(dev, a);
    for (int i = 0; i < a->R * a->S; i++)
        a->out[i] = a->out[i] == -INFINITY ? 0 : a->out[i]; /* an empty segment would win */
    return rc;
}

static const char *sabotage(struct kvt_ops *ops, int i)
{
    switch (i) {
    case 0: ops->cache_append = wrong_append; return "cache_append: keys as values";
    case 1: ops->cache_remove = wrong_remove; return "cache_remove: the state stays behind";
    case 2: ops->cache_bytes = wrong_bytes; return "cache_bytes: shared pages counted as own";
    case 3: ops->topk = wrong_ties; return "topk: ties fall by slot, not by position";
    case 4: ops->pick_units = wrong_overflow; return "pick_units: goes on after the first that doesn't fit";
    case 5: ops->pool = wrong_pool; return "pool: narrower";
    case 6: ops->group = wrong_group; return "group: misses the last column";
    case 7: ops->combine = wrong_combine; return "combine: no visible mean";
    case 8: ops->segment_mean = wrong_segments; return "segment_mean: an empty segment is 0";
    case 9: ops->cache_bytes = wrong_peak; return "cache_bytes: the peak is what is held now";
    case 10: ops->cache_bytes = wrong_held; return "cache_bytes: shared pages held twice";
    default: return kc_sabotage_pick(ops, i - 11);
    }
}

/* ---- bench ---- */

struct timed {
    struct kc_cand *c;
    struct kvt_topk_args topk;
    struct kvt_append_args append;
    struct kvt_keep_args keep;
    struct kvt_cache *cache;
};
static void run_topk(void *arg) { struct timed *t = arg; t->c->ops->topk(t->c->dev, &t->topk); }
static void run_append(void *arg)
{
    struct timed *t = arg;
    t->c->ops->cache_append(t->c->dev, &t->append);
    t->c->ops->cache_drop(t->c->dev, t->cache, 0);
}
static void run_keep(void *arg)
{
    struct timed *t = arg;
    t->c->ops->cache_append(t->c->dev, &t->append);
    t->c->ops->cache_keep(t->c->dev, &t->keep);
    t->c->ops->cache_drop(t->c->dev, t->cache, 0);
}

static void bench(struct kc *k)
{
    kc_bench_pick(k);
    enum { G = 3, D = 64, N = 8192, T = 1150 };
    for (int i = 0; i < k->n_cand; i++) {
        struct kc_cand *c = &k->cand[i];
        float *score = floats(k, G * N), *kv = floats(k, T * G * D);
        int32_t budget[G], n[G], *slot = kc_host(k, G * T * 4), count[G], *branch = kc_host(k, T * 4), *pos = kc_host(k, T * 4);
        kc_fill(k, score, G * N, KC_NORMAL);
        kc_fill(k, kv, T * G * D, KC_NORMAL);
        for (int g = 0; g < G; g++) {
            budget[g] = N / 4;
            n[g] = N;
            count[g] = T / 4;
            for (int j = 0; j < T / 4; j++)
                slot[g * T + j] = 4 * j;
        }
        for (int t = 0; t < T; t++)
            pos[t] = t;
        struct timed t = {.c = c, .topk = {.score = kc_put(k, c, score, G * N * 4), .budget = kc_put(k, c, budget, sizeof budget), .n = kc_put(k, c, n, sizeof n), .R = G, .ld = N, .kept = kc_put(k, c, NULL, G * N * 4), .left = kc_put(k, c, NULL, G * N * 4)}};
        struct kvt_cache_opts o = {.L = 1, .G = G, .D = D, .max_branch = 1, .max_slots = T, .type = KVT_F16};
        if (!kc_rc(k, c, "cache", c->ops->cache_open(c->dev, &t.cache, &o, NULL), "open"))
            return;
        t.append = (struct kvt_append_args){t.cache, 0, T, kc_put(k, c, kv, T * G * D * 4), kc_put(k, c, kv, T * G * D * 4), branch, pos};
        t.keep = (struct kvt_keep_args){t.cache, 0, 0, kc_put(k, c, slot, G * T * 4), kc_put(k, c, count, sizeof count), T};
        kc_line(k, c, "topk", "3 x 8192, a quarter", kc_time(c, run_topk, &t), 0, 0);
        double append = kc_time(c, run_append, &t);
        kc_line(k, c, "cache_append", "1150 rows x 3 heads", append, 0, 2.0 * T * G * D * 6);
        kc_line(k, c, "cache_keep", "287 of 1150 x 3 heads", kc_time(c, run_keep, &t) - append, 0, 0);
        c->ops->cache_close(c->dev, &t.cache);
        kc_end_case(k, "cache");
    }
}

const struct kc_subject kc_cache = {"cache", check, bench, sabotage};

/* attn, timed: SmolLM2's shape, 30 layers; prefills with nothing seen, with what a trace sees, and with what methods need. */
#include <string.h>

#include "tests/kerncheck/kerncheck.h"

struct timed {
    struct kc_cand *c;
    struct kvt_attn_args a;
    int L;
};
static void run_layers(void *arg)
{
    struct timed *t = arg;
    for (t->a.layer = 0; t->a.layer < t->L; t->a.layer++)
        t->c->ops->attn(t->c->dev, &t->a);
}

enum seen { NOTHING, TRACED, METHODS, ROW };
/* Where the positions of a decode row's slots lie: one after the other; renumbered, after 4 sinks in a ring (StreamingLLM), or with a gap
 * after each third, so that hardly two neighbours turn alike (TreeKV after many tokens). */
enum lie { PLAIN, RING, GAPS };
static int32_t lies(enum lie lie, int i, int n)
{
    return lie == PLAIN || i < 4 ? i : lie == GAPS ? i + i / 3 : n / 2 + (i - 4 + n / 3) % (n - 4);
}

static void bench_shape(struct kc *k, struct kc_cand *c, int T, int B, int n_lo, int n_hi, enum seen seen, enum lie lie, const char *what)
{
    enum { H = 9, G = 3, D = 64, L = 30 };
    if (k->match && !strstr(what, k->match))
        return;
    struct kvt_cache_opts o = {.L = L, .G = G, .D = D, .max_branch = B, .max_slots = n_hi + 1, .type = KVT_F16};
    struct kvt_cache *cache = NULL;
    if (!kc_rc(k, c, "attn", c->ops->cache_open(c->dev, &cache, &o, NULL), "cache_open"))
        return;
    int most = n_hi > T ? n_hi : T;
    int32_t *branch = kc_host(k, (size_t)most * sizeof *branch), *pos = kc_host(k, (size_t)most * sizeof *pos);
    float *q = kc_host(k, (size_t)(T * H * D) * sizeof *q), *kv = kc_host(k, (size_t)(n_hi * G * D) * sizeof *kv);
    kc_fill(k, q, (size_t)(T * H * D), KC_NORMAL);
    kc_fill(k, kv, (size_t)(n_hi * G * D), KC_NORMAL);
    const float *rows = kc_put(k, c, kv, (size_t)(n_hi * G * D) * sizeof *kv);
    double slots = 0;
    for (int i = 0; i < n_hi; i++)
        pos[i] = lies(lie, i, n_hi);
    for (int b = 0; b < B; b++) {
        int n = B > 1 ? n_lo + (n_hi - n_lo) * b / (B - 1) : n_hi;
        slots += n;
        for (int i = 0; i < n; i++)
            branch[i] = b;
        for (int l = 0; l < L; l++)
            c->ops->cache_append(c->dev, &(struct kvt_append_args){cache, l, n, rows, rows, branch, pos});
    }
    for (int t = 0; t < T; t++) {
        branch[t] = B > 1 ? t : 0;
        pos[t] = T > 1 && B == 1 ? t : 2 * n_hi;
    }
    float *col[11];
    for (int i = 0; i < 11; i++)
        col[i] = kc_put(k, c, NULL, (size_t)(H * n_hi) * sizeof(float));
    struct kvt_see see = {.ld = n_hi, .n_rows = n_hi, .mass = col[0], .n_windows = 2, .window = {32, 8}, .wmass = {col[1], col[2]},
                          .last = col[3], .entropy = col[4], .sink = kc_put(k, c, NULL, (size_t)(H * n_hi) * sizeof(float)), .n_sink = 4,
                          .R = 64, .C = 64, .pool_mean = kc_put(k, c, NULL, H * 4096 * sizeof(float)),
                          .pool_max = kc_put(k, c, NULL, H * 4096 * sizeof(float))};
    int32_t unit[64];
    for (int i = 0; i < 64; i++)
        unit[i] = (i + 1) / 2 * n_hi / 33; /* 32 shots, one behind the other */
    struct kvt_see needs = {.ld = n_hi, .n_rows = n_hi, .mass = col[0], .n_windows = 2, .window = {32, 8}, .wmass = {col[1], col[2]},
                            .n_squares = 3, .square = {{.window = 8}, {.window = 0}, {.distance = 10}}, .sqmass = {col[5], col[6], col[7]}, .max = col[8],
                            .later = col[9], .unit = unit, .n_units = 32, .last = col[3]};
    struct kvt_see row = {.row_at = (const int32_t[]){0}, .row = kc_put(k, c, NULL, (size_t)(H * n_hi) * sizeof(float)), .row_ld = n_hi};
    float *table = kc_host(k, (size_t)(2 * n_hi + 1) * D * sizeof *table);
    kc_fill(k, table, (size_t)(2 * n_hi + 1) * D, KC_UNIFORM); /* its time doesn't depend on its angles */
    struct timed t = {c, {.cache = cache, .T = T, .H = H, .q = kc_put(k, c, q, (size_t)(T * H * D) * sizeof(float)),
                          .out = kc_put(k, c, NULL, (size_t)(T * H * D) * sizeof(float)), .branch = branch, .pos = pos,
                          .scale = 0.125f, .exact = B > 1 || T == 1, .see = seen == TRACED ? &see : seen == METHODS ? &needs : seen == ROW ? &row : NULL,
                          .renumber = lie == PLAIN ? NULL : (const uint8_t[]){1}, .rope = {kc_put(k, c, table, (size_t)(2 * n_hi + 1) * D * sizeof *table), 2 * n_hi + 1, D, true}}, L};
    double pairs = T > 1 && B == 1 ? 0.5 * T * (T + 1) : slots;
    kc_line(k, c, "attn", what, kc_time(c, run_layers, &t), 4.0 * pairs * H * D * L, T > 1 && B == 1 ? 0 : slots * G * D * 4.0 * L);
    c->ops->cache_close(c->dev, &cache);
    kc_end_case(k, "attn");
}

void kc_attn_bench(struct kc *k)
{
    for (int i = 0; i < k->n_cand; i++) {
        struct kc_cand *c = &k->cand[i];
        bench_shape(k, c, 1150, 1, 0, 1150, TRACED, PLAIN, "prefill 1150 x 30, all seen");
        bench_shape(k, c, 1150, 1, 0, 1150, METHODS, PLAIN, "prefill 1150 x 30, what methods need");
        bench_shape(k, c, 1150, 1, 0, 1150, NOTHING, PLAIN, "prefill 1150 x 30");
        bench_shape(k, c, 2048, 1, 0, 2048, TRACED, PLAIN, "prefill 2048 x 30, all seen");
        bench_shape(k, c, 2048, 1, 0, 2048, METHODS, PLAIN, "prefill 2048 x 30, what methods need");
        bench_shape(k, c, 2048, 1, 0, 2048, NOTHING, PLAIN, "prefill 2048 x 30");
        bench_shape(k, c, 25, 25, 115, 690, NOTHING, PLAIN, "25 rows x 402 slots x 30");
        bench_shape(k, c, 1, 1, 0, 2048, NOTHING, PLAIN, "1 row x 2048 slots x 30");
        bench_shape(k, c, 1, 1, 0, 8192, NOTHING, PLAIN, "1 row x 8192 slots x 30");
        bench_shape(k, c, 1, 1, 0, 2048, ROW, PLAIN, "1 row x 2048 slots x 30, handed over");
        bench_shape(k, c, 1, 1, 0, 2048, NOTHING, RING, "1 row x 2048 slots x 30, renumbered ring");
        bench_shape(k, c, 1, 1, 0, 2048, NOTHING, GAPS, "1 row x 2048 slots x 30, renumbered gaps");
    }
}

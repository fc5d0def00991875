/* Calls each operation once with the shapes of a large model's heads (bf16, 128 dims, four query heads a kv head; fewer heads and shorter
 * texts than there, since it runs on an emulation), for traffic.py to count what its kernels ask of the memory. Nothing is judged here.
 * usage: traffic BACKEND CASE [N]     CASE: decode, prefill, scores (N: slots); linear TYPE (N: rows); or a name of the list below */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/dev.h"
#include "kernels/ops.h"

enum { H = 8, G = 2, D = 128, E = 1024, F = 2048, V = 8192, LD = 1024 };

struct run {
    const struct kvt_ops *ops;
    struct kvt_dev *dev;
    int n; /* slots or rows */
    const char *type;
    uint64_t rng;
};

static void must(struct run *r, int rc, const char *what)
{
    if (!rc)
        return;
    fprintf(stderr, "traffic: %s: %s\n", what, kvt_dev_error(r->dev));
    exit(1);
}

static float uniform(struct run *r) /* [-1, 1) */
{
    r->rng = r->rng * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(r->rng >> 32) * 0x1p-31f;
}

/* Device memory, filled or 0; what is made lives until the program ends. */
static void *bytes(struct run *r, const void *host, size_t n)
{
    void *p = r->ops->alloc(r->dev, n);
    must(r, p ? host ? r->ops->write(r->dev, p, host, n) : 0 : -1, "memory");
    return p;
}
static float *floats(struct run *r, size_t n)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; x && i < n; i++)
        x[i] = uniform(r);
    float *p = bytes(r, x, n * sizeof *x);
    free(x);
    return p;
}
static float *zeros(struct run *r, size_t n) { return bytes(r, NULL, n * sizeof(float)); }
static int32_t *ints(struct run *r, int rows, int32_t value)
{
    int32_t x[256];
    for (int i = 0; i < rows; i++)
        x[i] = value;
    return bytes(r, x, (size_t)rows * sizeof *x);
}
static struct kvt_mat matrix(struct run *r, enum kvt_dtype type, int n, int k)
{
    size_t size = kvt_row_bytes(type, (size_t)k) * (size_t)n;
    unsigned char *x = malloc(size);
    for (size_t i = 0; x && i < size; i++)
        x[i] = 0x3c; /* sound scales of any type */
    struct kvt_mat w = {x, type, n, k};
    must(r, r->ops->weights(r->dev, &w), "weights");
    free(x);
    return w;
}
static struct kvt_rope rope(struct run *r, int n_pos) { return (struct kvt_rope){floats(r, (size_t)n_pos * D), n_pos, D, true}; }

/* A cache with n slots in each of B branches. */
static struct kvt_cache *cache(struct run *r, int B, int n)
{
    struct kvt_cache *c = NULL;
    struct kvt_err err;
    struct kvt_cache_opts o = {.L = 1, .G = G, .D = D, .max_branch = B + 1, .max_slots = n + 64, .type = KVT_BF16};
    must(r, r->ops->cache_open(r->dev, &c, &o, &err), "cache");
    int32_t *branch = calloc((size_t)n, sizeof *branch), *pos = calloc((size_t)n, sizeof *pos);
    const float *k = floats(r, (size_t)n * G * D), *v = floats(r, (size_t)n * G * D);
    for (int b = 0; b < B; b++) {
        for (int i = 0; i < n; i++)
            branch[i] = b, pos[i] = i;
        must(r, r->ops->cache_append(r->dev, &(struct kvt_append_args){c, 0, n, k, v, branch, pos}), "append");
    }
    free(branch);
    free(pos);
    return c;
}

/* A step of two branches, n slots each. */
static void decode(struct run *r)
{
    enum { B = 2 };
    struct kvt_cache *c = cache(r, B, r->n);
    const int32_t branch[B] = {0, 1}, pos[B] = {r->n, r->n};
    must(r, r->ops->attn(r->dev, &(struct kvt_attn_args){.cache = c, .T = B, .H = H, .q = floats(r, B * H * D), .out = zeros(r, B * H * D), .branch = branch,
                                                          .pos = pos, .scale = 0.088f, .exact = true}), "attn");
    printf("floor\t%zu\n", (size_t)B * ((size_t)r->n * G * D * 2 * 2 + 2 * H * D * sizeof(float))); /* live K, V, q, out */
}

/* A prompt of n tokens, without and with all that a trace and the methods ask for. */
static void prefill_with(struct run *r, bool seen)
{
    const int n = r->n;
    struct kvt_cache *c = cache(r, 1, n);
    int32_t *branch = calloc((size_t)n, sizeof *branch), *pos = calloc((size_t)n, sizeof *pos);
    for (int i = 0; i < n; i++)
        pos[i] = i;
    const size_t hn = (size_t)H * (size_t)n;
    const int32_t unit[4] = {0, n / 4, n / 4, n / 2};
    struct kvt_see see = {.ld = n, .n_rows = n, .mass = zeros(r, hn), .n_windows = 2, .window = {32, 8}, .wmass = {zeros(r, hn), zeros(r, hn)}, .n_squares = 2,
                          .square = {{.window = 8}, {.distance = 10}}, .sqmass = {zeros(r, hn), zeros(r, hn)}, .max = zeros(r, hn), .later = zeros(r, hn),
                          .unit = unit, .n_units = 2, .last = zeros(r, hn), .entropy = zeros(r, hn), .keys = zeros(r, hn), .sink = zeros(r, hn), .n_sink = 4,
                          .local = zeros(r, hn), .n_local = 64, .R = 32, .C = 32, .pool_mean = zeros(r, H * 1024), .pool_max = zeros(r, H * 1024)};
    must(r, r->ops->attn(r->dev, &(struct kvt_attn_args){.cache = c, .T = n, .H = H, .q = floats(r, hn * D), .out = zeros(r, hn * D), .branch = branch, .pos = pos,
                                                          .scale = 0.088f, .see = seen ? &see : NULL}), "attn");
    free(branch);
    free(pos);
}
static void prefill(struct run *r) { prefill_with(r, false); }
static void scores(struct run *r) { prefill_with(r, true); }

/* n rows of activations with a matrix. */
static void linear(struct run *r)
{
    enum kvt_dtype type = KVT_N_DTYPE;
    for (int t = 0; t < KVT_N_DTYPE; t++)
        if (!strcmp(kvt_dtypes[t].name, r->type))
            type = (enum kvt_dtype)t;
    if (type == KVT_N_DTYPE)
        exit(2);
    struct kvt_mat w = matrix(r, type, 256, F);
    must(r, r->ops->linear(r->dev, &(struct kvt_linear_args){.w = w, .in = floats(r, (size_t)r->n * F), .out = zeros(r, (size_t)r->n * 256), .T = r->n, .exact = true,
                                                              .compute = KVT_COMPUTE_BF16}), "linear");
    printf("floor\t%zu\n", kvt_row_bytes(type, F) * 256);
}

static void elem(struct run *r)
{
    enum { T = 8 };
    const struct kvt_ops *o = r->ops;
    int32_t token[T] = {1, 5, 9, 13}, base[T] = {0}, argmax[T];
    float top[T], kl[T], entropy[T];
    float *x = floats(r, T * F), *y = floats(r, T * F), *logits = floats(r, T * V);
    must(r, o->embed(r->dev, &(struct kvt_embed_args){matrix(r, KVT_BF16, 64, E), token, x, T}), "embed");
    must(r, o->norm(r->dev, &(struct kvt_norm_args){.in = x, .weight = y, .out = x, .eps = 1e-5f, .T = T, .E = E}), "norm");
    must(r, o->norm(r->dev, &(struct kvt_norm_args){.in = x, .weight = y, .out = x, .eps = 1e-5f, .T = T * H, .E = D}), "norm");
    must(r, o->rotate(r->dev, &(struct kvt_rotate_args){.x = x, .pos = ints(r, T, 3), .rope = rope(r, 16), .T = T, .heads = H, .D = D}), "rotate");
    must(r, o->glu(r->dev, &(struct kvt_glu_args){.gate = x, .up = y, .out = x, .T = T, .F = F}), "glu");
    must(r, o->add(r->dev, &(struct kvt_add_args){x, y, T * E, 1}), "add");
    must(r, o->scale(r->dev, &(struct kvt_scale_args){x, T * E, 2, 30}), "scale");
    must(r, o->logit_stats(r->dev, &(struct kvt_logit_stats_args){.logits = logits, .T = T, .V = V, .base = base, .argmax = argmax, .top_logprob = top, .kl = kl,
                                                                   .entropy = entropy}), "logit_stats");
}

static void cached(struct run *r)
{
    const struct kvt_ops *o = r->ops;
    struct kvt_cache *c = cache(r, 1, 512);
    int32_t slot[G * 512], few[G * 4] = {300, 20, 7, 1, 300, 20, 7, 1};
    for (int i = 0; i < G * 512; i++)
        slot[i] = i % 512 < 256 ? i % 512 * 2 : 0; /* every other */
    must(r, o->cache_fork(r->dev, c, 0, 1), "fork");
    must(r, o->cache_keep(r->dev, &(struct kvt_keep_args){c, 0, 0, bytes(r, slot, sizeof slot), ints(r, G, 256), 512}), "keep");
    must(r, o->cache_remove(r->dev, &(struct kvt_remove_args){c, 1, 0, bytes(r, few, sizeof few), ints(r, G, 4), 4, zeros(r, G * 600), 600}), "remove");
    must(r, o->cache_positions(r->dev, &(struct kvt_positions_args){c, 1, 0, bytes(r, NULL, sizeof slot), ints(r, G, 0), 512}), "positions");
    must(r, o->cache_drop(r->dev, c, 1), "drop");
}

static void chosen(struct run *r)
{
    enum { R = 4, S = 32 };
    const struct kvt_ops *o = r->ops;
    float *in = floats(r, H * LD), *out = zeros(r, H * LD);
    int32_t seg[S + 1], total = R * LD / 4, *kept = bytes(r, NULL, R * LD * 4), *n = ints(r, R, LD), *budget = ints(r, R, LD / 4), *counts = ints(r, R, 0);
    for (int s = 0; s <= S; s++)
        seg[s] = s * (LD / S);
    int32_t *segs = bytes(r, seg, sizeof seg);
    must(r, o->group(r->dev, &(struct kvt_group_args){in, out, H, G, LD, LD, KVT_GROUP_MEAN}), "group");
    must(r, o->pool(r->dev, &(struct kvt_pool_args){in, out, R, LD, 0, LD, 7, KVT_POOL_MAX}), "pool");
    must(r, o->combine(r->dev, &(struct kvt_combine_args){in, out, R, LD, LD, 1, true, false, false}), "combine");
    must(r, o->segment_mean(r->dev, &(struct kvt_segment_mean_args){in, segs, out, R, LD, S, KVT_REDUCE_MEAN}), "segment_mean");
    must(r, o->weigh(r->dev, &(struct kvt_weigh_args){in, out, out, R, LD, LD, 1e-6f}), "weigh");
    must(r, o->topk(r->dev, &(struct kvt_topk_args){.score = in, .budget = budget, .n = n, .R = R, .ld = LD, .kept = kept, .n_kept = counts}), "topk");
    must(r, o->topk_within(r->dev, &(struct kvt_topk_within_args){.score = in, .n = n, .R = R, .ld = LD, .within = 128, .num = 1, .den = 4, .kept = kept,
                                                                   .n_kept = counts}), "topk_within");
    for (int how = 0; how < 4; how++) {
        total = how == KVT_DIVIDE_PAGES ? R * LD / 4 / KVT_PAGE_SLOTS : R * LD / 4;
        must(r, o->divide(r->dev, &(struct kvt_divide_args){.score = in, .n = n, .total = bytes(r, &total, sizeof total), .R = R, .ld = LD, .per = R,
                                                             .how = (enum kvt_divide)how, .alpha_ppm = 200000, .budget = counts}), "divide");
    }
    for (int how = 0; how < 3; how++)
        must(r, o->pick_units(r->dev, &(struct kvt_pick_units_args){.score = in, .seg = segs, .budget = budget, .max_units = -1, .overflow = (enum kvt_overflow)how,
                                                                     .R = R, .S = S, .n = LD, .ld = LD, .kept = kept, .n_kept = counts}), "pick_units");
}

static void scored(struct run *r)
{
    const struct kvt_ops *o = r->ops;
    enum { N = 512, T = 128 };
    struct kvt_slots at = {cache(r, 1, N), 0, 0, N};
    float *out = zeros(r, H * N), *mean = zeros(r, H * D), *scatter = zeros(r, H * D * D);
    must(r, o->norms(r->dev, &(struct kvt_norms_args){at, out, zeros(r, G * N), N}), "norms");
    must(r, o->keydiff(r->dev, &(struct kvt_keydiff_args){at, out, N}), "keydiff");
    must(r, o->lag(r->dev, &(struct kvt_lag_args){at, 4, 64, false, out, N}), "lag");
    must(r, o->out_norms(r->dev, &(struct kvt_out_norms_args){at, matrix(r, KVT_BF16, 256, H * D), H, out, N}), "out_norms");
    must(r, o->query_stats(r->dev, &(struct kvt_query_stats_args){floats(r, T * H * D), T, H, D, 0, mean, scatter}), "query_stats");
    must(r, o->expected(r->dev, &(struct kvt_expected_args){at, H, 4, mean, scatter, T, rope(r, N + 64), N, 64, 0.088f, out, N}), "expected");
}

static void stepped(struct run *r)
{
    const struct kvt_ops *o = r->ops;
    enum { N = 512, S_LD = 528 };
    struct kvt_cache *c = cache(r, 1, N);
    float *row = floats(r, H * S_LD), *state = floats(r, G * S_LD);
    static const int32_t held[G] = {N - 1, N - 1}, n[G] = {N, N}, room[G] = {N - 1, N - 1}, recent[G] = {8, 8};
    must(r, o->accumulate(r->dev, &(struct kvt_accumulate_args){row, state, held, n, H, G, S_LD, S_LD, KVT_GROUP_MEAN, false}), "accumulate");
    must(r, o->contest(r->dev, &(struct kvt_contest_args){.score = state, .budget = ints(r, G, N - 1), .n = ints(r, G, N), .turn = ints(r, G, 7), .R = G, .ld = S_LD,
                                                           .left = bytes(r, NULL, G * S_LD * 4), .n_left = ints(r, G, 0)}), "contest");
    must(r, o->evict_one(r->dev, &(struct kvt_evict_one_args){.cache = c, .H = H, .row = row, .state = state, .row_ld = S_LD, .ld = S_LD, .added = 1,
                                                               .how = KVT_GROUP_MEAN, .pos = N - 1, .sinks = 4, .recent = recent, .budget = room,
                                                               .left = ints(r, G, 0)}), "evict_one");
}

static void lost(struct run *r)
{
    enum { N = 512, B = 2 };
    struct kvt_cache *c = cache(r, B + 1, N);
    const int32_t branch[B] = {1, 2};
    const float *own[B] = {floats(r, H * D), floats(r, H * D)};
    float gone[B * H], rest[B * H], local[B], propagated[B];
    must(r, r->ops->lost(r->dev, &(struct kvt_lost_args){c, 0, H, 0, floats(r, H * N), N, floats(r, H * D), B, branch, own, 4, gone, rest, local, propagated}), "lost");
}

static const struct {
    const char *name;
    void (*run)(struct run *r);
} cases[] = {{"decode", decode}, {"prefill", prefill}, {"scores", scores}, {"linear", linear}, {"elem", elem},
             {"cache", cached}, {"choose", chosen}, {"score", scored}, {"step", stepped}, {"lost", lost}};

int main(int argc, char **argv)
{
    struct run r = {.rng = 1, .n = 256};
    struct kvt_err err = {0};
    if (argc < 3 || kvt_ops_load(&r.ops, argv[1], &err)) {
        fprintf(stderr, "traffic: %s\n", argc < 3 ? "usage: traffic BACKEND CASE [TYPE] [N]" : err.text);
        return 2;
    }
    if (r.ops->open(&r.dev, &(struct kvt_dev_opts){0}, &err)) {
        fprintf(stderr, "traffic: %s\n", err.text);
        return 1;
    }
    const bool linear_case = !strcmp(argv[2], "linear");
    r.type = linear_case && argc > 3 ? argv[3] : "BF16";
    if (argc > 3 + linear_case)
        r.n = atoi(argv[3 + linear_case]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(argv[2], cases[i].name)) {
            cases[i].run(&r);
            r.ops->close(&r.dev);
            return 0;
        }
    fprintf(stderr, "traffic: no case '%s'\n", argv[2]);
    return 2;
}

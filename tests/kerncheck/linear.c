/* linear: every data type, with and without bias and accumulation, at sizes around every tile's edge; that a row's
 * bits don't depend on the rows beside it; and how fast it is at the sizes of a small model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "tests/kerncheck/kerncheck.h"

struct shape { int N, K, T; };

/* What one case is made of, on the host. */
struct problem {
    enum kvt_dtype type;
    enum kvt_compute compute;
    struct shape s;
    bool with_bias, accumulate, exact;
    const char *fill;
    const unsigned char *w; /* (N) rows of blocks; what follows them can't be read */
    size_t w_bytes;
    float *in;              /* (T, K) */
    float *bias, *before;   /* (N), (T, N) */
};

static const char *compute_name(enum kvt_compute c) { return c == KVT_COMPUTE_F32 ? "f32" : c == KVT_COMPUTE_BF16 ? "bf16" : "f16"; }

/* The least K a type can have, and steps of it. */
static int block_of(enum kvt_dtype type) { return kvt_dtypes[type].block_values; }

static void make(struct kc *k, struct problem *p, enum kc_fill_kind fill)
{
    size_t NK = (size_t)p->s.N * (size_t)p->s.K, TN = (size_t)p->s.T * (size_t)p->s.N;
    p->w_bytes = (size_t)p->s.N * kvt_row_bytes(p->type, (size_t)p->s.K);
    unsigned char *blocks = kc_host(k, p->w_bytes);
    kc_fill_blocks(k, blocks, p->type, NK);
    p->w = kc_edge(k, blocks, p->w_bytes);
    size_t TK = (size_t)p->s.T * (size_t)p->s.K;
    p->in = kc_host(k, TK * sizeof(float));
    kc_fill(k, p->in, TK, fill);
    p->fill = kc_fill_name(fill);
    p->bias = kc_host(k, (size_t)p->s.N * sizeof(float));
    kc_fill(k, p->bias, (size_t)p->s.N, KC_UNIFORM);
    p->before = kc_host(k, TN * sizeof(float));
    kc_fill(k, p->before, TN, KC_UNIFORM);
}

/* Runs rows [row, row + T) of the problem on a candidate; out is host memory (T, N). Weights end with a page, so they
 * begin at any even address (a multiple of 4 for f32), as rows of blocks in a file do. Activations are aligned or not. */
static void run(struct kc *k, struct kc_cand *c, const struct problem *p, int row, int T, float *out)
{
    size_t N = (size_t)p->s.N, K = (size_t)p->s.K, out_bytes = (size_t)T * N * sizeof(float);
    struct kvt_linear_args a = {
        .w = {p->w, p->type, p->s.N, p->s.K},
        .bias = p->with_bias ? kc_put_shifted(k, c, p->bias, N * sizeof(float), 4) : NULL,
        .in = kc_put_shifted(k, c, p->in + (size_t)row * K, (size_t)T * K * sizeof(float), (row + T) % 2 ? 4 : 0),
        .out = kc_put_shifted(k, c, p->accumulate ? p->before + (size_t)row * N : NULL, out_bytes, 4),
        .T = T, .accumulate = p->accumulate, .exact = p->exact, .compute = p->compute,
    };
    kc_rc(k, c, "linear", c->ops->weights(c->dev, &a.w), "weights %s", kvt_dtypes[p->type].name);
    kc_rc(k, c, "linear", c->ops->linear(c->dev, &a), "%s N=%d K=%d T=%d", kvt_dtypes[p->type].name, p->s.N, p->s.K, T);
    kc_get(k, c, out, a.out, out_bytes);
    kc_end_cand(k, c, "linear");
}

/* Every sum may be off by one half ulp of the sum of magnitudes for each rounding on a product's way: at most
 * K / 8 additions in a lane (8 lanes are the fewest), a tree of 3 or 4, the product itself, bias and old value.
 * bf16 units also take denormals as zero, which costs at most FLT_MIN times the other factor for each product.
 *
 * f16: a product meets at most 48 sums of a lane (16 lanes, up to K / 16) and 2 of the tree, each with half an ulp of f16 of the magnitudes so far or half
 * a subnormal step of the scaled row; the weight may have been rounded otherwise by an ulp, and where scale and minimum are rounded by
 * themselves, by half an ulp of both. */
static double f16_part(const struct problem *p, const float *x, const float *w, const float *minimum)
{
    double sum = 0, whole = 0, step = 0x1p-25 / kvt_f16_scale(kvt_largest(x, p->s.K));
    int adds = (p->s.K + 15) / 16;
    adds = (adds < 48 ? adds : 48) + 2;
    for (int i = 0; i < p->s.K; i++) {
        sum += fabs((double)x[i] * (double)w[i]);
        whole += fabs((double)x[i]) * (fabs((double)w[i]) + (minimum ? fabs((double)w[i] - (double)minimum[i]) + fabs((double)minimum[i]) : 0) + 0x1p-13);
    }
    return 0x1p-11 * (adds * sum * (1 + 0x1p-9) + 2 * whole) + step * (adds + 3) * p->s.K;
}

/* What Q4_K's values are with all quants 0; Q6_K has no minimum. NULL: a type whose values are rounded once. */
static const float *minima(const struct problem *p, size_t n, float *out)
{
    size_t K = (size_t)p->s.K, row_bytes = kvt_row_bytes(p->type, K);
    if (p->type != KVT_Q4_K && p->type != KVT_Q6_K)
        return NULL;
    memset(out, 0, K * sizeof *out);
    if (p->type == KVT_Q6_K)
        return out;
    unsigned char *row = malloc(row_bytes);
    memcpy(row, p->w + n * row_bytes, row_bytes);
    for (size_t b = 0; b < row_bytes; b += 144)
        memset(row + b + 16, 0, 128);
    kvt_dequantize(p->type, row, out, K);
    free(row);
    return out;
}

static void allowance(const struct problem *p, float *allow)
{
    size_t N = (size_t)p->s.N, K = (size_t)p->s.K;
    size_t row_bytes = kvt_row_bytes(p->type, K);
    float *w = malloc(K * sizeof *w), *m = malloc(K * sizeof *m);
    for (size_t n = 0; n < N; n++) {
        kvt_dequantize(p->type, p->w + n * row_bytes, w, K);
        const float *minimum = minima(p, n, m);
        for (size_t t = 0; t < (size_t)p->s.T; t++) {
            const float *x = p->in + t * K;
            double sum = 0, flushed = 0;
            for (size_t i = 0; i < K; i++) {
                sum += fabs((double)x[i] * (double)w[i]);
                flushed += 0x1p-126 * (1 + fabs((double)x[i]) + fabs((double)w[i]));
            }
            if (p->compute == KVT_COMPUTE_BF16)
                sum *= (1 + 0x1p-8) * (1 + 0x1p-8); /* rounding may enlarge both factors */
            sum += p->with_bias ? fabs((double)p->bias[n]) : 0;
            sum += p->accumulate ? fabs((double)p->before[t * N + n]) : 0;
            allow[t * N + n] = (float)(((double)K / 8 + 8) * KC_EPS * sum + (p->compute == KVT_COMPUTE_BF16 ? flushed : 0x1p-140));
            if (p->compute == KVT_COMPUTE_F16)
                allow[t * N + n] += (float)f16_part(p, x, w, minimum);
        }
    }
    free(w);
    free(m);
}

static void judge(struct kc *k, struct problem *p)
{
    size_t count = (size_t)p->s.N * (size_t)p->s.T, bytes = count * sizeof(float);
    float *want = kc_host(k, bytes), *allow = kc_host(k, bytes);
    float *got[2] = {kc_host(k, bytes), kc_host(k, bytes)};
    run(k, &k->ref, p, 0, p->s.T, want);
    allowance(p, allow);
    for (int i = 0; i < k->n_cand; i++) {
        struct kc_cand *c = &k->cand[i];
        run(k, c, p, 0, p->s.T, got[i % 2]);
        kc_judge(k, c, "linear", want, got[i % 2], allow, count, "%s %s N=%d K=%d T=%d%s%s%s fill=%s",
                 kvt_dtypes[p->type].name, compute_name(p->compute), p->s.N, p->s.K, p->s.T,
                 p->with_bias ? " bias" : "", p->accumulate ? " accumulate" : "", p->exact ? " exact" : "", p->fill);
        if (c->threads > 1)
            kc_same(k, c, "linear", got[0], got[1], bytes, "1 and more threads: %s %s N=%d K=%d T=%d%s",
                    kvt_dtypes[p->type].name, compute_name(p->compute), p->s.N, p->s.K, p->s.T, p->exact ? " exact" : "");
    }
    kc_end_case(k, "linear");
}

/* Several products of the same rows at once, the third one's weights of another type, have the bits that they have one by one; so have two
 * between a norm and a glu. */
static void judge_several(struct kc *k, enum kvt_dtype type, enum kvt_dtype third, int K, int T, bool glu)
{
    enum { MOST = 3 };
    const int outputs[MOST] = {64, glu ? 64 : 16, 48}, n = glu ? 2 : MOST;
    struct problem p[MOST];
    float *one[MOST], *all[MOST], *in = NULL;
    for (int i = 0; i < MOST; i++) {
        p[i] = (struct problem){.type = i < 2 ? type : third, .compute = KVT_COMPUTE_BF16, .s = {outputs[i], K, T}, .with_bias = i == 1, .accumulate = i == 2, .exact = true};
        make(k, &p[i], KC_NORMAL);
        in = in ? in : p[i].in;
        one[i] = kc_host(k, (size_t)(T * outputs[i]) * sizeof(float));
        all[i] = kc_host(k, (size_t)(T * outputs[i]) * sizeof(float));
    }
    for (int i = 0; i < k->n_cand; i++) {
        struct kc_cand *c = &k->cand[i];
        if (!c->ops->linears)
            continue;
        struct kvt_linear_args a[MOST];
        size_t TK = (size_t)(T * K) * sizeof(float);
        float *x = kc_put_shifted(k, c, in, TK, 0), *y = kc_put_shifted(k, c, NULL, TK, 0);
        struct kvt_norm_args norm = {.in = x, .weight = kc_put_shifted(k, c, in, (size_t)K * sizeof(float), 4), .out = y, .eps = 1e-5f, .T = T, .E = K};
        bool normed = glu || T % 2;
        for (int j = 0; j < n; j++) {
            size_t bytes = (size_t)(T * outputs[j]) * sizeof(float);
            a[j] = (struct kvt_linear_args){.w = {p[j].w, p[j].type, outputs[j], K}, .in = normed ? y : x, .T = T, .exact = true, .compute = KVT_COMPUTE_BF16, .accumulate = p[j].accumulate,
                                            .bias = p[j].with_bias ? kc_put_shifted(k, c, p[j].bias, (size_t)outputs[j] * sizeof(float), 4) : NULL,
                                            .out = kc_put_shifted(k, c, p[j].accumulate ? p[j].before : NULL, bytes, 4)};
            kc_rc(k, c, "linear", c->ops->weights(c->dev, &a[j].w), "weights %s", kvt_dtypes[p[j].type].name);
        }
        struct kvt_glu_args g = {.gate = a[0].out, .up = a[1].out, .out = a[0].out, .T = T, .F = outputs[0], .act = (enum kvt_act)(T % 3)};
        for (int way = 0; way < 2; way++) {
            if (way) {
                struct kvt_linears_args whole = {normed ? &norm : NULL, a, n, glu ? &g : NULL};
                kc_rc(k, c, "linear", c->ops->linears(c->dev, &whole), "%s several K=%d T=%d", kvt_dtypes[type].name, K, T);
            } else {
                if (normed)
                    kc_rc(k, c, "linear", c->ops->norm(c->dev, &norm), "norm");
                for (int j = 0; j < n; j++)
                    kc_rc(k, c, "linear", c->ops->linear(c->dev, &a[j]), "%s", kvt_dtypes[p[j].type].name);
                if (glu)
                    kc_rc(k, c, "linear", c->ops->glu(c->dev, &g), "glu");
            }
            for (int j = 0; j < (glu ? 1 : n); j++) {
                size_t bytes = (size_t)(T * outputs[j]) * sizeof(float);
                kc_get(k, c, way ? all[j] : one[j], a[j].out, bytes);
                if (a[j].accumulate) /* again from what was there */
                    c->ops->write(c->dev, a[j].out, p[j].before, bytes);
            }
            if (!way && normed)
                c->ops->zero(c->dev, y, TK);
        }
        for (int j = 0; j < (glu ? 1 : n); j++) {
            size_t bytes = (size_t)(T * outputs[j]) * sizeof(float);
            kc_same(k, c, "linear", one[j], all[j], bytes, "%s K=%d T=%d%s: product %d of several", kvt_dtypes[p[j].type].name, K, T, glu ? " glu" : "", j);
        }
        kc_end_cand(k, c, "linear");
    }
    kc_end_case(k, "linear");
}

/* Sums that leave f16's range, in one chunk of K and in some, and weights that do: they stay right, and a row's bits its own. */
static void judge_wide(struct kc *k, float largest, bool few)
{
    enum { MOST = 8 };
    struct problem p = {.type = KVT_F32, .compute = KVT_COMPUTE_F16, .s = {13, few ? 288 : 1803, few ? 3 : MOST}, .with_bias = true, .accumulate = few};
    make(k, &p, KC_UNIFORM);
    size_t NK = (size_t)p.s.N * (size_t)p.s.K;
    float *w = kc_host(k, NK * sizeof *w);
    kc_fill(k, w, NK, KC_UNIFORM);
    for (size_t i = 0; i < NK; i++) /* of one sign, or they cancel; a few rows are small */
        w[i] = fabsf(w[i]) * (i / (size_t)p.s.K % 4 == 3 ? 1 : largest);
    p.w = kc_edge(k, w, NK * sizeof *w);
    for (size_t i = 0; i < (size_t)(p.s.T * p.s.K); i++)
        p.in[i] = fabsf(p.in[i]);
    p.fill = "wide";
    float all[13 * MOST], one[13];
    for (int i = 0; i < k->n_cand; i++) {
        run(k, &k->cand[i], &p, 0, p.s.T, all);
        run(k, &k->cand[i], &p, 1, 1, one);
        if (!p.accumulate)
            kc_same(k, &k->cand[i], "linear exact", all + 13, one, sizeof one, "f16, sums beyond it, row 1 alone");
    }
    judge(k, &p); /* it ends the case */
}

/* Row r of a call with 100 rows has the bits of the same row in calls of other sizes. */
static void judge_exact(struct kc *k, enum kvt_dtype type, enum kvt_compute compute, bool longer)
{
    static const int sizes[] = {1, 2, 3, 4, 5, 6, 7, 12, 13, 24, 25, 49};
    struct problem p = {.type = type, .compute = compute, .s = {38, block_of(type) == 256 ? 512 : 416, 100},
                        .with_bias = true, .exact = true};
    if (block_of(type) == 1)
        p.s.K = 403;
    if (longer) /* what a backend sums in several places */
        p.s = (struct shape){48, block_of(type) == 256 ? 2816 : 2304, 100}; /* rows at multiples of 16 bytes, whole tiles */
    make(k, &p, KC_NORMAL);
    size_t N = (size_t)p.s.N;
    float *all = kc_host(k, N * 100 * sizeof(float)), *some = kc_host(k, N * 100 * sizeof(float));
    for (int i = 0; i < k->n_cand; i++) {
        struct kc_cand *c = &k->cand[i];
        run(k, c, &p, 0, 100, all);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            int T = sizes[s], row = kc_int(k, 0, 100 - T);
            run(k, c, &p, row, T, some);
            kc_same(k, c, "linear exact", all + (size_t)row * N, some, (size_t)T * N * sizeof(float),
                    "%s %s rows %d..%d of 100 alone", kvt_dtypes[type].name, compute_name(compute), row, row + T - 1);
        }
    }
    kc_end_case(k, "linear exact");
}

static void check(struct kc *k)
{
    static const int outputs[] = {1, 3, 4, 5, 31, 50, 97}, rows[] = {1, 2, 3, 4, 5, 6, 7, 11, 13, 25};
    int turn = 0;
    for (int type = 0; type < KVT_N_DTYPE; type++) {
        for (int compute = 0; compute < KVT_N_COMPUTE && !kc_caught(k); compute++) {
            for (int i = 0; i < 20; i++, turn++) {
                if (kc_skip(k))
                    continue;
                int block = block_of((enum kvt_dtype)type);
                int K = block == 1 ? kc_int(k, 1, 200) : block * kc_int(k, 1, block == 32 ? 7 : 3);
                struct problem p = {
                    .type = (enum kvt_dtype)type, .compute = (enum kvt_compute)compute,
                    .s = {outputs[turn % 7], K, rows[turn % 10]},
                    .with_bias = kc_int(k, 0, 1), .accumulate = kc_int(k, 0, 1), .exact = kc_int(k, 0, 1),
                };
                make(k, &p, (enum kc_fill_kind)(i % KC_N_FILL));
                judge(k, &p);
            }
            if (!kc_skip(k))
                judge_exact(k, (enum kvt_dtype)type, (enum kvt_compute)compute, false);
            if ((type % 5 == 2 || (compute == KVT_COMPUTE_BF16 && type != KVT_F32)) && !kc_skip(k))
                judge_exact(k, (enum kvt_dtype)type, (enum kvt_compute)compute, true);
            for (int few = 0; few < 2 && !kc_skip(k); few++) { /* longer than what a level decodes scales for at a time, and some */
                struct problem p = {.type = (enum kvt_dtype)type, .compute = (enum kvt_compute)compute,
                                    .s = {6, 2048 + (block_of((enum kvt_dtype)type) == 1 ? 33 : 3 * block_of((enum kvt_dtype)type)), few ? 2 : 8}};
                make(k, &p, KC_NORMAL);
                judge(k, &p);
            }
        }
    }
    static const enum kvt_dtype together[][2] = {{KVT_BF16, KVT_BF16}, {KVT_Q8_0, KVT_Q8_0}, {KVT_Q4_0, KVT_F16}, {KVT_Q4_K, KVT_Q6_K}};
    for (size_t i = 0; i < sizeof together / sizeof *together && !kc_caught(k); i++)
        for (int T = 1; T <= 16 && !kc_skip(k); T += i ? 5 : 2)
            judge_several(k, together[i][0], together[i][1], T == 1 ? 2048 : 2304, T, false), judge_several(k, together[i][0], together[i][1], 2304, T, true);
    for (int few = 0; few < 2 && !kc_caught(k); few++) {
        judge_wide(k, 2000, few);
        if (k->cand[0].ops->beyond_f16) /* others decode to f16 */
            judge_wide(k, 3e5f, few);
    }
    /* the shared prefill's kind of call: many rows, not exact, sizes of a small model; rows that don't fit a core's cache at once;
     * few rows, so wide that their sums are joined more than once; more rows than a backend may take at once */
    static const struct { enum kvt_dtype type; struct shape s; } large[] = {{KVT_Q4_1, {192, 576, 200}}, {KVT_Q4_0, {40, 2304, 200}}, {KVT_Q4_K, {6, 12800, 2}}, {KVT_Q8_0, {6, 64, 1030}}};
    for (int compute = 0; compute < KVT_N_COMPUTE && !kc_caught(k); compute++)
        for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
            struct problem p = {.type = large[i].type, .compute = (enum kvt_compute)compute, .s = large[i].s};
            make(k, &p, KC_NORMAL);
            judge(k, &p);
        }
}

/* ---- sabotage: each is a mistake that a kernel could have ---- */

static int wrong_tail(struct kvt_dev *dev, const struct kvt_linear_args *a) /* the last row forgets its bias */
{
    int rc = kvt_ops_cpu.linear(dev, a);
    if (a->bias && a->T > 0)
        a->out[(size_t)(a->T - 1) * (size_t)a->w.n + (size_t)(a->w.n - 1)] -= a->bias[a->w.n - 1];
    return rc;
}

static int wrong_rows(struct kvt_dev *dev, const struct kvt_linear_args *a) /* a row's last bit knows about the others */
{
    int rc = kvt_ops_cpu.linear(dev, a);
    for (int t = 0; t < a->T && a->T > 4; t++)
        a->out[(size_t)t * (size_t)a->w.n] *= 1 + 0x1p-22f;
    return rc;
}

static int wrong_threads(struct kvt_dev *dev, const struct kvt_linear_args *a) /* a bit depends on the threads */
{
    int rc = kvt_ops_cpu.linear(dev, a);
    if (dev->threads > 1)
        a->out[0] *= 1 + 0x1p-22f;
    return rc;
}

static int wrong_store(struct kvt_dev *dev, const struct kvt_linear_args *a) /* the last tile stores four outputs */
{
    int rc = kvt_ops_cpu.linear(dev, a);
    for (int n = a->w.n; n % 4; n++)
        a->out[(size_t)(a->T - 1) * (size_t)a->w.n + (size_t)n] = 0;
    return rc;
}

static int wrong_compute(struct kvt_dev *dev, const struct kvt_linear_args *a) /* f32 asked, bf16 done */
{
    struct kvt_linear_args b = *a;
    b.compute = KVT_COMPUTE_BF16;
    return kvt_ops_cpu.linear(dev, &b);
}

static int wrong_half(struct kvt_dev *dev, const struct kvt_linear_args *a) /* f16 asked, bf16 done */
{
    struct kvt_linear_args b = *a;
    b.compute = a->compute == KVT_COMPUTE_F16 ? KVT_COMPUTE_BF16 : a->compute;
    return kvt_ops_cpu.linear(dev, &b);
}

static int wrong_scale(struct kvt_dev *dev, const struct kvt_linear_args *a) /* rows whose largest is 1e4 or more lose their scale */
{
    int rc = kvt_ops_cpu.linear(dev, a);
    for (int t = 0; t < a->T && a->compute == KVT_COMPUTE_F16; t++)
        for (int n = 0; n < a->w.n && kvt_largest(a->in + (size_t)t * (size_t)a->w.k, a->w.k) >= 1e4f; n++)
            a->out[(size_t)t * (size_t)a->w.n + (size_t)n] *= 0.5f;
    return rc;
}

static int wrong_accumulate(struct kvt_dev *dev, const struct kvt_linear_args *a)
{
    struct kvt_linear_args b = *a;
    b.accumulate = false;
    return kvt_ops_cpu.linear(dev, &b);
}

/* A type that is decoded wrongly: the last quant of the last output is one step off. */
static int wrong_quant(struct kvt_dev *dev, const struct kvt_linear_args *a, enum kvt_dtype type)
{
    if (a->w.type != type)
        return kvt_ops_cpu.linear(dev, a);
    size_t bytes = (size_t)a->w.n * kvt_row_bytes(type, (size_t)a->w.k), after = 0;
    switch (type) { /* what follows a block's quants */
    case KVT_Q6_K: after = 18; break;
    case KVT_Q2_K: after = 4; break;
    case KVT_Q3_K: after = 14; break;
    default: break;
    }
    unsigned char *w = malloc(bytes);
    struct kvt_linear_args b = *a;
    memcpy(w, a->w.data, bytes);
    w[bytes - 1 - after] ^= 16;
    b.w.data = w;
    int rc = kvt_ops_cpu.linear(dev, &b);
    free(w);
    return rc;
}

#define X(name, values, bytes) \
    static int wrong_##name(struct kvt_dev *dev, const struct kvt_linear_args *a) { return wrong_quant(dev, a, KVT_##name); }
KVT_DTYPE_MAP(X)
#undef X

static const char *sabotage(struct kvt_ops *ops, int i)
{
    static const struct { int (*linear)(struct kvt_dev *, const struct kvt_linear_args *); const char *what; } wrong[] = {
        {wrong_tail, "linear: the last output of the last row without bias"},
        {wrong_rows, "linear: last bits depend on the number of rows"},
        {wrong_threads, "linear: last bit depends on the number of threads"},
        {wrong_store, "linear: stores past the last output"},
        {wrong_compute, "linear: bf16 where f32 was asked"},
        {wrong_half, "linear: bf16 where f16 was asked"},
        {wrong_scale, "linear: f16 with a wrong scale of the row"},
        {wrong_accumulate, "linear: forgets to accumulate"},
#define X(name, values, bytes) {wrong_##name, "linear: a quant of " #name " one step off"},
        KVT_DTYPE_MAP(X)
#undef X
    };
    if (i >= (int)(sizeof wrong / sizeof *wrong))
        return NULL;
    ops->linear = wrong[i].linear;
    return wrong[i].what;
}

/* ---- bench ---- */

struct timed { struct kc_cand *c; struct kvt_linear_args *a; int n; };

static void run_timed(void *arg)
{
    struct timed *t = arg;
    for (int i = 0; i < t->n; i++)
        t->c->ops->linear(t->c->dev, &t->a[i]);
}

/* One line: T rows times a matrix of the model's commonest kinds. */
static void bench_one(struct kc *k, struct kc_cand *c, enum kvt_dtype type, enum kvt_compute compute, struct shape s,
                      bool exact)
{
    struct problem p = {.type = type, .compute = compute, .s = s, .exact = exact};
    char what[64];
    snprintf(what, sizeof what, "%s %s T=%d N=%d K=%d%s", kvt_dtypes[type].name, compute_name(compute), s.T, s.N, s.K, exact ? " exact" : "");
    if (k->match && !strstr(what, k->match))
        return;
    make(k, &p, KC_NORMAL);
    size_t TN = (size_t)s.T * (size_t)s.N;
    struct kvt_linear_args a = {
        .w = {kc_put(k, c, p.w, p.w_bytes), type, s.N, s.K},
        .in = kc_put(k, c, p.in, (size_t)s.T * (size_t)s.K * sizeof(float)),
        .out = kc_put(k, c, NULL, TN * sizeof(float)),
        .T = s.T, .exact = exact, .compute = compute,
    };
    struct timed t = {c, &a, 1};
    kc_line(k, c, "linear", what, kc_time(c, run_timed, &t), 2.0 * (double)TN * s.K, s.T < 8 ? (double)p.w_bytes : 0);
    kc_end_case(k, "linear");
}

/* A token's matrices of a model with 30 layers of width 576 and a vocabulary of 49152 (SmolLM2-135M): 210 calls and
 * the head, every matrix with weights of its own, so that they come from memory as in a real step. */
static void bench_step(struct kc *k, struct kc_cand *c, enum kvt_compute compute, int T)
{
    static const struct shape layer[7] = {{576, 576, 0}, {192, 576, 0}, {192, 576, 0}, {576, 576, 0},
                                          {1536, 576, 0}, {1536, 576, 0}, {576, 1536, 0}};
    static struct kvt_linear_args a[30 * 7 + 1];
    char what[64];
    snprintf(what, sizeof what, "%s T=%d all of SmolLM2-135M", compute_name(compute), T);
    if (k->match && !strstr(what, k->match))
        return;
    size_t w_bytes = 0, w_at = 0;
    double flops = 0;
    int n = 0;
    float *in = kc_put(k, c, NULL, (size_t)T * 1536 * sizeof(float)), *out = kc_put(k, c, NULL, (size_t)T * 49152 * sizeof(float));
    for (int i = 0; i < 30 * 7 + 1; i++) {
        struct kvt_mat w = i < 210 ? (struct kvt_mat){NULL, KVT_Q4_1, layer[i % 7].N, layer[i % 7].K} : (struct kvt_mat){NULL, KVT_Q8_0, 49152, 576};
        w_bytes += (size_t)w.n * kvt_row_bytes(w.type, (size_t)w.k);
        flops += 2.0 * T * w.n * w.k;
        a[n++] = (struct kvt_linear_args){.w = w, .in = in, .out = out, .T = T, .exact = true, .compute = compute};
    }
    unsigned char *blocks = kc_host(k, w_bytes);
    for (int i = 0; i < n; i++) {
        kc_fill_blocks(k, blocks + w_at, a[i].w.type, (size_t)a[i].w.n * (size_t)a[i].w.k);
        w_at += (size_t)a[i].w.n * kvt_row_bytes(a[i].w.type, (size_t)a[i].w.k);
    }
    unsigned char *w = kc_put(k, c, blocks, w_bytes);
    kc_fill(k, (float *)(void *)blocks, (size_t)T * 1536, KC_NORMAL);
    c->ops->write(c->dev, in, blocks, (size_t)T * 1536 * sizeof(float));
    for (int i = 0; i < n; i++) {
        a[i].w.data = w;
        w += (size_t)a[i].w.n * kvt_row_bytes(a[i].w.type, (size_t)a[i].w.k);
    }
    struct timed t = {c, a, n};
    kc_line(k, c, "linear", what, kc_time(c, run_timed, &t), flops, T < 8 ? (double)w_bytes : 0);
    kc_end_case(k, "linear");
}

/* A product of the size of a model of 8 billion parameters, on a GPU: many calls and one wait, small ones over so many copies of the
 * weights that they come from memory. */
static void bench_8b_one(struct kc *k, struct kc_cand *c, enum kvt_dtype type, enum kvt_compute compute, struct shape s, bool exact)
{
    enum { CALLS = 32, PATTERN = 64 };
    struct kvt_linear_args a[CALLS];
    char what[64];
    snprintf(what, sizeof what, "%s %s T=%d N=%d K=%d%s", kvt_dtypes[type].name, compute_name(compute), s.T, s.N, s.K, exact ? " exact" : "");
    if (k->match && !strstr(what, k->match))
        return;
    size_t row = kvt_row_bytes(type, (size_t)s.K), w_bytes = (size_t)s.N * row, TK = (size_t)s.T * (size_t)s.K, TN = (size_t)s.T * (size_t)s.N;
    unsigned char *host = kc_host(k, w_bytes);
    kc_fill_blocks(k, host, type, (size_t)PATTERN * (size_t)s.K);
    for (int n = PATTERN; n < s.N; n++)
        memcpy(host + (size_t)n * row, host + (size_t)(n % PATTERN) * row, row);
    float *x = kc_host(k, TK * sizeof *x);
    kc_fill(k, x, TK, KC_UNIFORM);
    int calls = s.T > 64 ? 4 : CALLS, copies = s.T > 64 ? 1 : 1 + (int)(((size_t)256 << 20) / w_bytes);
    float *in = kc_put(k, c, x, TK * sizeof *x), *out = kc_put(k, c, NULL, TN * sizeof *out);
    for (int i = 0; i < calls; i++)
        a[i] = (struct kvt_linear_args){.w = {i < copies ? kc_put(k, c, host, w_bytes) : a[i % copies].w.data, type, s.N, s.K}, .in = in, .out = out,
                                        .T = s.T, .exact = exact, .compute = compute};
    struct timed t = {c, a, calls};
    kc_line(k, c, "linear", what, kc_time(c, run_timed, &t) / calls, 2.0 * (double)TN * s.K, s.T <= 64 ? (double)w_bytes : 0);
    kc_end_case(k, "linear");
}

/* Its widest matrices at a step of one branch and of several, its narrowest, its head, and prefills by the library (not exact) and by the
 * backend's own kernel. */
static void bench_8b(struct kc *k, struct kc_cand *c)
{
    static const enum kvt_dtype types[] = {KVT_Q4_0, KVT_Q8_0, KVT_BF16, KVT_Q4_K, KVT_Q6_K};
    static const int rows[] = {1, 4, 8, 16, 32, 40};
    const enum kvt_compute bf16 = KVT_COMPUTE_BF16, f32 = KVT_COMPUTE_F32;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        for (size_t t = 0; t < sizeof rows / sizeof *rows; t++)
            bench_8b_one(k, c, types[i], bf16, (struct shape){4096, 14336, rows[t]}, true);
        for (int T = 1; T <= 8; T *= 8) {
            bench_8b_one(k, c, types[i], bf16, (struct shape){14336, 4096, T}, true);
            bench_8b_one(k, c, types[i], bf16, (struct shape){4096, 4096, T}, true);
            bench_8b_one(k, c, types[i], bf16, (struct shape){1024, 4096, T}, true);
        }
        bench_8b_one(k, c, types[i], bf16, (struct shape){14336, 4096, 128}, false);
        bench_8b_one(k, c, types[i], bf16, (struct shape){14336, 4096, 2048}, false);
    }
    bench_8b_one(k, c, KVT_Q8_0, bf16, (struct shape){128256, 4096, 1}, true);
    bench_8b_one(k, c, KVT_Q8_0, bf16, (struct shape){128256, 4096, 8}, true);
    bench_8b_one(k, c, KVT_Q4_0, bf16, (struct shape){14336, 4096, 2048}, true);
    bench_8b_one(k, c, KVT_BF16, bf16, (struct shape){14336, 4096, 2048}, true);
    for (int T = 1; T <= 8; T *= 8) {
        bench_8b_one(k, c, KVT_Q4_0, f32, (struct shape){4096, 4096, T}, true);
        bench_8b_one(k, c, KVT_F32, f32, (struct shape){4096, 4096, T}, true);
    }
    bench_8b_one(k, c, KVT_Q4_0, f32, (struct shape){4096, 4096, 512}, false);
}

static void bench(struct kc *k)
{
    bench_one(k, &k->ref, KVT_Q4_1, KVT_COMPUTE_F32, (struct shape){576, 576, 4}, true);
    for (int i = 0; i < k->n_cand; i++) {
        struct kc_cand *c = &k->cand[i];
        for (int compute = 0; compute < KVT_N_COMPUTE; compute++) {
            if (!c->ops->can_compute(c->dev, (enum kvt_compute)compute))
                continue;
            enum kvt_compute how = (enum kvt_compute)compute;
            bench_step(k, c, how, 1);
            bench_step(k, c, how, 25);
            bench_step(k, c, how, 49);
            bench_one(k, c, KVT_Q4_1, how, (struct shape){1536, 576, 49}, true);
            bench_one(k, c, KVT_Q4_1, how, (struct shape){576, 1536, 49}, true);
            for (int T = 512; T <= 2048; T *= 4) {
                bench_one(k, c, KVT_Q4_1, how, (struct shape){1536, 576, T}, false);
                bench_one(k, c, KVT_Q4_1, how, (struct shape){576, 1536, T}, false);
                bench_one(k, c, KVT_Q4_1, how, (struct shape){192, 576, T}, false);
            }
            for (int type = 0; type < KVT_N_DTYPE; type++)
                bench_one(k, c, (enum kvt_dtype)type, how, (struct shape){4096, 1536, 1}, true);
        }
        if (!strcmp(c->ops->name, "cuda"))
            bench_8b(k, c);
    }
}

const struct kc_subject kc_linear = {"linear", check, bench, sabotage};

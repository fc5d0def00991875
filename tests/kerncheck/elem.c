/* elem: norms, rotation, activation and the statistics of logits, each against its definition in double. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kerncheck/kerncheck.h"

#define DENORMAL 0x1p-126 /* what flushing or a denormal's coarse step may cost */

static float *floats(struct kc *k, size_t n) { return kc_host(k, n * sizeof(float)); }

static void check_embed(struct kc *k)
{
    for (int type = 0; type < KVT_N_DTYPE; type++) {
        int block = kvt_dtypes[type].block_values, V = 23, E = block == 1 ? 37 : block * 2, T = kc_int(k, 1, 60);
        size_t row = kvt_row_bytes((enum kvt_dtype)type, (size_t)E), bytes = (size_t)T * (size_t)E * sizeof(float);
        unsigned char *table = kc_host(k, row * (size_t)V);
        kc_fill_blocks(k, table, (enum kvt_dtype)type, (size_t)V * (size_t)E);
        int32_t *token = kc_host(k, (size_t)T * sizeof *token);
        for (int t = 0; t < T; t++)
            token[t] = t ? kc_int(k, 0, V - 1) : V - 1; /* the last row too: the table may end with its file */
        const void *edge = kc_edge(k, table, row * (size_t)V);
        float *want = kc_host(k, bytes), *got = kc_host(k, bytes);
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            struct kvt_embed_args a = {.table = {edge, (enum kvt_dtype)type, V, E}, .token = token, .out = kc_put(k, c, NULL, bytes), .T = T};
            kc_rc(k, c, "embed", c->ops->weights(c->dev, &a.table), "weights");
            kc_rc(k, c, "embed", c->ops->embed(c->dev, &a), "%s T=%d", kvt_dtypes[type].name, T);
            kc_get(k, c, i < 0 ? want : got, a.out, bytes);
            if (i >= 0)
                kc_same(k, c, "embed", want, got, bytes, "%s E=%d T=%d", kvt_dtypes[type].name, E, T);
        }
        kc_end_case(k, "embed");
    }
}

/* The sum of squares has E / 16 + 5 roundings (of positive terms, so relative), halved by the root; then mean, root,
 * reciprocal and two products. LayerNorm: the mean is off by E / 16 + 6 roundings of the largest value, and so is each
 * difference from it; z is the normed value before the weight, and what moves the deviation moves it in proportion. */
static void allow_norm(const float *in, const float *weight, const float *bias, const float *want, int E, bool centre, float *allow)
{
    double mean = 0, square = 0, top = 0;
    for (int i = 0; i < E; i++) {
        mean += centre ? (double)in[i] / E : 0;
        top = fmax(top, fabs((double)in[i]));
    }
    for (int i = 0; i < E; i++)
        square += ((double)in[i] - mean) * ((double)in[i] - mean) / E;
    double deviation = sqrt(square + 1e-5), sums = (E / 16 + 6) * KC_EPS * top / deviation;
    for (int i = 0; i < E; i++) {
        double a = ((E / 16 + 5) * 0.5 + 5) * KC_EPS * fabs((double)want[i]) + DENORMAL;
        if (centre)
            a += fabs((double)weight[i]) * (1 + fabs((double)in[i] - mean) / deviation) * sums * 2 + 8 * KC_EPS * (bias ? fabs((double)bias[i]) : 0) +
                 ((E / 16 + 5) * 0.5 + 5) * KC_EPS * (bias ? fabs((double)bias[i]) : 0);
        allow[i] = (float)a;
    }
}

static void check_norm(struct kc *k)
{
    static const int sizes[] = {1, 5, 16, 64, 100, 576, 1000, 4096};
    for (int turn = 0; turn < 112; turn++) {
        if (kc_skip(k))
            continue;
        int E = sizes[turn % 8], T = turn % 5 ? kc_int(k, 1, 7) : 70;
        enum kc_fill_kind fill = (enum kc_fill_kind)(turn % KC_N_FILL);
        size_t n = (size_t)T * (size_t)E, bytes = n * sizeof(float);
        float *in = floats(k, n), *weight = floats(k, (size_t)E), *bias = floats(k, (size_t)E), *want = floats(k, n), *allow = floats(k, n);
        float *got[2] = {floats(k, n), floats(k, n)};
        kc_fill(k, in, n, fill);
        kc_fill(k, weight, (size_t)E, KC_UNIFORM);
        kc_fill(k, bias, (size_t)E, KC_UNIFORM);
        bool in_place = turn % 3 == 0, centre = turn >= 56, biased = centre && turn % 2;
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            float *din = kc_put_shifted(k, c, in, bytes, 4);
            struct kvt_norm_args a = {.in = din, .weight = kc_put_shifted(k, c, weight, (size_t)E * sizeof(float), 4),
                                      .bias = biased ? kc_put_shifted(k, c, bias, (size_t)E * sizeof(float), 4) : NULL, .centre = centre,
                                      .out = in_place ? din : kc_put_shifted(k, c, NULL, bytes, 4), .eps = 1e-5f, .T = T, .E = E};
            kc_rc(k, c, "norm", c->ops->norm(c->dev, &a), "T=%d E=%d", T, E);
            kc_get(k, c, i < 0 ? want : got[i % 2], a.out, bytes);
            if (i < 0) {
                for (int t = 0; t < T; t++)
                    allow_norm(in + (size_t)t * (size_t)E, weight, biased ? bias : NULL, want + (size_t)t * (size_t)E, E, centre, allow + (size_t)t * (size_t)E);
                continue;
            }
            kc_judge(k, c, "norm", want, got[i % 2], allow, n, "T=%d E=%d fill=%s%s", T, E, kc_fill_name(fill), centre ? " centred" : "");
            if (c->threads > 1)
                kc_same(k, c, "norm", got[0], got[1], bytes, "1 and more threads: T=%d E=%d", T, E);
            a.in = kc_put(k, c, in + (size_t)(T - 1) * (size_t)E, (size_t)E * sizeof(float)); /* the last row by itself */
            a.out = kc_put(k, c, NULL, (size_t)E * sizeof(float));
            a.T = 1;
            float *one = floats(k, (size_t)E);
            kc_rc(k, c, "norm", c->ops->norm(c->dev, &a), "T=1 E=%d", E);
            kc_get(k, c, one, a.out, (size_t)E * sizeof(float));
            kc_same(k, c, "norm", got[i % 2] + (size_t)(T - 1) * (size_t)E, one, (size_t)E * sizeof(float), "last of %d rows alone, E=%d", T, E);
        }
        kc_end_case(k, "norm");
    }
}

/* Two products and a sum: 3 roundings of at most |u c| + |v s|; a scale of cos and sin is one more. Dims past `rot` keep their bits. */
static void check_rotate(struct kc *k)
{
    for (int turn = 0; turn < 42; turn++) {
        if (kc_skip(k))
            continue;
        int T = turn % 4 ? kc_int(k, 1, 9) : 60, heads = kc_int(k, 1, 9), D = 2 * kc_int(k, 1, 64), n_pos = 50;
        int rot = turn % 3 ? D : 2 * kc_int(k, 0, D / 2);
        bool halves = turn % 2;
        enum kc_fill_kind fill = (enum kc_fill_kind)(turn % KC_N_FILL);
        size_t n = (size_t)T * (size_t)heads * (size_t)D, bytes = n * sizeof(float), table_n = (size_t)n_pos * (size_t)rot;
        float *x = floats(k, n), *table = floats(k, table_n), *want = floats(k, n), *allow = floats(k, n), *got[2] = {floats(k, n), floats(k, n)}, *again = floats(k, n);
        int32_t *pos = kc_host(k, (size_t)T * sizeof *pos);
        kc_fill(k, x, n, fill);
        for (size_t i = 0; i < table_n; i += 2) {
            double angle = (double)kc_uniform(k, 0, 6.2831853f);
            table[i] = (float)cos(angle);
            table[i + 1] = (float)sin(angle);
        }
        for (int t = 0; t < T; t++)
            pos[t] = kc_int(k, 0, n_pos - 1);
        float largest = 0;
        for (size_t i = 0; i < n; i++)
            largest = fmaxf(largest, fabsf(x[i]));
        for (size_t i = 0; i < n; i++)
            allow[i] = (float)(4 * KC_EPS * 2 * 1.3 * (double)largest + 0x1p-148);
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            struct kvt_rotate_args a = {.x = kc_put_shifted(k, c, x, bytes, 4), .pos = kc_put(k, c, pos, (size_t)T * sizeof *pos),
                                        .rope = {kc_put(k, c, table, table_n * sizeof(float)), n_pos, rot, halves}, .T = T, .heads = heads, .D = D,
                                        .scale = turn % 5 == 2 ? 1.3f : 0, .more = turn % 2 ? kc_put_shifted(k, c, x, bytes, 0) : NULL, .more_heads = heads};
            kc_rc(k, c, "rotate", c->ops->rotate(c->dev, &a), "T=%d heads=%d D=%d rot=%d", T, heads, D, rot);
            kc_get(k, c, i < 0 ? want : got[i % 2], a.x, bytes);
            if (a.more) {
                kc_get(k, c, again, a.more, bytes);
                kc_same(k, c, "rotate", i < 0 ? want : got[i % 2], again, bytes, "the second array T=%d heads=%d D=%d", T, heads, D);
            }
            if (i < 0)
                continue;
            kc_judge(k, c, "rotate", want, got[i % 2], allow, n, "T=%d heads=%d D=%d rot=%d %s fill=%s", T, heads, D, rot, halves ? "halves" : "adjacent", kc_fill_name(fill));
            bool kept = true;
            for (size_t j = 0; j < n; j++)
                kept &= (int)(j % (size_t)D) < rot || got[i % 2][j] == x[j];
            kc_that(k, c, "rotate", kept, "dims from rot=%d on are not touched, D=%d", rot, D);
            if (c->threads > 1)
                kc_same(k, c, "rotate", got[0], got[1], bytes, "1 and more threads: T=%d heads=%d D=%d", T, heads, D);
        }
        kc_end_case(k, "rotate");
    }
}

/* The exponential may be off by 2e-7, which the quotient passes on at most whole; then sum, quotient, 2 products. GELU's
 * argument is a few roundings of its size off, which its exponential turns into a relative error where it is in the tail
 * (the erfc of x by 2 x^2 of its argument's); beyond 88 both are 0. */
static double allow_glu(enum kvt_act act, double g, double up, double want)
{
    double u = 2 * 0.79788456 * (fabs(g) + 0.044715 * fabs(g * g * g)), more = 0;
    if (act == KVT_ACT_GELU_TANH)
        more = 8 * fmin(u, 88);
    else if (act == KVT_ACT_GELU)
        more = 8 + 2 * fmin(g * g, 180);
    return (2e-7 + (4 + more) * KC_EPS) * fabs(want) + 0x1p-118 * (1 + fabs(up)); /* below e^-87 the exponential is 0 */
}

static void check_glu(struct kc *k)
{
    for (int turn = 0; turn < 84; turn++) {
        if (kc_skip(k))
            continue;
        enum kvt_act act = (enum kvt_act)(turn / 28);
        int T = turn % 4 ? kc_int(k, 1, 5) : 40, F = kc_int(k, 1, 1700);
        enum kc_fill_kind fill = (enum kc_fill_kind)(turn % KC_N_FILL);
        size_t n = (size_t)T * (size_t)F, bytes = n * sizeof(float);
        float *gate = floats(k, n), *up = floats(k, n), *want = floats(k, n), *allow = floats(k, n), *got[2] = {floats(k, n), floats(k, n)};
        kc_fill(k, gate, n, fill);
        if (turn % 2)
            for (size_t i = 0; i < n; i++)
                gate[i] *= 30; /* both tails of the sigmoid */
        kc_fill(k, up, n, KC_NORMAL);
        bool in_place = turn % 3 == 0;
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            float *dgate = kc_put_shifted(k, c, gate, bytes, 4);
            struct kvt_glu_args a = {.gate = dgate, .up = kc_put_shifted(k, c, up, bytes, 8),
                                        .out = in_place ? dgate : kc_put_shifted(k, c, NULL, bytes, 4), .T = T, .F = F, .act = act};
            kc_rc(k, c, "glu", c->ops->glu(c->dev, &a), "T=%d F=%d", T, F);
            kc_get(k, c, i < 0 ? want : got[i % 2], a.out, bytes);
            if (i < 0) {
                for (size_t j = 0; j < n; j++)
                    allow[j] = (float)allow_glu(act, (double)gate[j], (double)up[j], (double)want[j]);
                continue;
            }
            kc_judge(k, c, "glu", want, got[i % 2], allow, n, "T=%d F=%d act=%d fill=%s", T, F, (int)act, kc_fill_name(fill));
            if (c->threads > 1)
                kc_same(k, c, "glu", got[0], got[1], bytes, "1 and more threads: T=%d F=%d", T, F);
        }
        kc_end_case(k, "glu");
    }
}

static void check_add(struct kc *k)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 576, 16384, 16385, 200003};
    for (size_t turn = 0; turn < 18; turn++) {
        size_t n = sizes[turn % 9], bytes = n * sizeof(float);
        float *x = floats(k, n), *y = floats(k, n), *want = floats(k, n), *got = floats(k, n);
        kc_fill(k, x, n, (enum kc_fill_kind)(turn % KC_N_FILL));
        kc_fill(k, y, n, KC_NORMAL);
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            struct kvt_add_args a = {.x = kc_put_shifted(k, c, x, bytes, 4), .y = kc_put_shifted(k, c, y, bytes, 8), .count = n,
                                     .scale = turn < 9 ? 1 : 0.22f};
            kc_rc(k, c, "add", c->ops->add(c->dev, &a), "count=%zu", n);
            kc_get(k, c, i < 0 ? want : got, a.x, bytes);
            if (i >= 0)
                kc_same(k, c, "add", want, got, bytes, "count=%zu", n); /* each step is rounded: no freedom */
            kc_end_cand(k, c, "add");
        }
        kc_end_case(k, "add");
    }
}

/* Without a cap one rounding, and no freedom. The tangent is off by 4e-7; its argument's two roundings move it by no more
 * than themselves, as x sech^2 x < tanh x. */
static void check_scale(struct kc *k)
{
    static const size_t sizes[] = {1, 15, 17, 576, 4097, 100003};
    for (size_t turn = 0; turn < 42; turn++) {
        size_t n = sizes[turn % 6], bytes = n * sizeof(float);
        float *x = floats(k, n), *want = floats(k, n), *got = floats(k, n), *allow = floats(k, n), cap = turn % 2 ? turn % 4 == 1 ? 30 : 0.5f : 0;
        kc_fill(k, x, n, (enum kc_fill_kind)(turn % KC_N_FILL));
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            struct kvt_scale_args a = {.x = kc_put_shifted(k, c, x, bytes, 4), .count = n, .scale = 1.7f, .cap = cap};
            kc_rc(k, c, "scale", c->ops->scale(c->dev, &a), "count=%zu", n);
            kc_get(k, c, i < 0 ? want : got, a.x, bytes);
            for (size_t j = 0; i < 0 && j < n; j++)
                allow[j] = cap > 0 ? (float)((4e-7 + 6 * KC_EPS) * fabs((double)want[j]) + DENORMAL) : 0;
            if (i >= 0)
                kc_judge(k, c, "scale", want, got, allow, n, "count=%zu cap=%g", n, (double)cap);
            kc_end_cand(k, c, "scale");
        }
        kc_end_case(k, "scale");
    }
}

/* The five results of a call, on the host. */
struct stats { int32_t *argmax; float *of[4]; /* logprob, top_logprob, kl, entropy */ };

static struct stats stats_new(struct kc *k, int T)
{
    struct stats s = {.argmax = kc_host(k, (size_t)T * sizeof(int32_t))};
    for (int i = 0; i < 4; i++)
        s.of[i] = floats(k, (size_t)T);
    return s;
}

static void stats_run(struct kc *k, struct kc_cand *c, const float *x, int T, int V, const int32_t *base, const int32_t *token, struct stats *s)
{
    struct kvt_logit_stats_args a = {.logits = kc_put_shifted(k, c, x, (size_t)T * (size_t)V * sizeof(float), 4), .T = T, .V = V,
                                     .base = base, .token = token, .argmax = s->argmax, .logprob = s->of[0],
                                     .top_logprob = s->of[1], .kl = s->of[2], .entropy = s->of[3]};
    kc_rc(k, c, "logit_stats", c->ops->logit_stats(c->dev, &a), "T=%d V=%d", T, V);
    kc_end_cand(k, c, "logit_stats");
}

/* ln Z: each exponential is off by at most 2e-7 relative, from rounding x - max (half an ulp of it: for a term e^-d
 * that is d e^-d eps, at most eps / e of the sum's largest term) and from the polynomial; so ln Z and the means
 * below are off by 4e-7 in units of the mean magnitude they average, here bounded by the row's spread where its
 * exponentials aren't 0 (87). Rounding of the result itself is added. */
static void check_logit_stats(struct kc *k)
{
    static const char *const name[] = {"logprob", "top_logprob", "kl", "entropy"};
    static const int sizes[] = {1, 2, 17, 255, 256, 257, 1000, 5003};
    for (int turn = 0; turn < 40; turn++) {
        if (kc_skip(k))
            continue;
        int T = turn % 5 ? kc_int(k, 1, 6) : 13, V = sizes[turn % 8];
        enum kc_fill_kind fill = (enum kc_fill_kind)(turn % KC_N_FILL);
        size_t n = (size_t)T * (size_t)V;
        float *x = floats(k, n), *allow[4] = {floats(k, (size_t)T), floats(k, (size_t)T), floats(k, (size_t)T), floats(k, (size_t)T)};
        int32_t *base = kc_host(k, (size_t)T * sizeof *base), *token = kc_host(k, (size_t)T * sizeof *token);
        kc_fill(k, x, n, fill);
        if (turn % 3 == 1)
            for (size_t i = 0; i < n; i++)
                x[i] *= 8; /* as peaked as a model's logits */
        for (int t = 0; t < T; t++) {
            base[t] = kc_int(k, -1, T - 1);
            token[t] = kc_int(k, -1, V - 1);
        }
        if (T > 2) { /* equal rows have no divergence; near rows a small one; ties fall to the smaller id; -inf is no mass */
            memcpy(x + (size_t)V, x, (size_t)V * sizeof(float));
            base[1] = 0;
            for (int v = 0; v < V; v++)
                x[2 * (size_t)V + (size_t)v] = x[v] * (1 + kc_uniform(k, -1e-3f, 1e-3f));
            base[2] = 0;
            if (V > 20 && fill == KC_NORMAL) {
                x[V - 3] = x[7] = x[V + 7] = x[V + V - 3] = 100;
                x[9] = x[V + 9] = x[2 * (size_t)V + 9] = -INFINITY;
                token[0] = 11;
            }
        }
        struct stats want = stats_new(k, T), got[2] = {stats_new(k, T), stats_new(k, T)}, one = stats_new(k, 1);
        stats_run(k, &k->ref, x, T, V, base, token, &want);
        for (int t = 0; t < T; t++) {
            float low = INFINITY, high = -INFINITY;
            for (int v = 0; v < V; v++) {
                for (int r = 0; r < 2; r++) {
                    float l = x[(size_t)(r && base[t] >= 0 ? base[t] : t) * (size_t)V + (size_t)v];
                    low = l > -INFINITY ? fminf(low, l) : low;
                    high = fmaxf(high, l);
                }
            }
            double spread = fmin(87, (double)high - (double)low), eps = 4e-7;
            allow[0][t] = (float)(eps + 2 * KC_EPS * fabs((double)want.of[0][t]));
            allow[1][t] = (float)(eps + 2 * KC_EPS * fabs((double)want.of[1][t]));
            allow[2][t] = (float)(eps * (2 + (double)high - (double)low) + 2 * KC_EPS * fabs((double)want.of[2][t]));
            allow[3][t] = (float)(eps * (2 + spread));
        }
        for (int i = 0; i < k->n_cand; i++) {
            struct kc_cand *c = &k->cand[i];
            struct stats *g = &got[i % 2];
            stats_run(k, c, x, T, V, base, token, g);
            kc_same(k, c, "logit_stats", want.argmax, g->argmax, (size_t)T * sizeof(int32_t), "argmax T=%d V=%d fill=%s", T, V, kc_fill_name(fill));
            for (int s = 0; s < 4; s++) {
                kc_judge(k, c, "logit_stats", want.of[s], g->of[s], allow[s], (size_t)T, "%s T=%d V=%d fill=%s", name[s], T, V, kc_fill_name(fill));
                if (c->threads > 1)
                    kc_same(k, c, "logit_stats", got[0].of[s], got[1].of[s], (size_t)T * sizeof(float), "1 and more threads: %s T=%d V=%d", name[s], T, V);
            }
            kc_that(k, c, "logit_stats", T <= 2 || g->of[2][1] == 0, "equal rows have a divergence of 0, not %g", T > 2 ? (double)g->of[2][1] : 0);
            stats_run(k, c, x + (size_t)(T - 1) * (size_t)V, 1, V, NULL, token + T - 1, &one);
            kc_same(k, c, "logit_stats", &g->of[3][T - 1], &one.of[3][0], sizeof(float), "entropy of the last of %d rows alone", T);
        }
        kc_end_case(k, "logit_stats");
    }
}

static void check(struct kc *k)
{
    check_embed(k);
    check_norm(k);
    check_rotate(k);
    check_glu(k);
    check_add(k);
    check_scale(k);
    check_logit_stats(k);
}

/* ---- sabotage ---- */

static int wrong_embed(struct kvt_dev *dev, const struct kvt_embed_args *a)
{
    int rc = kvt_ops_cpu.embed(dev, a);
    a->out[(size_t)a->T * (size_t)a->table.k - 1] *= 1 + 0x1p-20f;
    return rc;
}

static int wrong_norm(struct kvt_dev *dev, const struct kvt_norm_args *a)
{
    struct kvt_norm_args b = *a;
    b.eps = 0; /* forgets epsilon */
    return kvt_ops_cpu.norm(dev, &b);
}

static int wrong_rotate(struct kvt_dev *dev, const struct kvt_rotate_args *a)
{
    struct kvt_rotate_args b = *a;
    b.rope.halves = !b.rope.halves;
    return kvt_ops_cpu.rotate(dev, &b);
}

static int wrong_glu(struct kvt_dev *dev, const struct kvt_glu_args *a)
{
    struct kvt_glu_args b = *a;
    b.F--; /* misses the last value of a row (of one row: the others shift) */
    return b.F && a->T == 1 ? kvt_ops_cpu.glu(dev, &b) : kvt_ops_cpu.glu(dev, a);
}

static int wrong_bias(struct kvt_dev *dev, const struct kvt_norm_args *a)
{
    struct kvt_norm_args b = *a;
    b.bias = NULL;
    return kvt_ops_cpu.norm(dev, &b);
}

static int wrong_stretch(struct kvt_dev *dev, const struct kvt_rotate_args *a)
{
    struct kvt_rotate_args b = *a;
    b.scale = 1;
    return kvt_ops_cpu.rotate(dev, &b);
}

static int wrong_act(struct kvt_dev *dev, const struct kvt_glu_args *a)
{
    struct kvt_glu_args b = *a;
    b.act = a->act == KVT_ACT_GELU ? KVT_ACT_GELU_TANH : a->act; /* the two differ by 1e-3 at most */
    return kvt_ops_cpu.glu(dev, &b);
}

static int wrong_scale(struct kvt_dev *dev, const struct kvt_scale_args *a)
{
    struct kvt_scale_args b = *a;
    b.cap *= 1 + 0x1p-18f;
    return kvt_ops_cpu.scale(dev, &b);
}

static int wrong_add(struct kvt_dev *dev, const struct kvt_add_args *a)
{
    int rc = kvt_ops_cpu.add(dev, a);
    if (a->count % 16 == 1)
        a->x[a->count - 1] += a->y[a->count - 1]; /* the tail twice */
    return rc;
}

static int wrong_argmax(struct kvt_dev *dev, const struct kvt_logit_stats_args *a)
{
    int rc = kvt_ops_cpu.logit_stats(dev, a);
    for (int t = 0; t < a->T; t++) { /* ties: the larger id */
        const float *x = a->logits + (size_t)t * (size_t)a->V;
        for (int v = 0; v < a->V; v++)
            if (x[v] == x[a->argmax[t]])
                a->argmax[t] = v;
    }
    return rc;
}

static int wrong_kl(struct kvt_dev *dev, const struct kvt_logit_stats_args *a)
{
    int rc = kvt_ops_cpu.logit_stats(dev, a);
    for (int t = 0; t < a->T; t++)
        a->kl[t] += 1e-6f * a->kl[t] + 1e-12f; /* not quite 0 for equal rows */
    return rc;
}

static const char *sabotage(struct kvt_ops *ops, int i)
{
    switch (i) {
    case 0: ops->embed = wrong_embed; return "embed: a last bit";
    case 1: ops->norm = wrong_norm; return "norm: no epsilon";
    case 2: ops->rotate = wrong_rotate; return "rotate: pairs of the other layout";
    case 3: ops->glu = wrong_glu; return "glu: misses the tail";
    case 4: ops->add = wrong_add; return "add: the tail twice";
    case 5: ops->logit_stats = wrong_argmax; return "logit_stats: ties fall to the larger id";
    case 6: ops->logit_stats = wrong_kl; return "logit_stats: equal rows have a divergence";
    case 7: ops->norm = wrong_bias; return "norm: no bias";
    case 8: ops->rotate = wrong_stretch; return "rotate: cos and sin aren't scaled";
    case 9: ops->glu = wrong_act; return "glu: the other gelu";
    case 10: ops->scale = wrong_scale; return "scale: a cap that is a bit too wide";
    default: return NULL;
    }
}

/* ---- bench ---- */

struct timed {
    struct kc_cand *c;
    struct kvt_norm_args norm;
    struct kvt_rotate_args rotate;
    struct kvt_glu_args glu;
    struct kvt_add_args add;
    struct kvt_scale_args scale;
    struct kvt_logit_stats_args stats;
};
static void run_norm(void *arg) { struct timed *t = arg; t->c->ops->norm(t->c->dev, &t->norm); }
static void run_rotate(void *arg) { struct timed *t = arg; t->c->ops->rotate(t->c->dev, &t->rotate); }
static void run_glu(void *arg) { struct timed *t = arg; t->c->ops->glu(t->c->dev, &t->glu); }
static void run_add(void *arg) { struct timed *t = arg; t->c->ops->add(t->c->dev, &t->add); }
static void run_scale(void *arg) { struct timed *t = arg; t->c->ops->scale(t->c->dev, &t->scale); }
static void run_stats(void *arg) { struct timed *t = arg; t->c->ops->logit_stats(t->c->dev, &t->stats); }

static void bench(struct kc *k)
{
    enum { T = 512, E = 576, F = 1536, V = 49152, ROWS = 49 };
    for (int i = -1; i < k->n_cand; i++) {
        struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
        float *host = floats(k, (size_t)V * ROWS);
        kc_fill(k, host, (size_t)V * ROWS, KC_NORMAL);
        int32_t *pos = kc_host(k, T * sizeof *pos), base[ROWS] = {0}, argmax[ROWS];
        float kl[ROWS], entropy[ROWS];
        float *x = kc_put(k, c, host, (size_t)V * ROWS * sizeof(float)), *y = kc_put(k, c, host, (size_t)T * F * sizeof(float));
        float *z = kc_put(k, c, NULL, (size_t)T * F * sizeof(float)), table[64];
        for (int j = 0; j < 64; j++) /* real rotations: anything else shrinks x to denormals, turn after turn, and times those */
            table[j] = j % 2 ? sinf((float)(j / 2)) : cosf((float)(j / 2));
        struct timed t = {.c = c,
            .norm = {.in = x, .weight = y, .out = z, .eps = 1e-5f, .T = T, .E = E},
            .rotate = {.x = z, .pos = kc_put(k, c, pos, T * sizeof *pos), .rope = {kc_put(k, c, table, sizeof table), 1, 64, false}, .T = T, .heads = 9, .D = 64},
            .glu = {.gate = x, .up = y, .out = z, .T = T, .F = F},
            .add = {.x = z, .y = y, .count = (size_t)T * E, .scale = 1},
            .scale = {.x = z, .count = (size_t)T * E, .scale = 1, .cap = 30},
            .stats = {.logits = x, .T = ROWS, .V = V, .base = base, .argmax = argmax, .kl = kl, .entropy = entropy}};
        kc_line(k, c, "norm", "T=512 E=576", kc_time(c, run_norm, &t), 0, 2.0 * T * E * 4);
        kc_line(k, c, "rotate", "T=512 heads=9 D=64 adjacent", kc_time(c, run_rotate, &t), 0, 2.0 * T * E * 4);
        t.rotate.rope.halves = true;
        kc_line(k, c, "rotate", "T=512 heads=9 D=64 halves", kc_time(c, run_rotate, &t), 0, 2.0 * T * E * 4);
        t.rotate.scale = 1.0000001f;
        kc_line(k, c, "rotate", "T=512 heads=9 D=64 halves, scaled", kc_time(c, run_rotate, &t), 0, 2.0 * T * E * 4);
        kc_line(k, c, "glu", "T=512 F=1536", kc_time(c, run_glu, &t), 0, 3.0 * T * F * 4);
        t.glu.act = KVT_ACT_GELU_TANH;
        kc_line(k, c, "glu", "T=512 F=1536 gelu-tanh", kc_time(c, run_glu, &t), 0, 3.0 * T * F * 4);
        kc_line(k, c, "scale", "512 x 576, cap", kc_time(c, run_scale, &t), 0, 2.0 * T * E * 4);
        kc_line(k, c, "add", "T=512 E=576", kc_time(c, run_add, &t), 0, 3.0 * T * E * 4);
        kc_line(k, c, "logit_stats", "T=49 V=49152 argmax kl entropy", kc_time(c, run_stats, &t), 0, 1.0 * ROWS * V * 4);
        kc_end_case(k, "bench");
    }
}

const struct kc_subject kc_elem = {"elem", check, bench, sabotage};

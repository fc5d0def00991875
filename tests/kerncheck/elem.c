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
 * reciprocal and two products. */
static void check_rmsnorm(struct kc *k)
{
    static const int sizes[] = {1, 5, 16, 64, 100, 576, 1000, 4096};
    for (int turn = 0; turn < 56; turn++) {
        int E = sizes[turn % 8], T = turn % 5 ? kc_int(k, 1, 7) : 70;
        enum kc_fill_kind fill = (enum kc_fill_kind)(turn % KC_N_FILL);
        size_t n = (size_t)T * (size_t)E, bytes = n * sizeof(float);
        float *in = floats(k, n), *weight = floats(k, (size_t)E), *want = floats(k, n), *allow = floats(k, n);
        float *got[2] = {floats(k, n), floats(k, n)};
        kc_fill(k, in, n, fill);
        kc_fill(k, weight, (size_t)E, KC_UNIFORM);
        bool in_place = turn % 3 == 0;
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            float *din = kc_put_shifted(k, c, in, bytes, 4);
            struct kvt_rmsnorm_args a = {.in = din, .weight = kc_put_shifted(k, c, weight, (size_t)E * sizeof(float), 4),
                                         .out = in_place ? din : kc_put_shifted(k, c, NULL, bytes, 4), .eps = 1e-5f, .T = T, .E = E};
            kc_rc(k, c, "rmsnorm", c->ops->rmsnorm(c->dev, &a), "T=%d E=%d", T, E);
            kc_get(k, c, i < 0 ? want : got[i % 2], a.out, bytes);
            if (i < 0) {
                for (size_t j = 0; j < n; j++)
                    allow[j] = (float)(((E / 16 + 5) * 0.5 + 5) * KC_EPS * fabs((double)want[j]) + DENORMAL);
                continue;
            }
            kc_judge(k, c, "rmsnorm", want, got[i % 2], allow, n, "T=%d E=%d fill=%s", T, E, kc_fill_name(fill));
            if (c->threads > 1)
                kc_same(k, c, "rmsnorm", got[0], got[1], bytes, "1 and more threads: T=%d E=%d", T, E);
            a.in = kc_put(k, c, in + (size_t)(T - 1) * (size_t)E, (size_t)E * sizeof(float)); /* the last row by itself */
            a.out = kc_put(k, c, NULL, (size_t)E * sizeof(float));
            a.T = 1;
            float *one = floats(k, (size_t)E);
            kc_rc(k, c, "rmsnorm", c->ops->rmsnorm(c->dev, &a), "T=1 E=%d", E);
            kc_get(k, c, one, a.out, (size_t)E * sizeof(float));
            kc_same(k, c, "rmsnorm", got[i % 2] + (size_t)(T - 1) * (size_t)E, one, (size_t)E * sizeof(float), "last of %d rows alone, E=%d", T, E);
        }
        kc_end_case(k, "rmsnorm");
    }
}

/* Two products and a sum: 3 roundings of at most |u c| + |v s|. Dims past `rot` keep their bits. */
static void check_rotate(struct kc *k)
{
    for (int turn = 0; turn < 42; turn++) {
        int T = turn % 4 ? kc_int(k, 1, 9) : 60, heads = kc_int(k, 1, 9), D = 2 * kc_int(k, 1, 64), n_pos = 50;
        int rot = turn % 3 ? D : 2 * kc_int(k, 0, D / 2);
        bool halves = turn % 2;
        enum kc_fill_kind fill = (enum kc_fill_kind)(turn % KC_N_FILL);
        size_t n = (size_t)T * (size_t)heads * (size_t)D, bytes = n * sizeof(float), table_n = (size_t)n_pos * (size_t)rot;
        float *x = floats(k, n), *table = floats(k, table_n), *want = floats(k, n), *allow = floats(k, n), *got[2] = {floats(k, n), floats(k, n)};
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
            allow[i] = (float)(3 * KC_EPS * 2 * (double)largest + 0x1p-148);
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            struct kvt_rotate_args a = {.x = kc_put_shifted(k, c, x, bytes, 4), .pos = kc_put(k, c, pos, (size_t)T * sizeof *pos),
                                        .rope = {kc_put(k, c, table, table_n * sizeof(float)), n_pos, rot, halves}, .T = T, .heads = heads, .D = D};
            kc_rc(k, c, "rotate", c->ops->rotate(c->dev, &a), "T=%d heads=%d D=%d rot=%d", T, heads, D, rot);
            kc_get(k, c, i < 0 ? want : got[i % 2], a.x, bytes);
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

/* The exponential may be off by 2e-7, which the quotient passes on at most whole; then sum, quotient, 2 products. */
static void check_swiglu(struct kc *k)
{
    for (int turn = 0; turn < 28; turn++) {
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
            struct kvt_swiglu_args a = {.gate = dgate, .up = kc_put_shifted(k, c, up, bytes, 8),
                                        .out = in_place ? dgate : kc_put_shifted(k, c, NULL, bytes, 4), .T = T, .F = F};
            kc_rc(k, c, "swiglu", c->ops->swiglu(c->dev, &a), "T=%d F=%d", T, F);
            kc_get(k, c, i < 0 ? want : got[i % 2], a.out, bytes);
            if (i < 0) {
                for (size_t j = 0; j < n; j++) /* below e^-87 the exponential is 0 */
                    allow[j] = (float)((2e-7 + 4 * KC_EPS) * fabs((double)want[j]) + 0x1p-118 * (1 + fabs((double)up[j])));
                continue;
            }
            kc_judge(k, c, "swiglu", want, got[i % 2], allow, n, "T=%d F=%d fill=%s", T, F, kc_fill_name(fill));
            if (c->threads > 1)
                kc_same(k, c, "swiglu", got[0], got[1], bytes, "1 and more threads: T=%d F=%d", T, F);
        }
        kc_end_case(k, "swiglu");
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
            struct kvt_add_args a = {.x = kc_put_shifted(k, c, x, bytes, 4), .y = kc_put_shifted(k, c, y, bytes, 8), .count = n};
            kc_rc(k, c, "add", c->ops->add(c->dev, &a), "count=%zu", n);
            kc_get(k, c, i < 0 ? want : got, a.x, bytes);
            if (i >= 0)
                kc_same(k, c, "add", want, got, bytes, "count=%zu", n); /* one rounding: no freedom */
            kc_end_cand(k, c, "add");
        }
        kc_end_case(k, "add");
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
    check_rmsnorm(k);
    check_rotate(k);
    check_swiglu(k);
    check_add(k);
    check_logit_stats(k);
}

/* ---- sabotage ---- */

static int wrong_embed(struct kvt_dev *dev, const struct kvt_embed_args *a)
{
    int rc = kvt_ops_cpu.embed(dev, a);
    a->out[(size_t)a->T * (size_t)a->table.k - 1] *= 1 + 0x1p-20f;
    return rc;
}

static int wrong_rmsnorm(struct kvt_dev *dev, const struct kvt_rmsnorm_args *a)
{
    struct kvt_rmsnorm_args b = *a;
    b.eps = 0; /* forgets epsilon */
    return kvt_ops_cpu.rmsnorm(dev, &b);
}

static int wrong_rotate(struct kvt_dev *dev, const struct kvt_rotate_args *a)
{
    struct kvt_rotate_args b = *a;
    b.rope.halves = !b.rope.halves;
    return kvt_ops_cpu.rotate(dev, &b);
}

static int wrong_swiglu(struct kvt_dev *dev, const struct kvt_swiglu_args *a)
{
    struct kvt_swiglu_args b = *a;
    b.F--; /* misses the last value of a row (of one row: the others shift) */
    return b.F && a->T == 1 ? kvt_ops_cpu.swiglu(dev, &b) : kvt_ops_cpu.swiglu(dev, a);
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
    case 1: ops->rmsnorm = wrong_rmsnorm; return "rmsnorm: no epsilon";
    case 2: ops->rotate = wrong_rotate; return "rotate: pairs of the other layout";
    case 3: ops->swiglu = wrong_swiglu; return "swiglu: misses the tail";
    case 4: ops->add = wrong_add; return "add: the tail twice";
    case 5: ops->logit_stats = wrong_argmax; return "logit_stats: ties fall to the larger id";
    case 6: ops->logit_stats = wrong_kl; return "logit_stats: equal rows have a divergence";
    default: return NULL;
    }
}

/* ---- bench ---- */

struct timed {
    struct kc_cand *c;
    struct kvt_rmsnorm_args norm;
    struct kvt_rotate_args rotate;
    struct kvt_swiglu_args swiglu;
    struct kvt_add_args add;
    struct kvt_logit_stats_args stats;
};
static void run_norm(void *arg) { struct timed *t = arg; t->c->ops->rmsnorm(t->c->dev, &t->norm); }
static void run_rotate(void *arg) { struct timed *t = arg; t->c->ops->rotate(t->c->dev, &t->rotate); }
static void run_swiglu(void *arg) { struct timed *t = arg; t->c->ops->swiglu(t->c->dev, &t->swiglu); }
static void run_add(void *arg) { struct timed *t = arg; t->c->ops->add(t->c->dev, &t->add); }
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
        float *z = kc_put(k, c, NULL, (size_t)T * F * sizeof(float));
        struct timed t = {.c = c,
            .norm = {.in = x, .weight = y, .out = z, .eps = 1e-5f, .T = T, .E = E},
            .rotate = {.x = z, .pos = kc_put(k, c, pos, T * sizeof *pos), .rope = {y, 1, 64, false}, .T = T, .heads = 9, .D = 64},
            .swiglu = {.gate = x, .up = y, .out = z, .T = T, .F = F},
            .add = {.x = z, .y = y, .count = (size_t)T * E},
            .stats = {.logits = x, .T = ROWS, .V = V, .base = base, .argmax = argmax, .kl = kl, .entropy = entropy}};
        kc_line(k, c, "rmsnorm", "T=512 E=576", kc_time(run_norm, &t), 0, 2.0 * T * E * 4);
        kc_line(k, c, "rotate", "T=512 heads=9 D=64 adjacent", kc_time(run_rotate, &t), 0, 2.0 * T * E * 4);
        t.rotate.rope.halves = true;
        kc_line(k, c, "rotate", "T=512 heads=9 D=64 halves", kc_time(run_rotate, &t), 0, 2.0 * T * E * 4);
        kc_line(k, c, "swiglu", "T=512 F=1536", kc_time(run_swiglu, &t), 0, 3.0 * T * F * 4);
        kc_line(k, c, "add", "T=512 E=576", kc_time(run_add, &t), 0, 3.0 * T * E * 4);
        kc_line(k, c, "logit_stats", "T=49 V=49152 argmax kl entropy", kc_time(run_stats, &t), 0, 1.0 * ROWS * V * 4);
        kc_end_case(k, "bench");
    }
}

const struct kc_subject kc_elem = {"elem", check, bench, sabotage};

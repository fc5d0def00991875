/* lost: what branches don't hold of a row, and the errors of their outputs, against the definition.
 *
 * Where the allowances come from. Masses are sums in double on both sides and rounded once: 2 u of the row's sum. The
 * restricted output of a head is a chain of up to n products and sums in float against double: (n + 2) u of sum p |v| / kept,
 * so its distance is off by the norm of that; the quotient and the root add a few units. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kerncheck/kerncheck.h"

enum { MAX_B = 6 };

struct shape { int H, G, D; enum kvt_dtype type; };
static const struct shape shapes[] = {
    {9, 3, 64, KVT_F16}, {4, 4, 20, KVT_F32}, {6, 1, 96, KVT_BF16}, {16, 2, 40, KVT_F16}, {2, 2, 16, KVT_F32}, {8, 1, 80, KVT_BF16},
};

struct lost_case {
    struct shape s;
    int n, B, n_sink;
    const float *k, *v, *row, *out, *own;
    const int32_t *keep;     /* (B, G, n) slots kept, ascending; count (B, G) */
    const int32_t *count;
};

static float *floats(struct kc *k, size_t n) { return kc_host(k, n * sizeof(float)); }

static void run(struct kc *k, struct kc_cand *c, const struct lost_case *x, float *lost, float *rest, float *local, float *propagated)
{
    int G = x->s.G, D = x->s.D, H = x->s.H, n = x->n;
    struct kvt_cache_opts o = {.L = 1, .G = G, .D = D, .max_branch = x->B + 1, .max_slots = n, .type = x->s.type};
    struct kvt_cache *cache = NULL;
    kc_rc(k, c, "lost", c->ops->cache_open(c->dev, &cache, &o, NULL), "cache_open");
    int32_t *branch = kc_host(k, (size_t)n * sizeof *branch), *pos = kc_host(k, (size_t)n * sizeof *pos), ids[MAX_B];
    for (int i = 0; i < n; i++)
        pos[i] = i;
    kc_rc(k, c, "lost", c->ops->cache_append(c->dev, &(struct kvt_append_args){cache, 0, n, kc_put(k, c, x->k, (size_t)(n * G * D) * sizeof(float)),
                                                                                   kc_put(k, c, x->v, (size_t)(n * G * D) * sizeof(float)), branch, pos}), "append");
    const float *own[MAX_B];
    for (int b = 0; b < x->B; b++) {
        ids[b] = b + 1;
        own[b] = kc_put(k, c, x->own + (size_t)(b * H * D), (size_t)(H * D) * sizeof(float));
        kc_rc(k, c, "lost", c->ops->cache_fork(c->dev, cache, 0, b + 1), "fork");
        struct kvt_keep_args keep = {cache, b + 1, 0, kc_put(k, c, x->keep + (size_t)(b * G * n), (size_t)(G * n) * sizeof(int32_t)),
                                     kc_put(k, c, x->count + (size_t)(b * G), (size_t)G * sizeof(int32_t)), n};
        kc_rc(k, c, "lost", c->ops->cache_keep(c->dev, &keep), "keep");
        if (b % 2) { /* shuffles the order of slots too */
            int32_t *first = kc_host(k, (size_t)(G * n) * sizeof *first), *one = kc_host(k, (size_t)G * sizeof *one);
            for (int g = 0; g < G; g++)
                one[g] = x->count[b * G + g] > 2;
            struct kvt_remove_args gone = {cache, b + 1, 0, kc_put(k, c, first, (size_t)(G * n) * sizeof *first), kc_put(k, c, one, (size_t)G * sizeof *one), n, NULL, 0};
            kc_rc(k, c, "lost", c->ops->cache_remove(c->dev, &gone), "remove");
        }
    }
    struct kvt_lost_args a = {.cache = cache, .H = H, .from = 0, .row = kc_put(k, c, x->row, (size_t)(H * n) * sizeof(float)), .ld = n,
                              .out = kc_put(k, c, x->out, (size_t)(H * D) * sizeof(float)), .B = x->B, .branch = ids, .own = own,
                              .n_sink = x->n_sink, .lost = lost, .lost_rest = rest, .local = local, .propagated = propagated};
    kc_rc(k, c, "lost", c->ops->lost(c->dev, &a), "n=%d B=%d", n, x->B);
    c->ops->cache_close(c->dev, &cache);
}

/* A row of probabilities, some of them 0; and what attention makes of it, more or less. */
static void make_row(struct kc *k, struct lost_case *x, int kind)
{
    int H = x->s.H, D = x->s.D, n = x->n;
    float *row = floats(k, (size_t)(H * n)), *out = floats(k, (size_t)(H * D)), *own = floats(k, (size_t)(x->B * H * D));
    for (int h = 0; h < H; h++) {
        double sum = 0;
        for (int j = 0; j < n; j++) {
            row[h * n + j] = kind == 1 ? (j == 0) : kind == 2 && j % 3 ? 0 : expf(4 * kc_uniform(k, -1, 1));
            sum += row[h * n + j];
        }
        for (int j = 0; j < n; j++)
            row[h * n + j] = (float)(row[h * n + j] / sum);
        for (int d = 0; d < D; d++) {
            double o = 0;
            for (int j = 0; j < n; j++)
                o += (double)row[h * n + j] * x->v[(j * x->s.G + h / (H / x->s.G)) * D + d];
            out[h * D + d] = (float)o;
        }
    }
    for (int i = 0; i < x->B * H * D; i++)
        own[i] = out[i % (H * D)] * (1 + (i / (H * D) ? 0.1f * kc_uniform(k, -1, 1) : 0)); /* branch 0's is the same */
    x->row = row, x->out = out, x->own = own;
}

static void check(struct kc *k)
{
    static const int lengths[] = {1, 5, 16, 33, 100, 270};
    for (int turn = 0; turn < 24; turn++) {
        struct lost_case x = {.s = shapes[turn % 6], .n = lengths[turn / 4], .B = 1 + turn % MAX_B, .n_sink = turn % 3 ? 4 : 0};
        int H = x.s.H, G = x.s.G, D = x.s.D, n = x.n, B = x.B;
        float *key = floats(k, (size_t)(n * G * D)), *v = floats(k, (size_t)(n * G * D));
        kc_fill(k, key, (size_t)(n * G * D), KC_NORMAL);
        kc_fill(k, v, (size_t)(n * G * D), KC_NORMAL);
        float v_max = 0;
        for (int i = 0; i < n * G * D; i++)
            v_max = fmaxf(v_max, fabsf(v[i]));
        x.k = key, x.v = v;
        int32_t *keep = kc_host(k, (size_t)(B * G * n) * sizeof *keep), *count = kc_host(k, (size_t)(B * G) * sizeof *count);
        for (int b = 0; b < B; b++)
            for (int g = 0; g < G; g++)
                for (int j = 0; j < n; j++) /* branch 0 keeps all, the last one nothing */
                    if (!b || (b < B - 1 && kc_int(k, 0, b) == 0))
                        keep[(b * G + g) * n + count[b * G + g]++] = j;
        x.keep = keep, x.count = count;
        make_row(k, &x, turn % 4);
        double norm = 0;
        for (int i = 0; i < H * D; i++)
            norm += (double)x.out[i] * x.out[i];
        norm = sqrt(norm);
        size_t BH = (size_t)(B * H);
        float *want[4], *got[2][4], *allow[4];
        size_t size[4] = {BH, BH, (size_t)B, (size_t)B};
        for (int i = 0; i < 4; i++) {
            want[i] = floats(k, size[i]), allow[i] = floats(k, size[i]);
            got[0][i] = floats(k, size[i]), got[1][i] = floats(k, size[i]);
        }
        run(k, &k->ref, &x, want[0], want[1], want[2], want[3]);
        for (int i = 0; i < 4; i++)
            for (size_t j = 0; j < size[i]; j++)
                allow[i][j] = (float)(i < 2 ? 2 * KC_EPS : i == 3 ? 8 * KC_EPS * want[i][j]
                                      : (n + 4) * KC_EPS * v_max * sqrt((double)(H * D)) / (norm > 0 ? norm : 1) + 8 * KC_EPS * want[i][j]);
        for (int i = 0; i < k->n_cand; i++) {
            struct kc_cand *c = &k->cand[i];
            static const char *const name[] = {"lost", "lost without sinks", "local", "propagated"};
            float **g = got[i % 2];
            run(k, c, &x, g[0], g[1], g[2], g[3]);
            for (int w = 0; w < 4; w++) {
                kc_judge(k, c, "lost", want[w], g[w], allow[w], size[w], "%s H=%d G=%d D=%d %s n=%d B=%d", name[w], H, G, D,
                         kvt_dtypes[x.s.type].name, n, B);
                if (c->threads > 1)
                    kc_same(k, c, "lost", got[0][w], got[1][w], size[w] * sizeof(float), "1 and more threads, %s", name[w]);
            }
            for (int h = 0; h < H; h++)
                kc_that(k, c, "lost", g[0][h] == 0 && g[1][h] == 0, "head %d of a branch that holds everything lost %g", h, g[0][h]);
            kc_that(k, c, "lost", g[2][0] == 0 && g[3][0] == 0, "errors %g, %g where nothing differs", g[2][0], g[3][0]);
            for (int h = 0; h < H && B > 1; h++)
                kc_that(k, c, "lost", fabsf(g[0][(B - 1) * H + h] - 1) < 1e-5f, "an empty cell lost %g", g[0][(B - 1) * H + h]);
            kc_end_cand(k, c, "lost");
        }
        kc_end_case(k, "lost");
    }
}

/* ---- sabotage ---- */

static int wrong_sink(struct kvt_dev *dev, const struct kvt_lost_args *a)
{
    struct kvt_lost_args b = *a;
    b.n_sink++;
    return kvt_ops_cpu.lost(dev, &b);
}

static int wrong_group(struct kvt_dev *dev, const struct kvt_lost_args *a)
{
    int rc = kvt_ops_cpu.lost(dev, a); /* every head's set taken for the first one's */
    for (int b = 0; b < a->B; b++)
        for (int h = 1; h < a->H; h++)
            a->lost[b * a->H + h] = a->lost[b * a->H];
    return rc;
}

static int wrong_norm(struct kvt_dev *dev, const struct kvt_lost_args *a)
{
    int rc = kvt_ops_cpu.lost(dev, a); /* not divided by what is kept: an output too small */
    for (int b = 0; b < a->B; b++)
        a->local[b] *= 1 - a->lost[b * a->H] * 0.01f;
    return rc;
}

static int wrong_equal(struct kvt_dev *dev, const struct kvt_lost_args *a)
{
    int rc = kvt_ops_cpu.lost(dev, a);
    for (int b = 0; b < a->B; b++)
        a->propagated[b] += 1e-8f; /* not quite 0 for equal outputs */
    return rc;
}

static const char *sabotage(struct kvt_ops *ops, int i)
{
    switch (i) {
    case 0: ops->lost = wrong_sink; return "lost: a sink of one position more";
    case 1: ops->lost = wrong_group; return "lost: all heads like the first";
    case 2: ops->lost = wrong_norm; return "lost: an output that isn't renormalised";
    case 3: ops->lost = wrong_equal; return "lost: equal outputs have an error";
    default: return NULL;
    }
}

/* ---- bench ---- */

struct timed { struct kc_cand *c; struct kvt_lost_args a; };
static void run_lost(void *arg) { struct timed *t = arg; t->c->ops->lost(t->c->dev, &t->a); }

static void bench(struct kc *k)
{
    enum { H = 9, G = 3, D = 64, N = 1150, B = 5 };
    for (int i = 0; i < k->n_cand; i++) {
        struct kc_cand *c = &k->cand[i];
        struct lost_case x = {.s = {H, G, D, KVT_F16}, .n = N, .B = B, .n_sink = 4};
        float *v = floats(k, N * G * D), lost[B * H], rest[B * H], local[B], propagated[B];
        kc_fill(k, v, N * G * D, KC_NORMAL);
        x.k = x.v = v;
        make_row(k, &x, 0);
        struct kvt_cache_opts o = {.L = 1, .G = G, .D = D, .max_branch = B + 1, .max_slots = N, .type = KVT_F16};
        struct kvt_cache *cache = NULL;
        c->ops->cache_open(c->dev, &cache, &o, NULL);
        int32_t *zero = kc_host(k, N * sizeof *zero), *pos = kc_host(k, N * sizeof *pos), ids[B];
        for (int j = 0; j < N; j++)
            pos[j] = j;
        const float *kv = kc_put(k, c, v, N * G * D * sizeof *kv);
        c->ops->cache_append(c->dev, &(struct kvt_append_args){cache, 0, N, kv, kv, zero, pos});
        const float *own[B];
        for (int b = 0; b < B; b++) { /* a quarter */
            ids[b] = b + 1, own[b] = kc_put(k, c, x.own, H * D * sizeof(float));
            for (int j = 0; j < N / 4; j++)
                zero[j] = b + 1, pos[j] = 4 * j;
            c->ops->cache_append(c->dev, &(struct kvt_append_args){cache, 0, N / 4, kv, kv, zero, pos});
        }
        struct timed t = {c, {.cache = cache, .H = H, .row = kc_put(k, c, x.row, H * N * sizeof(float)), .ld = N,
                              .out = kc_put(k, c, x.out, H * D * sizeof(float)), .B = B, .branch = ids, .own = own, .n_sink = 4,
                              .lost = lost, .lost_rest = rest}};
        kc_line(k, c, "lost", "5 branches x 1150, masses", kc_time(c, run_lost, &t), 0, 0);
        t.a.local = local, t.a.propagated = propagated;
        kc_line(k, c, "lost", "5 branches x 1150, errors too", kc_time(c, run_lost, &t), 0, 0);
        c->ops->cache_close(c->dev, &cache);
        kc_end_case(k, "lost");
    }
}

const struct kc_subject kc_lost = {"lost", check, bench, sabotage};

/* score: norms, differences, partitions and expectations of cached slots, against the definition.
 *
 * Where the allowances come from: u = 2^-24. A sum of m products is off by (m + 1) u of the sum of their magnitudes, whatever
 * its order; what is divided or rooted afterwards adds a few u; an exponent's absolute error is its exponential's relative one.
 * The magnitudes are computed here, in double, from what the cache gives back. */
#include "tests/kerncheck/score.h"

/* ---- norms ---- */

static int call_norms(struct kc *k, struct kc_cand *c, const struct held *x, const struct kvt_slots *at, float *out, const void *arg)
{
    bool value = *(const int *)arg;
    (void)k;
    return c->ops->norms(c->dev, &(struct kvt_norms_args){*at, value ? NULL : out, value ? out : NULL, x->n});
}

/* (D + 1) u of the sum, halved by the root, and the root's own; squares below 2^-149 are lost. */
static double allow_norms(struct kc *k, const struct held *x, int g, int j, double want, const void *arg)
{
    (void)k, (void)g, (void)j, (void)arg;
    return (x->s.D / 2.0 + 3) * KC_EPS * want + sqrt(x->s.D * 0x1p-148);
}

static void check_norms(struct kc *k)
{
    static const enum kc_fill_kind fill[] = {KC_NORMAL, KC_EQUAL, KC_ONE_HUGE, KC_ZERO, KC_DENORMAL};
    for (int turn = 0; turn < 30; turn++) {
        if (kc_skip(k))
            continue;
        struct held x = hold(k, turn, fill[turn % 5]);
        int value = turn % 2;
        judge(k, &x, &(struct one){"norms", value ? "of values" : "of keys", limit_of(turn, x.n), call_norms, &value, allow_norms, NULL});
    }
}

/* ---- KeyDiff ---- */

static int call_keydiff(struct kc *k, struct kc_cand *c, const struct held *x, const struct kvt_slots *at, float *out, const void *arg)
{
    (void)k, (void)arg;
    return c->ops->keydiff(c->dev, &(struct kvt_keydiff_args){*at, out, x->n});
}

/* Unit keys are off by (D / 2 + 4) u, their mean by n u more, all in the length of the mean of unit vectors, at most 1; the
 * mean's length divides. Then a dot product of D terms and three factors. */
static double allow_keydiff(struct kc *k, const struct held *x, int g, int j, double want, const void *arg)
{
    int n = shown(x, g, *(const int *)arg), D = x->s.D;
    double sum = 0, mean[128] = {0};
    (void)k, (void)j, (void)want;
    for (int i = 0; i < n; i++) {
        const double *key = key_of(x, g, i);
        double len = 0;
        for (int d = 0; d < D; d++)
            len += key[d] * key[d];
        for (int d = 0; d < D && len > 0; d++)
            mean[d] += key[d] / sqrt(len) / n;
    }
    for (int d = 0; d < D; d++)
        sum += mean[d] * mean[d];
    return sum > 0 ? KC_EPS * (2 * (D / 2.0 + 8 + n / 16.0 + 16) / sqrt(sum) + D + 12) : 0;
}

static void check_keydiff(struct kc *k)
{
    static const enum kc_fill_kind fill[] = {KC_NORMAL, KC_UNIFORM, KC_EQUAL, KC_ZERO};
    for (int turn = 0; turn < 24; turn++) {
        if (kc_skip(k))
            continue;
        struct held x = hold(k, turn, fill[turn % 4]);
        int limit = limit_of(turn, x.n);
        if (turn % 5 == 1)
            memset((float *)x.k + (size_t)(x.n / 2 * x.s.G * x.s.D), 0, (size_t)(x.s.G * x.s.D) * sizeof(float)); /* a key of nothing */
        judge(k, &x, &(struct one){"keydiff", kc_fill_name(fill[turn % 4]), limit, call_keydiff, &limit, allow_keydiff, NULL});
    }
}

/* ---- LagKV ---- */

struct lag {
    int sink, lag, limit;
    bool rank;
};

static int call_lag(struct kc *k, struct kc_cand *c, const struct held *x, const struct kvt_slots *at, float *out, const void *arg)
{
    const struct lag *l = arg;
    (void)k;
    return c->ops->lag(c->dev, &(struct kvt_lag_args){*at, l->sink, l->lag, l->rank, out, x->n});
}

/* x is off by 4 u X, X the largest of the partition; mean, deviations, squares and the root add (D + 40) u X at most; that is
 * an exponent, here and in the sum. */
static double allow_lag(struct kc *k, const struct held *x, int g, int j, double want, const void *arg)
{
    const struct lag *l = arg;
    int p = j < l->sink ? -1 : (j - l->sink) / l->lag, j0 = l->sink + p * l->lag, D = x->s.D;
    double most = 0;
    (void)k;
    if (p < 0 || j0 + 2 * l->lag > shown(x, g, l->limit))
        return 2 * KC_EPS;
    for (int value = 0; value < 2; value++)
        for (int d = 0; d < D; d++) {
            double min = INFINITY, max = -INFINITY;
            for (int i = j0 + l->lag; i < j0 + 2 * l->lag; i++) {
                double e = (value ? value_of(x, g, i) : key_of(x, g, i))[d];
                min = e < min ? e : min;
                max = e > max ? e : max;
            }
            for (int i = j0; max > min && i < j0 + l->lag; i++)
                most = fmax(most, fabs(((value ? value_of(x, g, i) : key_of(x, g, i))[d] - min) / (max - min)));
        }
    return want * (2 * (D + 40) * KC_EPS * most + (l->lag + 40) * KC_EPS);
}

/* The order by rank is the order by the candidate's own scores. */
static void same_ranks(struct kc *k, struct kc_cand *c, const struct held *x, const void *arg, const float *got)
{
    struct lag l = *(const struct lag *)arg;
    struct held y = *x;
    struct kvt_cache *cache = grow(k, c, &y);
    struct kvt_slots at = {cache, BRANCH, LAYER, l.limit};
    size_t bytes = (size_t)(x->s.G * x->n) * sizeof(float);
    float *dev = kc_put(k, c, got, bytes), *rank = floats(k, (size_t)(x->s.G * x->n));
    l.rank = true;
    kc_rc(k, c, "lag", call_lag(k, c, x, &at, dev, &l), "ranks");
    kc_get(k, c, rank, dev, bytes);
    c->ops->cache_close(c->dev, &cache);
    for (int g = 0; g < x->s.G; g++) {
        const float *score = got + g * x->n, *r = rank + g * x->n;
        for (int j0 = l.sink; j0 + 2 * l.lag <= shown(x, g, l.limit); j0 += l.lag)
            for (int i = j0; i < j0 + l.lag; i++) {
                int below = 0;
                for (int j = j0; j < j0 + l.lag; j++)
                    below += score[j] < score[i] || (score[j] == score[i] && j < i);
                kc_that(k, c, "lag", r[i] == (float)((double)below / l.lag), "slot %d of head %d has rank %g, place %d of %d", i, g,
                        (double)r[i], below, l.lag);
            }
    }
}

static void check_lag(struct kc *k)
{
    static const struct lag how[] = {{4, 16, 0, 0}, {0, 7, 0, 0}, {5, 20, 0, 0}, {16, 33, 0, 0}, {4, 1, 0, 0}};
    for (int turn = 0; turn < 30; turn++) {
        if (kc_skip(k))
            continue;
        struct held x = hold(k, turn, turn % 4 == 3 ? KC_EQUAL : KC_NORMAL);
        struct lag l = how[turn % 5];
        l.limit = limit_of(turn, x.n);
        judge(k, &x, &(struct one){"lag", "scores", l.limit, call_lag, &l, allow_lag, same_ranks});
    }
}

/* ---- CriticalKV ---- */

struct out {
    int E;
    enum kvt_dtype type;
    const void *w;           /* (E, H D) blocks */
    const float *f;          /* the same decoded */
    size_t bytes;
};

static int call_out(struct kc *k, struct kc_cand *c, const struct held *x, const struct kvt_slots *at, float *out, const void *arg)
{
    const struct out *w = arg;
    struct kvt_out_norms_args a = {*at, {w->w, w->type, w->E, x->s.H * x->s.D}, x->s.H, out, x->n};
    kc_rc(k, c, "out_norms", c->ops->weights(c->dev, &a.w), "weights");
    return c->ops->out_norms(c->dev, &a);
}

static double allow_out(struct kc *k, const struct held *x, int g, int j, double want, const void *arg)
{
    const struct out *w = arg;
    int heads = x->s.H / x->s.G, D = x->s.D;
    const double *v = value_of(x, g, j);
    double sum = 0;
    (void)k;
    for (int e = 0; e < w->E; e++)
        for (int i = g * heads * D; i < (g + 1) * heads * D; i++)
            sum += fabs(w->f[(size_t)e * (size_t)(x->s.H * D) + (size_t)i] * v[i % D]);
    return KC_EPS * ((D + 1) * sum / heads + (w->E + heads + 4) * want);
}

static void check_out(struct kc *k)
{
    static const enum kvt_dtype types[] = {KVT_F32, KVT_Q4_1, KVT_F16, KVT_Q8_0, KVT_Q4_K, KVT_BF16, KVT_Q6_K, KVT_Q5_0};
    for (int turn = 0, done = 0; done < 20 && turn < 200; turn++) {
        struct held x = hold(k, turn, KC_NORMAL);
        struct out w = {.E = 24 + turn % 7, .type = types[turn % 8]};
        size_t K = (size_t)(x.s.H * x.s.D), count = (size_t)w.E * K;
        if (x.n > 131 || K % (size_t)kvt_dtypes[w.type].block_values) {
            kc_end_case(k, "out_norms");
            continue;
        }
        done++;
        w.bytes = kvt_row_bytes(w.type, K) * (size_t)w.E;
        void *blocks = kc_host(k, w.bytes);
        float *f = floats(k, count);
        kc_fill_blocks(k, blocks, w.type, count);
        kvt_dequantize(w.type, blocks, f, count);
        w.w = kc_edge(k, blocks, w.bytes);
        w.f = f;
        judge(k, &x, &(struct one){"out_norms", kvt_dtypes[w.type].name, limit_of(turn, x.n), call_out, &w, allow_out, NULL});
    }
}

static void check(struct kc *k)
{
    check_norms(k);
    check_keydiff(k);
    check_lag(k);
    check_out(k);
    kc_check_query(k);
}

/* ---- sabotage ---- */

static int wrong_norms(struct kvt_dev *dev, const struct kvt_norms_args *a)
{
    struct kvt_norms_args b = *a;
    b.at.n = b.at.n < INT_MAX ? b.at.n + 1 : INT_MAX; /* one slot too many is written */
    return kvt_ops_cpu.norms(dev, &b);
}
static int wrong_value_norms(struct kvt_dev *dev, const struct kvt_norms_args *a)
{
    struct kvt_norms_args b = *a;
    b.key = a->value;
    b.value = NULL;
    return kvt_ops_cpu.norms(dev, a->value ? &b : a);
}
static int wrong_keydiff(struct kvt_dev *dev, const struct kvt_keydiff_args *a)
{
    struct kvt_keydiff_args b = *a;
    b.at.branch = 0; /* the mean of keys that the branch has let go */
    return kvt_ops_cpu.keydiff(dev, &b);
}
static int wrong_lag(struct kvt_dev *dev, const struct kvt_lag_args *a)
{
    struct kvt_lag_args b = *a;
    b.sink++;
    return kvt_ops_cpu.lag(dev, &b);
}
static int wrong_rank(struct kvt_dev *dev, const struct kvt_lag_args *a)
{
    struct kvt_lag_args b = *a;
    b.rank = false;
    return kvt_ops_cpu.lag(dev, &b);
}
static int wrong_out(struct kvt_dev *dev, const struct kvt_out_norms_args *a)
{
    struct kvt_out_norms_args b = *a;
    b.w.n--; /* a last output is forgotten */
    return kvt_ops_cpu.out_norms(dev, &b);
}
static int wrong_stats(struct kvt_dev *dev, const struct kvt_query_stats_args *a)
{
    struct kvt_query_stats_args b = *a;
    b.seen += a->seen > 0;
    return kvt_ops_cpu.query_stats(dev, &b);
}
static int wrong_expected(struct kvt_dev *dev, const struct kvt_expected_args *a)
{
    struct kvt_expected_args b = *a;
    b.from--;
    return kvt_ops_cpu.expected(dev, &b);
}
static int wrong_covariance(struct kvt_dev *dev, const struct kvt_expected_args *a)
{
    struct kvt_expected_args b = *a;
    b.rows++;
    return kvt_ops_cpu.expected(dev, &b);
}
static const char *sabotage(struct kvt_ops *ops, int i)
{
    switch (i) {
    case 0: ops->norms = wrong_norms; return "norms: a slot past the limit";
    case 1: ops->norms = wrong_value_norms; return "norms: keys for values";
    case 2: ops->keydiff = wrong_keydiff; return "keydiff: another branch's keys";
    case 3: ops->lag = wrong_lag; return "lag: partitions one slot late";
    case 4: ops->lag = wrong_rank; return "lag: scores for ranks";
    case 5: ops->out_norms = wrong_out; return "out_norms: an output forgotten";
    case 6: ops->query_stats = wrong_stats; return "query_stats: a row too many before";
    case 7: ops->expected = wrong_expected; return "expected: positions one too early";
    case 8: ops->expected = wrong_covariance; return "expected: a row too many in the covariance";
    default: return NULL;
    }
}

/* ---- bench: SmolLM2's shape, 30 layers ---- */

enum { B_L = 30, B_H = 9, B_G = 3, B_D = 64, B_E = 576, B_N = 1150, B_RUN = 512, B_AHEAD = 512 };
struct timed {
    struct kc_cand *c;
    struct kvt_slots at;
    float *out, *row, *mean, *scatter, *q;
    struct kvt_mat w;
    struct kvt_rope rope;
    int what;
};
static const char *const timed_name[] = {"norms", "keydiff", "lag", "out_norms", "query_stats", "expected"};

static void run_layers(void *arg)
{
    struct timed *t = arg;
    const struct kvt_ops *ops = t->c->ops;
    struct kvt_dev *dev = t->c->dev;
    for (t->at.layer = 0; t->at.layer < B_L; t->at.layer++)
        switch (t->what) {
        case 0: ops->norms(dev, &(struct kvt_norms_args){t->at, t->out, t->row, B_N}); break;
        case 1: ops->keydiff(dev, &(struct kvt_keydiff_args){t->at, t->out, B_N}); break;
        case 2: ops->lag(dev, &(struct kvt_lag_args){t->at, 4, 128, true, t->out, B_N}); break;
        case 3: ops->out_norms(dev, &(struct kvt_out_norms_args){t->at, t->w, B_H, t->out, B_N}); break;
        case 4:
            for (int seen = 0; seen < B_N; seen += B_RUN)
                ops->query_stats(dev, &(struct kvt_query_stats_args){t->q + seen * B_H * B_D, B_N - seen < B_RUN ? B_N - seen : B_RUN, B_H, B_D,
                                                                     seen, t->mean, t->scatter});
            break;
        default:
            ops->expected(dev, &(struct kvt_expected_args){t->at, B_H, 4, t->mean, t->scatter, B_N, t->rope, B_N, B_AHEAD, 0.125f, t->out, B_N});
        }
}

static void bench(struct kc *k)
{
    for (int i = 0; i < k->n_cand; i++) {
        struct kc_cand *c = &k->cand[i];
        struct kvt_cache_opts o = {.L = B_L, .G = B_G, .D = B_D, .max_branch = 1, .max_slots = B_N, .type = KVT_F16};
        struct timed t = {.c = c, .at = {.n = B_N}};
        if (!kc_rc(k, c, "score", c->ops->cache_open(c->dev, &t.at.cache, &o, NULL), "cache_open"))
            return;
        size_t nq = (size_t)(B_N * B_H * B_D), hd = B_H * B_D, blocks = kvt_row_bytes(KVT_Q4_1, hd) * B_E;
        float *x = floats(k, nq), *table = floats(k, (B_N + B_AHEAD) * B_D);
        int32_t *zero = kc_host(k, B_N * sizeof *zero), *pos = kc_host(k, B_N * sizeof *pos);
        void *w = kc_host(k, blocks);
        kc_fill(k, x, nq, KC_NORMAL);
        kc_fill(k, table, (B_N + B_AHEAD) * B_D, KC_UNIFORM);
        kc_fill_blocks(k, w, KVT_Q4_1, hd * B_E);
        for (int j = 0; j < B_N; j++)
            pos[j] = j;
        t.q = kc_put(k, c, x, nq * sizeof(float));
        for (int l = 0; l < B_L; l++)
            c->ops->cache_append(c->dev, &(struct kvt_append_args){t.at.cache, l, B_N, t.q, t.q + 100, zero, pos});
        t.out = kc_put(k, c, x, B_H * B_N * sizeof(float));
        t.row = kc_put(k, c, x, B_H * B_N * sizeof(float));
        t.mean = kc_put(k, c, x, hd * sizeof(float));
        t.scatter = kc_put(k, c, x, hd * B_D * sizeof(float));
        t.w = (struct kvt_mat){w, KVT_Q4_1, B_E, (int)hd};
        c->ops->weights(c->dev, &t.w);
        t.rope = (struct kvt_rope){kc_put(k, c, table, (B_N + B_AHEAD) * B_D * sizeof(float)), B_N + B_AHEAD, B_D, true};
        static const double flops[] = {0, 0, 0, 2.0 * B_L * B_N * B_E * B_H * B_D, 2.0 * B_L * B_N * B_H * B_D * B_D, 2.0 * B_L * B_N * B_H * B_D * B_D};
        for (t.what = 0; t.what < 6; t.what++)
            kc_line(k, c, timed_name[t.what], "1150 slots x 30", kc_time(c, run_layers, &t), flops[t.what], 0);
        c->ops->cache_close(c->dev, &t.at.cache);
        kc_end_case(k, "score");
    }
}

const struct kc_subject kc_score = {"score", check, bench, sabotage};

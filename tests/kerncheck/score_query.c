/* score, second half: statistics of queries and what is expected of them. */
#include "tests/kerncheck/score.h"

/* ---- Expected Attention ---- */

/* Runs of rows joined: mean and scatter against one pass in double. A sum over T rows is off by (T + 1) u of the magnitudes,
 * at most sqrt(S_ii S_jj); what each run adds is rounded once, and so is the mean that later runs are off. */
static void check_stats(struct kc *k)
{
    for (int turn = 0; turn < 18; turn++) {
        if (kc_skip(k))
            continue;
        int H = kc_int(k, 1, 5), D = turn % 3 ? 8 * kc_int(k, 1, 16) : kc_int(k, 1, 40), runs = turn % 4 + 1, T = 0, rows[4];
        for (int i = 0; i < runs; i++)
            T += rows[i] = i % 2 ? kc_int(k, 0, 3) : kc_int(k, 1, 90);
        size_t n = (size_t)(T * H * D), hd = (size_t)(H * D), hdd = hd * (size_t)D;
        float *q = floats(k, n), *shift = floats(k, hd), *got_mean[2] = {floats(k, hd), floats(k, hd)}, *got[2] = {floats(k, hdd), floats(k, hdd)};
        kc_fill(k, q, n, KC_NORMAL);
        kc_fill(k, shift, hd, KC_NORMAL);
        for (size_t i = 0; i < n; i++)
            q[i] += turn % 2 ? 30 * shift[i % hd] : 0; /* far from zero: a sum of plain squares would cancel */
        double *mean = doubles(k, hd), *scatter = doubles(k, hdd);
        for (size_t i = 0; i < n; i++)
            mean[i % hd] += q[i] / (double)T;
        for (int t = 0; t < T; t++)
            for (size_t i = 0; i < hdd; i++) {
                size_t a = i / (size_t)D, b = a / (size_t)D * (size_t)D + i % (size_t)D;
                scatter[i] += (q[(size_t)t * hd + a] - mean[a]) * (q[(size_t)t * hd + b] - mean[b]);
            }
        float *want_mean = floats(k, hd), *want = floats(k, hdd), *allow_mean = floats(k, hd), *allow = floats(k, hdd);
        for (size_t i = 0; i < hd; i++) {
            double s = sqrt(scatter[i * (size_t)D + i % (size_t)D]);
            want_mean[i] = (float)mean[i];
            allow_mean[i] = (float)(runs * 2 * KC_EPS * (fabs(mean[i]) + s) + 1e-37);
        }
        for (size_t i = 0; i < hdd; i++) {
            size_t a = i / (size_t)D, b = a / (size_t)D * (size_t)D + i % (size_t)D;
            double sa = sqrt(scatter[a * (size_t)D + a % (size_t)D]), sb = sqrt(scatter[b * (size_t)D + b % (size_t)D]);
            want[i] = (float)scatter[i];
            allow[i] = (float)((T + 4 * runs + 4) * KC_EPS * sa * sb +
                               4 * runs * KC_EPS * sqrt(T) * ((fabs(mean[a]) + sa) * sb + (fabs(mean[b]) + sb) * sa) + 1e-37);
        }
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            struct kvt_query_stats_args a = {.H = H, .D = D, .mean = kc_put(k, c, NULL, hd * sizeof(float)), .scatter = kc_put(k, c, NULL, hdd * sizeof(float))};
            for (int r = 0; r < runs; r++) {
                a.T = rows[r];
                a.q = kc_put_shifted(k, c, q + (size_t)a.seen * hd, (size_t)a.T * hd * sizeof(float), 4);
                kc_rc(k, c, "query_stats", c->ops->query_stats(c->dev, &a), "T=%d D=%d", a.T, D);
                a.seen += a.T;
            }
            int at = i < 0 ? 0 : i % 2;
            kc_get(k, c, got_mean[at], a.mean, hd * sizeof(float));
            kc_get(k, c, got[at], a.scatter, hdd * sizeof(float));
            kc_judge(k, c, "query_stats", want_mean, got_mean[at], allow_mean, hd, "mean H=%d D=%d T=%d in %d runs", H, D, T, runs);
            kc_judge(k, c, "query_stats", want, got[at], allow, hdd, "scatter H=%d D=%d T=%d in %d runs", H, D, T, runs);
            if (i >= 0 && c->threads > 1) {
                kc_same(k, c, "query_stats", got_mean[0], got_mean[1], hd * sizeof(float), "1 and more threads, mean");
                kc_same(k, c, "query_stats", got[0], got[1], hdd * sizeof(float), "1 and more threads, scatter");
            }
        }
        kc_end_case(k, "query_stats");
    }
}

struct expected {
    const float *mean, *scatter, *table;
    int rows, sink, from, ahead, n_pos, rot, limit;
    bool halves;
};

static int call_expected(struct kc *k, struct kc_cand *c, const struct held *x, const struct kvt_slots *at, float *out, const void *arg)
{
    const struct expected *e = arg;
    size_t hd = (size_t)(x->s.H * x->s.D);
    struct kvt_expected_args a = {
        .at = *at, .H = x->s.H, .sink = e->sink, .mean = kc_put(k, c, e->mean, hd * sizeof(float)),
        .scatter = e->scatter ? kc_put(k, c, e->scatter, hd * (size_t)x->s.D * sizeof(float)) : NULL, .rows = e->rows,
        .rope = {kc_put(k, c, e->table, (size_t)(e->n_pos * e->rot) * sizeof(float)), e->n_pos, e->rot, e->halves}, .from = e->from,
        .ahead = e->ahead, .scale = 1 / sqrtf((float)x->s.D), .out = out, .ld = x->n,
    };
    return c->ops->expected(c->dev, &a);
}

/* Turning mixes at most the two of a pair, each by a factor up to 1: |m'_a| <= |m_a| + |m_b|; likewise twice for S. */
static double allow_expected(struct kc *k, const struct held *x, int g, int j, double want, const void *arg)
{
    const struct expected *e = arg;
    int heads = x->s.H / x->s.G, D = x->s.D, n = shown(x, g, e->limit);
    double most = 0, s = 1 / sqrt(D);
    (void)k, (void)j;
    if (want == 0)
        return 0;
    for (int h = g * heads; h < (g + 1) * heads; h++)
        for (int i = e->sink; i < n; i += 1 + n / 8) { /* a few slots stand for all, times 2 */
            const double *key = key_of(x, g, i);
            double sum = 0, norm = 0, m = 0, S = 0;
            for (int d = 0; d < D; d++) {
                norm += key[d] * key[d];
                m += (double)e->mean[h * D + d] * e->mean[h * D + d];
            }
            for (int d = 0; d < D * D && e->scatter; d++)
                S += pow((double)e->scatter[(size_t)h * (size_t)(D * D) + (size_t)d] / e->rows, 2);
            sum = sqrt(norm * m) * s + norm * sqrt(S) * s * s / 2; /* |m| |k|, |S| |k|^2 */
            most = fmax(most, sum);
        }
    return want * (2 * 2 * (2 * D + 24) * KC_EPS * most + (n + 40) * KC_EPS);
}

/* A softmax's mean: what isn't a sink sums to 1. */
static void sums_to_one(struct kc *k, struct kc_cand *c, const struct held *x, const void *arg, const float *got)
{
    const struct expected *e = arg;
    for (int g = 0; g < x->s.G; g++) {
        int n = shown(x, g, e->limit);
        double sum = 0;
        for (int j = 0; j < n; j++)
            sum += got[g * x->n + j];
        kc_that(k, c, "expected", fabs(sum - (n > e->sink)) <= (n + 40) * KC_EPS, "head %d sums to %g", g, sum);
    }
}

static void check_expected(struct kc *k)
{
    for (int turn = 0; turn < 24; turn++) {
        if (kc_skip(k))
            continue;
        struct held x = hold(k, turn, turn % 7 == 6 ? KC_EQUAL : KC_NORMAL);
        int H = x.s.H, D = x.s.D, ahead = turn % 2 ? 512 : 3, rot = turn % 4 == 3 ? D / 2 / 2 * 2 : D;
        struct expected e = {.rows = 37, .sink = turn % 2 ? 4 : 0, .from = x.n + 1, .ahead = ahead, .n_pos = x.n + 1 + ahead, .rot = rot,
                             .limit = limit_of(turn, x.n), .halves = turn % 3 != 0};
        float *mean = floats(k, (size_t)(H * D)), *scatter = floats(k, (size_t)(H * D * D)), *table = floats(k, (size_t)(e.n_pos * rot));
        float *a = floats(k, (size_t)(3 * D));
        kc_fill(k, mean, (size_t)(H * D), KC_NORMAL);
        for (int h = 0; h < H; h++) {
            kc_fill(k, a, (size_t)(3 * D), KC_NORMAL);
            for (int i = 0; i < D * D; i++)
                for (int r = 0; r < 3; r++) /* of rank 3, as of few rows */
                    scatter[h * D * D + i] += 12 * a[r * D + i / D] * a[r * D + i % D];
        }
        for (int p = 0; p < e.n_pos; p++)
            for (int i = 0; i < rot / 2; i++) {
                double angle = p * pow(10000, -2.0 * i / rot);
                table[p * rot + 2 * i] = (float)cos(angle);
                table[p * rot + 2 * i + 1] = (float)sin(angle);
            }
        e.mean = mean, e.table = table;
        e.scatter = turn % 5 == 4 ? NULL : scatter;
        judge(k, &x, &(struct one){"expected", e.scatter ? "with covariance" : "mean alone", e.limit, call_expected, &e, allow_expected, sums_to_one});
    }
}

void kc_check_query(struct kc *k)
{
    check_stats(k);
    check_expected(k);
}

/* Statistics of sets, shots, distributions and samples. */
#include "base/stats.h"

#include <math.h>
#include <stdlib.h>

/* ---- two sets ---- */

/* Weights of the hypergeometric law relative to its mode. The law is built outwards from there by the ratio
 * P(x + 1) / P(x) = (a - x)(b - x) / ((x + 1)(n - a - b + x + 1)), so nothing overflows, nothing cancels, and what
 * underflows is too small to count; no binomial of 8192 is ever formed. */
struct hyper { int lo, hi, mode; double n, a, b; };

static struct hyper hyper_of(int n, int a, int b)
{
    struct hyper h = {.lo = a + b > n ? a + b - n : 0, .hi = a < b ? a : b, .n = n, .a = a, .b = b};
    h.mode = (int)((h.a + 1) * (h.b + 1) / (h.n + 2));
    h.mode = h.mode < h.lo ? h.lo : h.mode > h.hi ? h.hi : h.mode;
    return h;
}

static double up(const struct hyper *h, int x)
{
    return (h->a - x) * (h->b - x) / ((x + 1.0) * (h->n - h->a - h->b + x + 1));
}

double kvt_hyper_p(int n, int a, int b, int x)
{
    struct hyper h = hyper_of(n, a, b);
    if (x < h.lo || x > h.hi)
        return 0;
    double total = 1, at = x == h.mode ? 1 : 0, w = 1;
    for (int i = h.mode; i < h.hi; i++) {
        w *= up(&h, i);
        total += w;
        if (i + 1 == x)
            at = w;
    }
    w = 1;
    for (int i = h.mode; i > h.lo; i--) {
        w /= up(&h, i - 1);
        total += w;
        if (i - 1 == x)
            at = w;
    }
    return at / total;
}

double kvt_hyper_mean(int n, int a, int b) { return n ? (double)a * b / n : 0; }

double kvt_jaccard_expected(int n, int a, int b)
{
    if (a + b == 0)
        return NAN;
    struct hyper h = hyper_of(n, a, b);
    double total = 1, sum = h.mode / (h.a + h.b - h.mode), w = 1;
    for (int i = h.mode; i < h.hi && w > 1e-18; i++) { /* beyond the mode weights only fall */
        w *= up(&h, i);
        total += w;
        sum += w * (i + 1) / (h.a + h.b - (i + 1));
    }
    w = 1;
    for (int i = h.mode; i > h.lo && w > 1e-18; i--) {
        w /= up(&h, i - 1);
        total += w;
        sum += w * (i - 1) / (h.a + h.b - (i - 1));
    }
    return sum / total;
}

/* ---- shots ---- */

double kvt_coherence(const int32_t *k, const int32_t *m, int S)
{
    double N = 0, M = 0, sum = 0;
    int shots = 0;
    for (int i = 0; i < S; i++) {
        N += k[i];
        M += m[i];
        shots += k[i] > 0;
    }
    if (shots < 2 || M <= 0 || M >= N)
        return NAN;
    double p = M / N;
    for (int i = 0; i < S; i++)
        if (k[i] > 0) {
            double d = (double)m[i] / k[i] - p;
            sum += k[i] * d * d;
        }
    return sum / (N * p * (1 - p));
}

double kvt_coherence_random(const int32_t *k, int S)
{
    double N = 0;
    int shots = 0;
    for (int i = 0; i < S; i++) {
        N += k[i];
        shots += k[i] > 0;
    }
    return shots < 2 ? NAN : (shots - 1) / (N - 1);
}

double kvt_coherence_adjusted(double C, double c0) { return c0 < 1 ? (C - c0) / (1 - c0) : NAN; }

double kvt_fragments_random(int k, int m) { return k ? (double)m * (k - m + 1) / k : 0; }

double kvt_gini(const double *v, int n)
{
    double sum = 0, diff = 0;
    for (int i = 0; i < n; i++) {
        sum += v[i];
        for (int j = 0; j < i; j++)
            diff += fabs(v[i] - v[j]);
    }
    /* each pair once in diff, twice in the definition: 2 diff / (2 n^2 (sum / n)) */
    return sum > 0 ? diff / (n * sum) : NAN;
}

/* ---- distributions ---- */

double kvt_entropy(const double *p, int n)
{
    double h = 0;
    for (int i = 0; i < n; i++)
        if (p[i] > 0)
            h -= p[i] * log(p[i]);
    return h;
}

double kvt_kl(const double *p, const double *q, int n)
{
    double d = 0;
    for (int i = 0; i < n; i++)
        if (p[i] > 0)
            d += q[i] > 0 ? p[i] * log(p[i] / q[i]) : HUGE_VAL;
    return d;
}

/* ---- samples ---- */

void kvt_running_add(struct kvt_running *r, double v)
{
    if (isnan(v))
        return;
    double d = v - r->mean;
    r->n++;
    r->mean += d / (double)r->n;
    r->m2 += d * (v - r->mean);
}

double kvt_running_mean(const struct kvt_running *r) { return r->n ? r->mean : NAN; }
double kvt_running_sd(const struct kvt_running *r) { return r->n > 1 ? sqrt(r->m2 / (double)(r->n - 1)) : NAN; }

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double kvt_quantile(double *v, int n, double q)
{
    if (n < 1)
        return NAN;
    qsort(v, (size_t)n, sizeof *v, ascending);
    double at = q * (n - 1);
    int i = (int)floor(at);
    if (i >= n - 1)
        return v[n - 1];
    return v[i] + (at - i) * (v[i + 1] - v[i]);
}

void kvt_bootstrap_ratio(const double *num, const double *den, int n, int rounds, double level, struct kvt_rng *rng,
                         double *work, double *low, double *high)
{
    int good = 0;
    for (int r = 0; n > 0 && r < rounds; r++) {
        double a = 0, b = 0;
        for (int i = 0; i < n; i++) {
            uint32_t j = kvt_rng_below(rng, (uint32_t)n);
            a += num[j];
            b += den[j];
        }
        if (b != 0)
            work[good++] = a / b;
    }
    *low = kvt_quantile(work, good, (1 - level) / 2);
    *high = kvt_quantile(work, good, (1 + level) / 2);
}

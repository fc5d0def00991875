/* Paired statistics. */
#include "compare/paired.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/stats.h"

void kvt_wilson(double p, int n, double z, double *low, double *high)
{
    if (n < 1) {
        *low = *high = NAN;
        return;
    }
    double z2 = z * z, mid = (p + z2 / (2 * n)) / (1 + z2 / n), half = z / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4.0 * n * n));
    *low = p <= 0 ? 0 : mid - half; /* exactly, not to rounding */
    *high = p >= 1 ? 1 : mid + half;
}

double kvt_paired_difference(const struct kvt_pairs *p, double z, double *low, double *high)
{
    int n = p->both + p->first + p->second + p->neither;
    if (!n) {
        *low = *high = NAN;
        return NAN;
    }
    double a = p->both, b = p->first, c = p->second, d = p->neither, l1, u1, l2, u2;
    double p1 = (a + b) / n, p2 = (a + c) / n, diff = (c - b) / n;
    kvt_wilson(p1, n, z, &l1, &u1);
    kvt_wilson(p2, n, z, &l2, &u2);
    /* correlation of the pairs, with Newcombe's correction of its numerator towards 0 */
    double under = (a + b) * (c + d) * (a + c) * (b + d), over = a * d - b * c;
    if (over > 0)
        over = over > n / 2.0 ? over - n / 2.0 : 0;
    double phi = under > 0 ? over / sqrt(under) : 0;
    double d2l = p2 - l2, d2u = u2 - p2, d1l = p1 - l1, d1u = u1 - p1;
    *low = diff - sqrt(fmax(0, d2l * d2l - 2 * phi * d2l * d1u + d1u * d1u));
    *high = diff + sqrt(fmax(0, d2u * d2u - 2 * phi * d2u * d1l + d1l * d1l));
    return diff;
}

double kvt_mcnemar(int b, int c)
{
    int n = b + c, least = b < c ? b : c;
    double p = 0;
    for (int k = 0; k <= least; k++)
        p += exp(lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0) - n * log(2));
    return n ? fmin(1, 2 * p) : 1;
}

void kvt_holm(double *p, int m)
{
    int tests = 0, done = 0;
    double worst = 0;
    char *used = calloc((size_t)m + 1, 1);
    for (int i = 0; i < m; i++)
        tests += !isnan(p[i]);
    while (used && done < tests) {
        int least = -1;
        for (int i = 0; i < m; i++)
            if (!isnan(p[i]) && !used[i] && (least < 0 || p[i] < p[least]))
                least = i;
        used[least] = 1;
        worst = fmax(worst, fmin(1, (tests - done++) * p[least]));
        p[least] = worst;
    }
    free(used);
}

double kvt_mean_difference(const double *d, int n, uint64_t seed, double *low, double *high)
{
    enum { ROUNDS = 2000 };
    double one = NAN, work[ROUNDS], *den = kvt_calloc((size_t)n, sizeof *den), sum = 0;
    struct kvt_rng rng;
    *low = *high = NAN;
    for (int i = 0; i < n && den; i++)
        den[i] = 1, sum += d[i];
    if (n && den) {
        kvt_rng_seed(&rng, seed);
        kvt_bootstrap_ratio(d, den, n, ROUNDS, 0.95, &rng, work, low, high);
        one = sum / n;
        if (*low == *high)
            *low = *high = NAN;
    }
    free(den);
    return one;
}

double kvt_detectable(int n, double psi) { return n > 0 ? (1.959963984540054 + 0.8416212335729143) * sqrt(psi / n) : NAN; }

const char *kvt_verdict(double low, double high)
{
    return isnan(low) || isnan(high) ? "can't be told" : low > 0 || high < 0 ? "differs" : low >= -KVT_HOLDS_WITHIN && high <= KVT_HOLDS_WITHIN ? "holds" : "can't be told";
}

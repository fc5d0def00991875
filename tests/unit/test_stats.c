/* Statistics against enumeration and numbers worked out by hand. Would catch: a wrong hypergeometric ratio or start, a
 * coherence normalised by the wrong N, a Gini without its factor, a quantile off by one. */
#include <criterion/criterion.h>
#include <math.h>

#include "base/stats.h"

/* Sums of a few dozen doubles below 1: their rounding is below 1e-14. */
#define NEAR(a, b) cr_assert_float_eq(a, b, 1e-12, "%s = %.15g, expected %.15g", #a, (double)(a), (double)(b))

Test(sets, every_pair_of_subsets_of_small_universes)
{
    for (int n = 1; n <= 8; n++)
        for (int a = 0; a <= n; a++)
            for (int b = 0; b <= n; b++) {
                unsigned A = (1u << a) - 1; /* by symmetry one A is enough */
                int count[9] = {0}, all = 0;
                double jaccard = 0;
                for (unsigned B = 0; B < 1u << n; B++) {
                    if (__builtin_popcount(B) != b)
                        continue;
                    int x = __builtin_popcount(A & B);
                    count[x]++;
                    all++;
                    jaccard += a + b ? (double)x / (a + b - x) : 0;
                }
                double mean = 0;
                for (int x = 0; x <= n; x++) {
                    NEAR(kvt_hyper_p(n, a, b, x), (double)count[x] / all);
                    mean += (double)x * count[x] / all;
                }
                NEAR(kvt_hyper_mean(n, a, b), mean);
                if (a + b)
                    NEAR(kvt_jaccard_expected(n, a, b), jaccard / all);
                else
                    cr_assert(isnan(kvt_jaccard_expected(n, a, b)));
            }
}

Test(sets, a_cache_of_8192)
{
    /* Large sets concentrate: E[J] tends to m / (a + b - m) with m = ab / n; the next term is of order 1 / n. */
    double m = 2048.0 * 1024 / 8192, limit = m / (2048 + 1024 - m);
    cr_assert_float_eq(kvt_jaccard_expected(8192, 2048, 1024), limit, 1e-4);
    NEAR(kvt_jaccard_expected(8192, 8192, 1024), 1024.0 / 8192);
    double total = 0;
    for (int x = 0; x <= 1024; x++)
        total += kvt_hyper_p(8192, 2048, 1024, x);
    cr_assert_float_eq(total, 1, 1e-12);
}

Test(coherence, by_hand)
{
    int32_t k[] = {10, 10, 20};
    NEAR(kvt_coherence(k, (int32_t[]){10, 0, 20}, 3), 1);   /* whole or gone */
    NEAR(kvt_coherence(k, (int32_t[]){5, 5, 10}, 3), 0);    /* the same share everywhere */
    /* p = 20/40; 10 (1 - .5)^2 + 10 (0 - .5)^2 + 20 (.5 - .5)^2 = 5; 5 / (40 x .25) = .5 */
    NEAR(kvt_coherence(k, (int32_t[]){10, 0, 10}, 3), 0.5);
    cr_assert(isnan(kvt_coherence(k, (int32_t[]){0, 0, 0}, 3)));
    cr_assert(isnan(kvt_coherence(k, (int32_t[]){10, 10, 20}, 3)));
    cr_assert(isnan(kvt_coherence(k, (int32_t[]){5}, 1)));
    NEAR(kvt_coherence_random(k, 3), 2.0 / 39);
    NEAR(kvt_coherence_adjusted(1, 2.0 / 39), 1);
    NEAR(kvt_coherence_adjusted(2.0 / 39, 2.0 / 39), 0);
}

Test(coherence, c0_is_the_mean_over_every_subset)
{
    int32_t k[] = {2, 3, 4};
    for (int kept = 1; kept < 9; kept++) {
        double sum = 0;
        int n = 0;
        for (unsigned B = 0; B < 1u << 9; B++) {
            if (__builtin_popcount(B) != kept)
                continue;
            int32_t m[] = {__builtin_popcount(B & 3), __builtin_popcount(B >> 2 & 7), __builtin_popcount(B >> 5)};
            sum += kvt_coherence(k, m, 3);
            n++;
        }
        NEAR(kvt_coherence_random(k, 3), sum / n);
    }
}

Test(coherence, fragments_and_gini)
{
    for (int m = 0; m <= 7; m++) {
        double runs = 0;
        int n = 0;
        for (unsigned B = 0; B < 1u << 7; B++)
            if (__builtin_popcount(B) == m) {
                runs += __builtin_popcount(B & ~(B << 1));
                n++;
            }
        NEAR(kvt_fragments_random(7, m), runs / n);
    }
    NEAR(kvt_gini((double[]){1, 1, 1, 1}, 4), 0);
    NEAR(kvt_gini((double[]){0, 0, 0, 1}, 4), 0.75); /* (n - 1) / n */
    NEAR(kvt_gini((double[]){1, 3}, 2), 0.25);
    cr_assert(isnan(kvt_gini((double[]){0, 0}, 2)));
}

Test(distributions, entropy_and_kl)
{
    double p[] = {0.5, 0.5, 0}, q[] = {0.25, 0.5, 0.25};
    NEAR(kvt_entropy(p, 3), log(2));
    NEAR(kvt_kl(p, q, 3), 0.5 * log(2));
    NEAR(kvt_kl(p, p, 3), 0);
    cr_assert(isinf(kvt_kl(q, p, 3)));
}

Test(samples, running_quantile_bootstrap)
{
    struct kvt_running r = {0};
    double v[] = {4, 1, NAN, 3, 2};
    cr_assert(isnan(kvt_running_mean(&r)));
    for (int i = 0; i < 5; i++)
        kvt_running_add(&r, v[i]);
    NEAR(kvt_running_mean(&r), 2.5);
    NEAR(kvt_running_sd(&r), sqrt(5.0 / 3));
    double w[] = {4, 1, 3, 2};
    NEAR(kvt_quantile(w, 4, 0.5), 2.5);
    NEAR(kvt_quantile(w, 4, 0), 1);
    NEAR(kvt_quantile(w, 4, 1), 4);
    NEAR(kvt_quantile(w, 4, 0.25), 1.75);
    cr_assert(isnan(kvt_quantile(w, 0, 0.5)));
    double num[20], den[20], work[500], low, high;
    for (int i = 0; i < 20; i++) {
        den[i] = 1 + i % 3;
        num[i] = 0.5 * den[i];
    }
    struct kvt_rng rng;
    kvt_rng_seed(&rng, 7);
    kvt_bootstrap_ratio(num, den, 20, 500, 0.95, &rng, work, &low, &high);
    NEAR(low, 0.5); /* a ratio that every prompt shares has no spread */
    NEAR(high, 0.5);
    for (int i = 0; i < 20; i++)
        num[i] = i % 2;
    kvt_bootstrap_ratio(num, den, 20, 500, 0.95, &rng, work, &low, &high);
    cr_assert(low < 0.26 && high > 0.26 && low > 0 && high < 0.6, "%g to %g", low, high);
}

Test(random, known_stream_and_even_draws)
{
    struct kvt_rng r = {{1, 2, 3, 4}};
    /* the first outputs of the published xoshiro256** for the state 1, 2, 3, 4 */
    cr_assert_eq(kvt_rng_u64(&r), 11520u);
    cr_assert_eq(kvt_rng_u64(&r), 0u);
    cr_assert_eq(kvt_rng_u64(&r), 1509978240u);
    int count[6] = {0};
    kvt_rng_seed(&r, 3);
    for (int i = 0; i < 60000; i++)
        count[kvt_rng_below(&r, 6)]++;
    for (int i = 0; i < 6; i++) /* 5 standard deviations of a binomial: sqrt(60000 x 5/36) = 91 */
        cr_assert(abs(count[i] - 10000) < 456, "%d: %d", i, count[i]);
}

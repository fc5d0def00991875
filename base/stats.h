/* Statistics: the numbers of docs/measures.md that need no trace. Means NaN where a value is not defined, never 0. */
#ifndef KVT_BASE_STATS_H
#define KVT_BASE_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

/* ---- two sets over one universe ----
 * n: size of the universe; a, b: sizes of the sets; x: size of their intersection. */

/* P(|A and B| = x) for a fixed A and a uniformly random B: hypergeometric. 0 outside its support. */
double kvt_hyper_p(int n, int a, int b, int x);
/* E|A and B| = ab/n. */
double kvt_hyper_mean(int n, int a, int b);
/* E[J] = sum over x of P(x) x / (a + b - x). NaN where both sets are empty. */
double kvt_jaccard_expected(int n, int a, int b);

/* ---- shots ---- */

/* C = sum k_i (r_i - p)^2 / (N p (1 - p)) of S shots of k_i tokens, m_i of them kept (r_i = m_i / k_i, p = sum m_i / N).
 * NaN for p in {0, 1} or S < 2. Shots without tokens are passed over. */
double kvt_coherence(const int32_t *k, const int32_t *m, int S);
/* c0 = (S - 1) / (N - 1): what C is on average under random keeping of the same number. */
double kvt_coherence_random(const int32_t *k, int S);
/* C* = (C - c0) / (1 - c0). NaN where C is, or where every shot has one token. */
double kvt_coherence_adjusted(double C, double c0);
/* Fragments (maximal runs of kept tokens) that m of k tokens make on average when drawn at random: m (k - m + 1) / k. */
double kvt_fragments_random(int k, int m);
/* Gini of v (n), values >= 0: sum |v_i - v_j| / (2 n^2 mean). NaN where n is 0 or all are 0. */
double kvt_gini(const double *v, int n);

/* ---- distributions ---- */

/* -sum p ln p, nats; p (n) sums to 1, zeros add nothing. */
double kvt_entropy(const double *p, int n);
/* KL(p || q) = sum p ln(p / q), nats; +inf where q is 0 and p isn't. */
double kvt_kl(const double *p, const double *q, int n);

/* ---- samples ---- */

/* Welford's running mean and variance; NaNs are passed over. */
struct kvt_running { int64_t n; double mean, m2; };
void kvt_running_add(struct kvt_running *r, double v);
double kvt_running_mean(const struct kvt_running *r);  /* NaN for n = 0 */
double kvt_running_sd(const struct kvt_running *r);    /* of the sample, over n - 1; NaN for n < 2 */

/* The q-quantile of v (n), which is sorted in place; linear between order statistics (type 7). NaN for n = 0. */
double kvt_quantile(double *v, int n, double q);

/* Interval of a ratio of sums, sum num / sum den over `n` independent items (prompts), by the percentile bootstrap: items
 * are drawn with replacement `rounds` times. work holds rounds doubles. Draws whose den is 0 are passed over. */
void kvt_bootstrap_ratio(const double *num, const double *den, int n, int rounds, double level, struct kvt_rng *rng,
                         double *work, double *low, double *high);

#endif

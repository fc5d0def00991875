/* Two methods on the same questions: differences with their intervals. measures.md 10. */
#ifndef KVT_COMPARE_PAIRED_H
#define KVT_COMPARE_PAIRED_H

#include <stdint.h>

/* Wilson's score interval of a share p of n, at z standard errors; p may be a mean over seeds, for which it is wide. n = 0: NaN. */
void kvt_wilson(double p, int n, double z, double *low, double *high);

/* Counts of n questions: both right, only the first, only the second, neither. */
struct kvt_pairs { int both, first, second, neither; };

/* Difference of two paired shares, second - first, with Newcombe's interval (Statistics in Medicine 17, 1998: method 10, which rests on Wilson's
 * intervals and the pairs' correlation; it stays honest where no pair differs). */
double kvt_paired_difference(const struct kvt_pairs *p, double z, double *low, double *high);

/* Exact two-sided McNemar test of b against c discordant pairs: 2 P(X <= min) with X ~ Bin(b + c, 1/2), at most 1. */
double kvt_mcnemar(int b, int c);

/* Holm's step-down: p (m) becomes adjusted p, in place; NaNs are no tests. */
void kvt_holm(double *p, int m);

/* Mean of d (n) over independent outputs, and its percentile bootstrap interval: for outputs with several answers, whose shares are paired by
 * output. NaN bounds where all d are equal: such a sample says nothing about its spread. */
double kvt_mean_difference(const double *d, int n, uint64_t seed, double *low, double *high);

/* The difference that n pairs can show at a share psi of discordant ones: level 5 % two-sided, power 80 %: (1.960 + 0.842) sqrt(psi / n). */
double kvt_detectable(int n, double psi);

/* "differs": the interval excludes 0; "holds": it lies within +-0.05; else "can't be told". */
#define KVT_Z95 1.959963984540054
#define KVT_HOLDS_WITHIN 0.05
const char *kvt_verdict(double low, double high);

#endif

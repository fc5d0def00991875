/* Rank-biased overlap of two branches' scores (Webber, Moffat and Zobel 2010, equation 32): measures 4 of docs/measures.md. */
#ifndef KVT_ANALYZERS_RANK_H
#define KVT_ANALYZERS_RANK_H

#include "analyzers/analyzer.h"

/* Two rankings of the same n things, best first: p^n + (1 - p)/p * sum over d of p^d X_d/d, where X_d things are among the first d of
 * both. 1 = the same order; 0 <= p < 1, and the first d ranks have all but p^d of the weight. seen is work space, (n) zeros before and
 * after. NaN for n = 0. */
double kvt_rbo(const int32_t *a, const int32_t *b, int n, double p, uint8_t *seen);
/* What it is on average for two independent rankings: X_d/d = d/n. */
double kvt_rbo_random(int n, double p);

/* Mean over cells, of tokens that neither branch protects; score_a, score_b (L, R, n) with R = G or 1, of the layers that the held
 * sets have. p = 1 - 1/k of each cell, k the smaller number of those tokens that a side keeps; cells where that is below 2 are left out
 * and counted. Equal scores rank by position. */
struct kvt_rank_result { double rbo, random; int64_t cells, left_out; };
int kvt_rank_of(const struct kvt_held *a, const float *score_a, int rows_a, const struct kvt_held *b, const float *score_b, int rows_b,
                struct kvt_rank_result *out, struct kvt_err *err);

/* The same cell by cell, where many branches meet: order_a, order_b (n) from kvt_order_falling of the scores. work (4 n). *used false: the
 * cell is left out. Then kvt_rank_add for each cell in order, and kvt_rank_end. */
struct kvt_rank_cell { double rbo, random; bool used; };
struct kvt_rank_cell kvt_rank_cell(const struct kvt_held *a, const int32_t *order_a, const struct kvt_held *b, const int32_t *order_b, size_t cell,
                                   int32_t *work);
void kvt_rank_add(struct kvt_rank_result *to, struct kvt_rank_cell cell);
void kvt_rank_end(struct kvt_rank_result *r);

#endif

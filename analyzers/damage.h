/* What eviction broke inside shots, and whether layers agree on which shots matter: measures 5 of docs/measures.md. */
#ifndef KVT_ANALYZERS_DAMAGE_H
#define KVT_ANALYZERS_DAMAGE_H

#include "analyzers/analyzer.h"

/* A part is a span inside a shot. Lost: not one of its tokens is held; cut: some are and some aren't. */
struct kvt_parts { int64_t parts, lost, cut; };

/* Sums over cells (a set shared by all heads of a layer once), over spans of that kind inside shots. */
struct kvt_damage {
    int64_t shots, answer_lost;          /* shots with a question and an answer; the question is kept, the answer isn't */
    struct kvt_parts number, operator_mark, sentence;
    int64_t tokens, held;                /* of shots */
    int64_t number_tokens, number_held, operator_tokens, operator_held;
};
/* part_share: a question or an answer counts as kept from this share of its tokens on. */
int kvt_damage_of(const struct kvt_held *h, const struct kvt_trace_info *info, const struct kvt_shot *shot, int S, double part_share,
                  struct kvt_damage *out, struct kvt_err *err);

/* Spearman's rank correlation of a and b (n), equal values at their mean rank. NaN where either side is all equal or n < 2. rank is work
 * space, (2 n). */
double kvt_spearman(const double *a, const double *b, int n, double *rank);

/* How alike two layers weigh the shots: Spearman of r_i (mean over heads), mean over neighbouring layers and over all pairs; NaN where
 * no pair has one. */
struct kvt_agreement { double next, all; int64_t pairs, undefined; };
int kvt_agreement_of(const struct kvt_held *h, const struct kvt_shot *shot, int S, struct kvt_agreement *out, struct kvt_err *err);

#endif

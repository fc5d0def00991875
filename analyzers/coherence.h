/* How whole the shots are in what a branch kept: measures 5 of docs/measures.md. */
#ifndef KVT_ANALYZERS_COHERENCE_H
#define KVT_ANALYZERS_COHERENCE_H

#include <stdint.h>

#include "analyzers/analyzer.h"
#include "base/rng.h"

/* Means over cells (a set shared by all heads of a layer once); NaN where not defined in any cell. */
struct kvt_coherence_result {
    double C, c0, adjusted;      /* C, its exact mean under random keeping, C* */
    double null_mean, null_high; /* C* when the mask is shifted in a circle along the shots: mean and 95th percentile */
    double null_p;               /* share of shifts (and the mask itself) that reach C* */
    double whole, gone;          /* share of shots kept whole, of shots that keep nothing but protected tokens */
    double whole_rate;           /* of the shots that aren't gone, the share kept whole */
    double fragments, fragments_random; /* runs of kept tokens in a shot that isn't gone; the same number drawn at random */
    double gini;                 /* of the shares r_i */
    double answer_lost;          /* share of shots whose question is kept and whose answer is not */
    double kept;                 /* p: share of the shots' tokens kept */
    int64_t cells, undefined;    /* cells seen, of them without C (everything or nothing kept, fewer than two shots) */
};

/* part_share: a question or answer counts as kept from this share of its tokens on (0.5). rounds 0: no null. Layers
 * [from, to). share (S) receives the mean share of each shot kept, or NULL. */
int kvt_coherence_of(const struct kvt_held *h, const struct kvt_trace_info *info, const struct kvt_shot *shot, int S, int from,
                     int to, double part_share, int rounds, struct kvt_rng *rng, struct kvt_coherence_result *out,
                     double *share, struct kvt_err *err);

#endif

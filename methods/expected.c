/* Expected Attention: what the next queries would look at, if they were like the prompt's.
 * Devoto et al., arXiv 2510.00636; kvpress ExpectedAttentionPress (the authors' code).
 *
 * Mean and covariance of the prompt's unrotated queries (its first four rows left out) are turned by the mean rotation of the next
 * `ahead` positions; the expectation of exp(q k / sqrt d) of a normal law of these, softmaxed over the slots behind the sinks, averaged
 * over the group and multiplied by the norm of the value, is what a slot is worth. */
#include "methods/methods.h"

const struct kvt_method kvt_method_expected = {
    .name = "expected",
    .version = 1,
    .source = "Expected Attention, arXiv 2510.00636; kvpress ExpectedAttentionPress",
    .summary = "attention expected of the next 512 positions, from mean and covariance of queries",
    .defaults = {.score = KVT_SCORE_EXPECTED, .ahead = 512, .vnorm = true, .sinks = 4, .reuse = 1},
    .options = "ahead vnorm sinks recent heads skip renumber",
};

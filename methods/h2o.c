/* H2O: heavy hitters and recent tokens.
 * Zhang et al., arXiv 2306.14048; FMInference/H2O.
 *
 * The worth of a slot is the attention it received so far, summed over all rows of the prefill and of every step while
 * it is held. Half of the budget is the newest tokens, whatever they received. At every step, where the budget is
 * full, the slot with the least leaves for good (the official masking code lets it return; its flexgen code and the
 * paper's algorithm don't). */
#include "methods/methods.h"

const struct kvt_method kvt_method_h2o = {
    .name = "h2o",
    .version = 1,
    .source = "H2O, arXiv 2306.14048 section 4; FMInference/H2O",
    .summary = "accumulated attention mass, and half of the budget recent",
    .defaults = {.score = KVT_SCORE_MASS, .group = KVT_GROUP_MEAN, .schedule = KVT_SCHEDULE_STEP, .recent = -1},
    .options = "power norm group recent sinks heads schedule renumber",
};

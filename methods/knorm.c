/* Knorm: the smallest keys.
 * Devoto et al., arXiv 2406.11430; kvpress KnormPress, KVCache-Factory L2NormCluster.
 *
 * A key of small norm goes with high attention. kvpress compresses every layer; KVCache-Factory leaves the first two alone. */
#include "methods/methods.h"

const struct kvt_method kvt_method_knorm = {
    .name = "knorm",
    .version = 1,
    .source = "L2 norm, arXiv 2406.11430; kvpress KnormPress",
    .summary = "keys of the smallest norm",
    .defaults = {.score = KVT_SCORE_KNORM, .reuse = 1},
    .options = "sinks recent heads skip renumber",
};

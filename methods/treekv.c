/* TreeKV: neighbours compare in turn, so that a cache gets sparser with distance and has no hard window.
 * He et al., arXiv 2501.04987, algorithm 1. No code was published.
 *
 * A slot is worth the mean attention that it received since it came. At each step over the budget the slot whose turn it
 * is and its right neighbour compare, and the lower leaves; the turn goes on by one, round the cache. Algorithm 1 prints
 * idx <- (idx + 1) mod c + 1, which skips every other slot; the text and figure 3 need idx mod c + 1, which is what runs
 * here. At prefill's end the same goes on over chunks of `chunk` tokens (b isn't given there), in one pass. Sinks and the newest half stay out of
 * it, as in the paper's language-model runs (4 + 508 + 512 contested). */
#include "methods/methods.h"

const struct kvt_method kvt_method_treekv = {
    .name = "treekv",
    .version = 1,
    .source = "TreeKV, arXiv 2501.04987 algorithm 1 (its pointer corrected)",
    .summary = "neighbours compare in turn, the mean of attention decides",
    .defaults = {.score = KVT_SCORE_MASS, .visible_mean = true, .group = KVT_GROUP_MEAN, .schedule = KVT_SCHEDULE_STEP,
                 .leaver = KVT_LEAVES_CONTEST, .unit = KVT_UNIT_CHUNK, .chunk_tok = 16, .sinks = 4, .recent = -1, .renumber = true},
    .options = "norm group chunk recent sinks heads schedule renumber",
};

/* ShotKV: whole shots at the end of the prefill, generated tokens under a share of their own.
 * "Semantic Integrity Matters", arXiv 2502.01941 v4, section 5.1 and algorithm 1. No code was published.
 *
 * A shot is worth the mean over its tokens of the mass they received, summed over heads; shots are taken from the best
 * down while they fit the budget. Text outside the shots always stays and counts in the budget. While decoding, the
 * generated tokens with the most attention in the current row stay, floor(share x generated) of them and at least one:
 * the printed formula, a share of the current cache, would empty it. docs/methods.md lists what is left open. */
#include "methods/methods.h"

const struct kvt_method kvt_method_shotkv = {
    .name = "shotkv",
    .version = 1,
    .source = "ShotKV, arXiv 2502.01941 v4 section 5.1, algorithm 1",
    .summary = "whole shots at prefill's end, the best generated tokens after it",
    .defaults = {.score = KVT_SCORE_MASS, .window = 32, .group = KVT_GROUP_SUM, .heads = KVT_HEADS_SHARED,
                 .unit = KVT_UNIT_SHOT, .overflow = KVT_OVERFLOW_STOP, .scope = KVT_SCOPE_PER_LAYER,
                 .decode_share_set = true, .prefill_share = -1, .decode_share = -1, .decode_floor = 1, .decode_recent = 1},
    .options = "rows w norm heads unit scope overflow force prefill decode decode_floor decode_recent sinks renumber",
};

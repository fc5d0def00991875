/* randomshot: whole shots by chance, what ShotKV's score has to beat. arXiv 2502.01941 v4, table 4.
 *
 * A shot draws one lot for each layer (scope=all_layers: the sum over layers, one set for all), from (seed, layer, its
 * first position); everything else is ShotKV's. Compare with at least 8 seeds. */
#include "methods/methods.h"

const struct kvt_method kvt_method_randomshot = {
    .name = "randomshot",
    .version = 1,
    .source = "control; ShotKV, arXiv 2502.01941 v4 table 4",
    .summary = "whole shots by chance, from a seed",
    .defaults = {.score = KVT_SCORE_RANDOM, .window = 32, .group = KVT_GROUP_SUM, .heads = KVT_HEADS_SHARED,
                 .unit = KVT_UNIT_SHOT, .overflow = KVT_OVERFLOW_STOP, .scope = KVT_SCOPE_PER_LAYER,
                 .decode_share_set = true, .prefill_share = -1, .decode_share = -1, .decode_floor = 1, .decode_recent = 1},
    .options = "seed heads scope overflow force prefill decode decode_floor decode_recent sinks renumber",
};

/* oracle: a slot is worth the attention that the full branch's generated tokens will really give it. No method can know
 * that; what it keeps loses the least mass that any set of its size can lose, so the distance of a method to the oracle of
 * the same unit, allocation and schedule is its regret (docs/measures.md 3). It bounds mass, not accuracy.
 *
 * Oracles run after all other branches, in a pass of their own beside the full branch once more. */
#include "methods/methods.h"

const struct kvt_method kvt_method_oracle = {
    .name = "oracle",
    .version = 1,
    .source = "control: docs/measures.md 3",
    .summary = "the full branch's future attention: the bound of every method",
    .defaults = {.score = KVT_SCORE_ORACLE, .chunk_tok = 10, .beta = 20, .alpha_ppm = 200000, .reuse = 1, .every = 512},
    .options = "ahead nosinks unit reduce chunk count overflow force heads scope within alloc beta rule head_rule alpha skip reuse schedule every "
               "prefill decode decode_floor decode_recent sinks recent renumber",
    .layer_budget = kvt_pyramid_layers,
};

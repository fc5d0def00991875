/* my: a composition by hand, `my[score=wmass,w=32,pool=max7,unit=shot,alloc=global,protect=sink4+recent32]`. It takes
 * every option there is; the canonical form names each dimension, and whatever differs from the defaults below. */
#include "methods/methods.h"

const struct kvt_method kvt_method_my = {
    .name = "my",
    .version = 1,
    .source = "a composition by hand",
    .summary = "any score, unit, allocation, schedule, protection and positions together",
    .defaults = {.score = KVT_SCORE_NONE, .window = 32, .group = KVT_GROUP_MEAN, .lag = 128, .ahead = 512,
                 .repeat = 2048, .chunk_tok = 10, .beta = 20, .alpha_ppm = 200000, .class_ppm = 500000, .reuse = 1,
                 .every = 512, .prefill_share = -1, .decode_share = -1, .decode_floor = 1, .decode_recent = 1},
    .options = "*",
    .layer_budget = kvt_pyramid_layers,
};

/* file: slots are worth what a file says, so that scores made anywhere evict live: --method 'file[scores.h5]'. The file is
 * HDF5 with one dataset `scores` of (layers, kv heads, tokens): the context's tokens or the whole prompt's. */
#include "methods/methods.h"

const struct kvt_method kvt_method_file = {
    .name = "file",
    .version = 1,
    .source = "whoever made the file",
    .summary = "scores from a file, (layer, kv head, token)",
    .defaults = {.score = KVT_SCORE_FILE, .chunk_tok = 10, .beta = 20, .alpha_ppm = 200000, .reuse = 1},
    .options = "path unit reduce chunk count overflow force heads scope alloc beta rule head_rule alpha skip reuse sinks recent renumber",
    .layer_budget = kvt_pyramid_layers,
};

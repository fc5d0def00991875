/* ChunkKV: whole chunks of the text by the mean mass of their tokens.
 * Liu et al., arXiv 2502.00299, algorithm 1; the only code is kvpress's chunkkv_press.py.
 *
 * The context without its window is cut every c tokens; floor(budget / c) chunks stay after the window is paid for, at
 * least one. kvpress shares one set among the heads of a layer, uses 20 tokens, counts chunks by share and lets the
 * window win by its score: chunkkv[chunk=20,count=kvpress,heads=shared,w=64,pool=avg5]. */
#include "methods/methods.h"

const struct kvt_method kvt_method_chunkkv = {
    .name = "chunkkv",
    .version = 1,
    .source = "ChunkKV, arXiv 2502.00299 algorithm 1; NVIDIA/kvpress chunkkv_press.py",
    .summary = "whole chunks by the mean mass of the last W rows",
    .defaults = {.score = KVT_SCORE_WMASS, .window = 32, .keep_window = true, .group = KVT_GROUP_MEAN,
                 .unit = KVT_UNIT_CHUNK, .chunk_tok = 10, .reuse = 1},
    .options = "chunk w count pool group order heads keep_window reuse sinks renumber",
};

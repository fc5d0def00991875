/* SnapKV: what the last W rows look at, smoothed along the text.
 * Li et al., arXiv 2404.14469; FasterDecoding/SnapKV, snapkv_utils.py.
 *
 * The mass of the last W rows is pooled per query head and averaged over the query group (kvpress's order; Ada-KV
 * reduces the group first: order=group-first). The window itself stays and counts in the budget. */
#include "methods/methods.h"

const struct kvt_method kvt_method_snapkv = {
    .name = "snapkv",
    .version = 1,
    .source = "SnapKV, arXiv 2404.14469 section 4; FasterDecoding/SnapKV snapkv_utils.py",
    .summary = "mass of the last W rows, pooled",
    .defaults = {.score = KVT_SCORE_WMASS, .window = 32, .keep_window = true, .pool = KVT_POOL_MAX, .pool_width = 7,
                 .group = KVT_GROUP_MEAN},
    .options = "w pool group order heads keep_window sinks renumber",
};

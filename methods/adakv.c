/* Ada-KV: SnapKV's score, and a layer's budget shared out among its heads by what they would win.
 * Feng et al., arXiv 2407.11550; FFY0/AdaKV snapkv_utils.py.
 *
 * Half of each head's budget (alpha) is its own; the rest follows the number of its slots among the best of the layer. The
 * official code rounds each head by itself, so its total may miss by some slots: head_rule=official. kvpress's AdaKVPress
 * has another rule: head_rule=safeguard, where the best alpha of each head are safe and all others compete. */
#include "methods/methods.h"

const struct kvt_method kvt_method_adakv = {
    .name = "adakv",
    .version = 1,
    .source = "Ada-KV, arXiv 2407.11550 algorithm 1; FFY0/AdaKV adaptive_snapkv/monkeypatch/snapkv_utils.py",
    .summary = "SnapKV's score, each head of a layer its own share of the budget",
    .defaults = {.score = KVT_SCORE_WMASS, .window = 32, .keep_window = true, .pool = KVT_POOL_MAX, .pool_width = 7,
                 .group = KVT_GROUP_MEAN, .group_first = true, .alloc = KVT_ALLOC_HEAD, .head_rule = KVT_HEAD_BLEND,
                 .alpha_ppm = 200000, .beta = 20},
    .options = "w pool group order keep_window alloc head_rule alpha beta rule sinks renumber",
    .layer_budget = kvt_pyramid_layers,
};

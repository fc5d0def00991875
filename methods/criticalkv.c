/* CriticalKV: half of the budget by SnapKV's score, the other half by what a slot can add to the layer's output.
 * Feng et al., arXiv 2502.03805; kvpress criticalkv_press.py, written by the method's authors.
 *
 * The second half goes to the largest (score + 1e-4) ||W_O v||_1, the norm averaged over the query heads of a group. With
 * alloc=head the heads' budgets come first, from the scores alone (kvpress's CriticalAdaKVPress). */
#include "methods/methods.h"

const struct kvt_method kvt_method_criticalkv = {
    .name = "criticalkv",
    .version = 1,
    .source = "CriticalKV, arXiv 2502.03805 algorithm 1; NVIDIA/kvpress criticalkv_press.py",
    .summary = "half by SnapKV's score, half by score times what a slot adds to the output",
    .defaults = {.score = KVT_SCORE_WMASS, .window = 32, .keep_window = true, .pool = KVT_POOL_MAX, .pool_width = 7,
                 .group = KVT_GROUP_MEAN, .critical_ppm = 500000, .head_rule = KVT_HEAD_SAFEGUARD, .alpha_ppm = 200000,
                 .beta = 20},
    .options = "critical w pool group order heads keep_window alloc head_rule alpha beta rule sinks renumber",
    .layer_budget = kvt_pyramid_layers,
};

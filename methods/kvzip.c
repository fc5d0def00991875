/* KVzip: what the model looks at while it repeats the context, whatever will be asked of it.
 * Kim et al., arXiv 2505.23416; snu-mllab/KVzip; kvpress KVzipPress.
 *
 * A slot is worth the largest attention over its query group and over the rows of its chunk's repetition, ranked over all
 * layers and heads together. Costs a pass of its own, about as long as one more prefill (engine/kvzip.c). */
#include "methods/methods.h"

const struct kvt_method kvt_method_kvzip = {
    .name = "kvzip",
    .version = 1,
    .source = "KVzip, arXiv 2505.23416; snu-mllab/KVzip attention/score.py",
    .summary = "largest attention while the context is repeated",
    .defaults = {.score = KVT_SCORE_KVZIP, .repeat = 2048, .alloc = KVT_ALLOC_GLOBAL, .beta = 20, .sinks = 4},
    .options = "repeat alloc heads sinks recent renumber",
    .layer_budget = kvt_pyramid_layers,
};

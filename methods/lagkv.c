/* LagKV: partitions measured by the next one.
 * Liang et al., arXiv 2504.04704; kvpress LagKVPress, AI-Lab-China-Merchants-Bank/LagKV lag_kv.py.
 *
 * After the sinks, partitions of `lag` tokens; each channel of K and V is normalised by its range in the next partition, and a token
 * is worth the deviation over channels, softmaxed in its partition, K and V averaged. What competes is the rank in
 * the partition, so each keeps the same share; the last whole partition and what follows it come first. The official code (sink 16,
 * lag 1024) cuts every partition by itself to a share of it, keeps the last besides, and goes on while tokens come:
 * schedule=step. */
#include "methods/methods.h"

const struct kvt_method kvt_method_lagkv = {
    .name = "lagkv",
    .version = 1,
    .source = "LagKV, arXiv 2504.04704; kvpress LagKVPress",
    .summary = "keys and values that spread beyond the next tokens' range",
    .defaults = {.score = KVT_SCORE_LAGKV, .lag = 128, .sinks = 4, .reuse = 1},
    .options = "lag sinks recent heads skip schedule renumber",
};

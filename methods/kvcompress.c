/* KV-Compress: squared attention, and the budget goes to the pages of all layers and heads that are worth most.
 * Rehg, arXiv 2410.00161; IsaacRe/vllm-kvcompress, vllm/kvcompress/metrics.py and scheduler.py.
 *
 * A page is the 16 slots of one layer and kv head that the cache holds and frees together. To free one, the head's worst
 * slots go, those in its last page first; its price is the best score among them, and the cheapest pages of all layers
 * and heads go. So heads end with different numbers of slots, and everything that is evicted frees memory. */
#include "methods/methods.h"

const struct kvt_method kvt_method_kvcompress = {
    .name = "kvcompress",
    .version = 1,
    .source = "KV-Compress, arXiv 2410.00161 section 4; IsaacRe/vllm-kvcompress vllm/kvcompress/metrics.py, scheduler.py",
    .summary = "squared mass of the last W rows; the cheapest pages of all layers and heads go",
    .defaults = {.score = KVT_SCORE_SQWMASS, .window = 8, .pool = KVT_POOL_MAX, .pool_width = 7, .group = KVT_GROUP_SUM,
                 .unit = KVT_UNIT_PAGE, .alloc = KVT_ALLOC_GLOBAL, .recent = 64, .every = 512},
    .options = "score w v pool group order alloc recent sinks schedule every renumber",
};

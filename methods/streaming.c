/* StreamingLLM: the first tokens (attention sinks) and the newest ones.
 * Xiao et al., arXiv 2309.17453; mit-han-lab/streaming-llm, kv_cache.py.
 *
 * Acts at every step: the new token pushes the oldest one out that is no sink. Positions are counted inside the
 * cache, as in the official code; the codes that keep text positions (kvpress, KVCache-Factory) are renumber=0. */
#include "methods/methods.h"

const struct kvt_method kvt_method_streaming = {
    .name = "streaming",
    .version = 1,
    .source = "StreamingLLM, arXiv 2309.17453; mit-han-lab/streaming-llm kv_cache.py",
    .summary = "attention sinks and the newest tokens",
    .defaults = {.score = KVT_SCORE_RECENCY, .schedule = KVT_SCHEDULE_STEP, .sinks = 4, .renumber = true},
    .options = "sinks schedule renumber",
};

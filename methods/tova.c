/* TOVA: what the newest row looks at, one set for all heads of a layer.
 * Oren et al., arXiv 2401.06104; schwartz-lab-NLP/TOVA, tova_cache.py.
 *
 * Acts at prefill's end and at every step: the slot with the least attention of the current row, averaged over all query
 * heads, leaves. Nothing is protected, as in the official code: the newest token may go too. */
#include "methods/methods.h"

const struct kvt_method kvt_method_tova = {
    .name = "tova",
    .version = 1,
    .source = "TOVA, arXiv 2401.06104; schwartz-lab-NLP/TOVA tova_cache.py",
    .summary = "attention of the newest row, one set a layer",
    .defaults = {.score = KVT_SCORE_LAST, .group = KVT_GROUP_MEAN, .heads = KVT_HEADS_SHARED,
                 .schedule = KVT_SCHEDULE_STEP},
    .options = "group heads recent sinks schedule renumber",
};

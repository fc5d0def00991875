/* full: nothing is ever dropped. The branch that all others are measured against. */
#include "methods/methods.h"

const struct kvt_method kvt_method_full = {
    .name = "full",
    .version = 1,
    .source = "no compression",
    .summary = "keeps everything, whatever the budget",
    .defaults = {.score = KVT_SCORE_NONE},
    .options = "renumber",
};

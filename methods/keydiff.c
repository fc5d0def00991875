/* KeyDiff: keys unlike the others.
 * Park et al., arXiv 2504.15364; kvpress KeyDiffPress.
 *
 * The cosine of a key with the mean of its head's unit keys; the lowest stay. Over the whole context at once, as kvpress does without
 * its BlockPress; the paper goes block by block. */
#include "methods/methods.h"

const struct kvt_method kvt_method_keydiff = {
    .name = "keydiff",
    .version = 1,
    .source = "KeyDiff, arXiv 2504.15364; kvpress KeyDiffPress",
    .summary = "keys least like their head's mean key",
    .defaults = {.score = KVT_SCORE_KEYDIFF, .reuse = 1},
    .options = "sinks recent heads skip renumber",
};

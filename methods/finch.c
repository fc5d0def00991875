/* FINCH: what the question looks at in each stretch of the context, and positions closed up.
 * Corallo, Papotti, TACL 2024 (doi 10.1162/tacl_a_00716); kvpress finch_press.py.
 *
 * Every stretch of `within` tokens keeps the same share by the attention of the question's rows, each of them weighed by how many
 * tokens it sees (score=wmass: not). What is left is renumbered. The paper reads stretch after stretch, each with the question
 * behind it and the cache so far before it; kvpress, and ours, rank all of them after one prefill. */
#include "methods/methods.h"

const struct kvt_method kvt_method_finch = {
    .name = "finch",
    .version = 1,
    .source = "FINCH, TACL 2024, doi 10.1162/tacl_a_00716; kvpress finch_press.py",
    .summary = "mass of the question's rows, a share of each stretch, positions renumbered",
    .defaults = {.score = KVT_SCORE_FINCH, .window = KVT_WINDOW_QUESTION, .keep_window = true, .group = KVT_GROUP_MEAN, .renumber = true},
    .options = "score w group within keep_window sinks renumber",
};

/* random: slots drawn by chance, each kv head its own: the floor under every other method. The worth of a slot is a
 * hash of (seed, layer, kv head, position), so a smaller budget keeps a subset of a larger one, and a run can be
 * repeated. One draw says little: compare with at least 8 seeds. */
#include "methods/methods.h"

const struct kvt_method kvt_method_random = {
    .name = "random",
    .version = 1,
    .source = "control",
    .summary = "slots by chance, from a seed",
    .defaults = {.score = KVT_SCORE_RANDOM},
    .options = "seed heads sinks renumber",
};

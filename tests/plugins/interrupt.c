/* A method in whose scoring somebody presses Ctrl-C. */
#include <signal.h>

#include "kvt/plugin.h"

static int score(const struct kvt_host_layer *at, float *out)
{
    for (int i = 0; i < at->G * at->n; i++)
        out[i] = 0;
    return raise(SIGINT);
}

static const struct kvt_method interrupt = {
    .name = "interrupt", .version = 1, .source = "a test", .summary = "ends the run", .defaults = {.score = KVT_SCORE_HOST}, .options = "sinks",
    .host_score = score,
};
KVT_METHOD_PLUGIN(interrupt)

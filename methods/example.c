/* example: a method of your own in one small file (docs/add-a-method.md walks through it). A slot is worth what the last
 * W rows gave it times how much its value can move them: attention x ||v||, the mean over the query group. */
#include <math.h>

#include "kvt/plugin.h"

static int score(const struct kvt_host_layer *at, float *out)
{
    int group = at->H / at->G;
    for (int g = 0; g < at->G; g++)
        for (int j = 0; j < at->n; j++) {
            const float *v = at->v + ((size_t)g * (size_t)at->n + (size_t)j) * (size_t)at->D;
            float mass = 0, square = 0;
            for (int h = g * group; h < (g + 1) * group; h++)
                mass += at->wmass[(size_t)h * (size_t)at->ld + (size_t)j];
            for (int d = 0; d < at->D; d++)
                square += v[d] * v[d];
            out[(size_t)g * (size_t)at->n + (size_t)j] = mass / (float)group * sqrtf(square);
        }
    return 0;
}

static const struct kvt_method example = {
    .name = "example",
    .version = 1,
    .source = "docs/add-a-method.md",
    .summary = "mass of the last W rows times the norm of the value, as a C loop",
    .defaults = {.score = KVT_SCORE_HOST, .window = 32, .keep_window = true},
    .options = "w keep_window sinks renumber",
    .host_score = score,
    .host_needs = KVT_HOST_WMASS | KVT_HOST_KV,
};
KVT_METHOD_PLUGIN(example)

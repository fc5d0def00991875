/* Fates of tokens, from a branch's history. */
#include "analyzers/fate.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "kernels/ops.h"
#include "kvt/trace.h"

void kvt_fate_free(struct kvt_fate *f)
{
    free(f->cells);
    *f = (struct kvt_fate){0};
}

/* Moments in their order in time: chunks come before prefill's end, though their numbers fall. */
static int64_t time_of(int32_t moment) { return moment < -1 ? (int64_t)INT32_MIN - moment : moment; }

int kvt_fate_make(int L, int G, int n, int n_tok, const int32_t *evicted_at, const uint8_t *reason, struct kvt_fate *out, struct kvt_err *err)
{
    size_t N = (size_t)n;
    int32_t *a = kvt_calloc(6 * (N + 1), sizeof *a);
    *out = (struct kvt_fate){.n = n, .cells = a};
    if (!a)
        return kvt_fail(err, KVT_ENOMEM, "no memory for what became of %d tokens", n);
    out->layers = a + N;
    out->guarded = a + 2 * N;
    out->last = a + 3 * N;
    out->from = a + 4 * N;
    out->to = a + 5 * N;
    for (size_t j = 0; j < N; j++)
        out->from[j] = out->to[j] = KVT_NOT_YET;
    bool *here = kvt_calloc(N + 1, sizeof *here); /* in the layer at hand */
    if (!here) {
        kvt_fate_free(out);
        return kvt_fail(err, KVT_ENOMEM, "no memory for what became of %d tokens", n);
    }
    for (int l = 0; l < L; l++) {
        for (size_t j = 0; j < N; j++)
            here[j] = false;
        for (int g = 0; g < G; g++) {
            size_t cell = (size_t)l * (size_t)G + (size_t)g;
            const int32_t *ev = evicted_at + cell * (size_t)n_tok;
            const uint8_t *why = reason ? reason + cell * N : NULL;
            for (size_t j = 0; j < N; j++) {
                int32_t at = ev[j];
                bool held = at == -1 || at > 0;
                out->cells[j] += held;
                out->last[j] += at == -1;
                out->guarded[j] += why && held && (why[j] == KVT_KEPT_WINDOW || why[j] == KVT_KEPT_PROTECTED);
                here[j] |= held;
                if (at == -1 || at == KVT_NOT_YET)
                    continue;
                if (out->from[j] == KVT_NOT_YET || time_of(at) < time_of(out->from[j]))
                    out->from[j] = at;
                if (out->to[j] == KVT_NOT_YET || time_of(at) > time_of(out->to[j]))
                    out->to[j] = at;
            }
        }
        for (size_t j = 0; j < N; j++)
            out->layers[j] += here[j];
    }
    free(here);
    return 0;
}

const char *kvt_moment_text(int32_t moment, char *buf, size_t cap)
{
    if (moment > 0)
        snprintf(buf, cap, "step %d", (int)moment);
    else if (moment < -1)
        snprintf(buf, cap, "chunk %d", -2 - (int)moment);
    else
        snprintf(buf, cap, "prefill's end");
    return buf;
}

/* Numbers of heads while they decode: means over the rows of generated tokens, step by step from the trace. */
#include <math.h>
#include <stdlib.h>

#include "analyzers/analyzer.h"
#include "analyzers/patterns.h"
#include "base/mem.h"
#include "base/stats.h"
#include "kvt/probe.h" /* KVT_FEW_KEYS */

static int no_steps(const struct kvt_trace_info *info, struct kvt_err *err)
{
    return kvt_fail(err, KVT_EINPUT, "%s holds nothing of generated tokens' rows; trace with --see scores,local,distance,spans,decode", info->path);
}

int kvt_heads_decoded(struct kvt_trace *t, struct kvt_head *out, struct kvt_err *err)
{
    static const char *const what[] = {"entropy", "first", "sink", "local", "own"};
    const struct kvt_trace_info *info = kvt_trace_info(t);
    size_t heads = (size_t)info->L * (size_t)info->H, bins = (size_t)info->n_row_distances;
    enum { EVEN, KEYS, FIRST, SINK, LOCAL, OWN, SELF, PREVIOUS, N };
    if (!info->has_decode)
        return no_steps(info, err);
    float *v = kvt_calloc(heads * (bins > 1 ? bins : 1), sizeof *v);
    struct kvt_running *m = kvt_calloc(heads * N, sizeof *m);
    int rc = v && m ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for the rows of %zu heads", heads);
    for (int k = 1; !rc && k <= info->n_steps; k++) {
        int seen = info->n_prompt + k;
        if (seen < KVT_FEW_KEYS)
            continue;
        for (size_t w = 0; !rc && w < sizeof what / sizeof *what; w++) {
            rc = kvt_trace_decode(t, what[w], k, v, err);
            for (size_t i = 0; !rc && i < heads; i++) {
                int window = w ? 0 : kvt_window_of(info, (int)(i / (size_t)info->H));
                kvt_running_add(&m[i * N + (w ? w + 1 : EVEN)], w ? (double)v[i] : (double)v[i] / log(window && window < seen ? window : seen));
                if (!w)
                    kvt_running_add(&m[i * N + KEYS], exp((double)v[i]));
            }
        }
        if (!rc && bins > 1 && !(rc = kvt_trace_decode(t, "distance", k, v, err)))
            for (size_t i = 0; i < heads; i++) {
                kvt_running_add(&m[i * N + SELF], (double)v[i * bins]);
                kvt_running_add(&m[i * N + PREVIOUS], (double)v[i * bins + 1]);
            }
    }
    for (size_t i = 0; !rc && i < heads; i++) {
        const struct kvt_running *one = m + i * N;
        out[i] = kvt_head_unknown;
        out[i].evenness = kvt_running_mean(&one[EVEN]), out[i].keys = kvt_running_mean(&one[KEYS]);
        out[i].first = kvt_running_mean(&one[FIRST]), out[i].sinks = kvt_running_mean(&one[SINK]);
        out[i].local = kvt_running_mean(&one[LOCAL]), out[i].own = kvt_running_mean(&one[OWN]);
        out[i].self = kvt_running_mean(&one[SELF]), out[i].previous = kvt_running_mean(&one[PREVIOUS]);
    }
    free(v);
    free(m);
    return rc;
}

int kvt_spans_decoded(struct kvt_trace *t, double *out, struct kvt_err *err)
{
    const struct kvt_trace_info *info = kvt_trace_info(t);
    size_t heads = (size_t)info->L * (size_t)info->H, S = (size_t)info->n_map_spans;
    if (!info->has_decode)
        return no_steps(info, err);
    float *v = kvt_calloc(heads * (S + 1), sizeof *v);
    int rc = v ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu spans of %zu heads", S, heads), steps = 0;
    for (size_t i = 0; i < heads * (S + 1); i++)
        out[i] = 0;
    for (int k = 1; !rc && k <= info->n_steps; k++) {
        rc = S ? kvt_trace_decode(t, "spans", k, v, err) : 0;
        if (!rc)
            rc = kvt_trace_decode(t, "own", k, v + heads * S, err);
        if (rc || isnan(v[heads * S])) /* the full branch's text had ended */
            continue;
        steps++;
        for (size_t i = 0; i < heads; i++) {
            for (size_t s = 0; s < S; s++)
                out[i * (S + 1) + s] += (double)v[i * S + s];
            out[i * (S + 1) + S] += (double)v[heads * S + i];
        }
    }
    for (size_t i = 0; i < heads * (S + 1); i++)
        out[i] = steps ? out[i] / steps : NAN;
    free(v);
    return rc;
}

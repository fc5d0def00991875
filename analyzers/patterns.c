/* Numbers of heads. */
#include "analyzers/patterns.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/stats.h"
#include "kvt/probe.h" /* KVT_FEW_KEYS */

const char *const kvt_label_text[KVT_N_LABELS] = {
#define X(name, text, score, threshold) text,
    KVT_LABEL_MAP(X)
#undef X
};
const double kvt_label_default[KVT_N_LABELS] = {
#define X(name, text, score, threshold) threshold,
    KVT_LABEL_MAP(X)
#undef X
};

double kvt_head_score(const struct kvt_head *h, enum kvt_label label)
{
    switch (label) {
#define X(name, text, score, threshold) case KVT_LABEL_##name: return h->score;
        KVT_LABEL_MAP(X)
#undef X
    case KVT_N_LABELS: break;
    }
    return NAN;
}

static int descending(const void *a, const void *b)
{
    const float *x = a, *y = b;
    return (*x < *y) - (*x > *y);
}

double kvt_hold(const float *v, int n, double share, float *work)
{
    double total = 0, sum = 0;
    int count = 0;
    if (n < 1)
        return NAN;
    memcpy(work, v, (size_t)n * sizeof *v);
    qsort(work, (size_t)n, sizeof *work, descending);
    for (int i = 0; i < n; i++)
        total += work[i];
    while (count < n && sum < share * total * (1 - 1e-12))
        sum += work[count++];
    return total > 0 ? (double)count / n : NAN;
}

double kvt_selectivity(const double *weight, const double *size, int S)
{
    double total = 0, entropy = 0;
    for (int s = 0; s < S; s++)
        total += size[s] > 0 ? weight[s] / size[s] : 0;
    if (S < 2 || !(total > 0))
        return NAN;
    for (int s = 0; s < S; s++) {
        double q = size[s] > 0 ? weight[s] / size[s] / total : 0;
        entropy -= q > 0 ? q * log(q) : 0;
    }
    return 1 - entropy / log(S);
}

double kvt_effect(const double *a, const double *b, int count, double *mean, int *n)
{
    struct kvt_running m = {0};
    for (int i = 0; i < count; i++)
        kvt_running_add(&m, a[i] - b[i]);
    *mean = kvt_running_mean(&m);
    *n = (int)m.n;
    double sd = kvt_running_sd(&m);
    return sd > 0 ? *mean / sd : NAN;
}

/* Mean over the rows that see enough; by ln(visible keys) where `even`. */
static double mean_of(const float *row, int n, bool even)
{
    struct kvt_running m = {0};
    for (int i = KVT_FEW_KEYS - 1; i < n; i++)
        kvt_running_add(&m, even ? row[i] / log(i + 1.0) : row[i]);
    return kvt_running_mean(&m);
}

static int raw(struct kvt_trace *t, const char *what, int layer, float *out, struct kvt_err *err)
{
    return kvt_trace_raw(t, what, 0, layer, out, err);
}

int kvt_heads_of(struct kvt_trace *t, int layer, struct kvt_head *out, struct kvt_err *err)
{
    static const double shares[3] = {0.6, 0.9, 0.99};
    const struct kvt_trace_info *info = kvt_trace_info(t);
    int n = info->n_prompt, H = info->H, sinks = info->n_sink < n ? info->n_sink : n;
    float *v = kvt_calloc((size_t)H * (size_t)n, sizeof *v), *work = kvt_calloc((size_t)n, sizeof *work);
    float *distance = kvt_calloc((size_t)H * (size_t)(info->n_distances + 1), sizeof *distance);
    int rc = v && work && distance ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d rows of %d heads", n, H);
    for (int h = 0; !rc && h < H; h++)
        out[h] = (struct kvt_head){.keys = NAN, .first = NAN, .local = NAN, .self = NAN, .previous = NAN};
    if (!rc)
        rc = raw(t, "entropy", layer, v, err);
    for (int h = 0; !rc && h < H; h++) {
        float *row = v + (size_t)h * (size_t)n;
        out[h].evenness = mean_of(row, n, true);
        for (int i = 0; i < n; i++)
            row[i] = expf(row[i]);
        out[h].keys = mean_of(row, n, false);
    }
    if (!rc)
        rc = raw(t, "sink", layer, v, err);
    for (int h = 0; !rc && h < H; h++)
        out[h].sinks = mean_of(v + (size_t)h * (size_t)n, n, false);
    if (!rc && info->has_local && !(rc = raw(t, "local", layer, v, err)))
        for (int h = 0; h < H; h++)
            out[h].local = mean_of(v + (size_t)h * (size_t)n, n, false);
    if (!rc && info->has_visible && !(rc = raw(t, "visible", layer, v, err)))
        for (int h = 0; h < H; h++)
            out[h].first = v[(size_t)h * (size_t)n];
    if (!rc && info->n_distances > 1 && !(rc = kvt_trace_distance(t, layer, distance, err)))
        for (int h = 0; h < H; h++) {
            out[h].self = distance[h * info->n_distances];
            out[h].previous = distance[h * info->n_distances + 1];
        }
    if (!rc)
        rc = raw(t, "mass", layer, v, err);
    for (int h = 0; !rc && h < H; h++)
        for (int k = 0; k < 3; k++) {
            const float *mass = v + (size_t)h * (size_t)n;
            out[h].hold[k] = kvt_hold(mass, n, shares[k], work);
            out[h].hold_rest[k] = kvt_hold(mass + sinks, n - sinks, shares[k], work);
        }
    free(v);
    free(work);
    free(distance);
    return rc;
}

int kvt_sinks_of(struct kvt_trace *t, double least, struct kvt_sink **out, int *count, struct kvt_err *err)
{
    const struct kvt_trace_info *info = kvt_trace_info(t);
    size_t n = (size_t)info->n_prompt, H = (size_t)info->H;
    float *v = kvt_calloc(H * n, sizeof *v);
    struct kvt_sink *sink = kvt_calloc(n + 1, sizeof *sink);
    int rc = v && sink ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu tokens", n);
    for (int l = 0; !rc && l < info->L; l++) {
        rc = raw(t, "visible", l, v, err);
        for (size_t h = 0; !rc && h < H; h++)
            for (size_t j = 0; j + KVT_FEW_KEYS <= n; j++) /* nor are keys that fewer rows see */ {
                double w = v[h * n + j];
                sink[j].heads += w > least;
                if (w > sink[j].most)
                    sink[j].most = w;
            }
    }
    *count = 0;
    for (size_t j = 0; !rc && j < n; j++)
        if (sink[j].heads) {
            sink[j].token = (int)j;
            sink[(*count)++] = sink[j];
        }
    free(v);
    if (rc) {
        free(sink);
        sink = NULL;
    }
    *out = sink;
    return rc;
}

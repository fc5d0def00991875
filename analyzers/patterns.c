/* Numbers of heads. */
#include "analyzers/patterns.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/analyzer.h"
#include "base/mem.h"
#include "base/sort.h"
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

const struct kvt_head kvt_head_unknown = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, {NAN, NAN, NAN}, {NAN, NAN, NAN}, NAN, NAN, NAN, NAN, NAN, NAN};

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

/* Of sorted values. */
static double hold(const float *sorted, int n, double share)
{
    double total = 0, sum = 0;
    int count = 0;
    for (int i = 0; i < n; i++)
        total += sorted[i];
    while (count < n && sum < share * total * (1 - 1e-12))
        sum += sorted[count++];
    return total > 0 ? (double)count / n : NAN;
}

double kvt_hold(const float *v, int n, double share, float *work)
{
    if (n < 1)
        return NAN;
    kvt_sort_falling(v, n, work);
    return hold(work, n, share);
}

double kvt_participation(const float *v, int n)
{
    double sum = 0, square = 0;
    for (int i = 0; i < n; i++) {
        sum += v[i];
        square += (double)v[i] * v[i];
    }
    return square > 0 ? sum * sum / (n * square) : NAN;
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

double kvt_effect_apart(const double *a, int na, const double *b, int nb, double *mean)
{
    struct kvt_running x = {0}, y = {0};
    for (int i = 0; i < na; i++)
        kvt_running_add(&x, a[i]);
    for (int i = 0; i < nb; i++)
        kvt_running_add(&y, b[i]);
    *mean = kvt_running_mean(&x) - kvt_running_mean(&y);
    double pooled = x.n + y.n > 2 ? sqrt((x.m2 + y.m2) / (double)(x.n + y.n - 2)) : 0;
    return pooled > 0 ? *mean / pooled : NAN;
}

/* Mean over the rows that see enough; divided by `by` (n) where it is given. */
static double mean_of(const float *row, int n, const double *by)
{
    double sum = 0;
    int count = 0;
    for (int i = KVT_FEW_KEYS - 1; i < n; i++) {
        double v = by ? row[i] / by[i] : row[i];
        sum += isnan(v) ? 0 : v;
        count += !isnan(v);
    }
    return count ? sum / count : NAN;
}

static int raw(struct kvt_trace *t, const char *what, int layer, float *out, struct kvt_err *err)
{
    return kvt_trace_raw(t, what, 0, layer, out, err);
}

/* Mean weight of each key over the rows that can see it. Without sliding windows mass says it too: key j is seen by all rows from j on. */
static int visible(struct kvt_trace *t, int layer, float *out, struct kvt_err *err)
{
    const struct kvt_trace_info *info = kvt_trace_info(t);
    if (info->has_visible || strcmp(info->windows, "none"))
        return raw(t, "visible", layer, out, err);
    int rc = raw(t, "mass", layer, out, err), n = info->n_prompt;
    for (int i = 0; !rc && i < info->H * n; i++)
        out[i] /= (float)(info->map_tok - i % n);
    return rc;
}

/* What is recorded of a layer, (H, n) each, and what its heads share. Those not there are NULL. */
struct layer {
    float *entropy, *sink, *mass, *local, *visible, *distance;
    double *visible_nats;        /* (n) ln of the keys that a row sees */
    float *work;                 /* (H, 2 n) */
};

static void layer_free(struct layer *a)
{
    void *all[] = {a->entropy, a->sink, a->mass, a->local, a->visible, a->distance, a->visible_nats, a->work};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static int layer_read(struct kvt_trace *t, int layer, struct layer *a, struct kvt_err *err)
{
    const struct kvt_trace_info *info = kvt_trace_info(t);
    size_t n = (size_t)info->n_prompt, H = (size_t)info->H;
    const struct { const char *what; float **to; bool has; } part[] = {
        {"entropy", &a->entropy, true}, {"sink", &a->sink, true}, {"mass", &a->mass, true}, {"local", &a->local, info->has_local},
        {"visible", &a->visible, info->has_visible || !strcmp(info->windows, "none")}};
    int rc = KVT_OK;
    *a = (struct layer){.visible_nats = kvt_calloc(n, sizeof *a->visible_nats), .work = kvt_calloc(H * 2 * n, sizeof *a->work)};
    if (!a->visible_nats || !a->work)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %zu rows of %zu heads", n, H);
    size_t window = (size_t)kvt_window_of(info, layer);
    for (size_t i = 0; !rc && i < n; i++)
        a->visible_nats[i] = log((double)(window && i + 1 > window ? window : i + 1));
    for (size_t i = 0; !rc && i < sizeof part / sizeof *part; i++) {
        if (!part[i].has)
            continue;
        *part[i].to = kvt_calloc(H * n, sizeof **part[i].to);
        rc = *part[i].to ? (part[i].to == &a->visible ? visible(t, layer, *part[i].to, err) : raw(t, part[i].what, layer, *part[i].to, err)) : kvt_fail(err, KVT_ENOMEM, "no memory for %zu rows of %zu heads", n, H);
    }
    if (!rc && info->n_distances > 1) {
        a->distance = kvt_calloc(H * (size_t)info->n_distances, sizeof *a->distance);
        rc = a->distance ? kvt_trace_distance(t, layer, a->distance, err) : kvt_fail(err, KVT_ENOMEM, "no memory for distances");
    }
    return rc;
}

static void head_of(const struct kvt_trace_info *info, const struct layer *a, size_t h, struct kvt_head *out)
{
    static const double shares[3] = {0.6, 0.9, 0.99};
    size_t n = (size_t)info->n_prompt, at = h * n;
    int rows = info->map_tok, sinks = info->n_sink < rows ? info->n_sink : rows;
    float *work = a->work + 2 * at, *entropy = a->entropy + at;
    *out = kvt_head_unknown;
    out->first = a->visible ? a->visible[at] : (float)NAN;
    out->evenness = mean_of(entropy, rows, a->visible_nats);
    for (size_t i = 0; i < n; i++)
        entropy[i] = expf(entropy[i]);
    out->keys = mean_of(entropy, rows, NULL);
    out->sinks = mean_of(a->sink + at, rows, NULL);
    if (a->local)
        out->local = mean_of(a->local + at, rows, NULL);
    if (a->distance) {
        out->self = a->distance[h * (size_t)info->n_distances];
        out->previous = a->distance[h * (size_t)info->n_distances + 1];
    }
    kvt_sort_falling(a->mass + at, rows, work);
    for (int k = 0; k < 3; k++)
        out->hold[k] = hold(work, rows, shares[k]);
    if (rows > sinks)
        kvt_sort_falling(a->mass + at + sinks, rows - sinks, work);
    for (int k = 0; k < 3; k++)
        out->hold_rest[k] = hold(work, rows - sinks, shares[k]);
    out->part = kvt_participation(a->mass + at, rows);
    out->part_rest = kvt_participation(a->mass + at + sinks, rows - sinks);
}

int kvt_heads_of(struct kvt_trace *t, int layer, struct kvt_head *out, struct kvt_err *err)
{
    const struct kvt_trace_info *info = kvt_trace_info(t);
    struct layer a;
    int rc = layer_read(t, layer, &a, err), H = rc ? 0 : info->H;
#pragma omp parallel for schedule(dynamic, 1) if ((int64_t)info->n_prompt * H > 1 << 16)
    for (int h = 0; h < H; h++)
        head_of(info, &a, (size_t)h, &out[h]);
    layer_free(&a);
    return rc;
}

int kvt_sinks_of(struct kvt_trace *t, double least, struct kvt_sink **out, int *count, struct kvt_err *err)
{
    const struct kvt_trace_info *info = kvt_trace_info(t);
    size_t ld = (size_t)info->n_prompt, n = (size_t)info->map_tok, H = (size_t)info->H;
    float *v = kvt_calloc(H * ld, sizeof *v);
    struct kvt_sink *sink = kvt_calloc(n + 1, sizeof *sink);
    int rc = v && sink ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu tokens", n);
    for (int l = 0; !rc && l < info->L; l++) {
        rc = visible(t, l, v, err);
        for (size_t h = 0; !rc && h < H; h++)
            for (size_t j = 0; j + KVT_FEW_KEYS <= n; j++) /* nor are keys that fewer rows see */ {
                double w = v[h * ld + j];
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

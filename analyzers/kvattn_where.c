/* kvattn: tokens that act as sinks, mass by distance, from span to span, on shots. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/kvattn.h"
#include "base/mem.h"
#include "base/stats.h"

/* ---- tokens and distances ---- */

int kvattn_sink_table(struct kvattn *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "token", .kind = KVT_COL_INT}, {.name = "text", .kind = KVT_COL_TEXT},
                                         {.name = "heads", .title = "heads that sink there", .kind = KVT_COL_INT},
                                         {.name = "share", .kind = KVT_COL_SHARE, .digits = 1}, {.name = "most", .kind = KVT_COL_SHARE, .digits = 1}};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    struct kvt_sink *sink = NULL;
    int n = 0, rc = kvt_sinks_of(r->trace, r->o.sink, &sink, &n, err);
    for (int i = 0; !rc && i < n; i++) {
        kvt_put_int(t, sink[i].token);
        kvt_put_text(t, r->info->token_text[sink[i].token]);
        kvt_put_int(t, sink[i].heads);
        kvt_put_real(t, (double)sink[i].heads / (r->info->L * r->info->H));
        kvt_put_real(t, sink[i].most);
    }
    free(sink);
    return kvattn_end(r, rc, &t, err);
}

/* Mean over heads by layer; programs get every head. */
int kvattn_distance_table(struct kvattn *r, struct kvt_err *err)
{
    static const struct kvt_col people[] = {{.name = "from", .title = "distance", .kind = KVT_COL_INT}, {.name = "to", .kind = KVT_COL_INT}, {.name = "mass", .kind = KVT_COL_SHARE, .digits = 2}},
                                programs[] = {{.name = "layer", .kind = KVT_COL_INT}, {.name = "head", .kind = KVT_COL_INT}, {.name = "from", .unit = "tokens", .kind = KVT_COL_INT},
                                              {.name = "mass", .kind = KVT_COL_REAL}};
    int bins = r->info->n_distances, H = r->info->H, layers = 0;
    float *v = kvt_calloc((size_t)H * (size_t)bins + 1, sizeof *v);
    double *sum = kvt_calloc((size_t)bins + 1, sizeof *sum);
    struct kvt_table *t = kvattn_for_people(r) ? kvt_table_new(people, 3) : kvt_table_new(programs, 4);
    int rc = v && sum ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d distances", bins);
    if (!rc && !bins)
        rc = kvt_fail(err, KVT_EINPUT, "%s holds no distances; trace with --see distance", r->path);
    for (int l = 0; !rc && l < r->info->L; l++) {
        if (!r->layer[l])
            continue;
        rc = kvt_trace_distance(r->trace, l, v, err);
        layers++;
        for (int h = 0; !rc && h < H; h++)
            for (int b = 0; b < bins; b++) {
                sum[b] += v[h * bins + b];
                if (kvattn_for_people(r))
                    continue;
                kvt_put_int(t, l);
                kvt_put_int(t, h);
                kvt_put_int(t, r->info->distance[b]);
                kvt_put_real(t, v[h * bins + b]);
            }
    }
    for (int b = 0; !rc && kvattn_for_people(r) && b < bins; b++) {
        kvt_put_int(t, r->info->distance[b]);
        kvt_put_int(t, b + 1 < bins ? r->info->distance[b + 1] - 1 : r->info->n_prompt - 1);
        kvt_put_real(t, sum[b] / (layers * H));
    }
    free(v);
    free(sum);
    return kvattn_end(r, rc, &t, err);
}

/* ---- spans ---- */

/* Span x span, mean over the heads of the layers asked for, into sum (spans + 1, spans + 1): the last is the model's own answer, to which
 * nobody before it can look. */
static int span_mean(struct kvattn *r, float *v, double *sum, struct kvt_err *err)
{
    int S = r->info->n_map_spans, H = r->info->H, layers = 0, rc = 0;
    for (int l = 0; !rc && l < r->info->L; l++) {
        if (!r->layer[l])
            continue;
        rc = kvt_trace_spans(r->trace, l, v, err);
        layers++;
        for (int i = 0; !rc && i < H * S * S; i++)
            sum[i / S % S * (S + 1) + i % S] += v[i];
    }
    double *answer = !rc && r->info->has_decode ? kvt_calloc((size_t)(r->info->L * H) * (size_t)(S + 1), sizeof *answer) : NULL;
    if (!rc && r->info->has_decode)
        rc = answer ? kvt_spans_decoded(r->trace, answer, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %d spans", S);
    for (int i = 0; !rc && answer && i < r->info->L * H; i++)
        for (int s = 0; r->layer[i / H] && s <= S; s++)
            sum[S * (S + 1) + s] += answer[(size_t)i * (size_t)(S + 1) + (size_t)s];
    free(answer);
    for (int i = 0; i < (S + 1) * (S + 1); i++)
        sum[i] = i / (S + 1) < S ? (i % (S + 1) < S ? sum[i] / (layers * H) : NAN) : r->info->has_decode ? sum[i] / (layers * H) : NAN;
    return rc;
}

int kvattn_span_table(struct kvattn *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "from", .kind = KVT_COL_TEXT}, {.name = "to", .kind = KVT_COL_TEXT}, {.name = "mass", .kind = KVT_COL_SHARE, .digits = 1},
                                         {.name = "per_token", .title = "per token", .kind = KVT_COL_SHARE, .digits = 3}};
    int S = r->info->n_map_spans;
    float *v = kvt_calloc((size_t)r->info->H * (size_t)(S * S) + 1, sizeof *v);
    double *sum = kvt_calloc((size_t)((S + 1) * (S + 1)), sizeof *sum);
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = v && sum ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d spans", S);
    if (!rc && !S)
        rc = kvt_fail(err, KVT_EINPUT, "%s holds no masses between spans; trace with --see spans a prompt that has some (--shots, --shot-sep)", r->path);
    if (!rc)
        rc = span_mean(r, v, sum, err);
    for (int i = 0; !rc && i <= S; i++)
        for (int j = 0; j <= S; j++) {
            const struct kvt_trace_span *from = i < S ? kvattn_span(r, i) : NULL, *to = j < S ? kvattn_span(r, j) : NULL;
            double mass = sum[i * (S + 1) + j];
            if (isnan(mass) || (from && to && to->start >= from->end) || (kvattn_for_people(r) && ((from && !kvt_is_section(from)) || (to && !kvt_is_section(to)))))
                continue;
            /* of the answer a row sees as many tokens as it has been said: half of all and one half, on average */
            double tokens = to ? to->end - to->start : (r->info->n_steps + 1) / 2.0;
            kvt_put_text(t, from ? from->name : "own answer");
            kvt_put_text(t, to ? to->name : "own answer");
            kvt_put_real(t, mass);
            kvt_put_real(t, tokens > 0 ? mass / tokens : NAN);
        }
    free(v);
    free(sum);
    return kvattn_end(r, rc, &t, err);
}

/* Does the question single out some shots? By layer, mean over heads; programs get every head. */
int kvattn_shot_table(struct kvattn *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "layer", .kind = KVT_COL_INT}, {.name = "head", .kind = KVT_COL_INT, .programs_only = true}, {.name = "selectivity", .kind = KVT_COL_REAL, .digits = 3},
                                         {.name = "on_shots", .title = "on shots", .kind = KVT_COL_SHARE, .digits = 1}, {.name = "best_shot", .title = "most on", .kind = KVT_COL_TEXT},
                                         {.name = "best_share", .title = "of that", .kind = KVT_COL_SHARE, .digits = 1}};
    int S = r->info->n_map_spans, H = r->info->H, row = -1, shots = 0;
    float *v = kvt_calloc((size_t)H * (size_t)(S * S) + 1, sizeof *v);
    double *weight = kvt_calloc((size_t)S + 1, sizeof *weight), *size = kvt_calloc((size_t)S + 1, sizeof *size);
    int *shot = kvt_calloc((size_t)S + 1, sizeof *shot);
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = v && weight && size && shot ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d spans", S);
    for (int i = 0; !rc && i < S; i++) {
        if (!strcmp(kvattn_span(r, i)->kind, "prompt"))
            row = i;
        if (!strcmp(kvattn_span(r, i)->kind, "shot")) {
            size[shots] = kvattn_span(r, i)->end - kvattn_span(r, i)->start;
            shot[shots++] = i;
        }
    }
    if (!rc && (row < 0 || shots < 2))
        rc = kvt_fail(err, KVT_EINPUT, "%s: selectivity needs a question and two shots with --see spans; here are %d shots and %s question", r->path, shots, row < 0 ? "no" : "a");
    for (int l = 0; !rc && l < r->info->L; l++) {
        if (!r->layer[l])
            continue;
        rc = kvt_trace_spans(r->trace, l, v, err);
        struct kvt_running selective = {0};
        double *all = kvt_calloc((size_t)shots, sizeof *all);
        if (!rc && !all)
            rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d shots", shots);
        for (int h = 0; !rc && h <= H; h++) { /* after the heads: the layer */
            if (h == H && !kvattn_for_people(r))
                break;
            double sum = 0;
            int best = 0;
            for (int s = 0; s < shots; s++) {
                weight[s] = h < H ? v[(size_t)h * (size_t)(S * S) + (size_t)(row * S + shot[s])] : all[s] / H;
                sum += weight[s];
                best = weight[s] > weight[best] ? s : best;
                if (h < H)
                    all[s] += weight[s];
            }
            double one = h < H ? kvt_selectivity(weight, size, shots) : kvt_running_mean(&selective);
            kvt_running_add(&selective, one);
            if (h < H && kvattn_for_people(r))
                continue;
            kvt_put_int(t, l);
            kvt_put_int(t, h);
            kvt_put_real(t, one);
            kvt_put_real(t, sum);
            kvt_put_text(t, kvattn_span(r, shot[best])->name);
            kvt_put_real(t, sum > 0 ? weight[best] / sum : NAN);
        }
        free(all);
    }
    free(v);
    free(weight);
    free(size);
    free(shot);
    return kvattn_end(r, rc, &t, err);
}

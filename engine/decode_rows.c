/* Rows of decoding. The sums are those of kernels/ref/attn.c, in the same order, over one row that is already there. */
#include "engine/decode_rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/run.h"

static void reduce_far(const struct kvt_wants *w, int bins, const float *row, int n, const struct kvt_row_out *out)
{
    for (int b = 0; out->distance && b < bins; b++) {
        int from = kvt_distance_start(b), to = b + 1 < bins ? kvt_distance_start(b + 1) : n; /* distances [from, to) */
        double sum = 0;
        for (int j = n - 1 - from; j >= 0 && j > n - 1 - to; j--)
            sum += row[j];
        out->distance[b] = (float)sum;
    }
    for (int i = 0; out->offset && i < w->n_offsets; i++)
        out->offset[i] = w->offset[i] < n ? row[n - 1 - w->offset[i]] : NAN;
}

/* Of equal ones the earlier first; 0 and -1 where there are fewer. */
static void reduce_top(int k, const float *row, int n, float *top, int32_t *top_at)
{
    int held = 0;
    for (int j = 0; j < n; j++) {
        if (!(row[j] > 0) || (held == k && !(row[j] > top[k - 1])))
            continue;
        int at = held < k ? held++ : k - 1;
        for (; at && row[j] > top[at - 1]; at--)
            top[at] = top[at - 1], top_at[at] = top_at[at - 1];
        top[at] = row[j], top_at[at] = j;
    }
    for (; held < k; held++)
        top[held] = 0, top_at[held] = -1;
}

void kvt_row_reduce(const struct kvt_wants *w, int n_prompt, int bins, const float *row, int n, const struct kvt_row_out *out)
{
    int n_local = w->n_local ? w->n_local : 32;
    double entropy = 0, sink = 0, local = 0, own = 0;
    for (int j = 0; (out->entropy || out->keys) && j < n; j++)
        entropy -= row[j] > 0 ? row[j] * log(row[j]) : 0;
    for (int j = 0; j < n && j < w->n_sink; j++)
        sink += row[j];
    for (int j = n > n_local ? n - n_local : 0; j < n; j++)
        local += row[j];
    for (int j = n_prompt; j < n; j++)
        own += row[j];
    float *const one[] = {out->entropy, out->keys, out->first, out->sink, out->local, out->own};
    const double value[] = {entropy, exp(entropy), row[0], sink, local, own};
    for (size_t i = 0; i < sizeof one / sizeof *one; i++)
        if (one[i])
            *one[i] = (float)value[i];
    reduce_far(w, bins, row, n, out);
    for (int i = 0; out->spans && i < w->n_spans; i++) {
        double sum = 0;
        for (int j = w->span[2 * i]; j < w->span[2 * i + 1] && j < n; j++)
            sum += row[j];
        out->spans[i] = (float)sum;
    }
    if (out->top)
        reduce_top(w->top_k, row, n, out->top, out->top_at);
}

/* ---- in a session ---- */

/* Values of each kind for a layer and head. */
struct sizes { size_t entropy, keys, first, sink, local, own, distance, offset, spans, top; };

static struct sizes sizes_of(const struct kvt_wants *w, int n_tok)
{
    if (!w->decode)
        return (struct sizes){0};
    return (struct sizes){.entropy = 1, .keys = w->keys, .first = 1, .sink = 1, .local = 1, .own = 1, .distance = w->distance ? (size_t)kvt_distance_bins(n_tok) : 0,
                          .offset = (size_t)w->n_offsets, .spans = (size_t)w->n_spans, .top = (size_t)w->top_k};
}

size_t kvt_decode_rows_bytes(const struct kvt_wants *w, int L, int H, int n_tok)
{
    struct sizes n = sizes_of(w, n_tok);
    size_t each = n.entropy + n.keys + n.first + n.sink + n.local + n.own + n.distance + n.offset + n.spans + 2 * n.top;
    return (size_t)L * (size_t)H * each * sizeof(float);
}

int kvt_decode_rows_open(struct kvt_session *s, const struct kvt_wants *w, struct kvt_err *err)
{
    struct kvt_decode_rows *d = &s->decode_rows;
    struct kvt_row_out *a = &d->all;
    struct sizes n = sizes_of(w, s->max_slots);
    size_t cells = (size_t)s->shape->L * (size_t)s->shape->H;
    bool ok = true;
    d->wants = *w;
#define GET(p, count) (ok = (!(count) || ((p) = kvt_calloc(cells * (count), sizeof *(p)))) && ok)
    GET(a->entropy, n.entropy); GET(a->keys, n.keys); GET(a->first, n.first); GET(a->sink, n.sink); GET(a->local, n.local); GET(a->own, n.own);
    GET(a->distance, n.distance); GET(a->offset, n.offset); GET(a->spans, n.spans); GET(a->top, n.top); GET(a->top_at, n.top);
#undef GET
    d->ev = (struct kvt_ev_decode){.entropy = a->entropy, .keys = a->keys, .first = a->first, .sink = a->sink, .local = a->local, .own = a->own,
                                   .n_distances = (int)n.distance, .n_offsets = (int)n.offset, .n_spans = (int)n.spans, .top_k = (int)n.top,
                                   .distance = a->distance, .offset = a->offset, .spans = a->spans, .top = a->top, .top_at = a->top_at};
    return ok ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for what %zu heads look at in a step; ask for less in --see", cells);
}

void kvt_decode_rows_close(struct kvt_session *s)
{
    struct kvt_row_out *a = &s->decode_rows.all;
    void *own[] = {a->entropy, a->keys, a->first, a->sink, a->local, a->own, a->distance, a->offset, a->spans, a->top, a->top_at};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        free(own[i]);
    memset(&s->decode_rows, 0, sizeof s->decode_rows);
}

void kvt_decode_rows_look(struct kvt_session *s, int layer, const float *row, int n)
{
    struct kvt_decode_rows *d = &s->decode_rows;
    const struct kvt_row_out *a = &d->all;
    const struct kvt_ev_decode *e = &d->ev;
    for (int h = 0; d->wants.decode && h < s->shape->H; h++) {
        size_t i = (size_t)layer * (size_t)s->shape->H + (size_t)h;
#define AT(p, count) ((p) ? (p) + i * (size_t)(count) : NULL)
        struct kvt_row_out one = {.entropy = AT(a->entropy, 1), .keys = AT(a->keys, 1), .first = AT(a->first, 1), .sink = AT(a->sink, 1), .local = AT(a->local, 1), .own = AT(a->own, 1),
                                  .distance = AT(a->distance, e->n_distances), .offset = AT(a->offset, e->n_offsets), .spans = AT(a->spans, e->n_spans),
                                  .top = AT(a->top, e->top_k), .top_at = AT(a->top_at, e->top_k)};
#undef AT
        kvt_row_reduce(&d->wants, s->o.n_prompt, e->n_distances, row + (size_t)h * (size_t)s->max_slots, n, &one);
    }
    d->step = s->step;
}

int kvt_decode_rows_step(struct kvt_session *s, int step, struct kvt_err *err)
{
    struct kvt_decode_rows *d = &s->decode_rows;
    if (!d->wants.decode || d->step != step || s->lo > 1)
        return 0;
    d->ev.step = step;
    return kvt_session_see(s, &(struct kvt_event){.kind = KVT_EV_DECODE, .decode = d->ev}, err);
}

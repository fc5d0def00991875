/* Rows of decoding: where their sums go. The sums are a backend's (reduce_row). */
#include "engine/decode_rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/run.h"

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
    const struct kvt_wants *w = &d->wants;
    const struct kvt_ev_decode *e = &d->ev;
    size_t i = (size_t)layer * (size_t)s->shape->H;
#define AT(p, count) ((p) ? (p) + i * (size_t)(count) : NULL)
    const struct kvt_reduce_row_args args = {
        .row = row, .H = s->shape->H, .n = n, .ld = s->max_slots, .n_sink = w->n_sink, .n_local = w->n_local ? w->n_local : 32, .n_prompt = s->o.n_prompt,
        .entropy = AT(a->entropy, 1), .keys = AT(a->keys, 1), .first = AT(a->first, 1), .sink = AT(a->sink, 1), .local = AT(a->local, 1), .own = AT(a->own, 1),
        .distance = AT(a->distance, e->n_distances), .offset = AT(a->offset, e->n_offsets), .spans = AT(a->spans, e->n_spans), .top = AT(a->top, e->top_k),
        .top_at = AT(a->top_at, e->top_k), .offset_at = w->offset, .span = w->span, .n_distances = e->n_distances, .n_offsets = e->n_offsets,
        .n_spans = e->n_spans, .top_k = e->top_k};
#undef AT
    if (w->decode)
        (s->ops->reduce_row ? s->ops : &kvt_ops_ref)->reduce_row(s->dev, &args); /* host memory: it can't fail */
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

/* A layer's event: what attention gathered, read to the host and made into what a trace holds (means, not sums). */
#include <math.h>
#include <string.h>

#include "engine/later.h"
#include "engine/observe.h"

/* Reads count floats into the staging area at *at and moves on; NULL stays NULL. */
static float *copy_of(struct kvt_observer *o, const float *src, size_t count, size_t *at, int *rc)
{
    if (!src || *rc)
        return NULL;
    float *dst = o->host + (size_t)o->turn * o->half + *at;
    *rc = o->half ? kvt_later_read(o->ops, o->dev, dst, src, count * sizeof *dst) : o->ops->read(o->dev, dst, src, count * sizeof *dst);
    *at += count;
    return dst;
}

const float *kvt_observer_stage(struct kvt_observer *o, const float *src, size_t count, size_t *at, int *rc)
{
    return o->in_host ? src : copy_of(o, src, count, at, rc);
}

void kvt_observer_weight(float *weight, int n, int R, int C)
{
    memset(weight, 0, (size_t)R * (size_t)C * sizeof *weight);
    for (int i = 0; i < n; i++) {
        int r = (int)((int64_t)i * R / n);
        for (int c = 0; c < C; c++) {
            /* columns j with j * C / n == c, j <= i */
            int64_t lo = ((int64_t)c * n + C - 1) / C, hi = ((int64_t)(c + 1) * n + C - 1) / C;
            if (lo > i)
                break;
            if (hi > (int64_t)i + 1)
                hi = (int64_t)i + 1;
            if (hi > lo)
                weight[(size_t)r * C + c] += (float)(hi - lo);
        }
    }
    for (int i = 0; i < R * C; i++)
        weight[i] = weight[i] > 0 ? 1 / weight[i] : NAN;
}

static const uint16_t *stage_half(struct kvt_observer *o, const uint16_t *src, size_t count, size_t *at, int *rc)
{
    if (*rc || o->in_host)
        return *rc ? NULL : src;
    uint16_t *dst = (uint16_t *)(void *)(o->host + (size_t)o->turn * o->half + *at);
    *rc = o->half ? kvt_later_read(o->ops, o->dev, dst, src, count * sizeof *dst) : o->ops->read(o->dev, dst, src, count * sizeof *dst);
    *at += (count + 1) / 2;
    return dst;
}

/* Rows of the prefill that can see key j: all from j on, or those whose sliding window reaches it. */
static int rows_of(const struct kvt_observer *o, int j, int window)
{
    window = window ? window : o->n;
    return o->n - j < window ? o->n - j : window;
}

/* The sums of a layer that have come, in place: means over the rows that can see a key; over rows of the mass in each bin, and at each
 * offset. */
static void visible_of(const struct kvt_observer *o, int layer, float *v)
{
    size_t hn = (size_t)o->H * (size_t)o->n;
    int window = o->shape ? kvt_layer_window(o->shape, layer) : 0;
    for (size_t i = 0; v && i < hn; i++)
        v[i] /= (float)rows_of(o, (int)(i % (size_t)o->n), window);
}

static void far_of(const struct kvt_observer *o, float *distance, int bins, float *offset)
{
    const struct kvt_see *s = &o->see;
    for (int i = 0; distance && i < o->H * bins; i++)
        distance[i] = o->n > s->far_from ? distance[i] / (float)(o->n - s->far_from) : NAN;
    for (int i = 0; offset && i < o->H * s->n_offsets; i++) {
        int d = s->offset_at[i % s->n_offsets], from = d > s->far_from ? d : s->far_from;
        offset[i] = o->n > from ? offset[i] / (float)(o->n - from) : NAN;
    }
}

/* A span's pieces joined: mean over its rows. */
static void spans_of(const struct kvt_observer *o, const float *piece, float *out)
{
    int S = o->see.n_segments, N = o->wants.n_spans;
    const int32_t *edge = o->segment, *of = o->segment + 2 * N + 2;
    for (int h = 0; h < o->H; h++)
        for (int a = 0; a < N; a++)
            for (int b = 0; b < N; b++) {
                int rows = edge[of[2 * a + 1]] - edge[of[2 * a]];
                float sum = 0;
                for (int r = of[2 * a]; r < of[2 * a + 1]; r++)
                    for (int c = of[2 * b]; c < of[2 * b + 1]; c++)
                        sum += piece[(h * S + r) * S + c];
                out[(h * N + a) * N + b] = rows > 0 ? sum / (float)rows : NAN;
            }
}

int kvt_observer_finish(struct kvt_observer *o)
{
    if (!o->waiting)
        return 0;
    o->waiting = false;
    const struct kvt_ev_prefill_layer *p = &o->late_ev.prefill_layer;
    int rc = kvt_later_settle(o->ops, o->dev);
    if (rc)
        return rc;
    visible_of(o, p->layer, (float *)p->visible);
    far_of(o, (float *)p->distance, p->n_distances, (float *)p->offset);
    if (p->spans)
        spans_of(o, o->piece, (float *)p->spans);
    return o->probe->see(o->probe->self, &o->late_ev);
}

int kvt_observer_layer(struct kvt_observer *o, int layer)
{
    size_t at = 0, hn = (size_t)o->H * (size_t)o->n, bins = (size_t)o->see.R * (size_t)o->see.C, S = (size_t)o->see.n_segments;
    int rc = kvt_observer_finish(o), n_bins = o->own.distance ? kvt_distance_bins(o->n) : 0;
    struct kvt_ev_prefill_layer *p = &o->late_ev.prefill_layer;
    o->late_ev = (struct kvt_event){ .kind = KVT_EV_PREFILL_LAYER };
    const struct kvt_wants *w = &o->wants;
    p->layer = layer, p->n = o->n, p->R = o->see.R, p->C = o->see.C;
    if (w->scores) {
        p->mass = kvt_observer_stage(o, o->see.mass, hn, &at, &rc);
        p->n_windows = o->raw.n_windows;
        for (int i = 0; i < o->raw.n_windows; i++) {
            p->window[i] = o->raw.window[i];
            p->wmass[i] = kvt_observer_stage(o, o->see.wmass[i], hn, &at, &rc);
        }
        p->last = kvt_observer_stage(o, o->see.last, hn, &at, &rc);
        p->entropy = kvt_observer_stage(o, o->own.entropy, hn, &at, &rc);
        p->sink = kvt_observer_stage(o, o->own.sink, hn, &at, &rc);
    }
    if (w->visible)
        p->visible = copy_of(o, o->see.mass, hn, &at, &rc);
    if (w->square)
        p->square = kvt_observer_stage(o, o->see.sqmass[o->trace_square], hn, &at, &rc);
    if (w->max)
        p->max = kvt_observer_stage(o, o->see.max, hn, &at, &rc);
    p->keys = kvt_observer_stage(o, o->own.keys, hn, &at, &rc);
    p->local = kvt_observer_stage(o, o->own.local, hn, &at, &rc);
    p->distance = copy_of(o, o->own.distance, (size_t)(o->H * n_bins), &at, &rc);
    p->offset = copy_of(o, o->own.offset, (size_t)(o->H * o->see.n_offsets), &at, &rc);
    p->n_distances = n_bins, p->n_offsets = o->see.n_offsets;
    if (w->n_spans) {
        o->piece = kvt_observer_stage(o, o->own.spans, (size_t)o->H * S * S, &at, &rc);
        p->spans = o->host + (size_t)o->turn * o->half + at;
        p->n_spans = w->n_spans;
        at += (size_t)o->H * (size_t)w->n_spans * (size_t)w->n_spans;
    }
    if (w->top_k) {
        size_t k = hn * (size_t)w->top_k;
        p->top = kvt_observer_stage(o, o->own.top, k, &at, &rc);
        p->top_at = (const int32_t *)(const void *)kvt_observer_stage(o, (const float *)(const void *)o->own.top_at, k, &at, &rc);
        p->top_k = w->top_k;
    }
    if (w->replay) {
        p->later = kvt_observer_stage(o, o->see.later, hn, &at, &rc);
        p->n_squares = o->raw.n_squares;
        for (int i = 0; i < o->raw.n_squares; i++) {
            const struct kvt_square *s = &o->raw.square[i];
            p->square_window[i] = s->window, p->square_distance[i] = s->distance, p->square_by_pos[i] = s->by_pos;
            p->sqmass[i] = kvt_observer_stage(o, o->see.sqmass[i], hn, &at, &rc);
        }
    }
    if (bins) {
        p->map_mean = stage_half(o, o->own.map_mean, (size_t)o->H * bins, &at, &rc);
        p->map_max = stage_half(o, o->own.map_max, (size_t)o->H * bins, &at, &rc);
    }
    o->waiting = !rc;
    return rc || o->half ? rc : kvt_observer_finish(o);
}

int kvt_observer_late(struct kvt_observer *o, int layer, int row0, int n)
{
    int first = row0 > o->n - o->n_late ? row0 : o->n - o->n_late, rows = row0 + n - first, rc = 0;
    size_t ld = (size_t)o->n;
    if (o->level)
        o->ops->row_sums(n, o->level);
    for (int h = 0; h < o->H && !rc; h++) {
        const float *from = o->late + ((size_t)h * (size_t)n + (size_t)(first - row0)) * ld; /* rows of this call: (H, n, ld) */
        rc = o->ops->read(o->dev, o->host, from, (size_t)rows * ld * sizeof *from);
        struct kvt_event ev = { .kind = KVT_EV_LATE_ROWS, .late_rows = { .layer = layer, .head = h, .n = o->n, .row0 = first - (o->n - o->n_late),
                                .n_rows = rows, .rows = o->host, .level = o->level ? o->level + (first - row0) : NULL } };
        if (!rc)
            rc = o->probe->see(o->probe->self, &ev);
    }
    return rc;
}

/* Buffers of the prefill's observation. What is made of them is in observe_event.c. */
#include "engine/observe.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/later.h"
#include "kernels/plugin.h"

#define ROWS_BYTES ((size_t)16 << 20) /* full rows are streamed in pieces of about this size */

static bool layer_wanted(const struct kvt_observer *o, int layer)
{
    return o->wants.full && (!o->wants.layer || o->wants.layer[layer]);
}

static void zero(struct kvt_observer *o, float *p, size_t count)
{
    if (p)
        o->ops->zero(o->dev, p, count * sizeof *p);
}

/* Attention writes to the place of the layer that is run. */
static void see_own(struct kvt_observer *o)
{
    struct kvt_see *s = &o->see;
    const struct kvt_observer_own *w = &o->own;
    s->entropy = w->entropy, s->sink = w->sink, s->keys = w->keys, s->local = w->local, s->distance = w->distance, s->offset = w->offset;
    s->spans = w->spans, s->top = w->top, s->top_at = w->top_at, s->map_mean = w->map_mean, s->map_max = w->map_max;
}

static const struct kvt_see *before(void *self, int layer, int row0, int n)
{
    struct kvt_observer *o = self;
    if (layer != o->layer && o->half) { /* the other place is empty: kvt_observer_layer has seen to that */
        struct kvt_observer_own own = o->own;
        o->own = o->other, o->other = own;
        o->turn ^= 1;
        see_own(o);
    }
    o->layer = layer;
    size_t at = (size_t)layer * (size_t)o->H * (size_t)o->n;
    o->see.mass = o->raw.mass ? (float *)o->raw.mass + at : NULL;
    for (int w = 0; w < o->raw.n_windows; w++)
        o->see.wmass[w] = (float *)o->raw.wmass[w] + at;
    for (int i = 0; i < o->raw.n_squares; i++)
        o->see.sqmass[i] = (float *)o->raw.sqmass[i] + at;
    o->see.last = o->raw.last ? (float *)o->raw.last + at : NULL;
    o->see.max = o->raw.max ? (float *)o->raw.max + at : NULL;
    o->see.later = o->raw.later ? (float *)o->raw.later + at : NULL;
    bool rows = layer_wanted(o, layer), late = row0 + n > o->n - o->n_late;
    o->see.rows = late ? o->late : rows && !o->wants.half ? o->rows : NULL;
    o->see.half = rows && o->wants.half ? o->rows : NULL;
    o->see.row_heads = late ? ~UINT64_C(0) >> (64 - o->H) : rows ? o->head_bits : 0;
    if (o->trace_square >= 0 && o->own.square)
        o->see.sqmass[o->trace_square] = o->own.square;
    if (o->own.max)
        o->see.max = o->own.max;
    if (row0 == 0) { /* what is added to, and of one layer */
        size_t hn = (size_t)o->H * (size_t)o->n, H = (size_t)o->H, S = (size_t)o->see.n_segments;
        zero(o, o->own.square, hn);
        zero(o, o->own.max, hn);
        zero(o, o->own.distance, H * (size_t)kvt_distance_bins(o->n));
        zero(o, o->own.offset, H * (size_t)o->see.n_offsets);
        zero(o, o->own.spans, H * S * S);
    }
    return &o->see;
}

/* Room for rows of n values, in floats. */
static size_t rows_floats(const struct kvt_wants *w, int heads, int rows, int n)
{
    size_t values = (size_t)heads * (size_t)rows * (size_t)n;
    return w->half ? (values + 1) / 2 : values;
}

static int after(void *self, int layer, int row0, int n, struct kvt_err *err)
{
    struct kvt_observer *o = self;
    int rc = 0;
    if (!o->probe)
        return 0;
    if (layer_wanted(o, layer)) {
        size_t at = 0;
        const void *rows = kvt_observer_stage(o, o->rows, rows_floats(&o->wants, o->n_heads, n, o->n), &at, &rc);
        struct kvt_event ev = { .kind = KVT_EV_ROWS, .rows = { .layer = layer, .n = o->n, .row0 = row0, .n_rows = n,
                                .n_heads = o->n_heads, .head = o->head, .rows = o->wants.half ? NULL : rows, .half = o->wants.half ? rows : NULL } };
        if (!rc)
            rc = o->probe->see(o->probe->self, &ev);
    }
    if (!rc && row0 + n > o->n - o->n_late)
        rc = kvt_observer_late(o, layer, row0, n);
    if (!rc && row0 + n == o->n && (o->wants.scores || o->see.R || kvt_observer_more(&o->wants)))
        rc = kvt_observer_layer(o, layer);
    return rc ? kvt_fail(err, rc, "the observer stopped the run at layer %d: %s", layer, kvt_status_text(rc)) : 0;
}

/* A power of two: whole rows of the file's tiles, or whole parts of one. */
static int attn_rows(const struct kvt_wants *w, int n, int heads)
{
    int rows = 128;
    while (rows > 8 && rows_floats(w, heads, rows, n) * sizeof(float) > ROWS_BYTES)
        rows /= 2;
    return rows;
}

static int heads_wanted(const struct kvt_wants *w, int H, int *head)
{
    int count = 0;
    for (int h = 0; h < H && w->full; h++)
        if (!w->head || w->head[h]) {
            if (head)
                head[count] = h;
            count++;
        }
    return count;
}

static int n_scores(const struct kvt_wants *w, const struct kvt_needs *needs)
{
    return (needs->mass || w->scores || w->visible) + (needs->last || w->scores) + needs->n_windows + needs->n_squares + needs->max + needs->later;
}

bool kvt_observer_more(const struct kvt_wants *w)
{
    return w->replay || w->visible || w->square || w->max || w->keys || w->local || w->distance || w->n_offsets || w->n_spans || w->top_k;
}

/* Floats of a layer that are the trace's alone, beside pooled maps and full rows. */
static size_t layer_floats(const struct kvt_wants *w, int H, int n, const struct kvt_needs *needs)
{
    size_t hn = (size_t)H * (size_t)n, S = 2 * (size_t)w->n_spans + 1;
    size_t rows = (size_t)(w->scores ? 2 : 0) + (w->keys ? 1 : 0) + (w->local ? 1 : 0) + (w->square ? 1 : 0) + (w->max && !needs->max ? 1 : 0);
    return hn * (rows + 2 * (size_t)w->top_k) + (size_t)H * ((size_t)kvt_distance_bins(n) + (size_t)w->n_offsets + (w->n_spans ? S * S : 0));
}

/* Rows of the largest call that late rows can be in; such rows of all heads. */
static int late_rows(const struct kvt_wants *w, int run, int n, int attn_rows)
{
    int most = attn_rows ? attn_rows : run;
    return !w->replay ? 0 : most < n ? most : n;
}

/* Floats that an event of a layer is made in, or full rows are read into. */
static size_t staged_floats(const struct kvt_wants *w, int H, int n, const struct kvt_needs *needs, bool in_host, size_t rows, size_t late)
{
    size_t hn = (size_t)H * (size_t)n, bins = (size_t)w->map_r * (size_t)w->map_c, S = (size_t)w->n_spans;
    size_t made = (w->visible ? hn : 0) + (size_t)H * ((size_t)kvt_distance_bins(n) + (size_t)w->n_offsets + S * S), weight = bins;
    size_t all = layer_floats(w, H, n, needs) + hn * (4 + (size_t)needs->n_windows + (w->replay ? 2 + (size_t)needs->n_squares : 0)) + (size_t)H * bins + (size_t)H * S * S;
    size_t most = in_host ? made > weight ? made : weight : all > rows ? all : rows;
    return most > late ? most : late;
}

/* A layer's results leave while the next one is run. Not beside full rows and those of a replay, which are read as they come. */
static bool leaves_later(const struct kvt_wants *w, const struct kvt_ops *ops) { return ops->read_later && !w->full && !w->replay; }

void kvt_observer_bytes(const struct kvt_wants *w, int run, int L, int H, int n, const struct kvt_needs *needs, bool in_host, size_t *scores, size_t *maps)
{
    size_t hn = (size_t)H * (size_t)n * sizeof(float), bins = (size_t)w->map_r * (size_t)w->map_c * sizeof(float);
    size_t heads = (size_t)heads_wanted(w, H, NULL), rows = heads ? rows_floats(w, (int)heads, attn_rows(w, n, (int)heads), n) * sizeof(float) : 0;
    size_t late = (size_t)late_rows(w, run, n, heads ? attn_rows(w, n, (int)heads) : 0) * (size_t)n;
    size_t staged = staged_floats(w, H, n, needs, in_host, rows / sizeof(float), late) * sizeof(float);
    size_t places = !in_host && !w->full && !w->replay ? 2 : 1; /* of what leaves */
    *scores = hn * (size_t)L * (size_t)n_scores(w, needs);
    *maps = (2 + places) * (size_t)H * bins + bins + places * (layer_floats(w, H, n, needs) * sizeof(float) + staged) + rows + (size_t)H * late * sizeof(float);
}

static int ascending(const void *a, const void *b) { return (*(const int32_t *)a > *(const int32_t *)b) - (*(const int32_t *)a < *(const int32_t *)b); }

/* Spans may lie in one another: the prompt is cut wherever one of them begins or ends, and a span is a run of the pieces. */
static bool make_segments(struct kvt_observer *o)
{
    const struct kvt_wants *w = &o->wants;
    int n = 0, edges = 2 * w->n_spans + 2;
    o->segment = kvt_calloc((size_t)edges + 2 * (size_t)w->n_spans, sizeof *o->segment);
    if (!o->segment)
        return false;
    for (int i = 0; i < 2 * w->n_spans; i++)
        o->segment[i] = w->span[i] < 0 ? 0 : w->span[i] < o->n ? w->span[i] : o->n;
    o->segment[edges - 1] = o->n;
    qsort(o->segment, (size_t)edges, sizeof *o->segment, ascending); /* the other one of the two last is 0 */
    for (int i = 0; i < edges; i++)
        if (!n || o->segment[i] > o->segment[n - 1])
            o->segment[n++] = o->segment[i];
    o->see.segment = o->segment;
    o->see.n_segments = n - 1;
    int32_t *of = o->segment + edges;
    for (int i = 0; i < 2 * w->n_spans; i++)
        while (of[i] < n - 1 && o->segment[of[i]] < w->span[i])
            of[i]++;
    return true;
}

/* Memory of what is made anew by each layer. */
static bool open_own(struct kvt_observer *o, const struct kvt_needs *needs, struct kvt_observer_own *own)
{
    const struct kvt_wants *w = &o->wants;
    size_t H = (size_t)o->H, hn = H * (size_t)o->n, bins = (size_t)w->map_r * (size_t)w->map_c, S = (size_t)o->see.n_segments;
    bool ok = true;
#define GET(p, count) (ok = ((count) == 0 || ((p) = o->ops->alloc(o->dev, (count) * sizeof *(p)))) && ok)
    GET(own->entropy, w->scores ? hn : 0);
    GET(own->sink, w->scores ? hn : 0);
    GET(own->map_mean, H * bins);
    GET(own->map_max, H * bins);
    GET(own->square, o->trace_square >= needs->n_squares ? hn : 0);
    GET(own->max, w->max && !needs->max ? hn : 0);
    GET(own->keys, w->keys ? hn : 0);
    GET(own->local, w->local ? hn : 0);
    GET(own->distance, w->distance ? H * (size_t)kvt_distance_bins(o->n) : 0);
    GET(own->offset, H * (size_t)w->n_offsets);
    GET(own->spans, w->n_spans ? H * S * S : 0);
    GET(own->top, hn * (size_t)w->top_k);
    GET(own->top_at, hn * (size_t)w->top_k);
#undef GET
    return ok;
}

/* What the trace wants of a layer beside raw scores. */
static int choose_more(struct kvt_observer *o, const struct kvt_needs *needs, bool *ok, struct kvt_err *err)
{
    struct kvt_wants *w = &o->wants;
    o->trace_square = -1;
    for (int i = 0; i < needs->n_squares && w->square; i++)
        if (!needs->square[i].window && !needs->square[i].distance)
            o->trace_square = i;
    if (w->square && o->trace_square < 0) {
        if (needs->n_squares == KVT_MAX_WINDOWS)
            return kvt_fail(err, KVT_EUNSUP, "the methods need squares of %d windows, which leaves no room for the trace's own; leave out `square`", KVT_MAX_WINDOWS);
        o->trace_square = o->see.n_squares++;
        o->see.square[o->trace_square] = (struct kvt_square){ .window = 0 };
    }
    if (w->n_spans)
        *ok = make_segments(o) && *ok;
    struct kvt_see *s = &o->see;
    s->n_local = w->n_local ? w->n_local : 32;
    s->offset_at = w->offset, s->n_offsets = w->n_offsets, s->far_from = KVT_FEW_KEYS - 1;
    s->top_k = w->top_k;
    return 0;
}

/* Late rows come in f32 and of every head, full maps of the same call of some. */
static int check_late(const struct kvt_observer *o, struct kvt_err *err)
{
    if (!o->n_late || (o->H <= 64 && (!o->wants.full || (o->wants.half && o->n_heads == o->H))))
        return 0;
    return o->H > 64 ? kvt_fail(err, KVT_EUNSUP, "this model has %d query heads; rows for a replay are recorded for models of up to 64", o->H)
                     : kvt_fail(err, KVT_EUNSUP, "full maps of some heads beside what a replay needs are too much for one run; take all heads, or make two runs");
}

int kvt_observer_open(struct kvt_observer *o, const struct kvt_ops *ops, struct kvt_dev *dev, const struct kvt_probe *probe,
                      int L, int H, int n, const struct kvt_needs *needs, struct kvt_err *err)
{
    memset(o, 0, sizeof *o);
    o->ops = ops, o->dev = dev, o->probe = probe, o->L = L, o->H = H, o->n = n;
    o->wants.n_sink = 4;
    o->layer = -1;
    o->in_host = kvt_ops_in_host(ops);
    if (probe)
        probe->wants(probe->self, &o->wants);
    struct kvt_wants *w = &o->wants;
    size_t hn = (size_t)H * (size_t)n, all = hn * (size_t)L, bins = (size_t)w->map_r * (size_t)w->map_c;
    bool ok = true;
#define GET(p, count) (ok = ((p) = ops->alloc(dev, (count) * sizeof(float))) != NULL && ok)
    if (needs->mass || w->scores || w->visible)
        GET(o->raw.mass, all);
    if (needs->last || w->scores)
        GET(o->raw.last, all);
    o->raw.ld = n;
    o->raw.n_windows = needs->n_windows;
    for (int i = 0; i < needs->n_windows; i++) {
        o->raw.window[i] = o->see.window[i] = needs->window[i];
        GET(o->raw.wmass[i], all);
    }
    o->raw.n_squares = o->see.n_squares = needs->n_squares;
    for (int i = 0; i < needs->n_squares; i++) {
        o->raw.square[i] = o->see.square[i] = needs->square[i];
        GET(o->raw.sqmass[i], all);
    }
    if (needs->max)
        GET(o->raw.max, all);
    if (needs->later)
        GET(o->raw.later, all);
    if (bins) {
        GET(o->pool_mean, (size_t)H * bins);
        GET(o->pool_max, (size_t)H * bins);
        GET(o->weight, bins);
    }
    ok = (o->head = kvt_calloc((size_t)H, sizeof *o->head)) != NULL && ok;
    o->n_heads = ok ? heads_wanted(w, H, o->head) : 0;
    size_t rows = 0;
    if (o->n_heads) {
        o->look.attn_rows = attn_rows(w, n, o->n_heads);
        rows = rows_floats(w, o->n_heads, o->look.attn_rows, n);
        GET(o->rows, rows);
        for (int i = 0; i < o->n_heads; i++)
            o->head_bits |= (uint64_t)1 << o->head[i];
    }
    o->n_late = w->replay < n ? w->replay : n;
    o->late_rows = late_rows(w, ops->run, n, o->look.attn_rows);
    if (o->n_late)
        GET(o->late, (size_t)H * (size_t)o->late_rows * (size_t)n);
    if (o->n_late && ops->row_sums)
        ok = (o->level = kvt_calloc((size_t)o->late_rows, 1)) != NULL && ok;
    int rc = check_late(o, err);
    if (!rc)
        rc = choose_more(o, needs, &ok, err);
    if (rc) {
        kvt_observer_close(o);
        return rc;
    }
    bool later = probe && leaves_later(w, ops);
    size_t staged = staged_floats(w, H, n, needs, o->in_host, rows, (size_t)o->late_rows * (size_t)n) + 1;
    ok = open_own(o, needs, &o->own) && (!later || open_own(o, needs, &o->other)) && ok;
    o->half = later ? staged : 0;
    if (probe)
        ok = (o->host = kvt_later_alloc(ops, dev, (later ? 2 : 1) * staged * sizeof *o->host)) != NULL && ok;
#undef GET
    if (!ok) {
        size_t scores, maps;
        kvt_observer_bytes(w, ops->run, L, H, n, needs, o->in_host, &scores, &maps);
        kvt_observer_close(o);
        return kvt_fail(err, KVT_ENOMEM, "no memory for scores (%zu MB) and maps (%zu MB) of a %d-token prompt; ask for fewer maps",
                        scores >> 20, maps >> 20, n);
    }
    if (bins) { /* the staging area holds as many floats */
        kvt_observer_weight(o->host, n, w->map_r, w->map_c);
        rc = ops->write(dev, o->weight, o->host, bins * sizeof *o->host);
    }
    o->see.ld = o->see.n_rows = n;
    o->see.n_windows = needs->n_windows;
    o->see.n_sink = w->n_sink;
    o->see.R = w->map_r, o->see.C = w->map_c, o->see.pool_mean = o->pool_mean, o->see.pool_max = o->pool_max;
    o->see.weight = o->weight;
    see_own(o);
    o->look.self = o, o->look.before = before, o->look.after = after;
    return rc ? kvt_fail(err, rc, "%s", kvt_dev_error(dev)) : 0;
}

static int query_stats(struct kvt_observer *o, int layer, int row0, int n, const float *q)
{
    size_t H = (size_t)o->H, D = (size_t)o->D, at = (size_t)layer * H * D;
    int skip = row0 < KVT_QUERY_SKIP ? KVT_QUERY_SKIP - row0 : 0;
    if (n <= skip)
        return 0;
    struct kvt_query_stats_args a = {.q = q + (size_t)skip * H * D, .T = n - skip, .H = o->H, .D = o->D,
                                     .seen = row0 + skip - KVT_QUERY_SKIP, .mean = (float *)o->raw.query_mean + at,
                                     .scatter = (float *)o->raw.query_scatter + at * D};
    return o->ops->query_stats(o->dev, &a);
}

/* Pairs that are rotated together, of vectors (count, D): from next to each other, as llama's GGUF files have them, to Hugging
 * Face's order, where the second ones follow half of the rotated values later. */
static void halves_of(float *x, size_t count, int D, int rot, float *pairs)
{
    for (size_t v = 0; v < count; v++, x += D) {
        memcpy(pairs, x, (size_t)rot * sizeof *x);
        for (int i = 0; i < rot; i++)
            x[i] = pairs[2 * (i % (rot / 2)) + i / (rot / 2)];
    }
}

static int vectors(void *self, int layer, int row0, int n, bool rotated, const float *const qkv[3], struct kvt_err *err)
{
    struct kvt_observer *o = self;
    const struct kvt_wants *w = &o->wants;
    int rc = o->raw.query_mean && !rotated ? query_stats(o, layer, row0, n, qkv[0]) : 0;
    const bool want[3] = { w->q, w->k, w->v && !rotated };
    const float *host[3] = { NULL };
    float *at = o->vectors;
    if (o->vectors && (!w->layer || w->layer[layer])) {
        for (int i = 0; i < 3 && !rc; i++) {
            size_t count = (size_t)n * (size_t)(i ? o->G : o->H) * (size_t)o->D;
            if (!want[i])
                continue;
            rc = o->ops->read(o->dev, at, qkv[i], count * sizeof *at);
            if (i < 2 && o->shape->rope_rot && !o->shape->rope_halves)
                halves_of(at, count / (size_t)o->D, o->D, o->shape->rope_rot, o->vectors + o->n_vectors);
            host[i] = at, at += count;
        }
        struct kvt_event ev = { .kind = KVT_EV_VECTORS, .vectors = { .layer = layer, .row0 = row0, .n_rows = n, .D = o->D, .rotated = rotated,
                                .q = host[0], .k = host[1], .v = host[2] } };
        if (!rc && at > o->vectors && (rc = o->probe->see(o->probe->self, &ev)))
            return kvt_fail(err, rc, "the observer stopped the run at layer %d: %s", layer, kvt_status_text(rc));
    }
    return rc ? kvt_fail(err, rc, "layer %d: %s", layer, kvt_dev_error(o->dev)) : 0;
}

size_t kvt_observer_vectors_bytes(const struct kvt_wants *w, int H, int G, int D, int rows)
{
    int heads = (w->q ? H : 0) + (w->k ? G : 0) + (w->v ? G : 0);
    return (size_t)rows * (size_t)heads * (size_t)D * sizeof(float);
}

int kvt_observer_vectors(struct kvt_observer *o, int G, int D, int rows, bool stats, struct kvt_err *err)
{
    size_t count = (size_t)o->L * (size_t)o->H * (size_t)D, bytes = kvt_observer_vectors_bytes(&o->wants, o->H, G, D, rows);
    bool dump = o->probe && bytes;
    o->G = G, o->D = D, o->n_vectors = bytes / sizeof *o->vectors;
    if (dump && !(o->vectors = malloc(bytes + (size_t)D * sizeof *o->vectors)))
        return kvt_fail(err, KVT_ENOMEM, "no memory for queries, keys and values of %d rows (%zu MB)", rows, bytes >> 20);
    if (stats) {
        o->raw.query_mean = o->ops->alloc(o->dev, count * sizeof(float));
        o->raw.query_scatter = o->ops->alloc(o->dev, count * (size_t)D * sizeof(float));
        if (!o->raw.query_mean || !o->raw.query_scatter)
            return kvt_fail(err, KVT_ENOMEM, "no memory for the covariance of queries (%zu MB)", count * (size_t)D * sizeof(float) >> 20);
        o->raw.query_rows = o->n - KVT_QUERY_SKIP;
    }
    if (stats || dump)
        o->look.vectors = vectors;
    return 0;
}

void kvt_observer_close(struct kvt_observer *o)
{
    if (!o->ops)
        return;
    void *own[] = { (void *)o->raw.mass, (void *)o->raw.last, (void *)o->raw.max, (void *)o->raw.later, (void *)o->raw.query_mean,
                    (void *)o->raw.query_scatter, o->pool_mean, o->pool_max, o->rows, o->weight, o->late };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        o->ops->free(o->dev, own[i]);
    struct kvt_observer_own *const places[] = { &o->own, &o->other };
    for (size_t p = 0; p < 2; p++) {
        struct kvt_observer_own *w = places[p];
        void *of[] = { w->entropy, w->sink, w->keys, w->local, w->square, w->max, w->distance, w->offset, w->spans, w->top, w->top_at, w->map_mean, w->map_max };
        for (size_t i = 0; i < sizeof of / sizeof *of; i++)
            o->ops->free(o->dev, of[i]);
    }
    for (int w = 0; w < o->raw.n_windows; w++)
        o->ops->free(o->dev, (void *)o->raw.wmass[w]);
    for (int i = 0; i < o->raw.n_squares; i++)
        o->ops->free(o->dev, (void *)o->raw.sqmass[i]);
    free(o->head);
    free(o->level);
    if (o->host)
        kvt_later_free(o->ops, o->dev, o->host);
    free(o->vectors);
    free(o->segment);
    memset(o, 0, sizeof *o);
}

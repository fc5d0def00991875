/* Buffers and events of the prefill's observation. */
#include "engine/observe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define ROWS_BYTES ((size_t)16 << 20) /* full rows are streamed in pieces of about this size */

static bool layer_wanted(const struct kvt_observer *o, int layer)
{
    return o->wants.full && (!o->wants.layer || o->wants.layer[layer]);
}

static const struct kvt_see *before(void *self, int layer, int row0, int n)
{
    struct kvt_observer *o = self;
    size_t at = (size_t)layer * (size_t)o->H * (size_t)o->n, map = (size_t)o->H * (size_t)o->see.R * (size_t)o->see.C;
    (void)n;
    o->see.mass = o->raw.mass ? (float *)o->raw.mass + at : NULL;
    for (int w = 0; w < o->raw.n_windows; w++)
        o->see.wmass[w] = (float *)o->raw.wmass[w] + at;
    for (int i = 0; i < o->raw.n_squares; i++)
        o->see.sqmass[i] = (float *)o->raw.sqmass[i] + at;
    o->see.last = o->raw.last ? (float *)o->raw.last + at : NULL;
    o->see.max = o->raw.max ? (float *)o->raw.max + at : NULL;
    o->see.later = o->raw.later ? (float *)o->raw.later + at : NULL;
    bool rows = layer_wanted(o, layer);
    o->see.rows = rows ? o->rows : NULL;
    o->see.row_heads = rows ? o->head_bits : 0;
    if (row0 == 0 && map) {
        o->ops->zero(o->dev, o->pool_mean, map * sizeof(float));
        o->ops->zero(o->dev, o->pool_max, map * sizeof(float));
    }
    return &o->see;
}

/* Reads count floats into the staging area at *at and moves on; NULL stays NULL. */
static const float *stage(struct kvt_observer *o, const float *src, size_t count, size_t *at, int *rc)
{
    if (!src || *rc)
        return NULL;
    float *dst = o->host + *at;
    *rc = o->ops->read(o->dev, dst, src, count * sizeof *dst);
    *at += count;
    return dst;
}

static int see_layer(struct kvt_observer *o, int layer)
{
    size_t at = 0, hn = (size_t)o->H * (size_t)o->n, bins = (size_t)o->see.R * (size_t)o->see.C;
    int rc = 0;
    struct kvt_event ev = { .kind = KVT_EV_PREFILL_LAYER };
    struct kvt_ev_prefill_layer *p = &ev.prefill_layer;
    p->layer = layer, p->n = o->n, p->R = o->see.R, p->C = o->see.C;
    if (o->wants.scores) {
        p->mass = stage(o, o->see.mass, hn, &at, &rc);
        p->n_windows = o->raw.n_windows;
        for (int w = 0; w < o->raw.n_windows; w++) {
            p->window[w] = o->raw.window[w];
            p->wmass[w] = stage(o, o->see.wmass[w], hn, &at, &rc);
        }
        p->last = stage(o, o->see.last, hn, &at, &rc);
        p->entropy = stage(o, o->entropy, hn, &at, &rc);
        p->sink = stage(o, o->sink, hn, &at, &rc);
    }
    if (bins) {
        float *mean = (float *)stage(o, o->pool_mean, (size_t)o->H * bins, &at, &rc);
        float *max = (float *)stage(o, o->pool_max, (size_t)o->H * bins, &at, &rc);
        for (size_t i = 0; !rc && i < (size_t)o->H * bins; i++) {
            float pairs = o->pairs[i % bins];
            mean[i] = pairs > 0 ? mean[i] / pairs : NAN;
            if (!(pairs > 0))
                max[i] = NAN;
        }
        p->pool_mean = mean, p->pool_max = max;
    }
    return rc ? rc : o->probe->see(o->probe->self, &ev);
}

static int after(void *self, int layer, int row0, int n, struct kvt_err *err)
{
    struct kvt_observer *o = self;
    int rc = 0;
    if (!o->probe)
        return 0;
    if (layer_wanted(o, layer)) {
        size_t at = 0;
        const float *rows = stage(o, o->rows, (size_t)o->n_heads * (size_t)n * (size_t)o->n, &at, &rc);
        struct kvt_event ev = { .kind = KVT_EV_ROWS, .rows = { .layer = layer, .n = o->n, .row0 = row0, .n_rows = n,
                                .n_heads = o->n_heads, .head = o->head, .rows = rows } };
        if (!rc)
            rc = o->probe->see(o->probe->self, &ev);
    }
    if (!rc && row0 + n == o->n && (o->wants.scores || o->see.R))
        rc = see_layer(o, layer);
    return rc ? kvt_fail(err, rc, "the observer stopped the run at layer %d: %s", layer, kvt_status_text(rc)) : 0;
}

/* Causal pairs (i, j <= i) in each bin of an R x C map of n rows. */
static void count_pairs(float *pairs, int n, int R, int C)
{
    memset(pairs, 0, (size_t)R * (size_t)C * sizeof *pairs);
    for (int i = 0; i < n; i++) {
        int r = (int)((int64_t)i * R / n);
        for (int c = 0; c < C; c++) {
            /* columns j with j * C / n == c, j <= i */
            int64_t lo = ((int64_t)c * n + C - 1) / C, hi = ((int64_t)(c + 1) * n + C - 1) / C;
            if (hi > (int64_t)i + 1)
                hi = (int64_t)i + 1;
            if (hi > lo)
                pairs[(size_t)r * C + c] += (float)(hi - lo);
        }
    }
}

static int attn_rows(int n, int heads)
{
    size_t row = (size_t)n * (size_t)heads * sizeof(float), rows = row ? ROWS_BYTES / row : 0;
    return rows > 128 ? 128 : rows < 8 ? 8 : (int)rows;
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
    return (needs->mass || w->scores) + (needs->last || w->scores) + needs->n_windows + needs->n_squares + needs->max + needs->later;
}

void kvt_observer_bytes(const struct kvt_wants *w, int L, int H, int n, const struct kvt_needs *needs, size_t *scores, size_t *maps)
{
    size_t hn = (size_t)H * (size_t)n * sizeof(float), bins = (size_t)w->map_r * (size_t)w->map_c * sizeof(float);
    size_t heads = (size_t)heads_wanted(w, H, NULL), rows = heads ? heads * (size_t)attn_rows(n, (int)heads) * (size_t)n * sizeof(float) : 0;
    *scores = hn * (size_t)L * (size_t)n_scores(w, needs);
    *maps = 2 * (2 * (size_t)H * bins + 2 * hn + rows) + bins + (size_t)n_scores(w, needs) * hn;
}

int kvt_observer_open(struct kvt_observer *o, const struct kvt_ops *ops, struct kvt_dev *dev, const struct kvt_probe *probe,
                      int L, int H, int n, const struct kvt_needs *needs, struct kvt_err *err)
{
    memset(o, 0, sizeof *o);
    o->ops = ops, o->dev = dev, o->probe = probe, o->L = L, o->H = H, o->n = n;
    o->wants.n_sink = 4;
    if (probe)
        probe->wants(probe->self, &o->wants);
    struct kvt_wants *w = &o->wants;
    size_t hn = (size_t)H * (size_t)n, all = hn * (size_t)L, bins = (size_t)w->map_r * (size_t)w->map_c;
    bool ok = true;
#define GET(p, count) (ok = ((p) = ops->alloc(dev, (count) * sizeof(float))) != NULL && ok)
    if (needs->mass || w->scores)
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
    if (w->scores) {
        GET(o->entropy, hn);
        GET(o->sink, hn);
    }
    if (bins) {
        GET(o->pool_mean, (size_t)H * bins);
        GET(o->pool_max, (size_t)H * bins);
        ok = (o->pairs = kvt_calloc(bins, sizeof *o->pairs)) != NULL && ok;
    }
    ok = (o->head = kvt_calloc((size_t)H, sizeof *o->head)) != NULL && ok;
    o->n_heads = ok ? heads_wanted(w, H, o->head) : 0;
    size_t rows = 0;
    if (o->n_heads) {
        o->look.attn_rows = attn_rows(n, o->n_heads);
        rows = (size_t)o->n_heads * (size_t)o->look.attn_rows * (size_t)n;
        GET(o->rows, rows);
        for (int i = 0; i < o->n_heads; i++)
            o->head_bits |= (uint64_t)1 << o->head[i];
    }
    size_t staged = hn * (size_t)(4 + needs->n_windows) + 2 * (size_t)H * bins;
    if (probe)
        ok = (o->host = kvt_calloc(staged > rows ? staged : rows, sizeof *o->host)) != NULL && ok;
#undef GET
    if (!ok) {
        size_t scores, maps;
        kvt_observer_bytes(w, L, H, n, needs, &scores, &maps);
        kvt_observer_close(o);
        return kvt_fail(err, KVT_ENOMEM, "no memory for scores (%zu MB) and maps (%zu MB) of a %d-token prompt; ask for fewer maps",
                        scores >> 20, maps >> 20, n);
    }
    if (bins)
        count_pairs(o->pairs, n, w->map_r, w->map_c);
    o->see.ld = o->see.n_rows = n;
    o->see.n_windows = needs->n_windows;
    o->see.entropy = o->entropy, o->see.sink = o->sink, o->see.n_sink = w->n_sink;
    o->see.R = w->map_r, o->see.C = w->map_c, o->see.pool_mean = o->pool_mean, o->see.pool_max = o->pool_max;
    o->look.self = o, o->look.before = before, o->look.after = after;
    return 0;
}

static int queries(void *self, int layer, int row0, int n, const float *q)
{
    struct kvt_observer *o = self;
    size_t H = (size_t)o->H, D = (size_t)o->D, at = (size_t)layer * H * D;
    int skip = row0 < KVT_QUERY_SKIP ? KVT_QUERY_SKIP - row0 : 0;
    if (n <= skip)
        return 0;
    struct kvt_query_stats_args a = {.q = q + (size_t)skip * H * D, .T = n - skip, .H = o->H, .D = o->D,
                                     .seen = row0 + skip - KVT_QUERY_SKIP, .mean = (float *)o->raw.query_mean + at,
                                     .scatter = (float *)o->raw.query_scatter + at * D};
    return o->ops->query_stats(o->dev, &a);
}

int kvt_observer_queries(struct kvt_observer *o, int D, struct kvt_err *err)
{
    size_t count = (size_t)o->L * (size_t)o->H * (size_t)D;
    o->D = D;
    o->raw.query_mean = o->ops->alloc(o->dev, count * sizeof(float));
    o->raw.query_scatter = o->ops->alloc(o->dev, count * (size_t)D * sizeof(float));
    if (!o->raw.query_mean || !o->raw.query_scatter)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the covariance of queries (%zu MB)", count * (size_t)D * sizeof(float) >> 20);
    o->raw.query_rows = o->n - KVT_QUERY_SKIP;
    o->look.queries = queries;
    return 0;
}

void kvt_observer_close(struct kvt_observer *o)
{
    if (!o->ops)
        return;
    void *own[] = { (void *)o->raw.mass, (void *)o->raw.last, (void *)o->raw.max, (void *)o->raw.later, (void *)o->raw.query_mean,
                    (void *)o->raw.query_scatter, o->entropy, o->sink, o->pool_mean, o->pool_max, o->rows };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        o->ops->free(o->dev, own[i]);
    for (int w = 0; w < o->raw.n_windows; w++)
        o->ops->free(o->dev, (void *)o->raw.wmass[w]);
    for (int i = 0; i < o->raw.n_squares; i++)
        o->ops->free(o->dev, (void *)o->raw.sqmass[i]);
    free(o->head);
    free(o->host);
    free(o->pairs);
    memset(o, 0, sizeof *o);
}

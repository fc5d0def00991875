/* attn, by definition: one query row of one head at a time, double accumulators, the whole row of probabilities. */
#include "kernels/ref/ref.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kernels/pages.h"

enum { SLOTS = KVT_PAGE_SLOTS };

/* x (D) rotated by `by` positions, a difference and so of either sign. */
static void rotate(const struct kvt_rope *rope, int by, double *x)
{
    const float *row = rope->table + (size_t)(by < 0 ? -by : by) * (size_t)rope->rot;
    assert((by < 0 ? -by : by) < rope->n_pos);
    for (int i = 0; i < rope->rot / 2; i++) {
        int a = rope->halves ? i : 2 * i, b = rope->halves ? i + rope->rot / 2 : 2 * i + 1;
        double c = row[2 * i], s = by < 0 ? -row[2 * i + 1] : row[2 * i + 1], xa = x[a], xb = x[b];
        x[a] = xa * c - xb * s;
        x[b] = xb * c + xa * s;
    }
}

/* Whether row t sees a slot at `pos`. */
static bool sees(const struct kvt_attn_args *a, int t, int32_t pos)
{
    return pos <= a->pos[t] && (!a->window || pos > a->pos[t] - a->window);
}

/* One row of one head. */
struct row {
    int n;                   /* slots of the cell, seen or not */
    double *p;               /* (n) probabilities; 0 where the row can't see the slot */
    int32_t *pos;            /* (n) */
    double *q, *k, *out;     /* (D) */
    float *one;              /* (D) a decoded row */
};

static void attend(const struct kvt_attn_args *a, const struct kvt_cell *cell, int t, int h, struct row *w)
{
    const struct kvt_cache *c = a->cache;
    int D = c->o.D, n = cell->n, seen = 0;
    w->n = n;
    for (int j = 0; j < n; j++) {
        w->pos[j] = kvt_page_pos(c, cell->page[j / SLOTS])[j % SLOTS];
        seen += sees(a, t, w->pos[j]);
    }
    bool renumber = a->renumber && a->renumber[t];
    const float *q = a->q + ((size_t)t * (size_t)a->H + (size_t)h) * (size_t)D;
    for (int d = 0; d < D; d++) {
        w->q[d] = q[d];
        w->out[d] = 0;
    }
    if (renumber && seen)
        rotate(&a->rope, seen - 1 - a->pos[t], w->q);
    double max = -INFINITY, sum = 0;
    for (int j = 0; j < n; j++) {
        w->p[j] = -INFINITY;
        if (!sees(a, t, w->pos[j]))
            continue;
        kvt_pages_decode(c, kvt_page_k(c, cell->page[j / SLOTS]), (size_t)(j % SLOTS), SLOTS, D, w->one);
        for (int d = 0; d < D; d++)
            w->k[d] = w->one[d];
        if (renumber) {
            int rank = 0;
            for (int i = 0; i < n; i++)
                rank += w->pos[i] < w->pos[j] && sees(a, t, w->pos[i]);
            rotate(&a->rope, rank - w->pos[j], w->k);
        }
        double s = 0;
        for (int d = 0; d < D; d++)
            s += w->q[d] * w->k[d];
        w->p[j] = a->cap > 0 ? a->cap * tanh(s * a->scale / a->cap) : s * a->scale;
        max = w->p[j] > max ? w->p[j] : max;
    }
    for (int j = 0; j < n; j++) {
        w->p[j] = sees(a, t, w->pos[j]) ? exp(w->p[j] - max) : 0;
        sum += w->p[j];
    }
    for (int j = 0; j < n; j++) {
        if (!sees(a, t, w->pos[j]))
            continue;
        w->p[j] /= sum;
        kvt_pages_decode(c, kvt_page_v(c, cell->page[j / SLOTS]), (size_t)(j % SLOTS) * (size_t)D, 1, D, w->one);
        for (int d = 0; d < D; d++)
            w->out[d] += w->p[j] * w->one[d];
    }
}

/* The k largest of the row, by asking for each in turn. */
static void show_top(const struct kvt_see *see, size_t row, const struct row *w)
{
    float *top = see->top + row * (size_t)see->top_k;
    int32_t *top_at = see->top_at + row * (size_t)see->top_k;
    for (int k = 0; k < see->top_k; k++) {
        top[k] = 0;
        top_at[k] = -1;
        for (int j = 0; j < w->n; j++) {
            bool before = false;
            for (int i = 0; i < k && !before; i++)
                before = top_at[i] == j;
            if (!before && (float)w->p[j] > top[k]) {
                top[k] = (float)w->p[j];
                top_at[k] = j;
            }
        }
    }
}

/* By distance, and from segment to segment. */
static void show_far(const struct kvt_see *see, int pos, int h, const struct row *w)
{
    int bins = kvt_distance_bins(see->n_rows), from = 0, to = 0;
    for (int j = 0; j < w->n && j <= pos; j++) {
        int bin = 0;
        while (bin + 1 < bins && kvt_distance_start(bin + 1) <= pos - j)
            bin++;
        if (see->distance && pos >= see->far_from)
            see->distance[h * bins + bin] += (float)w->p[j];
        for (int i = 0; see->offset && i < see->n_offsets; i++)
            if (pos >= see->far_from && pos - j == see->offset_at[i])
                see->offset[h * see->n_offsets + i] += (float)w->p[j];
    }
    while (see->spans && see->segment[from + 1] <= pos)
        from++;
    for (int j = 0; see->spans && j < w->n && j <= pos; j++) {
        while (see->segment[to + 1] <= j)
            to++;
        see->spans[((size_t)h * (size_t)see->n_segments + (size_t)from) * (size_t)see->n_segments + (size_t)to] += (float)w->p[j];
    }
}

/* What the call was asked to show of row t of head h. */
static void show(const struct kvt_attn_args *a, const struct kvt_see *see, int t, int h, const struct row *w)
{
    int pos = a->pos[t], n = w->n, N = see->n_rows;
    size_t at = (size_t)h * (size_t)see->ld, row = (size_t)h * (size_t)N + (size_t)pos;
    double entropy = 0, sink = 0, local = 0;
    for (int j = 0; j < n; j++) {
        double p = w->p[j];
        entropy -= p > 0 ? p * log(p) : 0;
        sink += w->pos[j] < see->n_sink ? p : 0;
        local += pos - w->pos[j] < see->n_local ? p : 0;
        if (see->mass)
            see->mass[at + (size_t)j] += (float)p;
        for (int i = 0; i < see->n_windows; i++)
            if (see->wmass[i] && pos >= N - see->window[i])
                see->wmass[i][at + (size_t)j] += (float)p;
        for (int i = 0; i < see->n_squares; i++)
            if ((!see->square[i].window || pos >= N - see->square[i].window) && pos >= j + see->square[i].distance)
                see->sqmass[i][at + (size_t)j] += (float)(p * (see->square[i].by_pos ? pos : p));
        if (see->max && pos >= see->max_from && (float)p > see->max[at + (size_t)j])
            see->max[at + (size_t)j] = (float)p;
        for (int u = 0; see->later && u < see->n_units; u++)
            if (j >= see->unit[2 * u] && j < see->unit[2 * u + 1] && pos >= see->unit[2 * u + 1])
                see->later[at + (size_t)j] += (float)p;
        if (see->last && pos == N - 1)
            see->last[at + (size_t)j] = (float)p;
        if ((see->pool_mean || see->pool_max) && w->pos[j] <= pos) {
            size_t bin = ((size_t)h * (size_t)see->R + (size_t)((int64_t)pos * see->R / N)) * (size_t)see->C +
                         (size_t)((int64_t)j * see->C / N);
            if (see->pool_mean)
                see->pool_mean[bin] += (float)p;
            if (see->pool_max && (float)p > see->pool_max[bin])
                see->pool_max[bin] = (float)p;
        }
    }
    if (see->entropy)
        see->entropy[row] = (float)entropy;
    if (see->keys)
        see->keys[row] = (float)exp(entropy);
    if (see->sink)
        see->sink[row] = (float)sink;
    if (see->local)
        see->local[row] = (float)local;
    if (see->top)
        show_top(see, row, w);
    if (see->distance || see->offset || see->spans)
        show_far(see, pos, h, w);
    if (see->row_heads && see->row_heads >> h & 1) {
        int i = __builtin_popcountll(see->row_heads & ((UINT64_C(1) << h) - 1));
        size_t out = ((size_t)i * (size_t)a->T + (size_t)t) * (size_t)see->ld;
        for (int j = 0; j < see->ld; j++) {
            if (see->rows)
                see->rows[out + (size_t)j] = j < n ? (float)w->p[j] : 0;
            if (see->half)
                see->half[out + (size_t)j] = kvt_f16_from_f32(j < n ? (float)w->p[j] * KVT_HALF_SCALE : 0);
        }
    }
    if (see->row_at && see->row_at[t] >= 0) {
        float *out = see->row + ((size_t)see->row_at[t] * (size_t)a->H + (size_t)h) * (size_t)see->row_ld;
        assert(n <= see->row_ld);
        for (int j = 0; j < n; j++)
            out[j] = (float)w->p[j];
    }
}

/* Maps whose last row was there. */
static void finish_maps(const struct kvt_see *see, int H)
{
    for (int i = 0; i < H * see->R * see->C; i++) {
        float weight = see->weight[i % (see->R * see->C)];
        see->map_mean[i] = kvt_f16_from_f32(see->pool_mean[i] * weight * KVT_HALF_SCALE);
        see->map_max[i] = kvt_f16_from_f32(see->pool_max[i] * KVT_HALF_SCALE + (weight - weight)); /* NaN where there is no pair */
        see->pool_mean[i] = see->pool_max[i] = 0;
    }
}

int kvt_ref_attn(struct kvt_dev *dev, const struct kvt_attn_args *a)
{
    const struct kvt_cache *c = a->cache;
    int D = c->o.D, most = 1;
    assert(a->H % c->o.G == 0 && (!a->see || !a->see->row_heads || a->H <= 64));
    for (int t = 0; t < a->T; t++)
        for (int g = 0; g < c->o.G; g++) {
            int n = kvt_cell_at(c, a->branch[t], a->layer, g)->n;
            most = n > most ? n : most;
        }
    double *mem = kvt_dev_scratch(dev, (size_t)most * (sizeof(double) + sizeof(int32_t)) +
                                       (size_t)D * (3 * sizeof(double) + sizeof(float)));
    if (!mem)
        return KVT_ENOMEM;
    struct row w = {.p = mem, .q = mem + most, .k = mem + most + D, .out = mem + most + 2 * D};
    w.pos = (int32_t *)(mem + most + 3 * D);
    w.one = (float *)(w.pos + most);
    for (int t = 0; t < a->T; t++)
        for (int h = 0; h < a->H; h++) {
            attend(a, kvt_cell_at(c, a->branch[t], a->layer, h / (a->H / c->o.G)), t, h, &w);
            float *out = a->out + ((size_t)t * (size_t)a->H + (size_t)h) * (size_t)D;
            for (int d = 0; d < D; d++)
                out[d] = (float)w.out[d];
            if (a->see)
                show(a, a->see, t, h, &w);
        }
    if (a->see && a->see->weight && a->pos[a->T - 1] == a->see->n_rows - 1)
        finish_maps(a->see, a->H);
    return 0;
}

void kvt_ref_row_sums(int T, uint8_t *level) { memset(level, 2, (size_t)T); } /* one by one */

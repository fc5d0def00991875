/* What a prefill's attention returns beside its output: gathered from a tile while it is in cache, joined by head.
 *
 * A tile's probabilities exist as exp(score - max) and 1 / sum of each row. Rows are looked at by softmax itself (attn_say.h);
 * columns in blocks of KVT_TILE_KEYS, just before the values are made from the same block. Every sum over rows is taken over the
 * tile's rows in one go, or over those of them from where a window begins, or in one segment: so no bit of it depends on what
 * else is asked. */
#include "kernels/cpu/attn_tiles.h"

#include <math.h>
#include <string.h>

/* count floats of mem for an array that is asked for; with mem NULL they are only counted. */
static float *part_of(char *mem, size_t *at, const float *asked, size_t count)
{
    float *part = mem && asked ? (float *)(mem + *at) : NULL;
    *at += asked ? count * sizeof *part : 0;
    return part;
}

/* Laid out in mem; returns the bytes. */
static size_t layout(const struct kvt_tiles *p, char *mem, struct kvt_sums *s)
{
    const struct kvt_see *see = p->see;
    const float *far = see->distance;
    size_t at = 0;
    s->mass = part_of(mem, &at, see->mass, p->ldn);
    s->max = part_of(mem, &at, see->max, p->ldn);
    s->later = part_of(mem, &at, see->later, p->ldn);
    for (int i = 0; i < see->n_windows; i++)
        s->wmass[i] = part_of(mem, &at, see->wmass[i], p->ldn);
    for (int i = 0; i < see->n_squares; i++)
        s->sqmass[i] = part_of(mem, &at, see->sqmass[i], p->ldn);
    s->pool_mean = part_of(mem, &at, see->pool_mean, 2 * (size_t)see->C);
    s->pool_max = part_of(mem, &at, see->pool_max, 2 * (size_t)see->C);
    s->spans = part_of(mem, &at, see->spans, 2 * (size_t)see->n_segments);
    s->near = part_of(mem, &at, far, KVT_LANES);
    s->far = part_of(mem, &at, far, (size_t)p->bins * KVT_LANES);
    s->offset = part_of(mem, &at, see->offset, (size_t)see->n_offsets);
    return at;
}

size_t kvt_sums_bytes(const struct kvt_tiles *p) { return layout(p, NULL, &(struct kvt_sums){0}); }

static int segment_of(const struct kvt_see *see, int pos)
{
    int lo = 0, hi = see->n_segments - 1;
    while (lo < hi) {
        int mid = lo + (hi - lo + 1) / 2;
        if (see->segment[mid] <= pos)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

static int bin_of(const struct kvt_see *see, int pos) { return (int)((int64_t)pos * see->R / see->n_rows); }

struct kvt_sums kvt_sums_of(const struct kvt_tiles *p, int h, int strip)
{
    struct kvt_sums s = {.h = h};
    const struct kvt_see *see = p->see;
    int row0 = strip * p->strip_rows, row1 = row0 + p->strip_rows < p->a->T ? row0 + p->strip_rows : p->a->T;
    layout(p, p->unit + (size_t)(h * p->strips + strip) * p->unit_bytes, &s);
    if (p->pool) {
        s.bin0 = bin_of(see, p->a->pos[row0]);
        s.bin1 = bin_of(see, p->a->pos[row1 - 1]);
    }
    if (see->spans) {
        s.segment0 = segment_of(see, p->a->pos[row0]);
        s.segment1 = segment_of(see, p->a->pos[row1 - 1]);
    }
    return s;
}

/* Row `bin` of the head's (rows, C) array `all`: the unit's own where other strips may add to it too. */
static float *bin_row(float *all, float *own, int h, int rows, int C, int bin, int bin0, int bin1)
{
    if (!all)
        return NULL;
    return bin == bin0 ? own : bin == bin1 ? own + C : all + ((size_t)h * (size_t)rows + (size_t)bin) * (size_t)C;
}

/* ---- rows ---- */

static void row_bins(const struct kvt_tiles *p, const struct kvt_attn_tile *t, const struct kvt_sums *s, struct kvt_tile_bins *b)
{
    const struct kvt_see *see = p->see;
    b->pool = (struct kvt_attn_pool){.C = see->C, .edge = p->edge, .first = p->first, .until = b->until,
                                     .mean = see->pool_mean ? b->mean : NULL, .max = see->pool_max ? b->max : NULL};
    for (int r = 0; r < t->rows;) {
        int bin = bin_of(see, t->pos + r), end = r + 1;
        while (end < t->rows && bin_of(see, t->pos + end) == bin)
            end++;
        for (; r < end; r++) {
            b->mean[r] = bin_row(see->pool_mean, s->pool_mean, s->h, see->R, see->C, bin, s->bin0, s->bin1);
            b->max[r] = bin_row(see->pool_max, s->pool_max, s->h, see->R, see->C, bin, s->bin0, s->bin1);
            b->until[r] = end;
        }
    }
}

void kvt_see_begin(const struct kvt_tiles *p, struct kvt_attn_tile *t, const struct kvt_sums *s, int32_t pos, struct kvt_tile_bins *b)
{
    const struct kvt_see *see = p->see;
    size_t row = (size_t)s->h * (size_t)see->n_rows + (size_t)pos;
    t->pos = pos;
    if (p->pool)
        row_bins(p, t, s, b);
    if (see->local) {
        t->local = see->local + row;
        t->n_local = see->n_local;
    }
    t->near = s->near;
    t->far = s->far;
    t->far_from = see->far_from;
    if (see->top) {
        t->top_k = see->top_k;
        t->top = see->top + row * (size_t)see->top_k;
        t->top_at = see->top_at + row * (size_t)see->top_k;
    }
}

static void full_row(const struct kvt_tiles *p, const struct kvt_attn_tile *t, int h, int r, int t0)
{
    const struct kvt_see *see = p->see;
    const float *e = t->s + (size_t)r * t->s_ld;
    int i = __builtin_popcountll(see->row_heads & ((UINT64_C(1) << h) - 1)), seen = t->seen[r];
    size_t at = ((size_t)i * (size_t)p->a->T + (size_t)(t0 + r)) * (size_t)see->ld, unseen = (size_t)(see->ld - seen);
    for (int j = 0; see->rows && j < seen; j++)
        see->rows[at + (size_t)j] = e[j] * t->inv[r];
    if (see->rows)
        memset(see->rows + at + seen, 0, unseen * sizeof *see->rows);
    if (see->half) {
        p->kernel->half(t, r, see->half + at);
        memset(see->half + at + seen, 0, unseen * sizeof *see->half);
    }
}

void kvt_see_rows(const struct kvt_tiles *p, const struct kvt_attn_tile *t, const struct kvt_sums *s, int t0)
{
    const struct kvt_see *see = p->see;
    int h = s->h;
    for (int r = 0; r < t->rows; r++) {
        const float *e = t->s + (size_t)r * t->s_ld;
        int32_t pos = p->a->pos[t0 + r];
        size_t row = (size_t)h * (size_t)see->n_rows + (size_t)pos;
        float inv = t->inv[r];
        if (see->entropy)
            see->entropy[row] = t->entropy[r];
        if (see->keys)
            see->keys[row] = expf(t->entropy[r]);
        if (see->sink) {
            float sum = 0; /* slot j holds position j */
            for (int j = 0; j < see->n_sink && j < t->seen[r]; j++)
                sum += e[j] * inv;
            see->sink[row] = sum;
        }
        for (int i = 0; see->offset && i < see->n_offsets && pos >= see->far_from; i++)
            if (see->offset_at[i] >= 0 && see->offset_at[i] <= pos)
                s->offset[i] += e[pos - see->offset_at[i]] * inv;
        if (see->last && pos == see->n_rows - 1) {
            float *out = see->last + (size_t)h * (size_t)see->ld;
            for (int j = 0; j < t->seen[r]; j++)
                out[j] = e[j] * inv;
            memset(out + t->seen[r], 0, (size_t)(t->cell->n - t->seen[r]) * sizeof *out);
        }
        if (see->row_heads && see->row_heads >> h & 1)
            full_row(p, t, h, r, t0);
    }
}

/* ---- columns ---- */

/* A block of columns [j0, j1), and its reductions over the rows from r0 on. */
struct block {
    const struct kvt_tiles *p;
    const struct kvt_attn_tile *t;
    int j0, j1, r0;
    float sum[KVT_TILE_KEYS], square[KVT_TILE_KEYS], max[KVT_TILE_KEYS];
};

static void reduce(struct block *b, const struct kvt_attn_pool *pool, int r0, int r1)
{
    const struct kvt_tiles *p = b->p;
    b->r0 = r0;
    p->kernel->columns(b->t, pool, r0, r1, b->j0, b->j1, b->sum, p->squares ? b->square : NULL, p->maxima ? b->max : NULL);
}

static void add_to(float *to, const float *from, int n)
{
    for (int j = 0; j < n; j++)
        to[j] += from[j];
}

/* The tile's first row of a window that begins at position `from`; past the last one where it has none. */
static int window_row(const struct kvt_attn_tile *t, int from) { return from <= t->pos ? 0 : from - t->pos; }

/* The rows of the tile from r0 on are the block's; if that is another row than before, they are reduced anew. */
static bool rows_from(struct block *b, int r0)
{
    if (r0 >= b->t->rows)
        return false;
    if (r0 != b->r0)
        reduce(b, NULL, r0, b->t->rows);
    return true;
}

static int smaller(int a, int b) { return a < b ? a : b; }
static int larger(int a, int b) { return a > b ? a : b; }

/* Squares of the rows at least v after the column: up to some column that's all of them, then the later rows alone. */
static void spread_squares(const struct block *b, int v, float *to)
{
    const struct kvt_attn_tile *t = b->t;
    int all = v ? t->pos + b->r0 - v + 1 : b->j1; /* slot j holds position j */
    add_to(to + b->j0, b->square, smaller(all, b->j1) - b->j0);
    for (int r = b->r0 + 1; v && r < t->rows; r++) {
        const float *e = t->s + (size_t)r * t->s_ld;
        float inv = t->inv[r];
        for (int j = larger(all, b->j0); j < b->j1 && j <= t->pos + r - v; j++)
            to[j] += (e[j] * inv) * (e[j] * inv);
    }
}

/* The rows from r0 on, each as often as it has tokens before it. */
static void spread_by_pos(const struct block *b, int r0, float *to)
{
    const struct kvt_attn_tile *t = b->t;
    for (int r = r0; r < t->rows; r++) {
        const float *e = t->s + (size_t)r * t->s_ld;
        float by = t->inv[r] * (float)(t->pos + r);
        for (int j = b->j0; j < b->j1 && j < t->seen[r]; j++)
            to[j] += e[j] * by;
    }
}

/* Units that ended before the tile take its sum, those that end among its rows the rows from there on. */
static void spread_later(const struct block *b, float *to)
{
    const struct kvt_see *see = b->p->see;
    const struct kvt_attn_tile *t = b->t;
    for (int u = 0; u < see->n_units && see->unit[2 * u] < b->j1 && see->unit[2 * u + 1] < t->pos + t->rows; u++) {
        int end = see->unit[2 * u + 1], j0 = larger(see->unit[2 * u], b->j0), j1 = smaller(end, b->j1);
        if (end <= t->pos) {
            add_to(to + j0, b->sum + (j0 - b->j0), j1 - j0);
            continue;
        }
        for (int r = end - t->pos; r < t->rows; r++) {
            const float *e = t->s + (size_t)r * t->s_ld;
            for (int j = j0; j < j1; j++)
                to[j] += e[j] * t->inv[r];
        }
    }
}

static void spread_spans(struct block *b, const struct kvt_sums *s)
{
    const struct kvt_see *see = b->p->see;
    const struct kvt_attn_tile *t = b->t;
    int r0 = 0, to0 = segment_of(see, b->j0);
    for (int from = segment_of(see, t->pos); r0 < t->rows; from++) {
        int r1 = smaller(see->segment[from + 1] - t->pos, t->rows);
        if (r0 || r1 < t->rows || b->r0)
            reduce(b, NULL, r0, r1);
        float *row = bin_row(see->spans, s->spans, s->h, see->n_segments, see->n_segments, from, s->segment0, s->segment1);
        for (int to = to0, j = b->j0; j < b->j1 && to < see->n_segments; to++) {
            float sum = 0;
            for (; j < b->j1 && j < see->segment[to + 1]; j++)
                sum += b->sum[j - b->j0];
            row[to] += sum;
        }
        r0 = r1;
    }
}

void kvt_see_block(const struct kvt_tiles *p, const struct kvt_attn_tile *t, const struct kvt_sums *s, const struct kvt_tile_bins *bins, int j0,
                   int j1)
{
    const struct kvt_see *see = p->see;
    struct block b = {.p = p, .t = t, .j0 = j0, .j1 = j1};
    reduce(&b, p->pool ? &bins->pool : NULL, 0, t->rows);
    if (s->mass)
        add_to(s->mass + j0, b.sum, j1 - j0);
    if (s->later)
        spread_later(&b, s->later);
    for (int i = 0; i < see->n_squares; i++) {
        int r0 = see->square[i].window ? window_row(t, see->n_rows - see->square[i].window) : 0;
        if (s->sqmass[i] && see->square[i].by_pos)
            spread_by_pos(&b, r0, s->sqmass[i]);
        else if (s->sqmass[i] && rows_from(&b, r0))
            spread_squares(&b, see->square[i].distance, s->sqmass[i]);
    }
    for (int i = 0; i < see->n_windows; i++)
        if (s->wmass[i] && rows_from(&b, window_row(t, see->n_rows - see->window[i])))
            add_to(s->wmass[i] + j0, b.sum, j1 - j0);
    if (s->max && rows_from(&b, window_row(t, see->max_from)))
        for (int j = j0; j < j1; j++)
            s->max[j] = b.max[j - j0] > s->max[j] ? b.max[j - j0] : s->max[j];
    if (s->spans)
        spread_spans(&b, s);
}

/* ---- joining ---- */

static void add_rows(float *all, const float *own, int h, int rows, int C, int bin0, int bin1, bool most)
{
    for (int i = 0; all && i < (bin0 == bin1 ? 1 : 2); i++) {
        float *to = all + ((size_t)h * (size_t)rows + (size_t)(i ? bin1 : bin0)) * (size_t)C;
        for (int c = 0; c < C; c++) {
            float x = own[i * C + c];
            to[c] = !most ? to[c] + x : x > to[c] ? x : to[c];
        }
    }
}

static void join_far(const struct kvt_see *see, const struct kvt_sums *s)
{
    int bins = kvt_distance_bins(see->n_rows);
    float *to = see->distance + s->h * bins;
    for (int d = 0; d < KVT_LANES; d++) {
        int bin = d < 9 ? d : 9;
        if (bin < bins)
            to[bin] += s->near[KVT_LANES - 1 - d];
    }
    for (int bin = 10; bin < bins; bin++) {
        float sum = 0;
        for (int i = 0; i < KVT_LANES; i++)
            sum += s->far[(bin - 10) * KVT_LANES + i];
        to[bin] += sum;
    }
}

/* The head's maps, if their last row was there. Beyond a row of bins' last position there is nothing. */
static void finish_maps(const struct kvt_tiles *p, int h)
{
    const struct kvt_see *see = p->see;
    for (int r = 0; r < see->R; r++) {
        int64_t last = ((int64_t)(r + 1) * see->n_rows + see->R - 1) / see->R - 1; /* position */
        int n = last < 0 ? 0 : (int)(last * see->C / see->n_rows) + 1;
        size_t at = ((size_t)h * (size_t)see->R + (size_t)r) * (size_t)see->C;
        n = n < see->C ? n : see->C;
        p->kernel->finish(see->pool_mean + at, see->pool_max + at, see->weight + (size_t)r * (size_t)see->C, n, see->map_mean + at, see->map_max + at);
        for (int c = n; c < see->C; c++)
            see->map_mean[at + (size_t)c] = see->map_max[at + (size_t)c] = 0x7e00; /* NaN */
    }
}

void kvt_see_join(const struct kvt_tiles *p, int h)
{
    const struct kvt_see *see = p->see;
    size_t at = (size_t)h * (size_t)see->ld;
    for (int strip = 0; strip < p->strips; strip++) {
        struct kvt_sums s = kvt_sums_of(p, h, strip);
        if (s.mass)
            add_to(see->mass + at, s.mass, p->n);
        if (s.later)
            add_to(see->later + at, s.later, p->n);
        for (int j = 0; s.max && j < p->n; j++)
            see->max[at + (size_t)j] = s.max[j] > see->max[at + (size_t)j] ? s.max[j] : see->max[at + (size_t)j];
        for (int i = 0; i < see->n_windows; i++)
            if (s.wmass[i])
                add_to(see->wmass[i] + at, s.wmass[i], p->n);
        for (int i = 0; i < see->n_squares; i++)
            if (s.sqmass[i])
                add_to(see->sqmass[i] + at, s.sqmass[i], p->n);
        add_rows(see->pool_mean, s.pool_mean, h, see->R, see->C, s.bin0, s.bin1, false);
        add_rows(see->pool_max, s.pool_max, h, see->R, see->C, s.bin0, s.bin1, true);
        add_rows(see->spans, s.spans, h, see->n_segments, see->n_segments, s.segment0, s.segment1, false);
        if (s.near)
            join_far(see, &s);
        for (int i = 0; s.offset && i < see->n_offsets; i++)
            see->offset[h * see->n_offsets + i] += s.offset[i];
    }
    if (p->pool && see->weight && p->a->pos[p->a->T - 1] == see->n_rows - 1)
        finish_maps(p, h);
}

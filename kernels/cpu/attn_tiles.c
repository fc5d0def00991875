/* attn by tiles: the prefill. Rows of one branch, slots in order of position.
 *
 * A unit is one query head and a strip of rows; it goes through its tiles of KVT_TILE_ROWS rows from top to bottom:
 *
 *     scores (rows, n) -> softmax per row, entropy -> what was asked, from the tile in cache -> values -> out
 *
 * Sums over rows are gathered per unit and the strips of a head are added in order, so that no bit depends on threads.
 * Never more than threads x KVT_TILE_ROWS x n scores exist. */
#include "kernels/cpu/attn.h"

#include <assert.h>
#include <omp.h>
#include <string.h>

enum { STRIPS = 4 }; /* of a head: enough units to share out evenly */

struct plan {
    const struct kvt_attn_kernel *kernel;
    const struct kvt_attn_args *a;
    const struct kvt_see *see;   /* all NULL where nothing is asked */
    int D, Dp, n;                /* n: the most slots that a row sees */
    int strip_rows, strips;
    const int32_t *seen;         /* (G, T) */
    const int32_t *from;         /* (G, T), or NULL where there is no window */
    size_t ldn;                  /* n in whole vectors, of the column sums */
    size_t s_ld;
    bool columns, squares;       /* sums over rows are wanted; those of squares */
    int bins;                    /* row bins that a strip can touch */
    const int32_t *edge;         /* (C + 1) first column of each column bin */
    char *unit;                  /* (H, strips) blocks of unit_bytes */
    size_t unit_bytes;
    char *mine;                  /* (threads) blocks of thread_bytes */
    size_t thread_bytes;
};

/* What a unit gathers: for each of the caller's arrays that is asked for, one of its own. */
struct sums {
    float *mass, *max, *later;   /* (n) */
    float *wmass[KVT_MAX_WINDOWS], *sqmass[KVT_MAX_WINDOWS];
    float *pool_mean, *pool_max; /* (bins, C) from row bin bin0 on */
    int bin0;
};

/* count floats of mem for an array that is asked for; with mem NULL they are only counted. */
static float *part_of(char *mem, size_t *at, const float *asked, size_t count)
{
    float *part = mem && asked ? (float *)(mem + *at) : NULL;
    *at += asked ? count * sizeof *part : 0;
    return part;
}

/* Laid out in mem; returns the bytes. */
static size_t layout(const struct plan *p, char *mem, struct sums *s)
{
    const struct kvt_see *see = p->see;
    const float *pool = see->pool_mean ? see->pool_mean : see->pool_max;
    size_t at = 0, bins = (size_t)p->bins * (size_t)see->C;
    s->mass = part_of(mem, &at, see->mass, p->ldn);
    s->max = part_of(mem, &at, see->max, p->ldn);
    s->later = part_of(mem, &at, see->later, p->ldn);
    for (int i = 0; i < see->n_windows; i++)
        s->wmass[i] = part_of(mem, &at, see->wmass[i], p->ldn);
    for (int i = 0; i < see->n_squares; i++)
        s->sqmass[i] = part_of(mem, &at, see->sqmass[i], p->ldn);
    s->pool_mean = part_of(mem, &at, pool, bins);
    s->pool_max = part_of(mem, &at, pool, bins);
    return at;
}

static struct sums unit_sums(const struct plan *p, int h, int strip)
{
    struct sums s = {0};
    layout(p, p->unit + (size_t)(h * p->strips + strip) * p->unit_bytes, &s);
    if (p->see->R)
        s.bin0 = (int)((int64_t)p->a->pos[strip * p->strip_rows] * p->see->R / p->see->n_rows);
    return s;
}

/* Rows [r0, r1) of a tile that are reduced together: they share their row bin, their windows and their side of max_from. */
struct rows {
    const struct kvt_attn_tile *t;
    int r0, r1, n;               /* n: the most slots that one of them sees */
    int32_t pos;                 /* of the first; the others follow */
    const float *sum, *square, *max; /* (n) of the probabilities over the rows */
};

static void add_to(float *to, const float *from, int n)
{
    for (int j = 0; to && j < n; j++)
        to[j] += from[j];
}

/* Squares of the rows at least v after the column: up to column pos - v that's all of them, then the later rows alone. */
static void spread_squares(const struct rows *g, int v, float *to)
{
    int all = v && g->pos - v + 1 < g->n ? g->pos - v + 1 : g->n; /* slot j holds position j */
    add_to(to, g->square, all);
    for (int r = g->r0 + 1; v && r < g->r1; r++) {
        const float *e = g->t->s + (size_t)r * g->t->s_ld;
        float inv = g->t->inv[r];
        for (int j = all > 0 ? all : 0; j <= g->pos + (r - g->r0) - v; j++)
            to[j] += (e[j] * inv) * (e[j] * inv);
    }
}

/* Units that ended before the rows take their sum, those that end among them the rows from there on. */
static void spread_later(const struct kvt_see *see, const struct rows *g, float *to)
{
    int after = g->pos + (g->r1 - g->r0);
    for (int u = 0; u < see->n_units && see->unit[2 * u + 1] < after; u++) {
        int from = see->unit[2 * u], end = see->unit[2 * u + 1];
        if (end <= g->pos) {
            add_to(to + from, g->sum + from, end - from);
            continue;
        }
        for (int r = g->r0 + (end - g->pos); r < g->r1; r++) {
            const float *e = g->t->s + (size_t)r * g->t->s_ld;
            for (int j = from; j < end; j++)
                to[j] += e[j] * g->t->inv[r];
        }
    }
}

/* What the rows give to everything that was asked. */
static void spread(const struct plan *p, const struct sums *s, const struct rows *g)
{
    const struct kvt_see *see = p->see;
    int32_t pos = g->pos;
    int n = g->n;
    const float *sum = g->sum, *max = g->max;
    add_to(s->mass, sum, n);
    for (int i = 0; i < see->n_windows; i++)
        if (pos >= see->n_rows - see->window[i])
            add_to(s->wmass[i], sum, n);
    for (int i = 0; i < see->n_squares; i++)
        if (!see->square[i].window || pos >= see->n_rows - see->square[i].window)
            spread_squares(g, see->square[i].distance, s->sqmass[i]);
    if (s->max && pos >= see->max_from)
        for (int j = 0; j < n; j++)
            s->max[j] = max[j] > s->max[j] ? max[j] : s->max[j];
    if (s->later)
        spread_later(see, g, s->later);
    if (!see->pool_mean && !see->pool_max)
        return;
    size_t row = (size_t)((int64_t)pos * see->R / see->n_rows - s->bin0) * (size_t)see->C;
    for (int c = 0; c < see->C && p->edge[c] < n; c++) {
        int from = p->edge[c], to = p->edge[c + 1] < n ? p->edge[c + 1] : n;
        float x[4] = {0}, m[4] = {0};
        int j = from;
        for (; j + 4 <= to; j += 4)
            for (int i = 0; i < 4; i++) {
                x[i] += sum[j + i];
                m[i] = max[j + i] > m[i] ? max[j + i] : m[i];
            }
        for (; j < to; j++) {
            x[0] += sum[j];
            m[0] = max[j] > m[0] ? max[j] : m[0];
        }
        float most = m[0] > m[1] ? m[0] : m[1], other = m[2] > m[3] ? m[2] : m[3];
        most = most > other ? most : other;
        s->pool_mean[row + (size_t)c] += (x[0] + x[1]) + (x[2] + x[3]);
        if (most > s->pool_max[row + (size_t)c])
            s->pool_max[row + (size_t)c] = most;
    }
}

/* How many of the windows (max_from begins one too) row `pos` belongs to: they are nested, so this says which. */
static int windows_of(const struct kvt_see *see, int32_t pos)
{
    int in = see->max && pos >= see->max_from;
    for (int i = 0; i < see->n_windows; i++)
        in += pos >= see->n_rows - see->window[i];
    for (int i = 0; i < see->n_squares; i++)
        in += pos >= see->n_rows - see->square[i].window;
    return in;
}

static void show_columns(const struct plan *p, const struct kvt_attn_tile *t, const struct sums *s, const int32_t *pos,
                         float *sum)
{
    const struct kvt_see *see = p->see;
    bool pool = see->pool_mean || see->pool_max;
    float *square = p->squares ? sum + p->s_ld : NULL, *max = pool || see->max ? sum + 2 * p->s_ld : NULL;
    for (int r0 = 0, r1; r0 < t->rows; r0 = r1) {
        int n = t->seen[r0];
        for (r1 = r0 + 1; r1 < t->rows; r1++) {
            if (windows_of(see, pos[r1]) != windows_of(see, pos[r0]))
                break;
            if (pool && (int64_t)pos[r1] * see->R / see->n_rows != (int64_t)pos[r0] * see->R / see->n_rows)
                break;
            n = t->seen[r1] > n ? t->seen[r1] : n;
        }
        p->kernel->columns(t, r0, r1, sum, square, max);
        spread(p, s, &(struct rows){.t = t, .r0 = r0, .r1 = r1, .n = n, .pos = pos[r0], .sum = sum, .square = square, .max = max});
    }
}

/* Results that belong to one row. */
static void show_rows(const struct plan *p, const struct kvt_attn_tile *t, int h, int t0)
{
    const struct kvt_see *see = p->see;
    for (int r = 0; r < t->rows; r++) {
        const float *e = t->s + (size_t)r * t->s_ld;
        int32_t pos = p->a->pos[t0 + r];
        float inv = t->inv[r];
        if (see->entropy)
            see->entropy[(size_t)h * (size_t)see->n_rows + (size_t)pos] = t->entropy[r];
        if (see->sink) {
            float sum = 0; /* slot j holds position j */
            for (int j = 0; j < see->n_sink && j < t->seen[r]; j++)
                sum += e[j] * inv;
            see->sink[(size_t)h * (size_t)see->n_rows + (size_t)pos] = sum;
        }
        if (see->last && pos == see->n_rows - 1) {
            float *out = see->last + (size_t)h * (size_t)see->ld;
            for (int j = 0; j < t->seen[r]; j++)
                out[j] = e[j] * inv;
            memset(out + t->seen[r], 0, (size_t)(t->cell->n - t->seen[r]) * sizeof *out);
        }
        if (see->row_heads && see->row_heads >> h & 1) {
            int i = __builtin_popcountll(see->row_heads & ((UINT64_C(1) << h) - 1));
            float *out = see->rows + ((size_t)i * (size_t)p->a->T + (size_t)(t0 + r)) * (size_t)see->ld;
            for (int j = 0; j < t->seen[r]; j++)
                out[j] = e[j] * inv;
            memset(out + t->seen[r], 0, (size_t)(see->ld - t->seen[r]) * sizeof *out);
        }
    }
}

static void run_unit(const struct plan *p, int h, int strip, int thread)
{
    const struct kvt_attn_args *a = p->a;
    int G = a->cache->o.G, g = h / (a->H / G), row0 = strip * p->strip_rows;
    int row1 = row0 + p->strip_rows < a->T ? row0 + p->strip_rows : a->T;
    size_t rows = KVT_TILE_ROWS, D = (size_t)p->D, Dp = (size_t)p->Dp;
    float *s = (float *)(p->mine + (size_t)thread * p->thread_bytes), *inv = s + rows * p->s_ld, *entropy = inv + rows;
    float *o = entropy + rows, *qpack = o + rows * Dp, *buf = qpack + rows * D, *sum = buf + KVT_TILE_KEYS * Dp;
    struct sums sums = {0};
    if (p->columns) {
        sums = unit_sums(p, h, strip);
        memset(p->unit + (size_t)(h * p->strips + strip) * p->unit_bytes, 0, p->unit_bytes);
    }
    for (int t0 = row0; t0 < row1; t0 += KVT_TILE_ROWS) {
        struct kvt_attn_tile t = {
            .c = a->cache, .cell = kvt_cell_at(a->cache, a->branch[0], a->layer, g),
            .q = a->q + ((size_t)t0 * (size_t)a->H + (size_t)h) * D, .q_ld = (size_t)a->H * D,
            .rows = row1 - t0 < KVT_TILE_ROWS ? row1 - t0 : KVT_TILE_ROWS, .seen = p->seen + (size_t)g * (size_t)a->T + t0,
            .from = p->from ? p->from + (size_t)g * (size_t)a->T + t0 : NULL, .scale = a->scale, .cap = a->cap, .s = s, .s_ld = p->s_ld, .inv = inv, .entropy = p->see->entropy ? entropy : NULL,
            .o = o, .qpack = qpack, .buf = buf,
        };
        for (int r = 0; r < t.rows; r++)
            t.n = t.seen[r] > t.n ? t.seen[r] : t.n;
        if (t.from) /* ascending, as rows are */
            t.lo = t.from[0] / KVT_TILE_KEYS * KVT_TILE_KEYS;
        p->kernel->scores(&t);
        p->kernel->softmax(&t);
        if (p->columns)
            show_columns(p, &t, &sums, a->pos + t0, sum);
        show_rows(p, &t, h, t0);
        p->kernel->values(&t);
        for (int r = 0; r < t.rows; r++) {
            float *out = a->out + ((size_t)(t0 + r) * (size_t)a->H + (size_t)h) * D;
            for (size_t d = 0; d < D; d++)
                out[d] = o[(size_t)r * Dp + d] * inv[r];
        }
    }
}

/* The strips of a head added to the caller's arrays, in order. */
static void join_head(const struct plan *p, int h)
{
    const struct kvt_see *see = p->see;
    size_t at = (size_t)h * (size_t)see->ld;
    for (int strip = 0; strip < p->strips; strip++) {
        struct sums s = unit_sums(p, h, strip);
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
            add_to(see->sqmass[i] + at, s.sqmass[i], p->n);
        for (int r = 0; r < p->bins && s.bin0 + r < see->R; r++)
            for (int c = 0; c < see->C; c++) {
                size_t bin = ((size_t)h * (size_t)see->R + (size_t)(s.bin0 + r)) * (size_t)see->C + (size_t)c;
                size_t from = (size_t)r * (size_t)see->C + (size_t)c;
                if (see->pool_mean)
                    see->pool_mean[bin] += s.pool_mean[from];
                if (see->pool_max && s.pool_max[from] > see->pool_max[bin])
                    see->pool_max[bin] = s.pool_max[from];
            }
    }
}

int kvt_attn_by_tiles(struct kvt_dev *dev, const struct kvt_attn_kernel *kernel, const struct kvt_attn_args *a)
{
    const struct kvt_cache *c = a->cache;
    struct kvt_see see = {0};
    if (a->see)
        see = *a->see;
    bool pool = see.pool_mean || see.pool_max;
    if (!pool)
        see.R = see.C = 0;
    struct plan p = {.kernel = kernel, .a = a, .see = &see, .D = c->o.D, .Dp = kvt_attn_dp(c->o.D)};
    p.squares = see.n_squares > 0;
    p.columns = see.mass || see.n_windows || p.squares || see.max || see.later || pool;
    int tiles = (a->T + KVT_TILE_ROWS - 1) / KVT_TILE_ROWS;
    p.strip_rows = (tiles + STRIPS - 1) / STRIPS * KVT_TILE_ROWS;
    p.strips = (a->T + p.strip_rows - 1) / p.strip_rows;
    if (p.columns)
        for (int t = 0; t < a->T; t++)
            assert(a->pos[t] == a->pos[0] + t && a->pos[t] < see.n_rows); /* consecutive rows of a prefill */
    assert(!see.row_heads || a->H <= 64);
    /* memory: seen, edges, units, threads */
    size_t head_bytes = ((size_t)c->o.G * (size_t)a->T * (a->window ? 2 : 1) + (size_t)see.C + 1) * sizeof(int32_t);
    head_bytes = (head_bytes + 63) & ~(size_t)63;
    int most = 0;
    for (int g = 0; g < c->o.G; g++) {
        int n = kvt_cell_at(c, a->branch[0], a->layer, g)->n;
        most = n > most ? n : most;
    }
    p.ldn = ((size_t)most + 15) & ~(size_t)15;
    /* an odd number of cache lines, so that the rows of a tile don't fall into the same sets */
    p.s_ld = (((size_t)most + 31) & ~(size_t)31) + KVT_LANES;
    p.bins = pool ? (int)((int64_t)(p.strip_rows - 1) * see.R / see.n_rows) + 2 : 0;
    p.unit_bytes = (layout(&p, NULL, &(struct sums){0}) + 63) & ~(size_t)63;
    p.thread_bytes = (KVT_TILE_ROWS * (p.s_ld + 2 + (size_t)p.Dp + (size_t)p.D) + KVT_TILE_KEYS * (size_t)p.Dp + 3 * p.s_ld) *
                     sizeof(float);
    p.thread_bytes = (p.thread_bytes + 63) & ~(size_t)63;
    size_t units = (size_t)a->H * (size_t)p.strips;
    char *mem = kvt_dev_scratch(dev, head_bytes + units * p.unit_bytes + (size_t)dev->threads * p.thread_bytes);
    if (!mem)
        return KVT_ENOMEM;
    int32_t *seen = (int32_t *)mem, *from = seen + (size_t)c->o.G * (size_t)a->T;
    int32_t *edge = a->window ? from + (size_t)c->o.G * (size_t)a->T : from;
    p.seen = seen;
    p.from = a->window ? from : NULL;
    p.edge = edge;
    p.unit = mem + head_bytes;
    p.mine = p.unit + units * p.unit_bytes;
    for (int g = 0; g < c->o.G; g++)
        for (int t = 0; t < a->T; t++, seen++) {
            *seen = kvt_cell_seen(c, kvt_cell_at(c, a->branch[0], a->layer, g), a->pos[t]);
            p.n = *seen > p.n ? *seen : p.n;
            if (a->window)
                *from++ = kvt_cell_seen(c, kvt_cell_at(c, a->branch[0], a->layer, g), a->pos[t] - a->window);
        }
    for (int i = 0; i <= see.C && pool; i++)
        edge[i] = (int32_t)(((int64_t)i * see.n_rows + see.C - 1) / see.C);
#pragma omp parallel num_threads(dev->threads)
    {
#pragma omp for schedule(dynamic, 1)
        for (int u = 0; u < (int)units; u++) /* the longest rows first */
            run_unit(&p, u % a->H, p.strips - 1 - u / a->H, omp_get_thread_num());
#pragma omp for schedule(static)
        for (int h = 0; h < a->H; h++)
            if (p.columns)
                join_head(&p, h);
    }
    return 0;
}

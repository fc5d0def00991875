/* attn by tiles: the prefill. Rows of one branch, slots in order of position.
 *
 * A unit is one query head and a strip of rows; it goes through its tiles of KVT_TILE_ROWS rows from top to bottom:
 *
 *     scores (rows, n) -> softmax per row, and what is asked of rows -> for each block of keys: what is asked of columns, values
 *
 * Sums over rows are gathered per unit and the strips of a head are added in order, so that no bit depends on threads.
 * Never more than threads x KVT_TILE_ROWS x n scores exist. */
#include "kernels/cpu/attn_tiles.h"
#include "kernels/cpu/cpu.h"

#include <assert.h>
#include <omp.h>
#include <string.h>

enum { STRIPS = 4 }; /* of a head: enough units to share out evenly */

static void run_unit(const struct kvt_tiles *p, int h, int strip, int thread)
{
    const struct kvt_attn_args *a = p->a;
    const struct kvt_see *see = p->see;
    int G = a->cache->o.G, g = h / (a->H / G), row0 = strip * p->strip_rows, block = p->D <= 64 ? KVT_TILE_KEYS : KVT_TILE_KEYS / 2; /* decoded V stays in L1 */
    int row1 = row0 + p->strip_rows < a->T ? row0 + p->strip_rows : a->T;
    size_t rows = KVT_TILE_ROWS, D = (size_t)p->D, Dp = (size_t)p->Dp;
    float *s = (float *)(p->mine + (size_t)thread * p->thread_bytes), *inv = s + rows * p->s_ld, *entropy = inv + rows;
    float *o = entropy + rows, *qpack = o + rows * Dp, *buf = qpack + rows * D;
    struct kvt_sums sums = kvt_sums_of(p, h, strip);
    struct kvt_tile_bins bins;
    if (p->columns)
        memset(p->unit + (size_t)(h * p->strips + strip) * p->unit_bytes, 0, p->unit_bytes);
    for (int t0 = row0; t0 < row1; t0 += KVT_TILE_ROWS) {
        struct kvt_attn_tile t = {
            .c = a->cache, .cell = kvt_cell_at(a->cache, a->branch[0], a->layer, g),
            .q = a->q + ((size_t)t0 * (size_t)a->H + (size_t)h) * D, .q_ld = (size_t)a->H * D,
            .rows = row1 - t0 < KVT_TILE_ROWS ? row1 - t0 : KVT_TILE_ROWS, .seen = p->seen + (size_t)g * (size_t)a->T + t0,
            .from = p->from ? p->from + (size_t)g * (size_t)a->T + t0 : NULL, .scale = a->scale, .cap = a->cap, .s = s, .s_ld = p->s_ld, .inv = inv,
            .entropy = see->entropy || see->keys ? entropy : NULL, .o = o, .qpack = qpack, .buf = buf,
        };
        for (int r = 0; r < t.rows; r++)
            t.n = t.seen[r] > t.n ? t.seen[r] : t.n;
        if (t.from) /* ascending, as rows are */
            t.lo = t.from[0] / KVT_TILE_KEYS * KVT_TILE_KEYS;
        kvt_see_begin(p, &t, &sums, a->pos[t0], &bins);
        p->kernel->scores(&t);
        p->kernel->softmax(&t);
        kvt_see_rows(p, &t, &sums, t0);
        memset(o, 0, rows * Dp * sizeof *o);
        for (int key = t.lo, end; key < t.n; key = end) {
            end = key + block < t.n ? key + block : t.n;
            if (p->columns)
                kvt_see_block(p, &t, &sums, &bins, key, end);
            p->kernel->values(&t, key, end);
        }
        for (int r = 0; r < t.rows; r++) {
            float *out = a->out + ((size_t)(t0 + r) * (size_t)a->H + (size_t)h) * D;
            for (size_t d = 0; d < D; d++)
                out[d] = o[(size_t)r * Dp + d] * inv[r];
        }
    }
}

/* What is asked of sums over rows. */
static void plan_columns(struct kvt_tiles *p)
{
    const struct kvt_see *see = p->see;
    p->squares = see->n_squares > 0;
    p->maxima = see->max != NULL;
    p->pool = see->pool_mean || see->pool_max;
    p->columns = see->mass || see->n_windows || p->squares || see->max || see->later || p->pool || see->spans || see->distance || see->offset;
    if (see->distance && kvt_distance_bins(see->n_rows) > 10)
        p->bins = kvt_distance_bins(see->n_rows) - 10;
}

static int strip_rows(int T)
{
    int tiles = (T + KVT_TILE_ROWS - 1) / KVT_TILE_ROWS;
    return (tiles + STRIPS - 1) / STRIPS * KVT_TILE_ROWS;
}

void kvt_cpu_row_sums(int T, uint8_t *level)
{
    for (int t = 0; t < T; t++)
        level[t] = (uint8_t)((t % KVT_TILE_ROWS == 0) + (t % strip_rows(T) == 0));
}

int kvt_attn_by_tiles(struct kvt_dev *dev, const struct kvt_attn_kernel *kernel, const struct kvt_attn_args *a)
{
    const struct kvt_cache *c = a->cache;
    struct kvt_see see = {0};
    if (a->see)
        see = *a->see;
    if (!see.pool_mean && !see.pool_max)
        see.R = see.C = 0;
    struct kvt_tiles p = {.kernel = kernel, .a = a, .see = &see, .D = c->o.D, .Dp = kvt_attn_dp(c->o.D)};
    plan_columns(&p);
    p.strip_rows = strip_rows(a->T);
    p.strips = (a->T + p.strip_rows - 1) / p.strip_rows;
    if (p.columns || see.local || see.top)
        for (int t = 0; t < a->T; t++)
            assert(a->pos[t] == a->pos[0] + t && a->pos[t] < see.n_rows); /* consecutive rows of a prefill */
    assert(!see.row_heads || a->H <= 64);
    int most = 0;
    for (int g = 0; g < c->o.G; g++) {
        int n = kvt_cell_at(c, a->branch[0], a->layer, g)->n;
        most = n > most ? n : most;
    }
    p.ldn = ((size_t)most + 15) & ~(size_t)15;
    /* an odd number of cache lines, so that the rows of a tile don't fall into the same sets */
    p.s_ld = (((size_t)most + 31) & ~(size_t)31) + KVT_LANES;
    /* memory: seen, edges, units, threads */
    size_t head_bytes = ((size_t)c->o.G * (size_t)a->T * (a->window ? 2 : 1) + (size_t)see.C + 1 + p.ldn / KVT_LANES) * sizeof(int32_t);
    head_bytes = (head_bytes + 63) & ~(size_t)63;
    p.unit_bytes = (kvt_sums_bytes(&p) + 63) & ~(size_t)63;
    p.thread_bytes = (KVT_TILE_ROWS * (p.s_ld + 2 + (size_t)p.Dp + (size_t)p.D) + KVT_TILE_KEYS * (size_t)p.Dp) * sizeof(float);
    p.thread_bytes = (p.thread_bytes + 63) & ~(size_t)63;
    size_t units = (size_t)a->H * (size_t)p.strips;
    char *mem = kvt_dev_scratch(dev, head_bytes + units * p.unit_bytes + (size_t)dev->threads * p.thread_bytes);
    if (!mem)
        return KVT_ENOMEM;
    int32_t *seen = (int32_t *)mem, *from = seen + (size_t)c->o.G * (size_t)a->T;
    int32_t *edge = a->window ? from + (size_t)c->o.G * (size_t)a->T : from, *first = edge + see.C + 1;
    p.seen = seen;
    p.from = a->window ? from : NULL;
    p.edge = edge;
    p.first = first;
    p.unit = mem + head_bytes;
    p.mine = p.unit + units * p.unit_bytes;
    for (int g = 0; g < c->o.G; g++)
        for (int t = 0; t < a->T; t++, seen++) {
            *seen = kvt_cell_seen(c, kvt_cell_at(c, a->branch[0], a->layer, g), a->pos[t]);
            p.n = *seen > p.n ? *seen : p.n;
            if (a->window)
                *from++ = kvt_cell_seen(c, kvt_cell_at(c, a->branch[0], a->layer, g), a->pos[t] - a->window);
        }
    for (int i = 0; i <= see.C && p.pool; i++)
        edge[i] = (int32_t)(((int64_t)i * see.n_rows + see.C - 1) / see.C);
    for (int i = 0; i < (int)p.ldn / KVT_LANES && p.pool; i++)
        first[i] = (int32_t)((int64_t)i * KVT_LANES * see.C / see.n_rows);
#pragma omp parallel num_threads(dev->threads)
    {
#pragma omp for schedule(dynamic, 1)
        for (int u = 0; u < (int)units; u++) /* the longest rows first */
            run_unit(&p, u % a->H, p.strips - 1 - u / a->H, omp_get_thread_num());
#pragma omp for schedule(static)
        for (int h = 0; h < a->H; h++)
            if (p.columns)
                kvt_see_join(&p, h);
    }
    return 0;
}

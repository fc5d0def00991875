/* score on the cpu: cells page by page, products in the tiles of attention. What is summed over slots has lanes and an order
 * that n alone fixes, so no bit depends on threads. */
#include "kernels/cpu/score.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { SLOTS = KVT_PAGE_SLOTS, WORTH_THREADS = 1 << 15 /* values; fewer aren't worth waking a thread */ };

static const struct kvt_score_kernel *kernel_of(const struct kvt_dev *dev)
{
#if defined(__x86_64__)
    if (dev->simd >= KVT_SIMD_AVX512)
        return &kvt_score_avx512;
    if (dev->simd >= KVT_SIMD_AVX2)
        return &kvt_score_avx2;
#endif
    (void)dev;
    return &kvt_score_plain;
}

static const struct kvt_cell *cell_of(const struct kvt_slots *at, int g, int *n)
{
    const struct kvt_cell *cell = kvt_cell_at(at->cache, at->branch, at->layer, g);
    *n = cell->n < at->n ? cell->n : at->n;
    return cell;
}

/* The most slots that any cell has to show. */
static int most_of(const struct kvt_slots *at, int ld)
{
    int most = 0, n;
    for (int g = 0; g < at->cache->o.G; g++) {
        cell_of(at, g, &n);
        assert(n <= ld);
        most = n > most ? n : most;
    }
    (void)ld;
    return most;
}

static int live_of(int n, int s) { return n - s < SLOTS ? n - s : SLOTS; }
static size_t whole(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* ---- norms ---- */

int kvt_cpu_norms(struct kvt_dev *dev, const struct kvt_norms_args *a)
{
    const struct kvt_score_kernel *k = kernel_of(dev);
    const struct kvt_cache *c = a->at.cache;
    int D = c->o.D, most = most_of(&a->at, a->ld), pages = kvt_page_count(most);
    size_t mine = whole((size_t)(D * SLOTS) * sizeof(float));
    char *mem = kvt_dev_scratch(dev, (size_t)dev->threads * mine);
    if (!mem)
        return KVT_ENOMEM;
    bool worth = most * c->o.G * D > WORTH_THREADS;
#pragma omp parallel for schedule(static) num_threads(dev->threads) if (worth)
    for (int i = 0; i < c->o.G * pages; i++) {
        float *page = (float *)(mem + (size_t)omp_get_thread_num() * mine), sum[SLOTS];
        int g = i / pages, s = i % pages * SLOTS, n;
        const struct kvt_cell *cell = cell_of(&a->at, g, &n);
        size_t at = (size_t)g * (size_t)a->ld + (size_t)s;
        if (s >= n)
            continue;
        if (a->key) {
            k->decode(c->o.type, kvt_page_k(c, cell->page[s / SLOTS]), (size_t)(D * SLOTS), page);
            k->column_squares(D, page, sum);
            for (int j = 0; j < live_of(n, s); j++)
                a->key[at + (size_t)j] = sqrtf(sum[j]);
        }
        if (a->value) {
            k->decode(c->o.type, kvt_page_v(c, cell->page[s / SLOTS]), (size_t)(D * SLOTS), page);
            for (int j = 0; j < live_of(n, s); j++)
                a->value[at + (size_t)j] = sqrtf(k->dot(page + j * D, page + j * D, D));
        }
    }
    return 0;
}

/* ---- KeyDiff ---- */

/* memory: a page, lanes of the mean (D, 16), the mean (D), 1 / norm of each slot. */
static void keydiff_cell(const struct kvt_keydiff_args *a, const struct kvt_score_kernel *k, int g, float *page)
{
    const struct kvt_cache *c = a->at.cache;
    int D = c->o.D, n;
    const struct kvt_cell *cell = cell_of(&a->at, g, &n);
    float *lanes = page + D * SLOTS, *mean = lanes + D * SLOTS, *inv = mean + D, *out = a->out + (size_t)g * (size_t)a->ld;
    memset(lanes, 0, (size_t)(D * SLOTS) * sizeof *lanes);
    for (int s = 0; s < n; s += SLOTS) {
        k->decode(c->o.type, kvt_page_k(c, cell->page[s / SLOTS]), (size_t)(D * SLOTS), page);
        k->column_squares(D, page, inv + s);
        for (int i = 0; i < SLOTS; i++)
            if (i < live_of(n, s)) {
                inv[s + i] = inv[s + i] > 0 ? 1.0f / sqrtf(inv[s + i]) : 0;
            } else {
                inv[s + i] = 0;
                for (int d = 0; d < D; d++)
                    page[d * SLOTS + i] = 0; /* what no slot holds may be anything, and 0 x that NaN */
            }
        k->add_scaled(D, page, inv + s, lanes);
    }
    for (int d = 0; d < D; d++) {
        float sum = 0;
        for (int i = 0; i < SLOTS; i++)
            sum += lanes[d * SLOTS + i];
        mean[d] = sum / (float)n;
    }
    float len = sqrtf(k->dot(mean, mean, D)), by = len > 0 ? -1.0f / len : 0;
    for (int s = 0; s < n; s += SLOTS) {
        float dots[SLOTS];
        k->decode(c->o.type, kvt_page_k(c, cell->page[s / SLOTS]), (size_t)(D * SLOTS), page);
        k->dot_columns(D, page, mean, dots);
        for (int i = 0; i < live_of(n, s); i++)
            out[s + i] = dots[i] * inv[s + i] * by;
    }
}

int kvt_cpu_keydiff(struct kvt_dev *dev, const struct kvt_keydiff_args *a)
{
    const struct kvt_score_kernel *k = kernel_of(dev);
    int D = a->at.cache->o.D, G = a->at.cache->o.G, most = most_of(&a->at, a->ld);
    size_t mine = whole(((size_t)(2 * D * SLOTS + D) + (size_t)kvt_page_count(most) * SLOTS) * sizeof(float));
    char *mem = kvt_dev_scratch(dev, (size_t)dev->threads * mine);
    if (!mem)
        return KVT_ENOMEM;
    bool worth = most * G * D > WORTH_THREADS;
#pragma omp parallel for schedule(dynamic, 1) num_threads(dev->threads) if (worth)
    for (int g = 0; g < G; g++)
        keydiff_cell(a, k, g, (float *)(mem + (size_t)omp_get_thread_num() * mine));
    return 0;
}

/* ---- LagKV ---- */

/* Slots [from, from + count) as rows (count, D). */
static void gather(const struct kvt_cache *c, const struct kvt_score_kernel *k, const struct kvt_cell *cell, bool value, int from,
                   int count, float *page, float *out)
{
    int D = c->o.D;
    for (int j = from; j < from + count;) {
        int slot = j % SLOTS, m = SLOTS - slot < from + count - j ? SLOTS - slot : from + count - j;
        int32_t at = cell->page[j / SLOTS];
        k->decode(c->o.type, value ? kvt_page_v(c, at) : kvt_page_k(c, at), (size_t)(D * SLOTS), page);
        if (value)
            memcpy(out, page + slot * D, (size_t)(m * D) * sizeof *out);
        else
            for (int i = 0; i < m; i++)
                for (int d = 0; d < D; d++)
                    out[i * D + d] = page[d * SLOTS + slot + i];
        out += m * D;
        j += m;
    }
}

/* memory: rows (lag, D), a page, min and 1 / range and a row (D each), scores of K and V (lag each). */
static void lag_part(const struct kvt_lag_args *a, const struct kvt_score_kernel *k, const struct kvt_cell *cell, int j0, float *rows,
                     float *out)
{
    const struct kvt_cache *c = a->at.cache;
    int D = c->o.D, lag = a->lag;
    float *page = rows + (size_t)lag * (size_t)D, *min = page + D * SLOTS, *by = min + D, *work = by + D, *score = work + D, *all = score + lag;
    for (int value = 0; value < 2; value++) {
        gather(c, k, cell, value, j0 + lag, lag, page, rows);
        k->range(D, lag, rows, min, by);
        for (int d = 0; d < D; d++)
            by[d] = by[d] > min[d] ? 1.0f / (by[d] - min[d]) : 0;
        gather(c, k, cell, value, j0, lag, page, rows);
        float most = -INFINITY, sum = 0;
        for (int i = 0; i < lag; i++) {
            score[i] = k->spread(D, rows + (size_t)i * (size_t)D, min, by, work);
            most = score[i] > most ? score[i] : most;
        }
        for (int i = 0; i < lag; i++) {
            score[i] = expf(score[i] - most);
            sum += score[i];
        }
        for (int i = 0; i < lag; i++)
            all[i] = value ? (all[i] + score[i] / sum) * 0.5f : score[i] / sum;
    }
    if (!a->rank) {
        memcpy(out, all, (size_t)lag * sizeof *out);
        return;
    }
    for (int i = 0; i < lag; i++) {
        int below = 0;
        for (int j = 0; j < i; j++)
            below += all[j] <= all[i];
        for (int j = i + 1; j < lag; j++)
            below += all[j] < all[i];
        out[i] = (float)((double)below / lag);
    }
}

int kvt_cpu_lag(struct kvt_dev *dev, const struct kvt_lag_args *a)
{
    const struct kvt_score_kernel *k = kernel_of(dev);
    const struct kvt_cache *c = a->at.cache;
    int D = c->o.D, most = most_of(&a->at, a->ld), parts = most > a->sink ? (most - a->sink) / a->lag : 0, n;
    assert(D > 1 && a->lag > 0 && a->sink >= 0);
    size_t mine = whole(((size_t)a->lag * (size_t)(D + 2) + (size_t)(D * (SLOTS + 3))) * sizeof(float));
    char *mem = kvt_dev_scratch(dev, (size_t)dev->threads * mine);
    if (!mem)
        return KVT_ENOMEM;
    for (int g = 0; g < c->o.G; g++) {
        float *out = a->out + (size_t)g * (size_t)a->ld;
        cell_of(&a->at, g, &n);
        bool enough = (n - a->sink) / a->lag >= 2;
        for (int j = 0; j < n; j++)
            out[j] = j < a->sink || enough ? 1 : (float)((double)(j - a->sink) / (n - a->sink));
    }
    if (parts < 2)
        return 0;
    bool worth = most * c->o.G * D > WORTH_THREADS;
#pragma omp parallel for schedule(dynamic, 1) num_threads(dev->threads) if (worth)
    for (int i = 0; i < c->o.G * (parts - 1); i++) {
        int g = i / (parts - 1), j0 = a->sink + i % (parts - 1) * a->lag, slots;
        const struct kvt_cell *cell = cell_of(&a->at, g, &slots);
        if (j0 + 2 * a->lag <= slots)
            lag_part(a, k, cell, j0, (float *)(mem + (size_t)omp_get_thread_num() * mine), a->out + (size_t)g * (size_t)a->ld + j0);
    }
    return 0;
}

/* ---- products of a head's matrix with all slots: W_O v, S k ---- */

/* left (count, D), row i at row(i), as panels of (D, rows); the last one padded with zeros. */
static void pack_row(const struct kvt_score_kernel *k, int D, int i, const float *row, float *panels)
{
    float *to = panels + (size_t)(i / k->rows) * (size_t)(D * k->rows) + i % k->rows;
    for (int d = 0; d < D; d++)
        to[d * k->rows] = row[d];
}

static int panels_of(const struct kvt_score_kernel *k, int count) { return (count + k->rows - 1) / k->rows; }

/* Rows e of W_O, columns [h D, (h + 1) D); blocks of a quantised row may begin in the head before. */
static void pack_out(const struct kvt_out_norms_args *a, const struct kvt_score_kernel *k, int D, int h, float *run, float *panels)
{
    size_t block = (size_t)kvt_dtypes[a->w.type].block_values, row_bytes = kvt_row_bytes(a->w.type, (size_t)a->w.k);
    size_t c0 = (size_t)h * (size_t)D, from = c0 / block * block, to = (c0 + (size_t)D + block - 1) / block * block;
    memset(panels, 0, (size_t)panels_of(k, a->w.n) * (size_t)(D * k->rows) * sizeof *panels);
    for (int e = 0; e < a->w.n; e++) {
        const char *row = (const char *)a->w.data + (size_t)e * row_bytes;
        kvt_dequantize(a->w.type, row + kvt_row_bytes(a->w.type, from), run, to - from);
        pack_row(k, D, e, run + (c0 - from), panels);
    }
}

static void decode_turned(const struct kvt_cache *c, const struct kvt_score_kernel *k, int32_t at, float *page, float *out)
{
    int D = c->o.D; /* V (16, D) -> (D, 16) */
    k->decode(c->o.type, kvt_page_v(c, at), (size_t)(D * SLOTS), page);
    for (int i = 0; i < SLOTS; i++)
        for (int d = 0; d < D; d++)
            out[d * SLOTS + i] = page[i * D + d];
}

int kvt_cpu_out_norms(struct kvt_dev *dev, const struct kvt_out_norms_args *a)
{
    const struct kvt_score_kernel *k = kernel_of(dev);
    const struct kvt_cache *c = a->at.cache;
    int D = c->o.D, E = a->w.n, heads = a->H / c->o.G, most = most_of(&a->at, a->ld), panels = panels_of(k, E);
    assert(a->H % c->o.G == 0 && a->w.k == a->H * D);
    size_t ld = (size_t)kvt_page_count(most) * SLOTS + SLOTS, all = whole((size_t)a->H * ld * sizeof(float));
    size_t run = (size_t)D + 2 * (size_t)kvt_dtypes[a->w.type].block_values;
    size_t mine = whole((run + (size_t)(panels * D * k->rows) + (size_t)(3 * D * SLOTS) + (size_t)(k->rows * 2 * SLOTS)) * sizeof(float));
    char *mem = kvt_dev_scratch(dev, all + (size_t)dev->threads * mine);
    if (!mem)
        return KVT_ENOMEM;
#pragma omp parallel num_threads(dev->threads)
    {
        float *part = (float *)(mem + all + (size_t)omp_get_thread_num() * mine), *left = part + run, *page = left + panels * D * k->rows;
        float *block = page + D * SLOTS, *y = block + 2 * D * SLOTS;
#pragma omp for schedule(dynamic, 1)
        for (int h = 0; h < a->H; h++) {
            int n;
            const struct kvt_cell *cell = cell_of(&a->at, h / heads, &n);
            float *sum = (float *)mem + (size_t)h * ld;
            pack_out(a, k, D, h, part, left);
            memset(sum, 0, ld * sizeof *sum);
            for (int s = 0; s < n; s += 2 * SLOTS) {
                decode_turned(c, k, cell->page[s / SLOTS], page, block);
                bool two = s + SLOTS < n; /* without a second page the first again, into columns that nobody reads */
                if (two)
                    decode_turned(c, k, cell->page[s / SLOTS + 1], page, block + D * SLOTS);
                for (int p = 0; p < panels; p++) {
                    k->products(D, left + (size_t)p * (size_t)(D * k->rows), block, two ? block + D * SLOTS : block, y);
                    k->abs_sums(k->rows, y, sum + s);
                }
            }
        }
#pragma omp for schedule(static)
        for (int g = 0; g < c->o.G; g++) {
            int n;
            cell_of(&a->at, g, &n);
            for (int j = 0; j < n; j++) {
                float sum = 0;
                for (int h = g * heads; h < (g + 1) * heads; h++)
                    sum += ((float *)mem)[(size_t)h * ld + (size_t)j];
                a->out[(size_t)g * (size_t)a->ld + (size_t)j] = sum / (float)heads;
            }
        }
    }
    return 0;
}

/* ---- Expected Attention ---- */

/* Rows less their mean as `parts` blocks of (T, width), zeros behind D. */
static void centre(const float *q, size_t q_ld, int T, int D, const double *mean, int width, int parts, float *out)
{
    for (int p = 0; p < parts; p++) {
        int d0 = p * width, live = D - d0 < width ? D - d0 > 0 ? D - d0 : 0 : width;
        float less[32];
        for (int i = 0; i < live; i++)
            less[i] = (float)mean[d0 + i];
        for (int t = 0; t < T; t++, out += width) {
            const float *x = q + (size_t)t * q_ld + d0;
            for (int i = 0; i < live; i++)
                out[i] = x[i] - less[i];
            for (int i = live; i < width; i++)
                out[i] = 0;
        }
    }
}

/* memory: double mean (D); the run centred, in blocks of 16 columns and in panels of k->rows; a tile. */
static void stats_head(const struct kvt_query_stats_args *a, const struct kvt_score_kernel *k, int h, double *mean)
{
    int D = a->D, T = a->T, blocks = (D + 31) / 32 * 2, panels = panels_of(k, D);
    float *block = (float *)(mean + D), *panel = block + (size_t)blocks * (size_t)T * SLOTS, *y = panel + (size_t)(panels * k->rows) * (size_t)T;
    float *old = a->mean + (size_t)h * (size_t)D, *scatter = a->scatter + (size_t)h * (size_t)D * (size_t)D;
    const float *q = a->q + (size_t)h * (size_t)D;
    size_t q_ld = (size_t)a->H * (size_t)D;
    for (int d = 0; d < D; d++)
        mean[d] = 0;
    for (int t = 0; t < T; t++)
        for (int d = 0; d < D; d++)
            mean[d] += q[(size_t)t * q_ld + (size_t)d];
    for (int d = 0; d < D; d++)
        mean[d] /= T;
    centre(q, q_ld, T, D, mean, SLOTS, blocks, block);
    centre(q, q_ld, T, D, mean, k->rows, panels, panel);
    double share = (double)T / ((double)a->seen + T);
    for (int d = 0; d < D; d++) /* from here on mean is what this run's lies off */
        mean[d] -= a->seen ? old[d] : 0;
    for (int i0 = 0; i0 < D; i0 += k->rows)
        for (int j0 = 0; j0 < D; j0 += 2 * SLOTS) {
            if (j0 + 2 * SLOTS <= i0)
                continue; /* below the diagonal: the mirror image */
            const float *b0 = block + (size_t)(j0 / SLOTS) * (size_t)T * SLOTS;
            k->products(T, panel + (size_t)i0 * (size_t)T, b0, b0 + (size_t)T * SLOTS, y);
            for (int i = i0; i < i0 + k->rows && i < D; i++)
                for (int j = j0 > i ? j0 : i; j < j0 + 2 * SLOTS && j < D; j++) {
                    double between = a->seen ? scatter[i * D + j] + mean[i] * mean[j] * a->seen * share : 0;
                    scatter[i * D + j] = scatter[j * D + i] = (float)(between + y[(i - i0) * 2 * SLOTS + j - j0]);
                }
        }
    for (int d = 0; d < D; d++)
        old[d] = (float)(a->seen ? old[d] + mean[d] * share : mean[d]);
}

int kvt_cpu_query_stats(struct kvt_dev *dev, const struct kvt_query_stats_args *a)
{
    const struct kvt_score_kernel *k = kernel_of(dev);
    size_t D = (size_t)a->D, columns = (D + 31) / 32 * 32 + (size_t)(panels_of(k, a->D) * k->rows);
    size_t mine = whole(D * sizeof(double) + (columns * (size_t)a->T + (size_t)(k->rows * 2 * SLOTS)) * sizeof(float));
    if (a->T <= 0)
        return 0;
    char *mem = kvt_dev_scratch(dev, (size_t)dev->threads * mine);
    if (!mem)
        return KVT_ENOMEM;
#pragma omp parallel for schedule(dynamic, 1) num_threads(dev->threads)
    for (int h = 0; h < a->H; h++)
        stats_head(a, k, h, (double *)(mem + (size_t)omp_get_thread_num() * mine));
    return 0;
}

static void turn_vector(const struct kvt_rope *rope, const float *turn, float *x, int stride)
{
    for (int i = 0; i < rope->rot / 2; i++) {
        int a = rope->halves ? i : 2 * i, b = rope->halves ? i + rope->rot / 2 : 2 * i + 1;
        float xa = x[a * stride], xb = x[b * stride];
        x[a * stride] = xa * turn[2 * i] - xb * turn[2 * i + 1];
        x[b * stride] = xb * turn[2 * i] + xa * turn[2 * i + 1];
    }
}

/* score (n rounded up to 32) of one head, then its softmax in place. memory: m (D), S (D, D), its panels, two pages, a tile. */
static void expected_head(const struct kvt_expected_args *a, const struct kvt_score_kernel *k, int h, const float *turn, float *m,
                          float *score)
{
    const struct kvt_cache *c = a->at.cache;
    int D = c->o.D, n, panels = panels_of(k, D), padded = panels * k->rows;
    const struct kvt_cell *cell = cell_of(&a->at, h / (a->H / c->o.G), &n);
    float *S = m + padded, *left = S + D * D, *key = left + (size_t)padded * (size_t)D, *y = key + 2 * padded * SLOTS;
    memset(m, 0, (size_t)padded * sizeof *m);
    memcpy(m, a->mean + (size_t)h * (size_t)D, (size_t)D * sizeof *m);
    turn_vector(&a->rope, turn, m, 1);
    for (int d = 0; d < D; d++)
        m[d] *= a->scale;
    if (a->scatter) {
        float by = 1.0f / (float)a->rows;
        const float *scatter = a->scatter + (size_t)h * (size_t)D * (size_t)D;
        for (int i = 0; i < D * D; i++)
            S[i] = scatter[i] * by;
        for (int i = 0; i < D; i++)
            turn_vector(&a->rope, turn, S + i * D, 1);
        for (int i = 0; i < D; i++)
            turn_vector(&a->rope, turn, S + i, D);
        memset(left, 0, (size_t)padded * (size_t)D * sizeof *left);
        for (int i = 0; i < D; i++)
            pack_row(k, D, i, S + i * D, left);
    }
    memset(score, 0, (size_t)((n + 31) & ~31) * sizeof *score);
    memset(y, 0, (size_t)(k->rows * 2 * SLOTS) * sizeof *y);
    memset(key, 0, (size_t)(2 * padded * SLOTS) * sizeof *key); /* rows past D stay 0 */
    float *key1 = key + padded * SLOTS;
    for (int s = 0; s < n; s += 2 * SLOTS) {
        k->decode(c->o.type, kvt_page_k(c, cell->page[s / SLOTS]), (size_t)(D * SLOTS), key);
        if (s + SLOTS < n)
            k->decode(c->o.type, kvt_page_k(c, cell->page[s / SLOTS + 1]), (size_t)(D * SLOTS), key1);
        for (int p = 0; p < panels; p++) {
            int i = p * k->rows;
            if (a->scatter)
                k->products(D, left + (size_t)i * (size_t)D, key, key1, y);
            k->quadratic(k->rows, y, m + i, a->scale * a->scale / 2, key + i * SLOTS, key1 + i * SLOTS, score + s);
        }
    }
    float most = -INFINITY, sum = 0;
    for (int j = a->sink; j < n; j++)
        most = score[j] > most ? score[j] : most;
    for (int j = a->sink; j < n; j++) {
        score[j] = expf(score[j] - most);
        sum += score[j];
    }
    for (int j = 0; j < n; j++)
        score[j] = j < a->sink ? 0 : score[j] / sum;
}

int kvt_cpu_expected(struct kvt_dev *dev, const struct kvt_expected_args *a)
{
    const struct kvt_score_kernel *k = kernel_of(dev);
    const struct kvt_cache *c = a->at.cache;
    int D = c->o.D, heads = a->H / c->o.G, most = most_of(&a->at, a->ld);
    assert(a->H % c->o.G == 0 && a->sink >= 0 && (!a->scatter || a->rows > 0));
    assert(a->ahead > 0 && a->from >= 0 && (a->rope.rot == 0 || a->from + a->ahead <= a->rope.n_pos));
    size_t ld = (size_t)((most + 31) & ~31), all = whole((size_t)a->H * ld * sizeof(float)), padded = (size_t)(panels_of(k, D) * k->rows);
    size_t turned = whole((size_t)a->rope.rot * sizeof(float));
    size_t mine = whole((padded + (size_t)D * ((size_t)D + padded) + 2 * padded * SLOTS + (size_t)(k->rows * 2 * SLOTS)) * sizeof(float));
    char *mem = kvt_dev_scratch(dev, all + turned + (size_t)dev->threads * mine);
    if (!mem)
        return KVT_ENOMEM;
    float *turn = (float *)(mem + all);
    for (int i = 0; i < a->rope.rot; i++) { /* the mean rotation: cos and sin of each pair */
        double sum = 0;
        for (int p = a->from; p < a->from + a->ahead; p++)
            sum += a->rope.table[(size_t)p * (size_t)a->rope.rot + (size_t)i];
        turn[i] = (float)(sum / a->ahead);
    }
#pragma omp parallel num_threads(dev->threads)
    {
#pragma omp for schedule(dynamic, 1)
        for (int h = 0; h < a->H; h++)
            expected_head(a, k, h, turn, (float *)(mem + all + turned + (size_t)omp_get_thread_num() * mine), (float *)mem + (size_t)h * ld);
#pragma omp for schedule(static)
        for (int g = 0; g < c->o.G; g++) {
            int n;
            cell_of(&a->at, g, &n);
            for (int j = 0; j < n; j++) {
                float sum = 0;
                for (int h = g * heads; h < (g + 1) * heads; h++)
                    sum += ((float *)mem)[(size_t)h * ld + (size_t)j];
                a->out[(size_t)g * (size_t)a->ld + (size_t)j] = sum / (float)heads;
            }
        }
    }
    return 0;
}

/* score, by definition: one slot, one head at a time, in double, rounded once at the end. */
#include "kernels/ref/ref.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/pages.h"

enum { SLOTS = KVT_PAGE_SLOTS };

static const struct kvt_cell *cell_of(const struct kvt_slots *at, int g, int *n)
{
    const struct kvt_cell *cell = kvt_cell_at(at->cache, at->branch, at->layer, g);
    *n = cell->n < at->n ? cell->n : at->n;
    return cell;
}

/* Key or value of slot j, decoded: (D) into f and from there into x. */
static void row_of(const struct kvt_cache *c, const struct kvt_cell *cell, int j, bool value, float *f, double *x)
{
    int32_t page = cell->page[j / SLOTS];
    size_t slot = (size_t)(j % SLOTS), D = (size_t)c->o.D;
    if (value)
        kvt_pages_decode(c, kvt_page_v(c, page), slot * D, 1, c->o.D, f);
    else
        kvt_pages_decode(c, kvt_page_k(c, page), slot, SLOTS, c->o.D, f);
    for (size_t d = 0; d < D; d++)
        x[d] = f[d];
}

static double norm(const double *x, int D)
{
    double sum = 0;
    for (int d = 0; d < D; d++)
        sum += x[d] * x[d];
    return sqrt(sum);
}

int kvt_ref_norms(struct kvt_dev *dev, const struct kvt_norms_args *a)
{
    const struct kvt_cache *c = a->at.cache;
    int D = c->o.D, n;
    double *x = kvt_dev_scratch(dev, (size_t)D * (sizeof(double) + sizeof(float)));
    if (!x)
        return KVT_ENOMEM;
    float *f = (float *)(x + D);
    for (int g = 0; g < c->o.G; g++) {
        const struct kvt_cell *cell = cell_of(&a->at, g, &n);
        assert(n <= a->ld);
        for (int j = 0; j < n; j++)
            for (int value = 0; value < 2; value++) {
                float *out = value ? a->value : a->key;
                if (!out)
                    continue;
                row_of(c, cell, j, value, f, x);
                out[(size_t)g * (size_t)a->ld + (size_t)j] = (float)norm(x, D);
            }
    }
    return 0;
}

int kvt_ref_keydiff(struct kvt_dev *dev, const struct kvt_keydiff_args *a)
{
    const struct kvt_cache *c = a->at.cache;
    int D = c->o.D, n;
    double *x = kvt_dev_scratch(dev, (size_t)D * (2 * sizeof(double) + sizeof(float))), *mean = x + D;
    if (!x)
        return KVT_ENOMEM;
    float *f = (float *)(mean + D);
    for (int g = 0; g < c->o.G; g++) {
        const struct kvt_cell *cell = cell_of(&a->at, g, &n);
        assert(n <= a->ld);
        memset(mean, 0, (size_t)D * sizeof *mean);
        for (int j = 0; j < n; j++) {
            row_of(c, cell, j, false, f, x);
            double len = norm(x, D);
            for (int d = 0; d < D; d++)
                mean[d] += len > 0 ? x[d] / len / n : 0;
        }
        double mean_len = norm(mean, D);
        for (int j = 0; j < n; j++) {
            row_of(c, cell, j, false, f, x);
            double dot = 0, len = norm(x, D);
            for (int d = 0; d < D; d++)
                dot += x[d] * mean[d];
            a->out[(size_t)g * (size_t)a->ld + (size_t)j] = len > 0 && mean_len > 0 ? (float)(-dot / (len * mean_len)) : 0;
        }
    }
    return 0;
}

/* ---- LagKV ---- */

/* out (lag): softmax, over the slots of a partition that starts at slot j0, of their deviations under the range of the next. */
static void lag_part(const struct kvt_lag_args *a, const struct kvt_cell *cell, int j0, bool value, float *f, double *x, double *out)
{
    const struct kvt_cache *c = a->at.cache;
    int D = c->o.D;
    double *min = x + D, *max = min + D, most = -INFINITY, sum = 0;
    for (int i = 0; i < a->lag; i++) {
        row_of(c, cell, j0 + a->lag + i, value, f, x);
        for (int d = 0; d < D; d++) {
            min[d] = i && min[d] < x[d] ? min[d] : x[d];
            max[d] = i && max[d] > x[d] ? max[d] : x[d];
        }
    }
    for (int i = 0; i < a->lag; i++) {
        row_of(c, cell, j0 + i, value, f, x);
        double mean = 0, square = 0;
        for (int d = 0; d < D; d++) {
            x[d] = max[d] > min[d] ? (x[d] - min[d]) / (max[d] - min[d]) : 0;
            mean += x[d] / D;
        }
        for (int d = 0; d < D; d++)
            square += (x[d] - mean) * (x[d] - mean);
        out[i] = sqrt(square / (D - 1));
        most = out[i] > most ? out[i] : most;
    }
    for (int i = 0; i < a->lag; i++) {
        out[i] = exp(out[i] - most);
        sum += out[i];
    }
    for (int i = 0; i < a->lag; i++)
        out[i] /= sum;
}

int kvt_ref_lag(struct kvt_dev *dev, const struct kvt_lag_args *a)
{
    const struct kvt_cache *c = a->at.cache;
    int D = c->o.D, n;
    assert(D > 1 && a->lag > 0 && a->sink >= 0);
    double *x = kvt_dev_scratch(dev, (3 * (size_t)D + 2 * (size_t)a->lag) * sizeof(double) + (size_t)D * sizeof(float));
    if (!x)
        return KVT_ENOMEM;
    double *key = x + 3 * D, *value = key + a->lag;
    float *f = (float *)(value + a->lag);
    for (int g = 0; g < c->o.G; g++) {
        const struct kvt_cell *cell = cell_of(&a->at, g, &n);
        float *out = a->out + (size_t)g * (size_t)a->ld;
        assert(n <= a->ld);
        int parts = n > a->sink ? (n - a->sink) / a->lag : 0;
        for (int j = 0; j < n; j++)
            out[j] = j < a->sink || parts >= 2 ? 1 : (float)((double)(j - a->sink) / (n - a->sink));
        for (int p = 0; p + 1 < parts; p++) {
            int j0 = a->sink + p * a->lag;
            lag_part(a, cell, j0, false, f, x, key);
            lag_part(a, cell, j0, true, f, x, value);
            for (int i = 0; i < a->lag; i++)
                key[i] = (float)((key[i] + value[i]) / 2); /* ranked as it is given */
            for (int i = 0; i < a->lag; i++) {
                int below = 0;
                for (int k = 0; k < a->lag; k++)
                    below += key[k] < key[i] || (key[k] == key[i] && k < i);
                out[j0 + i] = a->rank ? (float)((double)below / a->lag) : (float)key[i];
            }
        }
    }
    return 0;
}

/* ---- CriticalKV ---- */

int kvt_ref_out_norms(struct kvt_dev *dev, const struct kvt_out_norms_args *a)
{
    const struct kvt_cache *c = a->at.cache;
    int D = c->o.D, E = a->w.n, n, heads = a->H / c->o.G;
    assert(a->H % c->o.G == 0 && a->w.k == a->H * D);
    size_t K = (size_t)a->w.k, row_bytes = kvt_row_bytes(a->w.type, K);
    double *x = kvt_dev_scratch(dev, (size_t)D * sizeof(double) + ((size_t)D + (size_t)E * K) * sizeof(float));
    if (!x)
        return KVT_ENOMEM;
    float *f = (float *)(x + D), *w = f + D;
    for (int e = 0; e < E; e++)
        kvt_dequantize(a->w.type, (const char *)a->w.data + (size_t)e * row_bytes, w + (size_t)e * K, K);
    for (int g = 0; g < c->o.G; g++) {
        const struct kvt_cell *cell = cell_of(&a->at, g, &n);
        assert(n <= a->ld);
        for (int j = 0; j < n; j++) {
            double sum = 0;
            row_of(c, cell, j, true, f, x);
            for (int h = g * heads; h < (g + 1) * heads; h++)
                for (int e = 0; e < E; e++) {
                    double y = 0;
                    for (int d = 0; d < D; d++)
                        y += w[(size_t)e * K + (size_t)(h * D + d)] * x[d];
                    sum += fabs(y);
                }
            a->out[(size_t)g * (size_t)a->ld + (size_t)j] = (float)(sum / heads);
        }
    }
    return 0;
}

/* ---- Expected Attention ---- */

int kvt_ref_query_stats(struct kvt_dev *dev, const struct kvt_query_stats_args *a)
{
    size_t D = (size_t)a->D, H = (size_t)a->H;
    double *mean = kvt_dev_scratch(dev, 2 * D * sizeof *mean), *off = mean + D;
    if (!mean)
        return KVT_ENOMEM;
    double all = (double)a->seen + a->T;
    for (size_t h = 0; h < H && a->T > 0; h++) {
        float *old = a->mean + h * D, *scatter = a->scatter + h * D * D;
        memset(mean, 0, D * sizeof *mean);
        for (size_t t = 0; t < (size_t)a->T; t++)
            for (size_t d = 0; d < D; d++)
                mean[d] += a->q[(t * H + h) * D + d] / (double)a->T;
        for (size_t d = 0; d < D; d++)
            off[d] = a->seen ? mean[d] - old[d] : 0;
        /* two runs: their own scatters, and that of their means (Chan, Golub, LeVeque 1979, eq. 2.1) */
        for (size_t i = 0; i < D; i++)
            for (size_t j = 0; j < D; j++) {
                double sum = a->seen ? scatter[i * D + j] + off[i] * off[j] * a->seen * (a->T / all) : 0;
                for (size_t t = 0; t < (size_t)a->T; t++)
                    sum += (a->q[(t * H + h) * D + i] - mean[i]) * (a->q[(t * H + h) * D + j] - mean[j]);
                scatter[i * D + j] = (float)sum;
            }
        for (size_t d = 0; d < D; d++)
            old[d] = (float)(a->seen ? old[d] + off[d] * (a->T / all) : mean[d]);
    }
    return 0;
}

/* The mean rotation of positions [from, from + ahead): cos and sin of each pair. */
static void mean_turn(const struct kvt_expected_args *a, double *turn)
{
    assert(a->ahead > 0 && a->from >= 0 && (a->rope.rot == 0 || a->from + a->ahead <= a->rope.n_pos));
    for (int i = 0; i < a->rope.rot; i++) {
        turn[i] = 0;
        for (int p = a->from; p < a->from + a->ahead; p++)
            turn[i] += a->rope.table[(size_t)p * (size_t)a->rope.rot + (size_t)i] / (double)a->ahead;
    }
}

static void turn_vector(const struct kvt_rope *rope, const double *turn, double *x, int stride)
{
    for (int i = 0; i < rope->rot / 2; i++) {
        int a = rope->halves ? i : 2 * i, b = rope->halves ? i + rope->rot / 2 : 2 * i + 1;
        double xa = x[a * stride], xb = x[b * stride];
        x[a * stride] = xa * turn[2 * i] - xb * turn[2 * i + 1];
        x[b * stride] = xb * turn[2 * i] + xa * turn[2 * i + 1];
    }
}

int kvt_ref_expected(struct kvt_dev *dev, const struct kvt_expected_args *a)
{
    const struct kvt_cache *c = a->at.cache;
    int D = c->o.D, n, heads = a->H / c->o.G, most = 0;
    assert(a->H % c->o.G == 0 && a->sink >= 0 && (!a->scatter || a->rows > 0));
    for (int g = 0; g < c->o.G; g++) {
        cell_of(&a->at, g, &n);
        most = n > most ? n : most;
    }
    assert(most <= a->ld);
    size_t d = (size_t)D;
    double *x = kvt_dev_scratch(dev, (3 * d + d * d + 2 * (size_t)most) * sizeof(double) + d * sizeof(float));
    if (!x)
        return KVT_ENOMEM;
    double *turn = x + D, *m = turn + D, *S = m + D, *p = S + D * D, *mean = p + most;
    float *f = (float *)(mean + most);
    mean_turn(a, turn);
    for (int g = 0; g < c->o.G; g++) {
        const struct kvt_cell *cell = cell_of(&a->at, g, &n);
        memset(mean, 0, (size_t)most * sizeof *mean);
        for (int h = g * heads; h < (g + 1) * heads; h++) {
            for (int i = 0; i < D; i++)
                m[i] = a->mean[h * D + i];
            turn_vector(&a->rope, turn, m, 1);
            for (int i = 0; i < D * D; i++)
                S[i] = a->scatter ? a->scatter[(size_t)h * d * d + (size_t)i] / (double)a->rows : 0;
            for (int i = 0; i < D; i++) /* S R': each row turned; then R of that: each column */
                turn_vector(&a->rope, turn, S + i * D, 1);
            for (int i = 0; i < D; i++)
                turn_vector(&a->rope, turn, S + i, D);
            double max = -INFINITY, sum = 0, s = a->scale;
            for (int j = a->sink; j < n; j++) {
                double lin = 0, quad = 0;
                row_of(c, cell, j, false, f, x);
                for (int i = 0; i < D; i++) {
                    lin += m[i] * x[i];
                    for (int k = 0; k < D; k++)
                        quad += x[i] * S[i * D + k] * x[k];
                }
                p[j] = lin * s + quad * s * s / 2;
                max = p[j] > max ? p[j] : max;
            }
            for (int j = a->sink; j < n; j++)
                sum += exp(p[j] - max);
            for (int j = a->sink; j < n; j++)
                mean[j] += exp(p[j] - max) / sum / heads;
        }
        for (int j = 0; j < n; j++)
            a->out[(size_t)g * (size_t)a->ld + (size_t)j] = (float)mean[j];
    }
    return 0;
}

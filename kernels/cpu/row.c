/* reduce_row: heads in parallel. Sums are taken in 16 lanes of double in a fixed order, logarithms 16 at a time; the loops are written once
 * and compiled for each vector level, as in elem.c. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/exp.h"
#include "kernels/cpu/simd.h"

enum { LANES = 16, WORTH_THREADS = 1 << 14 /* values; below it waking a thread costs more than it saves */ };

/* ln x of a normal x, relative error below 2e-7: Cephes' polynomial around 1 (S. Moshier). */
BODY float log_body(float x)
{
    uint32_t bits = kvt_bits_from_f32(x);
    float e = (float)((int32_t)(bits >> 23) - 126), m = kvt_f32_from_bits((bits & 0x007fffffu) | 0x3f000000u); /* [1/2, 1) */
    bool low = m < 0.70710678f;
    e -= where(low, 1.0f);
    m = m + where(low, m) - 1.0f;
    float z = m * m, p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    return m + (p * m * z - 2.12194440e-4f * e - 0.5f * z) + 0.693359375f * e;
}

BODY double sum_lanes(double *lane)
{
    for (int width = LANES / 2; width; width /= 2)
        for (int j = 0; j < width; j++)
            lane[j] += lane[j + width];
    return lane[0];
}

BODY double sum_body(const float *x, int n)
{
    double lane[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += (double)x[i + j];
    for (; i < n; i++)
        lane[i % LANES] += (double)x[i];
    return sum_lanes(lane);
}

/* -sum p ln p; what is below the smallest normal number adds less than 1e-36 and counts as 0. */
BODY double entropy_body(const float *x, int n)
{
    double lane[LANES] = {0};
    float t[LANES];
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int j = 0; j < LANES; j++)
            t[j] = where(x[i + j] >= 0x1p-126f, x[i + j] * log_body(x[i + j]));
        for (int j = 0; j < LANES; j++)
            lane[j] -= (double)t[j];
    }
    for (; i < n; i++)
        lane[i % LANES] -= (double)where(x[i] >= 0x1p-126f, x[i] * log_body(x[i]));
    return sum_lanes(lane);
}

/* Of equal ones the earlier first; 16 at a time are passed over where none of them is large enough. */
BODY void top_body(const float *x, int n, int k, float *top, int32_t *top_at)
{
    int held = 0;
    for (int i = 0; i < n; i += LANES) {
        int end = n - i < LANES ? n : i + LANES, any = end - i < LANES;
        float least = held == k ? top[k - 1] : 0;
        for (int j = 0; end - i == LANES && j < LANES; j++)
            any |= x[i + j] > least;
        for (int j = i; any && j < end; j++) {
            if (!(x[j] > (held == k ? top[k - 1] : 0)))
                continue;
            int at = held < k ? held++ : k - 1;
            for (; at && x[j] > top[at - 1]; at--)
                top[at] = top[at - 1], top_at[at] = top_at[at - 1];
            top[at] = x[j], top_at[at] = j;
        }
    }
    for (; held < k; held++)
        top[held] = 0, top_at[held] = -1;
}

BODY void set(float *to, int h, double value)
{
    if (to)
        to[h] = (float)value;
}

BODY void head_body(const struct kvt_reduce_row_args *a, int h)
{
    const float *row = a->row + (size_t)h * (size_t)a->ld;
    int n = a->n, local = n > a->n_local ? n - a->n_local : 0;
    double entropy = a->entropy || a->keys ? entropy_body(row, n) : 0;
    set(a->entropy, h, entropy);
    set(a->keys, h, exp(entropy));
    set(a->first, h, row[0]);
    set(a->sink, h, sum_body(row, a->n_sink < n ? a->n_sink : n));
    set(a->local, h, sum_body(row + local, n - local));
    set(a->own, h, a->n_prompt < n ? sum_body(row + a->n_prompt, n - a->n_prompt) : 0);
    for (int b = 0; a->distance && b < a->n_distances; b++) {
        int from = kvt_distance_start(b), to = b + 1 < a->n_distances ? kvt_distance_start(b + 1) : n, first = to < n ? n - to : 0;
        a->distance[h * a->n_distances + b] = n - from > first ? (float)sum_body(row + first, n - from - first) : 0;
    }
    for (int i = 0; a->offset && i < a->n_offsets; i++)
        a->offset[h * a->n_offsets + i] = a->offset_at[i] < n ? row[n - 1 - a->offset_at[i]] : NAN;
    for (int i = 0; a->spans && i < a->n_spans; i++) {
        int from = a->span[2 * i], to = a->span[2 * i + 1] < n ? a->span[2 * i + 1] : n;
        a->spans[h * a->n_spans + i] = to > from ? (float)sum_body(row + from, to - from) : 0;
    }
    if (a->top)
        top_body(row, n, a->top_k, a->top + h * a->top_k, a->top_at + h * a->top_k);
}

static void head_plain(const struct kvt_reduce_row_args *a, int h) { head_body(a, h); }
#ifdef KVT_X86
static KVT_AVX2 void head_avx2(const struct kvt_reduce_row_args *a, int h) { head_body(a, h); }
static KVT_AVX512 void head_avx512(const struct kvt_reduce_row_args *a, int h) { head_body(a, h); }
#endif

int kvt_cpu_reduce_row(struct kvt_dev *dev, const struct kvt_reduce_row_args *a)
{
    void (*head)(const struct kvt_reduce_row_args *, int) = head_plain;
#ifdef KVT_X86
    head = dev->simd >= KVT_SIMD_AVX512 ? head_avx512 : dev->simd >= KVT_SIMD_AVX2 ? head_avx2 : head_plain;
#endif
    bool worth = a->H * a->n > WORTH_THREADS;
    #pragma omp parallel for num_threads(dev->threads) schedule(static) if (worth)
    for (int h = 0; h < a->H; h++)
        head(a, h);
    return 0;
}

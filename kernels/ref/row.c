/* reduce_row, the definition: sums of one row, in double. */
#include <math.h>

#include "kernels/ref/ref.h"

static double sum_of(const float *row, int from, int to)
{
    double sum = 0;
    for (int j = from; j < to; j++)
        sum += row[j];
    return sum;
}

static void top_of(const float *row, int n, int k, float *top, int32_t *top_at)
{
    int held = 0;
    for (int j = 0; j < n; j++) {
        if (!(row[j] > 0) || (held == k && !(row[j] > top[k - 1])))
            continue;
        int at = held < k ? held++ : k - 1;
        for (; at && row[j] > top[at - 1]; at--)
            top[at] = top[at - 1], top_at[at] = top_at[at - 1];
        top[at] = row[j], top_at[at] = j;
    }
    for (; held < k; held++)
        top[held] = 0, top_at[held] = -1;
}

static void set(float *to, int h, double value)
{
    if (to)
        to[h] = (float)value;
}

int kvt_ref_reduce_row(struct kvt_dev *dev, const struct kvt_reduce_row_args *a)
{
    (void)dev;
    for (int h = 0; h < a->H; h++) {
        const float *row = a->row + (size_t)h * (size_t)a->ld;
        double entropy = 0;
        for (int j = 0; j < a->n; j++)
            entropy -= row[j] > 0 ? row[j] * log(row[j]) : 0;
        set(a->entropy, h, entropy);
        set(a->keys, h, exp(entropy));
        set(a->first, h, row[0]);
        set(a->sink, h, sum_of(row, 0, a->n_sink < a->n ? a->n_sink : a->n));
        set(a->local, h, sum_of(row, a->n > a->n_local ? a->n - a->n_local : 0, a->n));
        set(a->own, h, sum_of(row, a->n_prompt, a->n));
        for (int b = 0; a->distance && b < a->n_distances; b++) { /* distances [from, to) */
            int from = kvt_distance_start(b), to = b + 1 < a->n_distances ? kvt_distance_start(b + 1) : a->n;
            a->distance[h * a->n_distances + b] = (float)sum_of(row, to < a->n ? a->n - to : 0, a->n - from);
        }
        for (int i = 0; a->offset && i < a->n_offsets; i++)
            a->offset[h * a->n_offsets + i] = a->offset_at[i] < a->n ? row[a->n - 1 - a->offset_at[i]] : NAN;
        for (int i = 0; a->spans && i < a->n_spans; i++)
            a->spans[h * a->n_spans + i] = (float)sum_of(row, a->span[2 * i], a->span[2 * i + 1] < a->n ? a->span[2 * i + 1] : a->n);
        if (a->top)
            top_of(row, a->n, a->top_k, a->top + h * a->top_k, a->top_at + h * a->top_k);
    }
    return 0;
}

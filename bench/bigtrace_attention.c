/* A head's attention in closed form, so that 32k x 32k rows never have to exist. Keys' weights are drawn from the head's, the shot's
 * and the token's own chance. Sums over rows are exact; entropies count the three parts as if they never overlapped, distances count
 * the weights as if they were even, and pooled maps take a bin's middle row: lifelike, and inside every bound of the format. */
#include "bigtrace.h"

#include <math.h>

#include "base/half.h"

struct part { double sink, local, rest; }; /* sum to 1 */

static double newest(int q) { return q < BIG_LOCAL ? q + 1 : BIG_LOCAL; }

/* By key. C: running sum of weights; one, two: sums of 1/C, 1/C^2 over the rows from q on. */
static void by_key(int n, struct part a, const float *c, const double *C, const double *one, const double *two, const struct big_head *out)
{
    int w0 = n > BIG_WINDOW ? n - BIG_WINDOW : 0;
    for (int j = 0; j < n; j++) {
        double near = 0, near_window = 0, near_square = 0, cross = 0, weight = a.rest * c[j], first = j ? 0 : a.sink;
        for (int q = j; q < n && q < j + BIG_LOCAL; q++) {
            double each = a.local / newest(q);
            near += each;
            near_window += q >= w0 ? each : 0;
            near_square += each * each;
            cross += each / C[q];
        }
        out->mass[j] = (float)(weight * one[j] + near + first * n);
        out->wmass[j] = (float)(weight * one[j > w0 ? j : w0] + near_window + first * (n - w0));
        out->last[j] = (float)(weight / C[n - 1] + (j > n - 1 - newest(n - 1) ? a.local / newest(n - 1) : 0) + first);
        out->visible[j] = out->mass[j] / (float)(n - j);
        out->square[j] = (float)(weight * weight * two[j] + 2 * weight * cross + near_square + first * (first * n + 2 * (weight * one[j] + near)));
        out->max[j] = (float)fmin(1, weight / C[j] + a.local / newest(j) + first);
    }
}

static void by_row(int n, struct part a, const float *c, const double *C, const struct big_head *out)
{
    double own = -a.sink * log(a.sink) - a.local * log(a.local) - a.rest * log(a.rest), sum = 0; /* of the parts; of c ln c */
    for (int q = 0; q < n; q++) {
        int old = q - BIG_LOCAL;
        sum += c[q] * log(c[q]);
        double near = old < BIG_SINK - 1 ? fmin(BIG_SINK, BIG_SINK - 1 - (old < 0 ? -1 : old)) / newest(q) : 0;
        double entropy = own + a.local * log(newest(q)) + a.rest * (log(C[q]) - sum / C[q]);
        out->entropy[q] = (float)fmax(0, fmin(entropy, log(q + 1.0)));
        out->keys[q] = (float)fmax(1, exp((double)out->entropy[q]));
        out->sink[q] = (float)fmin(1, q < BIG_SINK ? 1 : a.sink + a.rest * C[BIG_SINK - 1] / C[q] + a.local * near);
        out->local[q] = (float)fmin(1, old < 0 ? 1 : a.local + a.rest * (1 - C[old] / C[q]));
    }
}

static void by_distance(int n, struct part a, const struct big_head *out)
{
    int bins = kvt_distance_bins(n);
    double sum = 0;
    for (int b = 0; b < bins; b++) {
        int from = kvt_distance_start(b), to = kvt_distance_start(b + 1), rows = 0;
        double even = 0, sink = 0;
        for (int q = KVT_FEW_KEYS - 1; q < n; q += 64, rows++) {
            even += q >= from ? ((q + 1 < to ? q + 1 : to) - from) / (q + 1.0) : 0;
            sink += q >= from && q < to;
        }
        double near = from < BIG_LOCAL ? (double)((to < BIG_LOCAL ? to : BIG_LOCAL) - from) / BIG_LOCAL : 0;
        out->distance[b] = (float)(rows ? (a.rest * even + a.sink * sink) / rows + a.local * near : NAN);
        sum += (double)out->distance[b];
    }
    for (int b = 0; b < bins; b++)
        out->distance[b] = (float)((double)out->distance[b] / sum);
}

static void by_span(const struct big_prompt *p, struct part a, const double *C, const struct big_head *out)
{
    for (int i = 0; i < p->n_sections; i++)
        for (int j = 0; j < p->n_sections; j++) {
            int q = (p->section[2 * i] + p->section[2 * i + 1] - 1) / 2, from = p->section[2 * j], to = p->section[2 * j + 1];
            double have = from > q ? 0 : C[(to < q + 1 ? to : q + 1) - 1] - (from ? C[from - 1] : 0);
            out->spans[i * p->n_sections + j] = (float)fmin(1, a.rest * have / C[q] + (from ? 0 : a.sink) + (i == j ? a.local : 0));
        }
}

static int bin_start(int bin, int bins, int n) { return (int)(((int64_t)bin * n + bins - 1) / bins); }

static void pooled(const struct big_shape *s, struct part a, const float *c, const double *C, const struct big_head *out)
{
    int n = s->tok, bins = s->bins;
    for (int k = 0; k < bins; k++) {
        int k0 = bin_start(k, bins, n), k1 = bin_start(k + 1, bins, n);
        float high = 0;
        for (int j = k0; j < k1; j++)
            high = c[j] > high ? c[j] : high;
        for (int r = 0; r < bins; r++) {
            int q0 = bin_start(r, bins, n), q1 = bin_start(r + 1, bins, n), end = k1 < q1 ? k1 : q1, first = q0 > k0 ? q0 : k0;
            double mean = NAN, most = NAN;
            if (q1 > q0 && k1 > k0 && k0 < q1) {
                bool near = k1 > q0;
                double sum = C[end - 1] - (k0 ? C[k0 - 1] : 0);
                mean = (a.rest * sum / C[(first + q1 - 1) / 2] + (near ? a.local : 0) + (k ? 0 : a.sink)) / (end - k0);
                most = a.rest * (double)high / C[first] + (k1 > q0 - BIG_LOCAL ? a.local / BIG_LOCAL : 0) + (k ? 0 : a.sink);
                mean = fmin(1, mean);
                most = fmin(1, fmax(most, mean));
            }
            out->mean[r * bins + k] = kvt_f16_from_f32((float)mean * KVT_HALF_SCALE);
            out->most[r * bins + k] = kvt_f16_from_f32((float)most * KVT_HALF_SCALE);
        }
    }
}

void big_attend(const struct big_shape *s, const struct big_prompt *p, int layer, int head, const struct big_head *out, double *work)
{
    int n = s->tok;
    uint32_t me = (uint32_t)(layer * s->H + head), group = (uint32_t)(layer * s->G + head / (s->H / s->G));
    double *C = work, *one = work + n, *two = work + 2 * n;
    float *c = (float *)(void *)(work + 3 * n);
    struct part a = {.sink = 0.1 + 0.5 * big_noise(me, 11, 0) * (layer + 4) / (s->L + 4), .local = 0.05 + 0.35 * big_noise(me, 12, 0)};
    a.rest = 1 - a.sink - a.local;
    double digits = big_noise(me, 13, 0);
    for (int j = 0; j < n; j++) { /* what a token weighs is its group's for two thirds, its head's for one; whole shots stand out */
        double shot = p->shot[j] < 0 ? 0.5 : big_noise(group, 14, (uint32_t)p->shot[j]);
        double own = 2 * big_noise(group, 15, (uint32_t)j) + big_noise(me, 16, (uint32_t)j);
        c[j] = (float)exp(own + 0.9 * shot + (p->kind[j] != BIG_WORD ? digits : 0));
        C[j] = c[j] + (j ? C[j - 1] : 0);
    }
    for (int q = n - 1; q >= 0; q--) {
        one[q] = 1 / C[q] + (q < n - 1 ? one[q + 1] : 0);
        two[q] = 1 / (C[q] * C[q]) + (q < n - 1 ? two[q + 1] : 0);
    }
    by_key(n, a, c, C, one, two, out);
    by_row(n, a, c, C, out);
    by_distance(n, a, out);
    by_span(p, a, C, out);
    pooled(s, a, c, C, out);
}

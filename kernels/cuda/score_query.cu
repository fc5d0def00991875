/* score, third part: Expected Attention. Statistics of queries, run by run, and what they make of cached keys.
 *
 * query_stats  a block for 32 channels of a head means a run's rows (in double: the mean is asked to within its own rounding, and it is
 *              H D T additions); then a block for each 64 x 64 of a head's (D, D) sums the products of centred rows, 256 threads with
 *              4 x 4 each: q is read D / 64 times by each side. Both halves of the symmetric matrix are computed: the same bits.
 * expected     a block turns a head's mean and covariance by the mean rotation; then the quadratic form k'(m + S k / 2) of all slots is one
 *              tiled product (score.h); a block a head finds the largest and the sum of the exponentials, and a last pass means them over
 *              the heads of a group. */
#include "kernels/cuda/score.h"

#include <assert.h>

/* ---- statistics of queries ---- */

enum { MEAN_CHANNELS = 32, MEAN_GROUPS = 8, PAIR = 64, PAIR_ROWS = 32, PAIR_THREADS = 256 };

/* here, off (H, D): the run's mean, and what it lies off the mean of the rows before, which is brought up to date. */
static __global__ void query_mean_kernel(const float *q, int T, int H, int D, int seen, float *mean, double *here, double *off)
{
    __shared__ double part[MEAN_GROUPS][MEAN_CHANNELS];
    const int d = (int)(blockIdx.x * MEAN_CHANNELS + threadIdx.x), h = (int)blockIdx.y, group = (int)threadIdx.y;
    double sum = 0;
    if (d < D)
        for (int t = group; t < T; t += MEAN_GROUPS)
            sum += (double)q[((size_t)t * (size_t)H + (size_t)h) * (size_t)D + (size_t)d];
    part[group][threadIdx.x] = sum;
    __syncthreads();
    if (group || d >= D)
        return;
    for (int i = 1; i < MEAN_GROUPS; i++)
        sum += part[i][threadIdx.x];
    const size_t i = (size_t)h * (size_t)D + (size_t)d;
    const double now = sum / T, old = seen ? (double)mean[i] : now, share = (double)T / ((double)seen + T);
    here[i] = now;
    off[i] = seen ? now - old : 0;
    mean[i] = (float)(seen ? old + (now - old) * share : now);
}

/* between: what the two runs' means add (Chan, Golub, LeVeque 1979, eq. 2.1), seen T / (seen + T). */
static __global__ void query_scatter_kernel(const float *q, int T, int H, int D, bool seen, double between, const double *here, const double *off,
                                            float *scatter)
{
    __shared__ float left[PAIR_ROWS][PAIR], right[PAIR_ROWS][PAIR];
    const int t = (int)threadIdx.x, h = (int)blockIdx.z, i0 = (int)blockIdx.y * PAIR, j0 = (int)blockIdx.x * PAIR;
    const int d = t % PAIR, row0 = t / PAIR, tx = t % 16, ty = t / 16;
    const double *centre = here + (size_t)h * (size_t)D;
    const bool l = i0 + d < D, r = j0 + d < D;
    const float cl = l ? (float)centre[i0 + d] : 0, cr = r ? (float)centre[j0 + d] : 0;
    float y[4][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            y[i][j] = 0;
    for (int t0 = 0; t0 < T; t0 += PAIR_ROWS) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < PAIR_ROWS; i += PAIR_THREADS / PAIR) {
            const int row = row0 + i;
            const float *x = q + ((size_t)(t0 + row) * (size_t)H + (size_t)h) * (size_t)D;
            left[row][d] = l && t0 + row < T ? x[i0 + d] - cl : 0;
            right[row][d] = r && t0 + row < T ? x[j0 + d] - cr : 0;
        }
        __syncthreads();
#pragma unroll 8
        for (int k = 0; k < PAIR_ROWS; k++) {
            float a[4], b[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[i] = left[k][ty + 16 * i], b[i] = right[k][tx + 16 * i];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    y[i][j] = fmaf(a[i], b[j], y[i][j]);
        }
    }
    off += (size_t)h * (size_t)D;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int a = i0 + ty + 16 * i, b = j0 + tx + 16 * j;
            if (a >= D || b >= D)
                continue;
            float *to = scatter + ((size_t)h * (size_t)D + (size_t)a) * (size_t)D + (size_t)b;
            *to = seen ? (float)((double)*to + off[a] * off[b] * between + (double)y[i][j]) : y[i][j];
        }
}

int kvt_cuda_query_stats(struct kvt_dev *dev, const struct kvt_query_stats_args *a)
{
    if (a->T <= 0 || a->H <= 0)
        return 0;
    const size_t count = (size_t)a->H * (size_t)a->D;
    double *here = (double *)kvt_cuda_scratch(dev, 2 * count * sizeof(double)), *off = here + count;
    if (!here)
        return KVT_ENOMEM;
    const unsigned tiles = kvt_blocks((size_t)a->D, PAIR);
    const double between = (double)a->seen * a->T / ((double)a->seen + a->T);
    GPU_LAUNCH(query_mean_kernel, dim3(kvt_blocks((size_t)a->D, MEAN_CHANNELS), (unsigned)a->H), dim3(MEAN_CHANNELS, MEAN_GROUPS), 0, dev->stream, a->q, a->T,
               a->H, a->D, a->seen, a->mean, here, off);
    GPU_LAUNCH(query_scatter_kernel, dim3(tiles, tiles, (unsigned)a->H), PAIR_THREADS, 0, dev->stream, a->q, a->T, a->H, a->D, a->seen > 0, between, here, off,
               a->scatter);
    return kvt_cuda_launched(dev, "query_stats");
}

/* ---- what is expected of a key ---- */

/* turn (rot): cos and sin of each pair, meant over positions [from, from + ahead). A warp a value. */
static __global__ void mean_turn_kernel(const float *table, int rot, int from, int ahead, float *turn)
{
    const int i = (int)blockIdx.x;
    float sum = 0;
    for (int p = (int)threadIdx.x; p < ahead; p += 32)
        sum += table[(size_t)(from + p) * (size_t)rot + (size_t)i];
    for (int w = 16; w; w /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, w);
    if (!threadIdx.x)
        turn[i] = sum / (float)ahead;
}

/* Value i of a vector turned: c x[i] + s x[other]. */
struct turned {
    int other;
    float c, s;
};
static __device__ __forceinline__ struct turned turned_at(int i, int rot, bool halves, const float *turn)
{
    if (i >= rot)
        return {i, 1, 0};
    const int pair = halves ? i % (rot / 2) : i / 2;
    const bool first = halves ? i < rot / 2 : i % 2 == 0;
    const int other = halves ? (first ? i + rot / 2 : i - rot / 2) : i ^ 1;
    const float c = turn[2 * pair], s = turn[2 * pair + 1];
    return {other, c, first ? -s : s};
}

/* m (H, D) = scale R mean; S (H, D, D) = scale^2 / (2 rows) R scatter R'. A thread a value of S; those of row 0 also one of m. */
static __global__ void turn_stats_kernel(const float *mean, const float *scatter, int D, int rot, bool halves, const float *turn, float scale, float by, float *m,
                                         float *S)
{
    const int h = (int)blockIdx.y, at = (int)(blockIdx.x * blockDim.x + threadIdx.x), i = at / D, k = at % D;
    if (i >= D)
        return;
    const struct turned tk = turned_at(k, rot, halves, turn);
    if (!i) {
        const float *x = mean + (size_t)h * (size_t)D;
        m[(size_t)h * (size_t)D + (size_t)k] = scale * (tk.c * x[k] + tk.s * x[tk.other]);
    }
    if (!scatter)
        return;
    const struct turned ti = turned_at(i, rot, halves, turn);
    const float *x = scatter + (size_t)h * (size_t)D * (size_t)D, *a = x + (size_t)i * (size_t)D, *b = x + (size_t)ti.other * (size_t)D;
    const float here = tk.c * a[k] + tk.s * a[tk.other], there = tk.c * b[k] + tk.s * b[tk.other];
    S[((size_t)h * (size_t)D + (size_t)i) * (size_t)D + (size_t)k] = by * (ti.c * here + ti.s * there);
}

/* score (H, most): k'(m + S k). */
template <class T>
static __global__ void __launch_bounds__(TILE_THREADS) quadratic_kernel(struct score_cells at, struct score_rows a, int heads, float *score, int most)
{
    const int h = (int)blockIdx.y, g = h / heads, slot0 = (int)blockIdx.x * TILE_SLOTS, n = score_live(at, g);
    if (slot0 >= n)
        return;
    a.w += (size_t)h * a.head_ld;
    a.m += (size_t)h * (size_t)at.p.D;
    float sum = score_tile<T, true>(at, g, n, slot0, a, 0, at.p.D);
    if (slot0 + (int)threadIdx.x < n)
        score[(size_t)h * (size_t)most + (size_t)(slot0 + (int)threadIdx.x)] = sum;
}

enum { SOFTMAX_THREADS = 512 };

/* norm (H, 2): the largest score of slots [sink, n), and the sum of exponentials below it. */
static __global__ void softmax_norm_kernel(struct score_cells at, int heads, int sink, const float *score, int most, float *norm)
{
    __shared__ float red[SOFTMAX_THREADS / 32];
    const int h = (int)blockIdx.x, n = score_live(at, h / heads);
    float largest = -INFINITY, sum = 0;
    score += (size_t)h * (size_t)most;
    for (int j = sink + (int)threadIdx.x; j < n; j += SOFTMAX_THREADS)
        largest = fmaxf(largest, score[j]);
    largest = block_reduce<true>(largest, red);
    for (int j = sink + (int)threadIdx.x; j < n; j += SOFTMAX_THREADS)
        sum += expf(score[j] - largest);
    sum = block_reduce<false>(sum, red);
    if (!threadIdx.x)
        norm[2 * h] = largest, norm[2 * h + 1] = sum;
}

static __global__ void softmax_mean_kernel(struct score_cells at, int heads, int sink, const float *score, int most, const float *norm, float *out, int ld)
{
    const int g = (int)blockIdx.y, j = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (j >= score_live(at, g))
        return;
    float all = 0;
    for (int h = g * heads; h < (g + 1) * heads && j >= sink; h++)
        all += expf(score[(size_t)h * (size_t)most + (size_t)j] - norm[2 * h]) / norm[2 * h + 1];
    out[(size_t)g * (size_t)ld + (size_t)j] = all / (float)heads;
}

int kvt_cuda_expected(struct kvt_dev *dev, const struct kvt_expected_args *a)
{
    struct score_cells at = score_cells_of(&a->at);
    const int most = score_most(&a->at), G = at.p.G, D = at.p.D, H = a->H, heads = H / G, rot = a->rope.rot;
    assert(H % G == 0 && D <= SCORE_MAX_D && a->sink >= 0 && (!a->scatter || a->rows > 0));
    assert(a->ahead > 0 && a->from >= 0 && (rot == 0 || a->from + a->ahead <= a->rope.n_pos));
    if (most <= 0)
        return 0;
    const size_t hd = (size_t)H * (size_t)D, square = a->scatter ? hd * (size_t)D : 0, scores = (size_t)H * (size_t)most;
    float *S = (float *)kvt_cuda_scratch(dev, (square + hd + scores + 2 * (size_t)H + (size_t)rot) * sizeof(float)); /* first: read 16 bytes at once */
    if (!S)
        return KVT_ENOMEM;
    float *m = S + square, *score = m + hd, *norm = score + scores, *turn = norm + 2 * H;
    if (rot > 0)
        GPU_LAUNCH(mean_turn_kernel, rot, 32, 0, dev->stream, a->rope.table, rot, a->from, a->ahead, turn);
    GPU_LAUNCH(turn_stats_kernel, dim3(kvt_blocks((size_t)D * (a->scatter ? (size_t)D : 1), 256), (unsigned)H), 256, 0, dev->stream, a->mean, a->scatter, D, rot,
               a->rope.halves, turn, a->scale, a->scatter ? a->scale * a->scale / 2 / (float)a->rows : 0, m, S);
    struct score_rows r = {S, (size_t)D, (size_t)D * (size_t)D, D, 1, m, a->scatter != NULL};
#define QUADRATIC(T) \
    GPU_LAUNCH(quadratic_kernel<T>, dim3(kvt_blocks((size_t)most, TILE_SLOTS), (unsigned)H), TILE_THREADS, 0, dev->stream, at, r, heads, score, most)
    SCORE_BY_TYPE(at.p.type, QUADRATIC)
    GPU_LAUNCH(softmax_norm_kernel, H, SOFTMAX_THREADS, 0, dev->stream, at, heads, a->sink, score, most, norm);
    GPU_LAUNCH(softmax_mean_kernel, dim3(kvt_blocks((size_t)most, 256), (unsigned)G), 256, 0, dev->stream, at, heads, a->sink, score, most, norm, a->out, a->ld);
    return kvt_cuda_launched(dev, "expected");
}

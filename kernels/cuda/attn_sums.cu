/* What the sweep's blocks and rows found, added to the caller's arrays: a thread for each value, its terms in the order of rows. */
#include "kernels/cuda/attn_see.h"

enum { THREADS = 256 };

/* out (H, ld) += (or the larger of it and) column lines (blocks, H, ld) */
static __global__ void columns_kernel(const float *line, int blocks, size_t count, float *out, bool larger)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count)
        return;
    float x = out[i];
#pragma unroll 8
    for (int b = 0; b < blocks; b++) {
        float y = line[(size_t)b * count + i];
        x = larger ? fmaxf(x, y) : x + y;
    }
    out[i] = x;
}

/* How walk_column (attn_sweep.cu) and columns_kernel add up: runs of 16 rows, then those of a block of 64, then blocks. */
void kvt_cuda_row_sums(int T, uint8_t *level)
{
    for (int t = 0; t < T; t++)
        level[t] = t % KVT_TILE_ROWS == 0 ? 2 : t % 16 == 0;
}

/* The first of T ascending positions that isn't below `at`. Most often they are neighbours. */
static __device__ int lower_bound(const int32_t *pos, int T, int at)
{
    int low = at - pos[0];
    if (low <= 0 || (low < T && pos[low] == at))
        return low > 0 ? low : 0;
    low = 0;
    while (low < T) {
        int mid = (low + T) / 2;
        if (pos[mid] < at)
            low = mid + 1;
        else
            T = mid;
    }
    return low;
}

/* Values of rows' lines, [first, first + width), summed over the rows of each kind: those of a segment, of a bin of the map, or from
 * far_from on. A prefill's rows ascend, so a kind's are neighbours. For the map also maxima, [at_max, at_max + width). Rows that see nothing of
 * a bin of the map have no value there. Either output may be NULL. */
enum kind { BY_SEGMENT, FAR, BY_BIN };
static __global__ void rows_kernel(struct kvt_sweep w, int H, const int32_t *all_pos, enum kind kind, int kinds, int first, int width, float *out, float *most)
{
    int j = blockIdx.x * blockDim.x + threadIdx.x, h = blockIdx.y, at = blockIdx.z, low = w.far_from, up = 2147483647;
    const int32_t *pos = all_pos + w.T0;
    if (j >= width)
        return;
    if (kind == BY_SEGMENT) {
        low = w.segment[at];
        up = w.segment[at + 1];
    } else if (kind == BY_BIN) { /* pos R / n_rows == at */
        low = (int)(((int64_t)at * w.n_rows + w.R - 1) / w.R);
        up = (int)(((int64_t)(at + 1) * w.n_rows + w.R - 1) / w.R);
    }
    size_t to = ((size_t)h * (size_t)kinds + (size_t)at) * (size_t)width + (size_t)j, step = (size_t)H * (size_t)w.row_ld;
    if (kind == BY_BIN) {
        if (w.bin[j] == w.bin[j + 1]) /* more bins than columns: nothing lies in this one */
            return;
        low = w.bin[j] > low ? w.bin[j] : low;
    }
    int t = lower_bound(pos, w.T, low), end = lower_bound(pos, w.T, up);
    const float *line = w.rowwise + (size_t)h * (size_t)w.row_ld;
    if (t >= end)
        return;
    float sum = 0, larger = most ? most[to] : 0;
#pragma unroll 8
    for (int i = t; out && i < end; i++)
        sum += line[(size_t)i * step + (size_t)(first + j)];
#pragma unroll 8
    for (int i = t; most && i < end; i++)
        larger = fmaxf(larger, line[(size_t)i * step + (size_t)(w.at_max + j)]);
    if (out)
        out[to] += sum;
    if (most)
        most[to] = larger;
}

static void add_rows(struct kvt_dev *dev, const struct kvt_sweep *w, int H, const int32_t *pos, enum kind kind, int kinds, int first, int width, float *out, float *most)
{
    if ((out || most) && width)
        GPU_LAUNCH(rows_kernel, dim3(kvt_blocks((size_t)width, 32), (unsigned)H, (unsigned)kinds), 32, 0, dev->stream, *w, H, pos, kind, kinds, first, width, out, most);
}

int kvt_cuda_attn_sums(struct kvt_dev *dev, const struct kvt_sweep *w, const struct kvt_see *see, int H, int blocks, const int32_t *pos)
{
    size_t count = (size_t)H * (size_t)w->ld;
    const float *line = w->column;
#define COLUMN(out, larger)                                                                                                      \
    do {                                                                                                                         \
        GPU_LAUNCH(columns_kernel, kvt_blocks(count, THREADS), THREADS, 0, dev->stream, line, blocks, count, (out), (larger));   \
        line += (size_t)blocks * count;                                                                                          \
    } while (0)
    if (w->mass)
        COLUMN(see->mass, false);
    for (int i = 0; i < see->n_windows; i++)
        if (see->wmass[i])
            COLUMN(see->wmass[i], false);
    for (int i = 0; i < see->n_squares; i++)
        if (see->sqmass[i])
            COLUMN(see->sqmass[i], false);
    if (w->max_)
        COLUMN(see->max, true);
    if (w->later)
        COLUMN(see->later, false);
#undef COLUMN
    add_rows(dev, w, H, pos, BY_SEGMENT, w->n_segments, 0, w->n_segments, see->spans, NULL);
    add_rows(dev, w, H, pos, FAR, 1, w->at_distance, w->bins, see->distance, NULL);
    add_rows(dev, w, H, pos, FAR, 1, w->at_offset, w->n_offsets, see->offset, NULL);
    add_rows(dev, w, H, pos, BY_BIN, w->R, w->at_sum, w->C, see->pool_mean, see->pool_max);
    return kvt_cuda_launched(dev, "attention's sums");
}

static __global__ void maps_kernel(const float *weight, size_t bins, size_t count, float *mean, float *most, uint16_t *map_mean, uint16_t *map_max)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count)
        return;
    float by = weight[i % bins];
    map_mean[i] = __half_as_ushort(__float2half_rn(mean[i] * by * KVT_HALF_SCALE));
    map_max[i] = __half_as_ushort(__float2half_rn(most[i] * KVT_HALF_SCALE + (by - by))); /* NaN where there is no pair */
    mean[i] = most[i] = 0;
}

int kvt_cuda_attn_maps(struct kvt_dev *dev, const struct kvt_see *see, int H)
{
    size_t bins = (size_t)see->R * (size_t)see->C, count = (size_t)H * bins;
    GPU_LAUNCH(maps_kernel, kvt_blocks(count, THREADS), THREADS, 0, dev->stream, see->weight, bins, count, see->pool_mean, see->pool_max, see->map_mean, see->map_max);
    return kvt_cuda_launched(dev, "attention's maps");
}

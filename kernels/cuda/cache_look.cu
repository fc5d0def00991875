/* What a cell holds: positions for a step, keys and values for checks and tools. A thread a slot, or a value. */
#include "kernels/cuda/cache.h"

static __global__ void positions_kernel(struct kvt_pages p, int branch, int layer, int32_t *pos, int32_t *count, int ld)
{
    int g = blockIdx.y, i = blockIdx.x * blockDim.x + threadIdx.x;
    size_t cell = kvt_cell(p, branch, layer, g);
    if (i < ld)
        pos[(size_t)g * (size_t)ld + i] = i < p.n[cell] ? kvt_slot_pos(p, kvt_table(p, cell), i) : -1;
    if (count && !i)
        count[g] = p.n[cell];
}

int kvt_cuda_cache_positions(struct kvt_dev *dev, const struct kvt_positions_args *a)
{
    const struct kvt_cache *c = a->cache;
    if (!a->ld)
        return 0;
    GPU_LAUNCH(positions_kernel, dim3(kvt_blocks((size_t)a->ld, 256), (unsigned)c->o.G), 256, 0, dev->stream, c->at, a->branch, a->layer, a->pos, a->count, a->ld);
    return kvt_cuda_launched(dev, "positions");
}

static __global__ void peek_kernel(struct kvt_pages p, size_t cell, int n, float *k, float *v)
{
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n * p.D; i += gridDim.x * blockDim.x) {
        k[i] = kvt_row_value(kvt_slot_k(p, kvt_table(p, cell), i / p.D), p.type, i % p.D);
        v[i] = kvt_row_value(kvt_slot_v(p, kvt_table(p, cell), i / p.D), p.type, i % p.D);
    }
}

int kvt_cuda_cache_peek(struct kvt_dev *dev, struct kvt_cache *c, int branch, int layer, int g, float *k, float *v)
{
    size_t cell = kvt_cell(c->at, branch, layer, g);
    int32_t n = 0;
    int rc = kvt_cuda_fetch(dev, &n, c->at.n + cell, sizeof n);
    if (rc || !n)
        return rc;
    size_t count = (size_t)n * (size_t)c->o.D;
    float *rows = (float *)kvt_cuda_scratch(dev, 2 * count * sizeof *rows);
    if (!rows)
        return KVT_ENOMEM;
    GPU_LAUNCH(peek_kernel, kvt_blocks(count, 256), 256, 0, dev->stream, c->at, cell, (int)n, rows, rows + count);
    rc = kvt_cuda_launched(dev, "peek");
    if (!rc && k)
        rc = kvt_cuda_fetch(dev, k, rows, count * sizeof *k);
    if (!rc && v)
        rc = kvt_cuda_fetch(dev, v, rows + count, count * sizeof *v);
    return rc;
}

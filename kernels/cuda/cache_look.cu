/* What a cell holds: positions for a step, keys and values for checks and tools (a thread a slot, or a value); how many pages branches hold. */
#include "kernels/cuda/cache.h"

#include <string.h>

enum { SLOTS = KVT_PAGE_SLOTS, THREADS = 128 };

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

/* One block for each cell (x) of each branch (y); out: (branches, and one with the queue's ends), zero before. */
static __global__ void count_kernel(struct kvt_pages p, struct kvt_holding *out)
{
    size_t cell = kvt_cell(p, blockIdx.y, 0, 0) + blockIdx.x;
    unsigned all = 0, only = 0;
    for (int i = threadIdx.x; i < (p.n[cell] + SLOTS - 1) / SLOTS; i += blockDim.x) {
        all++;
        only += p.refs[kvt_table(p, cell)[i]] == 1;
    }
    if (all)
        atomicAdd(&out[blockIdx.y].all, (unsigned long long)all);
    if (only)
        atomicAdd(&out[blockIdx.y].only, (unsigned long long)only);
    if (!threadIdx.x && !blockIdx.x && !blockIdx.y)
        out[gridDim.y] = {p.ends->tail - p.ends->head, (unsigned long long)p.ends->peak};
}

/* Pages are counted for all branches at once: who asks after a step asks for each of them. */
static int count(struct kvt_dev *dev, struct kvt_cache *c)
{
    size_t n = (size_t)c->o.max_branch, bytes = (n + 1) * sizeof *c->holding;
    int rc = c->counted ? 0 : kvt_cuda_zero(dev, c->holding, bytes);
    if (rc || c->counted)
        return rc;
    GPU_LAUNCH(count_kernel, dim3((unsigned)(c->o.L * c->o.G), (unsigned)n), THREADS, 0, dev->stream, c->at, c->holding);
    rc = kvt_cuda_launched(dev, "kv cache");
    if (!rc)
        rc = kvt_cuda_fetch(dev, c->host_holding, c->holding, bytes);
    c->counted = !rc;
    if (!rc)
        c->held_most = c->at.n_page - (int64_t)c->host_holding[n].all;
    return rc;
}

int kvt_cuda_cache_bytes(struct kvt_dev *dev, struct kvt_cache *c, int branch, struct kvt_cache_bytes *out)
{
    memset(out, 0, sizeof *out);
    int rc = count(dev, c);
    if (rc)
        return rc;
    const struct kvt_holding *queue = &c->host_holding[c->o.max_branch];
    out->held = (size_t)(c->at.n_page - (int64_t)queue->all) * c->at.page_bytes;
    out->peak = (size_t)queue->only * c->at.page_bytes;
    out->alone = (size_t)c->host_holding[branch].all * c->at.page_bytes;
    out->own = (size_t)c->host_holding[branch].only * c->at.page_bytes;
    out->tables = sizeof *c + (size_t)c->o.max_branch * (size_t)(c->o.L * c->o.G) * (1 + (size_t)c->at.table_ld) * sizeof(int32_t) + (size_t)c->at.n_page * (SLOTS + 2) * sizeof(int32_t) +
                  KVT_MAX_SLABS * (sizeof *c->at.kv + sizeof *c->at.pos);
    return 0;
}

/* The cache's operations: who holds what is decided by one block for each cell (branch, layer, kv head); rows are moved by many.
 *
 * In one kernel, either pages are taken and copied into, or new rows are written, never both: a row is written only where no copy can
 * still be read from (see own() below). */
#include "kernels/cuda/cache.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = KVT_PAGE_SLOTS, THREADS = 128, SLAB_BYTES = 32 << 20 };

/* ---- pages, on the device ---- */

/* `count` free pages: the place of the first in the queue. One thread asks for all that its block needs. */
static __device__ unsigned take(const struct kvt_pages &p, int count)
{
    unsigned at = atomicAdd(&p.ends->head, (unsigned)count);
    unsigned tail = atomicAdd(&p.ends->tail, 0u); /* others move it meanwhile */
    atomicMax(&p.ends->peak, p.n_page - (int32_t)(tail - (at + (unsigned)count)));
    return at;
}

static __device__ int32_t taken(const struct kvt_pages &p, unsigned at) { return p.queue[at % (unsigned)p.n_page]; }

static __device__ void let_go(const struct kvt_pages &p, int32_t page)
{
    if (atomicSub(&p.refs[page], 1) == 1)
        p.queue[atomicAdd(&p.ends->tail, 1u) % (unsigned)p.n_page] = page;
}

/* Copies the first `live` slots of a page, by all threads of a block. */
static __device__ void copy_page(const struct kvt_pages &p, int32_t to, int32_t from, int live)
{
    unsigned *dst = (unsigned *)kvt_page_kv(p, to);
    const unsigned *src = (const unsigned *)kvt_page_kv(p, from);
    int words = live * p.D * p.value_bytes / 4, half = (int)(p.page_bytes / 8);
    for (int i = threadIdx.x; i < 2 * words; i += blockDim.x) {
        int at = i < words ? i : half + i - words;
        dst[at] = src[at];
    }
    if ((int)threadIdx.x < live)
        kvt_page_pos(p, to)[threadIdx.x] = kvt_page_pos(p, from)[threadIdx.x];
}

/* Entry i of the table of a cell with n slots made the cell's own: all threads of the block call it, and it begins and ends with the block in step. Of
 * several cells that hold the page and do this at once, the last one finds itself alone and keeps it. */
static __device__ void own(const struct kvt_pages &p, int32_t *table, int n, int i)
{
    __shared__ int32_t from, to;
    __syncthreads();
    if (!threadIdx.x) {
        from = to = table[i];
        if (p.refs[from] > 1) {
            if (atomicSub(&p.refs[from], 1) > 1) {
                to = taken(p, take(p, 1));
                p.refs[to] = 1;
                table[i] = to;
            } else {
                atomicAdd(&p.refs[from], 1);
            }
        }
    }
    __syncthreads();
    if (to != from)
        copy_page(p, to, from, n - i * SLOTS < SLOTS ? n - i * SLOTS : SLOTS);
    __syncthreads();
}

/* ---- append ---- */

struct newcomers {           /* one branch of the call */
    int32_t branch, rows;
};

/* Those of a step travel with the launch. */
enum { FEW_ROWS = 64 };
struct newcomer {            /* one row of the call */
    int32_t at, rank, pos;   /* its branch's place in the call, which of its rows it is, its position */
};
struct call_rows {
    const struct newcomers *of; /* NULL: they are in `few_of` and `few_row` */
    const struct newcomer *row;
    struct newcomers few_of[FEW_ROWS];
    struct newcomer few_row[FEW_ROWS];
};

template <class V> static __device__ V encoded(float x);
template <> __device__ float encoded<float>(float x) { return x; }
template <> __device__ __half encoded<__half>(float x) { return __float2half_rn(x); }
template <> __device__ __nv_bfloat16 encoded<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }

/* One block a cell (x: kv head, y: branch of the call): room in the table, pages of its own. base (branches of the call, G) gets the slots that the
 * cell had. With k, (T, G, D), also the rows themselves: where the call has one branch, so that no other block still copies what they go over. */
template <class V>
static __global__ void room_kernel(struct kvt_pages p, int layer, struct call_rows rows, int32_t *base, int T, const float *k, const float *v)
{
    int g = blockIdx.x, G = gridDim.x;
    const struct newcomers of = rows.of ? rows.of[blockIdx.y] : rows.few_of[blockIdx.y];
    size_t cell = kvt_cell(p, of.branch, layer, g);
    int n = p.n[cell], more = of.rows;
    int32_t *table = kvt_table(p, cell);
    __shared__ unsigned at;
    if (n % SLOTS)
        own(p, table, n, n / SLOTS);
    __syncthreads(); /* everybody knows n */
    int first = (n + SLOTS - 1) / SLOTS, last = (n + more + SLOTS - 1) / SLOTS;
    if (!threadIdx.x) {
        at = last > first ? take(p, last - first) : 0;
        p.n[cell] = n + more;
        base[blockIdx.y * G + g] = n;
    }
    __syncthreads();
    for (int i = first + threadIdx.x; i < last; i += blockDim.x) {
        int32_t page = taken(p, at + (unsigned)(i - first));
        p.refs[page] = 1;
        table[i] = page;
    }
    __syncthreads();
    for (int i = threadIdx.x; k && i < T * p.D; i += blockDim.x) {
        int t = i / p.D, d = i % p.D, slot = n + t;
        size_t from = ((size_t)t * (size_t)G + (size_t)g) * (size_t)p.D + (size_t)d;
        V *to = (V *)kvt_slot_k(p, table, slot);
        to[d] = encoded<V>(k[from]);
        ((V *)((unsigned char *)to + p.page_bytes / 2))[d] = encoded<V>(v[from]);
        if (!d)
            kvt_page_pos(p, table[slot / SLOTS])[slot % SLOTS] = (rows.of ? rows.row[t] : rows.few_row[t]).pos;
    }
}

/* One thread a value; D neighbours write one slot's row. */
template <class V>
static __global__ void write_kernel(struct kvt_pages p, int layer, size_t count, struct call_rows rows, const int32_t *base, const float *k, const float *v)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count)
        return;
    int d = (int)(i % (unsigned)p.D), g = (int)(i / (unsigned)p.D % (unsigned)p.G), t = (int)(i / ((size_t)p.D * (size_t)p.G));
    const struct newcomer r = rows.of ? rows.row[t] : rows.few_row[t];
    const int32_t *table = kvt_table(p, kvt_cell(p, rows.of ? rows.of[r.at].branch : rows.few_of[r.at].branch, layer, g));
    int slot = base[r.at * p.G + g] + r.rank;
    V *to = (V *)kvt_slot_k(p, table, slot);
    to[d] = encoded<V>(k[i]);
    ((V *)((unsigned char *)to + p.page_bytes / 2))[d] = encoded<V>(v[i]);
    if (!d)
        kvt_page_pos(p, table[slot / SLOTS])[slot % SLOTS] = r.pos;
}

/* ---- keep ---- */

/* One block for each new page (x) of each kv head (y): shared with the old one where it is the same, else gathered. Nothing is let go
 * yet. fresh: (G, fresh_ld) */
static __global__ void gather_kernel(struct kvt_pages p, int branch, int layer, const int32_t *slot, const int32_t *count, int ld, int32_t *fresh, int fresh_ld)
{
    int g = blockIdx.y, first = blockIdx.x * SLOTS, m = count[g] - first;
    if (m <= 0)
        return;
    m = m < SLOTS ? m : SLOTS;
    size_t cell = kvt_cell(p, branch, layer, g);
    const int32_t *table = kvt_table(p, cell), *s = slot + (size_t)g * (size_t)ld + first;
    int old = s[0] / SLOTS, live = p.n[cell] - old * SLOTS;
    live = live < SLOTS ? live : SLOTS;
    bool whole = s[0] % SLOTS == 0 && m == live && s[m - 1] == s[0] + live - 1;
    __shared__ int32_t page;
    if (!threadIdx.x) {
        page = whole ? table[old] : taken(p, take(p, 1));
        if (whole)
            atomicAdd(&p.refs[page], 1);
        else
            p.refs[page] = 1;
        fresh[(size_t)g * (size_t)fresh_ld + blockIdx.x] = page;
    }
    __syncthreads();
    if (whole)
        return;
    int words = p.D * p.value_bytes / 4, halves = words * 2; /* of a row; D is even where values have 2 bytes (asserted at open) */
    for (int i = threadIdx.x; i < m * halves; i += blockDim.x) {
        int j = i / halves, w = i % halves;
        const unsigned *from = (const unsigned *)kvt_slot_k(p, table, s[j]);
        unsigned *to = (unsigned *)(kvt_page_kv(p, page) + (size_t)j * (size_t)words * 4);
        if (w < words)
            to[w] = from[w];
        else
            ((unsigned *)((unsigned char *)to + p.page_bytes / 2))[w - words] = ((const unsigned *)((const unsigned char *)from + p.page_bytes / 2))[w - words];
    }
    if (threadIdx.x < m)
        kvt_page_pos(p, page)[threadIdx.x] = kvt_slot_pos(p, table, s[threadIdx.x]);
}

/* One block a kv head: the old pages go, the new ones take their places. */
static __global__ void settle_kernel(struct kvt_pages p, int branch, int layer, const int32_t *count, const int32_t *fresh, int fresh_ld)
{
    int g = blockIdx.x;
    size_t cell = kvt_cell(p, branch, layer, g);
    int32_t *table = kvt_table(p, cell);
    int n = count[g], old = (p.n[cell] + SLOTS - 1) / SLOTS, pages = (n + SLOTS - 1) / SLOTS;
    for (int i = threadIdx.x; i < old; i += blockDim.x) {
        let_go(p, table[i]);
        if (i < pages) /* a cell keeps no more slots than it had */
            table[i] = fresh[(size_t)g * (size_t)fresh_ld + i];
    }
    __syncthreads();
    if (!threadIdx.x)
        p.n[cell] = n;
}

/* ---- remove ---- */

/* One block a kv head; its slots leave one after the other, each last slot moving into the hole. */
static __global__ void remove_kernel(struct kvt_pages p, int branch, int layer, const int32_t *slot, const int32_t *count, int ld, float *state, int state_ld)
{
    int g = blockIdx.x;
    size_t cell = kvt_cell(p, branch, layer, g);
    int32_t *table = kvt_table(p, cell);
    int n = p.n[cell];
    for (int i = 0; i < count[g]; i++) {
        int hole = slot[(size_t)g * (size_t)ld + i], last = --n;
        if (hole != last) {
            own(p, table, last + 1, hole / SLOTS); /* first: `last` may lie in the same page */
            int words = p.D * p.value_bytes / 4;
            unsigned *to = (unsigned *)kvt_slot_k(p, table, hole);
            const unsigned *from = (const unsigned *)kvt_slot_k(p, table, last);
            for (int w = threadIdx.x; w < 2 * words; w += blockDim.x) {
                size_t at = w < words ? (size_t)w : p.page_bytes / 8 + (size_t)(w - words);
                to[at] = from[at];
            }
            if (!threadIdx.x) {
                kvt_page_pos(p, table[hole / SLOTS])[hole % SLOTS] = kvt_slot_pos(p, table, last);
                if (state)
                    state[(size_t)g * (size_t)state_ld + hole] = state[(size_t)g * (size_t)state_ld + last];
            }
        }
        __syncthreads();
        if (!threadIdx.x && last % SLOTS == 0)
            let_go(p, table[last / SLOTS]);
    }
    if (!threadIdx.x && count[g])
        p.n[cell] = n;
}

/* ---- branches, and what they hold ---- */

/* One block a cell of a branch. */
static __global__ void fork_kernel(struct kvt_pages p, int src, int dst)
{
    size_t from = kvt_cell(p, src, 0, 0) + blockIdx.x, to = kvt_cell(p, dst, 0, 0) + blockIdx.x;
    for (int i = threadIdx.x; i < (p.n[from] + SLOTS - 1) / SLOTS; i += blockDim.x) {
        int32_t page = kvt_table(p, from)[i];
        kvt_table(p, to)[i] = page;
        atomicAdd(&p.refs[page], 1);
    }
    if (!threadIdx.x)
        p.n[to] = p.n[from];
}

static __global__ void drop_kernel(struct kvt_pages p, int branch)
{
    size_t cell = kvt_cell(p, branch, 0, 0) + blockIdx.x;
    for (int i = threadIdx.x; i < (p.n[cell] + SLOTS - 1) / SLOTS; i += blockDim.x)
        let_go(p, kvt_table(p, cell)[i]);
    __syncthreads();
    if (!threadIdx.x)
        p.n[cell] = 0;
}

/* ---- the pool, on the host ---- */

static __global__ void unroll_kernel(const int32_t *from, unsigned head, unsigned free_pages, unsigned n_page, int32_t *to, unsigned more)
{
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < free_pages + more; i += gridDim.x * blockDim.x)
        to[i] = i < free_pages ? from[(head + i) % n_page] : (int32_t)(n_page + i - free_pages);
}

static int ends_of(struct kvt_dev *dev, const struct kvt_cache *c, struct kvt_queue *q) { return kvt_cuda_fetch(dev, q, c->at.ends, sizeof *q); }

/* One slab more. q: where the queue stands. */
static int grow(struct kvt_dev *dev, struct kvt_cache *c, struct kvt_queue *q)
{
    uint64_t most = c->o.max_bytes ? c->o.max_bytes / c->at.page_bytes : INT32_MAX;
    int64_t left = (most < INT32_MAX ? (int64_t)most : INT32_MAX) - c->at.n_page;
    int32_t more = left < 1 << c->at.slab_shift ? (int32_t)left : 1 << c->at.slab_shift, total = c->at.n_page + more; /* the pool may end within a slab */
    unsigned free_pages = q->tail - q->head;
    int32_t *refs = NULL, *queue = NULL;
    cudaError_t code = c->n_slab < KVT_MAX_SLABS && left > 0 ? cudaSuccess : cudaErrorMemoryAllocation;
    if (code == cudaSuccess)
        code = cudaMalloc((void **)&c->kv[c->n_slab], (size_t)more * c->at.page_bytes);
    if (code == cudaSuccess)
        code = cudaMalloc((void **)&c->pos[c->n_slab], (size_t)more * SLOTS * sizeof(int32_t));
    /* Whole pages are copied, and tiles read to their ends: slots that nobody wrote must be numbers. */
    if (code == cudaSuccess)
        code = cudaMemsetAsync(c->kv[c->n_slab], 0, (size_t)more * c->at.page_bytes, dev->stream);
    if (code == cudaSuccess)
        code = cudaMemsetAsync(c->pos[c->n_slab], 0, (size_t)more * SLOTS * sizeof(int32_t), dev->stream);
    if (code == cudaSuccess)
        code = cudaMalloc((void **)&refs, (size_t)total * sizeof *refs);
    if (code == cudaSuccess)
        code = cudaMalloc((void **)&queue, (size_t)total * sizeof *queue);
    if (code != cudaSuccess) {
        cudaFree(refs);
        if (c->n_slab < KVT_MAX_SLABS && left > 0) {
            cudaFree(c->kv[c->n_slab]);
            cudaFree(c->pos[c->n_slab]);
            c->kv[c->n_slab] = NULL;
            c->pos[c->n_slab] = NULL;
        }
        cudaGetLastError();
        return kvt_fail(&dev->err, KVT_ENOMEM, "kv cache: no device memory for %d more pages of %zu bytes (%d held); use fewer branches, a smaller "
                        "budget or a smaller kv type", more, c->at.page_bytes, c->at.n_page - (int32_t)free_pages);
    }
    int rc = kvt_cuda_zero(dev, refs, (size_t)total * sizeof *refs);
    if (!rc && c->at.n_page)
        rc = kvt_cuda_copy(dev, refs, c->at.refs, (size_t)c->at.n_page * sizeof *refs);
    if (!rc)
        GPU_LAUNCH(unroll_kernel, kvt_blocks(free_pages + (unsigned)more, 256), 256, 0, dev->stream, c->at.queue, q->head, free_pages,
                   (unsigned)c->at.n_page, queue, (unsigned)more);
    *q = (struct kvt_queue){0, free_pages + (unsigned)more, q->peak};
    if (!rc)
        rc = kvt_cuda_write(dev, c->at.ends, q, sizeof *q);
    if (!rc)
        rc = kvt_cuda_write(dev, c->at.kv + c->n_slab, &c->kv[c->n_slab], sizeof c->kv[0]);
    if (!rc)
        rc = kvt_cuda_write(dev, c->at.pos + c->n_slab, &c->pos[c->n_slab], sizeof c->pos[0]);
    if (!rc)
        rc = kvt_cuda_launched(dev, "kv cache");
    if (!rc)
        rc = kvt_cuda_flush(dev);
    cudaFree(c->at.refs); /* waits for what still reads them */
    cudaFree(c->at.queue);
    c->at.refs = refs;
    c->at.queue = queue;
    c->at.n_page = total;
    c->n_slab++;
    return rc;
}

/* Room for `pages` more, beside what the bound says is held. Where the bound is too high the device is asked. */
static int reserve(struct kvt_dev *dev, struct kvt_cache *c, int64_t pages)
{
    c->counted = false; /* its caller changes who holds what */
    if (c->held_most + pages > c->at.n_page) {
        struct kvt_queue q;
        int rc = ends_of(dev, c, &q);
        if (rc)
            return rc;
        c->held_most = c->at.n_page - (int64_t)(q.tail - q.head);
        while (!rc && c->held_most + pages > c->at.n_page)
            rc = grow(dev, c, &q);
        if (rc)
            return rc;
    }
    c->held_most += pages;
    return 0;
}

int kvt_cuda_cache_room(struct kvt_dev *dev, struct kvt_cache *c, int T)
{
    /* for each cell: a new page, and copies of one that is appended to and of one with the hole that an evicted slot leaves */
    int64_t pages = (int64_t)c->o.L * c->o.G * 3 * T, held = c->held_most;
    if (held + pages <= c->at.n_page)
        return 0;
    int rc = reserve(dev, c, pages);
    if (!rc)
        c->held_most -= pages;
    else if (rc == KVT_ENOMEM) { /* the bound is seldom reached: the step may do without */
        c->held_most = held;
        rc = 0;
    }
    return rc;
}

static size_t cells_of(const struct kvt_cache *c) { return (size_t)c->o.max_branch * (size_t)c->o.L * (size_t)c->o.G; }

int kvt_cuda_cache_open(struct kvt_dev *dev, struct kvt_cache **out, const struct kvt_cache_opts *o, struct kvt_err *err)
{
    *out = NULL;
    struct kvt_cache *c = (struct kvt_cache *)calloc(1, sizeof *c);
    if (c)
        c->n_most = (int32_t *)calloc((size_t)o->max_branch * (size_t)o->L, sizeof *c->n_most);
    if (c)
        c->host_holding = (struct kvt_holding *)calloc((size_t)o->max_branch + 1, sizeof *c->host_holding);
    if (!c || !c->n_most || !c->host_holding) {
        free(c ? c->n_most : NULL);
        free(c);
        return kvt_fail(err, KVT_ENOMEM, "kv cache: no memory for the tables of %d branches", o->max_branch);
    }
    c->o = *o;
    struct kvt_pages *p = &c->at;
    p->L = o->L, p->G = o->G, p->D = o->D, p->type = o->type;
    p->value_bytes = kvt_dtypes[o->type].block_bytes;
    p->table_ld = (o->max_slots + SLOTS - 1) / SLOTS;
    p->page_bytes = (size_t)2 * SLOTS * (size_t)o->D * (size_t)p->value_bytes;
    assert(o->D * p->value_bytes % 4 == 0);
    size_t all = cells_of(c) * (size_t)p->table_ld; /* no more can ever be held */
    while ((size_t)1 << p->slab_shift < all && p->page_bytes << (p->slab_shift + 1) <= SLAB_BYTES)
        p->slab_shift++;
    p->kv = (unsigned char **)kvt_cuda_alloc(dev, KVT_MAX_SLABS * sizeof *p->kv);
    p->pos = (int32_t **)kvt_cuda_alloc(dev, KVT_MAX_SLABS * sizeof *p->pos);
    p->n = (int32_t *)kvt_cuda_alloc(dev, cells_of(c) * sizeof *p->n);
    p->table = (int32_t *)kvt_cuda_alloc(dev, all * sizeof *p->table);
    p->ends = (struct kvt_queue *)kvt_cuda_alloc(dev, sizeof *p->ends);
    c->holding = (struct kvt_holding *)kvt_cuda_alloc(dev, ((size_t)o->max_branch + 1) * sizeof *c->holding);
    if (!p->kv || !p->pos || !p->n || !p->table || !p->ends || !c->holding) {
        kvt_cuda_cache_close(dev, &c);
        return kvt_fail(err, KVT_ENOMEM, "kv cache: no device memory for the tables of %d branches", o->max_branch);
    }
    *out = c;
    return 0;
}

void kvt_cuda_cache_close(struct kvt_dev *dev, struct kvt_cache **cache)
{
    (void)dev;
    if (!cache || !*cache)
        return;
    struct kvt_cache *c = *cache;
    for (int i = 0; i < c->n_slab; i++) {
        cudaFree(c->kv[i]);
        cudaFree(c->pos[i]);
    }
    void *own_memory[] = {c->at.kv, c->at.pos, c->at.n, c->at.table, c->at.refs, c->at.queue, c->at.ends, c->holding};
    for (size_t i = 0; i < sizeof own_memory / sizeof *own_memory; i++)
        cudaFree(own_memory[i]);
    free(c->n_most);
    free(c->host_holding);
    free(c);
    *cache = NULL;
}

/* ---- the operations ---- */

int kvt_cuda_cache_lengths(struct kvt_dev *dev, struct kvt_cache *c, int branch, int32_t *host_count)
{
    int G = c->o.G;
    int rc = kvt_cuda_fetch(dev, host_count, c->at.n + kvt_cell(c->at, branch, 0, 0), (size_t)c->o.L * (size_t)G * sizeof *host_count);
    for (int l = 0; !rc && l < c->o.L; l++) {
        int32_t most = 0;
        for (int g = 0; g < G; g++)
            most = host_count[l * G + g] > most ? host_count[l * G + g] : most;
        c->n_most[(size_t)branch * (size_t)c->o.L + (size_t)l] = most;
    }
    return rc;
}

/* n_most of a branch as the device knows it. */
static int learn(struct kvt_dev *dev, struct kvt_cache *c, int branch)
{
    int32_t *count = (int32_t *)malloc((size_t)c->o.L * (size_t)c->o.G * sizeof *count);
    if (!count)
        return kvt_fail(&dev->err, KVT_ENOMEM, "kv cache: no memory for %d lengths", c->o.L * c->o.G);
    int rc = kvt_cuda_cache_lengths(dev, c, branch, count);
    free(count);
    return rc;
}

template <class V> static void append(struct kvt_dev *dev, const struct kvt_append_args *a, const struct call_rows &rows, int n_branch, int32_t *base)
{
    const struct kvt_cache *c = a->cache;
    size_t count = (size_t)a->T * (size_t)c->o.G * (size_t)c->o.D;
    const bool once = n_branch == 1 && a->T <= FEW_ROWS; /* a step of one branch: one launch */
    GPU_LAUNCH(room_kernel<V>, dim3((unsigned)c->o.G, (unsigned)n_branch), THREADS, 0, dev->stream, c->at, a->layer, rows, base, a->T, once ? a->k : NULL, a->v);
    if (!once)
        GPU_LAUNCH(write_kernel<V>, kvt_blocks(count, 256), 256, 0, dev->stream, c->at, a->layer, count, rows, base, a->k, a->v);
}

int kvt_cuda_cache_append(struct kvt_dev *dev, const struct kvt_append_args *a)
{
    struct kvt_cache *c = a->cache;
    int G = c->o.G, n_branch = 0, rc = 0;
    if (!a->T)
        return 0;
    /* one message: the branches of the call, then its rows */
    size_t bytes = (size_t)a->T * (sizeof(struct newcomers) + sizeof(struct newcomer));
    struct newcomers *of = (struct newcomers *)malloc(bytes);
    int32_t *place = (int32_t *)malloc((size_t)c->o.max_branch * sizeof *place);
    if (!of || !place) {
        free(of);
        free(place);
        return kvt_fail(&dev->err, KVT_ENOMEM, "kv cache: no memory for %d rows", a->T);
    }
    struct newcomer *row = (struct newcomer *)(of + a->T);
    memset(place, -1, (size_t)c->o.max_branch * sizeof *place);
    for (int t = 0; t < a->T; t++) {
        int b = a->branch[t];
        if (place[b] < 0) {
            of[place[b] = n_branch++] = (struct newcomers){b, 0};
        }
        row[t] = (struct newcomer){place[b], of[place[b]].rows++, a->pos[t]};
    }
    int64_t pages = 0;
    for (int i = 0; !rc && i < n_branch; i++) {
        int32_t *most = &c->n_most[(size_t)of[i].branch * (size_t)c->o.L + (size_t)a->layer];
        if (*most + of[i].rows > c->o.max_slots)
            rc = learn(dev, c, of[i].branch);
        assert(rc || *most + of[i].rows <= c->o.max_slots);
        *most += of[i].rows;
        pages += (int64_t)G * (of[i].rows / SLOTS + 2);
    }
    if (!rc)
        rc = reserve(dev, c, pages);
    struct call_rows rows = {};
    if (!rc && a->T <= FEW_ROWS && !kvt_cuda_in_step(dev)) {
        memcpy(rows.few_of, of, (size_t)n_branch * sizeof *of);
        memcpy(rows.few_row, row, (size_t)a->T * sizeof *row);
    } else if (!rc) {
        rows.of = (const struct newcomers *)kvt_cuda_post_once(dev, KVT_POST_APPEND, of, bytes);
        rows.row = (const struct newcomer *)(rows.of + a->T);
        rc = rows.of ? 0 : dev->err.code;
    }
    int32_t *base = rc ? NULL : (int32_t *)kvt_cuda_scratch(dev, (size_t)n_branch * (size_t)G * sizeof *base);
    free(of);
    free(place);
    if (!base)
        return dev->err.code;
    if (c->o.type == KVT_F32)
        append<float>(dev, a, rows, n_branch, base);
    else if (c->o.type == KVT_F16)
        append<__half>(dev, a, rows, n_branch, base);
    else
        append<__nv_bfloat16>(dev, a, rows, n_branch, base);
    return kvt_cuda_launched(dev, "append");
}

int kvt_cuda_cache_keep(struct kvt_dev *dev, const struct kvt_keep_args *a)
{
    struct kvt_cache *c = a->cache;
    int G = c->o.G, *most = &c->n_most[(size_t)a->branch * (size_t)c->o.L + (size_t)a->layer];
    *most = *most < a->ld ? *most : a->ld;
    int pages = (*most + SLOTS - 1) / SLOTS, rc = reserve(dev, c, (int64_t)G * pages);
    if (rc)
        return rc;
    int32_t *fresh = (int32_t *)kvt_cuda_scratch(dev, (size_t)G * (size_t)(pages + 1) * sizeof *fresh);
    if (!fresh)
        return KVT_ENOMEM;
    if (pages)
        GPU_LAUNCH(gather_kernel, dim3((unsigned)pages, (unsigned)G), THREADS, 0, dev->stream, c->at, a->branch, a->layer, a->slot, a->count, a->ld, fresh, pages);
    GPU_LAUNCH(settle_kernel, (unsigned)G, THREADS, 0, dev->stream, c->at, a->branch, a->layer, a->count, fresh, pages);
    return kvt_cuda_launched(dev, "keep");
}

int kvt_cuda_cache_remove(struct kvt_dev *dev, const struct kvt_remove_args *a)
{
    struct kvt_cache *c = a->cache;
    int pages = (kvt_most(c, a->branch, a->layer) + SLOTS - 1) / SLOTS;
    int rc = reserve(dev, c, (int64_t)c->o.G * (a->ld < pages ? a->ld : pages));
    if (rc)
        return rc;
    GPU_LAUNCH(remove_kernel, (unsigned)c->o.G, THREADS, 0, dev->stream, c->at, a->branch, a->layer, a->slot, a->count, a->ld, a->state, a->state_ld);
    return kvt_cuda_launched(dev, "remove");
}

int kvt_cuda_cache_fork(struct kvt_dev *dev, struct kvt_cache *c, int src, int dst)
{
    size_t L = (size_t)c->o.L;
    c->counted = false;
    memcpy(c->n_most + (size_t)dst * L, c->n_most + (size_t)src * L, L * sizeof *c->n_most);
    GPU_LAUNCH(fork_kernel, (unsigned)(c->o.L * c->o.G), THREADS, 0, dev->stream, c->at, src, dst);
    return kvt_cuda_launched(dev, "fork");
}

int kvt_cuda_cache_drop(struct kvt_dev *dev, struct kvt_cache *c, int branch)
{
    c->counted = false;
    memset(c->n_most + (size_t)branch * (size_t)c->o.L, 0, (size_t)c->o.L * sizeof *c->n_most);
    GPU_LAUNCH(drop_kernel, (unsigned)(c->o.L * c->o.G), THREADS, 0, dev->stream, c->at, branch);
    return kvt_cuda_launched(dev, "drop");
}

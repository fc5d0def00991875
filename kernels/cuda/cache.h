/* The KV cache on the device: pages, tables and counts live there and are changed by kernels, so that a step needs no wait.
 *
 * A page holds KVT_PAGE_SLOTS = 16 slots of one (layer, kv head): K is (16, D), then V is (16, D): a slot's row is one aligned run, as
 * tensor cores and 16-byte loads want it. Positions, (16) int32, are kept apart. Slot i of a cell is slot i % 16 of its page i / 16.
 * Pages lie in slabs, which never move.
 *
 * The free list is a queue: pages are taken at `head` and given back at `tail`, both ever growing, so takers and givers of one kernel
 * never meet as long as enough pages were free before it; the host sees to that with an upper bound of what is held, and asks the
 * device (and waits) only when the bound says that the pool might not do. Who may write a page, and when it is copied: kernels/pages.h. */
#ifndef KVT_KERNELS_CUDA_CACHE_H
#define KVT_KERNELS_CUDA_CACHE_H

#include "kernels/cuda/cuda.h"

enum { KVT_MAX_SLABS = 4096 };

/* What kernels get, by value. */
struct kvt_pages {
    int L, G, D;
    enum kvt_dtype type;     /* KVT_F32, KVT_F16 or KVT_BF16 */
    int value_bytes;         /* 4 or 2 */
    int table_ld;            /* entries of a cell's table */
    int slab_shift;          /* log2 of the pages of a slab */
    size_t page_bytes;       /* K and V of a page */
    unsigned char **kv;      /* (KVT_MAX_SLABS) slabs of (1 << slab_shift, page_bytes) */
    int32_t **pos;           /* (KVT_MAX_SLABS) slabs of (1 << slab_shift, 16) */
    int32_t *n;              /* (branches, L, G) live slots */
    int32_t *table;          /* (branches, L, G, table_ld) page ids; the first ceil(n / 16) are held */
    int32_t *refs;           /* (pages) cells that hold a page */
    int32_t *queue;          /* (pages) free pages */
    int32_t n_page;          /* pages of all slabs: the queue's length */
    struct kvt_queue *ends;
};

struct kvt_queue {           /* free pages are queue[head .. tail) modulo n_page */
    unsigned head, tail;
    int32_t peak;            /* the most pages ever held at once, seen at the end of an operation */
};

struct kvt_holding {         /* pages of a branch, and of these the ones that nobody else holds */
    unsigned long long all, only;
};

struct kvt_cache {
    struct kvt_cache_opts o;
    struct kvt_pages at;
    int n_slab;
    int64_t held_most;       /* no more pages than these are held */
    int32_t *n_most;         /* (branches, L) no cell of the layer has more live slots than these */
    struct kvt_holding *holding, *host_holding; /* (branches, 1 more for the queue's ends) on the device; on the host, as long as `counted` */
    bool counted;
    unsigned char *kv[KVT_MAX_SLABS]; /* the slabs again, for the host */
    int32_t *pos[KVT_MAX_SLABS];
};

static inline int kvt_most(const struct kvt_cache *c, int branch, int layer) { return c->n_most[(size_t)branch * (size_t)c->o.L + (size_t)layer]; }

#ifdef __CUDACC__
#define KVT_DEVICE static __device__ __forceinline__
#else
#define KVT_DEVICE static inline
#endif

#ifdef __CUDACC__
__host__ /* too */
#endif
KVT_DEVICE size_t kvt_cell(const struct kvt_pages &p, int branch, int layer, int g)
{
    return ((size_t)branch * (size_t)p.L + (size_t)layer) * (size_t)p.G + (size_t)g;
}
KVT_DEVICE int32_t *kvt_table(const struct kvt_pages &p, size_t cell) { return p.table + cell * (size_t)p.table_ld; }
KVT_DEVICE unsigned char *kvt_page_kv(const struct kvt_pages &p, int32_t page)
{
    return p.kv[page >> p.slab_shift] + (size_t)(page & ((1 << p.slab_shift) - 1)) * p.page_bytes;
}
KVT_DEVICE int32_t *kvt_page_pos(const struct kvt_pages &p, int32_t page)
{
    return p.pos[page >> p.slab_shift] + (size_t)(page & ((1 << p.slab_shift) - 1)) * KVT_PAGE_SLOTS;
}
/* The row (D values of the cache's type) of K, or of V, in slot i of a cell's table. */
KVT_DEVICE unsigned char *kvt_slot_k(const struct kvt_pages &p, const int32_t *table, int i)
{
    return kvt_page_kv(p, table[i / KVT_PAGE_SLOTS]) + (size_t)(i % KVT_PAGE_SLOTS) * (size_t)(p.D * p.value_bytes);
}
KVT_DEVICE unsigned char *kvt_slot_v(const struct kvt_pages &p, const int32_t *table, int i) { return kvt_slot_k(p, table, i) + p.page_bytes / 2; }
KVT_DEVICE int32_t kvt_slot_pos(const struct kvt_pages &p, const int32_t *table, int i)
{
    return kvt_page_pos(p, table[i / KVT_PAGE_SLOTS])[i % KVT_PAGE_SLOTS];
}
/* Value d of a row, decoded. */
KVT_DEVICE float kvt_row_value(const unsigned char *row, enum kvt_dtype type, int d)
{
    return type == KVT_F32 ? ((const float *)row)[d] : type == KVT_F16 ? __half2float(((const __half *)row)[d]) : __bfloat162float(((const __nv_bfloat16 *)row)[d]);
}

#endif

/* The KV cache of the two host backends: a pool of counted pages and the tables that point into it.
 *
 * A page holds KVT_PAGE_SLOTS = 16 slots of one (layer, kv head). Inside a page
 *   K is (D, 16): a vector over slots is contiguous, so scores of 16 slots need no transposition,
 *   V is (16, D): a vector over dims is contiguous, as the weighted sum wants it,
 *   positions are (16) int32, kept apart so that K and V of a page are one aligned run.
 * Slot i of a cell is slot i % 16 of its page i / 16. Slots from n on in the last page hold nothing defined.
 *
 * Who may write: a page is written only by a cell that holds it alone (refs == 1); who wants to write a page that
 * others hold copies it first. A page at refs == 0 is on the free list. Pages never move: the pool grows by slabs. */
#ifndef KVT_KERNELS_PAGES_H
#define KVT_KERNELS_PAGES_H

#include "kernels/ops.h"

struct kvt_cell {            /* one (branch, layer, kv head) */
    int32_t n;               /* live slots */
    int32_t cap;             /* entries of `page` */
    int32_t want;            /* append: slots counted so far; 0 between calls */
    int32_t *page;           /* (cap) page ids; the first ceil(n / 16) are held */
};

struct kvt_slab {
    unsigned char *kv;       /* (1 << slab_shift, page_bytes) */
    int32_t *pos;            /* (1 << slab_shift, 16) */
};

struct kvt_cache {
    struct kvt_cache_opts o;
    int value_bytes;         /* 2 or 4 */
    size_t page_bytes;       /* K and V of a page */
    int slab_shift;          /* log2 of the pages of a slab */
    int n_slab, cap_slab;
    struct kvt_slab *slab;   /* (n_slab) */
    int32_t n_page;          /* pages of all slabs */
    int32_t n_free;
    int32_t peak;            /* the most pages ever held at once */
    int32_t max_page;        /* the pool grows no further; from max_bytes, or what a test sets */
    int32_t *refs;           /* (n_page) cells that hold a page */
    int32_t *free_page;      /* (n_free), a stack */
    struct kvt_cell *cell;   /* (max_branch, L, G) */
};

static inline unsigned char *kvt_page_k(const struct kvt_cache *c, int32_t page)
{
    return c->slab[page >> c->slab_shift].kv + (size_t)(page & ((1 << c->slab_shift) - 1)) * c->page_bytes;
}

static inline unsigned char *kvt_page_v(const struct kvt_cache *c, int32_t page)
{
    return kvt_page_k(c, page) + c->page_bytes / 2;
}

static inline int32_t *kvt_page_pos(const struct kvt_cache *c, int32_t page)
{
    return c->slab[page >> c->slab_shift].pos + (size_t)(page & ((1 << c->slab_shift) - 1)) * KVT_PAGE_SLOTS;
}

static inline struct kvt_cell *kvt_cell_at(const struct kvt_cache *c, int branch, int layer, int g)
{
    return c->cell + ((size_t)branch * (size_t)c->o.L + (size_t)layer) * (size_t)c->o.G + (size_t)g;
}

static inline int kvt_page_count(int n) { return (n + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS; }

int kvt_pages_open(struct kvt_cache **out, const struct kvt_cache_opts *o, struct kvt_err *err);
void kvt_pages_close(struct kvt_cache **cache);

/* Takes the next free slot of each cell of branch[t] for T rows, writes their positions, and says where K and V go:
 * place[t * G + g] = page * 16 + slot. All or nothing: on KVT_ENOMEM no cell has changed. */
int kvt_pages_append(struct kvt_cache *c, int layer, int T, const int32_t *branch, const int32_t *pos, int64_t *place,
                     struct kvt_err *err);

/* The operations of ops.h with the same names; all or nothing. */
int kvt_pages_keep(const struct kvt_keep_args *a, struct kvt_err *err);
int kvt_pages_remove(const struct kvt_remove_args *a, struct kvt_err *err);
int kvt_pages_fork(struct kvt_cache *c, int src, int dst, struct kvt_err *err);
void kvt_pages_drop(struct kvt_cache *c, int branch);
void kvt_pages_positions(const struct kvt_positions_args *a);
void kvt_pages_lengths(const struct kvt_cache *c, int branch, int32_t *count);
void kvt_pages_bytes(const struct kvt_cache *c, int branch, struct kvt_cache_bytes *out);

/* Values i, i + stride, ... (count of them) of K or V in a page, decoded exactly. */
void kvt_pages_decode(const struct kvt_cache *c, const void *page, size_t first, size_t stride, int count, float *out);
/* One row (D) encoded, round to nearest even. */
void kvt_pages_encode(const struct kvt_cache *c, void *page, size_t first, size_t stride, int count, const float *in);

#endif

/* The parts of attn that a vector level provides, and how a call is cut into them.
 *
 * Two ways of computing, chosen by the shape of the call alone:
 *  - parts (attn_parts.c): any rows of any branches. A part is one row, one kv head and KVT_PART_SLOTS slots; the parts
 *    of a row are fixed by n alone and joined in order, so a row's bits know nothing of other rows or of threads.
 *  - tiles (attn_tiles.c): many rows of one branch whose slots are in order of position (a prefill). A tile is up to
 *    KVT_TILE_ROWS rows of one query head over all keys they see, its scores in cache: KVT_TILE_ROWS x n floats. */
#ifndef KVT_KERNELS_CPU_ATTN_H
#define KVT_KERNELS_CPU_ATTN_H

#include "kernels/dev.h"
#include "kernels/pages.h"

enum {
    KVT_PART_SLOTS = 256,    /* slots of a part; its scores of a query group stay in L1 */
    KVT_TILE_ROWS = 48,      /* rows of a tile */
    KVT_TILE_KEYS = 64,      /* keys whose V is decoded at a time, and whose columns are reduced before that, at most */
    KVT_LANES = 16,          /* floats; paddings are multiples of it at every level */
};

/* Slots [slot0, slot1) of one cell for one row and the query heads of its group. */
struct kvt_attn_part {
    const struct kvt_cache *c;
    const struct kvt_cell *cell;
    const float *q;          /* (heads, D) */
    int heads, slot0, slot1;
    int32_t pos, after;      /* slots at positions in (after, pos] are seen */
    float scale, cap;
    const int32_t *turn;     /* (slot1 - slot0, to a whole page) renumbered: key j is turned by this many positions; or NULL */
    const struct kvt_rope *rope;
    float *score;            /* (heads, KVT_PART_SLOTS) out: exp(score - max), 0 where not seen */
    float *max, *sum;        /* (heads) out: -inf and 0 where nothing is seen */
    float *acc;              /* (heads, Dp) out: sum of exp(score - max) v */
    float *work;             /* (heads, D) of a renumbered row */
    const struct kvt_cell *next; /* what the thread reads next: the cell of its next part, and its first slot there; or NULL */
    int next_slot;
};

/* Up to KVT_TILE_ROWS rows of one query head. Row r sees slots [from[r], seen[r]). */
struct kvt_attn_tile {
    const struct kvt_cache *c;
    const struct kvt_cell *cell;
    const float *q;          /* row r at q + r * q_ld */
    size_t q_ld;
    int rows;
    const int32_t *seen;     /* (rows) */
    const int32_t *from;     /* (rows), or NULL: 0 */
    int n;                   /* the largest of seen, > 0 */
    int lo;                  /* scores are made from here on: at most the smallest of from, a multiple of KVT_TILE_KEYS */
    float scale, cap;
    float *s;                /* (KVT_TILE_ROWS, s_ld) scores, then exp(score - max), 0 where not seen, to a multiple of 16 */
    size_t s_ld;             /* multiple of 16, >= n rounded up to 32 */
    float *inv;              /* (KVT_TILE_ROWS) 1 / sum of a row; 0 for a row that sees nothing */
    float *entropy;          /* (KVT_TILE_ROWS) nats; or NULL */
    /* what softmax says of rows while they are in L1; slot j holds position j there, and row r is at pos + r */
    int32_t pos;
    float *local;            /* (rows) mass on distances < n_local; or NULL */
    int n_local;
    float *near, *far;       /* added to by rows at far_from or later: (16) distance 15 - i; (bins, 16) distances of a bin of
                              * kvt_distance_start from 16 on, spread over the lanes; or NULL */
    int far_from;
    int top_k;
    float *top;              /* (rows, top_k) and */
    int32_t *top_at;         /* (rows, top_k) as in kvt_see; or NULL */
    float *o;                /* (KVT_TILE_ROWS, Dp) sum of exp(score - max) v */
    float *qpack;            /* (KVT_TILE_ROWS D) */
    float *buf;              /* decoded K or V: KVT_TILE_KEYS Dp */
};

/* A pooled map as a tile meets it. */
struct kvt_attn_pool {
    int C;
    const int32_t *edge;     /* (C + 1) first column of each column bin */
    const int32_t *first;    /* column bin of column 16 i */
    const int32_t *until;    /* (rows) end of the rows that are in one row bin with row r */
    float *const *mean, *const *max; /* (rows) of row r's bin: sums (C) and maxima (C); or NULL */
};

struct kvt_attn_kernel {
    /* Of a renumbered row at `pos`: how far each key of a cell is turned, (n to a whole page); bits, below: (words). */
    void (*turns)(const struct kvt_cache *c, const struct kvt_cell *cell, int32_t pos, int words, uint64_t *bits,
                  int32_t *below, int32_t *turn);
    void (*part)(const struct kvt_attn_part *p);
    void (*scores)(const struct kvt_attn_tile *t);   /* q and K -> s */
    void (*softmax)(const struct kvt_attn_tile *t);  /* s, inv, entropy, and what is said of rows */
    void (*values)(const struct kvt_attn_tile *t, int key0, int key1); /* s and V of these keys, at most KVT_TILE_KEYS, added to o */
    /* Probabilities of rows [r0, r1) at columns [j0, j1), at most KVT_TILE_KEYS of them and j0 a multiple of 16, reduced over rows:
     * sum and, if not NULL, sum of squares and max, and their bins of a map. The outputs begin at j0 and end at a multiple of 16. */
    void (*columns)(const struct kvt_attn_tile *t, const struct kvt_attn_pool *pool, int r0, int r1, int j0, int j1, float *sum,
                    float *square, float *max);
    /* n bins of a map, finished as kvt_see says; sum and max are zero again. */
    void (*finish)(float *sum, float *max, const float *weight, int n, uint16_t *map_mean, uint16_t *map_max);
    void (*half)(const struct kvt_attn_tile *t, int r, uint16_t *out); /* row r of the tile as kvt_see.half, as far as it sees */
};
extern const struct kvt_attn_kernel kvt_attn_plain;
#if defined(__x86_64__)
extern const struct kvt_attn_kernel kvt_attn_avx2, kvt_attn_avx512;
#endif

/* D in whole vectors. */
static inline int kvt_attn_dp(int D) { return (D + KVT_LANES - 1) & ~(KVT_LANES - 1); }

/* The slots of the cell are in order of position, strictly. */
bool kvt_cell_ascending(const struct kvt_cache *c, const struct kvt_cell *cell);
/* How many slots of an ascending cell have a position <= pos. */
int kvt_cell_seen(const struct kvt_cache *c, const struct kvt_cell *cell, int32_t pos);

int kvt_attn_by_parts(struct kvt_dev *dev, const struct kvt_attn_kernel *kernel, const struct kvt_attn_args *a);
int kvt_attn_by_tiles(struct kvt_dev *dev, const struct kvt_attn_kernel *kernel, const struct kvt_attn_args *a);

#endif

/* The plan of a prefill's attention: how rows are cut (attn_tiles.c), and what is gathered from them (attn_see.c). */
#ifndef KVT_KERNELS_CPU_ATTN_TILES_H
#define KVT_KERNELS_CPU_ATTN_TILES_H

#include "kernels/cpu/attn.h"

struct kvt_tiles {
    const struct kvt_attn_kernel *kernel;
    const struct kvt_attn_args *a;
    const struct kvt_see *see;   /* all NULL where nothing is asked */
    int D, Dp, n;                /* n: the most slots that a row sees */
    int strip_rows, strips;
    const int32_t *seen;         /* (G, T) */
    const int32_t *from;         /* (G, T), or NULL where there is no window */
    size_t ldn;                  /* n in whole vectors */
    size_t s_ld;
    bool columns;                /* something is gathered over rows */
    bool squares, maxima, pool;
    int bins;                    /* of kvt_distance_start that rows can reach */
    const int32_t *edge;         /* (C + 1) first column of each column bin */
    const int32_t *first;        /* (ldn / 16) column bin of column 16 i */
    char *unit;                  /* (H, strips) blocks of unit_bytes */
    size_t unit_bytes;
    char *mine;                  /* (threads) blocks of thread_bytes */
    size_t thread_bytes;
};

/* What a unit (a strip of rows of one head) gathers: for each of the caller's arrays that is asked for, one of its own. Of arrays
 * with a dimension of row bins only the first and the last row that the strip touches: what lies between is its alone, and goes
 * straight to the caller's. */
struct kvt_sums {
    float *mass, *max, *later;   /* (n) */
    float *wmass[KVT_MAX_WINDOWS], *sqmass[KVT_MAX_WINDOWS];
    float *pool_mean, *pool_max; /* (2, C) */
    float *spans;                /* (2, n_segments) */
    float *near, *far;           /* (16), (bins, 16): as in kvt_attn_tile */
    float *offset;               /* (n_offsets) */
    int h, bin0, bin1;           /* row bins of the strip's first and last row */
    int segment0, segment1;      /* segments of the same */
};

/* Bytes that a unit gathers into. */
size_t kvt_sums_bytes(const struct kvt_tiles *p);
struct kvt_sums kvt_sums_of(const struct kvt_tiles *p, int h, int strip);

/* Where the rows of a tile lie in a pooled map. */
struct kvt_tile_bins {
    struct kvt_attn_pool pool;
    int32_t until[KVT_TILE_ROWS];
    float *mean[KVT_TILE_ROWS], *max[KVT_TILE_ROWS];
};

/* Before softmax: what the tile says of its rows is pointed to the caller's arrays. pos: of the tile's first row. */
void kvt_see_begin(const struct kvt_tiles *p, struct kvt_attn_tile *t, const struct kvt_sums *s, int32_t pos, struct kvt_tile_bins *b);
/* After softmax: results that belong to one row of the tile, t0 being the first one's number in the call. */
void kvt_see_rows(const struct kvt_tiles *p, const struct kvt_attn_tile *t, const struct kvt_sums *s, int t0);
/* A block of columns [j0, j1), in cache for the values' sake. */
void kvt_see_block(const struct kvt_tiles *p, const struct kvt_attn_tile *t, const struct kvt_sums *s, const struct kvt_tile_bins *bins, int j0,
                   int j1);
/* The strips of a head added to the caller's arrays, in order. */
void kvt_see_join(const struct kvt_tiles *p, int h);

#endif

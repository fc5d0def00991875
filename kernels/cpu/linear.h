/* The parts of linear that a vector level provides, and the one rule that makes its results exact.
 *
 * The rule. For each (row, output) the K products go to a fixed number of lanes in a fixed order (lane = k modulo
 * the lane count), each lane adds in ascending k, and the lanes are added by one fixed tree. Nothing in it knows
 * how many rows, outputs or threads there are, so neither does a bit of the result. Every way of computing inside
 * one level follows it, so `few` and `tile` agree bit for bit. K is padded with zeros to Kp, a multiple of 32. */
#ifndef KVT_KERNELS_CPU_LINEAR_H
#define KVT_KERNELS_CPU_LINEAR_H

#include "kernels/cpu/simd.h"
#include "kernels/ops.h"

#define KVT_TILE_COLS 4  /* outputs of a tile */

/* Sums for `rows` rows and `cols` outputs, stored as out = sum (+ bias) (+ out). */
struct kvt_tile {
    const void *act;     /* (rows, Kp) packed activations, 64-byte aligned */
    int rows, K, Kp;
    int cols;            /* outputs wanted */
    float *out;          /* (rows, ld), at this tile's first output */
    size_t ld;           /* N */
    const float *bias;   /* at this tile's first output, or NULL */
    bool accumulate;
    /* where it all came from, for sums that are too large for the arithmetic */
    enum kvt_dtype type;
    const float *in;        /* (rows, K) */
    const uint8_t *blocks;  /* (cols, row_bytes) */
    size_t row_bytes;
    uint64_t *beyond_f16;   /* how many there were */
};

struct kvt_linear_kernel {
    size_t value_bytes;  /* of a packed activation or weight: 4 (f32) or 2 (bf16, f16) */
    size_t tail_bytes;   /* that pack writes behind a row of activations, a multiple of 64 */
    int tile_rows;       /* most rows of one tile */
    int tile_cols;       /* outputs of one tile, 0 = KVT_TILE_COLS */
    int few_rows;        /* up to this many rows, few() is used; 0 = there is none */
    bool few_blocks;     /* few() is for types with blocks of several values only */
    /* K values to Kp packed ones, in the order in which weights of this type are unpacked */
    void (*pack)(enum kvt_dtype type, const float *in, int K, int Kp, void *act);
    /* one row of blocks to Kp packed values */
    void (*unpack)(enum kvt_dtype type, const uint8_t *blocks, int K, int Kp, void *panel);
    /* the same for `count` rows at once, where a panel isn't one row after the other; used where unpack is NULL */
    void (*unpack_rows)(enum kvt_dtype type, const uint8_t *blocks, size_t row_bytes, int count, int K, int Kp, void *panel);
    /* rows <= tile_rows; cols <= tile_cols, panel (tile_cols, Kp) all readable */
    void (*tile)(const struct kvt_tile *t, const void *panel);
    /* rows <= few_rows, any cols: reads the blocks where they lie */
    void (*few)(const struct kvt_tile *t, enum kvt_dtype type, const uint8_t *blocks, size_t row_bytes);
};

extern const struct kvt_linear_kernel kvt_linear_plain;
#if defined(__x86_64__)
extern const struct kvt_linear_kernel kvt_linear_avx2, kvt_linear_avx512, kvt_linear_avx512_bf16, kvt_linear_avx512_f16;

/* Stores the sums of row r, outputs [c, c + 4) of the tile: out = sum (+ bias) (+ out), in this order. */
static inline void kvt_tile_store(const struct kvt_tile *t, int r, int c, __m128 sum)
{
    float *out = t->out + (size_t)r * t->ld + c, some[KVT_TILE_COLS];
    int cols = t->cols - c;
    if (cols >= KVT_TILE_COLS) {
        if (t->bias)
            sum = _mm_add_ps(sum, _mm_loadu_ps(t->bias + c));
        if (t->accumulate)
            sum = _mm_add_ps(sum, _mm_loadu_ps(out));
        _mm_storeu_ps(out, sum);
        return;
    }
    _mm_storeu_ps(some, sum);
    for (int i = 0; i < cols; i++) {
        if (t->bias)
            some[i] += t->bias[c + i];
        out[i] = t->accumulate ? some[i] + out[i] : some[i];
    }
}
#endif

/* The sum of row r and output c once more, from factors as they are, in f64. */
float kvt_linear_wide(const struct kvt_tile *t, int r, int c);

/* pack and unpack in plain C, for levels without their own. */
void kvt_linear_pack_plain(enum kvt_dtype type, const float *in, int K, int Kp, void *act);
void kvt_linear_unpack_plain(enum kvt_dtype type, const uint8_t *blocks, int K, int Kp, void *panel);

#endif

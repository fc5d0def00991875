/* linear with AVX2 and FMA: 8 lanes; tiles of 3 rows x 4 outputs fill 12 of 16 registers with sums. */
#include "kernels/cpu/simd.h"

#ifdef KVT_X86
#include "kernels/cpu/linear.h"

enum { TILE_ROWS = 3 };

/* Sums of the lanes of four vectors: (s0, s1, s2, s3). */
KVT_INLINE KVT_AVX2 __m128 reduce4(const __m256 *v)
{
    __m256 t = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    return _mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
}

KVT_INLINE KVT_AVX2 void tile_rows(const int rows, const struct kvt_tile *t, const float *panel)
{
    const float *act = t->act;
    size_t Kp = (size_t)t->Kp;
    __m256 sum[TILE_ROWS][KVT_TILE_COLS];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < KVT_TILE_COLS; c++)
            sum[r][c] = _mm256_setzero_ps();
    for (size_t k = 0; k < Kp; k += 8) {
        __m256 x[TILE_ROWS];
        for (int r = 0; r < rows; r++)
            x[r] = _mm256_load_ps(act + (size_t)r * Kp + k);
        for (int c = 0; c < KVT_TILE_COLS; c++) {
            __m256 w = _mm256_load_ps(panel + (size_t)c * Kp + k);
            for (int r = 0; r < rows; r++)
                sum[r][c] = _mm256_fmadd_ps(x[r], w, sum[r][c]);
        }
    }
    for (int r = 0; r < rows; r++)
        kvt_tile_store(t, r, 0, reduce4(sum[r]));
}

static KVT_AVX2 void tile(const struct kvt_tile *t, const void *panel)
{
    switch (t->rows) {
    case 1: tile_rows(1, t, panel); break;
    case 2: tile_rows(2, t, panel); break;
    default: tile_rows(3, t, panel); break;
    }
}

const struct kvt_linear_kernel kvt_linear_avx2 = {
    .value_bytes = sizeof(float),
    .tile_rows = TILE_ROWS,
    .pack = kvt_linear_pack_plain,
    .unpack = kvt_linear_unpack_plain,
    .tile = tile,
};
#endif

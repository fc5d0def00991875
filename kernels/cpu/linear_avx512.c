/* linear in f32 with AVX-512: 16 lanes; tiles of 6 rows x 4 outputs keep 24 sums in registers. */
#include "kernels/cpu/simd.h"

#ifdef KVT_X86
#include "kernels/cpu/blocks_avx512.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/reduce_avx512.h"

enum { TILE_ROWS = 6, FEW_ROWS = 4 };

static KVT_AVX512 void pack(enum kvt_dtype type, const float *in, int K, int Kp, void *act)
{
    (void)type;
    float *out = act;
    for (int k = 0; k < Kp; k += 16) {
        int left = K - k;
        __mmask16 have = left >= 16 ? 0xffff : left > 0 ? (__mmask16)((1u << left) - 1) : 0;
        _mm512_store_ps(out + k, _mm512_maskz_loadu_ps(have, in + k));
    }
}

KVT_INLINE KVT_AVX512 void unpack_type(enum kvt_dtype type, const uint8_t *blocks, int K, int Kp, float *out)
{
    _Alignas(64) float ab[KVT_SCALES];
    for (int j0 = 0; j0 < Kp / 32; j0 += KVT_RUNS) {
        int runs = Kp / 32 - j0 < KVT_RUNS ? Kp / 32 - j0 : KVT_RUNS;
        kvt_scales(type, blocks, j0, runs, ab);
        for (int j = j0; j < j0 + runs; j++) {
            struct kvt_v32 v = kvt_values32(type, blocks, j, K - j * 32, ab + kvt_scales_of_run(type) * (j - j0));
            _mm512_store_ps(out + j * 32, v.lo);
            _mm512_store_ps(out + j * 32 + 16, v.hi);
        }
    }
}

static KVT_AVX512 void unpack(enum kvt_dtype type, const uint8_t *blocks, int K, int Kp, void *panel)
{
    switch (type) {
#define X(name, values, bytes) case KVT_##name: unpack_type(KVT_##name, blocks, K, Kp, panel); break;
    KVT_DTYPE_MAP(X)
#undef X
    case KVT_N_DTYPE: break;
    }
}

KVT_INLINE KVT_AVX512 void tile_rows(const int rows, const struct kvt_tile *t, const float *panel)
{
    const float *act = t->act;
    size_t Kp = (size_t)t->Kp;
    __m512 sum[TILE_ROWS][KVT_TILE_COLS];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < KVT_TILE_COLS; c++)
            sum[r][c] = _mm512_setzero_ps();
    for (size_t k = 0; k < Kp; k += 16) {
        __m512 w[KVT_TILE_COLS];
        for (int c = 0; c < KVT_TILE_COLS; c++)
            w[c] = _mm512_load_ps(panel + (size_t)c * Kp + k);
        for (int r = 0; r < rows; r++) {
            __m512 x = _mm512_load_ps(act + (size_t)r * Kp + k);
            for (int c = 0; c < KVT_TILE_COLS; c++)
                sum[r][c] = _mm512_fmadd_ps(x, w[c], sum[r][c]);
        }
    }
    #pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
        kvt_tile_store(t, r, 0, kvt_reduce4(sum[r]));
}

static KVT_AVX512 void tile(const struct kvt_tile *t, const void *panel)
{
    switch (t->rows) {
    case 1: tile_rows(1, t, panel); break;
    case 2: tile_rows(2, t, panel); break;
    case 3: tile_rows(3, t, panel); break;
    case 4: tile_rows(4, t, panel); break;
    case 5: tile_rows(5, t, panel); break;
    default: tile_rows(6, t, panel); break;
    }
}

/* Blocks are decoded in registers and used for all rows at once. */
KVT_INLINE KVT_AVX512 void few_rows(const int rows, enum kvt_dtype type, const struct kvt_tile *t, const uint8_t *blocks,
                                    size_t row_bytes)
{
    const float *act = t->act;
    size_t Kp = (size_t)t->Kp;
    _Alignas(64) float ab[KVT_TILE_COLS][KVT_SCALES];
    for (int n = 0; n < t->cols; n += KVT_TILE_COLS) {
        const uint8_t *w[KVT_TILE_COLS]; /* past the last output its row is read again, and not stored */
        for (int c = 0; c < KVT_TILE_COLS; c++)
            w[c] = blocks + (size_t)(n + c < t->cols ? n + c : t->cols - 1) * row_bytes;
        __m512 sum[FEW_ROWS][KVT_TILE_COLS];
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < KVT_TILE_COLS; c++)
                sum[r][c] = _mm512_setzero_ps();
        for (int j0 = 0; j0 < t->Kp / 32; j0 += KVT_RUNS) {
            int runs = t->Kp / 32 - j0 < KVT_RUNS ? t->Kp / 32 - j0 : KVT_RUNS;
            for (int c = 0; c < KVT_TILE_COLS; c++)
                kvt_scales(type, w[c], j0, runs, ab[c]);
            for (int j = j0; j < j0 + runs; j++) {
                kvt_prefetch_ahead(type, w[0], j);
                const float *x = act + (size_t)j * 32;
                for (int c = 0; c < KVT_TILE_COLS; c++) {
                    struct kvt_v32 v = kvt_values32(type, w[c], j, t->K - j * 32, ab[c] + kvt_scales_of_run(type) * (j - j0));
                    for (int r = 0; r < rows; r++) {
                        sum[r][c] = _mm512_fmadd_ps(_mm512_load_ps(x + (size_t)r * Kp), v.lo, sum[r][c]);
                        sum[r][c] = _mm512_fmadd_ps(_mm512_load_ps(x + (size_t)r * Kp + 16), v.hi, sum[r][c]);
                    }
                }
            }
        }
        #pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            kvt_tile_store(t, r, n, kvt_reduce4(sum[r]));
    }
}

#define X(name, values, bytes)                                                                       \
    static KVT_AVX512 void few_##name(const struct kvt_tile *t, const uint8_t *blocks, size_t row_bytes) \
    {                                                                                                \
        switch (t->rows) {                                                                           \
        case 1: few_rows(1, KVT_##name, t, blocks, row_bytes); break;                                \
        case 2: few_rows(2, KVT_##name, t, blocks, row_bytes); break;                                \
        case 3: few_rows(3, KVT_##name, t, blocks, row_bytes); break;                                \
        default: few_rows(4, KVT_##name, t, blocks, row_bytes); break;                               \
        }                                                                                            \
    }
KVT_DTYPE_MAP(X)
#undef X

static void few(const struct kvt_tile *t, enum kvt_dtype type, const uint8_t *blocks, size_t row_bytes)
{
    static void (*const by_type[KVT_N_DTYPE])(const struct kvt_tile *, const uint8_t *, size_t) = {
#define X(name, values, bytes) few_##name,
        KVT_DTYPE_MAP(X)
#undef X
    };
    by_type[type](t, blocks, row_bytes);
}

const struct kvt_linear_kernel kvt_linear_avx512 = {
    .value_bytes = sizeof(float),
    .tile_rows = TILE_ROWS,
    .few_rows = FEW_ROWS,
    .pack = pack,
    .unpack = unpack,
    .tile = tile,
    .few = few,
};
#endif

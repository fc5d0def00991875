/* linear in bf16 with AVX512_BF16: a lane takes two products at a time (k, k + 1); 24 sums in registers. */
#include "kernels/cpu/simd.h"

#ifdef KVT_X86
#include "kernels/cpu/blocks_avx512.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/reduce_avx512.h"

enum { TILE_ROWS = 6, FEW_ROWS = 4 };

KVT_INLINE KVT_AVX512_BF16 __m512i narrow(__m512 lo, __m512 hi)
{
    return (__m512i)_mm512_cvtne2ps_pbh(hi, lo);
}

KVT_INLINE KVT_AVX512_BF16 __m512 dot(__m512 sum, __m512i x, __m512i w)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

/* 32 values as bf16. Looked-up types round their table, 16 or 32 values, in place of the 32 that come out. */
KVT_INLINE KVT_AVX512_BF16 __m512i values32(enum kvt_dtype type, const uint8_t *row, int j, int valid, const float *ab)
{
    if (type == KVT_BF16)
        return _mm512_maskz_loadu_epi16(valid >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << valid) - 1, row + (size_t)j * 64);
    if (!kvt_is_looked_up(type)) {
        struct kvt_v32 v = kvt_values32(type, row, j, valid, ab);
        return narrow(v.lo, v.hi);
    }
    bool k = type == KVT_Q4_K || type == KVT_Q5_K, fifth = type == KVT_Q5_0 || type == KVT_Q5_1 || type == KVT_Q5_K;
    int run = k ? j % 8 : 0;
    const uint8_t *block = row + (size_t)(k ? j / 8 : j) * kvt_block_bytes(type);
    struct kvt_v32 values = kvt_table(type, ab);
    const uint8_t *q = kvt_nibbles(type, block, run);
    __m512i index, table;
    if (k) {
        index = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)q));
        index = _mm512_srl_epi16(index, _mm_cvtsi32_si128(run % 2 * 4));
    } else {
        __m256i low = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)q));
        index = _mm512_inserti64x4(_mm512_castsi256_si512(low), _mm256_srli_epi16(low, 4), 1);
    }
    if (fifth) {
        index = _mm512_and_si512(index, _mm512_set1_epi16(15));
        index = _mm512_mask_add_epi16(index, kvt_fifth_bits(type, block, run), index, _mm512_set1_epi16(16));
        table = narrow(values.lo, values.hi);
    } else { /* twice the same 16 values: the index's fifth bit, the next nibble's, doesn't matter */
        table = _mm512_broadcast_i64x4((__m256i)_mm512_cvtneps_pbh(values.lo));
    }
    return _mm512_permutexvar_epi16(index, table);
}

static KVT_AVX512_BF16 void pack(const float *in, int K, int Kp, void *act)
{
    for (int j = 0; j < Kp / 32; j++) {
        struct kvt_v32 v = kvt_values32(KVT_F32, (const uint8_t *)in, j, K - j * 32, NULL);
        _mm512_store_si512((__m512i *)act + j, narrow(v.lo, v.hi));
    }
}

KVT_INLINE KVT_AVX512_BF16 void unpack_type(enum kvt_dtype type, const uint8_t *blocks, int K, int Kp, __m512i *out)
{
    _Alignas(64) float ab[2 * KVT_RUNS];
    for (int j0 = 0; j0 < Kp / 32; j0 += KVT_RUNS) {
        int runs = Kp / 32 - j0 < KVT_RUNS ? Kp / 32 - j0 : KVT_RUNS;
        kvt_scales(type, blocks, j0, runs, ab);
        for (int j = j0; j < j0 + runs; j++)
            _mm512_store_si512(out + j, values32(type, blocks, j, K - j * 32, ab + 2 * (j - j0)));
    }
}

static KVT_AVX512_BF16 void unpack(enum kvt_dtype type, const uint8_t *blocks, int K, int Kp, void *panel)
{
    switch (type) {
#define X(name, values, bytes) case KVT_##name: unpack_type(KVT_##name, blocks, K, Kp, panel); break;
    KVT_DTYPE_MAP(X)
#undef X
    case KVT_N_DTYPE: break;
    }
}

KVT_INLINE KVT_AVX512_BF16 void tile_rows(const int rows, const struct kvt_tile *t, const __m512i *panel)
{
    const __m512i *act = t->act;
    size_t steps = (size_t)t->Kp / 32;
    __m512 sum[TILE_ROWS][KVT_TILE_COLS];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < KVT_TILE_COLS; c++)
            sum[r][c] = _mm512_setzero_ps();
    for (size_t j = 0; j < steps; j++) {
        __m512i w[KVT_TILE_COLS];
        for (int c = 0; c < KVT_TILE_COLS; c++)
            w[c] = _mm512_load_si512(panel + (size_t)c * steps + j);
        for (int r = 0; r < rows; r++) {
            __m512i x = _mm512_load_si512(act + (size_t)r * steps + j);
            for (int c = 0; c < KVT_TILE_COLS; c++)
                sum[r][c] = dot(sum[r][c], x, w[c]);
        }
    }
    #pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
        kvt_tile_store(t, r, 0, kvt_reduce4(sum[r]));
}

static KVT_AVX512_BF16 void tile(const struct kvt_tile *t, const void *panel)
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
KVT_INLINE KVT_AVX512_BF16 void few_rows(const int rows, enum kvt_dtype type, const struct kvt_tile *t,
                                         const uint8_t *blocks, size_t row_bytes)
{
    const __m512i *act = t->act;
    size_t steps = (size_t)t->Kp / 32;
    _Alignas(64) float ab[KVT_TILE_COLS][2 * KVT_RUNS];
    for (int n = 0; n < t->cols; n += KVT_TILE_COLS) {
        const uint8_t *w[KVT_TILE_COLS]; /* past the last output its row is read again, and not stored */
        for (int c = 0; c < KVT_TILE_COLS; c++)
            w[c] = blocks + (size_t)(n + c < t->cols ? n + c : t->cols - 1) * row_bytes;
        __m512 sum[FEW_ROWS][KVT_TILE_COLS];
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < KVT_TILE_COLS; c++)
                sum[r][c] = _mm512_setzero_ps();
        for (int j0 = 0; j0 < (int)steps; j0 += KVT_RUNS) {
            int runs = (int)steps - j0 < KVT_RUNS ? (int)steps - j0 : KVT_RUNS;
            for (int c = 0; c < KVT_TILE_COLS; c++)
                kvt_scales(type, w[c], j0, runs, ab[c]);
            for (int j = j0; j < j0 + runs; j++) {
                kvt_prefetch_ahead(type, w[0], j);
                for (int c = 0; c < KVT_TILE_COLS; c++) {
                    __m512i v = values32(type, w[c], j, t->K - j * 32, ab[c] + 2 * (j - j0));
                    for (int r = 0; r < rows; r++)
                        sum[r][c] = dot(sum[r][c], _mm512_load_si512(act + (size_t)r * steps + (size_t)j), v);
                }
            }
        }
        #pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            kvt_tile_store(t, r, n, kvt_reduce4(sum[r]));
    }
}

#define X(name, values, bytes)                                                                            \
    static KVT_AVX512_BF16 void few_##name(const struct kvt_tile *t, const uint8_t *blocks, size_t row_bytes) \
    {                                                                                                     \
        switch (t->rows) {                                                                                \
        case 1: few_rows(1, KVT_##name, t, blocks, row_bytes); break;                                     \
        case 2: few_rows(2, KVT_##name, t, blocks, row_bytes); break;                                     \
        case 3: few_rows(3, KVT_##name, t, blocks, row_bytes); break;                                     \
        default: few_rows(4, KVT_##name, t, blocks, row_bytes); break;                                    \
        }                                                                                                 \
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

const struct kvt_linear_kernel kvt_linear_avx512_bf16 = {
    .value_bytes = sizeof(uint16_t),
    .tile_rows = TILE_ROWS,
    .few_rows = FEW_ROWS,
    .pack = pack,
    .unpack = unpack,
    .tile = tile,
    .few = few,
};
#endif

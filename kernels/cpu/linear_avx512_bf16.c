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

/* The order of the 32 values of a run in a packed vector. Looked-up types get the even values first, then the odd
 * ones, because that is how nibbles come out of 16-bit shifts of their bytes; the others stay in order. A sum pairs
 * and spreads its products by this order, so it belongs to the definition of a type's bits. */
KVT_INLINE KVT_AVX512_BF16 __m512i arranged(enum kvt_dtype type, __m512i v)
{
    if (!kvt_is_looked_up(type))
        return v;
    __m256i even = _mm256_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
                                    1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_permutexvar_epi16(_mm512_cvtepu8_epi16(even), v);
}

/* One run of a row of blocks, and its scales. */
struct run { const uint8_t *row; int j; const float *ab; };

KVT_INLINE const uint8_t *block_of(enum kvt_dtype type, struct run r)
{
    bool k = kvt_block_values(type) == 256;
    return r.row + (size_t)(k ? r.j / 8 : r.j) * kvt_block_bytes(type);
}

/* Words whose low nibbles are the quants of a looked-up type, arranged; what stands above the nibbles is noise. */
KVT_INLINE KVT_AVX512_BF16 __m512i nibbles(enum kvt_dtype type, struct run r)
{
    int run = kvt_block_values(type) == 256 ? r.j % 8 : 0;
    const uint8_t *q = kvt_nibbles(type, block_of(type, r), run);
    if (type == KVT_Q4_K || type == KVT_Q5_K) { /* 32 bytes; this run is their low (even runs) or high nibbles */
        __m512i twice = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)q));
        __m512i shift = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(8), 1);
        return _mm512_srlv_epi16(twice, _mm512_add_epi16(shift, _mm512_set1_epi16((short)(run % 2 * 4))));
    }
    /* 16 bytes: 8 words of nibbles of values 2i, 16 + 2i, 2i + 1, 17 + 2i from the lowest bits up */
    __m512i four = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)q));
    return _mm512_srlv_epi16(four, _mm512_cvtepu8_epi16(_mm256_setr_epi64x(0, 0x0404040404040404, 0x0808080808080808, 0x0c0c0c0c0c0c0c0c)));
}

/* Fifth bits of a run, arranged. */
KVT_INLINE KVT_AVX512_BF16 __mmask32 fifth_bits(enum kvt_dtype type, struct run r)
{
    const uint8_t *block = block_of(type, r);
    if (type == KVT_Q5_K) {
        __m512i twice = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(block + 16)));
        int bit = 1 << (r.j % 8);
        __m512i which = _mm512_inserti64x4(_mm512_set1_epi16((short)bit), _mm256_set1_epi16((short)(bit << 8)), 1);
        return _mm512_test_epi16_mask(twice, which);
    }
    uint32_t bits;
    memcpy(&bits, block + (type == KVT_Q5_0 ? 2 : 4), sizeof bits);
    return _pext_u32(bits, 0x55555555) | _pext_u32(bits, 0xaaaaaaaa) << 16;
}

/* Two runs as bf16, arranged; values of `a` at a_valid and beyond, and so of b, are 0. Four-bit types round the
 * tables of both runs, 16 values each, at once: run a looks into the lower half, run b into the upper. */
KVT_INLINE KVT_AVX512_BF16 void values64(enum kvt_dtype type, struct run a, struct run b, int a_valid, int b_valid,
                                         __m512i *va, __m512i *vb)
{
    const __m512i low = _mm512_set1_epi16(15), bit = _mm512_set1_epi16(16);
    if (type == KVT_BF16) {
        *va = _mm512_maskz_loadu_epi16(a_valid >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << a_valid) - 1, a.row + (size_t)a.j * 64);
        *vb = _mm512_maskz_loadu_epi16(b_valid >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << b_valid) - 1, b.row + (size_t)b.j * 64);
    } else if (type == KVT_Q2_K || type == KVT_Q3_K) { /* the halves of a run have tables of their own */
        const __m512i half = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1);
        struct kvt_v32 ta = kvt_table(type, a.ab), tb = kvt_table(type, b.ab);
        __m512i ia = _mm512_cvtepu8_epi16(kvt_q23_quants(type, block_of(type, a), a.j % 8));
        __m512i ib = _mm512_cvtepu8_epi16(kvt_q23_quants(type, block_of(type, b), b.j % 8));
        *va = _mm512_permutexvar_epi16(_mm512_ternarylogic_epi32(ia, low, half, 0xea), narrow(ta.lo, ta.hi));
        *vb = _mm512_permutexvar_epi16(_mm512_ternarylogic_epi32(ib, low, half, 0xea), narrow(tb.lo, tb.hi));
    } else if (!kvt_is_looked_up(type)) {
        struct kvt_v32 fa = kvt_values32(type, a.row, a.j, a_valid, a.ab), fb = kvt_values32(type, b.row, b.j, b_valid, b.ab);
        *va = narrow(fa.lo, fa.hi);
        *vb = narrow(fb.lo, fb.hi);
    } else if (type != KVT_Q5_0 && type != KVT_Q5_1 && type != KVT_Q5_K) {
        __m512i table = narrow(kvt_table(type, a.ab).lo, kvt_table(type, b.ab).lo);
        __m512i ia = _mm512_and_si512(nibbles(type, a), low);
        __m512i ib = _mm512_ternarylogic_epi32(nibbles(type, b), low, bit, 0xea); /* and, then or */
        *va = _mm512_permutexvar_epi16(ia, table);
        *vb = _mm512_permutexvar_epi16(ib, table);
    } else {
        struct kvt_v32 ta = kvt_table(type, a.ab), tb = kvt_table(type, b.ab);
        __m512i ia = _mm512_and_si512(nibbles(type, a), low), ib = _mm512_and_si512(nibbles(type, b), low);
        ia = _mm512_mask_add_epi16(ia, fifth_bits(type, a), ia, bit);
        ib = _mm512_mask_add_epi16(ib, fifth_bits(type, b), ib, bit);
        *va = _mm512_permutexvar_epi16(ia, narrow(ta.lo, ta.hi));
        *vb = _mm512_permutexvar_epi16(ib, narrow(tb.lo, tb.hi));
    }
}

static KVT_AVX512_BF16 void pack(enum kvt_dtype type, const float *in, int K, int Kp, void *act)
{
    for (int j = 0; j < Kp / 32; j++) {
        struct kvt_v32 v = kvt_values32(KVT_F32, (const uint8_t *)in, j, K - j * 32, NULL);
        _mm512_store_si512((__m512i *)act + j, arranged(type, narrow(v.lo, v.hi)));
    }
}

KVT_INLINE KVT_AVX512_BF16 void unpack_type(enum kvt_dtype type, const uint8_t *blocks, int K, int Kp, __m512i *out)
{
    _Alignas(64) float ab[KVT_SCALES];
    for (int j0 = 0; j0 < Kp / 32; j0 += KVT_RUNS) {
        int runs = Kp / 32 - j0 < KVT_RUNS ? Kp / 32 - j0 : KVT_RUNS;
        kvt_scales(type, blocks, j0, runs, ab);
        for (int j = j0; j < j0 + runs; j += 2) {
            __m512i a, b;
            int next = j + 1 < j0 + runs ? j + 1 : j; /* an odd last run is its own neighbour */
            values64(type, (struct run){blocks, j, ab + kvt_scales_of_run(type) * (j - j0)},
                     (struct run){blocks, next, ab + kvt_scales_of_run(type) * (next - j0)},
                     K - j * 32, K - next * 32, &a, &b);
            _mm512_store_si512(out + j, a);
            _mm512_store_si512(out + next, next > j ? b : a);
        }
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
    _Alignas(64) float ab[KVT_TILE_COLS][KVT_SCALES];
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
                int valid = t->K - j * 32;
                for (int c = 0; c < KVT_TILE_COLS; c += 2) {
                    __m512i a, b;
                    values64(type, (struct run){w[c], j, ab[c] + kvt_scales_of_run(type) * (j - j0)},
                             (struct run){w[c + 1], j, ab[c + 1] + kvt_scales_of_run(type) * (j - j0)}, valid, valid, &a, &b);
                    for (int r = 0; r < rows; r++) {
                        __m512i x = _mm512_load_si512(act + (size_t)r * steps + (size_t)j);
                        sum[r][c] = dot(sum[r][c], x, a);
                        sum[r][c + 1] = dot(sum[r][c + 1], x, b);
                    }
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

/* linear with AVX2 and FMA: 8 lanes; tiles of 3 rows x 4 outputs fill 12 of 16 registers with sums. */
#include "kernels/cpu/simd.h"

#ifdef KVT_X86
#include <string.h>

#include "kernels/cpu/linear.h"

enum { TILE_ROWS = 3, FEW_ROWS = 2 };

/* ---- blocks ---- */

KVT_INLINE size_t block_bytes(enum kvt_dtype type)
{
    switch (type) {
#define X(name, values, bytes) case KVT_##name: return bytes;
    KVT_DTYPE_MAP(X)
#undef X
    default: return 0;
    }
}

KVT_INLINE KVT_AVX2 float f16_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

/* Run j of a row of blocks, 32 values, is q * a + b with small integers q; the two halves of a run may differ. */
struct run { __m256i q; float a[2], b[2]; };

/* Bit i of `bits` as a byte, `value` or 0. */
KVT_INLINE KVT_AVX2 __m256i bytes_of_bits(uint32_t bits, int value)
{
    __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303));
    __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit), _mm256_set1_epi8((char)value));
}

KVT_INLINE KVT_AVX2 struct run run_of(enum kvt_dtype type, const uint8_t *row, int j)
{
    const __m256i low = _mm256_set1_epi8(15);
    struct run r = {.b = {0, 0}};
    if (type == KVT_Q2_K || type == KVT_Q3_K) {
        const uint8_t *block = row + (size_t)(j / 8) * block_bytes(type);
        int run = j % 8;
        __m256i q = _mm256_loadu_si256((const __m256i *)(block + (type == KVT_Q2_K ? 16 : 32) + run / 4 * 32));
        r.q = _mm256_and_si256(_mm256_srl_epi16(q, _mm_cvtsi32_si128(run % 4 * 2)), _mm256_set1_epi8(3));
        if (type == KVT_Q3_K) { /* 4 less where the third bit is 0 */
            __m256i third = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)block), _mm256_set1_epi8((char)(1 << run)));
            __m256i none = _mm256_cmpeq_epi8(third, _mm256_setzero_si256());
            r.q = _mm256_sub_epi8(r.q, _mm256_and_si256(none, _mm256_set1_epi8(4)));
        }
        for (int i = 0; i < 2; i++) {
            int s = run * 2 + i;
            if (type == KVT_Q2_K) {
                r.a[i] = f16_at(block + 80) * (float)(block[s] & 15);
                r.b[i] = -(f16_at(block + 82) * (float)(block[s] >> 4));
            } else {
                const uint8_t *p = block + 96;
                int scale = ((p[s % 8] >> (s / 8 * 4)) & 15) | ((p[8 + s % 4] >> (s / 4 * 2)) & 3) << 4;
                r.a[i] = f16_at(block + 108) * (float)(scale - 32);
            }
        }
        return r;
    }
    if (type == KVT_IQ4_NL || type == KVT_IQ4_XS || type == KVT_MXFP4) {
        const uint8_t *block = row + (size_t)(type == KVT_IQ4_XS ? j / 8 : j) * block_bytes(type), *at = block + 2;
        if (type == KVT_IQ4_XS) {
            int run = j % 8;
            int scale = ((block[4 + run / 2] >> (run % 2 * 4)) & 15) | ((block[2 + run / 4] >> (run % 4 * 2)) & 3) << 4;
            r.a[0] = r.a[1] = f16_at(block) * (float)(scale - 32);
            at = block + 8 + 16 * run;
        } else if (type == KVT_MXFP4) {
            r.a[0] = r.a[1] = _mm_cvtss_f32(_mm_castsi128_ps(kvt_mx_scales(_mm_cvtsi32_si128(block[0]))));
            at = block + 1;
        } else {
            r.a[0] = r.a[1] = f16_at(block);
        }
        __m128i q = _mm_loadu_si128((const __m128i *)at);
        __m128i values = _mm_loadu_si128((const __m128i *)(type == KVT_MXFP4 ? kvt_mxfp4_values : kvt_iq4_values));
        __m256i nibbles = _mm256_and_si256(_mm256_inserti128_si256(_mm256_castsi128_si256(q), _mm_srli_epi16(q, 4), 1), low);
        r.q = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), nibbles);
        return r;
    }
    if (type == KVT_Q6_K) {
        const uint8_t *block = row + (size_t)(j / 8) * block_bytes(type);
        int run = j % 8, half = run / 4, quarter = run % 4;
        __m256i l = _mm256_loadu_si256((const __m256i *)(block + half * 64 + quarter % 2 * 32));
        __m256i h = _mm256_loadu_si256((const __m256i *)(block + 128 + half * 32));
        l = _mm256_and_si256(_mm256_srl_epi16(l, _mm_cvtsi32_si128(quarter / 2 * 4)), low);
        h = _mm256_and_si256(_mm256_srl_epi16(h, _mm_cvtsi32_si128(quarter * 2)), _mm256_set1_epi8(3));
        r.q = _mm256_sub_epi8(_mm256_or_si256(l, _mm256_slli_epi16(h, 4)), _mm256_set1_epi8(32));
        for (int i = 0; i < 2; i++)
            r.a[i] = f16_at(block + 208) * (float)(int8_t)block[192 + run * 2 + i];
        return r;
    }
    if (type == KVT_Q4_K || type == KVT_Q5_K) {
        const uint8_t *block = row + (size_t)(j / 8) * block_bytes(type), *s = block + 4;
        int run = j % 8;
        int scale = run < 4 ? s[run] & 63 : (s[run + 4] & 15) | (s[run - 4] >> 6) << 4;
        int min = run < 4 ? s[run + 4] & 63 : (s[run + 4] >> 4) | (s[run] >> 6) << 4;
        const uint8_t *q = block + (type == KVT_Q4_K ? 16 : 48) + run / 2 * 32;
        r.q = _mm256_and_si256(_mm256_srl_epi16(_mm256_loadu_si256((const __m256i *)q), _mm_cvtsi32_si128(run % 2 * 4)), low);
        if (type == KVT_Q5_K) {
            __m256i bit = _mm256_set1_epi8((char)(1 << run)), fifth = _mm256_loadu_si256((const __m256i *)(block + 16));
            fifth = _mm256_cmpeq_epi8(_mm256_and_si256(fifth, bit), bit);
            r.q = _mm256_or_si256(r.q, _mm256_and_si256(fifth, _mm256_set1_epi8(16)));
        }
        r.a[0] = r.a[1] = f16_at(block) * (float)scale;
        r.b[0] = r.b[1] = -(f16_at(block + 2) * (float)min);
        return r;
    }
    const uint8_t *block = row + (size_t)j * block_bytes(type);
    bool min = type == KVT_Q4_1 || type == KVT_Q5_1, fifth = type == KVT_Q5_0 || type == KVT_Q5_1;
    r.a[0] = r.a[1] = f16_at(block);
    r.b[0] = r.b[1] = min ? f16_at(block + 2) : 0;
    if (type == KVT_Q8_0) {
        r.q = _mm256_loadu_si256((const __m256i *)(block + 2));
        return r;
    }
    __m128i q = _mm_loadu_si128((const __m128i *)(block + (min ? 4 : 2) + (fifth ? 4 : 0)));
    r.q = _mm256_and_si256(_mm256_inserti128_si256(_mm256_castsi128_si256(q), _mm_srli_epi16(q, 4), 1), low);
    if (fifth) {
        uint32_t bits;
        memcpy(&bits, block + (min ? 4 : 2), sizeof bits);
        r.q = _mm256_or_si256(r.q, bytes_of_bits(bits, 16));
    }
    if (!min)
        r.q = _mm256_sub_epi8(r.q, _mm256_set1_epi8(fifth ? 16 : 8));
    return r;
}

/* Run j as four vectors. Not for types with blocks of one value. */
KVT_INLINE KVT_AVX2 void values32(enum kvt_dtype type, const uint8_t *row, int j, __m256 *v)
{
    struct run r = run_of(type, row, j);
    __m128i half[2] = {_mm256_castsi256_si128(r.q), _mm256_extracti128_si256(r.q, 1)};
    for (int i = 0; i < 4; i++) {
        __m256 q = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(i % 2 ? _mm_srli_si128(half[i / 2], 8) : half[i / 2]));
        v[i] = _mm256_fmadd_ps(q, _mm256_set1_ps(r.a[i / 2]), _mm256_set1_ps(r.b[i / 2]));
    }
}

KVT_INLINE KVT_AVX2 void unpack_type(enum kvt_dtype type, const uint8_t *blocks, int Kp, float *out)
{
    for (int j = 0; j < Kp / 32; j++) {
        __m256 v[4];
        values32(type, blocks, j, v);
        for (int i = 0; i < 4; i++)
            _mm256_store_ps(out + j * 32 + i * 8, v[i]);
    }
}

static KVT_AVX2 void unpack(enum kvt_dtype type, const uint8_t *blocks, int K, int Kp, void *panel)
{
    switch (type) {
    case KVT_Q4_0: unpack_type(KVT_Q4_0, blocks, Kp, panel); break;
    case KVT_Q4_1: unpack_type(KVT_Q4_1, blocks, Kp, panel); break;
    case KVT_Q5_0: unpack_type(KVT_Q5_0, blocks, Kp, panel); break;
    case KVT_Q5_1: unpack_type(KVT_Q5_1, blocks, Kp, panel); break;
    case KVT_Q8_0: unpack_type(KVT_Q8_0, blocks, Kp, panel); break;
    case KVT_Q4_K: unpack_type(KVT_Q4_K, blocks, Kp, panel); break;
    case KVT_Q5_K: unpack_type(KVT_Q5_K, blocks, Kp, panel); break;
    case KVT_Q6_K: unpack_type(KVT_Q6_K, blocks, Kp, panel); break;
    case KVT_Q2_K: unpack_type(KVT_Q2_K, blocks, Kp, panel); break;
    case KVT_Q3_K: unpack_type(KVT_Q3_K, blocks, Kp, panel); break;
    case KVT_IQ4_NL: unpack_type(KVT_IQ4_NL, blocks, Kp, panel); break;
    case KVT_IQ4_XS: unpack_type(KVT_IQ4_XS, blocks, Kp, panel); break;
    case KVT_MXFP4: unpack_type(KVT_MXFP4, blocks, Kp, panel); break;
    default: { /* one value to a block: a multiple of 8 in vectors, the rest and the padding in plain C */
        float *out = panel;
        int k = 0;
        for (; type != KVT_F32 && k + 8 <= K; k += 8) {
            __m128i h = _mm_loadu_si128((const __m128i *)(blocks + (size_t)k * 2));
            __m256 v = type == KVT_F16 ? _mm256_cvtph_ps(h)
                                       : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
            _mm256_store_ps(out + k, v);
        }
        kvt_linear_unpack_plain(type, blocks + (size_t)k * block_bytes(type), K - k, Kp - k, out + k);
    }
    }
}

/* ---- products ---- */

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

/* Blocks are decoded in registers and used for all rows at once. */
KVT_INLINE KVT_AVX2 void few_rows(const int rows, enum kvt_dtype type, const struct kvt_tile *t, const uint8_t *blocks,
                                  size_t row_bytes)
{
    const float *act = t->act;
    size_t Kp = (size_t)t->Kp, step = 4 * block_bytes(type) / (block_bytes(type) > 34 ? 8 : 1); /* bytes read in a step */
    for (int n = 0; n < t->cols; n += KVT_TILE_COLS) {
        const uint8_t *w[KVT_TILE_COLS]; /* past the last output its row is read again, and not stored */
        for (int c = 0; c < KVT_TILE_COLS; c++)
            w[c] = blocks + (size_t)(n + c < t->cols ? n + c : t->cols - 1) * row_bytes;
        __m256 sum[FEW_ROWS][KVT_TILE_COLS];
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < KVT_TILE_COLS; c++)
                sum[r][c] = _mm256_setzero_ps();
        for (int j = 0; j < t->Kp / 32; j++) {
            const float *x = act + (size_t)j * 32;
            for (size_t i = 0; i < step; i += 64) /* some steps ahead, in the order of memory */
                _mm_prefetch((const char *)w[0] + 4096 + (size_t)j * step + i, _MM_HINT_T0);
            for (int c = 0; c < KVT_TILE_COLS; c++) {
                __m256 v[4];
                values32(type, w[c], j, v);
                for (int r = 0; r < rows; r++)
                    for (int i = 0; i < 4; i++)
                        sum[r][c] = _mm256_fmadd_ps(_mm256_load_ps(x + (size_t)r * Kp + i * 8), v[i], sum[r][c]);
            }
        }
        #pragma GCC unroll 2
        for (int r = 0; r < rows; r++)
            kvt_tile_store(t, r, n, reduce4(sum[r]));
    }
}

#define FEW(name)                                                                                    \
    case KVT_##name:                                                                                 \
        if (t->rows == 1)                                                                            \
            few_rows(1, KVT_##name, t, blocks, row_bytes);                                           \
        else                                                                                         \
            few_rows(2, KVT_##name, t, blocks, row_bytes);                                           \
        break;

static KVT_AVX2 void few(const struct kvt_tile *t, enum kvt_dtype type, const uint8_t *blocks, size_t row_bytes)
{
    switch (type) {
    FEW(Q4_0)
    FEW(Q4_1)
    FEW(Q5_0)
    FEW(Q5_1)
    FEW(Q8_0)
    FEW(Q4_K)
    FEW(Q5_K)
    FEW(Q6_K)
    FEW(Q2_K)
    FEW(Q3_K)
    FEW(IQ4_NL)
    FEW(IQ4_XS)
    FEW(MXFP4)
    default: break; /* few_blocks: never asked */
    }
}

const struct kvt_linear_kernel kvt_linear_avx2 = {
    .value_bytes = sizeof(float),
    .tile_rows = TILE_ROWS,
    .pack = kvt_linear_pack_plain,
    .few_rows = FEW_ROWS,
    .few_blocks = true,
    .unpack = unpack,
    .tile = tile,
    .few = few,
};
#endif

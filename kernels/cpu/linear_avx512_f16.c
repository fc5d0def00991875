/* linear in f16 with AVX512_FP16: 32 lanes are 16 of each of two outputs; a tile is 6 rows x 8 outputs, 24 sums in registers.
 *
 * A row of activations is multiplied by a power of two that brings its largest into [1, 2), so that no sum leaves f16's range while
 * weights stay below 170 (4 lanes of 48 products are joined in f16); what that costs a row's smallest values is far below f16's own
 * rounding of its largest. Sums that do leave it are seen when they are stored, and taken again. Products are exact inside an fma; a lane adds up to CHUNK of them in f16, two levels of the tree that joins a sum's
 * lanes are f16 as well, the rest of it and all chunks are added in f32. */
#include "kernels/cpu/simd.h"

#ifdef KVT_FP16
#include "base/half.h"
#include "kernels/cpu/blocks_avx512_f16.h"
#include "kernels/cpu/linear.h"

enum {
    TILE_ROWS = 6, FEW_ROWS = 4, COLS = 8,
    CHUNK = 48,     /* vectors: 768 values of K, three blocks of 256. A longer one would round more, a shorter one join lanes more often */
    KEPT = 16,      /* chunks whose sums few_rows keeps before it joins them */
    TAIL = 64       /* bytes behind a row of activations: what to multiply its sums by */
};

/* Sums of the lanes of four vectors, of two outputs each. */
KVT_INLINE KVT_AVX512_FP16 __m256 reduce8(const __m512h *v)
{
    __m512i i[4];
    for (int p = 0; p < 4; p++)
        i[p] = _mm512_castph_si512(v[p]);
    __m512i t0 = _mm512_castph_si512(_mm512_add_ph(_mm512_castsi512_ph(_mm512_shuffle_i64x2(i[0], i[1], 0x88)),
                                                   _mm512_castsi512_ph(_mm512_shuffle_i64x2(i[0], i[1], 0xdd))));
    __m512i t1 = _mm512_castph_si512(_mm512_add_ph(_mm512_castsi512_ph(_mm512_shuffle_i64x2(i[2], i[3], 0x88)),
                                                   _mm512_castsi512_ph(_mm512_shuffle_i64x2(i[2], i[3], 0xdd))));
    /* 128-bit quarter p: four lanes of output p, four of output 4 + p */
    __m512i u = _mm512_castph_si512(_mm512_add_ph(_mm512_castsi512_ph(_mm512_unpacklo_epi64(t0, t1)), _mm512_castsi512_ph(_mm512_unpackhi_epi64(t0, t1))));
    __m512 lo = _mm512_cvtph_ps(_mm512_castsi512_si256(u)), hi = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(u, 1));
    __m512 a = _mm512_add_ps(_mm512_shuffle_ps(lo, hi, 0x88), _mm512_shuffle_ps(lo, hi, 0xdd)); /* outputs 0 0 2 2, 4 4 6 6, 1 1 3 3, 5 5 7 7 */
    a = _mm512_add_ps(a, _mm512_permute_ps(a, 0xb1));
    return _mm512_castps512_ps256(_mm512_permutexvar_ps(_mm512_setr_epi32(0, 8, 2, 10, 4, 12, 6, 14, 0, 0, 0, 0, 0, 0, 0, 0), a));
}

/* An infinity anywhere on a sum's way leaves an infinity or NaN: those of `beyond` are taken again. */
static __attribute__((noinline)) KVT_AVX512_FP16 __m256 wide8(const struct kvt_tile *t, int r, int c, unsigned beyond, __m256 sum)
{
    float some[COLS];
    _mm256_storeu_ps(some, sum);
    for (int i = 0; i < COLS; i++)
        if (beyond >> i & 1)
            some[i] = kvt_linear_wide(t, r, c + i);
    return _mm256_loadu_ps(some);
}

/* Stores the sums of row r, outputs [c, c + 8) of the tile: out = sum (+ bias) (+ out), in this order. */
KVT_INLINE KVT_AVX512_FP16 void store8(const struct kvt_tile *t, int r, int c, float scale, __m256 sum)
{
    float *out = t->out + (size_t)r * t->ld + c;
    int cols = t->cols - c;
    __mmask8 have = cols >= COLS ? 0xff : (__mmask8)((1u << cols) - 1);
    sum = _mm256_mul_ps(sum, _mm256_set1_ps(scale));
    __mmask8 beyond = have & _mm256_cmp_ps_mask(_mm256_sub_ps(sum, sum), _mm256_setzero_ps(), _CMP_NEQ_UQ);
    if (beyond)
        sum = wide8(t, r, c, beyond, sum);
    if (t->bias)
        sum = _mm256_add_ps(sum, _mm256_maskz_loadu_ps(have, t->bias + c));
    if (t->accumulate)
        sum = _mm256_add_ps(sum, _mm256_maskz_loadu_ps(have, out));
    _mm256_mask_storeu_ps(out, have, sum);
}

static KVT_AVX512_FP16 void pack(enum kvt_dtype type, const float *in, int K, int Kp, void *act)
{
    __m512 most = _mm512_setzero_ps();
    for (int k = 0; k < K; k += 16) {
        __mmask16 have = K - k >= 16 ? 0xffff : (__mmask16)((1u << (K - k)) - 1);
        most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_maskz_loadu_ps(have, in + k)));
    }
    float by = kvt_f16_scale(_mm512_reduce_max_ps(most)), back = 1 / by;
    __m512 scale = _mm512_set1_ps(by);
    for (int j = 0; j < Kp / 32; j++) {
        struct kvt_v32 v = kvt_values32(KVT_F32, (const uint8_t *)in, j, K - j * 32, NULL);
        enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
        __m256i lo = _mm512_cvtps_ph(_mm512_mul_ps(v.lo, scale), NEAREST), hi = _mm512_cvtps_ph(_mm512_mul_ps(v.hi, scale), NEAREST);
        _mm512_store_si512((__m512i *)act + j, kvt_f16_order(type, _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1)));
    }
    memcpy((char *)act + (size_t)Kp * 2, &back, sizeof back);
}

/* Runs [j0, j1), j0 a multiple of 8, of one or two pairs of outputs, decoded: a pair to `panel`, or multiplied with `rows` rows and
 * added to sum (pair, row). Two pairs at once hide an fma's latency, which would otherwise be all that one row waits for. */
KVT_INLINE KVT_AVX512_FP16 void runs(enum kvt_dtype type, const int pairs, const struct kvt_rows2 *w, int K, int j0, int j1, __m512h *panel,
                                     const int rows, const char *act, size_t stride, __m512h (*sum)[FEW_ROWS])
{
    _Alignas(64) float ab[2][2][KVT_SCALES];
    const int at_once = kvt_f16_runs(type), per = kvt_scales_of_run(type);
    for (int p = 0; p < pairs && !kvt_f16_direct(type); p++)
        for (int i = 0; i < 2; i++)
            kvt_scales(type, w[p].row[i], j0, j1 - j0, ab[p][i]);
    for (int j8 = j0; j8 < j1; j8 += 8) {
        __m512h scales[2] = {_mm512_setzero_ph(), _mm512_setzero_ph()};
        size_t block = (size_t)(j8 / 8) * kvt_block_bytes(type);
        for (int p = 0; p < pairs && kvt_f16_direct(type) && kvt_block_values(type) == 256; p++)
            scales[p] = kvt_f16_scales(type, w[p].row[0] + block, w[p].row[1] + block);
        #pragma GCC unroll 8
        for (int i8 = 0; i8 < 8; i8 += at_once) {
            int j = j8 + i8;
            if (j >= j1)
                break;
            for (int i = 0; i < at_once && rows; i++)
                kvt_prefetch_ahead(type, w[0].row[0], j + i);
            for (int p = 0; p < pairs; p++) {
                struct kvt_run2 v[2];
                kvt_f16_values(type, w[p], j, i8, K - j * 32, scales[p], ab[p][0] + per * (j - j0), ab[p][1] + per * (j - j0), v);
                for (int i = 0; i < at_once; i++) {
                    if (panel) {
                        panel[2 * (j + i)] = v[i].lo;
                        panel[2 * (j + i) + 1] = v[i].hi;
                    }
                    for (int r = 0; r < rows; r++) {
                        const __m256i *x = (const __m256i *)(const void *)(act + (size_t)r * stride) + 2 * (j + i);
                        sum[p][r] = _mm512_fmadd_ph(_mm512_castsi512_ph(_mm512_broadcast_i64x4(_mm256_load_si256(x))), v[i].lo, sum[p][r]);
                        sum[p][r] = _mm512_fmadd_ph(_mm512_castsi512_ph(_mm512_broadcast_i64x4(_mm256_load_si256(x + 1))), v[i].hi, sum[p][r]);
                    }
                }
            }
        }
    }
}

/* Outputs c and c + 1 of `count`; past the last its row is read again, and not stored. */
KVT_INLINE struct kvt_rows2 rows2(const uint8_t *blocks, size_t row_bytes, int c, int count)
{
    int last = count - 1;
    return (struct kvt_rows2){{blocks + (size_t)(c < last ? c : last) * row_bytes, blocks + (size_t)(c + 1 < last ? c + 1 : last) * row_bytes}};
}

KVT_INLINE KVT_AVX512_FP16 void unpack_type(enum kvt_dtype type, const uint8_t *blocks, size_t row_bytes, int count, int K, int Kp, __m512h *panel)
{
    for (int c = 0; c < count; c += 2) {
        struct kvt_rows2 w = rows2(blocks, row_bytes, c, count);
        for (int j = 0; j < Kp / 32; j += CHUNK / 2)
            runs(type, 1, &w, K, j, Kp / 32 - j < CHUNK / 2 ? Kp / 32 : j + CHUNK / 2, panel + (size_t)c * (size_t)(Kp / 32), 0, NULL, 0, NULL);
    }
}

static KVT_AVX512_FP16 void unpack(enum kvt_dtype type, const uint8_t *blocks, size_t row_bytes, int count, int K, int Kp, void *panel)
{
    switch (type) {
#define X(name, values, bytes) case KVT_##name: unpack_type(KVT_##name, blocks, row_bytes, count, K, Kp, panel); break;
    KVT_DTYPE_MAP(X)
#undef X
    case KVT_N_DTYPE: break;
    }
}

KVT_INLINE KVT_AVX512_FP16 void tile_rows(const int rows, const struct kvt_tile *t, const __m512h *panel)
{
    const char *act = t->act;
    size_t steps = (size_t)t->Kp / 16, stride = (size_t)t->Kp * 2 + TAIL;
    __m256 total[TILE_ROWS];
    for (int r = 0; r < rows; r++)
        total[r] = _mm256_setzero_ps();
    for (size_t s0 = 0; s0 < steps; s0 += CHUNK) {
        size_t end = steps - s0 < CHUNK ? steps : s0 + CHUNK;
        __m512h sum[TILE_ROWS][COLS / 2];
        for (int r = 0; r < rows; r++)
            for (int p = 0; p < COLS / 2; p++)
                sum[r][p] = _mm512_setzero_ph();
        for (size_t s = s0; s < end; s++) {
            __m512h w[COLS / 2];
            for (int p = 0; p < COLS / 2; p++)
                w[p] = _mm512_load_ph(panel + (size_t)p * steps + s);
            for (int r = 0; r < rows; r++) {
                __m512h x = _mm512_castsi512_ph(_mm512_broadcast_i64x4(_mm256_load_si256((const __m256i *)(const void *)(act + (size_t)r * stride) + s)));
                for (int p = 0; p < COLS / 2; p++)
                    sum[r][p] = _mm512_fmadd_ph(x, w[p], sum[r][p]);
            }
        }
        #pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
            total[r] = _mm256_add_ps(total[r], reduce8(sum[r]));
    }
    for (int r = 0; r < rows; r++) {
        float scale;
        memcpy(&scale, act + (size_t)r * stride + (size_t)t->Kp * 2, sizeof scale);
        store8(t, r, 0, scale, total[r]);
    }
}

static KVT_AVX512_FP16 void tile(const struct kvt_tile *t, const void *panel)
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
KVT_INLINE KVT_AVX512_FP16 void few_rows(const int rows, enum kvt_dtype type, const struct kvt_tile *t, const uint8_t *blocks, size_t row_bytes)
{
    const char *act = t->act;
    size_t stride = (size_t)t->Kp * 2 + TAIL;
    int chunks = (t->Kp / 16 + CHUNK - 1) / CHUNK;
    for (int n = 0; n < t->cols; n += COLS) {
        __m256 total[FEW_ROWS];
        for (int r = 0; r < rows; r++)
            total[r] = _mm256_setzero_ps();
        for (int c0 = 0; c0 < chunks; c0 += KEPT) {
            int some = chunks - c0 < KEPT ? chunks - c0 : KEPT;
            __m512h kept[KEPT][FEW_ROWS][COLS / 2];
            for (int p = 0; p < COLS / 2; p += 2) {
                struct kvt_rows2 w[2] = {rows2(blocks, row_bytes, n + 2 * p, t->cols), rows2(blocks, row_bytes, n + 2 * p + 2, t->cols)};
                for (int c = 0; c < some; c++) {
                    int j = (c0 + c) * (CHUNK / 2), end = t->Kp / 32 - j < CHUNK / 2 ? t->Kp / 32 : j + CHUNK / 2;
                    __m512h sum[2][FEW_ROWS];
                    for (int r = 0; r < rows; r++)
                        sum[0][r] = sum[1][r] = _mm512_setzero_ph();
                    runs(type, 2, w, t->K, j, end, NULL, rows, act, stride, sum);
                    for (int r = 0; r < rows; r++)
                        kept[c][r][p] = sum[0][r], kept[c][r][p + 1] = sum[1][r];
                }
            }
            for (int c = 0; c < some; c++)
                for (int r = 0; r < rows; r++)
                    total[r] = _mm256_add_ps(total[r], reduce8(kept[c][r]));
        }
        for (int r = 0; r < rows; r++) {
            float scale;
            memcpy(&scale, act + (size_t)r * stride + (size_t)t->Kp * 2, sizeof scale);
            store8(t, r, n, scale, total[r]);
        }
    }
}

#define X(name, values, bytes)                                                                            \
    static KVT_AVX512_FP16 void few_##name(const struct kvt_tile *t, const uint8_t *blocks, size_t row_bytes) \
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

const struct kvt_linear_kernel kvt_linear_avx512_f16 = {
    .value_bytes = sizeof(uint16_t),
    .tail_bytes = TAIL,
    .tile_rows = TILE_ROWS,
    .tile_cols = COLS,
    .few_rows = FEW_ROWS,
    .pack = pack,
    .unpack_rows = unpack,
    .tile = tile,
    .few = few,
};
#endif

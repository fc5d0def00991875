/* attn with 16-float vectors. */
#include "kernels/cpu/attn.h"
#include "kernels/cpu/evict_one.h"
#include "kernels/cpu/exp.h"
#include "kernels/cpu/score.h"
#include "kernels/cpu/simd.h"

#if defined(KVT_X86)
#include <assert.h>
#include <math.h>
#include <string.h>

#define TARGET KVT_AVX512
#define VEC KVT_INLINE KVT_AVX512
typedef __m512 vf;
enum { NL = 16, QK_ROWS = 12, PV_ROWS = 6, PV_VECS = 4 };

VEC vf v_load(const float *p) { return _mm512_loadu_ps(p); }
VEC void v_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
VEC vf v_set1(float x) { return _mm512_set1_ps(x); }
VEC vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
VEC vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
VEC vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
VEC vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
VEC vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
VEC vf v_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
VEC void v_store_f16(uint16_t *p, vf v) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
VEC vf v_bf16(const uint16_t *p)
{
    __m512i x = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
}
VEC void v_prefetch(const char *p) { _mm_prefetch(p, _MM_HINT_T0); }
VEC void v_prefetch_l2(const char *p) { _mm_prefetch(p, _MM_HINT_T1); }

/* exp of x <= 0, 0 below -87: Cephes' expf (S. Moshier), about one unit in the last place. */
VEC vf v_exp(vf x)
{
    __mmask16 live = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_NLT_UQ);
    vf k = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)), 0);
    vf r = _mm512_fmadd_ps(k, _mm512_set1_ps(-0.693359375f), x);
    r = _mm512_fmadd_ps(k, _mm512_set1_ps(2.12194440e-4f), r);
    vf p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
    p = _mm512_add_ps(p, _mm512_set1_ps(1.0f));
    return _mm512_maskz_scalef_ps(live, p, k);
}

#define V_PAIRS
/* 16 x 16 transposed: the even vectors are the cosines of 8 pairs, the odd ones their sines. */
VEC void v_pairs(const float *const *row, int i, int pairs, vf *cos, vf *sin)
{
    __mmask16 some = (__mmask16)((1u << (2 * pairs)) - 1);
    __m512d a[16], b[16];
#pragma GCC unroll 16
    for (int r = 0; r < 16; r++)
        a[r] = _mm512_castps_pd(_mm512_maskz_loadu_ps(some, row[r] + 2 * i));
#pragma GCC unroll 16
    for (int r = 0; r < 16; r += 2) { /* a pair is a double: rows r, r + 1 of pairs 0 2 4 6, then of 1 3 5 7 */
        b[r] = _mm512_unpacklo_pd(a[r], a[r + 1]);
        b[r + 1] = _mm512_unpackhi_pd(a[r], a[r + 1]);
    }
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; odd++) {
        __m512 x[8], y[8];
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) { /* cosines and sines of rows 4 r .. 4 r + 3, a lane of 128 bits for each pair */
            __m512 lo = _mm512_castpd_ps(b[4 * r + odd]), hi = _mm512_castpd_ps(b[4 * r + 2 + odd]);
            x[r] = _mm512_shuffle_ps(lo, hi, 0x88);
            x[4 + r] = _mm512_shuffle_ps(lo, hi, 0xdd);
        }
#pragma GCC unroll 2
        for (int f = 0; f < 2; f++) { /* 4 x 4 of those lanes transposed */
            __m512 *z = x + 4 * f;
            y[0] = _mm512_shuffle_f32x4(z[0], z[1], 0x88), y[1] = _mm512_shuffle_f32x4(z[0], z[1], 0xdd);
            y[2] = _mm512_shuffle_f32x4(z[2], z[3], 0x88), y[3] = _mm512_shuffle_f32x4(z[2], z[3], 0xdd);
            vf *to = f ? sin : cos;
            to[odd] = _mm512_shuffle_f32x4(y[0], y[2], 0x88);
            to[2 + odd] = _mm512_shuffle_f32x4(y[1], y[3], 0x88);
            to[4 + odd] = _mm512_shuffle_f32x4(y[0], y[2], 0xdd);
            to[6 + odd] = _mm512_shuffle_f32x4(y[1], y[3], 0xdd);
        }
    }
}

#define V_BINS
/* The bins that the 64 columns from `at` on fall into: their first, and for 16 of them at a time the first column in here and how
 * many there are. False where bins are so wide or so many that one by one they cost as little. */
struct bins { int first, n, used, widest; __m512i from[4], count[4]; };
VEC bool v_bins(const struct kvt_attn_pool *p, int at, struct bins *b)
{
    b->first = p->first[at / KVT_LANES];
    b->n = b->used = b->widest = 0;
    for (int g = 0; g < 4; g++) {
        int c = b->first + 16 * g, left = p->C - c;
        if (left <= 0 || p->edge[c] >= at + 64)
            return b->widest && b->widest <= 12;
        __mmask16 there = left < 16 ? (__mmask16)((1u << left) - 1) : 0xffff;
        __m512i begin = _mm512_set1_epi32(at), end = _mm512_set1_epi32(at + 64);
        __m512i from = _mm512_max_epi32(_mm512_maskz_loadu_epi32(there, p->edge + c), begin);
        __m512i to = _mm512_min_epi32(_mm512_maskz_loadu_epi32(there, p->edge + c + 1), end);
        b->from[g] = _mm512_sub_epi32(from, begin);
        b->count[g] = _mm512_max_epi32(_mm512_sub_epi32(to, from), _mm512_setzero_si512());
        int widest = _mm512_reduce_max_epi32(b->count[g]);
        b->widest = widest > b->widest ? widest : b->widest;
        b->n = left < 16 ? 16 * g + left : 16 * g + 16;
        b->used += __builtin_popcount(_mm512_test_epi32_mask(b->count[g], b->count[g]));
    }
    return b->widest <= 12 && (b->first + 64 >= p->C || p->edge[b->first + 64] >= at + 64);
}
/* Entry i of 64 floats. */
VEC vf v_pick(const vf x[4], __m512i i)
{
    __mmask16 high = _mm512_test_epi32_mask(i, _mm512_set1_epi32(32));
    return _mm512_mask_blend_ps(high, _mm512_permutex2var_ps(x[0], i, x[1]), _mm512_permutex2var_ps(x[2], i, x[3]));
}
VEC void v_pool(const struct bins *b, const vf sum[4], const vf max[4], float *mean, float *most)
{
    for (int g = 0; 16 * g < b->n; g++) {
        int c = b->first + 16 * g, left = b->n - 16 * g;
        __mmask16 there = left < 16 ? (__mmask16)((1u << left) - 1) : 0xffff;
        __m512i at = b->from[g];
        vf a = v_set1(0), m = v_set1(0);
        for (int k = 0; k < b->widest; k++, at = _mm512_add_epi32(at, _mm512_set1_epi32(1))) { /* in order of columns */
            __mmask16 in = _mm512_cmpgt_epi32_mask(b->count[g], _mm512_set1_epi32(k));
            a = _mm512_mask_add_ps(a, in, a, v_pick(sum, at));
            m = _mm512_mask_max_ps(m, in, v_pick(max, at), m);
        }
        if (mean)
            _mm512_mask_storeu_ps(mean + c, there, v_add(_mm512_maskz_loadu_ps(there, mean + c), a));
        if (most)
            _mm512_mask_storeu_ps(most + c, there, v_max(_mm512_maskz_loadu_ps(there, most + c), m));
    }
    for (int c = b->first + b->used, end = c + b->used; c < end; c += 16) { /* those of the next block: maps lie far from here */
        if (mean)
            v_prefetch((const char *)(mean + c));
        if (most)
            v_prefetch((const char *)(most + c));
    }
}

#include "kernels/cpu/attn_body.h"
#include "kernels/cpu/attn_say.h"
#include "kernels/cpu/evict_one_body.h"
#include "kernels/cpu/score_body.h"

const struct kvt_attn_kernel kvt_attn_avx512 = {turns, part, scores, softmax, values, columns, finish, half};
const struct kvt_score_kernel kvt_score_avx512 = SCORE_KERNEL;
const struct kvt_step_kernel kvt_step_avx512 = {leaver};
#else
typedef int kvt_no_attn_avx512; /* another machine: the file is empty */
#endif

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

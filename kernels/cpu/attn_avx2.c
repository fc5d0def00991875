/* attn with 8-float vectors. */
#include "kernels/cpu/attn.h"
#include "kernels/cpu/evict_one.h"
#include "kernels/cpu/exp.h"
#include "kernels/cpu/score.h"
#include "kernels/cpu/simd.h"

#if defined(KVT_X86)
#include <assert.h>
#include <math.h>
#include <string.h>

#define TARGET KVT_AVX2
#define VEC KVT_INLINE KVT_AVX2
typedef __m256 vf;
enum { NL = 8, QK_ROWS = 6, PV_ROWS = 6, PV_VECS = 2 };

VEC vf v_load(const float *p) { return _mm256_loadu_ps(p); }
VEC void v_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
VEC vf v_set1(float x) { return _mm256_set1_ps(x); }
VEC vf v_add(vf a, vf b) { return _mm256_add_ps(a, b); }
VEC vf v_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
VEC vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
VEC vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
VEC vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
VEC vf v_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
VEC void v_store_f16(uint16_t *p, vf v) { _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
VEC vf v_bf16(const uint16_t *p)
{
    __m256i x = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
}
VEC void v_prefetch(const char *p) { _mm_prefetch(p, _MM_HINT_T0); }
VEC void v_prefetch_l2(const char *p) { _mm_prefetch(p, _MM_HINT_T1); }

/* exp of x <= 0, 0 below -87: Cephes' expf (S. Moshier), about one unit in the last place. */
VEC vf v_exp(vf x)
{
    vf live = _mm256_cmp_ps(x, _mm256_set1_ps(-87.0f), _CMP_NLT_UQ);
    x = _mm256_max_ps(_mm256_set1_ps(-88.0f), x);
    vf k = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504088896341f)), 0x8);
    vf r = _mm256_fmadd_ps(k, _mm256_set1_ps(-0.693359375f), x);
    r = _mm256_fmadd_ps(k, _mm256_set1_ps(2.12194440e-4f), r);
    vf p = _mm256_set1_ps(1.9875691500e-4f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
    p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r);
    p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
    __m256i two_k = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(k), _mm256_set1_epi32(127)), 23);
    return _mm256_and_ps(live, _mm256_mul_ps(p, _mm256_castsi256_ps(two_k)));
}

#include "kernels/cpu/attn_body.h"
#include "kernels/cpu/attn_say.h"
#include "kernels/cpu/evict_one_body.h"
#include "kernels/cpu/score_body.h"

const struct kvt_attn_kernel kvt_attn_avx2 = {turns, part, scores, softmax, values, columns, finish, half};
const struct kvt_score_kernel kvt_score_avx2 = SCORE_KERNEL;
const struct kvt_step_kernel kvt_step_avx2 = {leaver};
#else
typedef int kvt_no_attn_avx2; /* another machine: the file is empty */
#endif

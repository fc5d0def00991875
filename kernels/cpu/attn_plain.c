/* attn in plain C, four floats at a time: any machine. */
#include "kernels/cpu/attn.h"
#include "kernels/cpu/evict_one.h"
#include "kernels/cpu/exp.h"
#include "kernels/cpu/score.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/half.h"

#define TARGET
#define VEC static inline
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
enum { NL = 4, QK_ROWS = 4, PV_ROWS = 4, PV_VECS = 2 };

VEC vf v_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
VEC void v_store(float *p, vf v) { memcpy(p, &v, sizeof v); }
VEC vf v_set1(float x) { return (vf){x, x, x, x}; }
VEC vf v_add(vf a, vf b) { return a + b; }
VEC vf v_sub(vf a, vf b) { return a - b; }
VEC vf v_mul(vf a, vf b) { return a * b; }
VEC vf v_fma(vf a, vf b, vf c) { return a * b + c; }
VEC vf v_max(vf a, vf b)
{
    vi pick = a > b;
    return (vf)(((vi)a & pick) | ((vi)b & ~pick));
}
VEC vf v_f16(const uint16_t *p)
{
    return (vf){kvt_f32_from_f16(p[0]), kvt_f32_from_f16(p[1]), kvt_f32_from_f16(p[2]), kvt_f32_from_f16(p[3])};
}
VEC void v_store_f16(uint16_t *p, vf v)
{
    for (int i = 0; i < NL; i++)
        p[i] = kvt_f16_from_f32(v[i]);
}
VEC vf v_bf16(const uint16_t *p)
{
    return (vf){kvt_f32_from_bf16(p[0]), kvt_f32_from_bf16(p[1]), kvt_f32_from_bf16(p[2]), kvt_f32_from_bf16(p[3])};
}
VEC void v_prefetch(const char *p) { (void)p; }
VEC void v_prefetch_l2(const char *p) { (void)p; }

/* exp of x <= 0, 0 below -87: Cephes' expf (S. Moshier), about one unit in the last place. */
VEC vf v_exp(vf x)
{
    vi dead = x < v_set1(-87.0f);
    x = v_max(v_set1(-88.0f), x);
    vi k = __builtin_convertvector(x * v_set1(1.44269504088896341f) - v_set1(0.5f), vi); /* toward zero: to nearest, x <= 0 */
    vf kf = __builtin_convertvector(k, vf);
    vf r = x - kf * v_set1(0.693359375f) + kf * v_set1(2.12194440e-4f);
    vf p = v_set1(1.9875691500e-4f);
    p = p * r + v_set1(1.3981999507e-3f);
    p = p * r + v_set1(8.3334519073e-3f);
    p = p * r + v_set1(4.1665795894e-2f);
    p = p * r + v_set1(1.6666665459e-1f);
    p = p * r + v_set1(5.0000001201e-1f);
    p = p * (r * r) + r + v_set1(1.0f);
    vi two_k = (k + 127) << 23;
    return (vf)((vi)(p * (vf)two_k) & ~dead);
}

#include "kernels/cpu/attn_body.h"
#include "kernels/cpu/attn_say.h"
#include "kernels/cpu/evict_one_body.h"
#include "kernels/cpu/score_body.h"

const struct kvt_attn_kernel kvt_attn_plain = {turns, part, scores, softmax, values, columns, finish, half};
const struct kvt_score_kernel kvt_score_plain = SCORE_KERNEL;
const struct kvt_step_kernel kvt_step_plain = {leaver};

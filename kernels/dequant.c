/* What the blocks of each GGUF data type mean. Block layouts are ggml's; every value is one product of exactly
 * representable factors and at most one rounded addition, so an fma gives the same bits as product and sum. */
#include "kernels/ops.h"

#include <assert.h>
#include <string.h>

#include "base/half.h"

static float f16_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return kvt_f32_from_f16(h);
}

/* Q4_0, Q4_1, Q5_0, Q5_1: f16 d (, f16 m) (, 32 fifth bits), 16 bytes: low nibbles are values 0..15, high 16..31. */
static void block32(const uint8_t *p, float *dst, bool has_min, bool has_fifth)
{
    float d = f16_at(p), m = has_min ? f16_at(p + 2) : 0;
    p += has_min ? 4 : 2;
    uint32_t fifth = 0;
    if (has_fifth) {
        memcpy(&fifth, p, sizeof fifth);
        p += 4;
    }
    int mid = has_min ? 0 : has_fifth ? 16 : 8;
    for (int i = 0; i < 16; i++) {
        int lo = (p[i] & 15) | (int)((fifth >> i) & 1) << 4;
        int hi = (p[i] >> 4) | (int)((fifth >> (i + 16)) & 1) << 4;
        dst[i] = d * (float)(lo - mid);
        dst[i + 16] = d * (float)(hi - mid);
    }
    for (int i = 0; has_min && i < 32; i++) /* without a minimum nothing is added: -0 stays -0 */
        dst[i] += m;
}

/* Q4_K, Q5_K: 8 runs of 32 values, each with a 6-bit scale and a 6-bit minimum packed in 12 bytes. */
static void scale_min(const uint8_t *q, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = q[j] & 63;
        *min = q[j + 4] & 63;
    } else {
        *scale = (q[j + 4] & 15) | (q[j - 4] >> 6) << 4;
        *min = (q[j + 4] >> 4) | (q[j] >> 6) << 4;
    }
}

static void block_k45(const uint8_t *p, float *dst, bool has_fifth)
{
    float d = f16_at(p), dmin = f16_at(p + 2);
    const uint8_t *scales = p + 4, *fifth = p + 16, *q = has_fifth ? p + 48 : p + 16;
    for (int j = 0; j < 8; j++) {
        int sc, mn;
        scale_min(scales, j, &sc, &mn);
        float ds = d * (float)sc, m = dmin * (float)mn;
        for (int i = 0; i < 32; i++) {
            int v = (q[j / 2 * 32 + i] >> (j % 2 * 4)) & 15;
            if (has_fifth)
                v |= ((fifth[i] >> j) & 1) << 4;
            dst[j * 32 + i] = ds * (float)v - m;
        }
    }
}

/* Q6_K: 128 bytes of low nibbles, 64 of high bit pairs, 16 signed scales (one for 16 values), f16 d at the end. */
static void block_q6_k(const uint8_t *p, float *dst)
{
    const uint8_t *low = p, *high = p + 128;
    const int8_t *scale = (const int8_t *)p + 192;
    float d = f16_at(p + 208);
    for (int j = 0; j < 8; j++) { /* runs of 32 values */
        int half = j / 4, quarter = j % 4;
        for (int i = 0; i < 32; i++) {
            int nibble = (low[half * 64 + quarter % 2 * 32 + i] >> (quarter / 2 * 4)) & 15;
            int pair = (high[half * 32 + i] >> (quarter * 2)) & 3;
            dst[j * 32 + i] = d * (float)scale[j * 2 + i / 16] * (float)((nibble | pair << 4) - 32);
        }
    }
}

void kvt_dequantize(enum kvt_dtype type, const void *src, float *dst, size_t count)
{
    const uint8_t *p = src;
    size_t values = (size_t)kvt_dtypes[type].block_values, bytes = (size_t)kvt_dtypes[type].block_bytes;
    assert(count % values == 0);
    if (type == KVT_F32) {
        memcpy(dst, src, count * sizeof *dst);
        return;
    }
    for (size_t i = 0; i < count; i += values, p += bytes, dst += values) {
        switch (type) {
        case KVT_F16: *dst = f16_at(p); break;
        case KVT_BF16: {
            uint16_t h;
            memcpy(&h, p, sizeof h);
            *dst = kvt_f32_from_bf16(h);
            break;
        }
        case KVT_Q4_0: block32(p, dst, false, false); break;
        case KVT_Q4_1: block32(p, dst, true, false); break;
        case KVT_Q5_0: block32(p, dst, false, true); break;
        case KVT_Q5_1: block32(p, dst, true, true); break;
        case KVT_Q8_0: {
            float d = f16_at(p);
            for (int j = 0; j < 32; j++)
                dst[j] = d * (float)(int8_t)p[2 + j];
            break;
        }
        case KVT_Q4_K: block_k45(p, dst, false); break;
        case KVT_Q5_K: block_k45(p, dst, true); break;
        case KVT_Q6_K: block_q6_k(p, dst); break;
        case KVT_F32: case KVT_N_DTYPE: assert(!"a block type"); break;
        }
    }
}

/* What the blocks of each GGUF data type mean. Block layouts are ggml's; every value is one product of exactly
 * representable factors and at most one rounded addition, so an fma gives the same bits as product and sum. */
#include "kernels/ops.h"

#include <assert.h>
#include <string.h>

#include "base/half.h"

const int8_t kvt_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t kvt_mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

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

/* Q2_K: 16 bytes, each a 4-bit scale (low) and minimum of 16 values, 64 of quants, f16 d and dmin. A byte of quants holds
 * values 32 apart: bit pair p of byte i in the first half is value 32 p + i. */
static void block_q2_k(const uint8_t *p, float *dst)
{
    float d = f16_at(p + 80), dmin = f16_at(p + 82);
    for (int v = 0; v < 256; v++) {
        int scale = p[v / 16] & 15, min = p[v / 16] >> 4;
        int q = (p[16 + v / 128 * 32 + v % 32] >> (v / 32 % 4 * 2)) & 3;
        dst[v] = d * (float)scale * (float)q - dmin * (float)min;
    }
}

/* Q3_K: 32 bytes of third bits (bit j of byte i: value 32 j + i; 4 is taken off where it is 0), 64 of quants as in Q2_K,
 * 12 of 6-bit scales, f16 d. Scale s: nibble s / 8 of byte s % 8, above it bit pair s / 4 of byte 8 + s % 4. */
static void block_q3_k(const uint8_t *p, float *dst)
{
    const uint8_t *q = p + 32, *scales = p + 96;
    float d = f16_at(p + 108);
    for (int v = 0; v < 256; v++) {
        int s = v / 16;
        int scale = (((scales[s % 8] >> (s / 8 * 4)) & 15) | ((scales[8 + s % 4] >> (s / 4 * 2)) & 3) << 4) - 32;
        int low = (q[v / 128 * 32 + v % 32] >> (v / 32 % 4 * 2)) & 3;
        int third = (p[v % 32] >> (v / 32)) & 1;
        dst[v] = d * (float)scale * (float)(third ? low : low - 4);
    }
}

/* 32 nibbles in 16 bytes, low ones first, each a number of `values`, times d. */
static void run_of_values(const uint8_t *q, const int8_t *values, float d, float *dst)
{
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)values[q[i] & 15];
        dst[i + 16] = d * (float)values[q[i] >> 4];
    }
}

/* IQ4_XS: f16 d, 16 bits of high pairs and 4 bytes of low nibbles of 8 scales, then 8 runs as in IQ4_NL. */
static void block_iq4_xs(const uint8_t *p, float *dst)
{
    float d = f16_at(p);
    for (int j = 0; j < 8; j++) {
        int scale = (((p[4 + j / 2] >> (j % 2 * 4)) & 15) | ((p[2 + j / 4] >> (j % 4 * 2)) & 3) << 4) - 32;
        run_of_values(p + 8 + 16 * j, kvt_iq4_values, d * (float)scale, dst + 32 * j);
    }
}

/* 2^(e - 128): an MX scale is 2^(e - 127), and the values are doubled. The two smallest are subnormal. */
static float mx_scale(uint8_t e)
{
    return kvt_f32_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
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
        case KVT_Q2_K: block_q2_k(p, dst); break;
        case KVT_Q3_K: block_q3_k(p, dst); break;
        case KVT_IQ4_NL: run_of_values(p + 2, kvt_iq4_values, f16_at(p), dst); break;
        case KVT_IQ4_XS: block_iq4_xs(p, dst); break;
        case KVT_MXFP4: run_of_values(p + 1, kvt_mxfp4_values, mx_scale(p[0]), dst); break;
        case KVT_F32: case KVT_N_DTYPE: assert(!"a block type"); break;
        }
    }
}

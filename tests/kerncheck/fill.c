/* Random numbers and fills: what the checks feed to kernels. */
#include <math.h>
#include <string.h>

#include "tests/kerncheck/kerncheck.h"

uint64_t kc_u64(struct kc *k) /* xorshift128+ */
{
    uint64_t a = k->rng[0], b = k->rng[1];
    k->rng[0] = b;
    a ^= a << 23;
    k->rng[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
    return k->rng[1] + b;
}

int kc_int(struct kc *k, int lo, int hi) { return lo + (int)(kc_u64(k) % (uint64_t)(hi - lo + 1)); }

float kc_uniform(struct kc *k, float lo, float hi)
{
    return lo + (hi - lo) * (float)(kc_u64(k) >> 40) * 0x1p-24f;
}

const char *kc_fill_name(enum kc_fill_kind kind)
{
    static const char *const name[] = {"uniform", "normal", "equal", "one huge", "very negative", "denormal", "zero"};
    return name[kind];
}

void kc_fill(struct kc *k, float *x, size_t n, enum kc_fill_kind kind)
{
    float same = kc_uniform(k, 0.5f, 2.0f);
    for (size_t i = 0; i < n; i++) {
        switch (kind) {
        case KC_UNIFORM: x[i] = kc_uniform(k, -1, 1); break;
        case KC_NORMAL: {
            double u = kc_uniform(k, 0x1p-24f, 1), v = kc_uniform(k, 0, 1);
            x[i] = (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
            break;
        }
        case KC_EQUAL: x[i] = same; break;
        case KC_ONE_HUGE: x[i] = kc_uniform(k, -0.01f, 0.01f); break;
        case KC_VERY_NEGATIVE: x[i] = kc_uniform(k, -1.01e4f, -1e4f); break;
        case KC_DENORMAL: x[i] = kc_uniform(k, -1, 1) * 1e-20f * 1e-20f; break;
        case KC_ZERO: case KC_N_FILL: x[i] = 0; break;
        }
    }
    if (kind == KC_ONE_HUGE && n)
        x[kc_u64(k) % n] = 1e4f;
}

void kc_fill_blocks(struct kc *k, void *dst, enum kvt_dtype type, size_t n)
{
    const struct kvt_dtype_info *d = &kvt_dtypes[type];
    unsigned char *p = dst;
    for (size_t b = 0; b < n / (size_t)d->block_values; b++, p += d->block_bytes) {
        if (type == KVT_F32) {
            float x = kc_uniform(k, -1, 1);
            memcpy(p, &x, sizeof x);
            continue;
        }
        for (int i = 0; i < d->block_bytes; i++)
            p[i] = (unsigned char)kc_u64(k);
        /* f16 fields: any sign and mantissa, exponent 2^-9 .. 2^-2, or now and then a subnormal; bf16 likewise */
        int field[2] = {0, -1};
        switch (type) {
        case KVT_Q4_1: case KVT_Q5_1: case KVT_Q4_K: case KVT_Q5_K: field[1] = 2; break;
        case KVT_Q6_K: field[0] = 208; break;
        case KVT_Q2_K: field[0] = 80; field[1] = 82; break;
        case KVT_Q3_K: field[0] = 108; break;
        case KVT_MXFP4: /* 2^-10 .. 2^-3, or now and then one of the two subnormals */
            field[0] = -1;
            p[0] = (unsigned char)(kc_u64(k) % 16 ? 118 + kc_u64(k) % 8 : kc_u64(k) % 2);
            break;
        default: break;
        }
        for (int f = 0; f < 2 && field[f] >= 0; f++) {
            uint16_t h = (uint16_t)kc_u64(k);
            if (type == KVT_BF16)
                h = (uint16_t)((h & 0x807f) | (118 + (int)(kc_u64(k) % 8)) << 7);
            else
                h = (uint16_t)((h & 0x83ff) | (kc_u64(k) % 16 ? 6 + (int)(kc_u64(k) % 8) : 0) << 10);
            memcpy(p + field[f], &h, sizeof h);
        }
    }
}

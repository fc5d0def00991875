/* The meaning of every quantised data type, bit for bit against the package that defines GGUF. Catches a swapped nibble
 * order, a lost fifth bit, a scale packed wrongly in the K types, a signed scale read as unsigned. */
#include <criterion/criterion.h>
#include <string.h>

#include "kernels/ops.h"
#include "tests/vectors/dequant.h"

Test(dequant, blocks_mean_what_gguf_says)
{
    for (size_t i = 0; i < sizeof dequant_vectors / sizeof *dequant_vectors; i++) {
        float got[256];
        kvt_dequantize(dequant_vectors[i].type, dequant_vectors[i].block, got, dequant_vectors[i].n);
        for (size_t v = 0; v < dequant_vectors[i].n; v++) {
            uint32_t bits;
            memcpy(&bits, &got[v], sizeof bits);
            cr_assert_eq(bits, dequant_vectors[i].value[v], "%s value %zu: %08x, not %08x", dequant_vectors[i].name, v,
                         bits, dequant_vectors[i].value[v]);
        }
    }
}

Test(dequant, plain_types)
{
    static const uint16_t f16[] = {0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3c00, 0xc000, 0x7bff};
    static const float want[] = {0.0f, -0.0f, 0x1p-24f, 0x1.ff8p-15f, 0x1p-14f, 1.0f, -2.0f, 65504.0f};
    float got[8];
    kvt_dequantize(KVT_F16, f16, got, 8);
    cr_assert_eq(memcmp(got, want, sizeof want), 0);
    static const uint16_t bf16[] = {0x3f80, 0xc000, 0x8000, 0x0001};
    static const float want_b[] = {1.0f, -2.0f, -0.0f, 0x1p-133f};
    kvt_dequantize(KVT_BF16, bf16, got, 4);
    cr_assert_eq(memcmp(got, want_b, sizeof want_b), 0);
    kvt_dequantize(KVT_F32, want, got, 8);
    cr_assert_eq(memcmp(got, want, sizeof want), 0);
}

Test(dequant, rows_have_the_bytes_of_their_blocks)
{
    cr_assert_eq(kvt_row_bytes(KVT_Q4_1, 576), 18u * 20);
    cr_assert_eq(kvt_row_bytes(KVT_Q6_K, 512), 2u * 210);
    cr_assert_eq(kvt_row_bytes(KVT_F16, 3), 6u);
    cr_assert_str_eq(kvt_dtypes[KVT_Q5_K].name, "Q5_K");
}

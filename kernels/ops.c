/* Data types and the list of backends in this process. */
#include "kernels/ops.h"

#include <assert.h>
#include <string.h>

const struct kvt_dtype_info kvt_dtypes[KVT_N_DTYPE] = {
#define X(type, values, bytes) {#type, values, bytes},
    KVT_DTYPE_MAP(X)
#undef X
};

size_t kvt_row_bytes(enum kvt_dtype type, size_t cols)
{
    assert((unsigned)type < KVT_N_DTYPE);
    const struct kvt_dtype_info *d = &kvt_dtypes[type];
    assert(cols % (size_t)d->block_values == 0);
    return cols / (size_t)d->block_values * (size_t)d->block_bytes;
}

const char *const kvt_compute_names[KVT_N_COMPUTE] = {"f32", "bf16", "f16"};

/* f16 first: cores with AVX512_FP16 do twice the multiplications in f16 as in f32, and only half in bf16. */
enum kvt_compute kvt_fastest_compute(const struct kvt_ops *ops, struct kvt_dev *dev)
{
    static const enum kvt_compute order[] = {KVT_COMPUTE_F16, KVT_COMPUTE_BF16};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (ops->can_compute(dev, order[i]))
            return order[i];
    return KVT_COMPUTE_F32;
}

const struct kvt_ops *kvt_ops_find(const char *name)
{
    static const struct kvt_ops *const all[] = {&kvt_ops_ref, &kvt_ops_cpu};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(all[i]->name, name))
            return all[i];
    return NULL;
}

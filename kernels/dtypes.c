/* Data types: names and sizes of their blocks. */
#include <assert.h>

#include "kernels/ops.h"

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

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

const struct kvt_ops *kvt_ops_find(const char *name)
{
    static const struct kvt_ops *const all[] = {&kvt_ops_ref, &kvt_ops_cpu};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(all[i]->name, name))
            return all[i];
    return NULL;
}

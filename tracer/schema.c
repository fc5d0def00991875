/* The schema as data. */
#include "tracer/schema.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct kvt_dim_info kvt_dims[KVT_N_DIM] = {
#define X(name, unit, meaning) {#name, unit, meaning},
    KVT_DIM_MAP(X)
#undef X
};

const struct kvt_attr_info kvt_attrs[] = {
#define X(where, name, type, meaning) {#where, #name, #type, meaning},
    KVT_ATTR_LIST(X)
#undef X
};
const int kvt_n_attrs = sizeof kvt_attrs / sizeof *kvt_attrs;

const char *const kvt_h5_type_names[] = {"u8", "i32", "i64", "u64", "f16", "f32", "f64", "text"};

static const struct kvt_dataset_info table[KVT_N_DATASET] = {
#define X(id, path_, type_, len_, dims_, chunk_, store_, when_, fill_, unit_, meaning_)                                  \
    {.path = path_, .type = KVT_H5_##type_, .len = len_, .store = KVT_STORE_##store_, .when = KVT_WHEN_##when_,          \
     .fill = KVT_FILL_##fill_, .dims = dims_, .chunk = chunk_, .unit = unit_, .meaning = meaning_},
    KVT_DATASET_MAP(X)
#undef X
};

static const int since[KVT_N_DATASET] = {
#define X(id, minor) [KVT_DS_##id] = minor,
    KVT_SINCE_MAP(X)
#undef X
};

static const struct { bool given; double low, high; } range[KVT_N_DATASET] = {
#define X(id, least, largest) [KVT_DS_##id] = {true, least, largest},
    KVT_RANGE_MAP(X)
#undef X
};

static enum kvt_dim dim_named(const char *s, size_t bytes)
{
    for (int i = 0; i < KVT_N_DIM; i++)
        if (strlen(kvt_dims[i].name) == bytes && !memcmp(kvt_dims[i].name, s, bytes))
            return (enum kvt_dim)i;
    assert(!"a dimension of the schema is not in its table");
    return KVT_N_DIM;
}

void kvt_schema_get(enum kvt_dataset id, struct kvt_dataset_info *out)
{
    *out = table[id];
    out->since = since[id];
    out->ranged = range[id].given, out->low = range[id].low, out->high = range[id].high;
    out->per_branch = !strncmp(out->path, "branches/", 9);
    const char *d = out->dims, *c = out->chunk;
    while (*d) {
        size_t n = strcspn(d, ",");
        assert(out->rank < KVT_TRACE_MAX_RANK);
        out->dim[out->rank] = dim_named(d, n);
        out->chunk_of[out->rank] = *c && *c != '*' ? atoi(c) : 0;
        out->rank++;
        d += n + (d[n] == ',');
        size_t m = strcspn(c, ",");
        c += m + (c[m] == ',');
    }
}

const char *kvt_schema_path(const struct kvt_dataset_info *d, int branch, char *buf, size_t cap)
{
    if (d->per_branch)
        snprintf(buf, cap, "branches/%02d/%s", branch, d->path + strlen("branches/"));
    else
        snprintf(buf, cap, "%s", d->path);
    return buf;
}

void kvt_schema_chunk(const struct kvt_dataset_info *d, const size_t *shape, size_t bytes, size_t *chunk)
{
    for (int i = 0; i < d->rank; i++) {
        size_t want = d->chunk_of[i] ? (size_t)d->chunk_of[i] : shape[i];
        if (d->store == KVT_STORE_BLOCKS) { /* few bins beyond the edge */
            size_t blocks = (shape[i] + want - 1) / want;
            want = (shape[i] + blocks - 1) / blocks;
        }
        chunk[i] = want < shape[i] ? want : shape[i];
        bytes *= chunk[i];
    }
    if (d->store == KVT_STORE_HISTORY)
        return; /* the writer counts on whole layers and heads */
    for (int i = 0; i < d->rank && bytes > (1u << 20); i++) {
        while (bytes > (1u << 20) && chunk[i] > 1) {
            size_t half = (chunk[i] + 1) / 2;
            bytes = bytes / chunk[i] * half;
            chunk[i] = half;
        }
    }
}

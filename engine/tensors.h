/* The tensors of a model and the files they lie in: what GGUF and safetensors have in common. Every tensor here was
 * checked: its type and sizes fit its bytes, its bytes lie inside its file and nobody else's. */
#ifndef KVT_ENGINE_TENSORS_H
#define KVT_ENGINE_TENSORS_H

#include "engine/map.h"
#include "kernels/ops.h"

struct kvt_bytes {              /* borrowed text, not terminated */
    const char *p;
    size_t n;
};

struct kvt_tensor {
    struct kvt_bytes name;
    enum kvt_dtype type;
    int n_dims;
    uint64_t ne[4];             /* ne[0] is the innermost; 1 beyond n_dims */
    const void *data;           /* in the map; safetensors promises no alignment */
    size_t bytes;
    int file;                   /* index of the map that holds it */
};

struct kvt_tensors {
    int n_maps, n;
    struct kvt_map *map;        /* in the order that docs/models.md states for the model's hash */
    struct kvt_tensor *tensor;  /* sorted by name */
};

/* Takes a map over (*m is left empty), also when it fails. */
int kvt_tensors_add_map(struct kvt_tensors *ts, struct kvt_map *m, struct kvt_err *err);
/* Room for n more; the caller fills tensor[ts->n ...] and raises ts->n. */
int kvt_tensors_reserve(struct kvt_tensors *ts, size_t n, struct kvt_err *err);
/* When all are there: sorts by name, refuses a name that is there twice and bytes that two tensors share. */
int kvt_tensors_seal(struct kvt_tensors *ts, struct kvt_err *err);
const struct kvt_tensor *kvt_tensors_find(const struct kvt_tensors *ts, const char *name);
void kvt_tensors_free(struct kvt_tensors *ts);

/* ne[] and type -> bytes; false where it doesn't fit in a size_t, or a row isn't a whole number of blocks. */
bool kvt_tensor_size(const struct kvt_tensor *t, size_t *bytes);

bool kvt_bytes_equal(struct kvt_bytes a, const char *b);
/* Like memcmp; a shorter one that fits comes first. */
int kvt_bytes_order(struct kvt_bytes a, struct kvt_bytes b);
/* How many bytes of a name are safe and useful in a message: "%.*s", kvt_bytes_shown(name), name.p */
int kvt_bytes_shown(struct kvt_bytes b);

#endif

/* GGUF files (v2 and v3, little-endian): a read-only map of which every offset, size, count and string was checked
 * before anybody sees it. Values and tensors point into the map. */
#ifndef KVT_ENGINE_GGUF_H
#define KVT_ENGINE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/ops.h"
#include "kvt/kvt.h"

enum kvt_gguf_type {
    KVT_GGUF_U8, KVT_GGUF_I8, KVT_GGUF_U16, KVT_GGUF_I16, KVT_GGUF_U32, KVT_GGUF_I32, KVT_GGUF_F32, KVT_GGUF_BOOL,
    KVT_GGUF_STR, KVT_GGUF_ARR, KVT_GGUF_U64, KVT_GGUF_I64, KVT_GGUF_F64,
    KVT_N_GGUF_TYPE
};

struct kvt_bytes {              /* borrowed text, not terminated */
    const char *p;
    size_t n;
};

struct kvt_gguf_kv {
    struct kvt_bytes key;
    enum kvt_gguf_type type;
    enum kvt_gguf_type elem;    /* of an array */
    uint64_t count;             /* elements of an array; 1 otherwise */
    const uint8_t *data;        /* the value; unaligned */
};

struct kvt_gguf_tensor {
    struct kvt_bytes name;
    enum kvt_dtype type;
    int n_dims;
    uint64_t ne[4];             /* ne[0] is the innermost; 1 beyond n_dims */
    const void *data;
    size_t bytes;
};

struct kvt_gguf {
    char *path;                 /* for messages */
    const uint8_t *base;
    size_t bytes;
    bool mapped;                /* base came from mmap */
    int n_kv, n_tensors;
    struct kvt_gguf_kv *kv;         /* sorted by key */
    struct kvt_gguf_tensor *tensor; /* sorted by name */
};

int kvt_gguf_open(struct kvt_gguf *g, const char *path, struct kvt_err *err);
/* The same over memory that the caller keeps: tests and fuzzers. */
int kvt_gguf_parse(struct kvt_gguf *g, const char *path, const void *base, size_t bytes, struct kvt_err *err);
void kvt_gguf_close(struct kvt_gguf *g);

const struct kvt_gguf_kv *kvt_gguf_find(const struct kvt_gguf *g, const char *key);
const struct kvt_gguf_tensor *kvt_gguf_tensor(const struct kvt_gguf *g, const char *name);

/* Typed reads. An absent key leaves *out alone and is fine, unless `required`; a key of another type never is. */
int kvt_gguf_int(const struct kvt_gguf *g, const char *key, bool required, int64_t min, int64_t max, int64_t *out,
                 struct kvt_err *err);
int kvt_gguf_float(const struct kvt_gguf *g, const char *key, bool required, double *out, struct kvt_err *err);
int kvt_gguf_bool(const struct kvt_gguf *g, const char *key, bool *out, struct kvt_err *err);
int kvt_gguf_str(const struct kvt_gguf *g, const char *key, bool required, struct kvt_bytes *out, struct kvt_err *err);
/* NULL in *out where absent and not required. */
int kvt_gguf_array(const struct kvt_gguf *g, const char *key, enum kvt_gguf_type elem, bool required,
                   const struct kvt_gguf_kv **out, struct kvt_err *err);

/* Strings of an array, one after the other: start with p = kv->data and call kv->count times. */
struct kvt_bytes kvt_gguf_next_str(const uint8_t **p);

bool kvt_bytes_equal(struct kvt_bytes a, const char *b);

#endif

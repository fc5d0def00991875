/* GGUF files (v2 and v3, little-endian), whole or split: read-only maps of which every offset, size, count and string was
 * checked before anybody sees it. Values and tensors point into the maps. */
#ifndef KVT_ENGINE_GGUF_H
#define KVT_ENGINE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/tensors.h"

enum kvt_gguf_type {
    KVT_GGUF_U8, KVT_GGUF_I8, KVT_GGUF_U16, KVT_GGUF_I16, KVT_GGUF_U32, KVT_GGUF_I32, KVT_GGUF_F32, KVT_GGUF_BOOL,
    KVT_GGUF_STR, KVT_GGUF_ARR, KVT_GGUF_U64, KVT_GGUF_I64, KVT_GGUF_F64,
    KVT_N_GGUF_TYPE
};

struct kvt_gguf_kv {
    struct kvt_bytes key;
    enum kvt_gguf_type type;
    enum kvt_gguf_type elem;    /* of an array */
    uint64_t count;             /* elements of an array; 1 otherwise */
    const uint8_t *data;        /* the value; unaligned */
};

struct kvt_gguf {
    const char *path;           /* of the (first) file, for messages */
    const uint8_t *base;        /* of that file */
    size_t bytes;
    int n_kv;
    struct kvt_gguf_kv *kv;     /* sorted by key */
    struct kvt_tensors tensors; /* of all parts; holds the maps, part by part */
};

/* name: a file of the folder. Where it is the first part of a split model (-00001-of-0000N.gguf), the others are opened
 * with it and their tensors join; the metadata is the first one's. */
int kvt_gguf_open(struct kvt_gguf *g, const struct kvt_folder *f, const char *name, struct kvt_err *err);
/* One whole file over memory that the caller keeps: tests and fuzzers. */
int kvt_gguf_parse(struct kvt_gguf *g, const char *path, const void *base, size_t bytes, struct kvt_err *err);
void kvt_gguf_close(struct kvt_gguf *g);

const struct kvt_gguf_kv *kvt_gguf_find(const struct kvt_gguf *g, const char *key);

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

#endif

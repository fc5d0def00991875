/* The files of tests/vectors, read: what the reference computed. Layout: tests/vectors/README.md. */
#ifndef KVT_TESTS_PARITY_VECTORS_H
#define KVT_TESTS_PARITY_VECTORS_H

#include <stdbool.h>
#include <stdint.h>

#include "kvt/model.h"

struct seen_head {           /* one (layer, head), each array (n) */
    int layer, head;
    const float *mass, *wmass, *last, *entropy;
};

struct logits_vector {
    void *file;              /* owns everything below */
    const char *text;        /* text_bytes, not terminated; n_bytes 0 where only ids are given */
    int text_bytes, n, V, top, n_greedy, n_heads, window;
    bool has_text;
    int model_bytes;
    uint32_t model_crc;
    const int32_t *id;       /* (n) */
    const int32_t *top_id;   /* (n, top) */
    const float *top_lp;     /* (n, top) natural logarithms, descending */
    const int32_t *greedy;   /* (n_greedy) */
    const float *margin;     /* (n_greedy) logit of the first minus logit of the second */
    struct seen_head head[32];
};

struct kept_set {            /* what the reference kept */
    const char *name, *spec; /* "SnapKVPress remove 0.5", our method with the same parameters */
    int tokens;              /* budget in tokens, -1: use ppm */
    int keep_ppm;
    const int32_t *count;    /* (L, G) */
    const uint8_t *bits;     /* (L, G, (n + 7) / 8) bit i = position i kept */
};

struct kept_vector {
    void *file;
    const char *text;
    int text_bytes, n, L, G, n_sets;
    bool has_text;
    int model_bytes;
    uint32_t model_crc;
    const int32_t *id;
    struct kept_set set[32];
};

struct family_vector {       /* a tiny model of a family: every token at every position */
    void *file;
    int n, V, L, H, n_greedy;
    const int32_t *id, *greedy;
    const float *margin;     /* (n_greedy) */
    const float *logprob;    /* (n, V) natural logarithms */
    const float *mass;       /* (L, H, n) sums over rows */
};

/* false: not such a file (a line about it on stderr). */
bool family_vector_read(struct family_vector *v, const char *path);
bool logits_vector_read(struct logits_vector *v, const char *path);
bool kept_vector_read(struct kept_vector *v, const char *path);

/* CRC-32 (the one of zlib) of a file; false if it can't be read. */
bool file_crc(const char *path, uint32_t *crc, long *bytes);

/* The model that a test runs on: `given`, else $KVT_MODEL, else the place where scripts/get-model.sh puts it.
 * NULL where there is none. buf holds the path. */
const char *test_model(const char *given, char *buf, size_t cap);

/* A model file by its content. */
struct model_id { const char *path; long bytes; uint32_t crc; };
/* Whether the vectors (made from a file of `bytes` with `crc`) belong to this one; says on stderr what to do if not. */
bool made_from(const struct model_id *model, const char *vector, int bytes, uint32_t crc);

#endif

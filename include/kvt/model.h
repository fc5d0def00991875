/* A language model: an opened file, its shape, weights and tokenizer. Immutable once open, shareable. */
#ifndef KVT_MODEL_H
#define KVT_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/ops.h"
#include "kvt/kvt.h"

struct kvt_model;
struct kvt_tokenizer;

struct kvt_shape {
    char arch[32];             /* "llama", "qwen2" */
    char name[96];             /* general.name, or the file's base name */
    int L, H, G, D, E, F, V;   /* F: width of the feed-forward */
    int context_tok;           /* trained context */
    float rms_eps;
    double rope_base;
    int rope_rot;              /* rotated dims of a head */
    bool rope_halves;          /* see struct kvt_rope */
    bool qkv_bias, tied;
};

struct kvt_layer_weights {
    struct kvt_mat q, k, v, o, gate, up, down;
    const float *attn_norm, *ffn_norm;   /* (E) host */
    const float *q_bias, *k_bias, *v_bias; /* (H D), (G D), (G D) host, or NULL */
};
struct kvt_weights {           /* host memory: the mapped file, or owned by the model */
    struct kvt_mat embed;      /* (V, E) */
    struct kvt_mat output;     /* (V, E); the same data as embed where tied */
    const float *out_norm;     /* (E) */
    struct kvt_layer_weights *layer; /* (L) */
};

/* Opens a GGUF file. Weights stay where they lie, mapped read-only. */
int kvt_model_open(struct kvt_model **out, const char *path, struct kvt_err *err);
void kvt_model_close(struct kvt_model **m);
const struct kvt_shape *kvt_model_shape(const struct kvt_model *m);
const struct kvt_weights *kvt_model_weights(const struct kvt_model *m);
const struct kvt_tokenizer *kvt_model_tokenizer(const struct kvt_model *m);
const char *kvt_model_path(const struct kvt_model *m);
size_t kvt_model_bytes(const struct kvt_model *m);  /* size of the file */
/* "Q4_1" ... : the type most matrix bytes have; for tables. */
const char *kvt_model_main_type(const struct kvt_model *m);

#endif

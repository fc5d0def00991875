/* A language model: an opened file, its shape, weights and tokenizer. Immutable once open, shareable. */
#ifndef KVT_MODEL_H
#define KVT_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/ops.h"
#include "kvt/kvt.h"

struct kvt_model;
struct kvt_tokenizer;

#define KVT_MAX_LAYERS 1024
#define KVT_ROPE_PAIRS 256     /* most pairs that can have a factor each */

/* Angles of a position: pos * base^(-2i / rot) for pair i, and what a scaling makes of it (engine/rope.c). */
enum kvt_rope_scaling {
    KVT_ROPE_PLAIN,
    KVT_ROPE_LINEAR,           /* frequencies / factor */
    KVT_ROPE_DYNAMIC,          /* NTK: a larger base, from the length of the run */
    KVT_ROPE_LLAMA3,           /* long waves / factor, short ones as they are, a ramp between */
    KVT_ROPE_YARN,             /* the same idea over a ramp in pairs, and cos and sin are scaled */
    KVT_ROPE_FACTORS,          /* frequency i / long_factor[i] */
    KVT_ROPE_LONG,             /* longrope: the same with short_factor up to original_tok, and cos and sin are scaled */
};
struct kvt_rope_spec {
    enum kvt_rope_scaling scaling;
    double base;
    double factor;             /* of the context's length */
    int original_tok;          /* context before scaling */
    double low, high;          /* LLAMA3: low_freq_factor, high_freq_factor; YARN: beta_slow, beta_fast */
    double attention;          /* cos and sin times this (YARN, LONG); 1 elsewhere */
    bool truncate;             /* YARN: the ramp begins and ends at whole pairs */
    float short_factor[KVT_ROPE_PAIRS], long_factor[KVT_ROPE_PAIRS]; /* (rot / 2) */
};

/* What a layer does unlike its neighbours: bits of kvt_shape.layer. */
enum kvt_layer_trait {
    KVT_LAYER_WINDOW = 1,      /* a row sees its own position and the window - 1 before it */
    KVT_LAYER_NOPE = 2,        /* queries and keys aren't rotated */
    KVT_LAYER_LOCAL_ROPE = 4,  /* rotated by rope[1] */
};
/* Queries and keys are normed before they are rotated: not, each head by itself, or all heads as one vector. */
enum kvt_qk_norm { KVT_QK_NONE, KVT_QK_HEAD, KVT_QK_WIDE };

/* A model's dimensions and traits. Flat: a copy is a copy. Rows of engine/families.c say which family has which. */
struct kvt_shape {
    char arch[32];             /* "llama", "qwen2": general.architecture or model_type */
    const char *family;        /* "Llama", "Gemma 2" */
    char name[96];             /* general.name, or the file's base name */
    int L, H, G, D, E, F, V;   /* F: width of the feed-forward */
    int context_tok;           /* trained context, after rope scaling */
    float rms_eps;
    enum kvt_act act;          /* of the feed-forward's gate */
    bool tied;                 /* the output matrix is the embedding */
    /* norms */
    bool pre_norm, post_norm;  /* before a block (all but OLMo 2); of its output (Gemma 2 and 3, OLMo 2) */
    bool layer_norm;           /* the mean is taken off and a bias added (StableLM) */
    bool norm_plus_one;        /* the file holds w for a weight of 1 + w: only the binding of weights looks here */
    enum kvt_qk_norm qk_norm;
    /* biases */
    bool qkv_bias, o_bias, mlp_bias;
    /* how the file holds matrices: only the binding of weights looks here */
    bool fused_qkv, fused_gate_up;
    /* factors; 1 where a family has none */
    float embed_scale;         /* of the embeddings */
    float residual_scale;      /* of a block's output before it is added */
    float logit_scale;         /* of the logits */
    float attn_scale;          /* of q k: 1 / sqrt(D) unless the family says otherwise */
    float attn_cap, logit_cap; /* x becomes cap tanh(x / cap); 0 = no cap */
    /* positions */
    int window;                /* of layers with KVT_LAYER_WINDOW; 0 = there are none */
    int rope_rot;              /* rotated dims of a head */
    bool rope_halves;          /* see struct kvt_rope */
    struct kvt_rope_spec rope[2]; /* [1]: of layers with KVT_LAYER_LOCAL_ROPE */
    uint8_t layer[KVT_MAX_LAYERS]; /* (L) enum kvt_layer_trait bits */
};
/* 0 = every earlier position is seen. */
static inline int kvt_layer_window(const struct kvt_shape *s, int l) { return s->layer[l] & KVT_LAYER_WINDOW ? s->window : 0; }

struct kvt_layer_weights {     /* what a family hasn't is NULL; a part of a fused matrix is its rows */
    struct kvt_mat q, k, v, o, gate, up, down;
    const float *attn_norm, *ffn_norm;           /* (E) host, before the block */
    const float *post_attn_norm, *post_ffn_norm; /* (E) host, of the block's output */
    const float *q_norm, *k_norm;                /* KVT_QK_HEAD: (D) both; KVT_QK_WIDE: (H D), (G D) */
    const float *q_bias, *k_bias, *v_bias;       /* (H D), (G D), (G D) host */
    const float *o_bias;                         /* (E) */
    const float *gate_bias, *up_bias, *down_bias; /* (F), (F), (E) */
    const float *attn_norm_bias, *ffn_norm_bias; /* (E) layer_norm */
};
struct kvt_weights {           /* host memory: the mapped file, or owned by the model */
    struct kvt_mat embed;      /* (V, E) */
    struct kvt_mat output;     /* (V, E); the same data as embed where tied */
    const float *out_norm, *out_norm_bias; /* (E) */
    struct kvt_layer_weights *layer; /* (L) */
};

/* Opens a GGUF file, the first part of a split one (-00001-of-0000N.gguf), or a Hugging Face folder. Weights stay where they
 * lie, mapped read-only. */
int kvt_model_open(struct kvt_model **out, const char *path, struct kvt_err *err);
void kvt_model_close(struct kvt_model **m);
const struct kvt_shape *kvt_model_shape(const struct kvt_model *m);
const struct kvt_weights *kvt_model_weights(const struct kvt_model *m);
const struct kvt_tokenizer *kvt_model_tokenizer(const struct kvt_model *m);
const char *kvt_model_path(const struct kvt_model *m);
size_t kvt_model_bytes(const struct kvt_model *m);  /* size of the files with the weights */
/* Bytes of the weights' maps that a run over these tokens reads: all matrices, but of an embedding that isn't the output
 * matrix too only the tokens' rows, with what the kernel maps around them. */
size_t kvt_model_touched_bytes(const struct kvt_model *m, const int32_t *token, int n);
/* The files with the weights, in the order in which a trace's model_sha256 reads them: parts by number, shards by name. */
int kvt_model_files(const struct kvt_model *m);
const char *kvt_model_file(const struct kvt_model *m, int i);
/* The other files of a folder that decide what comes out, for config_sha256; NULL after the last, and for a GGUF. */
const char *kvt_model_config_file(const struct kvt_model *m, int i);
/* Bytes of the tensors of each type, (KVT_N_DTYPE). */
const size_t *kvt_model_type_bytes(const struct kvt_model *m);
/* "Q4_1" ... : the type most matrix bytes have; for tables. */
const char *kvt_model_main_type(const struct kvt_model *m);

#endif

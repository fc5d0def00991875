/* The families of models that the forward pass knows: one row each, no code of their own. */
#ifndef KVT_ENGINE_FAMILIES_H
#define KVT_ENGINE_FAMILIES_H

#include "kvt/model.h"

enum kvt_family_trait {
    KVT_FAMILY_PAIRS = 1 << 0,       /* GGUF converters permute rows of q and k so that rotated pairs are adjacent */
    KVT_FAMILY_QKV_BIAS = 1 << 1,    /* always; others have biases where the file says so */
    KVT_FAMILY_NO_PRE_NORM = 1 << 2,
    KVT_FAMILY_POST_NORM = 1 << 3,
    KVT_FAMILY_PLUS_ONE = 1 << 4,    /* norms of Hugging Face checkpoints hold w for 1 + w; GGUF's hold 1 + w */
    KVT_FAMILY_LAYER_NORM = 1 << 5,
    KVT_FAMILY_FUSED = 1 << 6,       /* q, k and v are one matrix, and gate and up */
    KVT_FAMILY_EMBED_ROOT = 1 << 7,  /* embeddings times the root of the width */
    KVT_FAMILY_QUERY_SCALE = 1 << 8, /* attention's scale is query_pre_attn_scalar^-1/2 */
    KVT_FAMILY_LOCAL_ROPE = 1 << 9,  /* window layers rotate by a base of their own and without scaling */
    KVT_FAMILY_NOPE = 1 << 10,       /* some layers don't rotate: every fourth, or no_rope_layers says which */
    KVT_FAMILY_TIED = 1 << 11,       /* tie_word_embeddings where config.json leaves it out */
    KVT_FAMILY_SCALES = 1 << 12,     /* factors of embeddings, residuals, attention and logits */
    KVT_FAMILY_WINDOW_IN_GGUF = 1 << 13, /* not in config.json: GGUF has one name for Llama and Mistral */
};

/* Which layers have a window, where the file gives a window and doesn't say which. */
enum kvt_window_layers {
    KVT_WINDOW_UNSAID,         /* then it is refused */
    KVT_WINDOW_ALL,
    KVT_WINDOW_MOST,           /* all but every full_every-th */
    KVT_WINDOW_UPPER,          /* from max_window_layers on, and only with use_sliding_window */
    KVT_WINDOW_NOPE,           /* those that don't rotate, and only with use_sliding_window */
};

struct kvt_family {
    const char *name;          /* "Gemma 2" */
    const char *gguf;          /* general.architecture; NULL: GGUF calls it by another family's name */
    const char *hf;            /* model_type of config.json */
    unsigned traits;           /* enum kvt_family_trait */
    enum kvt_act act;
    enum kvt_qk_norm qk_norm;
    enum kvt_window_layers window_layers;
    int full_every;
    /* what transformers assumes where config.json leaves a key out */
    double rope_base, local_base, rms_eps, rotated; /* rotated: share of a head's dims */
    int window, head_dim, heads, kv_heads, vocab, context;
    float attn_cap, logit_cap;
    double query_scalar;
};

/* NULL: no such family. */
const struct kvt_family *kvt_family_of_gguf(const char *arch);
const struct kvt_family *kvt_family_of_hf(const char *model_type);
/* "llama, qwen2, ...": what to say to somebody whose model is none of them. */
void kvt_family_names(bool gguf, char *out, size_t cap);

/* The shape before a file says anything: the family's traits, factors of 1. */
void kvt_shape_start(struct kvt_shape *s, const struct kvt_family *f, const char *arch);
/* Traits of layers where the file names none itself: by the family's pattern, once L and window are known. */
void kvt_shape_window_layers(struct kvt_shape *s, const struct kvt_family *f, int full_every, int first_upper);
void kvt_shape_nope_layers(struct kvt_shape *s, int every);

#endif

/* The families of models that the forward pass knows: one row each, no code of their own. */
#ifndef KVT_ENGINE_FAMILIES_H
#define KVT_ENGINE_FAMILIES_H

#include "kvt/model.h"

enum kvt_family_trait {
    KVT_FAMILY_QKV_BIAS = 1,   /* always; others have it where the file says so */
    KVT_FAMILY_PAIRS = 2,      /* GGUF converters permute rows of q and k so that rotated pairs are adjacent */
};

struct kvt_family {
    const char *name;          /* "Gemma 2" */
    const char *gguf;          /* general.architecture; NULL: no GGUF of its own */
    const char *hf;            /* model_type of config.json */
    unsigned traits;           /* enum kvt_family_trait */
    enum kvt_act act;
    enum kvt_qk_norm qk_norm;
    /* what transformers assumes where config.json leaves a key out */
    double rope_base;
    double rms_eps;
};

/* NULL: no such family. */
const struct kvt_family *kvt_family_of_gguf(const char *arch);
const struct kvt_family *kvt_family_of_hf(const char *model_type);
/* "llama, qwen2, ...": what to say to somebody whose model is none of them. */
void kvt_family_names(bool gguf, char *out, size_t cap);

/* The shape before a file says anything: the family's traits, factors of 1. */
void kvt_shape_start(struct kvt_shape *s, const struct kvt_family *f, const char *arch);

#endif

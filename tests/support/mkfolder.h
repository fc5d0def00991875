/* A Hugging Face folder with the weights and the vocabulary of a GGUF model: the same model in both formats. */
#ifndef KVT_TESTS_MKFOLDER_H
#define KVT_TESTS_MKFOLDER_H

#include "engine/gguf.h"

struct kvt_mkfolder_opts {
    enum kvt_dtype type;       /* of the matrices: F32, F16 or BF16; quantised ones are dequantised first */
    int shards;                /* > 1: so many files and their index */
    bool unaligned;            /* the data begins at an odd byte, which the format allows */
};

/* Writes config.json, model.safetensors (or shards), tokenizer.json, tokenizer_config.json and generation_config.json into dir,
 * which is there. Families: llama and qwen2. */
int kvt_mkfolder(const char *dir, const struct kvt_gguf *g, const struct kvt_mkfolder_opts *o, struct kvt_err *err);

#endif

/* Tiny random models for tests: a whole GGUF file from a seed, so that no test needs a download. */
#ifndef KVT_TESTS_MKMODEL_H
#define KVT_TESTS_MKMODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/ops.h"
#include "kvt/kvt.h"

/* All zero is a good model: llama, F32, 3 layers, 6 query heads over 2 kv heads, head size 16, width 96, feed-forward
 * 128, context 2048, 400 tokens. */
struct kvt_mkmodel_opts {
    uint64_t seed;
    int L, H, G, D, E, F;      /* 0: the default */
    int context_tok;
    int n_merges;              /* the vocabulary is 3 special tokens + 256 bytes + these; 0: 141 */
    enum kvt_dtype type;       /* of matrices; its block must divide E, F and H D */
    bool embed_f32;            /* embedding (and output) in F32 whatever `type` is; else Q8_0 where type is quantised */
    enum kvt_dtype norm_type;  /* F32, F16 or BF16 */
    bool qwen2;                /* architecture qwen2: biases, halves */
    bool untied;               /* an output matrix of its own */
    bool add_bos;
    const char *pre;           /* "smollm" */
    const char *words;         /* text to learn the merges from, at most 4095 bytes; NULL: a paragraph of plain English */
    const char *chat_template; /* NULL: ChatML */
    /* Weights by hand in place of random ones: of tensor `name` (n rows of k values, n 0: one row of a norm), all F32; to be filled. */
    void (*fill)(const char *name, int n, int k, float *out);
    const char *const *marks;  /* NULL, or up to 32 more control tokens with a NULL behind; the first is BOS in <|im_start|>'s place */
    /* things that readers must refuse */
    const char *rope_scaling;  /* rope.scaling.type, with rope_factor */
    float rope_factor;
    bool rope_freqs;           /* a tensor rope_freqs.weight */
    int experts, sliding_window;
};

/* Writes the file. The vocabulary: 0 <|endoftext|>, 1 <|im_start|> (BOS), 2 <|im_end|> (EOS), then the bytes, then merges
 * learned from a paragraph of plain English. */
int kvt_mkmodel(const char *path, const struct kvt_mkmodel_opts *o, struct kvt_err *err);
/* The same in memory: *out is malloc'ed. */
int kvt_mkmodel_bytes(unsigned char **out, size_t *bytes, const struct kvt_mkmodel_opts *o, struct kvt_err *err);

#endif

/* A byte-level BPE vocabulary in flat arrays: made once from the file's metadata, read by any number of threads. */
#ifndef KVT_ENGINE_TOKENIZER_H
#define KVT_ENGINE_TOKENIZER_H

#include "engine/gguf.h"
#include "engine/pretokenize.h"
#include "kvt/prompt.h"

enum kvt_token_type {           /* GGUF's numbers */
    KVT_TOKEN_NORMAL = 1, KVT_TOKEN_UNKNOWN = 2, KVT_TOKEN_CONTROL = 3, KVT_TOKEN_USER = 4, KVT_TOKEN_UNUSED = 5,
    KVT_TOKEN_BYTE = 6,
};

/* "left right" -> merged; the smaller rank merges first */
struct kvt_merge {
    int32_t left, right;        /* left < 0: an empty slot */
    int32_t rank, id;
};

struct kvt_tokenizer {
    int n;
    char *bytes;                /* the bytes of all tokens, one after the other */
    uint32_t *start;            /* (n + 1) into bytes */
    uint8_t *type;              /* (n) enum kvt_token_type */
    int32_t *word;              /* open hash of the ordinary tokens by their bytes: id, or -1 */
    uint32_t word_mask;
    struct kvt_merge *merge;    /* open hash by (left, right) */
    uint32_t merge_mask;
    int32_t *special;           /* control and user-defined tokens, sorted by their bytes */
    int n_special;
    int32_t byte_id[256];       /* the token of a single byte, or -1 */
    int32_t bos, eos, eot, unknown; /* or -1 */
    bool add_bos;
    size_t longest;
    struct kvt_pretokenizer *pre;
    struct kvt_bytes chat_template; /* in the model file; p is NULL where there is none */
    char kind[48];
};

int kvt_tokenizer_open(struct kvt_tokenizer **out, const struct kvt_gguf *g, struct kvt_err *err);
void kvt_tokenizer_close(struct kvt_tokenizer **t);

/* The ordinary token with these bytes, or -1. */
int32_t kvt_tokenizer_word(const struct kvt_tokenizer *t, const char *s, size_t n);
/* The merge of two neighbours, or NULL. */
const struct kvt_merge *kvt_tokenizer_merge(const struct kvt_tokenizer *t, int32_t left, int32_t right);
/* The longest special token that begins at s, or -1; `control`: also the control tokens. */
int32_t kvt_tokenizer_special(const struct kvt_tokenizer *t, const char *s, size_t n, bool control);
/* The special token with exactly this text, or -1. */
int32_t kvt_tokenizer_named(const struct kvt_tokenizer *t, const char *text);

#endif

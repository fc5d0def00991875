/* A vocabulary in flat arrays, and how text is cut for it: made once from a file's metadata, read by any number of threads.
 * tokenizer_gguf.c and tokenizer_json.c read it, encode.c runs it, bpe.c and unigram.c find the tokens of a piece. */
#ifndef KVT_ENGINE_TOKENIZER_H
#define KVT_ENGINE_TOKENIZER_H

#include "engine/added_tokens.h"
#include "engine/gguf.h"
#include "engine/normalise.h"
#include "engine/pretokenize.h"
#include "kvt/prompt.h"

enum kvt_token_type {           /* GGUF's numbers */
    KVT_TOKEN_NORMAL = 1, KVT_TOKEN_UNKNOWN = 2, KVT_TOKEN_CONTROL = 3, KVT_TOKEN_USER = 4, KVT_TOKEN_UNUSED = 5,
    KVT_TOKEN_BYTE = 6,
};

enum kvt_vocab_kind {
    KVT_VOCAB_BYTES,            /* pairs of bytes merge by rank; files spell bytes in GPT-2's alphabet */
    KVT_VOCAB_CHARS,            /* pairs of characters merge by rank; U+2581 is a space, <0x0A> a byte */
    KVT_VOCAB_SCORES,           /* the same spelling; any two neighbours that are a token together merge, the best score first */
    KVT_VOCAB_UNIGRAM,          /* the same spelling; the path with the best sum of scores */
};

/* "left right" -> merged; the smaller rank merges first */
struct kvt_merge {
    int32_t left, right;        /* left < 0: an empty slot */
    int32_t rank, id;
};

struct kvt_trie_node {          /* children lie together, by byte */
    uint32_t child;
    int32_t id;                 /* the token that ends here, or -1 */
    uint16_t n;
    uint8_t byte;
};

struct kvt_tokenizer {
    enum kvt_vocab_kind vocab;
    int n;
    char *bytes;                /* what the tokens stand for in text, one after the other */
    uint32_t *start;            /* (n + 1) into bytes */
    char *piece;                /* how they are looked up; the same array as `bytes` in KVT_VOCAB_BYTES */
    uint32_t *piece_start;      /* (n + 1) */
    uint8_t *type;              /* (n) enum kvt_token_type */
    int32_t *word;              /* open hash of the tokens that text can become, by their pieces: id, or -1 */
    uint32_t word_mask;
    struct kvt_merge *merge;    /* open hash by (left, right) */
    uint32_t merge_mask;
    double *score;              /* (n), where the kind has them */
    int32_t *rank;              /* (n) place of a token's score, 0 the best; equal scores share it */
    double worst;               /* the lowest score */
    struct kvt_trie_node *trie; /* of KVT_VOCAB_UNIGRAM */
    int16_t byte_of[0x180];     /* byte of a character of GPT-2's alphabet, -1 outside it */
    int32_t byte_id[256];       /* the token of a single byte, or -1 */
    int32_t bos, eos, eot, unknown; /* or -1 */
    int32_t end[16];            /* more ends, of generation_config.json */
    int n_ends;
    bool add_bos;
    bool fuse_unknown;          /* neighbours without a token are one unknown token */
    bool drop_unknown;          /* and where there is no unknown token they are left out, not refused */
    bool byte_fallback;         /* a character without a token becomes its bytes */
    bool whole_first;           /* a piece that is itself a token isn't merged again */
    bool cut_spaces;            /* no token has U+2581 behind another character, so pieces can be cut there */
    size_t longest;             /* bytes of a token in text */
    struct kvt_added added;     /* looked for in the text as it is */
    struct kvt_added added_normed; /* in the normalised text */
    struct kvt_normaliser *norm; /* or NULL */
    struct kvt_pretokenizer *pre;
    struct kvt_bytes chat_template; /* p is NULL where there is none */
    char *own_template;         /* where it isn't in a mapped file */
    char kind[64];
};

int kvt_tokenizer_open(struct kvt_tokenizer **out, const struct kvt_gguf *g, struct kvt_err *err);
/* tokenizer.json of a folder, with what tokenizer_config.json, generation_config.json and chat_template.jinja add. */
int kvt_tokenizer_open_hf(struct kvt_tokenizer **out, const struct kvt_folder *f, struct kvt_err *err);
void kvt_tokenizer_close(struct kvt_tokenizer **t);

/* The token with this piece, or -1. */
int32_t kvt_tokenizer_word(const struct kvt_tokenizer *t, const char *s, size_t n);
/* The merge of two neighbours, or NULL. */
const struct kvt_merge *kvt_tokenizer_merge(const struct kvt_tokenizer *t, int32_t left, int32_t right);
/* The added or control token with exactly this text, or -1. */
int32_t kvt_tokenizer_named(const struct kvt_tokenizer *t, const char *text);

/* ---- for the readers ---- */

struct kvt_vocab {
    int n;
    const struct kvt_bytes *text; /* (n) as the file spells them */
    const uint8_t *type;        /* (n) */
    const uint8_t *word;        /* (n) 1: text can become this token by merging */
    bool unique;                /* refuse two words with the same text; else the later one counts, as in the field's libraries */
};
/* Fills n, bytes, pieces, types, the hash of words, byte_id, cut_spaces and longest; t->vocab is set before. */
int kvt_tokenizer_fill(struct kvt_tokenizer *t, const struct kvt_vocab *v, const char *where, struct kvt_err *err);
/* Makes room for the merges, then takes them one by one as the file spells them; refuses what doesn't join two tokens into
 * a third, and what is there twice. */
int kvt_tokenizer_merges(struct kvt_tokenizer *t, size_t count, const char *where, struct kvt_err *err);
int kvt_tokenizer_put_merge(struct kvt_tokenizer *t, int32_t rank, struct kvt_bytes left, struct kvt_bytes right, const char *where,
                            struct kvt_err *err);
/* score (n) -> rank; refuses what isn't finite. */
int kvt_tokenizer_rank(struct kvt_tokenizer *t, const char *where, struct kvt_err *err);
int kvt_unigram_build(struct kvt_tokenizer *t, const char *where, struct kvt_err *err);

/* ---- for encode.c ---- */

struct kvt_encoder {
    const struct kvt_tokenizer *tok;
    struct kvt_tokens *out;
    int cap;
    void *room;                 /* of bpe.c or unigram.c, kept from piece to piece */
    size_t room_n;
    bool special;
};
/* A token whose first byte comes from `start` of the text; where it ends is set when all are there. */
int kvt_encoder_put(struct kvt_encoder *e, int32_t id, int32_t start, struct kvt_err *err);
int kvt_bpe_piece(struct kvt_encoder *e, struct kvt_view piece, struct kvt_err *err);
int kvt_unigram_piece(struct kvt_encoder *e, struct kvt_view piece, struct kvt_err *err);

#endif

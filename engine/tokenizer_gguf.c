/* The tokenizer of a GGUF file: `gpt2` (byte-level BPE, cut as tokenizer.ggml.pre says) and `llama` (SentencePiece: merges
 * by score; Llama 2, Mistral, Gemma). */
#include "engine/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Texts and types of the file; both arrays are the caller's to free. */
static int read_tokens(const struct kvt_gguf *g, struct kvt_bytes **text, uint8_t **type, int *n, struct kvt_err *err)
{
    const struct kvt_gguf_kv *tokens, *types;
    int rc = kvt_gguf_array(g, "tokenizer.ggml.tokens", KVT_GGUF_STR, true, &tokens, err);
    if (!rc)
        rc = kvt_gguf_array(g, "tokenizer.ggml.token_type", KVT_GGUF_I32, false, &types, err);
    if (rc)
        return rc;
    if (tokens->count < 1 || tokens->count > 1 << 24)
        return kvt_fail(err, KVT_EFORMAT, "%s: a vocabulary of %llu tokens", g->path, (unsigned long long)tokens->count);
    if (types && types->count != tokens->count)
        return kvt_fail(err, KVT_EFORMAT, "%s: the vocabulary has %llu tokens, but %llu token types", g->path,
                        (unsigned long long)tokens->count, (unsigned long long)types->count);
    *n = (int)tokens->count;
    *text = kvt_calloc((size_t)*n, sizeof **text);
    *type = kvt_calloc((size_t)*n, 1);
    if (!*text || !*type)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory for the tokenizer", g->path);
    const uint8_t *p = tokens->data;
    for (int i = 0; i < *n; i++) {
        int32_t t = KVT_TOKEN_NORMAL;
        if (types)
            memcpy(&t, types->data + 4 * (size_t)i, 4);
        (*text)[i] = kvt_gguf_next_str(&p);
        (*type)[i] = (uint8_t)(t < KVT_TOKEN_NORMAL || t > KVT_TOKEN_BYTE ? KVT_TOKEN_NORMAL : t);
    }
    return 0;
}

/* GGUF keeps no flags of added tokens. Phi-3's special tokens take the white space behind them along; llama.cpp tells the
 * model by its name, and so do we. */
static bool is_phi3(const struct kvt_gguf *g)
{
    struct kvt_bytes name = {0};
    if (kvt_gguf_str(g, "general.name", false, &name, NULL))
        return false;
    for (size_t i = 0; i + 4 <= name.n; i++) {
        const char *s = name.p + i;
        if ((s[0] | 0x20) == 'p' && (s[1] | 0x20) == 'h' && (s[2] | 0x20) == 'i' &&
            (s[3] == '3' || (s[3] == '-' && i + 5 <= name.n && s[4] == '3')))
            return true;
    }
    return false;
}

static unsigned flags_of(struct kvt_bytes text, uint8_t type, bool phi3)
{
    bool strips = phi3 && !kvt_bytes_equal(text, "<unk>") && !kvt_bytes_equal(text, "<s>") && !kvt_bytes_equal(text, "<|endoftext|>");
    return (type == KVT_TOKEN_USER ? 0u : KVT_ADDED_SPECIAL) | (strips ? KVT_ADDED_RSTRIP : 0u);
}

static int fill(struct kvt_tokenizer *t, const struct kvt_gguf *g, const struct kvt_bytes *text, const uint8_t *type, int n,
                struct kvt_err *err)
{
    uint8_t *word = kvt_calloc((size_t)n, 1);
    bool phi3 = is_phi3(g);
    if (!word)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory for the tokenizer", g->path);
    for (int i = 0; i < n; i++) /* SentencePiece merges into what is unused or added by users too */
        word[i] = type[i] == KVT_TOKEN_NORMAL ||
                  (t->vocab == KVT_VOCAB_SCORES && (type[i] == KVT_TOKEN_UNUSED || type[i] == KVT_TOKEN_USER));
    int rc = kvt_tokenizer_fill(t, &(struct kvt_vocab){.n = n, .text = text, .type = type, .word = word}, g->path, err);
    for (int i = 0; i < n && !rc; i++)
        if (type[i] == KVT_TOKEN_CONTROL || type[i] == KVT_TOKEN_USER || type[i] == KVT_TOKEN_UNKNOWN)
            rc = kvt_added_put(&t->added, text[i].p, text[i].n, i, flags_of(text[i], type[i], phi3), g->path, err);
    kvt_added_seal(&t->added);
    free(word);
    return rc;
}

static int read_merges(struct kvt_tokenizer *t, const struct kvt_gguf *g, struct kvt_err *err)
{
    const struct kvt_gguf_kv *merges;
    int rc = kvt_gguf_array(g, "tokenizer.ggml.merges", KVT_GGUF_STR, true, &merges, err);
    if (!rc)
        rc = kvt_tokenizer_merges(t, merges->count, g->path, err);
    if (rc)
        return rc;
    const uint8_t *p = merges->data;
    for (int32_t rank = 0; rank < (int32_t)merges->count && !rc; rank++) {
        struct kvt_bytes s = kvt_gguf_next_str(&p), right = {0};
        const char *gap = s.n > 1 ? memchr(s.p + 1, ' ', s.n - 1) : NULL;
        if (gap) {
            right = (struct kvt_bytes){gap + 1, s.n - (size_t)(gap - s.p) - 1};
            s.n = (size_t)(gap - s.p);
        }
        rc = kvt_tokenizer_put_merge(t, rank, s, right, g->path, err);
    }
    return rc;
}

static int read_scores(struct kvt_tokenizer *t, const struct kvt_gguf *g, struct kvt_err *err)
{
    const struct kvt_gguf_kv *scores;
    int rc = kvt_gguf_array(g, "tokenizer.ggml.scores", KVT_GGUF_F32, true, &scores, err);
    if (rc)
        return rc;
    if (scores->count != (uint64_t)t->n)
        return kvt_fail(err, KVT_EFORMAT, "%s: the vocabulary has %d tokens, but %llu scores", g->path, t->n,
                        (unsigned long long)scores->count);
    t->score = kvt_calloc((size_t)t->n, sizeof *t->score);
    if (!t->score)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory for the tokenizer", g->path);
    for (int i = 0; i < t->n; i++) {
        float f;
        memcpy(&f, scores->data + 4 * (size_t)i, 4);
        t->score[i] = (double)f;
    }
    return kvt_tokenizer_rank(t, g->path, err);
}

static int read_id(const struct kvt_tokenizer *t, const struct kvt_gguf *g, const char *key, int32_t *out, struct kvt_err *err)
{
    int64_t v = *out < t->n ? *out : -1;
    int rc = kvt_gguf_int(g, key, false, 0, t->n - 1, &v, err);
    *out = (int32_t)v;
    return rc;
}

static int open_pre(struct kvt_tokenizer *t, const struct kvt_gguf *g, struct kvt_err *err)
{
    struct kvt_bytes pre = {0};
    int rc = kvt_gguf_str(g, "tokenizer.ggml.pre", false, &pre, err);
    if (rc)
        return rc;
    if (!pre.p)
        return kvt_fail(err, KVT_EUNSUP, "%s: the file names no pre-tokenizer (tokenizer.ggml.pre); convert it again with a newer "
                        "converter", g->path);
    if ((rc = kvt_pretokenizer_open(&t->pre, pre.p, pre.n, g->path, err)))
        return rc;
    t->whole_first = kvt_pretokenizer_whole_first(t->pre);
    t->add_bos = kvt_pretokenizer_bos(t->pre);
    snprintf(t->kind, sizeof t->kind, "gpt2/%.*s", (int)(pre.n < 40 ? pre.n : 40), pre.p);
    return 0;
}

static int open_spaces(struct kvt_tokenizer *t, const struct kvt_gguf *g, struct kvt_err *err)
{
    bool prefix = true;
    int rc = kvt_gguf_bool(g, "tokenizer.ggml.add_space_prefix", &prefix, err);
    if (!rc)
        rc = kvt_normaliser_spaces(&t->norm, prefix, g->path, err);
    if (!rc)
        rc = kvt_pretokenizer_json(&t->pre, NULL, g->path, err);
    t->add_bos = t->byte_fallback = true;
    t->bos = 1; /* SentencePiece's own, where the file doesn't say */
    t->eos = 2;
    t->unknown = 0;
    snprintf(t->kind, sizeof t->kind, "llama");
    return rc;
}

static int build(struct kvt_tokenizer *t, const struct kvt_gguf *g, struct kvt_err *err)
{
    struct kvt_bytes model, *text = NULL;
    uint8_t *type = NULL;
    int n = 0, rc = kvt_gguf_str(g, "tokenizer.ggml.model", true, &model, err);
    if (rc)
        return rc;
    bool scores = kvt_bytes_equal(model, "llama");
    if (!scores && !kvt_bytes_equal(model, "gpt2"))
        return kvt_fail(err, KVT_EUNSUP, "%s: tokenizer model '%.*s' is not supported (gpt2, byte-level BPE, and llama, SentencePiece, "
                        "are)", g->path, model.n < 32 ? (int)model.n : 32, model.p);
    t->vocab = scores ? KVT_VOCAB_SCORES : KVT_VOCAB_BYTES;
    t->bos = t->eos = t->eot = t->unknown = -1;
    t->fuse_unknown = true;
    rc = scores ? open_spaces(t, g, err) : open_pre(t, g, err);
    if (!rc)
        rc = read_tokens(g, &text, &type, &n, err);
    if (!rc)
        rc = fill(t, g, text, type, n, err);
    free(text);
    free(type);
    if (!rc)
        rc = scores ? read_scores(t, g, err) : read_merges(t, g, err);
    if (rc || (rc = kvt_gguf_bool(g, "tokenizer.ggml.add_bos_token", &t->add_bos, err)) ||
        (rc = read_id(t, g, "tokenizer.ggml.bos_token_id", &t->bos, err)) ||
        (rc = read_id(t, g, "tokenizer.ggml.eos_token_id", &t->eos, err)) ||
        (rc = read_id(t, g, "tokenizer.ggml.eot_token_id", &t->eot, err)) ||
        (rc = read_id(t, g, "tokenizer.ggml.unknown_token_id", &t->unknown, err)))
        return rc;
    return kvt_gguf_str(g, "tokenizer.chat_template", false, &t->chat_template, err);
}

int kvt_tokenizer_open(struct kvt_tokenizer **out, const struct kvt_gguf *g, struct kvt_err *err)
{
    *out = NULL;
    struct kvt_tokenizer *t = kvt_calloc(1, sizeof *t);
    if (!t)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory for the tokenizer", g->path);
    int rc = build(t, g, err);
    if (rc)
        kvt_tokenizer_close(&t);
    *out = t;
    return rc;
}

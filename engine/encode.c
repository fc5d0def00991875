/* Text -> tokens: added tokens are cut out, what lies between is normalised and cut into pieces, and every piece becomes
 * tokens. Only where a token begins is found on the way; it ends where the next one begins, so ranges cover the text
 * whatever a normaliser put in or took out. */
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer.h"
#include "engine/unicode.h"

void kvt_tokens_free(struct kvt_tokens *t)
{
    free(t->id);
    free(t->start);
    free(t->end);
    *t = (struct kvt_tokens){0};
}

static int grow(int32_t **v, int cap)
{
    int32_t *p = realloc(*v, (size_t)cap * sizeof **v);
    if (!p)
        return -1;
    *v = p;
    return 0;
}

int kvt_encoder_put(struct kvt_encoder *e, int32_t id, int32_t start, struct kvt_err *err)
{
    struct kvt_tokens *t = e->out;
    if (t->n == e->cap) {
        int cap = e->cap < 64 ? 64 : e->cap > INT32_MAX / 2 ? INT32_MAX : 2 * e->cap;
        if (t->n == INT32_MAX || grow(&t->id, cap) || grow(&t->start, cap) || grow(&t->end, cap))
            return kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", cap);
        e->cap = cap;
    }
    t->id[t->n] = id;
    t->start[t->n++] = start;
    return 0;
}

static int piece(void *arg, struct kvt_view v, struct kvt_err *err)
{
    struct kvt_encoder *e = arg;
    return e->tok->vocab == KVT_VOCAB_UNIGRAM ? kvt_unigram_piece(e, v, err) : kvt_bpe_piece(e, v, err);
}

/* Parts of one text, raw or normalised. */
struct parts {
    struct kvt_encoder *e;
    struct kvt_view v;
};

static int normed_part(void *arg, size_t start, size_t end, int32_t id, struct kvt_err *err)
{
    struct parts *p = arg;
    if (id >= 0)
        return kvt_encoder_put(p->e, id, start < p->v.n ? kvt_view_origin(&p->v, start) : p->v.end, err);
    return kvt_pretokenize(p->e->tok->pre, kvt_view_part(p->v, start, end), piece, p->e, err);
}

static int raw_part(void *arg, size_t start, size_t end, int32_t id, struct kvt_err *err)
{
    const struct parts *p = arg;
    const struct kvt_tokenizer *tok = p->e->tok;
    struct parts inner = {p->e, kvt_view_part(p->v, start, end)};
    struct kvt_normed normed = {0};
    int rc = 0;
    if (id >= 0)
        return kvt_encoder_put(p->e, id, p->v.base + (int32_t)start, err);
    if (tok->norm) {
        rc = kvt_normalise(tok->norm, inner.v, &normed, err);
        inner.v = kvt_normed_view(&normed);
    }
    if (!rc && inner.v.n)
        rc = kvt_added_split(&tok->added_normed, inner.v.p, inner.v.n, p->e->special, normed_part, &inner, err);
    kvt_normed_free(&normed);
    return rc;
}

/* Starts -> ranges without gap or overlap. What stands for no text (BOS, a space that was put in) has an empty range; text
 * that became nothing belongs to the token before it, at the beginning to the first. */
static void close_ranges(struct kvt_tokens *t, int first, int32_t bytes)
{
    if (first < t->n)
        t->start[first] = 0;
    for (int i = 0; i < t->n; i++)
        t->end[i] = i + 1 < t->n ? t->start[i + 1] : bytes;
}

int kvt_tokenize(const struct kvt_tokenizer *tok, const char *text, size_t bytes, unsigned flags,
                 struct kvt_tokens *out, struct kvt_err *err)
{
    *out = (struct kvt_tokens){0};
    size_t bad;
    if (bytes > INT32_MAX - 1)
        return kvt_fail(err, KVT_EINPUT, "the text has %zu bytes; at most %d can be tokenized", bytes, INT32_MAX - 1);
    if (!kvt_utf8_valid(text, bytes, &bad))
        return kvt_fail(err, KVT_EINPUT, "the text is not valid UTF-8 at byte %zu (0x%02x); convert it to UTF-8", bad,
                        (unsigned char)text[bad]);
    struct kvt_encoder e = {.tok = tok, .out = out, .special = flags & KVT_TOK_SPECIAL};
    struct parts all = {&e, {.p = text, .n = bytes, .end = (int32_t)bytes}};
    int rc = kvt_added_split(&tok->added, text, bytes, e.special, raw_part, &all, err);
    bool bos = (flags & KVT_TOK_BOS) && tok->add_bos && tok->bos >= 0;
    if (!rc && bos && !(out->n && out->id[0] == tok->bos && e.special)) { /* unless the text brings its own */
        rc = kvt_encoder_put(&e, tok->bos, 0, err);
        for (int i = out->n - 1; !rc && i > 0; i--) {
            out->id[i] = out->id[i - 1];
            out->start[i] = out->start[i - 1];
        }
        if (!rc) {
            out->id[0] = tok->bos;
            out->start[0] = 0;
        }
    } else {
        bos = false;
    }
    if (!rc)
        close_ranges(out, bos, (int32_t)bytes);
    free(e.room);
    if (rc)
        kvt_tokens_free(out);
    return rc;
}

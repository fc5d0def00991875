/* Text -> tokens. Special tokens are cut out, the rest is pre-tokenized, and in every piece the neighbours with the
 * smallest rank merge first. A heap and a linked list keep that at n log n, also for a word of a megabyte. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/tokenizer.h"
#include "engine/unicode.h"

struct symbol {
    int32_t id;                 /* -1: a byte without a token */
    int32_t prev, next;         /* -1 at the ends */
    int32_t start, len;         /* in the piece; len 0: merged away */
};

struct pair {                   /* a merge that was possible when it was pushed */
    int32_t rank, pos;          /* smaller first; of equal ranks the left one */
    int32_t left, right, id;
};

struct encoder {
    const struct kvt_tokenizer *tok;
    const char *text;           /* the part of the text that pieces refer to */
    int32_t base;               /* its offset in the whole */
    struct kvt_tokens *out;
    int cap;
    struct symbol *sym;
    struct pair *heap;
    size_t room;                /* bytes of a piece that sym and heap can take */
    int n_heap;
};

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

static int put(struct encoder *e, int32_t id, int32_t start, int32_t end, struct kvt_err *err)
{
    struct kvt_tokens *t = e->out;
    if (t->n == e->cap) {
        int cap = e->cap < 64 ? 64 : e->cap > INT32_MAX / 2 ? INT32_MAX : 2 * e->cap;
        if (grow(&t->id, cap) || grow(&t->start, cap) || grow(&t->end, cap))
            return kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", cap);
        e->cap = cap;
    }
    t->id[t->n] = id;
    t->start[t->n] = start;
    t->end[t->n++] = end;
    return 0;
}

static bool before(const struct pair *a, const struct pair *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->pos < b->pos;
}

static void push(struct encoder *e, int32_t left_pos)
{
    const struct symbol *a = &e->sym[left_pos];
    if (a->next < 0)
        return;
    const struct symbol *b = &e->sym[a->next];
    const struct kvt_merge *m = a->id < 0 || b->id < 0 ? NULL : kvt_tokenizer_merge(e->tok, a->id, b->id);
    if (!m)
        return;
    struct pair p = {m->rank, left_pos, a->id, b->id, m->id};
    int i = e->n_heap++;
    for (int up; i > 0 && before(&p, &e->heap[up = (i - 1) / 2]); i = up)
        e->heap[i] = e->heap[up];
    e->heap[i] = p;
}

static struct pair pop(struct encoder *e)
{
    struct pair top = e->heap[0], last = e->heap[--e->n_heap];
    int i = 0;
    for (int child; (child = 2 * i + 1) < e->n_heap; i = child) {
        if (child + 1 < e->n_heap && before(&e->heap[child + 1], &e->heap[child]))
            child++;
        if (!before(&e->heap[child], &last))
            break;
        e->heap[i] = e->heap[child];
    }
    e->heap[i] = last;
    return top;
}

/* Symbols of the piece as they stand -> tokens. Neighbouring bytes without a token become one unknown token. */
static int put_symbols(struct encoder *e, int32_t base, struct kvt_err *err)
{
    int rc = 0;
    for (int32_t i = 0; i >= 0 && !rc; i = e->sym[i].next) {
        const struct symbol *s = &e->sym[i];
        int32_t start = base + s->start, end = start + s->len;
        if (s->id >= 0) {
            rc = put(e, s->id, start, end, err);
            continue;
        }
        if (e->tok->unknown < 0)
            return kvt_fail(err, KVT_EINPUT, "byte 0x%02x at offset %d has no token in this model; remove it from the text",
                            (unsigned char)e->text[start - e->base], start);
        if (i > 0 && e->sym[s->prev].id < 0)
            e->out->end[e->out->n - 1] = end;
        else
            rc = put(e, e->tok->unknown, start, end, err);
    }
    return rc;
}

static int make_room(struct encoder *e, size_t n, struct kvt_err *err)
{
    if (n <= e->room)
        return 0;
    size_t want = n < 256 ? 256 : 2 * n, heap;
    struct symbol *sym = NULL;
    struct pair *pairs = NULL;
    /* n - 1 first pairs, and each of at most n - 1 merges pushes two */
    if (kvt_mul_size(want, 3 * sizeof *pairs, &heap)) {
        sym = malloc(want * sizeof *sym);
        pairs = malloc(heap);
    }
    free(e->sym);
    free(e->heap);
    e->sym = sym;
    e->heap = pairs;
    e->room = sym && pairs ? want : 0;
    return e->room ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory to tokenize a word of %zu bytes", n);
}

static int encode_piece(void *arg, size_t from, size_t to, struct kvt_err *err)
{
    struct encoder *e = arg;
    const struct kvt_tokenizer *tok = e->tok;
    const char *s = e->text + from;
    int32_t n = (int32_t)(to - from), base = e->base + (int32_t)from;
    if (n == 1 || kvt_pretokenizer_whole_first(tok->pre)) {
        int32_t id = kvt_tokenizer_word(tok, s, (size_t)n);
        if (id >= 0)
            return put(e, id, base, base + n, err);
    }
    int rc = make_room(e, (size_t)n, err);
    if (rc)
        return rc;
    for (int32_t i = 0; i < n; i++)
        e->sym[i] = (struct symbol){tok->byte_id[(unsigned char)s[i]], i - 1, i + 1 < n ? i + 1 : -1, i, 1};
    e->n_heap = 0;
    for (int32_t i = 0; i + 1 < n; i++)
        push(e, i);
    while (e->n_heap) {
        struct pair p = pop(e);
        struct symbol *a = &e->sym[p.pos];
        if (!a->len || a->id != p.left || a->next < 0 || e->sym[a->next].id != p.right)
            continue; /* one of the two has merged with another since */
        struct symbol *b = &e->sym[a->next];
        a->id = p.id;
        a->len += b->len;
        b->len = 0;
        a->next = b->next;
        if (a->next >= 0)
            e->sym[a->next].prev = p.pos;
        push(e, p.pos);
        if (a->prev >= 0)
            push(e, a->prev);
    }
    return put_symbols(e, base, err);
}

static int encode(struct encoder *e, const char *text, size_t bytes, unsigned flags, struct kvt_err *err)
{
    const struct kvt_tokenizer *tok = e->tok;
    size_t from = 0, i = 0;
    bool starts[256] = {false};
    for (int k = 0; k < tok->n_special; k++)
        starts[(unsigned char)tok->bytes[tok->start[tok->special[k]]]] = true;
    int rc = 0;
    while (i <= bytes && !rc) {
        int32_t id = -1;
        while (i < bytes && !(starts[(unsigned char)text[i]] &&
                              (id = kvt_tokenizer_special(tok, text + i, bytes - i, flags & KVT_TOK_SPECIAL)) >= 0))
            i++;
        if (i > from) {
            e->text = text + from;
            e->base = (int32_t)from;
            rc = kvt_pretokenize(tok->pre, e->text, i - from, encode_piece, e, err);
        }
        if (id < 0)
            break;
        size_t len = tok->start[id + 1] - tok->start[id];
        if (!rc)
            rc = put(e, id, (int32_t)i, (int32_t)(i + len), err);
        from = i += len;
    }
    return rc;
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
    struct encoder e = {.tok = tok, .out = out};
    int rc = 0;
    bool bos = (flags & KVT_TOK_BOS) && tok->add_bos && tok->bos >= 0;
    if (bos && (flags & KVT_TOK_SPECIAL) && bytes && kvt_tokenizer_special(tok, text, bytes, true) == tok->bos)
        bos = false; /* the text brings its own */
    if (bos)
        rc = put(&e, tok->bos, 0, 0, err);
    if (!rc)
        rc = encode(&e, text, bytes, flags, err);
    free(e.sym);
    free(e.heap);
    if (rc)
        kvt_tokens_free(out);
    return rc;
}

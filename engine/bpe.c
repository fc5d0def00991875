/* A piece of text -> tokens by merging: neighbours merge, the smallest rank first and of equal ranks the left one. A heap
 * and a linked list keep that at n log n, also for a word of a megabyte. Three vocabularies differ only in what the first
 * symbols are (bytes or characters) and in which neighbours may merge (listed pairs, or any that are a token together). */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/tokenizer.h"
#include "engine/unicode.h"

struct symbol {
    int32_t id;                 /* -1: no token (yet) */
    int32_t prev, next;         /* -1 at the ends */
    int32_t start, len;         /* in the piece; len 0: merged away */
};

struct pair {                   /* a merge that was possible when it was pushed */
    int32_t rank, pos;          /* smaller first; of equal ranks the left one */
    int32_t id, len;            /* what the two become; symbols only grow, so another length means that one has merged since */
};

struct merger {
    const struct kvt_tokenizer *tok;
    const char *s;
    struct symbol *sym;
    struct pair *heap;
    int32_t n_sym, n_heap;
};

static bool before(const struct pair *a, const struct pair *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->pos < b->pos;
}

static void push(struct merger *m, int32_t left_pos)
{
    const struct symbol *a = &m->sym[left_pos];
    if (a->next < 0)
        return;
    const struct symbol *b = &m->sym[a->next];
    struct pair p = {.pos = left_pos, .len = a->len + b->len};
    if (m->tok->vocab == KVT_VOCAB_SCORES) {
        p.id = kvt_tokenizer_word(m->tok, m->s + a->start, (size_t)p.len);
        if (p.id < 0)
            return;
        p.rank = m->tok->rank[p.id];
    } else {
        const struct kvt_merge *found = a->id < 0 || b->id < 0 ? NULL : kvt_tokenizer_merge(m->tok, a->id, b->id);
        if (!found)
            return;
        p.id = found->id;
        p.rank = found->rank;
    }
    int i = m->n_heap++;
    for (int up; i > 0 && before(&p, &m->heap[up = (i - 1) / 2]); i = up)
        m->heap[i] = m->heap[up];
    m->heap[i] = p;
}

static struct pair pop(struct merger *m)
{
    struct pair top = m->heap[0], last = m->heap[--m->n_heap];
    int i = 0;
    for (int child; (child = 2 * i + 1) < m->n_heap; i = child) {
        if (child + 1 < m->n_heap && before(&m->heap[child + 1], &m->heap[child]))
            child++;
        if (!before(&m->heap[child], &last))
            break;
        m->heap[i] = m->heap[child];
    }
    m->heap[i] = last;
    return top;
}

static void add_symbol(struct merger *m, int32_t id, int32_t start, int32_t len)
{
    int32_t i = m->n_sym++;
    m->sym[i] = (struct symbol){id, i - 1, -1, start, len};
    if (i)
        m->sym[i - 1].next = i;
}

/* One character of a vocabulary of characters: its token, or its bytes, or unknown. */
static void add_char(struct merger *m, int32_t start, int32_t len)
{
    const struct kvt_tokenizer *t = m->tok;
    int32_t id = kvt_tokenizer_word(t, m->s + start, (size_t)len);
    if (id < 0 && t->byte_fallback && t->vocab == KVT_VOCAB_CHARS) {
        bool all = true;
        for (int32_t i = 0; i < len; i++)
            all &= t->byte_id[(unsigned char)m->s[start + i]] >= 0;
        for (int32_t i = 0; all && i < len; i++)
            add_symbol(m, t->byte_id[(unsigned char)m->s[start + i]], start + i, 1);
        if (all)
            return;
    }
    if (id >= 0 || t->unknown >= 0 || !t->drop_unknown)
        add_symbol(m, id, start, len);
}

static void first_symbols(struct merger *m, int32_t n)
{
    const struct kvt_tokenizer *t = m->tok;
    if (t->vocab == KVT_VOCAB_BYTES) {
        for (int32_t i = 0; i < n; i++) {
            int32_t id = t->byte_id[(unsigned char)m->s[i]];
            if (id >= 0 || t->unknown >= 0 || !t->drop_unknown)
                add_symbol(m, id, i, 1);
        }
        return;
    }
    int len;
    for (int32_t i = 0; i < n; i += len) {
        kvt_utf8_get(m->s + i, &len);
        add_char(m, i, len);
    }
}

static void merge_all(struct merger *m)
{
    for (int32_t i = 0; i + 1 < m->n_sym; i++)
        push(m, i);
    while (m->n_heap) {
        struct pair p = pop(m);
        struct symbol *a = &m->sym[p.pos];
        if (!a->len || a->next < 0 || a->len + m->sym[a->next].len != p.len)
            continue; /* one of the two has merged with another since */
        struct symbol *b = &m->sym[a->next];
        a->id = p.id;
        a->len = p.len;
        b->len = 0;
        a->next = b->next;
        if (a->next >= 0)
            m->sym[a->next].prev = p.pos;
        push(m, p.pos);
        if (a->prev >= 0)
            push(m, a->prev);
    }
}

/* A symbol without a token: its bytes where the model has them (scores), else the unknown token. */
static int put_unknown(struct kvt_encoder *e, const struct merger *m, const struct symbol *s, bool after_unknown,
                       const struct kvt_view *v, bool *unknown, struct kvt_err *err)
{
    const struct kvt_tokenizer *t = e->tok;
    bool bytes = t->vocab == KVT_VOCAB_SCORES && t->byte_fallback;
    for (int32_t i = 0; bytes && i < s->len; i++)
        bytes = t->byte_id[(unsigned char)m->s[s->start + i]] >= 0;
    if (bytes) {
        int rc = 0;
        for (int32_t i = 0; i < s->len && !rc; i++)
            rc = kvt_encoder_put(e, t->byte_id[(unsigned char)m->s[s->start + i]], kvt_view_origin(v, (size_t)(s->start + i)), err);
        return rc;
    }
    if (t->unknown < 0)
        return kvt_fail(err, KVT_EINPUT, "byte 0x%02x at offset %d has no token in this model; remove it from the text",
                        (unsigned char)m->s[s->start], kvt_view_origin(v, (size_t)s->start));
    *unknown = true;
    if (after_unknown && t->fuse_unknown)
        return 0; /* neighbours are one token, which ends where the next begins */
    return kvt_encoder_put(e, t->unknown, kvt_view_origin(v, (size_t)s->start), err);
}

static int make_room(struct kvt_encoder *e, struct merger *m, size_t n, struct kvt_err *err)
{
    /* n symbols; n - 1 first pairs, and each of at most n - 1 merges pushes two */
    const size_t each = sizeof *m->sym + 3 * sizeof *m->heap;
    if (n > e->room_n) {
        size_t want = n < 256 ? 256 : 2 * n, bytes;
        free(e->room);
        e->room = kvt_mul_size(want, each, &bytes) ? malloc(bytes) : NULL;
        e->room_n = e->room ? want : 0;
        if (!e->room)
            return kvt_fail(err, KVT_ENOMEM, "no memory to tokenize a word of %zu bytes", n);
    }
    m->heap = e->room;
    m->sym = (struct symbol *)(m->heap + 3 * e->room_n);
    return 0;
}

static int merge_piece(struct kvt_encoder *e, struct kvt_view v, struct kvt_err *err)
{
    struct merger m = {.tok = e->tok, .s = v.p};
    if (e->tok->whole_first || v.n == 1) {
        int32_t id = kvt_tokenizer_word(e->tok, v.p, v.n);
        if (id >= 0)
            return kvt_encoder_put(e, id, kvt_view_origin(&v, 0), err);
    }
    int rc = make_room(e, &m, v.n, err);
    if (rc)
        return rc;
    first_symbols(&m, (int32_t)v.n);
    merge_all(&m);
    bool unknown = false;
    for (int32_t i = m.n_sym ? 0 : -1; i >= 0 && !rc; i = m.sym[i].next) {
        const struct symbol *s = &m.sym[i];
        bool after_unknown = unknown;
        unknown = false;
        if (s->id >= 0)
            rc = kvt_encoder_put(e, s->id, kvt_view_origin(&v, (size_t)s->start), err);
        else
            rc = put_unknown(e, &m, s, after_unknown, &v, &unknown, err);
    }
    return rc;
}

static bool block_at(const struct kvt_view *v, size_t i) { return v->n - i >= 3 && memcmp(v->p + i, "\xe2\x96\x81", 3) == 0; }

int kvt_bpe_piece(struct kvt_encoder *e, struct kvt_view v, struct kvt_err *err)
{
    if (!e->tok->cut_spaces)
        return merge_piece(e, v, err);
    /* No merge crosses the place between a character and U+2581, so a long text can be cut there: words stay short, and
     * their symbols in the cache. */
    size_t from = 0;
    int rc = 0;
    for (size_t i = 1; i < v.n && !rc; i++)
        if ((unsigned char)v.p[i] == 0xe2 && block_at(&v, i) && !(i >= 3 && block_at(&v, i - 3))) {
            rc = merge_piece(e, kvt_view_part(v, from, i), err);
            from = i;
        }
    return rc ? rc : merge_piece(e, kvt_view_part(v, from, v.n), err);
}

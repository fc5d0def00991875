/* The vocabulary: tables that are filled once by a reader of files, and the questions about a token. */
#include "engine/tokenizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/unicode.h"

static uint32_t hash_bytes(const char *s, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a, mixed at the end because only the low bits are used */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ h >> 29);
}

static uint32_t hash_pair(int32_t a, int32_t b)
{
    uint64_t h = ((uint64_t)(uint32_t)a << 32 | (uint32_t)b) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32);
}

/* Slots for `count` entries at a load of at most one half. */
static uint32_t slots_for(size_t count)
{
    uint32_t n = 64;
    while (n < 2 * count)
        n *= 2;
    return n;
}

static int no_memory(const char *where, struct kvt_err *err)
{
    return kvt_fail(err, KVT_ENOMEM, "%s: no memory for the tokenizer", where);
}

static struct kvt_bytes piece_of(const struct kvt_tokenizer *t, int32_t id)
{
    return (struct kvt_bytes){t->piece + t->piece_start[id], t->piece_start[id + 1] - t->piece_start[id]};
}

/* Slot of the token with this piece, or the empty one where it would stand. */
static uint32_t word_slot(const struct kvt_tokenizer *t, const char *s, size_t n)
{
    uint32_t i = hash_bytes(s, n) & t->word_mask;
    for (; t->word[i] >= 0; i = (i + 1) & t->word_mask) {
        struct kvt_bytes p = piece_of(t, t->word[i]);
        if (p.n == n && memcmp(p.p, s, n) == 0)
            break;
    }
    return i;
}

int32_t kvt_tokenizer_word(const struct kvt_tokenizer *t, const char *s, size_t n) { return t->word[word_slot(t, s, n)]; }

const struct kvt_merge *kvt_tokenizer_merge(const struct kvt_tokenizer *t, int32_t left, int32_t right)
{
    for (uint32_t i = hash_pair(left, right) & t->merge_mask;; i = (i + 1) & t->merge_mask) {
        const struct kvt_merge *m = &t->merge[i];
        if (m->left < 0)
            return NULL;
        if (m->left == left && m->right == right)
            return m;
    }
}

/* ---- how files spell tokens ---- */

/* byte of a character of GPT-2's alphabet (printable bytes are themselves, the others lie from U+0100 on); -1 outside it */
static void make_alphabet(int16_t byte_of[0x180])
{
    int next = 0x100;
    for (int c = 0; c < 0x180; c++)
        byte_of[c] = -1;
    for (int b = 0; b < 256; b++) {
        bool itself = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        byte_of[itself ? b : next++] = (int16_t)b;
    }
}

/* Spelled characters -> bytes; out has room for s.n. False if a character isn't in the alphabet. */
static bool spell_out(const int16_t byte_of[0x180], struct kvt_bytes s, char *out, size_t *n)
{
    size_t k = 0;
    for (size_t i = 0; i < s.n;) {
        int len = kvt_utf8_char(s.p + i, s.n - i);
        if (len <= 0)
            return false;
        uint32_t c = kvt_utf8_get(s.p + i, &len);
        if (c >= 0x180 || byte_of[c] < 0)
            return false;
        out[k++] = (char)byte_of[c];
        i += (size_t)len;
    }
    *n = k;
    return true;
}

static const char block[] = "\xe2\x96\x81"; /* U+2581, SentencePiece's space */

/* "<0x0A>" -> 10; -1 for anything else */
static int byte_token(struct kvt_bytes s)
{
    static const char digits[] = "0123456789ABCDEF";
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>')
        return -1;
    const char *hi = memchr(digits, s.p[3], 16), *lo = memchr(digits, s.p[4], 16);
    return hi && lo ? (int)((hi - digits) << 4 | (lo - digits)) : -1;
}

/* What a token of SentencePiece's spelling stands for; out has room for s.n. */
static size_t unblock(struct kvt_bytes s, char *out)
{
    size_t k = 0;
    for (size_t i = 0; i < s.n;) {
        if (s.n - i >= 3 && memcmp(s.p + i, block, 3) == 0) {
            out[k++] = ' ';
            i += 3;
        } else {
            out[k++] = s.p[i++];
        }
    }
    return k;
}

/* ---- filling ---- */

static int add_word(struct kvt_tokenizer *t, int32_t id, bool unique, const char *where, struct kvt_err *err)
{
    struct kvt_bytes p = piece_of(t, id);
    uint32_t i = word_slot(t, p.p, p.n);
    if (unique && t->word[i] >= 0)
        return kvt_fail(err, KVT_EFORMAT, "%s: tokens %d and %d are the same text", where, t->word[i], id);
    t->word[i] = id;
    return 0;
}

/* U+2581 behind something that isn't one */
static bool has_inner_block(struct kvt_bytes s)
{
    for (size_t i = 1; i + 3 <= s.n; i++)
        if (memcmp(s.p + i, block, 3) == 0 && !(i >= 3 && memcmp(s.p + i - 3, block, 3) == 0))
            return true;
    return false;
}

static int alloc(struct kvt_tokenizer *t, const struct kvt_vocab *v, const char *where, struct kvt_err *err)
{
    size_t total = 0;
    if (v->n < 1 || v->n > 1 << 24)
        return kvt_fail(err, KVT_EFORMAT, "%s: a vocabulary of %d tokens", where, v->n);
    for (int i = 0; i < v->n; i++)
        total += v->text[i].n;
    if (total > INT32_MAX)
        return kvt_fail(err, KVT_EFORMAT, "%s: the vocabulary has %zu bytes", where, total);
    uint32_t slots = slots_for((size_t)v->n);
    bool same = t->vocab == KVT_VOCAB_BYTES;
    t->n = v->n;
    t->bytes = kvt_calloc(total + 1, 1);
    t->start = kvt_calloc((size_t)t->n + 1, sizeof *t->start);
    t->piece = same ? t->bytes : kvt_calloc(total + 1, 1);
    t->piece_start = same ? t->start : kvt_calloc((size_t)t->n + 1, sizeof *t->start);
    t->type = kvt_calloc((size_t)t->n, 1);
    t->word = kvt_calloc(slots, sizeof *t->word);
    if (!t->bytes || !t->start || !t->piece || !t->piece_start || !t->type || !t->word)
        return no_memory(where, err);
    memset(t->word, 0xff, slots * sizeof *t->word);
    t->word_mask = slots - 1;
    memset(t->byte_id, 0xff, sizeof t->byte_id);
    return 0;
}

int kvt_tokenizer_fill(struct kvt_tokenizer *t, const struct kvt_vocab *v, const char *where, struct kvt_err *err)
{
    int rc = alloc(t, v, where, err);
    make_alphabet(t->byte_of);
    bool inner = false;
    for (int32_t id = 0; id < t->n && !rc; id++) {
        struct kvt_bytes s = v->text[id];
        bool word = v->word[id] && s.n;
        int byte = -1;
        char *out = t->bytes + t->start[id];
        size_t n = s.n;
        t->type[id] = v->type[id];
        if (t->vocab == KVT_VOCAB_BYTES) {
            /* special tokens, and what isn't spelled in the alphabet, stand for their own text */
            word = word && spell_out(t->byte_of, s, out, &n);
            if (!word)
                memcpy(out, s.p, n = s.n);
            if (word && n == 1)
                byte = (unsigned char)*out;
        } else {
            memcpy(t->piece + t->piece_start[id], s.p, s.n);
            t->piece_start[id + 1] = t->piece_start[id] + (uint32_t)s.n;
            byte = v->type[id] == KVT_TOKEN_BYTE ? byte_token(s) : -1;
            if (byte >= 0)
                *out = (char)byte;
            n = byte >= 0 ? 1 : unblock(s, out);
            inner |= word && has_inner_block(s);
        }
        t->start[id + 1] = t->start[id] + (uint32_t)n;
        if (n > t->longest)
            t->longest = n;
        if (byte >= 0)
            t->byte_id[byte] = id;
        if (word)
            rc = add_word(t, id, v->unique, where, err);
    }
    t->cut_spaces = !rc && !inner && t->vocab != KVT_VOCAB_BYTES && kvt_tokenizer_word(t, block, 3) >= 0;
    return rc;
}

int kvt_tokenizer_merges(struct kvt_tokenizer *t, size_t count, const char *where, struct kvt_err *err)
{
    if (count > 1 << 24)
        return kvt_fail(err, KVT_EFORMAT, "%s: %zu merges", where, count);
    uint32_t slots = slots_for(count);
    t->merge = kvt_calloc(slots, sizeof *t->merge);
    if (!t->merge)
        return no_memory(where, err);
    for (uint32_t i = 0; i < slots; i++)
        t->merge[i].left = -1;
    t->merge_mask = slots - 1;
    return 0;
}

int kvt_tokenizer_put_merge(struct kvt_tokenizer *t, int32_t rank, struct kvt_bytes left, struct kvt_bytes right, const char *where,
                            struct kvt_err *err)
{
    char small[256], *buf = small;
    size_t na = left.n, nb = right.n;
    struct kvt_merge m = {-1, -1, rank, -1};
    if (na + nb > sizeof small && !(buf = malloc(na + nb)))
        return no_memory(where, err);
    bool spelled = na && nb;
    if (spelled && t->vocab == KVT_VOCAB_BYTES) {
        spelled = spell_out(t->byte_of, left, buf, &na) && spell_out(t->byte_of, right, buf + na, &nb);
    } else if (spelled) {
        memcpy(buf, left.p, na);
        memcpy(buf + na, right.p, nb);
    }
    if (spelled) {
        m.left = kvt_tokenizer_word(t, buf, na);
        m.right = kvt_tokenizer_word(t, buf + na, nb);
        m.id = kvt_tokenizer_word(t, buf, na + nb);
    }
    if (buf != small)
        free(buf);
    if (m.left < 0 || m.right < 0 || m.id < 0)
        return kvt_fail(err, KVT_EFORMAT, "%s: merge %d does not join two tokens of the vocabulary into a third", where, rank);
    uint32_t i = hash_pair(m.left, m.right) & t->merge_mask;
    for (; t->merge[i].left >= 0; i = (i + 1) & t->merge_mask)
        if (t->merge[i].left == m.left && t->merge[i].right == m.right)
            return kvt_fail(err, KVT_EFORMAT, "%s: merges %d and %d are the same", where, t->merge[i].rank, rank);
    t->merge[i] = m;
    return 0;
}

struct scored {
    double score;
    int32_t id;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score) : (x->id > y->id) - (x->id < y->id);
}

int kvt_tokenizer_rank(struct kvt_tokenizer *t, const char *where, struct kvt_err *err)
{
    struct scored *v = kvt_calloc((size_t)t->n, sizeof *v);
    t->rank = kvt_calloc((size_t)t->n, sizeof *t->rank);
    int rc = v && t->rank ? 0 : no_memory(where, err);
    t->worst = INFINITY;
    for (int i = 0; i < t->n && !rc; i++) {
        v[i] = (struct scored){t->score[i], i};
        if (!isfinite(t->score[i]))
            rc = kvt_fail(err, KVT_EFORMAT, "%s: the score of token %d is not a number", where, i);
        t->worst = t->score[i] < t->worst ? t->score[i] : t->worst;
    }
    if (!rc) {
        qsort(v, (size_t)t->n, sizeof *v, by_score);
        for (int i = 1; i < t->n; i++)
            t->rank[v[i].id] = v[i].score == v[i - 1].score ? t->rank[v[i - 1].id] : i;
    }
    free(v);
    return rc;
}

void kvt_tokenizer_close(struct kvt_tokenizer **tok)
{
    struct kvt_tokenizer *t = *tok;
    if (!t)
        return;
    if (t->piece != t->bytes)
        free(t->piece);
    if (t->piece_start != t->start)
        free(t->piece_start);
    free(t->bytes);
    free(t->start);
    free(t->type);
    free(t->word);
    free(t->merge);
    free(t->score);
    free(t->rank);
    free(t->trie);
    free(t->own_template);
    kvt_added_free(&t->added);
    kvt_added_free(&t->added_normed);
    kvt_normaliser_close(&t->norm);
    kvt_pretokenizer_close(&t->pre);
    free(t);
    *tok = NULL;
}

/* ---- questions ---- */

int32_t kvt_tokenizer_named(const struct kvt_tokenizer *t, const char *text)
{
    size_t n = strlen(text);
    const struct kvt_added_token *a = kvt_added_find(&t->added, text, n, true);
    if (a && a->n == n)
        return a->id;
    for (int i = 0; i < t->added_normed.n; i++) { /* few; sorted by their normalised text, not by this */
        int32_t id = t->added_normed.token[i].id;
        if (t->start[id + 1] - t->start[id] == n && memcmp(t->bytes + t->start[id], text, n) == 0)
            return id;
    }
    return -1;
}

const char *kvt_token_bytes(const struct kvt_tokenizer *tok, int32_t id, size_t *bytes)
{
    if (id < 0 || id >= tok->n) {
        *bytes = 0;
        return "";
    }
    *bytes = tok->start[id + 1] - tok->start[id];
    return tok->bytes + tok->start[id];
}

bool kvt_token_is_special(const struct kvt_tokenizer *tok, int32_t id)
{
    return id >= 0 && id < tok->n && (tok->type[id] == KVT_TOKEN_CONTROL || tok->type[id] == KVT_TOKEN_UNKNOWN);
}

bool kvt_token_is_end(const struct kvt_tokenizer *tok, int32_t id)
{
    /* Files name one end; chat models say others too. */
    static const char *const ends[] = {"<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>", "</s>",
                                       "<end_of_turn>", "<|end|>", "<eos>", "<|END_OF_TURN_TOKEN|>"};
    if (id < 0 || id >= tok->n)
        return false;
    if (id == tok->eos || id == tok->eot)
        return true;
    for (int i = 0; i < tok->n_ends; i++)
        if (id == tok->end[i])
            return true;
    if (tok->type[id] != KVT_TOKEN_CONTROL)
        return false;
    struct kvt_bytes text = {.p = tok->bytes + tok->start[id], .n = tok->start[id + 1] - tok->start[id]};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (kvt_bytes_equal(text, ends[i]))
            return true;
    return false;
}

int kvt_tokenizer_size(const struct kvt_tokenizer *tok) { return tok->n; }
size_t kvt_tokenizer_longest(const struct kvt_tokenizer *tok) { return tok->longest; }
const char *kvt_tokenizer_kind(const struct kvt_tokenizer *tok) { return tok->kind; }

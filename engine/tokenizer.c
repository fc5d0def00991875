/* Metadata -> vocabulary. The file spells bytes as characters (GPT-2's alphabet: printable bytes as themselves, the
 * others from U+0100 on); here every token is turned back into its bytes once, and two hashes make merging fast. */
#include "engine/tokenizer.h"

#include <stdio.h>
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

int32_t kvt_tokenizer_word(const struct kvt_tokenizer *t, const char *s, size_t n)
{
    for (uint32_t i = hash_bytes(s, n) & t->word_mask;; i = (i + 1) & t->word_mask) {
        int32_t id = t->word[i];
        if (id < 0)
            return -1;
        size_t len = t->start[id + 1] - t->start[id];
        if (len == n && memcmp(t->bytes + t->start[id], s, n) == 0)
            return id;
    }
}

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

/* byte of a character of the alphabet, (0x180); -1 for characters outside it */
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

static int no_memory(const struct kvt_gguf *g, struct kvt_err *err)
{
    return kvt_fail(err, KVT_ENOMEM, "%s: no memory for the tokenizer", g->path);
}

static int read_tokens(struct kvt_tokenizer *t, const struct kvt_gguf *g, const int16_t byte_of[0x180], struct kvt_err *err)
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
    t->n = (int)tokens->count;
    size_t total = 0;
    const uint8_t *p = tokens->data;
    for (int i = 0; i < t->n; i++)
        total += kvt_gguf_next_str(&p).n;
    if (total > INT32_MAX)
        return kvt_fail(err, KVT_EFORMAT, "%s: the vocabulary has %zu bytes", g->path, total);
    uint32_t slots = slots_for((size_t)t->n);
    t->bytes = kvt_calloc(total + 1, 1);
    t->start = kvt_calloc((size_t)t->n + 1, sizeof *t->start);
    t->type = kvt_calloc((size_t)t->n, 1);
    t->special = kvt_calloc((size_t)t->n, sizeof *t->special);
    t->word = kvt_calloc(slots, sizeof *t->word);
    if (!t->bytes || !t->start || !t->type || !t->special || !t->word)
        return no_memory(g, err);
    memset(t->word, 0xff, slots * sizeof *t->word);
    t->word_mask = slots - 1;
    memset(t->byte_id, 0xff, sizeof t->byte_id);
    p = tokens->data;
    uint32_t at = 0;
    for (int id = 0; id < t->n; id++) {
        struct kvt_bytes s = kvt_gguf_next_str(&p);
        int32_t type = KVT_TOKEN_NORMAL;
        if (types)
            memcpy(&type, types->data + 4 * (size_t)id, 4);
        if (type < KVT_TOKEN_NORMAL || type > KVT_TOKEN_BYTE)
            type = KVT_TOKEN_NORMAL;
        size_t n;
        bool ordinary = type == KVT_TOKEN_NORMAL && s.n && spell_out(byte_of, s, t->bytes + at, &n);
        if (!ordinary) { /* special tokens, and what isn't spelled in the alphabet, stand for their own text */
            memcpy(t->bytes + at, s.p, s.n);
            n = s.n;
        }
        t->type[id] = (uint8_t)type;
        t->start[id] = at;
        t->start[id + 1] = at + (uint32_t)n;
        if (n > t->longest)
            t->longest = n;
        if ((type == KVT_TOKEN_CONTROL || type == KVT_TOKEN_USER) && n)
            t->special[t->n_special++] = id;
        if (ordinary) {
            if (n == 1)
                t->byte_id[(unsigned char)t->bytes[at]] = id;
            uint32_t i = hash_bytes(t->bytes + at, n) & t->word_mask;
            while (t->word[i] >= 0 && !(t->start[t->word[i] + 1] - t->start[t->word[i]] == n &&
                                        memcmp(t->bytes + t->start[t->word[i]], t->bytes + at, n) == 0))
                i = (i + 1) & t->word_mask;
            t->word[i] = id; /* of two equal tokens the later one counts, as in the field's libraries */
        }
        at += (uint32_t)n;
    }
    return 0;
}

static int read_merges(struct kvt_tokenizer *t, const struct kvt_gguf *g, const int16_t byte_of[0x180], struct kvt_err *err)
{
    const struct kvt_gguf_kv *merges;
    int rc = kvt_gguf_array(g, "tokenizer.ggml.merges", KVT_GGUF_STR, true, &merges, err);
    if (rc)
        return rc;
    if (merges->count > 1 << 24)
        return kvt_fail(err, KVT_EFORMAT, "%s: %llu merges", g->path, (unsigned long long)merges->count);
    uint32_t slots = slots_for((size_t)merges->count);
    size_t room = 2 * t->longest + 1; /* a byte has at most two in the alphabet; and the space between the two */
    char *buf = kvt_calloc(room, 1);
    t->merge = kvt_calloc(slots, sizeof *t->merge);
    if (!buf || !t->merge) {
        free(buf);
        return no_memory(g, err);
    }
    for (uint32_t i = 0; i < slots; i++)
        t->merge[i].left = -1;
    t->merge_mask = slots - 1;
    const uint8_t *p = merges->data;
    for (int32_t rank = 0; rank < (int32_t)merges->count && !rc; rank++) {
        struct kvt_bytes s = kvt_gguf_next_str(&p);
        const char *gap = s.n > 1 ? memchr(s.p + 1, ' ', s.n - 1) : NULL;
        size_t na = 0, nb = 0;
        struct kvt_merge m = {-1, -1, rank, -1};
        if (gap && s.n <= room) {
            struct kvt_bytes a = {s.p, (size_t)(gap - s.p)}, b = {gap + 1, s.n - (size_t)(gap - s.p) - 1};
            if (spell_out(byte_of, a, buf, &na) && spell_out(byte_of, b, buf + na, &nb)) {
                m.left = kvt_tokenizer_word(t, buf, na);
                m.right = kvt_tokenizer_word(t, buf + na, nb);
                m.id = kvt_tokenizer_word(t, buf, na + nb);
            }
        }
        if (m.left < 0 || m.right < 0 || m.id < 0) {
            rc = kvt_fail(err, KVT_EFORMAT, "%s: merge %d does not join two tokens of the vocabulary into a third", g->path, rank);
            break;
        }
        uint32_t i = hash_pair(m.left, m.right) & t->merge_mask;
        while (t->merge[i].left >= 0 && !(t->merge[i].left == m.left && t->merge[i].right == m.right))
            i = (i + 1) & t->merge_mask;
        if (t->merge[i].left < 0)
            t->merge[i] = m;
    }
    free(buf);
    return rc;
}

/* ---- special tokens ---- */

/* Orders ids by the bytes of their tokens, a prefix first. A heap sort of our own, because qsort's order can't see the
 * vocabulary. */
static int order_tokens(const struct kvt_tokenizer *t, int32_t a, int32_t b)
{
    size_t na = t->start[a + 1] - t->start[a], nb = t->start[b + 1] - t->start[b];
    int c = memcmp(t->bytes + t->start[a], t->bytes + t->start[b], na < nb ? na : nb);
    return c ? c : na != nb ? (na > nb) - (na < nb) : (a > b) - (a < b);
}

static void sift(const struct kvt_tokenizer *t, int32_t *v, int n, int i)
{
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && order_tokens(t, v[child], v[child + 1]) < 0)
            child++;
        if (order_tokens(t, v[i], v[child]) >= 0)
            return;
        int32_t x = v[i];
        v[i] = v[child];
        v[child] = x;
    }
}

static void sort_special(struct kvt_tokenizer *t)
{
    int32_t *v = t->special;
    for (int i = t->n_special / 2 - 1; i >= 0; i--)
        sift(t, v, t->n_special, i);
    for (int n = t->n_special - 1; n > 0; n--) {
        int32_t x = v[0];
        v[0] = v[n];
        v[n] = x;
        sift(t, v, n, 0);
    }
}

int32_t kvt_tokenizer_special(const struct kvt_tokenizer *t, const char *s, size_t n, bool control)
{
    int lo = 0, hi = t->n_special; /* tokens that agree with the first `depth` bytes of s */
    int32_t best = -1;
    for (size_t depth = 0; lo < hi; depth++) {
        int32_t id = t->special[lo];
        if (t->start[id + 1] - t->start[id] == depth) { /* the shortest comes first; of equal ones the first counts */
            for (; lo < hi && t->start[t->special[lo] + 1] - t->start[t->special[lo]] == depth; lo++)
                if (control || t->type[t->special[lo]] == KVT_TOKEN_USER)
                    best = t->special[lo];
        }
        if (depth == n)
            break;
        unsigned char want = (unsigned char)s[depth];
        int a = lo, b = hi;
        while (a < b) {
            int mid = a + (b - a) / 2;
            if ((unsigned char)t->bytes[t->start[t->special[mid]] + depth] < want)
                a = mid + 1;
            else
                b = mid;
        }
        lo = a;
        b = hi;
        while (a < b) {
            int mid = a + (b - a) / 2;
            if ((unsigned char)t->bytes[t->start[t->special[mid]] + depth] <= want)
                a = mid + 1;
            else
                b = mid;
        }
        hi = a;
    }
    return best;
}

int32_t kvt_tokenizer_named(const struct kvt_tokenizer *t, const char *text)
{
    size_t n = strlen(text);
    int32_t id = kvt_tokenizer_special(t, text, n, true);
    return id >= 0 && t->start[id + 1] - t->start[id] == n ? id : -1;
}

/* ---- open, close, ask ---- */

static int read_id(const struct kvt_tokenizer *t, const struct kvt_gguf *g, const char *key, int32_t *out, struct kvt_err *err)
{
    int64_t v = -1;
    int rc = kvt_gguf_int(g, key, false, 0, t->n - 1, &v, err);
    *out = (int32_t)v;
    return rc;
}

static int build(struct kvt_tokenizer *t, const struct kvt_gguf *g, struct kvt_err *err)
{
    struct kvt_bytes model, pre = {0};
    int rc = kvt_gguf_str(g, "tokenizer.ggml.model", true, &model, err);
    if (rc)
        return rc;
    if (!kvt_bytes_equal(model, "gpt2"))
        return kvt_fail(err, KVT_EUNSUP, "%s: tokenizer model '%.*s' is not supported (gpt2, byte-level BPE, is)", g->path,
                        model.n < 32 ? (int)model.n : 32, model.p);
    if ((rc = kvt_gguf_str(g, "tokenizer.ggml.pre", false, &pre, err)))
        return rc;
    if (!pre.p)
        return kvt_fail(err, KVT_EUNSUP, "%s: the file names no pre-tokenizer (tokenizer.ggml.pre); convert it again with a newer "
                        "converter", g->path);
    if ((rc = kvt_pretokenizer_open(&t->pre, pre.p, pre.n, g->path, err)))
        return rc;
    snprintf(t->kind, sizeof t->kind, "gpt2/%s", kvt_pretokenizer_name(t->pre));
    int16_t byte_of[0x180];
    make_alphabet(byte_of);
    if ((rc = read_tokens(t, g, byte_of, err)) || (rc = read_merges(t, g, byte_of, err)))
        return rc;
    sort_special(t);
    t->add_bos = kvt_pretokenizer_bos(t->pre);
    if ((rc = kvt_gguf_bool(g, "tokenizer.ggml.add_bos_token", &t->add_bos, err)) ||
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
        return no_memory(g, err);
    int rc = build(t, g, err);
    if (rc)
        kvt_tokenizer_close(&t);
    *out = t;
    return rc;
}

void kvt_tokenizer_close(struct kvt_tokenizer **t)
{
    if (!*t)
        return;
    kvt_pretokenizer_close(&(*t)->pre);
    free((*t)->bytes);
    free((*t)->start);
    free((*t)->type);
    free((*t)->word);
    free((*t)->merge);
    free((*t)->special);
    free(*t);
    *t = NULL;
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
    static const char *const ends[] = {"<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>", "</s>"};
    if (id < 0 || id >= tok->n)
        return false;
    if (id == tok->eos || id == tok->eot)
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

/* A piece of text -> the tokens with the best sum of scores (Kudo, 2018), by one pass over the text: at every character the
 * tokens that begin there are walked in a trie, so the cost is the text's length times the longest token's. Scores are
 * summed from the left in double, as the `tokenizers` library does; of equal sums the token that begins first counts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/tokenizer.h"
#include "engine/unicode.h"

#define UNKNOWN_PENALTY 10.0 /* an unknown character costs this more than the worst token */

/* ---- the trie ---- */

static struct kvt_bytes piece_of(const struct kvt_tokenizer *t, int32_t id)
{
    return (struct kvt_bytes){t->piece + t->piece_start[id], t->piece_start[id + 1] - t->piece_start[id]};
}

/* A heap sort of our own, because qsort's order can't see the pieces. */
static void sift(const struct kvt_tokenizer *t, int32_t *v, int n, int i)
{
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && kvt_bytes_order(piece_of(t, v[child]), piece_of(t, v[child + 1])) < 0)
            child++;
        if (kvt_bytes_order(piece_of(t, v[i]), piece_of(t, v[child])) >= 0)
            return;
        int32_t x = v[i];
        v[i] = v[child];
        v[child] = x;
    }
}

static int sorted_words(const struct kvt_tokenizer *t, int32_t *v)
{
    int n = 0;
    for (uint32_t i = 0; i <= t->word_mask; i++)
        if (t->word[i] >= 0)
            v[n++] = t->word[i];
    for (int i = n / 2 - 1; i >= 0; i--)
        sift(t, v, n, i);
    for (int k = n - 1; k > 0; k--) {
        int32_t x = v[0];
        v[0] = v[k];
        v[k] = x;
        sift(t, v, k, 0);
    }
    return n;
}

int kvt_unigram_build(struct kvt_tokenizer *t, const char *where, struct kvt_err *err)
{
    struct span {
        int lo, hi; /* the words under a node */
        uint32_t depth;
    };
    size_t most = t->piece_start[t->n] + 1u, n_nodes = 1; /* a node for every byte at most */
    int32_t *v = kvt_calloc((size_t)t->n, sizeof *v);
    struct span *under = kvt_calloc(most, sizeof *under);
    t->trie = kvt_calloc(most, sizeof *t->trie);
    if (!v || !under || !t->trie) {
        free(v);
        free(under);
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory for the tokenizer", where);
    }
    under[0] = (struct span){0, sorted_words(t, v), 0};
    for (size_t i = 0; i < n_nodes; i++) { /* breadth first, so that children lie together */
        struct kvt_trie_node *node = &t->trie[i];
        struct span s = under[i];
        node->id = -1;
        if (s.lo < s.hi && piece_of(t, v[s.lo]).n == s.depth)
            node->id = v[s.lo++];
        node->child = (uint32_t)n_nodes;
        for (int lo = s.lo; lo < s.hi;) {
            char c = piece_of(t, v[lo]).p[s.depth];
            int hi = lo;
            while (hi < s.hi && piece_of(t, v[hi]).p[s.depth] == c)
                hi++;
            under[n_nodes] = (struct span){lo, hi, s.depth + 1};
            t->trie[n_nodes++].byte = (uint8_t)c;
            node->n++;
            lo = hi;
        }
    }
    struct kvt_trie_node *fitted = realloc(t->trie, n_nodes * sizeof *fitted);
    t->trie = fitted ? fitted : t->trie;
    free(v);
    free(under);
    return 0;
}

static const struct kvt_trie_node *child(const struct kvt_tokenizer *t, const struct kvt_trie_node *node, unsigned char c)
{
    const struct kvt_trie_node *lo = t->trie + node->child, *end = lo + node->n, *hi = end;
    while (lo < hi) {
        const struct kvt_trie_node *mid = lo + (hi - lo) / 2;
        if (mid->byte < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < end && lo->byte == c ? lo : NULL;
}

/* ---- the best path ---- */

struct best {                   /* of the paths that end at a byte */
    double score;
    int32_t id, start;          /* of its last token; start < 0: none ends here */
};

static void offer(struct best *b, double score, int32_t id, int32_t start)
{
    if (b->start < 0 || score > b->score)
        *b = (struct best){score, id, start};
}

static void search(const struct kvt_tokenizer *t, const char *s, int32_t n, struct best *best)
{
    for (int32_t i = 0; i <= n; i++)
        best[i].start = -1;
    best[0].score = 0;
    int len;
    for (int32_t i = 0; i < n; i += len) {
        const struct kvt_trie_node *node = t->trie;
        bool whole = false; /* the character is a token itself */
        kvt_utf8_get(s + i, &len);
        for (int32_t j = i; j < n && (node = child(t, node, (unsigned char)s[j])) != NULL; j++)
            if (node->id >= 0) {
                offer(&best[j + 1], best[i].score + t->score[node->id], node->id, i);
                whole |= j + 1 - i == len;
            }
        if (!whole)
            offer(&best[i + len], best[i].score + (t->worst - UNKNOWN_PENALTY), -1, i);
    }
}

static int put_unknown(struct kvt_encoder *e, const struct kvt_view *v, int32_t start, int32_t end, struct kvt_err *err)
{
    const struct kvt_tokenizer *t = e->tok;
    int32_t id = kvt_tokenizer_word(t, v->p + start, (size_t)(end - start));
    bool bytes = t->byte_fallback && id < 0;
    for (int32_t i = start; bytes && i < end; i++)
        bytes = t->byte_id[(unsigned char)v->p[i]] >= 0;
    int rc = 0;
    for (int32_t i = start; bytes && i < end && !rc; i++)
        rc = kvt_encoder_put(e, t->byte_id[(unsigned char)v->p[i]], kvt_view_origin(v, (size_t)i), err);
    if (bytes)
        return rc;
    id = id >= 0 ? id : t->unknown;
    if (id < 0)
        return kvt_fail(err, KVT_EINPUT, "byte 0x%02x at offset %d has no token in this model; remove it from the text",
                        (unsigned char)v->p[start], kvt_view_origin(v, (size_t)start));
    return kvt_encoder_put(e, id, kvt_view_origin(v, (size_t)start), err);
}

int kvt_unigram_piece(struct kvt_encoder *e, struct kvt_view v, struct kvt_err *err)
{
    const struct kvt_tokenizer *t = e->tok;
    int32_t n = (int32_t)v.n;
    if (v.n + 1 > e->room_n) {
        size_t want = v.n < 255 ? 256 : 2 * v.n;
        free(e->room);
        e->room = kvt_calloc(want, sizeof(struct best));
        e->room_n = e->room ? want : 0;
        if (!e->room)
            return kvt_fail(err, KVT_ENOMEM, "no memory to tokenize a word of %zu bytes", v.n);
    }
    struct best *best = e->room;
    search(t, v.p, n, best);
    /* backwards along the path, which is then turned around in place: best[k] keeps the k-th token from the end */
    int32_t k = 0;
    for (int32_t end = n; end > 0;) {
        struct best b = best[end];
        best[n - k].id = b.id; /* at or behind `end`: already read */
        best[n - k].start = b.start;
        end = b.start;
        k++;
    }
    int rc = 0;
    for (int32_t i = n - k + 1; i <= n && !rc; i++) {
        int32_t end = i < n ? best[i + 1].start : n;
        if (best[i].id >= 0 && best[i].id != t->unknown) {
            rc = kvt_encoder_put(e, best[i].id, kvt_view_origin(&v, (size_t)best[i].start), err);
            continue;
        }
        int32_t start = best[i].start; /* neighbours without a token are one */
        while (i < n && (best[i + 1].id < 0 || best[i + 1].id == t->unknown)) {
            i++;
            end = i < n ? best[i + 1].start : n;
        }
        rc = put_unknown(e, &v, start, end, err);
    }
    return rc;
}

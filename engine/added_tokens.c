/* Leftmost-longest search of added tokens, with the flags as the `tokenizers` library applies them. A match that
 * single_word rejects is passed over whole. */
#include "engine/added_tokens.h"

#include <stdlib.h>
#include <string.h>

#include "engine/unicode.h"

enum { LONGEST = 1024 };        /* bytes of a token: a search at one place never looks further */

static const char *text_of(const struct kvt_added *a, const struct kvt_added_token *t) { return a->text + t->at; }

int kvt_added_put(struct kvt_added *a, const char *s, size_t n, int32_t id, unsigned flags, const char *where, struct kvt_err *err)
{
    if (!n)
        return 0; /* nothing can match it */
    if (n > LONGEST)
        return kvt_fail(err, KVT_EUNSUP, "%s: added token %d has %zu bytes; at most %d are supported", where, id, n, LONGEST);
    if (a->n == a->cap) {
        int cap = a->cap ? 2 * a->cap : 64;
        struct kvt_added_token *p = realloc(a->token, (size_t)cap * sizeof *p);
        if (!p)
            return kvt_fail(err, KVT_ENOMEM, "%s: no memory for %d added tokens", where, cap);
        a->token = p;
        a->cap = cap;
    }
    if (a->text_n + n > a->text_cap) {
        size_t cap = 2 * (a->text_n + n) + 1024;
        char *p = cap < UINT32_MAX ? realloc(a->text, cap) : NULL;
        if (!p)
            return kvt_fail(err, KVT_ENOMEM, "%s: no memory for the added tokens' text", where);
        a->text = p;
        a->text_cap = cap;
    }
    memcpy(a->text + a->text_n, s, n);
    a->token[a->n++] = (struct kvt_added_token){(uint32_t)a->text_n, (uint32_t)n, id, flags};
    a->text_n += n;
    a->starts[(unsigned char)s[0]] = true;
    return 0;
}

/* By text, a beginning first, then by id. A heap sort of our own, because qsort's order can't see the text. */
static int order(const struct kvt_added *a, const struct kvt_added_token *x, const struct kvt_added_token *y)
{
    int c = memcmp(text_of(a, x), text_of(a, y), x->n < y->n ? x->n : y->n);
    return c ? c : x->n != y->n ? (x->n > y->n) - (x->n < y->n) : (x->id > y->id) - (x->id < y->id);
}

static void sift(struct kvt_added *a, int n, int i)
{
    struct kvt_added_token *v = a->token;
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && order(a, &v[child], &v[child + 1]) < 0)
            child++;
        if (order(a, &v[i], &v[child]) >= 0)
            return;
        struct kvt_added_token x = v[i];
        v[i] = v[child];
        v[child] = x;
    }
}

void kvt_added_seal(struct kvt_added *a)
{
    for (int i = a->n / 2 - 1; i >= 0; i--)
        sift(a, a->n, i);
    for (int n = a->n - 1; n > 0; n--) {
        struct kvt_added_token x = a->token[0];
        a->token[0] = a->token[n];
        a->token[n] = x;
        sift(a, n, 0);
    }
}

void kvt_added_free(struct kvt_added *a)
{
    free(a->token);
    free(a->text);
    *a = (struct kvt_added){0};
}

/* The first token from lo on whose byte at depth isn't below (or is above) `byte`; all agree before it. */
static int bound(const struct kvt_added *a, int lo, int hi, size_t depth, unsigned char byte, bool above)
{
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        unsigned char c = (unsigned char)text_of(a, &a->token[mid])[depth];
        if (c < byte || (above && c == byte))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const struct kvt_added_token *kvt_added_find(const struct kvt_added *a, const char *s, size_t n, bool special)
{
    const struct kvt_added_token *best = NULL;
    int lo = 0, hi = a->n; /* those that agree with the first `depth` bytes of s */
    if (!n || !a->starts[(unsigned char)s[0]])
        return NULL;
    for (size_t depth = 0; lo < hi; depth++) {
        for (bool first = true; lo < hi && a->token[lo].n == depth; lo++)
            if (first && (special || !(a->token[lo].flags & KVT_ADDED_SPECIAL))) {
                best = &a->token[lo];
                first = false;
            }
        if (depth == n)
            break;
        lo = bound(a, lo, hi, depth, (unsigned char)s[depth], false);
        hi = bound(a, lo, hi, depth, (unsigned char)s[depth], true);
    }
    return best;
}

/* Where the character before `end` starts. */
static size_t before(const char *text, size_t end)
{
    do
        end--;
    while (end && ((unsigned char)text[end] & 0xc0) == 0x80);
    return end;
}

static bool touches_word(const char *text, size_t n, size_t start, size_t end)
{
    int len;
    return (start && kvt_unicode_word(kvt_utf8_get(text + before(text, start), &len))) ||
           (end < n && kvt_unicode_word(kvt_utf8_get(text + end, &len)));
}

int kvt_added_split(const struct kvt_added *a, const char *text, size_t n, bool special, kvt_part_fn part, void *arg,
                    struct kvt_err *err)
{
    size_t done = 0; /* reported so far */
    int len, rc = 0;
    for (size_t i = 0; i < n && a->n && !rc;) {
        const struct kvt_added_token *t = a->starts[(unsigned char)text[i]] ? kvt_added_find(a, text + i, n - i, special) : NULL;
        if (!t) {
            i++;
            continue;
        }
        size_t start = i, end = i + t->n;
        i = end;
        if ((t->flags & KVT_ADDED_SINGLE_WORD) && touches_word(text, n, start, end))
            continue;
        while ((t->flags & KVT_ADDED_LSTRIP) && start > done && kvt_unicode_space(kvt_utf8_get(text + before(text, start), &len)))
            start = before(text, start);
        while ((t->flags & KVT_ADDED_RSTRIP) && end < n && kvt_unicode_space(kvt_utf8_get(text + end, &len)))
            end += (size_t)len;
        if (start < done) /* white space took the beginning of this one away */
            start = done;
        if (start > done)
            rc = part(arg, done, start, -1, err);
        if (!rc)
            rc = part(arg, start, end > start ? end : start, t->id, err);
        done = end > done ? end : done;
    }
    return rc || done == n ? rc : part(arg, done, n, -1, err);
}

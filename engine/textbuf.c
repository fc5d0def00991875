/* Growing texts, and texts from files. */
#include "engine/textbuf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/unicode.h"

void kvt_textbuf_add(struct kvt_textbuf *b, const char *s, size_t n)
{
    size_t need;
    if (b->failed)
        return;
    if (!kvt_add_size(b->n, n, &need) || !kvt_add_size(need, 1, &need)) {
        b->failed = true;
        return;
    }
    if (need > b->cap) {
        size_t cap = need < 512 ? 1024 : need <= SIZE_MAX / 2 ? 2 * need : need;
        char *p = realloc(b->p, cap);
        if (!p) {
            b->failed = true;
            return;
        }
        b->p = p;
        b->cap = cap;
    }
    if (n)
        memcpy(b->p + b->n, s, n);
    b->n += n;
    b->p[b->n] = 0;
}

void kvt_textbuf_str(struct kvt_textbuf *b, const char *s) { kvt_textbuf_add(b, s, strlen(s)); }

void kvt_textbuf_free(struct kvt_textbuf *b)
{
    free(b->p);
    *b = (struct kvt_textbuf){0};
}

static bool is_white(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

size_t kvt_text_trim(const char *s, size_t n, size_t *lead)
{
    size_t from = 0, to = n;
    int len;
    while (from < n && kvt_utf8_char(s + from, n - from) > 0 && is_white(kvt_utf8_get(s + from, &len)))
        from += (size_t)len;
    while (to > from) {
        size_t at = to - 1;
        while (at > from && ((unsigned char)s[at] & 0xc0) == 0x80)
            at--;
        if (kvt_utf8_char(s + at, to - at) != (int)(to - at) || !is_white(kvt_utf8_get(s + at, &len)))
            break;
        to = at;
    }
    *lead = from;
    return to - from;
}

static int check(const char *path, const struct kvt_textbuf *b, const char *what, struct kvt_err *err)
{
    size_t bad;
    if (b->n && !kvt_utf8_valid(b->p, b->n, &bad))
        return kvt_fail(err, KVT_EINPUT, "%s: the %s is not valid UTF-8 at byte %zu (0x%02x); convert it to UTF-8", path, what,
                        bad, (unsigned char)b->p[bad]);
    const char *zero = b->n ? memchr(b->p, 0, b->n) : NULL;
    if (zero)
        return kvt_fail(err, KVT_EINPUT, "%s: the %s has a zero byte at byte %zu; give a text file", path, what,
                        (size_t)(zero - b->p));
    return 0;
}

int kvt_read_text(char **out, size_t *bytes, const char *path, const char *what, size_t max, struct kvt_err *err)
{
    *out = NULL;
    *bytes = 0;
    struct kvt_textbuf b = {0};
    char chunk[16384];
    size_t n;
    int rc = 0;
    bool from_stdin = strcmp(path, "-") == 0;
    FILE *f = from_stdin ? stdin : fopen(path, "rb");
    if (!f)
        return kvt_fail(err, KVT_EINPUT, "%s: cannot open the %s: %s", path, what, strerror(errno));
    kvt_textbuf_add(&b, "", 0);
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0 && b.n <= max && !b.failed)
        kvt_textbuf_add(&b, chunk, n);
    if (ferror(f))
        rc = kvt_fail(err, errno == EISDIR ? KVT_EINPUT : KVT_EIO, "%s: cannot read the %s: %s", path, what, strerror(errno));
    else if (b.failed)
        rc = kvt_fail(err, KVT_ENOMEM, "%s: no memory for the %s", path, what);
    else if (b.n > max)
        rc = kvt_fail(err, KVT_EINPUT, "%s: the %s has more than %zu MiB", path, what, max >> 20);
    else
        rc = check(from_stdin ? "standard input" : path, &b, what, err);
    if (!from_stdin)
        fclose(f);
    if (rc) {
        kvt_textbuf_free(&b);
        return rc;
    }
    *out = b.p;
    *bytes = b.n;
    return 0;
}

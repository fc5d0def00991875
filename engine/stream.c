/* Tokens -> text as it comes: a character that is split over tokens is held back until it is whole. */
#include <string.h>

#include "engine/unicode.h"
#include "kvt/prompt.h"

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

static size_t show(char *out, size_t cap, size_t at, const char *s, size_t n)
{
    if (n > cap - at)
        return at;
    memcpy(out + at, s, n);
    return at + n;
}

size_t kvt_stream_put(struct kvt_stream *s, const struct kvt_tokenizer *tok, int32_t id, char *out, size_t cap)
{
    size_t n, i = 0, at = 0;
    const char *bytes = kvt_token_bytes(tok, id, &n);
    char window[8]; /* held bytes and what follows, as far as one character needs */
    while (s->n_held > 0 && i < n) {
        size_t held = (size_t)s->n_held, more = n - i < 4 ? n - i : 4;
        memcpy(window, s->held, held);
        memcpy(window + held, bytes + i, more);
        int len = kvt_utf8_char(window, held + more);
        if (len > 0) { /* held bytes never make a character by themselves, so len > held */
            at = show(out, cap, at, window, (size_t)len);
            i += (size_t)len - held;
            s->n_held = 0;
        } else if (len < 0) { /* the held bytes were a valid beginning, so all of them belong to the broken one */
            at = show(out, cap, at, replacement, 3);
            s->n_held = 0;
        } else {
            memcpy(s->held, window, held + more);
            s->n_held = (int)(held + more);
            return at;
        }
    }
    while (i < n) {
        int len = kvt_utf8_char(bytes + i, n - i);
        if (len > 0) {
            at = show(out, cap, at, bytes + i, (size_t)len);
            i += (size_t)len;
        } else if (len < 0) {
            at = show(out, cap, at, replacement, 3);
            i += (size_t)-len;
        } else {
            s->n_held = (int)(n - i);
            memcpy(s->held, bytes + i, n - i);
            break;
        }
    }
    return at;
}

size_t kvt_stream_end(struct kvt_stream *s, char *out, size_t cap)
{
    size_t at = s->n_held ? show(out, cap, 0, replacement, 3) : 0;
    s->n_held = 0;
    return at;
}

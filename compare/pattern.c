/* Regular expressions of task files. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "compare/pattern.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct kvt_pattern {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *limits;
};

int kvt_pattern_open(struct kvt_pattern **out, const char *text, const char *where, struct kvt_err *err)
{
    int why;
    size_t at;
    struct kvt_pattern *p = kvt_calloc(1, sizeof *p);
    if (!p)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory for a pattern", where);
    p->code = pcre2_compile((PCRE2_SPTR)text, strlen(text), PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &why, &at, NULL);
    if (!p->code) {
        char reason[128];
        pcre2_get_error_message(why, (PCRE2_UCHAR *)reason, sizeof reason);
        kvt_pattern_close(&p);
        return kvt_fail(err, KVT_EINPUT, "%s: the pattern '%.100s' doesn't compile: %s at character %zu", where, text, reason, at + 1);
    }
    p->match = pcre2_match_data_create_from_pattern(p->code, NULL);
    p->limits = pcre2_match_context_create(NULL);
    if (!p->match || !p->limits) {
        kvt_pattern_close(&p);
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory for a pattern", where);
    }
    pcre2_set_match_limit(p->limits, 1000000);
    *out = p;
    return 0;
}

void kvt_pattern_close(struct kvt_pattern **p)
{
    if (!*p)
        return;
    pcre2_match_data_free((*p)->match);
    pcre2_match_context_free((*p)->limits);
    pcre2_code_free((*p)->code);
    free(*p);
    *p = NULL;
}

int kvt_pattern_find(const struct kvt_pattern *p, const char *text, size_t n, size_t at, struct kvt_found *out)
{
    if (at > n)
        return 0;
    int groups = pcre2_match(p->code, (PCRE2_SPTR)text, n, at, 0, p->match, p->limits);
    if (groups < 1)
        return 0;
    const size_t *v = pcre2_get_ovector_pointer(p->match);
    *out = (struct kvt_found){ v[0], v[1], v[0], v[1] };
    for (int i = 1; i < groups; i++)
        if (v[2 * i] != PCRE2_UNSET && v[2 * i + 1] > v[2 * i]) {
            out->group_start = v[2 * i], out->group_end = v[2 * i + 1];
            break;
        }
    return out->end >= out->start; /* \K in a lookahead can turn them round */
}

char *kvt_pattern_drop(const struct kvt_pattern *p, const char *text)
{
    size_t n = strlen(text), at = 0, used = 0;
    char *out = malloc(n + 1);
    struct kvt_found f;
    while (out && at <= n && kvt_pattern_find(p, text, n, at, &f)) {
        memcpy(out + used, text + at, f.start - at);
        used += f.start - at;
        at = f.end;
        if (f.end == f.start) { /* an empty match: one character goes over as it is */
            if (at < n)
                out[used++] = text[at];
            at++;
        }
    }
    if (!out)
        return NULL;
    if (at < n) {
        memcpy(out + used, text + at, n - at);
        used += n - at;
    }
    out[used] = 0;
    return out;
}

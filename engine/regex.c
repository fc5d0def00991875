/* Oniguruma's spelling -> PCRE2's, and the search. Differences that matter here:
 *  - classes: Oniguruma knows Unicode 16, Debian 12's PCRE2 14, so \p{L} is written out with the characters that came
 *    later; \s is White_Space (PCRE2's has U+180E too), \w has marks and connectors, \h is a hexadecimal digit.
 *  - ^ and $ are at every line; \b follows our \w.
 *  - X{n,m}+ and X{n}? repeat the repetition, in PCRE2 they change its greed: refused.
 *  - [a[b]], [a&&b]: sets of sets: refused.
 *  - \p{Han} is the script, not its extensions. */
#include "engine/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/textbuf.h"
#include "engine/unicode.h"

struct kvt_regex {
    pcre2_code *code;
};

struct kvt_match {
    pcre2_match_data *data;
    pcre2_match_context *limits;
};

#define SPACE "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACE "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}" \
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{d7ff}\\x{e000}-\\x{10ffff}"

struct translation {
    const char *from, *p, *end; /* the expression, and how far it is read */
    struct kvt_textbuf out;
    const char *where;
    struct kvt_err *err;
};

static int refuse(struct translation *t, const char *what, const char *p, int n)
{
    if (n > t->end - p)
        n = (int)(t->end - p);
    return kvt_fail(t->err, KVT_EUNSUP, "%s: the regular expression has %s ('%.*s' at byte %td), which is not supported", t->where,
                    what, n, p, p - t->from);
}

static void put(struct translation *t, const char *s) { kvt_textbuf_str(&t->out, s); }

static void put_range(struct translation *t, uint32_t lo, uint32_t hi)
{
    char s[40];
    snprintf(s, sizeof s, lo == hi ? "\\x{%x}" : "\\x{%x}-\\x{%x}", lo, hi);
    put(t, s);
}

/* ---- classes ---- */

static const char categories[][3] = { /* in utf8proc's order */
    "Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps",
    "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co",
};

/* The members of a category ("L", "Lu") to stand inside [ ]; false: not a category. */
static bool put_category(struct translation *t, const char *name, size_t n, bool negated)
{
    bool known = false;
    char s[8];
    for (size_t i = 1; i < sizeof categories / sizeof *categories; i++)
        known |= (n == 1 || n == 2) && memcmp(categories[i], name, n) == 0;
    if (!known)
        return false;
    snprintf(s, sizeof s, "\\%c{%.*s}", negated ? 'P' : 'p', (int)n, name);
    put(t, s);
    struct kvt_unicode_range r;
    for (int i = 0; !negated && kvt_unicode_newer(i, &r); i++)
        if (memcmp(categories[r.category], name, n) == 0)
            put_range(t, r.lo, r.hi);
    return true;
}

static void put_word(struct translation *t)
{
    static const char *const parts[] = {"L", "M", "Nd", "Nl", "Pc"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        put_category(t, parts[i], strlen(parts[i]), false);
    put(t, "\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}");
}

/* \p{..} at t->p; in: inside [ ] already. */
static int property(struct translation *t, bool in)
{
    static const char *const longer[][2] = {{"Letter", "L"}, {"Mark", "M"}, {"Number", "N"}, {"Punctuation", "P"}, {"Symbol", "S"},
                                            {"Separator", "Z"}, {"Other", "C"}};
    const char *from = t->p;
    bool negated = t->p[1] == 'P';
    const char *name = t->p + 2, *close;
    if (name >= t->end || *name != '{' || !(close = memchr(name, '}', (size_t)(t->end - name))))
        return refuse(t, "a property without a name", from, 4);
    name++;
    if (name < close && *name == '^') {
        negated = !negated;
        name++;
    }
    size_t n = (size_t)(close - name);
    for (const char *c = name; c < close; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || *c == '_'))
            return refuse(t, "an unknown property", from, (int)(close - from) + 1);
    for (size_t i = 0; i < sizeof longer / sizeof *longer; i++)
        if (n == strlen(longer[i][0]) && memcmp(name, longer[i][0], n) == 0)
            name = longer[i][1], n = 1;
    t->p = close + 1;
    if (!in)
        put(t, negated ? "[^" : "[");
    if (!put_category(t, name, n, negated && in)) {
        if (n < 3 || n > 32)
            return refuse(t, "an unknown property", from, (int)(close - from) + 1);
        put(t, negated && in ? "\\P{sc:" : "\\p{sc:");
        kvt_textbuf_add(&t->out, name, n);
        put(t, "}");
        if (n == 3 && memcmp(name, "Han", 3) == 0 && !(negated && in))
            put(t, "\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}");
    }
    if (!in)
        put(t, "]");
    return 0;
}

/* \s \S \d \D \w \W \h at t->p: true and written where it is one of them. */
static bool shorthand(struct translation *t, bool in)
{
    char c = t->p[1];
    if (!c || !strchr("sSdDwWhH", c))
        return false;
    bool negated = c < 'a';
    if (!in)
        put(t, negated ? "[^" : "[");
    switch (c | 0x20) {
    case 's': put(t, negated && in ? NOT_SPACE : SPACE); break;
    case 'd':
        if (negated && in)
            put(t, "\\P{Nd}");
        else
            put_category(t, "Nd", 2, false);
        break;
    case 'w':
        if (negated && in)
            put(t, "\\W");
        else
            put_word(t);
        break;
    default: put(t, negated && in ? "\\x{0}-/:-@G-`g-\\x{d7ff}\\x{e000}-\\x{10ffff}" : "0-9A-Fa-f"); break;
    }
    if (!in)
        put(t, "]");
    t->p += 2;
    return true;
}

/* \uHHHH or \xHH, \x{H..}: a character by its number. */
static int by_number(struct translation *t)
{
    const char *from = t->p, *s = t->p + 2;
    bool braces = t->p[1] == 'x' && s < t->end && *s == '{';
    int most = braces ? 6 : t->p[1] == 'u' ? 4 : 2, n = 0;
    uint32_t c = 0;
    s += braces;
    for (; n < most && s < t->end; n++, s++) {
        int d = *s >= '0' && *s <= '9' ? *s - '0' : (*s | 0x20) >= 'a' && (*s | 0x20) <= 'f' ? (*s | 0x20) - 'a' + 10 : -1;
        if (d < 0)
            break;
        c = c << 4 | (uint32_t)d;
    }
    if (!n || (t->p[1] == 'u' && n < 4) || (braces && (s >= t->end || *s++ != '}')) || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ||
        (t->p[1] == 'x' && !braces && c >= 0x80))
        return refuse(t, "a character number", from, (int)(s - from));
    put_range(t, c, c);
    t->p = s;
    return 0;
}

/* A backslash at t->p. */
static int escape(struct translation *t, bool in)
{
    if (t->end - t->p < 2)
        return refuse(t, "a backslash at its end", t->p, 1);
    char c = t->p[1];
    if (c == 'p' || c == 'P')
        return property(t, in);
    if (c == 'x' || c == 'u')
        return by_number(t);
    if (shorthand(t, in))
        return 0;
    switch (c) {
    case 'n': put(t, "\\x{a}"); break;
    case 'r': put(t, "\\x{d}"); break;
    case 't': put(t, "\\x{9}"); break;
    case 'f': put(t, "\\x{c}"); break;
    case 'v': put(t, "\\x{b}"); break;
    case 'a': put(t, "\\x{7}"); break;
    case 'e': put(t, "\\x{1b}"); break;
    case 'b':
    case 'B':
        if (in)
            return refuse(t, "this escape", t->p, 2);
        put(t, "(?:(?<=[");
        put_word(t);
        put(t, c == 'b' ? "])(?![" : "])(?=[");
        put_word(t);
        put(t, "])|(?<![");
        put_word(t);
        put(t, c == 'b' ? "])(?=[" : "])(?![");
        put_word(t);
        put(t, "]))");
        break;
    case 'A': case 'z': case 'Z': case 'R': case 'X':
        if (in)
            return refuse(t, "this escape", t->p, 2);
        kvt_textbuf_add(&t->out, t->p, 2);
        break;
    default:
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80)
            return refuse(t, "this escape", t->p, 2);
        kvt_textbuf_add(&t->out, t->p, 2);
    }
    t->p += 2;
    return 0;
}

/* [...] at t->p */
static int set(struct translation *t)
{
    const char *from = t->p++;
    put(t, "[");
    if (t->p < t->end && *t->p == '^') {
        put(t, "^");
        t->p++;
    }
    if (t->p < t->end && *t->p == ']')
        return refuse(t, "an empty set", from, 3);
    while (t->p < t->end && *t->p != ']') {
        int rc = 0;
        if (*t->p == '\\')
            rc = escape(t, true);
        else if (*t->p == '[' || (*t->p == '&' && t->end - t->p > 1 && t->p[1] == '&'))
            return refuse(t, "a set inside a set", t->p, 8);
        else
            kvt_textbuf_add(&t->out, t->p++, 1);
        if (rc)
            return rc;
    }
    if (t->p == t->end)
        return refuse(t, "a set without an end", from, 8);
    put(t, "]");
    t->p++;
    return 0;
}

/* "(" at t->p */
static int group(struct translation *t)
{
    const char *s = t->p + 1;
    if (s < t->end && *s == '?') {
        s++;
        char c = s < t->end ? *s : 0, d = s + 1 < t->end ? s[1] : 0;
        if (c == '<' && d != '=' && d != '!') {
            t->p = s; /* a name is of no use here: a group like another */
            while (t->p < t->end && *t->p != '>')
                t->p++;
            if (t->p == t->end)
                return refuse(t, "a group without an end", s, 8);
            t->p++;
            put(t, "(");
            return 0;
        }
        bool fine = c == ':' || c == '=' || c == '!' || c == '>' || c == '<';
        if (c == 'i') /* (?i) inside would reach over the next bar, as it does in PCRE2, but otherwise than there */
            fine = d == ':' || (d == ')' && t->p == t->from);
        if (!fine)
            return refuse(t, "this kind of group", t->p, 4);
        size_t n = c == '<' || c == 'i' ? 4 : 3;
        kvt_textbuf_add(&t->out, t->p, n);
        t->p += n;
        return 0;
    }
    if (s < t->end && *s == '*')
        return refuse(t, "a verb", t->p, 8);
    put(t, "(");
    t->p++;
    return 0;
}

/* "{" at t->p: a count, or the character. */
static void count(struct translation *t, int *rc)
{
    const char *s = t->p + 1;
    bool low = false, comma = false, high = false;
    for (; s < t->end && *s >= '0' && *s <= '9'; s++)
        low = true;
    if (s < t->end && *s == ',') {
        comma = true;
        for (s++; s < t->end && *s >= '0' && *s <= '9'; s++)
            high = true;
    }
    if (s == t->end || *s != '}' || (!low && !high)) {
        put(t, "\\{");
        t->p++;
        return;
    }
    s++;
    if (s < t->end && (*s == '+' || (*s == '?' && !comma))) {
        *rc = refuse(t, "a repeated count", t->p, (int)(s - t->p) + 1);
        return;
    }
    put(t, low ? "{" : "{0");
    kvt_textbuf_add(&t->out, t->p + 1, (size_t)(s - t->p) - 1);
    t->p = s;
}

static int translate(struct translation *t)
{
    int rc = 0;
    while (t->p < t->end && !rc) {
        switch (*t->p) {
        case '\\': rc = escape(t, false); break;
        case '[': rc = set(t); break;
        case '(': rc = group(t); break;
        case '{': count(t, &rc); break;
        case '^': case '$':
            put(t, *t->p++ == '^' ? "(?m:^)" : "(?m:$)");
            break;
        default: kvt_textbuf_add(&t->out, t->p++, 1);
        }
    }
    if (!rc && t->out.failed)
        rc = kvt_fail(t->err, KVT_ENOMEM, "%s: no memory for a regular expression", t->where);
    return rc;
}

/* ---- compile, search ---- */

static int compile(struct kvt_regex *r, const char *pattern, size_t n, const char *where, struct kvt_err *err)
{
    pcre2_compile_context *c = pcre2_compile_context_create(NULL);
    int code = 0;
    PCRE2_SIZE at = 0;
    if (!c)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory for a regular expression", where);
    pcre2_set_newline(c, PCRE2_NEWLINE_LF);
    r->code = pcre2_compile((PCRE2_SPTR)pattern, n, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, c);
    pcre2_compile_context_free(c);
    if (r->code) {
        pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE); /* where memory may not be executable the interpreter does it */
        return 0;
    }
    PCRE2_UCHAR text[120] = "";
    pcre2_get_error_message(code, text, sizeof text);
    return kvt_fail(err, KVT_EFORMAT, "%s: a regular expression does not compile: %s", where, (const char *)text);
}

int kvt_regex_open(struct kvt_regex **out, const char *pattern, size_t n, const char *where, struct kvt_err *err)
{
    *out = NULL;
    if (n > 16384)
        return kvt_fail(err, KVT_EUNSUP, "%s: a regular expression of %zu bytes", where, n);
    struct kvt_regex *r = kvt_calloc(1, sizeof *r);
    if (!r)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory for a regular expression", where);
    struct translation t = {.from = pattern, .p = pattern, .end = pattern + n, .where = where, .err = err};
    put(&t, "");
    int rc = translate(&t);
    if (!rc)
        rc = compile(r, t.out.p, t.out.n, where, err);
    kvt_textbuf_free(&t.out);
    if (rc)
        kvt_regex_close(&r);
    *out = r;
    return rc;
}

void kvt_regex_close(struct kvt_regex **r)
{
    if (!*r)
        return;
    pcre2_code_free((*r)->code);
    free(*r);
    *r = NULL;
}

int kvt_match_open(struct kvt_match **out, struct kvt_err *err)
{
    struct kvt_match *m = kvt_calloc(1, sizeof *m);
    if (m) {
        m->data = pcre2_match_data_create(1, NULL);
        m->limits = pcre2_match_context_create(NULL);
        if (!m->data || !m->limits)
            kvt_match_close(&m);
    }
    *out = m;
    return m ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory to split the text");
}

void kvt_match_close(struct kvt_match **m)
{
    if (!*m)
        return;
    pcre2_match_context_free((*m)->limits);
    pcre2_match_data_free((*m)->data);
    free(*m);
    *m = NULL;
}

int kvt_regex_find(const struct kvt_regex *r, struct kvt_match *m, const char *text, size_t n, size_t at, size_t *start,
                   size_t *end, struct kvt_err *err)
{
    /* Expressions in use are linear: a few steps for each byte of a run of spaces. What needs far more is catastrophic. */
    size_t limit = 100000 + 64 * n;
    pcre2_set_match_limit(m->limits, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);
    while (at <= n) {
        PCRE2_SPTR s = (PCRE2_SPTR)text;
        int got = pcre2_match(r->code, s, n, at, PCRE2_NO_UTF_CHECK, m->data, m->limits);
        if (got == PCRE2_ERROR_JIT_STACKLIMIT)
            got = pcre2_match(r->code, s, n, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m->data, m->limits);
        if (got == PCRE2_ERROR_NOMATCH)
            return 0;
        if (got < 0)
            return kvt_fail(err, got == PCRE2_ERROR_NOMEMORY ? KVT_ENOMEM : KVT_EINPUT,
                            "the tokenizer's regular expression gave up on a text of %zu bytes (PCRE2 error %d)", n, got);
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(m->data);
        *start = range[0];
        *end = range[1];
        if (*end > *start)
            return 1;
        at = *end;
        do /* an empty match: on from the next character */
            at++;
        while (at < n && ((unsigned char)text[at] & 0xc0) == 0x80);
    }
    return 0;
}

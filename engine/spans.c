/* Spans: the structure of shots, sentences, and the marks inside them.
 *
 * A space belongs to what follows it, as it does in byte-level tokens (" The" and " +" are one token each): sentences and
 * marks therefore begin at the space in front of them, or no token would start inside. A mark lets go of a space that
 * turned out to be in a token of another (smollm has a space token in front of digits). */
#include "engine/spans.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>

#include "engine/unicode.h"

const char *kvt_span_kind_name(enum kvt_span_kind kind)
{
    static const char *const names[KVT_N_SPAN_KIND] = {
#define X(name, text) [KVT_SPAN_##name] = text,
        KVT_SPAN_MAP(X)
#undef X
    };
    return (unsigned)kind < KVT_N_SPAN_KIND ? names[kind] : "unknown";
}

void kvt_spans_add(struct kvt_spans *s, enum kvt_span_kind kind, const char *name, size_t start, size_t end)
{
    if (s->n == s->cap && !s->failed) {
        int cap = s->cap < 32 ? 64 : 2 * s->cap;
        struct kvt_span *v = s->cap > INT32_MAX / 4 ? NULL : realloc(s->v, (size_t)cap * sizeof *v);
        if (v) {
            s->v = v;
            s->cap = cap;
        } else {
            s->failed = true;
        }
    }
    if (s->failed)
        return;
    struct kvt_span *p = &s->v[s->n++];
    *p = (struct kvt_span){.kind = kind, .parent = -1, .byte_start = (int32_t)start, .byte_end = (int32_t)end};
    snprintf(p->name, sizeof p->name, "%s", name);
}

/* ---- inside a shot ---- */

static bool starts_with(const char *s, size_t n, const char *what)
{
    size_t k = strlen(what);
    return n >= k && memcmp(s, what, k) == 0;
}

size_t kvt_spans_find_answer(const char *text, size_t start, size_t end)
{
    for (size_t i = start; i < end; i++)
        if (i > start && text[i - 1] == '\n' &&
            (starts_with(text + i, end - i, "Answer:") || starts_with(text + i, end - i, "A:")))
            return i;
    return end;
}

/* Where the bare answer begins in [from, end): at a line that begins with "####", or with the sentence that holds "the
 * answer is"; the last of them. `from` if there is none. */
static size_t find_bare(const char *text, size_t from, size_t end)
{
    static const char says[] = "the answer is";
    for (size_t i = end; i-- > from + 1;)
        if (text[i - 1] == '\n' && starts_with(text + i, end - i, "####"))
            return i;
    for (size_t i = end; i-- > from;) {
        if (end - i < sizeof says - 1 || strncasecmp(text + i, says, sizeof says - 1) != 0)
            continue;
        size_t s = i;
        while (s > from && text[s - 1] != '\n' && !(s > from + 1 && text[s - 1] == ' ' && strchr(".!?", text[s - 2])))
            s--;
        return s > from && text[s - 1] == ' ' ? s - 1 : s;
    }
    return from;
}

void kvt_spans_shot(struct kvt_spans *s, const char *text, size_t start, size_t end, size_t answer, size_t bare)
{
    if (answer >= end)
        return;
    if (!bare)
        bare = find_bare(text, answer, end);
    if (bare > end)
        bare = end;
    if (answer > start)
        kvt_spans_add(s, KVT_SPAN_QUESTION, "question", start, answer);
    if (bare > answer)
        kvt_spans_add(s, KVT_SPAN_RATIONALE, "rationale", answer, bare);
    if (bare < end)
        kvt_spans_add(s, KVT_SPAN_ANSWER, "answer", bare, end);
}

/* ---- sentences ---- */

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* "Mr.", "e.g.", a single initial: a full stop that ends no sentence. at: the full stop. */
static bool is_abbreviation(const char *text, size_t from, size_t at)
{
    static const char *const list[] = {"Mr", "Mrs", "Ms", "Dr", "St", "Prof", "vs", "e.g", "i.e", "cf", "Fig"};
    size_t s = at;
    while (s > from && !is_space(text[s - 1]) && !strchr("(\"'[", text[s - 1]))
        s--;
    size_t n = at - s;
    if (n == 1 && text[s] >= 'A' && text[s] <= 'Z' && text[s] != 'I')
        return true;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (strlen(list[i]) == n && memcmp(text + s, list[i], n) == 0)
            return true;
    return false;
}

/* Bytes of a closing quote or bracket at s, 0 if there is none. */
static size_t closer(const char *s, size_t n)
{
    static const char *const list[] = {"\"", "'", ")", "]", "\xe2\x80\x9d", "\xe2\x80\x99", "\xc2\xbb", "\xe3\x80\x8d",
                                       "\xe3\x80\x8f"}; /* " ' ) ] and right quotes, guillemet, corner brackets */
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (starts_with(s, n, list[i]))
            return strlen(list[i]);
    return 0;
}

static bool is_lower(const char *s)
{
    int len;
    return utf8proc_category((utf8proc_int32_t)kvt_utf8_get(s, &len)) == UTF8PROC_CATEGORY_LL;
}

/* The end of the sentence that begins at `at`: line ends that close it belong to it, the space before the next doesn't. */
static size_t sentence_end(const char *text, size_t at, size_t to)
{
    size_t i = at;
    while (i < to && is_space(text[i]))
        i++; /* what stands in front of the first word */
    while (i < to) {
        size_t n = to - i, k;
        if (text[i] == '\n' || text[i] == '\r') {
            int lines = 0;
            for (k = i; k < to && (text[k] == '\n' || text[k] == '\r'); k++)
                lines += text[k] == '\n';
            if (lines == 1 && k < to && is_lower(text + k)) { /* a wrapped line goes on */
                i = k;
                continue;
            }
            return k;
        }
        bool wide = starts_with(text + i, n, "\xe3\x80\x82") || starts_with(text + i, n, "\xef\xbc\x81") ||
                    starts_with(text + i, n, "\xef\xbc\x9f"); /* ideographic . ! ? */
        if (!wide && text[i] != '.' && text[i] != '!' && text[i] != '?') {
            i++;
            continue;
        }
        bool stop = text[i] != '.' || !is_abbreviation(text, at, i);
        i += wide ? 3 : 1;
        while (i < to && (text[i] == '.' || text[i] == '!' || text[i] == '?'))
            i++;
        while (i < to && (k = closer(text + i, to - i)) > 0)
            i += k;
        if (wide || (stop && (i == to || text[i] == ' ' || text[i] == '\t'))) {
            k = i;
            while (k < to && is_space(text[k]))
                k++;
            /* what is left is white space, or a line ends right here */
            if (k == to)
                return to;
            if (!memchr(text + i, '\n', k - i))
                return i;
        }
    }
    return to;
}

/* ---- marks ---- */

/* Three groups: number, delimiter, operator. A hyphen or slash between letters is part of a word. */
static const char marks[] =
    "((?: |(?<![\\p{L}\\p{N}_]))[$\\x{20ac}\\x{a3}\\x{a5}]?\\p{Nd}+(?:,\\p{Nd}{3}(?!\\p{Nd}))*(?:\\.\\p{Nd}+)?%?)"
    "|( ?(?:<<|>>|\\#{2,}|\\.{3}|[.,;:!?(){}\\[\\]\"|]|[\\x{201c}\\x{201d}\\x{ab}\\x{bb}\\x{3001}\\x{3002}\\x{ff0c}\\x{ff1a}"
    "\\x{ff1b}\\x{ff01}\\x{ff1f}\\x{2026}])|(?:\\r?\\n)+)"
    "|( ?(?:<=|>=|[=!+*/-]=|=>|->|&&|\\*\\*|[+*=<>^%]|[\\x{d7}\\x{f7}\\x{2212}\\x{b1}\\x{2264}\\x{2265}\\x{2260}\\x{2248}]"
    "|(?<!\\p{L})[-/]|[-/](?!\\p{L})))";

/* The name of a mark is its text. */
static void mark_name(char name[24], const char *s, size_t n)
{
    size_t k = 0;
    for (size_t i = n > 1 && s[0] == ' '; i < n && k < 20;) {
        int len = kvt_utf8_char(s + i, n - i);
        if (s[i] == '\n' || s[i] == '\r') {
            name[k++] = '\\';
            name[k++] = s[i] == '\n' ? 'n' : 'r';
            i++;
            continue;
        }
        if (len <= 0 || k + (size_t)len > 20)
            break;
        memcpy(name + k, s + i, (size_t)len);
        k += (size_t)len;
        i += (size_t)len;
    }
    name[k] = 0;
}

struct scan {
    struct kvt_spans *spans;
    const char *text;
    pcre2_code *code;
    pcre2_match_data *match;
    int n_sentences;
};

static int scan_marks(struct scan *c, size_t from, size_t to, struct kvt_err *err)
{
    static const enum kvt_span_kind kinds[] = {KVT_SPAN_NUMBER, KVT_SPAN_DELIMITER, KVT_SPAN_OPERATOR};
    for (size_t at = from; at < to;) {
        /* the subject is the text up to `to`, so that what stands before `from` is seen by the lookbehinds */
        int got = pcre2_match(c->code, (PCRE2_SPTR)c->text, to, at, PCRE2_NO_UTF_CHECK, c->match, NULL);
        if (got == PCRE2_ERROR_NOMATCH)
            break;
        if (got < 0)
            return kvt_fail(err, KVT_ENOMEM, "cannot look for numbers in the text at byte %zu (PCRE2 error %d)", at, got);
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(c->match);
        char name[24];
        mark_name(name, c->text + range[0], range[1] - range[0]);
        kvt_spans_add(c->spans, kinds[got - 2], name, range[0], range[1]);
        at = range[1];
    }
    return 0;
}

/* One stretch of text without a border inside. */
static int scan_stretch(struct scan *c, size_t from, size_t to, struct kvt_err *err)
{
    for (size_t at = from; at < to;) {
        size_t end = sentence_end(c->text, at, to), i = at;
        while (i < end && is_space(c->text[i]))
            i++;
        if (i < end) {
            char name[24];
            snprintf(name, sizeof name, "sentence %d", ++c->n_sentences);
            kvt_spans_add(c->spans, KVT_SPAN_SENTENCE, name, at, end);
        }
        int rc = scan_marks(c, at, end, err);
        if (rc)
            return rc;
        at = end;
    }
    return 0;
}

static int order_numbers(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

int kvt_spans_scan(struct kvt_spans *s, const char *text, size_t from, size_t to, struct kvt_err *err)
{
    int code, n = 0, rc = 0, n_before = s->n;
    PCRE2_SIZE at;
    struct scan c = {.spans = s, .text = text};
    size_t *border = malloc((2 * (size_t)n_before + 2) * sizeof *border);
    c.code = pcre2_compile((PCRE2_SPTR)marks, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    c.match = pcre2_match_data_create(4, NULL);
    if (!border || !c.code || !c.match) {
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for the spans");
        goto done;
    }
    pcre2_jit_compile(c.code, PCRE2_JIT_COMPLETE);
    border[n++] = from;
    border[n++] = to;
    for (int i = 0; i < n_before; i++) {
        if (s->v[i].kind == KVT_SPAN_SENTENCE)
            c.n_sentences++; /* from an earlier scan */
        size_t ends[2] = {(size_t)s->v[i].byte_start, (size_t)s->v[i].byte_end};
        for (int k = 0; k < 2; k++)
            if (ends[k] > from && ends[k] < to)
                border[n++] = ends[k];
    }
    qsort(border, (size_t)n, sizeof *border, order_numbers);
    for (int i = 0; i + 1 < n && !rc; i++)
        if (border[i] < border[i + 1])
            rc = scan_stretch(&c, border[i], border[i + 1], err);
    if (!rc && s->failed)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for the spans");
done:
    free(border);
    pcre2_match_data_free(c.match);
    pcre2_code_free(c.code);
    return rc;
}

/* ---- order, parents, tokens ---- */

static int level(enum kvt_span_kind kind)
{
    switch (kind) {
    case KVT_SPAN_SYSTEM: case KVT_SPAN_SHOT: case KVT_SPAN_PROMPT: case KVT_SPAN_USER: case KVT_SPAN_ASSISTANT: return 0;
    case KVT_SPAN_QUESTION: case KVT_SPAN_RATIONALE: case KVT_SPAN_ANSWER: return 1;
    case KVT_SPAN_SENTENCE: return 2;
    default: return 3;
    }
}

static int order_spans(const void *pa, const void *pb)
{
    const struct kvt_span *a = pa, *b = pb;
    if (a->byte_start != b->byte_start)
        return a->byte_start < b->byte_start ? -1 : 1;
    if (a->byte_end != b->byte_end)
        return a->byte_end > b->byte_end ? -1 : 1;
    return level(a->kind) - level(b->kind);
}

/* First token at or after `from` whose first byte is at or after `byte`. */
static int first_token(const struct kvt_tokens *t, int from, int32_t byte)
{
    int lo = from, hi = t->n;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (t->start[mid] < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void kvt_spans_finish(struct kvt_spans *s, const char *text, const struct kvt_tokens *t)
{
    if (s->n)
        qsort(s->v, (size_t)s->n, sizeof *s->v, order_spans);
    int bos = t->n && t->end[0] == 0; /* BOS stands for no text and belongs to no span */
    for (int i = 0, open = -1; i < s->n; i++) {
        struct kvt_span *p = &s->v[i];
        while (open >= 0 && s->v[open].byte_end < p->byte_end)
            open = s->v[open].parent;
        while (open >= 0 && s->v[open].byte_end <= p->byte_start)
            open = s->v[open].parent;
        p->parent = open;
        open = i;
        p->start = first_token(t, bos, p->byte_start);
        if (level(p->kind) == 3 && text[p->byte_start] == ' ') {
            int next = first_token(t, p->start, p->byte_start + 1);
            if (next < t->n && t->start[next] == p->byte_start + 1) {
                p->byte_start++;
                p->start = next;
            }
        }
        p->end = first_token(t, p->start, p->byte_end);
    }
}

/* The normalisers of tokenizer.json, one after the other over the whole text; Unicode's own forms by utf8proc. */
#include "engine/normalise.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "engine/regex.h"
#include "engine/unicode.h"

enum kind { FORM, LOWERCASE, PREPEND, REPLACE, STRIP };

struct step {
    enum kind kind;
    utf8proc_option_t form;     /* of FORM */
    char *text;                 /* what is put in front, or instead */
    size_t text_n;
    char *literal;              /* what is replaced: this, or */
    size_t literal_n;
    struct kvt_regex *regex;    /* this */
    bool left, right;           /* of STRIP */
};

enum { MAX_STEPS = 16, MAX_CLUSTER = 1024 }; /* a cluster: characters; Unicode's own stream-safe text stays below 32 */

struct kvt_normaliser {
    int n;
    struct step step[MAX_STEPS];
};

/* ---- text in the making ---- */

void kvt_normed_add(struct kvt_normed *t, const char *s, size_t n, int32_t origin, int32_t width)
{
    size_t need;
    if (!kvt_add_size(t->n, n, &need) || need > INT32_MAX)
        t->failed = true;
    if (t->failed)
        return;
    if (need > t->cap) {
        size_t cap = need < 256 ? 512 : 2 * need;
        char *p = realloc(t->p, cap);
        int32_t *from = realloc(t->from, cap * sizeof *from);
        t->p = p ? p : t->p;
        t->from = from ? from : t->from;
        if (!p || !from) {
            t->failed = true;
            return;
        }
        t->cap = cap;
    }
    for (size_t j = 0; j < n; j++)
        t->from[t->n + j] = origin + (int32_t)((int64_t)j * width / (int64_t)n);
    if (n)
        memcpy(t->p + t->n, s, n);
    t->n += n;
}

void kvt_normed_copy(struct kvt_normed *t, struct kvt_view v)
{
    size_t at = t->n;
    kvt_normed_add(t, v.p, v.n, 0, 0);
    if (t->failed)
        return;
    for (size_t i = 0; i < v.n; i++)
        t->from[at + i] = kvt_view_origin(&v, i);
    t->end = v.end;
}

void kvt_normed_free(struct kvt_normed *t)
{
    free(t->p);
    free(t->from);
    *t = (struct kvt_normed){0};
}

/* Instead of bytes start to end of v. */
static void put(struct kvt_normed *out, const char *s, size_t n, const struct kvt_view *v, size_t start, size_t end)
{
    struct kvt_view part = kvt_view_part(*v, start, end);
    int32_t origin = part.n ? kvt_view_origin(&part, 0) : part.end;
    kvt_normed_add(out, s, n, origin, part.end - origin);
}

/* ---- Unicode's forms ---- */

/* The `tokenizers` library's forms are Unicode 9's: marks that came later, one pair that composes and characters that are
 * compatible with others stay as and where they are there. So each of them is a cluster by itself. */
static bool is_later(uint32_t c)
{
    static const struct { uint32_t lo, hi; } later[] = {
        {0x7fd, 0x7fd}, {0x898, 0x89f}, {0x8ca, 0x8d3}, {0x9fe, 0x9fe}, {0xc3c, 0xc3c}, {0xd3b, 0xd3c}, {0xeba, 0xeba},
        {0x1715, 0x1715}, {0x1abf, 0x1ace}, {0x1df6, 0x1dfa}, {0x32ff, 0x32ff}, {0xa7f2, 0xa7f4}, {0xa82c, 0xa82c},
        {0xab69, 0xab69}, {0x10781, 0x107ba}, {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff},
        {0x10f46, 0x10f50}, {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e},
        {0x11839, 0x1183a}, {0x11930, 0x11930}, {0x11938, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a47},
        {0x11a99, 0x11a99}, {0x11d42, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x16ff0, 0x16ff1},
        {0x1e030, 0x1e06d}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef},
        {0x1e4ec, 0x1e4ef}, {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9},
    };
    int lo = 0, hi = (int)(sizeof later / sizeof *later);
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (later[mid].hi < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < (int)(sizeof later / sizeof *later) && c >= later[lo].lo;
}

/* Whether c can change, or be changed by, what stands before it. */
static bool joins(uint32_t c, utf8proc_option_t form)
{
    utf8proc_int32_t d[32];
    int bound = 0;
    if (c < 0x300 || is_later(c))
        return false;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, d, 32, (utf8proc_option_t)(form | UTF8PROC_DECOMPOSE), &bound);
    if (n < 1)
        return false;
    const utf8proc_property_t *first = utf8proc_get_property(d[0]);
    bool second = first->comb_index != UINT16_MAX && first->comb_index >= 0x8000;
    bool jamo = (d[0] >= 0x1161 && d[0] <= 0x1175) || (d[0] >= 0x11a8 && d[0] <= 0x11c2);
    return first->combining_class || second || jamo;
}

static int form_cluster(struct kvt_normed *out, const struct kvt_view *v, size_t start, size_t end, utf8proc_option_t form,
                        struct kvt_err *err)
{
    utf8proc_int32_t small[64], *c = small, *more = NULL;
    const utf8proc_uint8_t *s = (const utf8proc_uint8_t *)v->p + start;
    utf8proc_ssize_t n = utf8proc_decompose(s, (utf8proc_ssize_t)(end - start), c, 64, form);
    if (n > 64) {
        c = more = malloc((size_t)n * sizeof *more);
        if (!more)
            return kvt_fail(err, KVT_ENOMEM, "no memory to normalise the text");
        n = utf8proc_decompose(s, (utf8proc_ssize_t)(end - start), c, n, form);
    }
    if (n >= 0)
        n = utf8proc_normalize_utf32(c, n, form);
    char *text = n > 0 ? malloc(4 * (size_t)n) : NULL;
    size_t k = 0;
    for (utf8proc_ssize_t i = 0; text && i < n; i++)
        k += (size_t)kvt_utf8_put((uint32_t)c[i], text + k);
    if (text)
        put(out, text, k, v, start, end);
    free(text);
    free(more);
    return n > 0 && !text ? kvt_fail(err, KVT_ENOMEM, "no memory to normalise the text") : 0;
}

static int to_form(struct kvt_normed *out, struct kvt_view v, utf8proc_option_t form, struct kvt_err *err)
{
    int rc = 0;
    for (size_t i = 0; i < v.n && !rc;) {
        size_t end = i;
        int len, chars = 0;
        bool alone = is_later(kvt_utf8_get(v.p + i, &len));
        do {
            kvt_utf8_get(v.p + end, &len);
            end += (size_t)len;
        } while (end < v.n && !alone && ++chars < MAX_CLUSTER && ((unsigned char)v.p[end] & 0x80) &&
                 joins(kvt_utf8_get(v.p + end, &len), form));
        if (end - i == 1) { /* ASCII stays as it is, all that comes together at once */
            while (end + 1 < v.n && !((unsigned char)v.p[end] & 0x80) && !((unsigned char)v.p[end + 1] & 0x80))
                end++;
            kvt_normed_copy(out, kvt_view_part(v, i, end));
        } else if (alone) {
            kvt_normed_copy(out, kvt_view_part(v, i, end));
        } else {
            rc = form_cluster(out, &v, i, end, form, err);
        }
        i = end;
    }
    return rc;
}

/* ---- the others ---- */

static uint32_t lower(uint32_t c)
{
    static const struct { uint32_t lo, hi, to; } newer[] = { /* Unicode 16's and 17's */
        {0x1c89, 0x1c89, 0x1c8a}, {0xa7cb, 0xa7cb, 0x264}, {0xa7cc, 0xa7cc, 0xa7cd}, {0xa7da, 0xa7da, 0xa7db},
        {0xa7dc, 0xa7dc, 0x19b}, {0x10d50, 0x10d65, 0x10d70}, {0xa7ce, 0xa7ce, 0xa7cf}, {0xa7d2, 0xa7d2, 0xa7d3},
        {0xa7d4, 0xa7d4, 0xa7d5}, {0x16ea0, 0x16eb8, 0x16ebb},
    };
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++)
        if (c >= newer[i].lo && c <= newer[i].hi)
            return newer[i].to + c - newer[i].lo;
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
}

static void lowercase(struct kvt_normed *out, struct kvt_view v)
{
    char s[8];
    for (size_t i = 0; i < v.n;) {
        int len;
        uint32_t c = kvt_utf8_get(v.p + i, &len);
        int k = kvt_utf8_put(c == 0x130 ? 'i' : lower(c), s);
        if (c == 0x130) /* the one character whose small form is two */
            k += kvt_utf8_put(0x307, s + k);
        put(out, s, (size_t)k, &v, i, i + (size_t)len);
        i += (size_t)len;
    }
}

static void strip(struct kvt_normed *out, struct kvt_view v, bool left, bool right)
{
    size_t start = 0, end = v.n;
    int len;
    while (left && start < end && kvt_unicode_space(kvt_utf8_get(v.p + start, &len)))
        start += (size_t)len;
    while (right && end > start) {
        size_t at = end - 1;
        while (at > start && ((unsigned char)v.p[at] & 0xc0) == 0x80)
            at--;
        if (!kvt_unicode_space(kvt_utf8_get(v.p + at, &len)))
            break;
        end = at;
    }
    kvt_normed_copy(out, kvt_view_part(v, start, end));
}

static int replace(struct kvt_normed *out, struct kvt_view v, const struct step *s, struct kvt_err *err)
{
    struct kvt_match *m = NULL;
    int rc = s->regex ? kvt_match_open(&m, err) : 0;
    size_t at = 0;
    while (at < v.n && !rc) {
        size_t start = v.n, end = v.n;
        if (s->regex) {
            int got = kvt_regex_find(s->regex, m, v.p, v.n, at, &start, &end, err);
            if (got < 0)
                rc = got;
            if (got <= 0)
                start = end = v.n;
        } else {
            for (const char *c = v.p + at; (c = memchr(c, s->literal[0], (size_t)(v.p + v.n - c))) != NULL; c++)
                if ((size_t)(v.p + v.n - c) >= s->literal_n && memcmp(c, s->literal, s->literal_n) == 0) {
                    start = (size_t)(c - v.p);
                    end = start + s->literal_n;
                    break;
                }
        }
        kvt_normed_copy(out, kvt_view_part(v, at, start));
        if (end > start)
            put(out, s->text, s->text_n, &v, start, end);
        at = end;
    }
    kvt_match_close(&m);
    return rc;
}

static int run(struct kvt_normed *out, struct kvt_view v, const struct step *s, struct kvt_err *err)
{
    int rc = 0;
    switch (s->kind) {
    case FORM: rc = to_form(out, v, s->form, err); break;
    case LOWERCASE: lowercase(out, v); break;
    case PREPEND:
        if (v.n) {
            put(out, s->text, s->text_n, &v, 0, 0);
            kvt_normed_copy(out, v);
        }
        break;
    case REPLACE: rc = replace(out, v, s, err); break;
    case STRIP: strip(out, v, s->left, s->right); break;
    }
    out->end = v.end;
    if (!rc && out->failed)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory to normalise the text");
    return rc;
}

int kvt_normalise(const struct kvt_normaliser *n, struct kvt_view text, struct kvt_normed *out, struct kvt_err *err)
{
    struct kvt_normed other = {0};
    struct kvt_view v = text;
    int rc = 0;
    out->n = 0;
    if (!n->n)
        kvt_normed_copy(out, v);
    for (int i = 0; i < n->n && !rc; i++) {
        if (i) { /* what was made is read, and the other is written */
            struct kvt_normed made = *out;
            *out = other;
            other = made;
            v = kvt_normed_view(&other);
        }
        out->n = 0;
        rc = run(out, v, &n->step[i], err);
    }
    kvt_normed_free(&other);
    return rc;
}

/* ---- from JSON ---- */

static int no_memory(const char *where, struct kvt_err *err)
{
    return kvt_fail(err, KVT_ENOMEM, "%s: no memory for the normalizer", where);
}

static int keep(char **out, size_t *n, const cJSON *v, const char *what, const char *where, struct kvt_err *err)
{
    if (!cJSON_IsString(v))
        return kvt_fail(err, KVT_EFORMAT, "%s: normalizer: %s must be a text", where, what);
    *n = strlen(v->valuestring);
    *out = kvt_calloc(*n + 1, 1);
    if (!*out)
        return no_memory(where, err);
    memcpy(*out, v->valuestring, *n);
    return 0;
}

static int read_replace(struct step *s, const cJSON *j, const char *where, struct kvt_err *err)
{
    const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(j, "pattern");
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(pattern, "String");
    const cJSON *regex = cJSON_GetObjectItemCaseSensitive(pattern, "Regex");
    int rc = keep(&s->text, &s->text_n, cJSON_GetObjectItemCaseSensitive(j, "content"), "Replace's content", where, err);
    if (rc)
        return rc;
    if (cJSON_IsString(regex))
        return kvt_regex_open(&s->regex, regex->valuestring, strlen(regex->valuestring), where, err);
    rc = keep(&s->literal, &s->literal_n, text, "Replace's pattern", where, err);
    if (!rc && !s->literal_n)
        rc = kvt_fail(err, KVT_EFORMAT, "%s: normalizer: Replace of an empty text", where);
    return rc;
}

static int add(struct kvt_normaliser *n, const cJSON *j, const char *where, struct kvt_err *err)
{
    static const struct { const char *name; utf8proc_option_t form; } forms[] = {
        {"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE}, {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
        {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
        {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
    };
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(j, "type");
    const char *name = cJSON_GetStringValue(type);
    if (!name)
        return kvt_fail(err, KVT_EFORMAT, "%s: a normalizer without a type", where);
    if (strcmp(name, "Sequence") == 0) {
        const cJSON *list = cJSON_GetObjectItemCaseSensitive(j, "normalizers"), *each;
        if (!cJSON_IsArray(list))
            return kvt_fail(err, KVT_EFORMAT, "%s: a Sequence of normalizers without a list", where);
        cJSON_ArrayForEach(each, list) {
            int rc = add(n, each, where, err);
            if (rc)
                return rc;
        }
        return 0;
    }
    if (n->n == MAX_STEPS)
        return kvt_fail(err, KVT_EUNSUP, "%s: more than %d normalizers", where, MAX_STEPS);
    struct step *s = &n->step[n->n++];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strcmp(name, forms[i].name) == 0) {
            s->kind = FORM;
            s->form = forms[i].form;
            return 0;
        }
    if (strcmp(name, "Lowercase") == 0) {
        s->kind = LOWERCASE;
        return 0;
    }
    if (strcmp(name, "Prepend") == 0) {
        s->kind = PREPEND;
        return keep(&s->text, &s->text_n, cJSON_GetObjectItemCaseSensitive(j, "prepend"), "what Prepend prepends", where, err);
    }
    if (strcmp(name, "Replace") == 0) {
        s->kind = REPLACE;
        return read_replace(s, j, where, err);
    }
    if (strcmp(name, "Strip") == 0) {
        s->kind = STRIP;
        s->left = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "strip_left"));
        s->right = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "strip_right"));
        return 0;
    }
    return kvt_fail(err, KVT_EUNSUP, "%s: normalizer '%.32s' is not supported (NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, "
                    "Strip and Sequence are)", where, name);
}

int kvt_normaliser_open(struct kvt_normaliser **out, const cJSON *json, const char *where, struct kvt_err *err)
{
    *out = NULL;
    if (!json || cJSON_IsNull(json))
        return 0;
    struct kvt_normaliser *n = kvt_calloc(1, sizeof *n);
    if (!n)
        return no_memory(where, err);
    int rc = add(n, json, where, err);
    if (rc || !n->n) /* an empty Sequence is none */
        kvt_normaliser_close(&n);
    *out = n;
    return rc;
}

int kvt_normaliser_spaces(struct kvt_normaliser **out, bool prefix, const char *where, struct kvt_err *err)
{
    static const char sequence[] = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"},"
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}]}";
    cJSON *json = cJSON_Parse(sequence);
    *out = NULL;
    if (!json)
        return no_memory(where, err);
    if (!prefix)
        cJSON_DeleteItemFromArray(cJSON_GetObjectItemCaseSensitive(json, "normalizers"), 0);
    int rc = kvt_normaliser_open(out, json, where, err);
    cJSON_Delete(json);
    return rc;
}

void kvt_normaliser_close(struct kvt_normaliser **n)
{
    if (!*n)
        return;
    for (int i = 0; i < (*n)->n; i++) {
        struct step *s = &(*n)->step[i];
        free(s->text);
        free(s->literal);
        kvt_regex_close(&s->regex);
    }
    free(*n);
    *n = NULL;
}

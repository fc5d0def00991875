/* Options of methods: one table of names, and from it the parser, the canonical form and the messages.
 *
 * A method lists the names that mean something to it; the same name means the same thing everywhere. */
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "methods/methods.h"

enum kind { KIND_INT, KIND_BOOL, KIND_SEED, KIND_CHOICE, KIND_POOL, KIND_HALF, KIND_SHARE };

struct choice {
    const char *name;
    int value;
};

struct option {
    const char *name;
    enum kind kind;
    size_t at;                 /* offset in struct kvt_policy */
    int min, max;              /* KIND_INT, KIND_HALF */
    struct choice choice[4];   /* KIND_CHOICE */
    const char *values;        /* for people */
};

_Static_assert(sizeof(enum kvt_score) == sizeof(int) && sizeof(enum kvt_pool) == sizeof(int),
               "choices are stored as int");
#define AT(field) offsetof(struct kvt_policy, field)

enum { MOST_TOK = 1 << 24, TEXT = 64 };

#define INT(name, field, min, max, text) {name, KIND_INT, AT(field), min, max, {{0}}, text}
#define ODD(name, kind, field, text) {name, kind, AT(field), 0, MOST_TOK, {{0}}, text}
#define CHOICE(name, field, text, ...) {name, KIND_CHOICE, AT(field), 0, 0, {__VA_ARGS__}, text}

static const struct option options[] = {
    INT("w", window, 1, MOST_TOK, "rows of the observation window, 1 or more"),
    ODD("keep_window", KIND_BOOL, keep_window, "0 or 1"),
    CHOICE("rows", score, "all, window or last",
           {"all", KVT_SCORE_MASS}, {"window", KVT_SCORE_WMASS}, {"last", KVT_SCORE_LAST}),
    CHOICE("norm", visible_mean, "sum or visible", {"sum", 0}, {"visible", 1}),
    ODD("pool", KIND_POOL, pool, "none, avgN or maxN with N odd"),
    CHOICE("group", group, "mean, max or sum",
           {"mean", KVT_GROUP_MEAN}, {"max", KVT_GROUP_MAX}, {"sum", KVT_GROUP_SUM}),
    CHOICE("order", group_first, "pool-first or group-first", {"pool-first", 0}, {"group-first", 1}),
    CHOICE("heads", heads, "each or shared", {"each", KVT_HEADS_EACH}, {"shared", KVT_HEADS_SHARED}),
    INT("chunk", chunk_tok, 1, MOST_TOK, "tokens of a chunk, 1 or more"),
    CHOICE("count", chunk_count, "paper or kvpress", {"paper", KVT_COUNT_PAPER}, {"kvpress", KVT_COUNT_KVPRESS}),
    CHOICE("overflow", overflow, "stop or skip", {"stop", KVT_OVERFLOW_STOP}, {"skip", KVT_OVERFLOW_SKIP}),
    ODD("force", KIND_BOOL, force, "0 or 1"),
    CHOICE("scope", scope, "per_layer or all_layers",
           {"per_layer", KVT_SCOPE_PER_LAYER}, {"all_layers", KVT_SCOPE_ALL_LAYERS}),
    INT("beta", beta, 1, 1000000, "1 or more"),
    CHOICE("rule", rule, "exact, official or kvpress",
           {"exact", KVT_RULE_EXACT}, {"official", KVT_RULE_OFFICIAL}, {"kvpress", KVT_RULE_KVPRESS}),
    CHOICE("schedule", schedule, "prefill or step", {"prefill", KVT_SCHEDULE_PREFILL}, {"step", KVT_SCHEDULE_STEP}),
    INT("sinks", sinks, 0, MOST_TOK, "first tokens that stay, 0 or more"),
    ODD("recent", KIND_HALF, recent, "newest tokens that stay: a number, or half (of the budget)"),
    ODD("decode", KIND_SHARE, decode_share, "share of generated tokens kept, or same (as the prefill's)"),
    INT("decode_recent", decode_recent, 0, MOST_TOK, "newest generated tokens that stay, 0 or more"),
    ODD("seed", KIND_SEED, seed, "a whole number"),
    ODD("renumber", KIND_BOOL, renumber, "0 or 1"),
};
enum { N_OPTIONS = sizeof options / sizeof *options };

static const struct option *find(const char *name)
{
    for (int i = 0; i < N_OPTIONS; i++)
        if (!strcmp(options[i].name, name))
            return &options[i];
    return NULL;
}

/* The next word of a space-separated list into word (of TEXT bytes); NULL at its end. */
static const char *next_word(const char *list, char *word)
{
    list += strspn(list, " ");
    size_t len = strcspn(list, " ");
    if (!len)
        return NULL;
    assert(len < TEXT);
    memcpy(word, list, len);
    word[len] = 0;
    return list + len;
}

static bool takes(const struct kvt_method *m, const char *name)
{
    char word[TEXT];
    for (const char *p = m->options; (p = next_word(p, word));)
        if (!strcmp(word, name))
            return true;
    return false;
}

/* A whole number of plain digits, at most max; false if it's anything else. */
static bool whole(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    if (!*text)
        return false;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text))
            return false;
        unsigned d = (unsigned)(*text - '0');
        if (v > (max - d) / 10)
            return false;
        v = v * 10 + d;
    }
    *out = v;
    return true;
}

static bool set_pool(struct kvt_policy *p, const char *v, bool *even)
{
    uint64_t width = 0;
    if (!strcmp(v, "none")) {
        p->pool = KVT_POOL_NONE;
        p->pool_width = 0;
        return true;
    }
    if ((strncmp(v, "max", 3) && strncmp(v, "avg", 3)) || !whole(v + 3, 9999, &width) || !width)
        return false;
    *even = width % 2 == 0;
    p->pool = v[0] == 'm' ? KVT_POOL_MAX : KVT_POOL_AVG;
    p->pool_width = (int)width;
    return !*even;
}

static bool set(struct kvt_policy *p, const struct option *o, const char *v, bool *even)
{
    char *at = (char *)p + o->at;
    uint64_t u;
    switch (o->kind) {
    case KIND_HALF:
        if (!strcmp(v, "half")) {
            memcpy(at, &(int){-1}, sizeof(int));
            return true;
        } /* fall through */
    case KIND_INT:
        if (!whole(v, (uint64_t)o->max, &u) || u < (uint64_t)o->min)
            return false;
        memcpy(at, &(int){(int)u}, sizeof(int));
        return true;
    case KIND_SEED:
        if (!whole(v, UINT64_MAX, &u))
            return false;
        memcpy(at, &u, sizeof u);
        return true;
    case KIND_BOOL: {
        bool on = !strcmp(v, "1") || !strcmp(v, "yes") || !strcmp(v, "true") || !strcmp(v, "on");
        if (!on && strcmp(v, "0") && strcmp(v, "no") && strcmp(v, "false") && strcmp(v, "off"))
            return false;
        memcpy(at, &on, sizeof on);
        return true;
    }
    case KIND_CHOICE:
        for (int i = 0; i < 4 && o->choice[i].name; i++)
            if (!strcmp(v, o->choice[i].name)) {
                if (o->at == AT(visible_mean) || o->at == AT(group_first))
                    memcpy(at, &(bool){o->choice[i].value != 0}, sizeof(bool));
                else
                    memcpy(at, &o->choice[i].value, sizeof(int));
                return true;
            }
        return false;
    case KIND_POOL:
        return set_pool(p, v, even);
    case KIND_SHARE: {
        struct kvt_budget b;
        double share = -1;
        if (strcmp(v, "same")) {
            if (kvt_budget_parse(&b, v, false, NULL))
                return false;
            share = (double)b.keep_ppm / 1e6;
        }
        memcpy(at, &share, sizeof share);
        return true;
    }
    }
    return false;
}

static void print_value(const struct kvt_policy *p, const struct option *o, char *out, size_t len)
{
    const char *at = (const char *)p + o->at;
    int i = 0;
    bool b = false;
    if (o->kind == KIND_BOOL || o->at == AT(visible_mean) || o->at == AT(group_first)) {
        memcpy(&b, at, sizeof b);
        i = b;
    } else if (o->kind != KIND_SEED && o->kind != KIND_SHARE) {
        memcpy(&i, at, sizeof i);
    }
    switch (o->kind) {
    case KIND_BOOL:
    case KIND_INT:
        snprintf(out, len, "%d", i);
        break;
    case KIND_HALF:
        if (i < 0)
            snprintf(out, len, "half");
        else
            snprintf(out, len, "%d", i);
        break;
    case KIND_SEED: {
        uint64_t u;
        memcpy(&u, at, sizeof u);
        snprintf(out, len, "%llu", (unsigned long long)u);
        break;
    }
    case KIND_CHOICE:
        for (int k = 0; k < 4 && o->choice[k].name; k++)
            if (o->choice[k].value == i)
                snprintf(out, len, "%s", o->choice[k].name);
        break;
    case KIND_POOL:
        if (p->pool == KVT_POOL_NONE)
            snprintf(out, len, "none");
        else
            snprintf(out, len, "%s%d", p->pool == KVT_POOL_MAX ? "max" : "avg", p->pool_width);
        break;
    case KIND_SHARE:
        if (p->decode_share < 0)
            snprintf(out, len, "same");
        else
            snprintf(out, len, "%.6g", p->decode_share);
        break;
    }
}

void kvt_spec_canonical(struct kvt_spec *s)
{
    char word[TEXT], value[TEXT] = "";
    size_t n = (size_t)snprintf(s->canonical, sizeof s->canonical, "%s@%d[", s->method->name, s->method->version);
    const char *sep = "";
    for (const char *p = s->method->options; (p = next_word(p, word)) && n < sizeof s->canonical; sep = ",") {
        print_value(&s->policy, find(word), value, sizeof value);
        n += (size_t)snprintf(s->canonical + n, sizeof s->canonical - n, "%s%s=%s", sep, word, value);
    }
    assert(n + 1 < sizeof s->canonical && "a method has more options than its canonical form has room");
    memcpy(s->canonical + n, "]", 2);
}

/* The options of a method as "w, pool, group". */
static void list_options(const struct kvt_method *m, char *out, size_t len)
{
    char word[TEXT];
    size_t n = 0;
    out[0] = 0;
    for (const char *p = m->options; (p = next_word(p, word)) && n < len;)
        n += (size_t)snprintf(out + n, len - n, "%s%s", n ? ", " : "", word);
}

static int unknown_option(const struct kvt_method *m, const char *name, struct kvt_err *err)
{
    char word[N_OPTIONS][TEXT], list[256];
    const char *known[N_OPTIONS];
    int n = 0;
    for (const char *p = m->options; n < N_OPTIONS && (p = next_word(p, word[n]));) {
        known[n] = word[n];
        n++;
    }
    list_options(m, list, sizeof list);
    const char *near = kvt_nearest(name, known, n);
    return kvt_fail(err, KVT_EUSAGE, "%s has no option '%.40s'%s%s%s; its options: %s", m->name, name,
                    near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "", list);
}

static int unknown_method(const char *name, struct kvt_err *err)
{
    char list[256];
    const char *known[32];
    int count;
    const struct kvt_method *const *all = kvt_methods(&count);
    size_t n = 0;
    list[0] = 0;
    for (int i = 0; i < count && n < sizeof list; i++) {
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", all[i]->name);
        known[i] = all[i]->name;
    }
    const char *near = kvt_nearest(name, known, count);
    return kvt_fail(err, KVT_EUSAGE, "unknown method '%.40s'%s%s%s; methods: %s", name, near ? ": did you mean '" : "",
                    near ? near : "", near ? "'?" : "", list);
}

/* text[0 .. bytes) without spaces at its ends into out; false where it doesn't fit. */
static bool trimmed(char *out, size_t cap, const char *text, size_t bytes)
{
    while (bytes && isspace((unsigned char)text[0])) {
        text++;
        bytes--;
    }
    while (bytes && isspace((unsigned char)text[bytes - 1]))
        bytes--;
    if (bytes >= cap || memchr(text, 0, bytes))
        return false;
    memcpy(out, text, bytes);
    out[bytes] = 0;
    return true;
}

static int parse_option(struct kvt_spec *s, const char *text, size_t bytes, struct kvt_err *err)
{
    char name[TEXT], value[TEXT];
    const char *eq = memchr(text, '=', bytes);
    if (!eq)
        return kvt_fail(err, KVT_EUSAGE, "%s: option '%.*s' has no value; write name=value", s->method->name,
                        (int)bytes, text);
    if (!trimmed(name, sizeof name, text, (size_t)(eq - text)) ||
        !trimmed(value, sizeof value, eq + 1, bytes - (size_t)(eq + 1 - text)))
        return kvt_fail(err, KVT_EUSAGE, "%s: option '%.40s' is longer than any that exists", s->method->name, text);
    if (!takes(s->method, name))
        return unknown_option(s->method, name, err);
    const struct option *o = find(name);
    assert(o && "a method lists an option that options.c doesn't have");
    bool even = false;
    if (set(&s->policy, o, value, &even))
        return 0;
    if (even)
        return kvt_fail(err, KVT_EUSAGE,
                        "%s: pool=%s: an even width has no middle and gives a longer row; use %.3s%d or %.3s%d",
                        s->method->name, value, value, s->policy.pool_width - 1, value, s->policy.pool_width + 1);
    return kvt_fail(err, KVT_EUSAGE, "%s: %s='%s' can't be used; it takes %s", s->method->name, name, value, o->values);
}

int kvt_spec_parse(struct kvt_spec *out, const char *text, size_t bytes, struct kvt_err *err)
{
    char name[TEXT];
    const char *open = memchr(text, '[', bytes), *end = text + bytes;
    while (end > text && isspace((unsigned char)end[-1]))
        end--;
    if (!trimmed(name, sizeof name, text, open ? (size_t)(open - text) : bytes))
        return kvt_fail(err, KVT_EUSAGE, "method name '%.40s...' is longer than any that exists", text);
    if (!*name)
        return kvt_fail(err, KVT_EUSAGE, "a method has no name");
    struct kvt_spec s = {.method = kvt_method_find(name)};
    if (!s.method)
        return unknown_method(name, err);
    s.policy = s.method->defaults;
    if (open) {
        const char *p = open + 1;
        if (end <= p || end[-1] != ']' || memchr(p, ']', (size_t)(end - 1 - p)) || memchr(p, '[', (size_t)(end - p)))
            return kvt_fail(err, KVT_EUSAGE, "%s: brackets don't match in '%.*s'; write %s[option=value,option=value]",
                            name, (int)(bytes < 80 ? bytes : 80), text, name);
        end--;
        while (p < end) {
            const char *comma = memchr(p, ',', (size_t)(end - p));
            const char *stop = comma ? comma : end;
            int rc = parse_option(&s, p, (size_t)(stop - p), err);
            if (rc)
                return rc;
            p = comma ? comma + 1 : end;
        }
    }
    if (s.policy.visible_mean && s.policy.score != KVT_SCORE_MASS)
        return kvt_fail(err, KVT_EUSAGE, "%s: norm=visible is about the rows that could see a token; it needs rows=all",
                        name);
    kvt_spec_canonical(&s);
    *out = s;
    return 0;
}

int kvt_spec_parse_list(struct kvt_spec **out, int *count, const char *text, struct kvt_err *err)
{
    size_t len = strlen(text), parts = 1;
    for (size_t i = 0; i < len; i++)
        parts += text[i] == ',';
    struct kvt_spec *spec = calloc(parts, sizeof *spec);
    if (!spec)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %zu methods", parts);
    int n = 0, depth = 0;
    for (size_t i = 0, start = 0; i <= len; i++) {
        depth += i < len ? (text[i] == '[') - (text[i] == ']') : 0;
        if (i < len && (text[i] != ',' || depth > 0))
            continue;
        int rc = kvt_spec_parse(&spec[n], text + start, i - start, err);
        if (rc) {
            free(spec);
            return rc;
        }
        n++;
        start = i + 1;
    }
    *out = spec;
    *count = n;
    return 0;
}

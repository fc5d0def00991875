/* Options of methods: one table of names, and from it the parser, the canonical form and the messages.
 *
 * A method lists the names that mean something to it; the same name means the same thing everywhere. */
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "kvt/prompt.h"
#include "methods/methods.h"

enum kind { KIND_INT, KIND_BOOL, KIND_SEED, KIND_CHOICE, KIND_POOL, KIND_HALF, KIND_SHARE, KIND_PPM, KIND_PATH,
            KIND_PROTECT };

struct choice {
    const char *name;
    int value;
    bool unbuilt;              /* named, so that nobody takes it for a typing mistake, and refused */
};

struct option {
    const char *name;
    enum kind kind;
    size_t at;                 /* offset in struct kvt_policy */
    int min, max;              /* KIND_INT, KIND_HALF */
    struct choice choice[18];  /* KIND_CHOICE */
    const char *values;        /* for people */
    bool unbuilt;              /* anything but its default is refused */
    bool other_name;           /* of a field that another option prints where all are taken */
};

_Static_assert(sizeof(enum kvt_score) == sizeof(int) && sizeof(enum kvt_pool) == sizeof(int),
               "choices are stored as int");
#define AT(field) offsetof(struct kvt_policy, field)

enum { MOST_TOK = 1 << 24, TEXT = 320, MOST_CHOICES = 18 };

#define INT(name, field, min, max, text) {name, KIND_INT, AT(field), min, max, {{0}}, text, false, false}
#define SOON(name, kind, field, min, max, text) {name, kind, AT(field), min, max, {{0}}, text, true, false}
#define ODD(name, kind, field, text) {name, kind, AT(field), 0, MOST_TOK, {{0}}, text, false, false}
#define ALIAS(name, kind, field, text) {name, kind, AT(field), 0, MOST_TOK, {{0}}, text, false, true}
#define CHOICE(name, field, text, ...) {name, KIND_CHOICE, AT(field), 0, 0, {__VA_ARGS__}, text, false, false}

/* In the order in which a composition by hand is printed. */
static const struct option options[] = {
    CHOICE("score", score,
           "random, recency, mass, wmass, last, sqmass, sqwmass, max, later, knorm, keydiff, lagkv, expected, kvzip, "
           "file or oracle",
           {"none", KVT_SCORE_NONE, false}, {"random", KVT_SCORE_RANDOM, false}, {"recency", KVT_SCORE_RECENCY, false},
           {"mass", KVT_SCORE_MASS, false}, {"wmass", KVT_SCORE_WMASS, false}, {"last", KVT_SCORE_LAST, false},
           {"sqmass", KVT_SCORE_SQMASS, true}, {"sqwmass", KVT_SCORE_SQWMASS, true}, {"max", KVT_SCORE_MAX, true},
           {"later", KVT_SCORE_LATER, true}, {"knorm", KVT_SCORE_KNORM, true}, {"keydiff", KVT_SCORE_KEYDIFF, true},
           {"lagkv", KVT_SCORE_LAGKV, true}, {"expected", KVT_SCORE_EXPECTED, true}, {"kvzip", KVT_SCORE_KVZIP, true},
           {"file", KVT_SCORE_FILE, true}, {"oracle", KVT_SCORE_ORACLE, true}),
    INT("w", window, 1, MOST_TOK, "rows of the observation window, 1 or more"),
    ALIAS("keep_window", KIND_BOOL, keep_window, "0 or 1"),
    {"rows", KIND_CHOICE, AT(score), 0, 0,
     {{"all", KVT_SCORE_MASS, false}, {"window", KVT_SCORE_WMASS, false}, {"last", KVT_SCORE_LAST, false},
      {"later", KVT_SCORE_LATER, true}, {"none", KVT_SCORE_RANDOM, true}}, "all, window, last or later", false, true},
    CHOICE("norm", visible_mean, "sum or visible", {"sum", 0, false}, {"visible", 1, false}),
    ODD("pool", KIND_POOL, pool, "none, avgN or maxN with N odd"),
    CHOICE("group", group, "mean, max or sum",
           {"mean", KVT_GROUP_MEAN, false}, {"max", KVT_GROUP_MAX, false}, {"sum", KVT_GROUP_SUM, false}),
    CHOICE("order", group_first, "pool-first or group-first", {"pool-first", 0, false}, {"group-first", 1, false}),
    SOON("v", KIND_INT, distance, 0, MOST_TOK, "rows after a slot whose squares don't count, 0 or more"),
    SOON("lag", KIND_INT, lag, 1, MOST_TOK, "tokens of a partition, 1 or more"),
    SOON("ahead", KIND_INT, ahead, 1, MOST_TOK, "future positions, 1 or more"),
    SOON("vnorm", KIND_BOOL, vnorm, 0, 0, "0 or 1"),
    SOON("repeat", KIND_INT, repeat, 1, MOST_TOK, "tokens repeated at a time, 1 or more"),
    SOON("critical", KIND_PPM, critical_ppm, 0, 0, "share of the budget chosen by the score alone, 0 for no second stage"),
    SOON("path", KIND_PATH, path, 0, 0, "a file"),
    CHOICE("heads", heads, "each or shared", {"each", KVT_HEADS_EACH, false}, {"shared", KVT_HEADS_SHARED, false}),
    CHOICE("unit", unit, "token, chunk, page, shot or sentence",
           {"token", KVT_UNIT_TOKEN, false}, {"chunk", KVT_UNIT_CHUNK, false}, {"page", KVT_UNIT_PAGE, true},
           {"shot", KVT_UNIT_SHOT, false}, {"sentence", KVT_UNIT_SENTENCE, true}),
    CHOICE("reduce", unit_reduce, "mean, sum or max",
           {"mean", KVT_REDUCE_MEAN, false}, {"sum", KVT_REDUCE_SUM, false}, {"max", KVT_REDUCE_MAX, false}),
    INT("chunk", chunk_tok, 1, MOST_TOK, "tokens of a chunk, 1 or more"),
    CHOICE("count", chunk_count, "paper or kvpress",
           {"paper", KVT_COUNT_PAPER, false}, {"kvpress", KVT_COUNT_KVPRESS, false}),
    CHOICE("overflow", overflow, "stop, skip or knapsack", {"stop", KVT_OVERFLOW_STOP, false},
           {"skip", KVT_OVERFLOW_SKIP, false}, {"knapsack", KVT_OVERFLOW_KNAPSACK, true}),
    ODD("force", KIND_BOOL, force, "0 or 1"),
    CHOICE("scope", scope, "per_layer or all_layers",
           {"per_layer", KVT_SCOPE_PER_LAYER, false}, {"all_layers", KVT_SCOPE_ALL_LAYERS, false}),
    SOON("within", KIND_INT, within, 0, MOST_TOK, "tokens of a stretch that keeps its own share, 0 for the whole context"),
    CHOICE("alloc", alloc, "uniform, pyramid, head, pyramid+head, global or class",
           {"uniform", KVT_ALLOC_UNIFORM, false}, {"pyramid", KVT_ALLOC_PYRAMID, false},
           {"head", KVT_ALLOC_HEAD, true}, {"pyramid+head", KVT_ALLOC_PYRAMID_HEAD, true},
           {"global", KVT_ALLOC_GLOBAL, true}, {"class", KVT_ALLOC_CLASS, true}),
    INT("beta", beta, 1, 1000000, "1 or more"),
    CHOICE("rule", rule, "exact, official or kvpress",
           {"exact", KVT_RULE_EXACT, false}, {"official", KVT_RULE_OFFICIAL, false},
           {"kvpress", KVT_RULE_KVPRESS, false}),
    CHOICE("head_rule", head_rule, "blend or safeguard",
           {"blend", KVT_HEAD_BLEND, false}, {"safeguard", KVT_HEAD_SAFEGUARD, false}),
    SOON("alpha", KIND_PPM, alpha_ppm, 0, 0, "share of a head's budget that is its own, from 0 to 1"),
    SOON("class", KIND_PPM, class_ppm, 0, 0, "share of the heads that keep everything, from 0 to 1"),
    SOON("skip", KIND_INT, skip, 0, MOST_TOK, "first layers that keep everything, 0 or more"),
    SOON("reuse", KIND_INT, reuse, 1, MOST_TOK, "layers that share a choice, 1 or more"),
    CHOICE("schedule", schedule, "prefill, step or every", {"prefill", KVT_SCHEDULE_PREFILL, false},
           {"step", KVT_SCHEDULE_STEP, false}, {"every", KVT_SCHEDULE_EVERY, true}),
    SOON("every", KIND_INT, every, 1, MOST_TOK, "tokens between two evictions, 1 or more"),
    SOON("prefill_chunk", KIND_INT, prefill_chunk, 0, MOST_TOK, "tokens of the prefill between two evictions, 0 for its end"),
    CHOICE("leaves", leaver, "worst or contest", {"worst", KVT_LEAVES_WORST, false}, {"contest", KVT_LEAVES_CONTEST, true}),
    SOON("block", KIND_INT, block, 1, MOST_TOK, "tokens of a block, 1 or more"),
    SOON("prefill", KIND_SHARE, prefill_share, 0, 0, "share of the context kept, or same (as the budget's)"),
    ODD("decode", KIND_SHARE, decode_share, "share of generated tokens kept, or same (as the prefill's)"),
    SOON("decode_floor", KIND_INT, decode_floor, 0, MOST_TOK, "generated tokens that stay at least, 0 or more"),
    INT("decode_recent", decode_recent, 0, MOST_TOK, "newest generated tokens that stay, 0 or more"),
    ALIAS("sinks", KIND_INT, sinks, "first tokens that stay, 0 or more"),
    ALIAS("recent", KIND_HALF, recent, "newest tokens that stay: a number, or half (of the budget)"),
    ODD("protect", KIND_PROTECT, sinks, "none, or some of sinkN, recentN, recenthalf, window, question, system, questions, rationales, answers, numbers, "
        "operators, delimiters, joined by +"),
    ODD("seed", KIND_SEED, seed, "a whole number"),
    ODD("renumber", KIND_BOOL, renumber, "0 or 1"),
    CHOICE("after", after, "drop, merge, quantise or channels", {"drop", KVT_AFTER_DROP, false},
           {"merge", KVT_AFTER_MERGE, true}, {"quantise", KVT_AFTER_QUANTISE, true},
           {"channels", KVT_AFTER_CHANNELS, true}),
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

static bool takes_all(const struct kvt_method *m) { return !strcmp(m->options, "*"); }

static bool takes(const struct kvt_method *m, const char *name)
{
    char word[TEXT];
    if (takes_all(m))
        return find(name) != NULL;
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

/* "0", "0.2", "20%", "1": millionths from 0 to 1. */
static bool set_ppm(const char *v, int *out)
{
    struct kvt_budget b;
    bool zero = *v && strspn(v, "0.%") == strlen(v) && strchr(v, '0');
    if (!zero && kvt_budget_parse(&b, v, false, NULL))
        return false;
    *out = zero ? 0 : (int)b.keep_ppm;
    return true;
}

/* Kinds of text by the name that `protect` gives them. */
static const struct {
    const char *name;
    enum kvt_span_kind kind;
} spans[] = {
    {"question", KVT_SPAN_PROMPT}, {"system", KVT_SPAN_SYSTEM}, {"questions", KVT_SPAN_QUESTION},
    {"rationales", KVT_SPAN_RATIONALE}, {"answers", KVT_SPAN_ANSWER}, {"numbers", KVT_SPAN_NUMBER},
    {"operators", KVT_SPAN_OPERATOR}, {"delimiters", KVT_SPAN_DELIMITER},
};
enum { N_SPANS = sizeof spans / sizeof *spans };

static bool set_span(struct kvt_policy *p, const char *name)
{
    for (int i = 0; i < N_SPANS; i++)
        if (!strcmp(spans[i].name, name)) {
            p->spans |= 1 << spans[i].kind;
            return true;
        }
    return false;
}

/* "sink4+recent32+window": what isn't named isn't protected. */
static bool set_protect(struct kvt_policy *p, const char *v)
{
    uint64_t u;
    p->sinks = p->recent = p->spans = 0;
    p->keep_window = false;
    if (!strcmp(v, "none"))
        return true;
    for (const char *next; v; v = next ? next + 1 : NULL) {
        char term[TEXT];
        next = strchr(v, '+');
        snprintf(term, sizeof term, "%.*s", next ? (int)(next - v) : (int)strlen(v), v);
        if (!strcmp(term, "window"))
            p->keep_window = true;
        else if (!strcmp(term, "recenthalf"))
            p->recent = -1;
        else if (!strncmp(term, "sink", 4) && whole(term + 4, MOST_TOK, &u))
            p->sinks = (int)u;
        else if (!strncmp(term, "recent", 6) && whole(term + 6, MOST_TOK, &u))
            p->recent = (int)u;
        else if (!set_span(p, term))
            return false;
    }
    return true;
}

static void print_protect(const struct kvt_policy *p, char *out, size_t len)
{
    size_t n = 0;
    out[0] = 0;
    if (p->sinks)
        n += (size_t)snprintf(out + n, len - n, "+sink%d", p->sinks);
    if (p->recent < 0)
        n += (size_t)snprintf(out + n, len - n, "+recenthalf");
    else if (p->recent)
        n += (size_t)snprintf(out + n, len - n, "+recent%d", p->recent);
    if (p->keep_window)
        n += (size_t)snprintf(out + n, len - n, "+window");
    for (int i = 0; i < N_SPANS; i++)
        if (p->spans & 1 << spans[i].kind)
            n += (size_t)snprintf(out + n, len - n, "+%s", spans[i].name);
    if (n)
        memmove(out, out + 1, n);
    else
        snprintf(out, len, "none");
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
        for (int i = 0; i < MOST_CHOICES && o->choice[i].name; i++)
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
        bool own = o->at == AT(decode_share);
        if (own)
            p->decode_share_set = strcmp(v, "none") != 0;
        if (strcmp(v, "same") && !(own && !strcmp(v, "none"))) {
            if (kvt_budget_parse(&b, v, false, NULL))
                return false;
            share = (double)b.keep_ppm / 1e6;
        }
        memcpy(at, &share, sizeof share);
        return true;
    }
    case KIND_PPM: {
        int ppm;
        if (!set_ppm(v, &ppm))
            return false;
        memcpy(at, &ppm, sizeof ppm);
        return true;
    }
    case KIND_PATH:
        if (!*v || strlen(v) >= sizeof p->path)
            return false;
        memcpy(p->path, v, strlen(v) + 1);
        return true;
    case KIND_PROTECT:
        return set_protect(p, v);
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
    } else if (o->kind == KIND_INT || o->kind == KIND_HALF || o->kind == KIND_CHOICE || o->kind == KIND_PPM) {
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
        for (int k = 0; k < MOST_CHOICES && o->choice[k].name; k++)
            if (o->choice[k].value == i)
                snprintf(out, len, "%s", o->choice[k].name);
        break;
    case KIND_POOL:
        if (p->pool == KVT_POOL_NONE)
            snprintf(out, len, "none");
        else
            snprintf(out, len, "%s%d", p->pool == KVT_POOL_MAX ? "max" : "avg", p->pool_width);
        break;
    case KIND_SHARE: {
        double share;
        memcpy(&share, at, sizeof share);
        if (o->at == AT(decode_share) && !p->decode_share_set)
            snprintf(out, len, "none");
        else if (share <= 0)
            snprintf(out, len, "same");
        else
            snprintf(out, len, "%.6g", share);
        break;
    }
    case KIND_PPM:
        snprintf(out, len, "%.6g", i / 1e6);
        break;
    case KIND_PATH:
        snprintf(out, len, "%s", p->path);
        break;
    case KIND_PROTECT:
        print_protect(p, out, len);
        break;
    }
}

/* Of a composition by hand, what is printed whatever it is. */
static bool always(const char *name)
{
    static const char *const dimension[] = {"score", "unit", "alloc", "schedule", "protect", "renumber", "after"};
    for (size_t i = 0; i < sizeof dimension / sizeof *dimension; i++)
        if (!strcmp(dimension[i], name))
            return true;
    return false;
}

/* Appends "w=32"; n may pass the end, which kvt_spec_canonical asserts it doesn't. */
static size_t print_option(const struct kvt_spec *s, const struct option *o, char *out, size_t len, const char *sep)
{
    char value[TEXT] = "";
    print_value(&s->policy, o, value, sizeof value);
    return (size_t)snprintf(out, len, "%s%s=%s", sep, o->name, value);
}

void kvt_spec_canonical(struct kvt_spec *s)
{
    char word[TEXT], *out = s->canonical;
    size_t cap = sizeof s->canonical, n = (size_t)snprintf(out, cap, "%s@%d[", s->method->name, s->method->version);
    const char *sep = "";
    if (takes_all(s->method)) { /* every dimension, and what differs from the defaults of this version */
        for (int i = 0; i < N_OPTIONS && n < cap; i++) {
            char is[TEXT] = "", was[TEXT] = "";
            print_value(&s->policy, &options[i], is, sizeof is);
            print_value(&s->method->defaults, &options[i], was, sizeof was);
            if (options[i].other_name || (!always(options[i].name) && !strcmp(is, was)))
                continue;
            n += print_option(s, &options[i], out + n, cap - n, sep);
            sep = ",";
        }
    } else {
        for (const char *p = s->method->options; (p = next_word(p, word)) && n < cap; sep = ",")
            n += print_option(s, find(word), out + n, cap - n, sep);
    }
    assert(n + 1 < cap && "a method has more options than its canonical form has room");
    memcpy(out + n, "]", 2);
}

/* The options of a method as "w, pool, group". */
static void list_options(const struct kvt_method *m, char *out, size_t len)
{
    char word[TEXT];
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; takes_all(m) && i < N_OPTIONS && n < len; i++)
        if (!options[i].other_name)
            n += (size_t)snprintf(out + n, len - n, "%s%s", n ? ", " : "", options[i].name);
    for (const char *p = m->options; !takes_all(m) && (p = next_word(p, word)) && n < len;)
        n += (size_t)snprintf(out + n, len - n, "%s%s", n ? ", " : "", word);
}

static int unknown_option(const struct kvt_method *m, const char *name, struct kvt_err *err)
{
    char list[384];
    const char *known[N_OPTIONS];
    int n = 0;
    for (int i = 0; i < N_OPTIONS; i++)
        if (takes(m, options[i].name))
            known[n++] = options[i].name;
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

/* Whether what an option was set to exists; an option that isn't built may be set to what it was. */
static bool built(const struct kvt_policy *before, const struct kvt_policy *now, const struct option *o)
{
    int value;
    char was[TEXT] = "", is[TEXT] = "";
    print_value(before, o, was, sizeof was);
    print_value(now, o, is, sizeof is);
    if (o->unbuilt)
        return !strcmp(was, is);
    if (o->kind == KIND_PROTECT)
        return !now->spans;
    if (o->kind != KIND_CHOICE || o->at == AT(visible_mean) || o->at == AT(group_first))
        return true;
    memcpy(&value, (const char *)now + o->at, sizeof value);
    for (int i = 0; i < MOST_CHOICES && o->choice[i].name; i++)
        if (o->choice[i].value == value)
            return !o->choice[i].unbuilt;
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
    struct kvt_policy before = s->policy;
    if (set(&s->policy, o, value, &even)) {
        if (built(&before, &s->policy, o))
            return 0;
        return kvt_fail(err, KVT_EUSAGE, "%s: %s=%s is a name that is reserved and not built; leave it out",
                        s->method->name, name, value);
    }
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
    if (takes_all(s.method) && s.policy.score == KVT_SCORE_NONE)
        return kvt_fail(err, KVT_EUSAGE, "%s: say what a slot is worth: %s[score=...], of %s", name, name,
                        options[0].values);
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

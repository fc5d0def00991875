/* Options of methods: one table of names, and from it the parser, the canonical form and the messages; values.c knows
 * what a value looks like.
 *
 * A method lists the names that mean something to it; the same name means the same thing everywhere. */
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "methods/methods.h"
#include "methods/option.h"

_Static_assert(sizeof(enum kvt_score) == sizeof(int) && sizeof(enum kvt_pool) == sizeof(int),
               "choices are stored as int");
#define AT(field) offsetof(struct kvt_policy, field)

enum { MOST_TOK = KVT_MOST_TOK, TEXT = KVT_OPTION_TEXT, MOST_CHOICES = KVT_MOST_CHOICES };

#define INT(name, field, min, max, text) {name, KIND_INT, AT(field), min, max, {{0}}, text, false, false}
#define SOON(name, kind, field, min, max, text) {name, kind, AT(field), min, max, {{0}}, text, true, false}
#define ODD(name, kind, field, text) {name, kind, AT(field), 0, MOST_TOK, {{0}}, text, false, false}
#define ALIAS(name, kind, field, text) {name, kind, AT(field), 0, MOST_TOK, {{0}}, text, false, true}
#define CHOICE(name, field, text, ...) {name, KIND_CHOICE, AT(field), 0, 0, {__VA_ARGS__}, text, false, false}

/* In the order in which a composition by hand is printed. */
static const struct kvt_option options[] = {
    CHOICE("score", score,
           "random, recency, mass, wmass, last, sqmass, sqwmass, finch, max, later, knorm, keydiff, lagkv, expected, kvzip, "
           "file or oracle",
           {"none", KVT_SCORE_NONE, false}, {"random", KVT_SCORE_RANDOM, false}, {"recency", KVT_SCORE_RECENCY, false},
           {"mass", KVT_SCORE_MASS, false}, {"wmass", KVT_SCORE_WMASS, false}, {"last", KVT_SCORE_LAST, false},
           {"sqmass", KVT_SCORE_SQMASS, false}, {"sqwmass", KVT_SCORE_SQWMASS, false},
           {"finch", KVT_SCORE_FINCH, false}, {"max", KVT_SCORE_MAX, false},
           {"later", KVT_SCORE_LATER, false}, {"knorm", KVT_SCORE_KNORM, false}, {"keydiff", KVT_SCORE_KEYDIFF, false},
           {"lagkv", KVT_SCORE_LAGKV, false}, {"expected", KVT_SCORE_EXPECTED, false}, {"kvzip", KVT_SCORE_KVZIP, false},
           {"file", KVT_SCORE_FILE, false}, {"oracle", KVT_SCORE_ORACLE, false}),
    {"w", KIND_WINDOW, AT(window), 1, MOST_TOK, {{0}}, "rows of the observation window, 1 or more, or question (as many as it has tokens)", false, false},
    ALIAS("keep_window", KIND_BOOL, keep_window, "0 or 1"),
    {"rows", KIND_CHOICE, AT(score), 0, 0,
     {{"all", KVT_SCORE_MASS, false}, {"window", KVT_SCORE_WMASS, false}, {"last", KVT_SCORE_LAST, false},
      {"later", KVT_SCORE_LATER, false}, {"none", KVT_SCORE_RANDOM, true}}, "all, window, last or later", false, true},
    {"power", KIND_CHOICE, AT(score), 0, 0, {{"1", KVT_SCORE_MASS, false}, {"2", KVT_SCORE_SQMASS, false}},
     "1 (attention) or 2 (its square)", false, true},
    CHOICE("norm", visible_mean, "sum or visible", {"sum", 0, false}, {"visible", 1, false}),
    ODD("pool", KIND_POOL, pool, "none, avgN or maxN with N odd"),
    CHOICE("group", group, "mean, max or sum",
           {"mean", KVT_GROUP_MEAN, false}, {"max", KVT_GROUP_MAX, false}, {"sum", KVT_GROUP_SUM, false}),
    CHOICE("order", group_first, "pool-first or group-first", {"pool-first", 0, false}, {"group-first", 1, false}),
    INT("v", distance, 0, MOST_TOK, "rows after a slot whose squares don't count, 0 or more"),
    INT("lag", lag, 1, MOST_TOK, "tokens of a partition, 1 or more"),
    INT("ahead", ahead, 0, MOST_TOK, "future positions; oracle: generated tokens whose rows count, 0 for all"),
    ODD("nosinks", KIND_BOOL, sinkless, "0 or 1"),
    ODD("vnorm", KIND_BOOL, vnorm, "0 or 1"),
    INT("repeat", repeat, 1, MOST_TOK, "tokens repeated at a time, 1 or more"),
    ODD("critical", KIND_PPM, critical_ppm, "share of the budget chosen by the score alone, 0 for no second stage"),
    ODD("path", KIND_PATH, path, "a file"),
    CHOICE("heads", heads, "each or shared", {"each", KVT_HEADS_EACH, false}, {"shared", KVT_HEADS_SHARED, false}),
    CHOICE("unit", unit, "token, chunk, page, shot or sentence",
           {"token", KVT_UNIT_TOKEN, false}, {"chunk", KVT_UNIT_CHUNK, false}, {"page", KVT_UNIT_PAGE, false},
           {"shot", KVT_UNIT_SHOT, false}, {"sentence", KVT_UNIT_SENTENCE, false}),
    CHOICE("reduce", unit_reduce, "mean, sum or max",
           {"mean", KVT_REDUCE_MEAN, false}, {"sum", KVT_REDUCE_SUM, false}, {"max", KVT_REDUCE_MAX, false}),
    INT("chunk", chunk_tok, 1, MOST_TOK, "tokens of a chunk, 1 or more"),
    CHOICE("count", chunk_count, "paper or kvpress",
           {"paper", KVT_COUNT_PAPER, false}, {"kvpress", KVT_COUNT_KVPRESS, false}),
    CHOICE("overflow", overflow, "stop, skip or knapsack", {"stop", KVT_OVERFLOW_STOP, false},
           {"skip", KVT_OVERFLOW_SKIP, false}, {"knapsack", KVT_OVERFLOW_KNAPSACK, false}),
    ODD("force", KIND_BOOL, force, "0 or 1"),
    CHOICE("scope", scope, "per_layer or all_layers",
           {"per_layer", KVT_SCOPE_PER_LAYER, false}, {"all_layers", KVT_SCOPE_ALL_LAYERS, false}),
    INT("within", within, 0, MOST_TOK, "tokens of a stretch that keeps its own share, 0 for the whole context"),
    CHOICE("alloc", alloc, "uniform, pyramid, head, pyramid+head, global or class",
           {"uniform", KVT_ALLOC_UNIFORM, false}, {"pyramid", KVT_ALLOC_PYRAMID, false},
           {"head", KVT_ALLOC_HEAD, false}, {"pyramid+head", KVT_ALLOC_PYRAMID_HEAD, false},
           {"global", KVT_ALLOC_GLOBAL, false}, {"class", KVT_ALLOC_CLASS, false}),
    INT("beta", beta, 1, 1000000, "1 or more"),
    CHOICE("rule", rule, "exact, official or kvpress",
           {"exact", KVT_RULE_EXACT, false}, {"official", KVT_RULE_OFFICIAL, false},
           {"kvpress", KVT_RULE_KVPRESS, false}),
    CHOICE("head_rule", head_rule, "blend, official or safeguard", {"blend", KVT_HEAD_BLEND, false},
           {"official", KVT_HEAD_OFFICIAL, false}, {"safeguard", KVT_HEAD_SAFEGUARD, false}),
    ODD("alpha", KIND_PPM, alpha_ppm, "share of a head's budget that is its own, from 0 to 1"),
    ODD("class", KIND_PPM, class_ppm, "share of the heads that keep everything, from 0 to 1"),
    INT("skip", skip, 0, MOST_TOK, "first layers that keep everything, 0 or more"),
    INT("reuse", reuse, 1, MOST_TOK, "layers that share a choice, 1 or more"),
    CHOICE("schedule", schedule, "prefill, step or every", {"prefill", KVT_SCHEDULE_PREFILL, false},
           {"step", KVT_SCHEDULE_STEP, false}, {"every", KVT_SCHEDULE_EVERY, false}),
    INT("every", every, 1, MOST_TOK, "tokens between two evictions, 1 or more"),
    INT("prefill_chunk", prefill_chunk, 0, MOST_TOK, "tokens of the prefill between two evictions, 0 for its end"),
    CHOICE("leaves", leaver, "worst or contest", {"worst", KVT_LEAVES_WORST, false}, {"contest", KVT_LEAVES_CONTEST, false}),
    ODD("prefill", KIND_SHARE, prefill_share, "share of the context kept, or same (as the budget's)"),
    ODD("decode", KIND_SHARE, decode_share, "share of generated tokens kept, or same (as the prefill's)"),
    INT("decode_floor", decode_floor, 0, MOST_TOK, "generated tokens that stay at least, 0 or more"),
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
_Static_assert(N_OPTIONS <= 64, "options that were given are bits of a word");

static const struct kvt_option *find(const char *name)
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
static size_t print_option(const struct kvt_spec *s, const struct kvt_option *o, char *out, size_t len, const char *sep)
{
    char value[TEXT] = "";
    kvt_option_print(&s->policy, o, value, sizeof value);
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
            kvt_option_print(&s->policy, &options[i], is, sizeof is);
            kvt_option_print(&s->method->defaults, &options[i], was, sizeof was);
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

static int unknown_method(const char *name, const struct kvt_method_list *more, struct kvt_err *err)
{
    char list[512];
    const char *known[64];
    int count, most = (int)(sizeof known / sizeof *known);
    const struct kvt_method *const *all = kvt_methods(&count);
    int total = count + (more ? more->n : 0);
    size_t n = 0;
    list[0] = 0;
    total = total < most ? total : most;
    for (int i = 0; i < total && n < sizeof list; i++) {
        known[i] = i < count ? all[i]->name : more->method[i - count]->name;
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", known[i]);
    }
    const char *near = kvt_nearest(name, known, total);
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
static bool built(const struct kvt_policy *before, const struct kvt_policy *now, const struct kvt_option *o)
{
    int value;
    char was[TEXT] = "", is[TEXT] = "";
    kvt_option_print(before, o, was, sizeof was);
    kvt_option_print(now, o, is, sizeof is);
    if (o->unbuilt)
        return !strcmp(was, is);
    if (o->kind != KIND_CHOICE || o->at == AT(visible_mean) || o->at == AT(group_first))
        return true;
    memcpy(&value, (const char *)now + o->at, sizeof value);
    for (int i = 0; i < MOST_CHOICES && o->choice[i].name; i++)
        if (o->choice[i].value == value)
            return !o->choice[i].unbuilt;
    return true;
}

/* given: a bit for each option that was named. */
static int parse_option(struct kvt_spec *s, const char *text, size_t bytes, uint64_t *given, struct kvt_err *err)
{
    char name[TEXT], value[TEXT];
    const char *eq = memchr(text, '=', bytes);
    if (!eq && s->method->defaults.score == KVT_SCORE_FILE && trimmed(value, sizeof value, text, bytes) &&
        kvt_option_set(&s->policy, find("path"), value, &(bool){false}))
        return 0; /* file[scores.h5] */
    if (!eq)
        return kvt_fail(err, KVT_EUSAGE, "%s: option '%.*s' has no value; write name=value", s->method->name,
                        (int)bytes, text);
    if (!trimmed(name, sizeof name, text, (size_t)(eq - text)) ||
        !trimmed(value, sizeof value, eq + 1, bytes - (size_t)(eq + 1 - text)))
        return kvt_fail(err, KVT_EUSAGE, "%s: option '%.40s' is longer than any that exists", s->method->name, text);
    if (!takes(s->method, name))
        return unknown_option(s->method, name, err);
    const struct kvt_option *o = find(name);
    assert(o && "a method lists an option that options.c doesn't have");
    bool even = false;
    struct kvt_policy before = s->policy;
    *given |= (uint64_t)1 << (o - options);
    if (kvt_option_set(&s->policy, o, value, &even)) {
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

/* Who says what a method does by default says nothing; anything else has to mean something beside the other choices. */
static int check_given(const struct kvt_spec *s, uint64_t given, struct kvt_err *err)
{
    for (int i = 0; i < N_OPTIONS; i++) {
        char is[TEXT] = "", was[TEXT] = "";
        const char *with = given >> i & 1 ? kvt_policy_idle(&s->policy, options[i].name) : NULL;
        if (!with)
            continue;
        kvt_option_print(&s->policy, &options[i], is, sizeof is);
        kvt_option_print(&s->method->defaults, &options[i], was, sizeof was);
        if (strcmp(is, was))
            return kvt_fail(err, KVT_EUSAGE, "%s: %s=%s would change nothing here: it goes with %s; add that, or leave it out", s->method->name,
                            options[i].name, is, with);
    }
    bool line = s->policy.alloc == KVT_ALLOC_PYRAMID || s->policy.alloc == KVT_ALLOC_PYRAMID_HEAD;
    if (line && !s->method->layer_budget)
        return kvt_fail(err, KVT_EUSAGE, "%s: it has no line of budgets over layers; use my[...,alloc=pyramid]", s->method->name);
    return 0;
}

/* The first word of a method's option list that no option has, into word; false if there is none. */
bool kvt_options_foreign(const struct kvt_method *m, char *word, size_t cap)
{
    if (takes_all(m))
        return false;
    for (const char *p = m->options + strspn(m->options, " "); *p; p += strspn(p, " ")) {
        size_t len = strcspn(p, " ");
        snprintf(word, cap, "%.*s", (int)len, p);
        if (len >= cap || !find(word))
            return true;
        p += len;
    }
    return false;
}

static const struct kvt_method *find_among(const char *name, const struct kvt_method_list *more)
{
    for (int i = 0; more && i < more->n; i++)
        if (!strcmp(more->method[i]->name, name))
            return more->method[i];
    return kvt_method_find(name);
}

int kvt_spec_parse(struct kvt_spec *out, const char *text, size_t bytes, struct kvt_err *err)
{
    return kvt_spec_parse_among(out, text, bytes, NULL, err);
}

int kvt_spec_parse_among(struct kvt_spec *out, const char *text, size_t bytes, const struct kvt_method_list *more,
                         struct kvt_err *err)
{
    char name[TEXT];
    const char *open = memchr(text, '[', bytes), *end = text + bytes;
    while (end > text && isspace((unsigned char)end[-1]))
        end--;
    if (!trimmed(name, sizeof name, text, open ? (size_t)(open - text) : bytes))
        return kvt_fail(err, KVT_EUSAGE, "method name '%.40s...' is longer than any that exists", text);
    if (!*name)
        return kvt_fail(err, KVT_EUSAGE, "a method has no name");
    struct kvt_spec s = {.method = find_among(name, more)};
    if (!s.method)
        return unknown_method(name, more, err);
    s.policy = s.method->defaults;
    uint64_t given = 0;
    if (open) {
        const char *p = open + 1;
        if (end <= p || end[-1] != ']' || memchr(p, ']', (size_t)(end - 1 - p)) || memchr(p, '[', (size_t)(end - p)))
            return kvt_fail(err, KVT_EUSAGE, "%s: brackets don't match in '%.*s'; write %s[option=value,option=value]",
                            name, (int)(bytes < 80 ? bytes : 80), text, name);
        end--;
        while (p < end) {
            const char *comma = memchr(p, ',', (size_t)(end - p));
            const char *stop = comma ? comma : end;
            int bad = parse_option(&s, p, (size_t)(stop - p), &given, err);
            if (bad)
                return bad;
            p = comma ? comma + 1 : end;
        }
    }
    if (s.policy.score == KVT_SCORE_NONE && (takes_all(s.method) || s.method->defaults.score != KVT_SCORE_NONE))
        return kvt_fail(err, KVT_EUSAGE, "%s: say what a slot is worth: %s[score=...], of %s", name, name,
                        options[0].values);
    int rc = kvt_policy_check(&s.policy, name, err);
    if (!rc)
        rc = check_given(&s, given, err);
    if (rc)
        return rc;
    kvt_spec_canonical(&s);
    *out = s;
    return 0;
}

int kvt_spec_parse_list(struct kvt_spec **out, int *count, const char *text, const struct kvt_method_list *more,
                        struct kvt_err *err)
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
        int rc = kvt_spec_parse_among(&spec[n], text + start, i - start, more, err);
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

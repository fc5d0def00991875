/* Pre-tokenizers are steps; every step cuts each piece that the one before it made. They run depth first: a piece goes
 * through all steps before the next one is looked for, so no list of pieces is ever kept. */
#include "engine/pretokenize.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/regex.h"
#include "engine/unicode.h"

enum kind { REGEX, LITERAL, CLASS, METASPACE, PREFIX };
enum behaviour { ISOLATED, REMOVED, CONTIGUOUS, WITH_PREVIOUS, WITH_NEXT };

struct step {
    enum kind kind;
    enum behaviour behaviour;
    bool invert;
    struct kvt_regex *regex;    /* of REGEX */
    char *text;                 /* of LITERAL; METASPACE: what stands for a space */
    size_t text_n;
    bool (*is)(uint32_t c);     /* of CLASS */
    bool always, first;         /* of METASPACE: put one in front of every piece; of the text's first */
    bool split;
};

enum { MAX_STEPS = 16 };

struct kvt_pretokenizer {
    int n;
    struct step step[MAX_STEPS];
    bool bytes, whole_first, bos;
};

/* ---- the names of GGUF files ---- */

/* The expressions are those of the models' own tokenizer.json, as llama.cpp quotes them where its own are adapted to what
 * its regular expressions can do ((?i:'s) spelled out, capital letters approximated); elsewhere they are llama.cpp's. */
#define ENGLISH "'s|'t|'re|'ve|'m|'ll|'d"
#define GPT2 ENGLISH "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"
#define NEWER(digits) "(?i:" ENGLISH ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" \
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CASED(english, digits) "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" english \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" english \
    "|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CASED_LETTERS \
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-" \
    "\\x{1f7d}ᾀ-ᾴᾶ-ᾼ\\x{1fbe}ῂ-ῄῆ-ῌ\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\\x{2126}ℨ" \
    "\\x{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
#define HAN "[一-龥\\x{800}-一가-\\x{d7ff}]+"

static const struct rule {
    const char *names, *regex[6];
    bool whole_first, bos;
} rules[] = {
    {"smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", {"\\p{N}", GPT2}, false, false},
    {"gpt-2 phi-2 mpt olmo jais exaone4 mellum trillion granite-docling gigachat", {GPT2}, false, false},
    {"qwen2 deepseek-r1-qwen stablelm2 megrez hunyuan solar-open grok-2 kormo", {NEWER("\\p{N}")}, false, false},
    {"qwen35", {"(?i:" ENGLISH ")|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+"
                "|\\s+(?!\\S)|\\s+"}, false, false},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2", {NEWER("\\p{N}{1,3}")}, true, true},
    {"dbrx smaug-bpe glm4 chatglm-bpe", {NEWER("\\p{N}{1,3}")}, false, false},
    {"tekken", {CASED("", "\\p{N}")}, true, true},
    {"gpt-4o llama4 kanana2 minimax-m2", {CASED("(?i:" ENGLISH ")?", "\\p{N}{1,3}")}, false, false},
    {"deepseek-llm", {"[\\r\\n]", "\\s?[" CASED_LETTERS "]+", "\\s?[!-/:-~！-／：-～‘-‟\\x{3000}-。]+", "\\s+$", HAN, "\\p{N}+"},
     false, false},
    {"deepseek-coder", {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", HAN, "\\p{N}"}, false, false},
    {"deepseek-v3 hunyuan-dense joyai-llm",
     {"\\p{N}{1,3}", "[一-龥\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*"
      "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}, false, false},
    {"falcon", {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}, false, false},
    {"bailingmoe", {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]"
                    "|\\s+(?!\\S)|\\s+"}, false, false},
    {"seed-coder", {"(?i:" ENGLISH ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
     false, false},
    {"default", {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, false, false},
};

/* Whether it is one of names that are separated by blanks. */
static bool has_name(const char *names, const char *name, size_t n)
{
    for (const char *p = names; *p;) {
        size_t len = strcspn(p, " ");
        if (len == n && memcmp(p, name, n) == 0)
            return true;
        p += len + (p[len] == ' ');
    }
    return false;
}

static int no_memory(const char *where, struct kvt_err *err)
{
    return kvt_fail(err, KVT_ENOMEM, "%s: no memory for the pre-tokenizer", where);
}

static struct step *next_step(struct kvt_pretokenizer *p, const char *where, int *rc, struct kvt_err *err)
{
    if (p->n == MAX_STEPS) {
        *rc = kvt_fail(err, KVT_EUNSUP, "%s: more than %d pre-tokenizers", where, MAX_STEPS);
        return NULL;
    }
    return &p->step[p->n++];
}

static int add_regex(struct kvt_pretokenizer *p, const char *regex, const char *where, struct kvt_err *err)
{
    int rc = 0;
    struct step *s = next_step(p, where, &rc, err);
    if (!s)
        return rc;
    s->kind = REGEX;
    return kvt_regex_open(&s->regex, regex, strlen(regex), where, err);
}

int kvt_pretokenizer_open(struct kvt_pretokenizer **out, const char *name, size_t name_n, const char *where, struct kvt_err *err)
{
    *out = NULL;
    const struct rule *rule = NULL;
    bool known = false;
    for (size_t i = 0; i < sizeof rules / sizeof *rules && !known; i++) {
        rule = &rules[i];
        known = has_name(rule->names, name, name_n);
    }
    if (!known)
        return kvt_fail(err, KVT_EUNSUP, "%s: pre-tokenizer '%.*s' is not supported (docs/models.md lists those that are)", where,
                        name_n < 32 ? (int)name_n : 32, name);
    struct kvt_pretokenizer *p = kvt_calloc(1, sizeof *p);
    if (!p)
        return no_memory(where, err);
    p->bytes = true;
    p->whole_first = rule->whole_first;
    p->bos = rule->bos;
    int rc = 0;
    for (int i = 0; i < 6 && rule->regex[i] && !rc; i++)
        rc = add_regex(p, rule->regex[i], where, err);
    if (rc)
        kvt_pretokenizer_close(&p);
    *out = p;
    return rc;
}

void kvt_pretokenizer_close(struct kvt_pretokenizer **p)
{
    if (!*p)
        return;
    for (int i = 0; i < (*p)->n; i++) {
        kvt_regex_close(&(*p)->step[i].regex);
        free((*p)->step[i].text);
    }
    free(*p);
    *p = NULL;
}

bool kvt_pretokenizer_whole_first(const struct kvt_pretokenizer *p) { return p->whole_first; }
bool kvt_pretokenizer_bos(const struct kvt_pretokenizer *p) { return p->bos; }
bool kvt_pretokenizer_bytes(const struct kvt_pretokenizer *p) { return p->bytes; }

/* ---- running ---- */

struct run {
    const struct kvt_pretokenizer *p;
    struct kvt_match *match;
    kvt_piece_fn piece;
    void *arg;
};

static int go(struct run *r, int step, struct kvt_view v, struct kvt_err *err);

/* The pieces of one step, as its behaviour joins matches and what lies between them. */
struct joiner {
    struct run *run;
    int step;                   /* the next one */
    enum behaviour behaviour;
    struct kvt_view v;
    size_t start, end;          /* a piece that may still grow */
    bool held, was_match;
};

static int emit(struct joiner *j, struct kvt_err *err)
{
    bool held = j->held;
    j->held = false;
    return held && j->end > j->start ? go(j->run, j->step, kvt_view_part(j->v, j->start, j->end), err) : 0;
}

static int take(struct joiner *j, size_t start, size_t end, bool match, struct kvt_err *err)
{
    bool grow = false;
    if (start == end)
        return 0;
    switch (j->behaviour) {
    case ISOLATED: break;
    case REMOVED:
        if (match)
            return 0;
        break;
    case CONTIGUOUS: grow = match == j->was_match; break;
    case WITH_PREVIOUS: grow = match && !j->was_match; break;
    case WITH_NEXT: grow = !match && j->was_match; break;
    }
    j->was_match = match;
    if (grow && j->held) {
        j->end = end;
        return 0;
    }
    int rc = emit(j, err);
    j->start = start;
    j->end = end;
    j->held = true;
    return rc;
}

static int by_regex(struct joiner *j, const struct step *s, struct kvt_err *err)
{
    size_t at = 0, n = j->v.n;
    int rc = 0;
    while (at < n && !rc) {
        size_t start = n, end = n;
        int got = kvt_regex_find(s->regex, j->run->match, j->v.p, n, at, &start, &end, err);
        if (got < 0)
            return got;
        if (!got)
            start = end = n;
        rc = take(j, at, start, s->invert, err);
        if (!rc)
            rc = take(j, start, end, !s->invert, err);
        at = end;
    }
    return rc;
}

static int by_literal(struct joiner *j, const struct step *s, struct kvt_err *err)
{
    const char *p = j->v.p, *end = p + j->v.n, *at = p, *c = p;
    int rc = 0;
    while (!rc && (size_t)(end - c) >= s->text_n && (c = memchr(c, s->text[0], (size_t)(end - c))) != NULL) {
        if ((size_t)(end - c) < s->text_n)
            break;
        if (memcmp(c, s->text, s->text_n) != 0) {
            c++;
            continue;
        }
        rc = take(j, (size_t)(at - p), (size_t)(c - p), s->invert, err);
        if (!rc)
            rc = take(j, (size_t)(c - p), (size_t)(c - p) + s->text_n, !s->invert, err);
        at = c += s->text_n;
    }
    return rc ? rc : take(j, (size_t)(at - p), (size_t)(end - p), s->invert, err);
}

static int by_class(struct joiner *j, const struct step *s, struct kvt_err *err)
{
    size_t at = 0;
    int len, rc = 0;
    for (size_t i = 0; i < j->v.n && !rc; i += (size_t)len) {
        if (!s->is(kvt_utf8_get(j->v.p + i, &len)))
            continue;
        rc = take(j, at, i, s->invert, err);
        if (!rc)
            rc = take(j, i, i + (size_t)len, !s->invert, err);
        at = i + (size_t)len;
    }
    return rc ? rc : take(j, at, j->v.n, s->invert, err);
}

static int cut(struct run *r, int step, struct kvt_view v, struct kvt_err *err)
{
    const struct step *s = &r->p->step[step];
    struct joiner j = {.run = r, .step = step + 1, .behaviour = s->behaviour, .v = v};
    int rc = s->kind == REGEX ? by_regex(&j, s, err) : s->kind == CLASS ? by_class(&j, s, err) : by_literal(&j, s, err);
    return rc ? rc : emit(&j, err);
}

/* U+2581 or the like for every space, perhaps one in front, perhaps a piece for each. */
static int metaspace(struct run *r, int step, struct kvt_view v, struct kvt_err *err)
{
    const struct step *s = &r->p->step[step];
    struct kvt_normed t = {0};
    bool begins = v.n && (v.p[0] == ' ' || (v.n >= s->text_n && memcmp(v.p, s->text, s->text_n) == 0));
    int32_t origin = v.n ? kvt_view_origin(&v, 0) : 0;
    if (v.n && !begins && (s->always || (s->first && origin == 0)))
        kvt_normed_add(&t, s->text, s->text_n, origin, 0);
    for (size_t i = 0, at = 0; i <= v.n; i++)
        if (i == v.n || v.p[i] == ' ') {
            kvt_normed_copy(&t, kvt_view_part(v, at, i));
            if (i < v.n) {
                struct kvt_view space = kvt_view_part(v, i, i + 1);
                kvt_normed_add(&t, s->text, s->text_n, kvt_view_origin(&space, 0), space.end - kvt_view_origin(&space, 0));
            }
            at = i + 1;
        }
    t.end = v.end;
    int rc = t.failed ? kvt_fail(err, KVT_ENOMEM, "no memory to split the text") : 0;
    if (!rc && s->split)
        rc = cut(r, step, kvt_normed_view(&t), err);
    else if (!rc)
        rc = go(r, step + 1, kvt_normed_view(&t), err);
    kvt_normed_free(&t);
    return rc;
}

/* A space in front of every piece that has none. */
static int prefix(struct run *r, int step, struct kvt_view v, struct kvt_err *err)
{
    struct kvt_normed t = {0};
    if (!v.n || v.p[0] == ' ')
        return go(r, step + 1, v, err);
    kvt_normed_add(&t, " ", 1, kvt_view_origin(&v, 0), 0);
    kvt_normed_copy(&t, v);
    int rc = t.failed ? kvt_fail(err, KVT_ENOMEM, "no memory to split the text") : go(r, step + 1, kvt_normed_view(&t), err);
    kvt_normed_free(&t);
    return rc;
}

static int go(struct run *r, int step, struct kvt_view v, struct kvt_err *err)
{
    if (!v.n)
        return 0;
    if (step == r->p->n)
        return r->piece(r->arg, v, err);
    switch (r->p->step[step].kind) {
    case METASPACE: return metaspace(r, step, v, err);
    case PREFIX: return prefix(r, step, v, err);
    default: return cut(r, step, v, err);
    }
}

int kvt_pretokenize(const struct kvt_pretokenizer *p, struct kvt_view text, kvt_piece_fn piece, void *arg, struct kvt_err *err)
{
    struct run r = {.p = p, .piece = piece, .arg = arg};
    int rc = kvt_match_open(&r.match, err);
    if (!rc)
        rc = go(&r, 0, text, err);
    kvt_match_close(&r.match);
    return rc;
}

/* ---- from JSON ---- */

static bool is_digit(uint32_t c)
{
    return kvt_unicode_is(c, KVT_UNICODE_NUMBER) || (c >= 0x11de0 && c <= 0x11de9) || (c >= 0x16ff4 && c <= 0x16ff6);
}

static int read_behaviour(struct step *s, const cJSON *v, const char *where, struct kvt_err *err)
{
    static const char *const names[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"};
    const char *name = cJSON_GetStringValue(v);
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            s->behaviour = (enum behaviour)i;
            return 0;
        }
    return kvt_fail(err, KVT_EUNSUP, "%s: pre-tokenizer behavior '%.32s' is not supported", where, name ? name : "");
}

static int keep(struct step *s, const char *text, const char *where, struct kvt_err *err)
{
    s->text_n = strlen(text);
    if (!s->text_n)
        return kvt_fail(err, KVT_EFORMAT, "%s: a pre-tokenizer that looks for an empty text", where);
    s->text = kvt_calloc(s->text_n + 1, 1);
    if (!s->text)
        return no_memory(where, err);
    memcpy(s->text, text, s->text_n);
    return 0;
}

static bool yes(const cJSON *j, const char *name, bool otherwise)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, name);
    return cJSON_IsBool(v) ? cJSON_IsTrue(v) : otherwise;
}

static int read_split(struct step *s, const cJSON *j, const char *where, struct kvt_err *err)
{
    const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(j, "pattern");
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(pattern, "String"));
    const char *regex = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(pattern, "Regex"));
    int rc = read_behaviour(s, cJSON_GetObjectItemCaseSensitive(j, "behavior"), where, err);
    if (rc)
        return rc;
    s->invert = yes(j, "invert", false);
    s->kind = regex ? REGEX : LITERAL;
    if (regex)
        return kvt_regex_open(&s->regex, regex, strlen(regex), where, err);
    return text ? keep(s, text, where, err) : kvt_fail(err, KVT_EFORMAT, "%s: pre-tokenizer Split without a pattern", where);
}

static int read_metaspace(struct step *s, const cJSON *j, const char *where, struct kvt_err *err)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "replacement"));
    const char *scheme = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "prepend_scheme"));
    s->kind = METASPACE;
    s->behaviour = WITH_NEXT;
    s->split = yes(j, "split", true);
    if (!scheme) /* older files say only whether */
        scheme = yes(j, "add_prefix_space", true) ? "always" : "never";
    s->always = strcmp(scheme, "always") == 0;
    s->first = strcmp(scheme, "first") == 0;
    if (!s->always && !s->first && strcmp(scheme, "never") != 0)
        return kvt_fail(err, KVT_EUNSUP, "%s: Metaspace's prepend_scheme '%.32s' is not supported", where, scheme);
    if (!text)
        return kvt_fail(err, KVT_EFORMAT, "%s: Metaspace without a replacement", where);
    return keep(s, text, where, err);
}

static int read_bytes(struct kvt_pretokenizer *p, const cJSON *j, const char *where, struct kvt_err *err)
{
    int rc = 0;
    p->bytes = true;
    if (yes(j, "add_prefix_space", true)) {
        struct step *s = next_step(p, where, &rc, err);
        if (!s)
            return rc;
        s->kind = PREFIX;
    }
    return yes(j, "use_regex", true) ? add_regex(p, GPT2 "|\\s+", where, err) : 0;
}

static int add(struct kvt_pretokenizer *p, const cJSON *j, const char *where, struct kvt_err *err)
{
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "type"));
    int rc = 0;
    if (!name)
        return kvt_fail(err, KVT_EFORMAT, "%s: a pre-tokenizer without a type", where);
    if (strcmp(name, "Sequence") == 0) {
        const cJSON *list = cJSON_GetObjectItemCaseSensitive(j, "pretokenizers"), *each;
        if (!cJSON_IsArray(list))
            return kvt_fail(err, KVT_EFORMAT, "%s: a Sequence of pre-tokenizers without a list", where);
        cJSON_ArrayForEach(each, list) {
            if ((rc = add(p, each, where, err)))
                return rc;
        }
        return 0;
    }
    if (p->bytes) /* the others would cut text that is spelled in GPT-2's alphabet */
        return kvt_fail(err, KVT_EUNSUP, "%s: pre-tokenizer '%.32s' after ByteLevel is not supported", where, name);
    if (strcmp(name, "ByteLevel") == 0)
        return read_bytes(p, j, where, err);
    struct step *s = next_step(p, where, &rc, err);
    if (!s)
        return rc;
    if (strcmp(name, "Split") == 0)
        return read_split(s, j, where, err);
    if (strcmp(name, "Metaspace") == 0)
        return read_metaspace(s, j, where, err);
    if (strcmp(name, "Whitespace") == 0) {
        s->kind = REGEX;
        s->behaviour = REMOVED;
        s->invert = true;
        return kvt_regex_open(&s->regex, "\\w+|[^\\w\\s]+", strlen("\\w+|[^\\w\\s]+"), where, err);
    }
    s->kind = CLASS;
    if (strcmp(name, "Digits") == 0) {
        s->is = is_digit;
        s->behaviour = yes(j, "individual_digits", false) ? ISOLATED : CONTIGUOUS;
        return 0;
    }
    if (strcmp(name, "WhitespaceSplit") == 0) {
        s->is = kvt_unicode_space;
        s->behaviour = REMOVED;
        return 0;
    }
    if (strcmp(name, "Punctuation") == 0) {
        const cJSON *b = cJSON_GetObjectItemCaseSensitive(j, "behavior");
        s->is = kvt_unicode_old_punctuation;
        return b ? read_behaviour(s, b, where, err) : 0;
    }
    return kvt_fail(err, KVT_EUNSUP, "%s: pre-tokenizer '%.32s' is not supported (Split, ByteLevel, Digits, Punctuation, Whitespace, "
                    "WhitespaceSplit, Metaspace and Sequence are)", where, name);
}

int kvt_pretokenizer_json(struct kvt_pretokenizer **out, const cJSON *json, const char *where, struct kvt_err *err)
{
    *out = NULL;
    struct kvt_pretokenizer *p = kvt_calloc(1, sizeof *p);
    if (!p)
        return no_memory(where, err);
    int rc = !json || cJSON_IsNull(json) ? 0 : add(p, json, where, err);
    if (rc)
        kvt_pretokenizer_close(&p);
    *out = p;
    return rc;
}

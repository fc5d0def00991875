/* The four pre-tokenizers as PCRE2 expressions, compiled once for a model and shared between threads. */
#include "engine/pretokenize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Character classes, to be used inside [ ]. They are Unicode 16's, which the tokenizers of the field use; Debian 12's
 * PCRE2 knows Unicode 14, so letters and numbers that came later are listed. White space is spelled out because
 * PCRE2's \s also has U+180E. */
#define LETTER "\\p{L}" \
    "\\x{1c89}\\x{1c8a}\\x{a7cb}-\\x{a7cd}\\x{a7da}-\\x{a7dc}\\x{105c0}-\\x{105f3}\\x{10d4a}-\\x{10d65}" \
    "\\x{10d6f}-\\x{10d85}\\x{10ec2}-\\x{10ec4}\\x{1123f}\\x{11240}\\x{11380}-\\x{11389}\\x{1138b}\\x{1138e}" \
    "\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}\\x{113d3}\\x{11bc0}-\\x{11be0}\\x{11f02}\\x{11f04}-\\x{11f10}" \
    "\\x{11f12}-\\x{11f33}\\x{1342f}\\x{13441}-\\x{13446}\\x{13460}-\\x{143fa}\\x{16100}-\\x{1611d}" \
    "\\x{16d40}-\\x{16d6c}\\x{18cff}\\x{1b132}\\x{1b155}\\x{1df25}-\\x{1df2a}\\x{1e030}-\\x{1e06d}" \
    "\\x{1e4d0}-\\x{1e4eb}\\x{1e5d0}-\\x{1e5ed}\\x{1e5f0}\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"
#define NUMBER "\\p{N}" \
    "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11f50}-\\x{11f59}\\x{16130}-\\x{16139}" \
    "\\x{16d70}-\\x{16d79}\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}\\x{1e4f0}-\\x{1e4f9}\\x{1e5f1}-\\x{1e5fa}"
#define SPACE "\\x{9}-\\x{d} \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

#define ENGLISH "'s|'t|'re|'ve|'m|'ll|'d"
#define MARKS "[^" SPACE LETTER NUMBER "]+"
#define SPACES "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"

/* In smollm every digit is cut out first and the rest of the text is split around it, so white space before a digit
 * is at the end of its own text: one piece. */
#define SMOLLM ENGLISH "| ?[" LETTER "]+|[" NUMBER "]| ?" MARKS "|[" SPACE "]+(?![^" SPACE NUMBER "])|[" SPACE "]+"
#define GPT2 ENGLISH "| ?[" LETTER "]+| ?[" NUMBER "]+| ?" MARKS "|" SPACES
/* Llama 3 and Qwen 2 differ in how many digits make a piece. */
#define NEWER(digits) "(?i:" ENGLISH ")|[^\\r\\n" LETTER NUMBER "]?[" LETTER "]+|[" NUMBER "]" digits "| ?" MARKS "[\\r\\n]*" \
    "|[" SPACE "]*[\\r\\n]+|" SPACES

static const struct rule {
    const char *name, *regex;
    bool whole_first, bos;
} rules[] = {
    {"smollm", SMOLLM, false, false},
    {"qwen2", NEWER(""), false, false},
    {"llama-bpe", NEWER("{1,3}"), true, true},
    {"gpt-2", GPT2, false, false},
};

struct kvt_pretokenizer {
    const struct rule *rule;
    pcre2_code *code;
    pcre2_match_context *limits;
};

int kvt_pretokenizer_open(struct kvt_pretokenizer **out, const char *name, size_t name_n, const char *where, struct kvt_err *err)
{
    *out = NULL;
    const struct rule *rule = NULL;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strlen(rules[i].name) == name_n && memcmp(rules[i].name, name, name_n) == 0)
            rule = &rules[i];
    if (!rule)
        return kvt_fail(err, KVT_EUNSUP, "%s: pre-tokenizer '%.*s' is not supported (" KVT_PRETOKENIZERS " are)", where,
                        name_n < 32 ? (int)name_n : 32, name);
    struct kvt_pretokenizer *p = kvt_calloc(1, sizeof *p);
    if (!p)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory for the tokenizer", where);
    int code = 0;
    PCRE2_SIZE at = 0;
    p->rule = rule;
    p->code = pcre2_compile((PCRE2_SPTR)rule->regex, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    p->limits = pcre2_match_context_create(NULL);
    if (!p->code || !p->limits) {
        kvt_pretokenizer_close(&p);
        return kvt_fail(err, KVT_ENOMEM, "%s: cannot compile the pre-tokenizer (PCRE2 error %d at %zu)", where, code, (size_t)at);
    }
    pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* where memory may not be executable the interpreter does it */
    /* the expressions are linear in the text; a limit would only refuse long runs of spaces */
    pcre2_set_match_limit(p->limits, UINT32_MAX);
    *out = p;
    return 0;
}

void kvt_pretokenizer_close(struct kvt_pretokenizer **p)
{
    if (!*p)
        return;
    pcre2_match_context_free((*p)->limits);
    pcre2_code_free((*p)->code);
    free(*p);
    *p = NULL;
}

const char *kvt_pretokenizer_name(const struct kvt_pretokenizer *p) { return p->rule->name; }
bool kvt_pretokenizer_whole_first(const struct kvt_pretokenizer *p) { return p->rule->whole_first; }
bool kvt_pretokenizer_bos(const struct kvt_pretokenizer *p) { return p->rule->bos; }

int kvt_pretokenize(const struct kvt_pretokenizer *p, const char *text, size_t n, kvt_piece_fn piece, void *arg, struct kvt_err *err)
{
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    if (!match)
        return kvt_fail(err, KVT_ENOMEM, "no memory to split the text");
    int rc = 0;
    size_t pos = 0;
    while (pos < n && !rc) {
        int got = pcre2_match(p->code, (PCRE2_SPTR)text, n, pos, PCRE2_NO_UTF_CHECK, match, p->limits);
        if (got == PCRE2_ERROR_JIT_STACKLIMIT)
            got = pcre2_match(p->code, (PCRE2_SPTR)text, n, pos, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match, p->limits);
        if (got < 0 && got != PCRE2_ERROR_NOMATCH) {
            rc = kvt_fail(err, KVT_ENOMEM, "cannot split the text at byte %zu (PCRE2 error %d)", pos, got);
            break;
        }
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(match);
        size_t start = got < 0 ? n : range[0], end = got < 0 ? n : range[1];
        if (start > pos) /* what no alternative matches is a piece of its own; the four rules leave nothing over */
            rc = piece(arg, pos, start, err);
        if (!rc && end > start)
            rc = piece(arg, start, end, err);
        pos = end;
    }
    pcre2_match_data_free(match);
    return rc;
}

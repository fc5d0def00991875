/* Prompts and their spans, on the tiny model's tokenizer. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/model.h"
#include "kvt/prompt.h"
#include "mkmodel.h"

struct rig {
    void *base;
    struct kvt_model *m;
    const struct kvt_tokenizer *tok;
    struct kvt_prompt p;
    struct kvt_err err;
};

static struct rig rig(bool bos)
{
    struct rig r = {0};
    unsigned char *p;
    size_t n;
    struct kvt_mkmodel_opts o = {.L = 1, .H = 1, .G = 1, .D = 2, .E = 2, .F = 2, .add_bos = bos};
    cr_assert_eq(kvt_mkmodel_bytes(&p, &n, &o, &r.err), 0);
    cr_assert_eq(posix_memalign(&r.base, 64, n), 0);
    memcpy(r.base, p, n);
    free(p);
    cr_assert_eq(kvt_model_from_memory(&r.m, "tiny", r.base, n, &r.err), 0, "%s", r.err.text);
    r.tok = kvt_model_tokenizer(r.m);
    return r;
}

static void done(struct rig *r)
{
    kvt_prompt_free(&r->p);
    kvt_model_close(&r->m);
    free(r->base);
}

/* What holds for every prompt: order, nesting, and the one rule of token spans. */
static void check(const struct kvt_prompt *p)
{
    cr_assert_eq(strlen(p->text), p->bytes);
    for (int i = 0; i < p->n_spans; i++) {
        const struct kvt_span *s = &p->span[i];
        cr_assert(s->byte_start < s->byte_end && (size_t)s->byte_end <= p->bytes && s->parent < i);
        if (i)
            cr_assert(s->byte_start >= p->span[i - 1].byte_start);
        if (s->parent >= 0) {
            const struct kvt_span *q = &p->span[s->parent];
            cr_assert(q->byte_start <= s->byte_start && s->byte_end <= q->byte_end);
        }
        for (int t = 0; t < p->tokens.n; t++) {
            bool inside = p->tokens.end[t] > 0 && p->tokens.start[t] >= s->byte_start && p->tokens.start[t] < s->byte_end;
            cr_assert_eq(inside, t >= s->start && t < s->end, "span %d (%s), token %d", i, s->name, t);
        }
    }
}

static void build(struct rig *r, struct kvt_prompt_opts o)
{
    kvt_prompt_free(&r->p);
    cr_assert_eq(kvt_prompt_build(&r->p, r->tok, &o, &r->err), 0, "%s", r->err.text);
    check(&r->p);
}

static void refuses(struct rig *r, struct kvt_prompt_opts o, int code, const char *says, int line)
{
    struct kvt_prompt p;
    int rc = kvt_prompt_build(&p, r->tok, &o, &r->err);
    cr_assert_eq(rc, code, "line %d: code %d: %s", line, rc, r->err.text);
    cr_assert(strstr(r->err.text, says), "line %d: '%s' says nothing of '%s'", line, r->err.text, says);
    cr_assert_null(p.text);
    cr_assert_eq(p.n_spans, 0);
}
#define REFUSED(code, says, ...) refuses(&r, (struct kvt_prompt_opts){__VA_ARGS__}, code, says, __LINE__)

/* Structure as text: each span of kinds up to `last` as "name<text>", children in brackets. */
static void outline(const struct kvt_prompt *p, bool marks, char *out, size_t cap)
{
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < p->n_spans; i++) {
        const struct kvt_span *s = &p->span[i];
        bool mark = s->kind >= KVT_SPAN_NUMBER && s->kind <= KVT_SPAN_DELIMITER;
        if (s->kind == KVT_SPAN_SENTENCE || mark != marks)
            continue;
        n += (size_t)snprintf(out + n, n < cap ? cap - n : 0, "%s<%.*s>", mark ? kvt_span_kind_name(s->kind) : s->name,
                              (int)(s->byte_end - s->byte_start), p->text + s->byte_start);
        cr_assert(n < cap);
    }
}

static void expect_outline(const struct kvt_prompt *p, bool marks, const char *want, int line)
{
    char got[4096];
    outline(p, marks, got, sizeof got);
    cr_assert_str_eq(got, want, "line %d:\n got  %s\n want %s", line, got, want);
}
#define STRUCTURE(want) expect_outline(&r.p, false, want, __LINE__)
#define MARKS(want) expect_outline(&r.p, true, want, __LINE__)

static void expect_sentences(const struct kvt_prompt *p, const char *want, int line)
{
    char got[4096];
    size_t n = 0;
    got[0] = 0;
    for (int i = 0; i < p->n_spans; i++)
        if (p->span[i].kind == KVT_SPAN_SENTENCE)
            n += (size_t)snprintf(got + n, sizeof got - n, "[%.*s]", (int)(p->span[i].byte_end - p->span[i].byte_start),
                                  p->text + p->span[i].byte_start);
    cr_assert_str_eq(got, want, "line %d:\n got  %s\n want %s", line, got, want);
}
#define SENTENCES(text_, want)                                         \
    do {                                                               \
        build(&r, (struct kvt_prompt_opts){.text = text_});            \
        expect_sentences(&r.p, want, __LINE__);                        \
    } while (0)

/* A file that lives as long as the test. */
static const char *file(const char *text, char path[32])
{
    strcpy(path, "/tmp/kvt_test_XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    size_t n = strlen(text);
    cr_assert_eq(write(fd, text, n), (ssize_t)n);
    close(fd);
    return path;
}

static const char gsm[] =
    "{\"question\": \"Ann has 2 cats.\", \"answer\": \"She has 2.\\nSo 2*1 = 2.\\n#### 2\"}\n"
    "\n"
    "{\"question\": \"How many?\", \"answer\": \"5\", \"extra\": [1, 2]}\r\n";

/* Would catch: a span that is a byte off, the label in the wrong part, a lost "####", a trailing space in the prompt. */
Test(prompt, shots_question_rationale_answer)
{
    char path[32];
    struct rig r = rig(false);
    build(&r, (struct kvt_prompt_opts){.shots_file = file(gsm, path), .question = "And now?"});
    cr_assert_str_eq(r.p.text, "Question: Ann has 2 cats.\nAnswer: She has 2.\nSo 2*1 = 2.\n#### 2\n\nQuestion: How many?\nAnswer: 5\n\n"
                               "Question: And now?\nAnswer:");
    STRUCTURE("shot 1<Question: Ann has 2 cats.\nAnswer: She has 2.\nSo 2*1 = 2.\n#### 2>"
              "question<Question: Ann has 2 cats.\n>rationale<Answer: She has 2.\nSo 2*1 = 2.\n>answer<#### 2>"
              "shot 2<Question: How many?\nAnswer: 5>question<Question: How many?\n>answer<Answer: 5>"
              "question<Question: And now?\nAnswer:>");
    const struct kvt_span *last = NULL;
    for (int i = 0; i < r.p.n_spans; i++)
        if (r.p.span[i].kind == KVT_SPAN_PROMPT)
            last = &r.p.span[i];
    cr_assert(last && last->parent == -1 && last->start == r.p.question_start && last->end == r.p.tokens.n);
    int32_t range[8];
    cr_assert_eq(kvt_prompt_shots(&r.p, r.p.question_start, range, 4), 2);
    cr_assert(range[0] == 0 && range[1] < range[2] && range[3] < r.p.question_start);
    cr_assert_eq(kvt_prompt_shots(&r.p, range[3] - 1, range, 4), 1); /* the second doesn't fit */
    cr_assert_eq(kvt_prompt_shots(&r.p, r.p.tokens.n, range, 1), 1);
    build(&r, (struct kvt_prompt_opts){.shots_file = path, .n_shots = 1, .question = "And now?", .shot_sep = "\\n--\\n"});
    cr_assert_str_eq(r.p.text, "Question: Ann has 2 cats.\nAnswer: She has 2.\nSo 2*1 = 2.\n#### 2\n--\nQuestion: And now?\nAnswer:");
    REFUSED(KVT_EINPUT, "it has 2 shots, 3 were asked for", .shots_file = path, .n_shots = 3, .question = "x");
    unlink(path);
    done(&r);
}

Test(prompt, templates)
{
    char shots[32], question[32];
    struct rig r = rig(false);
    file("{\"q\": \"1+1\", \"cot\": \"Add. So the answer is 2.\", \"choices\": [\"a\", \"b\"], \"n\": 7, \"f\": 1.5, \"t\": true}\n", shots);
    file("{\"q\": \"2+2\", \"choices\": [\"c\", \"d\"], \"n\": 8}\n{\"q\": \"not this\"}\n", question);
    build(&r, (struct kvt_prompt_opts){.shots_file = shots, .question_file = question,
                                       .template_text = "Q: {q} {{{n}}} {choices[1]}\\nA: Step by step.\\n{cot}"});
    cr_assert_str_eq(r.p.text, "Q: 1+1 {7} b\nA: Step by step.\nAdd. So the answer is 2.\n\nQ: 2+2 {8} d\nA: Step by step.\n");
    STRUCTURE("shot 1<Q: 1+1 {7} b\nA: Step by step.\nAdd. So the answer is 2.>question<Q: 1+1 {7} b\n>"
              "rationale<A: Step by step.\nAdd.>answer< So the answer is 2.>question<Q: 2+2 {8} d\nA: Step by step.\n>");
    build(&r, (struct kvt_prompt_opts){.shots_file = shots, .question_file = question, .template_text = "{q} {n} = {f}"});
    cr_assert_str_eq(r.p.text, "1+1 7 = 1.5\n\n2+2 8 =", "the last field is the answer, and the question needs no 'f'");
    build(&r, (struct kvt_prompt_opts){.shots_file = shots, .question_file = question, .template_text = "{q}? {t}"});
    cr_assert_str_eq(r.p.text, "1+1? true\n\n2+2?");
    REFUSED(KVT_EINPUT, "no field 'zz', which the template asks for (it has: q, cot", .shots_file = shots, .question_file = question,
            .template_text = "{q}{zz}");
    REFUSED(KVT_EINPUT, "has no element 2", .shots_file = shots, .question_file = question, .template_text = "{choices[2]} {q}");
    REFUSED(KVT_EINPUT, "neither text nor a number", .shots_file = shots, .question_file = question, .template_text = "{choices} {q}");
    REFUSED(KVT_EUSAGE, "starts no {field}", .shots_file = shots, .question_file = question, .template_text = "{q");
    REFUSED(KVT_EUSAGE, "names no field", .shots_file = shots, .question_file = question, .template_text = "q");
    REFUSED(KVT_EUSAGE, "no {question}", .shots_file = shots, .question = "x", .template_text = "{q}{cot}");
    unlink(shots);
    unlink(question);
    done(&r);
}

Test(prompt, plain_text_with_separators)
{
    struct rig r = rig(true);
    build(&r, (struct kvt_prompt_opts){.text = "Q: a?\nA: b\n\n\n\nQ: c?\nA: d. The answer is e.\n\nQ: f?\nA:\n", .shot_sep = "\\n\\n"});
    STRUCTURE("shot 1<Q: a?\nA: b>question<Q: a?\n>answer<A: b>"
              "shot 2<Q: c?\nA: d. The answer is e.>question<Q: c?\n>rationale<A: d.>answer< The answer is e.>"
              "question<Q: f?\nA:\n>");
    cr_assert(r.p.tokens.id[0] == 1 && r.p.tokens.end[0] == 0 && r.p.span[0].start == 1, "BOS belongs to no span");
    build(&r, (struct kvt_prompt_opts){.text = "one;two;", .shot_sep = ";"}); /* nothing behind the last one */
    STRUCTURE("shot 1<one>question<two;>");
    build(&r, (struct kvt_prompt_opts){.text = "one;two", .shot_sep = ";", .question = "three"});
    STRUCTURE("shot 1<one>shot 2<two>question<Question: three\nAnswer:>");
    build(&r, (struct kvt_prompt_opts){.text = "one;two", .no_bos = true});
    STRUCTURE("");
    cr_assert(r.p.question_start == -1 && r.p.tokens.start[0] == 0 && r.p.tokens.end[0] > 0);
    build(&r, (struct kvt_prompt_opts){.text = "A context.", .question = "What?", .system = "Be brief."});
    cr_assert_str_eq(r.p.text, "Be brief.\n\nA context.\n\nQuestion: What?\nAnswer:");
    STRUCTURE("system<Be brief.>question<Question: What?\nAnswer:>");
    done(&r);
}

/* Would catch: a chat form that the model wasn't trained on, a header outside the question's span. */
Test(prompt, chat)
{
    struct rig r = rig(true);
    build(&r, (struct kvt_prompt_opts){.text = "x;y", .shot_sep = ";", .system = "Be brief.", .chat = true});
    cr_assert_str_eq(r.p.text, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nx;y<|im_end|>\n<|im_start|>assistant\n");
    STRUCTURE("system<<|im_start|>system\nBe brief.<|im_end|>\n>user<<|im_start|>user\nx;y<|im_end|>\n>shot 1<x>"
              "question<y<|im_end|>\n<|im_start|>assistant\n>assistant<<|im_start|>assistant\n>");
    cr_assert_eq(r.p.tokens.id[0], 1);
    cr_assert_neq(r.p.tokens.id[1], 1, "the text begins with BOS, so no other one is put in front");
    MARKS("delimiter<.>delimiter<;>");
    build(&r, (struct kvt_prompt_opts){.question = "Why?", .chat = true, .template_text = "{question}"});
    cr_assert_str_eq(r.p.text, "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n", "this model has no system text of its own");
    done(&r);
}

Test(prompt, sentences)
{
    struct rig r = rig(false);
    SENTENCES("One. Two! Three? Four", "[One.][ Two!][ Three?][ Four]");
    SENTENCES("Mr. Smith and J. Doe paid $3.50. Why?", "[Mr. Smith and J. Doe paid $3.50.][ Why?]");
    SENTENCES("He said \"No.\" Then (he left.) End...", "[He said \"No.\"][ Then (he left.)][ End...]");
    SENTENCES("A line\nthat goes on.\nNext line\n\nparagraph", "[A line\nthat goes on.\n][Next line\n\n][paragraph]");
    SENTENCES("\xe4\xb8\x80\xe3\x80\x82\xe4\xba\x8c\xef\xbc\x81", "[\xe4\xb8\x80\xe3\x80\x82][\xe4\xba\x8c\xef\xbc\x81]");
    SENTENCES("v1.2.3 is out", "[v1.2.3 is out]");
    SENTENCES("  \n x", "[  \n x]");
    done(&r);
}

/* Would catch: hyphens and slashes in words taken for operators, digits in names for numbers, a mark without a token. */
Test(prompt, numbers_operators_delimiters)
{
    struct rig r = rig(false);
    build(&r, (struct kvt_prompt_opts){.text = "half-way and/or x1 - 1,234.50+$3 <= 12% <<4/2=2>>2"});
    char want[] = "operator< ->number< 1,234.50>operator<+>number<$3>operator< <=>number< 12%>delimiter< <<>number<4>operator</>number<2>"
                  "operator<=>number<2>delimiter<>>>number<2>";
    /* the tiny vocabulary has space tokens of their own, so marks let go of the space */
    char *o = want;
    for (char *s = want; *s; s++)
        if (!(*s == ' ' && s[-1] == '<'))
            *o++ = *s;
    *o = 0;
    MARKS(want);
    for (int i = 0; i < r.p.n_spans; i++)
        if (r.p.span[i].kind >= KVT_SPAN_NUMBER)
            cr_assert(r.p.span[i].end > r.p.span[i].start && r.p.span[i].parent >= 0, "'%s' has no token", r.p.span[i].name);
    done(&r);
}

/* One line, the place, and what to change. */
Test(prompt, bad_input)
{
    struct rig r = rig(false);
    char path[32];
    REFUSED(KVT_EUSAGE, "nothing to read", .chat = false);
    REFUSED(KVT_EUSAGE, "not several", .text = "a", .text_file = "b");
    REFUSED(KVT_EUSAGE, "not both", .question = "a", .question_file = "b");
    REFUSED(KVT_EUSAGE, "separator of shots is empty", .text = "a", .shot_sep = "");
    REFUSED(KVT_EINPUT, "the prompt is empty", .text = "");
    REFUSED(KVT_EINPUT, "the prompt is empty", .text = " \n\t");
    REFUSED(KVT_EINPUT, "the question is empty", .question = "");
    REFUSED(KVT_EINPUT, "not valid UTF-8 at byte 2 (0xff)", .text = "ab\xff");
    REFUSED(KVT_EINPUT, "/nowhere: cannot open", .text_file = "/nowhere");
    REFUSED(KVT_EINPUT, "cannot read", .text_file = "/");
    file("abc\xc3", path);
    REFUSED(KVT_EINPUT, "not valid UTF-8 at byte 3 (0xc3)", .text_file = path);
    unlink(path);
    file("", path);
    REFUSED(KVT_EINPUT, ": the prompt is empty", .text_file = path);
    REFUSED(KVT_EINPUT, ": no shots in it", .shots_file = path, .question = "x");
    unlink(path);
    file("{\"question\":\"a\",\"answer\":\"b\"}\n{\"question\":\n", path);
    REFUSED(KVT_EINPUT, ":2: not valid JSON", .shots_file = path, .question = "x");
    unlink(path);
    file("[1]\n", path);
    REFUSED(KVT_EINPUT, ":1: not a JSON object", .shots_file = path, .question = "x");
    unlink(path);
    file("{\"question\":\"a\\u0000\",\"answer\":\"b\"}\n", path);
    REFUSED(KVT_EINPUT, ":1: a text with a zero", .shots_file = path, .question = "x");
    unlink(path);
    char deep[4096]; /* brackets beyond any bound must be an error, not a full stack */
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    file(deep, path);
    REFUSED(KVT_EINPUT, ":1: not valid JSON", .shots_file = path, .question = "x");
    unlink(path);
    done(&r);
}

Test(prompt, kind_names)
{
    cr_assert_str_eq(kvt_span_kind_name(KVT_SPAN_PROMPT), "prompt");
    cr_assert_str_eq(kvt_span_kind_name(KVT_SPAN_DELIMITER), "delimiter");
}

/* Would catch: an order that loses or repeats a shot, a separator in the wrong place, a name that follows the place in the text. */
Test(prompt, shots_in_another_order)
{
    struct rig r = rig(false);
    char path[] = "/tmp/kvt-shots-XXXXXX";
    int fd = mkstemp(path), moved = 0;
    const char *lines = "{\"question\":\"a\",\"answer\":\"1\"}\n{\"question\":\"b\",\"answer\":\"2\"}\n\n{\"question\":\"c\",\"answer\":\"3\"}\n";
    cr_assert(fd >= 0 && write(fd, lines, strlen(lines)) == (ssize_t)strlen(lines));
    close(fd);
    struct kvt_prompt_opts o = {.shots_file = path, .template_text = "{question}{answer}", .shot_sep = "|", .question = "?"};
    static const struct { const char *order, *text, *first; } want[] = {
        {NULL, "a1|b2|c3|?", "shot 1"}, {"file", "a1|b2|c3|?", "shot 1"}, {"reverse", "c3|b2|a1|?", "shot 3"}, {"2,3,1", "b2|c3|a1|?", "shot 2"}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        o.shot_order = want[i].order;
        build(&r, o);
        cr_assert_str_eq(r.p.text, want[i].text);
        cr_assert_str_eq(r.p.span[0].name, want[i].first);
    }
    for (int seed = 0; seed < 20; seed++) {
        char how[16], first[16];
        snprintf(how, sizeof how, "seed:%d", seed);
        o.shot_order = how;
        build(&r, o);
        snprintf(first, sizeof first, "%s", r.p.text);
        cr_assert(strlen(first) == 10 && strstr(first, "a1|") && strstr(first, "b2|") && strstr(first, "c3|"), "%s", first);
        moved += strcmp(first, "a1|b2|c3|?") != 0;
        build(&r, o);
        cr_assert_str_eq(r.p.text, first, "a seed gives one order");
    }
    cr_assert(moved > 8 && moved < 20, "%d of 20 seeds move a shot", moved);
    o.n_shots = 2, o.shot_order = "reverse";
    build(&r, o);
    cr_assert_str_eq(r.p.text, "b2|a1|?");
    o.n_shots = 0;
    static const char *const bad[] = {"seed:", "seed:x", "1,2", "1,2,2", "1,2,4", "0,1,2", "3,2,1,", "3;2;1", "backwards", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        o.shot_order = bad[i];
        refuses(&r, o, KVT_EUSAGE, "order of shots", __LINE__);
    }
    refuses(&r, (struct kvt_prompt_opts){.text = "x", .shot_order = "reverse"}, KVT_EUSAGE, "needs a file of shots", __LINE__);
    unlink(path);
    done(&r);
}

/* Prompts in a model's chat form, against transformers' apply_chat_template on the same template (tests/vectors/make_chat.py).
 * Would catch: a form taken for another, a line end or a space too few, a system text that goes astray, white space that a
 * template takes off and we don't, a BOS too many. With KVT_CHAT_VECTORS=FILE those vectors are compared too. */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chat.h"
#include "engine/model.h"
#include "kvt/prompt.h"
#include "mkmodel.h"

struct rig {
    void *base;
    struct kvt_model *m;
    const struct kvt_tokenizer *tok;
    struct kvt_err err;
};

/* A model with this template, this BOS, and every mark that a form may need. */
static struct rig rig(const char *template, const char *bos)
{
    const char *const marks[] = {bos, "<|start_header_id|>", "<start_of_turn>", "[INST]", "<|im_sep|>", "<|end|>", "<\xef\xbd\x9cUser\xef\xbd\x9c>",
                                 "<|start_of_role|>", NULL};
    struct kvt_mkmodel_opts o = {.L = 1, .H = 1, .G = 1, .D = 2, .E = 2, .F = 2, .add_bos = true, .marks = marks, .chat_template = template};
    struct rig r = {0};
    unsigned char *p;
    size_t n;
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
    kvt_model_close(&r->m);
    free(r->base);
    r->base = NULL;
}

static const char *string_of(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

/* The span of a kind, as text; "" if there is none. */
static const char *span_text(const struct kvt_prompt *p, enum kvt_span_kind kind, char *buf, size_t cap)
{
    buf[0] = 0;
    for (int i = 0; i < p->n_spans; i++)
        if (p->span[i].kind == kind)
            snprintf(buf, cap, "%.*s", p->span[i].byte_end - p->span[i].byte_start, p->text + p->span[i].byte_start);
    return buf;
}

static void one_case(struct rig *r, const char *name, const cJSON *c)
{
    struct kvt_prompt p;
    const char *want = string_of(c, "text"), *refused = string_of(c, "refused");
    struct kvt_prompt_opts o = {.text = string_of(c, "user"), .system = string_of(c, "system"), .chat = true,
                                .thinking = cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(c, "thinking")) ? KVT_THINKING_OFF : KVT_THINKING_MODEL};
    int rc = kvt_prompt_build(&p, r->tok, &o, &r->err);
    if (refused) {
        cr_expect(rc && strstr(r->err.text, refused), "%s: not refused with '%s': %s", name, refused, rc ? r->err.text : p.text);
        kvt_prompt_free(&p);
        return;
    }
    cr_expect_eq(rc, 0, "%s: %s", name, r->err.text);
    if (rc)
        return;
    cr_expect_str_eq(p.text, want, "%s:\n%s\ninstead of\n%s", name, p.text, want);
    /* the roles: what they cover is the text behind BOS, without a gap */
    char system[512], user[512], assistant[128];
    span_text(&p, KVT_SPAN_SYSTEM, system, sizeof system);
    span_text(&p, KVT_SPAN_USER, user, sizeof user);
    span_text(&p, KVT_SPAN_ASSISTANT, assistant, sizeof assistant);
    bool inside = strstr(user, system) != NULL; /* also where there is none */
    size_t bos = strlen(p.text) - strlen(user) - strlen(assistant) - (inside ? 0 : strlen(system));
    char joined[1024];
    snprintf(joined, sizeof joined, "%.*s%s%s%s", (int)bos, p.text, inside ? "" : system, user, assistant);
    cr_expect_str_eq(joined, p.text, "%s: roles", name);
    size_t n;
    const char *text = kvt_token_bytes(r->tok, r->tok->bos, &n);
    bool begins = strncmp(p.text, text, n) == 0;
    cr_expect_eq(bos, begins ? n : 0, "%s: what stands in front", name);
    cr_expect(p.tokens.n > 1 && (p.tokens.id[0] == r->tok->bos) == begins && p.tokens.id[1] != r->tok->bos, "%s: one BOS, or none", name);
    cr_expect(p.chat && !p.given_bos);
    kvt_prompt_free(&p);
}

static void agree(const char *path, int least)
{
    FILE *f = fopen(path, "r");
    cr_assert(f, "%s", path);
    char *line = NULL, name[128] = "";
    size_t cap = 0;
    int n = 0;
    struct rig r = {0};
    while (getline(&line, &cap, f) > 0) {
        cJSON *c = cJSON_Parse(line);
        cr_assert(c, "%s: not JSON: %s", path, line);
        if (string_of(c, "template")) {
            if (r.base)
                done(&r);
            r = rig(string_of(c, "template"), *string_of(c, "bos") ? string_of(c, "bos") : "<no bos>");
            snprintf(name, sizeof name, "%s", string_of(c, "name"));
        } else {
            one_case(&r, name, c);
            n++;
        }
        cJSON_Delete(c);
    }
    done(&r);
    free(line);
    fclose(f);
    cr_expect(n >= least, "%d cases", n);
}

Test(chat, as_transformers_renders_it)
{
    agree(KVT_TEST_VECTORS "/chat.jsonl", 160);
    if (getenv("KVT_CHAT_VECTORS"))
        agree(getenv("KVT_CHAT_VECTORS"), 1);
}

/* What only a user can get wrong. */
Test(chat, refusals)
{
    static const char chatml[] = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
                                 "{{ '<|im_start|>assistant\n' }}";
    struct rig r = rig(chatml, "<s>");
    struct kvt_prompt p;
    cr_expect_eq(kvt_prompt_build(&p, r.tok, &(struct kvt_prompt_opts){.text = "x", .chat = true, .thinking = KVT_THINKING_OFF}, &r.err), KVT_EUSAGE);
    cr_expect(strstr(r.err.text, "can't switch thinking off"), "%s", r.err.text);
    cr_expect_eq(kvt_prompt_build(&p, r.tok, &(struct kvt_prompt_opts){.text = "x", .thinking = KVT_THINKING_ON}, &r.err), KVT_EUSAGE);
    cr_expect(strstr(r.err.text, "give --chat too"), "%s", r.err.text);
    /* a BOS that is already there: found, and no other one put in front of a plain text */
    cr_assert_eq(kvt_prompt_build(&p, r.tok, &(struct kvt_prompt_opts){.text = "<s>x"}, &r.err), 0);
    cr_expect(p.given_bos && p.tokens.id[0] == r.tok->bos && p.tokens.id[1] != r.tok->bos);
    kvt_prompt_free(&p);
    cr_assert_eq(kvt_prompt_build(&p, r.tok, &(struct kvt_prompt_opts){.text = "<s>x", .chat = true}, &r.err), 0);
    cr_expect(p.given_bos);
    kvt_prompt_free(&p);
    done(&r);
    /* a form that the template has but the vocabulary can't spell */
    struct kvt_chat c;
    const char *template = "{{ '<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>' }}";
    cr_assert_eq(kvt_chat_recognise(&c, (struct kvt_bytes){template, strlen(template)}, &r.err), 0);
    cr_expect_str_eq(c.name, "Phi-4");
    cr_expect_eq(kvt_chat_recognise(&c, (struct kvt_bytes){"{{ x }}", 7}, &r.err), KVT_EUNSUP);
    cr_expect(strstr(r.err.text, "7 bytes, \"{{ x }}...\""), "%s", r.err.text);
}

/* libFuzzer: templates, JSON lines, separators and texts. The input is cut at zero bytes into template, separator, text
 * or JSON lines, and question; whatever comes out must keep the promises of kvt/prompt.h. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chat.h"
#include "engine/model.h"
#include "engine/template.h"
#include "kvt/prompt.h"
#include "mkmodel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct kvt_model *model;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    struct kvt_mkmodel_opts o = {.L = 1, .H = 1, .G = 1, .D = 2, .E = 2, .F = 2, .add_bos = true};
    unsigned char *bytes;
    size_t n;
    void *base;
    if (kvt_mkmodel_bytes(&bytes, &n, &o, NULL) || posix_memalign(&base, 64, n))
        abort();
    memcpy(base, bytes, n);
    free(bytes);
    return kvt_model_from_memory(&model, "tiny", base, n, NULL);
}

static int render(void *arg, const cJSON *object, int line, struct kvt_err *err)
{
    const struct kvt_template *t = arg;
    struct kvt_textbuf b = {0};
    (void)line;
    kvt_template_render(t, t->n, object, "fuzzed", &b, NULL, err);
    kvt_textbuf_free(&b);
    return 0;
}

static void promise(int ok)
{
    if (!ok)
        abort();
}

static void check(const struct kvt_prompt *p, const struct kvt_tokenizer *tok)
{
    int32_t at = 0;
    for (int i = 0; i < p->tokens.n; i++) { /* tokens cover the text, and their bytes are the text's */
        size_t n;
        const char *s = kvt_token_bytes(tok, p->tokens.id[i], &n);
        if (p->tokens.end[i] == 0)
            continue;
        promise(p->tokens.start[i] == at);
        at = p->tokens.end[i];
        promise((size_t)(at - p->tokens.start[i]) == n && memcmp(s, p->text + p->tokens.start[i], n) == 0);
    }
    promise((size_t)at == p->bytes);
    for (int i = 0; i < p->n_spans; i++) {
        const struct kvt_span *s = &p->span[i];
        promise(s->byte_start <= s->byte_end && s->start <= s->end && s->parent < i && (size_t)s->byte_end <= p->bytes);
        if (s->parent >= 0) {
            const struct kvt_span *q = &p->span[s->parent];
            promise(q->byte_start <= s->byte_start && s->byte_end <= q->byte_end && q->start <= s->start && s->end <= q->end);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    char *text = malloc(size + 4), *part[4];
    if (!text)
        return 0;
    memset(text, 0, size + 4);
    memcpy(text, data + 1, size - 1);
    char *s = text;
    for (int i = 0; i < 4; i++) {
        part[i] = s;
        s += strlen(s) + (s < text + size - 1);
    }
    const struct kvt_tokenizer *tok = kvt_model_tokenizer(model);
    struct kvt_err err;
    struct kvt_template t;
    if (kvt_template_parse(&t, part[0], &err) == 0) {
        kvt_json_lines("fuzzed", part[2], strlen(part[2]), render, &t, &err);
        kvt_template_free(&t);
    }
    struct kvt_chat chat;
    if (kvt_chat_recognise(&chat, (struct kvt_bytes){part[2], strlen(part[2])}, &err) == 0)
        kvt_chat_close(&chat);
    struct kvt_prompt_opts o = {.text = part[2], .template_text = data[0] & 1 ? part[0] : NULL,
                                .shot_sep = data[0] & 2 ? part[1] : NULL, .question = data[0] & 4 ? part[3] : NULL,
                                .system = data[0] & 8 ? part[1] : NULL, .chat = data[0] & 16, .no_bos = data[0] & 32,
                                .thinking = (data[0] >> 6) % 3};
    struct kvt_prompt p;
    if (kvt_prompt_build(&p, tok, &o, &err) == 0) {
        check(&p, tok);
        kvt_prompt_free(&p);
    }
    free(text);
    return 0;
}

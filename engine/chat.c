/* The table of chat forms, and finding a model's among them. */
#include "engine/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEMPLATE_BYTES (1u << 20)

#define LLAMA3_HEAD(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define GRANITE_HEAD(role) "<|start_of_role|>" role "<|end_of_role|>"
#define DEEPSEEK_USER "<\xef\xbd\x9cUser\xef\xbd\x9c>"           /* full-width bars */
#define DEEPSEEK_ASSISTANT "<\xef\xbd\x9c" "Assistant\xef\xbd\x9c>"

/* A form, and the literals by which its templates are known: in a template where \n is a line end and every quote is
 * single, all of `has` stand and none of `lacks`. The first row that fits is taken. */
struct row {
    const char *has[3], *lacks[3];
    struct kvt_chat form;
};

static const struct row rows[] = {
    { { "<|start_header_id|>", "'Today Date: ' + date_string + '\n\n'" }, { NULL }, /* 3.1, 3.2, 3.3; the date is the template's own */
      { .name = "Llama 3.1", .mark = "<|start_header_id|>", .system_always = true, .trim = KVT_CHAT_TRIM_SYSTEM | KVT_CHAT_TRIM_USER,
        .system_open = LLAMA3_HEAD("system") "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n", .system_close = "<|eot_id|>",
        .user_open = LLAMA3_HEAD("user"), .user_close = "<|eot_id|>", .assistant = LLAMA3_HEAD("assistant") } },
    { { "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>'" },
      { "Knowledge", "function", "tool" },
      { .name = "Llama 3", .mark = "<|start_header_id|>", .trim = KVT_CHAT_TRIM_SYSTEM | KVT_CHAT_TRIM_USER,
        .system_open = LLAMA3_HEAD("system"), .system_close = "<|eot_id|>", .user_open = LLAMA3_HEAD("user"), .user_close = "<|eot_id|>",
        .assistant = LLAMA3_HEAD("assistant") } },
    { { "'<start_of_turn>'", "first_user_prefix = messages[0]['content'] + '\n\n'" }, { NULL },
      { .name = "Gemma 3", .mark = "<start_of_turn>", .folded = true, .trim = KVT_CHAT_TRIM_USER, .system_open = "", .system_close = "\n\n",
        .user_open = "<start_of_turn>user\n", .user_close = "<end_of_turn>\n", .assistant = "<start_of_turn>model\n" } },
    { { "'<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n'", "System role not supported" }, { NULL },
      { .name = "Gemma", .mark = "<start_of_turn>", .trim = KVT_CHAT_TRIM_USER,
        .user_open = "<start_of_turn>user\n", .user_close = "<end_of_turn>\n", .assistant = "<start_of_turn>model\n" } },
    { { "'[SYSTEM_PROMPT] '", "'[INST] '" }, { NULL },
      { .name = "Mistral v7", .mark = "[INST]", .system_open = "[SYSTEM_PROMPT] ", .system_close = "[/SYSTEM_PROMPT]", .user_open = "[INST] ",
        .user_close = "[/INST]", .assistant = "" } },
    { { "'[SYSTEM_PROMPT]' + ", "'[INST]'" }, { NULL },
      { .name = "Mistral v7 Tekken", .mark = "[INST]", .system_open = "[SYSTEM_PROMPT]", .system_close = "[/SYSTEM_PROMPT]", .user_open = "[INST]",
        .user_close = "[/INST]", .assistant = "" } },
    { { "' [INST] ' + system_message + '\n\n' + message['content'] + ' [/INST]'" }, { NULL },
      { .name = "Mistral v1", .folded = true, .system_open = "", .system_close = "\n\n", .user_open = " [INST] ", .user_close = " [/INST]", .assistant = "" } },
    { { "'[INST] ' + system_message + '\n\n' + message['content'] + '[/INST]'" }, { NULL },
      { .name = "Mistral v3", .mark = "[INST]", .folded = true, .system_open = "", .system_close = "\n\n", .user_open = "[INST] ",
        .user_close = "[/INST]", .assistant = "" } },
    { { "'[INST]' + system_message + '\n\n' + message['content'] + '[/INST]'" }, { NULL },
      { .name = "Mistral v3 Tekken", .mark = "[INST]", .folded = true, .system_open = "", .system_close = "\n\n", .user_open = "[INST]",
        .user_close = "[/INST]", .assistant = "" } },
    { { "'<<SYS>>\n' + system_message + '\n<</SYS>>\n\n'", "'[INST] ' + content.strip() + ' [/INST]'" }, { "elif true == true", "USE_DEFAULT_PROMPT" },
      { .name = "Llama 2", .folded = true, .trim = KVT_CHAT_TRIM_TURN, .system_open = "<<SYS>>\n", .system_close = "\n<</SYS>>\n\n",
        .user_open = "[INST] ", .user_close = " [/INST]", .assistant = "" } },
    { { "'[INST] ' + message['content'] + ' [/INST]'" }, { "system_message", "<<SYS>>" },
      { .name = "Mistral", .user_open = "[INST] ", .user_close = " [/INST]", .assistant = "" } },
    { { "'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>" }, { NULL },
      { .name = "Phi-4", .mark = "<|im_sep|>", .system_open = "<|im_start|>system<|im_sep|>", .system_close = "<|im_end|>",
        .user_open = "<|im_start|>user<|im_sep|>", .user_close = "<|im_end|>", .assistant = "<|im_start|>assistant<|im_sep|>" } },
    { { "<|im_start|>assistant\n<think>\n'" }, { "strftime_now" }, /* QwQ, Qwen3-Thinking */
      { .name = "ChatML", .mark = "<|im_start|>", .thinks = true, .system_open = "<|im_start|>system\n", .system_close = "<|im_end|>\n",
        .user_open = "<|im_start|>user\n", .user_close = "<|im_end|>\n", .assistant = "<|im_start|>assistant\n<think>\n" } },
    { { "<|im_start|>assistant\n", "enable_thinking is false", "'<think>\n\n</think>\n\n'" }, { "strftime_now" }, /* Qwen3 */
      { .name = "ChatML", .mark = "<|im_start|>", .no_thinking = "<think>\n\n</think>\n\n", .system_open = "<|im_start|>system\n",
        .system_close = "<|im_end|>\n", .user_open = "<|im_start|>user\n", .user_close = "<|im_end|>\n", .assistant = "<|im_start|>assistant\n" } },
    { { "<|im_start|>assistant\n" }, { "strftime_now", "enable_thinking", "trim" },
      { .name = "ChatML", .mark = "<|im_start|>", .system_open = "<|im_start|>system\n", .system_close = "<|im_end|>\n",
        .user_open = "<|im_start|>user\n", .user_close = "<|im_end|>\n", .assistant = "<|im_start|>assistant\n" } },
    { { "'<|system|>\n' + message['content'] + '<|end|>\n'", "'<|user|>\n' + message['content'] + '<|end|>\n'", "'<|assistant|>\n'" }, { NULL },
      { .name = "Phi-3", .mark = "<|end|>", .system_open = "<|system|>\n", .system_close = "<|end|>\n", .user_open = "<|user|>\n",
        .user_close = "<|end|>\n", .assistant = "<|assistant|>\n" } },
    { { "'<|' + message['role'] + '|>' + '\n' + message['content'] + '<|end|>\n'", "'<|assistant|>\n'" }, { NULL },
      { .name = "Phi-3", .mark = "<|end|>", .system_open = "<|system|>\n", .system_close = "<|end|>\n", .user_open = "<|user|>\n",
        .user_close = "<|end|>\n", .assistant = "<|assistant|>\n" } },
    { { "'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'" }, { "system" }, /* the first Phi-3 drops a system text */
      { .name = "Phi-3", .mark = "<|end|>", .user_open = "<|user|>\n", .user_close = "<|end|>\n", .assistant = "<|assistant|>\n" } },
    { { "'<|' + message['role'] + '|>' + message['content'] + '<|end|>'", "'<|assistant|>'" }, { NULL },
      { .name = "Phi-4 mini", .mark = "<|end|>", .system_open = "<|system|>", .system_close = "<|end|>", .user_open = "<|user|>",
        .user_close = "<|end|>", .assistant = "<|assistant|>" } },
    { { DEEPSEEK_USER "' + message['content']}}", DEEPSEEK_ASSISTANT "<think>\n'" }, { "enable_thinking", "strftime_now" },
      { .name = "DeepSeek R1", .mark = DEEPSEEK_USER, .thinks = true, .system_open = "", .system_close = "", .user_open = DEEPSEEK_USER,
        .user_close = "", .assistant = DEEPSEEK_ASSISTANT "<think>\n" } },
    { { DEEPSEEK_USER "' + message['content']}}", "{{'" DEEPSEEK_ASSISTANT "'}}" }, { "thinking" }, /* the distilled models' first template, V3 */
      { .name = "DeepSeek", .mark = DEEPSEEK_USER, .system_open = "", .system_close = "", .user_open = DEEPSEEK_USER,
        .user_close = "", .assistant = DEEPSEEK_ASSISTANT } },
    { { "<|start_of_role|>system<|end_of_role|>' + ", "<|start_of_role|>assistant" }, { NULL },
      { .name = "Granite", .mark = "<|start_of_role|>", .system_open = GRANITE_HEAD("system"), .system_close = "<|end_of_text|>\n",
        .user_open = GRANITE_HEAD("user"), .user_close = "<|end_of_text|>\n", .assistant = GRANITE_HEAD("assistant") } },
    { { "'<|system|>\n' + message['content'] + '\n'", "'<|user|>\n' + message['content'] + '\n'", "'<|assistant|>\n'" }, { NULL },
      { .name = "OLMo 2", .system_open = "<|system|>\n", .system_close = "\n", .user_open = "<|user|>\n", .user_close = "\n",
        .assistant = "<|assistant|>\n" } },
    { { "'<|system|>\n' + message['content'] + eos_token }}\n", "'<|user|>\n' + message['content'] + eos_token }}\n", "'<|assistant|>' }}\n" }, { NULL },
      { .name = "Zephyr", .eos = true, .system_open = "<|system|>\n", .system_close = "\n", .user_open = "<|user|>\n", .user_close = "\n",
        .assistant = "<|assistant|>\n" } },
};
enum { N_ROWS = sizeof rows / sizeof *rows };

/* The template with \n as line ends and single quotes only, so that one spelling of a literal is enough. */
static void plain_spelling(struct kvt_textbuf *out, struct kvt_bytes t)
{
    kvt_textbuf_add(out, t.p, t.n);
    if (out->failed)
        return;
    size_t k = 0;
    for (size_t i = 0; i < t.n; i++) {
        bool line = t.p[i] == '\\' && i + 1 < t.n && t.p[i + 1] == 'n';
        out->p[k++] = line ? '\n' : t.p[i] == '"' ? '\'' : t.p[i] ? t.p[i] : ' ';
        i += line;
    }
    out->p[k] = 0;
    out->n = k;
}

static bool fits(const struct row *r, const char *text)
{
    for (size_t i = 0; i < sizeof r->has / sizeof *r->has && r->has[i]; i++)
        if (!strstr(text, r->has[i]))
            return false;
    for (size_t i = 0; i < sizeof r->lacks / sizeof *r->lacks && r->lacks[i]; i++)
        if (strstr(text, r->lacks[i]))
            return false;
    return true;
}

/* ChatML's system text for the case that none is given: what stands behind "<|im_start|>system\n" up to <|im_end|> inside
 * one string literal. SmolLM2, Qwen 2 and 2.5 spell their default so. */
static void find_default_system(struct kvt_chat *c, const char *text)
{
    static const char head[] = "<|im_start|>system\n";
    for (const char *s = text; (s = strstr(s, head)) != NULL;) {
        s += sizeof head - 1;
        const char *stop = strstr(s, "<|im_end|>");
        if (stop && stop > s && strcspn(s, "'{}\\") >= (size_t)(stop - s)) {
            kvt_textbuf_add(&c->system, s, (size_t)(stop - s));
            return;
        }
    }
}

static int refuse(struct kvt_bytes t, struct kvt_err *err)
{
    char shown[49];
    size_t n = 0;
    for (; n < t.n && n < sizeof shown - 1; n++)
        shown[n] = t.p[n] >= 0x20 && t.p[n] < 0x7f ? t.p[n] : ' ';
    shown[n] = 0;
    return kvt_fail(err, KVT_EUNSUP, "the model's chat template (%zu bytes, \"%s...\") is none of those that are known (docs/models.md); "
                    "render the prompt with it elsewhere and give that text with -f, without --chat", t.n, shown);
}

int kvt_chat_recognise(struct kvt_chat *c, struct kvt_bytes t, struct kvt_err *err)
{
    *c = (struct kvt_chat){0};
    if (t.n > MAX_TEMPLATE_BYTES)
        return refuse(t, err);
    struct kvt_textbuf text = {0};
    plain_spelling(&text, t);
    if (text.failed)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the chat template");
    int i = 0;
    while (i < N_ROWS && !fits(&rows[i], text.p))
        i++;
    if (i < N_ROWS) {
        *c = rows[i].form;
        c->bos = strstr(text.p, "bos_token") != NULL;
        c->own_system = !c->system_always && (strstr(text.p, "strftime_now") || strstr(text.p, "default_system_message"));
        if (!strcmp(c->name, "ChatML"))
            find_default_system(c, text.p);
    }
    kvt_textbuf_free(&text);
    if (c->system.failed)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the system text");
    return i < N_ROWS ? 0 : refuse(t, err);
}

int kvt_chat_open(struct kvt_chat *c, const struct kvt_tokenizer *tok, struct kvt_err *err)
{
    struct kvt_bytes t = tok->chat_template;
    *c = (struct kvt_chat){0};
    if (!t.p) {
        if (kvt_tokenizer_named(tok, "<|im_start|>") < 0 || kvt_tokenizer_named(tok, "<|im_end|>") < 0)
            return kvt_fail(err, KVT_EUNSUP, "the model has no chat template; write the marks that it was trained with into the prompt and "
                            "leave --chat out");
        for (int i = 0; i < N_ROWS; i++)
            if (!strcmp(rows[i].form.name, "ChatML"))
                *c = rows[i].form; /* the last of them is the plain one */
        return 0;
    }
    int rc = kvt_chat_recognise(c, t, err);
    if (!rc && c->mark && kvt_tokenizer_named(tok, c->mark) < 0)
        rc = kvt_fail(err, KVT_EUNSUP, "the model's chat template is %s, but its vocabulary has no token %s; give the text ready-made with -f, "
                      "without --chat", c->name, c->mark);
    if (rc)
        kvt_chat_close(c);
    return rc;
}

void kvt_chat_close(struct kvt_chat *c) { kvt_textbuf_free(&c->system); }

int kvt_chat_describe(struct kvt_chat_info *out, const struct kvt_tokenizer *tok, struct kvt_err *err)
{
    struct kvt_chat c;
    *out = (struct kvt_chat_info){0};
    int rc = kvt_chat_open(&c, tok, err);
    if (rc)
        return rc;
    out->form = c.name;
    out->takes_system = c.system_open;
    out->needs_system = c.own_system;
    out->can_switch = c.no_thinking;
    out->thinks = c.thinks;
    snprintf(out->system, sizeof out->system, "%s", c.system.p ? c.system.p : "");
    kvt_chat_close(&c);
    return 0;
}

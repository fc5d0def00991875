/* Is it ChatML, and which system text does the model expect when the user gives none. The template in the file is a
 * program (Jinja); we don't run it, we look for the one literal that matters. */
#include "engine/chat.h"

#include <string.h>

static const char *find(const char *s, size_t n, const char *what)
{
    size_t k = strlen(what);
    for (size_t i = 0; i + k <= n; i++)
        if (s[i] == what[0] && memcmp(s + i, what, k) == 0)
            return s + i;
    return NULL;
}

/* "<|im_start|>system", a line end (as itself or written \n), and then text up to <|im_end|> inside the same string
 * literal: SmolLM2 and Qwen 2 spell their default so. */
static void find_default_system(struct kvt_chat *c, struct kvt_bytes t)
{
    static const char head[] = "<|im_start|>system";
    const char *end = t.p + t.n;
    for (const char *s = t.p; (s = find(s, (size_t)(end - s), head)) != NULL;) {
        s += sizeof head - 1;
        if (s < end && *s == '\n')
            s++;
        else if (end - s >= 2 && s[0] == '\\' && s[1] == 'n')
            s += 2;
        else
            continue;
        const char *stop = find(s, (size_t)(end - s), "<|im_end|>");
        if (!stop || stop == s)
            continue;
        bool literal = true;
        for (const char *p = s; p < stop; p++)
            literal &= *p != '\'' && *p != '"' && *p != '{' && *p != '}' && *p != '\\' && *p != 0;
        if (literal) {
            kvt_textbuf_add(&c->system, s, (size_t)(stop - s));
            return;
        }
    }
}

int kvt_chat_open(struct kvt_chat *c, const struct kvt_tokenizer *tok, struct kvt_err *err)
{
    *c = (struct kvt_chat){0};
    struct kvt_bytes t = tok->chat_template;
    if (kvt_tokenizer_named(tok, "<|im_start|>") < 0 || kvt_tokenizer_named(tok, "<|im_end|>") < 0 ||
        (t.p && !find(t.p, t.n, "<|im_start|>")))
        return kvt_fail(err, KVT_EUNSUP, "the model's chat form is not ChatML, the only one known; write its marks into the prompt "
                        "yourself and leave --chat out");
    if (t.p)
        find_default_system(c, t);
    return c->system.failed ? kvt_fail(err, KVT_ENOMEM, "no memory for the system text") : 0;
}

void kvt_chat_close(struct kvt_chat *c) { kvt_textbuf_free(&c->system); }

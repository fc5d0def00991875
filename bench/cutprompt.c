/* The beginning of a text that is so many tokens of a model, as `kvtrace -f` counts them: prompts of exact lengths.
 * usage: cutprompt MODEL TOKENS < TEXT > PROMPT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvt/model.h"
#include "kvt/prompt.h"

static char *read_all(FILE *f)
{
    size_t n = 0, cap = 1 << 20;
    char *s = malloc(cap + 1);
    for (size_t got; s && (got = fread(s + n, 1, cap - n, f)) > 0;)
        if ((n += got) == cap)
            s = realloc(s, (cap *= 2) + 1);
    if (s)
        s[n] = 0;
    return s;
}

int main(int argc, char **argv)
{
    struct kvt_err err = {0};
    struct kvt_model *m = NULL;
    int tokens = argc == 3 ? atoi(argv[2]) : 0, n = 0, rc = 0;
    char *all = tokens > 0 ? read_all(stdin) : NULL, *text = all ? strdup(all) : NULL;
    if (!text) {
        fprintf(stderr, "usage: cutprompt MODEL TOKENS < TEXT > PROMPT\n");
        return 2;
    }
    rc = kvt_model_open(&m, argv[1], &err);
    for (int want = tokens, turn = 0; !rc && turn < 8 && n != tokens; turn++, want += tokens - n) { /* a cut may join or split its last tokens */
        struct kvt_prompt p;
        if ((rc = kvt_prompt_build(&p, kvt_model_tokenizer(m), &(struct kvt_prompt_opts){.text = all}, &err)))
            break;
        if (want > p.tokens.n || want < 1) {
            rc = kvt_fail(&err, KVT_EINPUT, "the text has %d tokens; %d were asked for", p.tokens.n, tokens);
        } else {
            size_t at = (size_t)p.tokens.end[want - 1];
            while (at > 0 && ((unsigned char)all[at] & 0xc0) == 0x80) /* not inside a character */
                at--;
            memcpy(text, all, at);
            text[at] = 0;
        }
        kvt_prompt_free(&p);
        if (!rc && !(rc = kvt_prompt_build(&p, kvt_model_tokenizer(m), &(struct kvt_prompt_opts){.text = text}, &err))) {
            n = p.tokens.n;
            kvt_prompt_free(&p);
        }
    }
    if (rc)
        fprintf(stderr, "cutprompt: %s\n", err.text);
    else if (n != tokens)
        fprintf(stderr, "cutprompt: %d tokens instead of %d\n", n, tokens);
    if (!rc)
        fputs(text, stdout);
    kvt_model_close(&m);
    free(text);
    free(all);
    return kvt_exit_code(rc);
}

/* tokens FOLDER|FILE: reads lines of hexadecimal digits, the bytes of a text each, and prints the text's ids; with -r
 * also the range of every token. For whoever looks into a difference: tests/vectors/tokenizers/make.py prints the same from
 * the field's own library. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/tokenizer.h"

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : ((c | 0x20) - 'a' + 10) & 15; }

/* In place; the digits' number is even. */
static size_t from_hex(char *s, size_t n)
{
    for (size_t i = 0; i + 1 < n; i += 2)
        s[i / 2] = (char)(digit(s[i]) << 4 | digit(s[i + 1]));
    return n / 2;
}

static int print_line(const struct kvt_tokenizer *t, const char *line, size_t n, bool ranges)
{
    struct kvt_tokens v;
    struct kvt_err err;
    if (kvt_tokenize(t, line, n, KVT_TOK_SPECIAL | KVT_TOK_BOS, &v, &err)) {
        fprintf(stderr, "tokens: %s\n", err.text);
        return 1;
    }
    for (int i = 0; i < v.n; i++)
        printf(ranges ? "%s%d[%d,%d)" : "%s%d", i ? " " : "", v.id[i], v.start[i], v.end[i]);
    putchar('\n');
    kvt_tokens_free(&v);
    return 0;
}

int main(int argc, char **argv)
{
    bool ranges = argc == 3 && strcmp(argv[1], "-r") == 0;
    struct kvt_tokenizer *t = NULL;
    struct kvt_gguf g = {0};
    struct kvt_err err;
    if (argc != 2 + ranges) {
        fprintf(stderr, "usage: tokens [-r] FOLDER|FILE < LINES\n");
        return 2;
    }
    const char *path = argv[argc - 1];
    struct stat st;
    int rc;
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
        rc = kvt_gguf_open(&g, &(struct kvt_folder){.path = ""}, path, &err);
        if (!rc)
            rc = kvt_tokenizer_open(&t, &g, &err);
    } else {
        rc = kvt_tokenizer_open_hf(&t, &(struct kvt_folder){.path = path}, &err);
    }
    if (rc) {
        fprintf(stderr, "tokens: %s\n", err.text);
        return kvt_exit_code(rc);
    }
    char *line = NULL;
    size_t cap = 0;
    for (ssize_t n; !rc && (n = getline(&line, &cap, stdin)) >= 0;)
        rc = print_line(t, line, from_hex(line, (size_t)(n && line[n - 1] == '\n' ? n - 1 : n)), ranges);
    free(line);
    kvt_tokenizer_close(&t);
    kvt_gguf_close(&g);
    return rc;
}

/* libFuzzer: any bytes are a tokenizer or one clear error, and with a tokenizer any text becomes tokens that cover it, or one
 * clear error. An input is a GGUF file (its metadata), or tokenizer.json, a zero byte and a text; tokenizer_config.json may
 * stand between, behind a zero byte of its own. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer.h"
#include "engine/unicode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int rc, const struct kvt_err *err)
{
    if (rc && (rc != err->code || !err->text[0] || strchr(err->text, '\n')))
        abort(); /* an error without a word, or with too many */
}

static void encode(const struct kvt_tokenizer *tok, const char *text, size_t n, unsigned flags)
{
    struct kvt_tokens t;
    struct kvt_stream s = {{0}, 0};
    struct kvt_err err = {0};
    int rc = kvt_tokenize(tok, text, n, flags, &t, &err);
    check(rc, &err);
    if (rc)
        return;
    int32_t at = 0;
    size_t cap = 3 * kvt_tokenizer_longest(tok) + 16, bad;
    char *out = malloc(cap);
    for (int i = 0; i < t.n && out; i++) {
        if (t.id[i] < 0 || t.id[i] >= kvt_tokenizer_size(tok) || t.start[i] != at || t.end[i] < at)
            abort(); /* no such token, a gap or an overlap */
        at = t.end[i];
        size_t put = kvt_stream_put(&s, tok, t.id[i], out, cap);
        if (put > cap || !kvt_utf8_valid(out, put, &bad))
            abort(); /* half a character */
    }
    if (out && t.n && at != (int32_t)n)
        abort(); /* the end of the text is nobody's */
    free(out);
    kvt_tokens_free(&t);
}

static void use(const struct kvt_tokenizer *tok, const char *text, size_t n)
{
    static const char own[] = "The 12 caf\xc3\xa9s <|im_end|> </s>\n\n  \xf0\x9f\x91\x8d\xe2\x96\x81 e\xcc\x81\xef\xac\x81";
    size_t total = 0, k = 0, bytes;
    char *valid = malloc(3 * n + 1);
    for (size_t i = 0; valid && i < n;) {
        int len = kvt_utf8_char(text + i, n - i);
        memcpy(valid + k, len > 0 ? text + i : "?", len > 0 ? (size_t)len : 1);
        k += len > 0 ? (size_t)len : 1;
        i += len > 0 ? (size_t)len : 1;
    }
    for (unsigned flags = 0; valid && flags < 4; flags++)
        encode(tok, valid, k, flags);
    free(valid);
    encode(tok, own, sizeof own - 1, KVT_TOK_SPECIAL | KVT_TOK_BOS);
    for (int32_t id = -1; id <= kvt_tokenizer_size(tok) && id < 4096; id++) {
        const char *s = kvt_token_bytes(tok, id, &bytes);
        total += bytes ? (unsigned char)s[bytes - 1] : 0;
        total += kvt_token_is_end(tok, id) + kvt_token_is_special(tok, id);
    }
    volatile size_t used = total;
    (void)used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kvt_tokenizer *tok = NULL;
    struct kvt_gguf g;
    struct kvt_err err = {0};
    void *copy; /* its own allocation, so that reading past the end is seen; aligned as a mapping is */
    if (!size || size > 1 << 16 || posix_memalign(&copy, 64, size) != 0)
        return 0;
    memcpy(copy, data, size);
    if (size > 4 && memcmp(data, "GGUF", 4) == 0) {
        int rc = kvt_gguf_parse(&g, "fuzzed", copy, size, &err);
        check(rc, &err);
        if (!rc) {
            check(kvt_tokenizer_open(&tok, &g, &err), &err);
            if (tok)
                use(tok, copy, size < 2048 ? size : 2048);
            kvt_tokenizer_close(&tok);
            kvt_gguf_close(&g);
        }
    } else {
        const char *json = copy, *end = json + size, *zero = memchr(json, 0, size), *text = zero ? zero + 1 : end;
        const char *second = zero ? memchr(text, 0, (size_t)(end - text)) : NULL;
        struct kvt_memory_file file[2] = {{"tokenizer.json", json, (size_t)((zero ? zero : end) - json)}, {0}};
        if (second) {
            file[1] = (struct kvt_memory_file){"tokenizer_config.json", text, (size_t)(second - text)};
            text = second + 1;
        }
        check(kvt_tokenizer_open_hf(&tok, &(struct kvt_folder){.path = "m", .file = file, .n_files = 1 + (second != NULL)}, &err), &err);
        if (tok)
            use(tok, text, (size_t)(end - text) < 2048 ? (size_t)(end - text) : 2048);
        kvt_tokenizer_close(&tok);
    }
    free(copy);
    return 0;
}

/* Tokenizers of every kind against the field's own libraries: tests/vectors/tokenizers/make.py trained them small and wrote
 * what the libraries make of 2,048 lines, which are put together here by the same generator. To look into a difference:
 *
 *     make.py --line I | bin/tokens FOLDER        and        make.py --show NAME I
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine/tokenizer.h"
#include "engine/unicode.h"

enum { N_LINES = 2048, MAX_FRAGMENTS = 256, MAX_LINE = 1 << 16 };

struct fragments {
    char *text;                 /* decoded, one after the other */
    size_t start[MAX_FRAGMENTS + 1];
    int n;
};

static void read_fragments(struct fragments *f)
{
    FILE *in = fopen(KVT_TEST_VECTORS "/tokenizers/fragments.txt", "rb");
    char line[4096];
    size_t at = 0;
    cr_assert(in);
    *f = (struct fragments){.text = malloc(1 << 16)};
    while (fgets(line, sizeof line, in)) {
        line[strcspn(line, "\n")] = 0;
        if (!*line || strncmp(line, "# ", 2) == 0)
            continue;
        for (const char *s = line; *s;) {
            unsigned v;
            if (*s != '\\') {
                f->text[at++] = *s++;
            } else if (s[1] == 'x') {
                cr_assert_eq(sscanf(s + 2, "%2x", &v), 1);
                f->text[at++] = (char)v;
                s += 4;
            } else {
                f->text[at++] = s[1] == 'n' ? '\n' : s[1] == 't' ? '\t' : s[1] == 'r' ? '\r' : '\\';
                s += 2;
            }
        }
        cr_assert(++f->n < MAX_FRAGMENTS);
        f->start[f->n] = at;
    }
    fclose(in);
}

/* Bytes that aren't UTF-8 become U+FFFD, one for each maximal part, as in Python's decode(errors="replace"). */
static size_t replace_invalid(const char *s, size_t n, char *out)
{
    size_t k = 0;
    for (size_t i = 0; i < n;) {
        int len = kvt_utf8_char(s + i, n - i);
        if (len > 0) {
            memcpy(out + k, s + i, (size_t)len);
            k += (size_t)len;
            i += (size_t)len;
        } else {
            memcpy(out + k, "\xef\xbf\xbd", 3);
            k += 3;
            i += len < 0 ? (size_t)-len : n - i;
        }
    }
    return k;
}

static size_t make_line(struct kvt_rng *rng, const struct fragments *f, char *out)
{
    static char raw[MAX_LINE];
    size_t n = 0;
    int k = 1 + (int)kvt_rng_below(rng, 6);
    for (int j = 0; j < k; j++) {
        if (j && kvt_rng_below(rng, 4) == 0)
            raw[n++] = ' ';
        uint32_t at = kvt_rng_below(rng, (uint32_t)f->n);
        int times = kvt_rng_below(rng, 60) == 0 ? 12 : 1;
        for (int i = 0; i < times; i++) {
            size_t len = f->start[at + 1] - f->start[at];
            cr_assert(n + len < MAX_LINE / 4);
            memcpy(raw + n, f->text + f->start[at], len);
            n += len;
        }
    }
    return replace_invalid(raw, n, out);
}

static uint32_t hash(uint32_t h, int32_t v)
{
    for (int k = 0; k < 4; k++)
        h = (h ^ ((uint32_t)v >> 8 * k & 255)) * 0x01000193u;
    return h;
}

static uint32_t hash_ids(const struct kvt_tokens *t)
{
    uint32_t h = 0x811c9dc5u;
    for (int i = 0; i < t->n; i++)
        h = hash(h, t->id[i]);
    return h;
}

/* Ranges cover the text, in order. */
static void check_ranges(const struct kvt_tokens *t, size_t bytes, const char *name, int line)
{
    int32_t at = 0;
    for (int i = 0; i < t->n; i++) {
        cr_assert(t->start[i] == at && t->end[i] >= at, "%s line %d: token %d is at %d to %d after %d", name, line, i, t->start[i],
                  t->end[i], at);
        at = t->end[i];
    }
    cr_assert(!t->n || at == (int32_t)bytes, "%s line %d: tokens end at %d of %zu", name, line, at, bytes);
}

/* All ids are shown where the library's are there to compare with: the first difference, else the hash. */
static void compare(const struct kvt_tokens *t, char *want, const char *name, int line)
{
    char *s;
    unsigned long expected = strtoul(want, &s, 16);
    for (int i = 0; *s == ' ' && i < t->n; i++) {
        long id = strtol(s, &s, 10);
        cr_assert_eq(t->id[i], id, "%s line %d: token %d is %d, the library says %ld", name, line, i, t->id[i], id);
    }
    cr_assert_eq(hash_ids(t) & 0xffffff, expected, "%s line %d: other ids than the library's", name, line);
}

static void compare_lines(const struct kvt_tokenizer *tok, const char *name)
{
    struct fragments f;
    struct kvt_rng rng;
    char path[512], *want = malloc(1 << 17), *text = malloc(MAX_LINE);
    read_fragments(&f);
    kvt_rng_seed(&rng, 20);
    snprintf(path, sizeof path, KVT_TEST_VECTORS "/tokenizers/%s.ids", name);
    FILE *in = fopen(path, "rb");
    cr_assert(in && want && text, "no %s", path);
    for (int line = 0; line < N_LINES; line++) {
        struct kvt_tokens t;
        struct kvt_err err;
        size_t n = make_line(&rng, &f, text);
        cr_assert(fgets(want, 1 << 17, in), "%s ends at line %d", path, line);
        cr_assert_eq(kvt_tokenize(tok, text, n, KVT_TOK_SPECIAL | KVT_TOK_BOS, &t, &err), 0, "%s line %d: %s", name, line, err.text);
        compare(&t, want, name, line);
        check_ranges(&t, n, name, line);
        kvt_tokens_free(&t);
    }
    fclose(in);
    free(f.text);
    free(want);
    free(text);
}

static const char *const folders[] = {
    "gpt2", "llama3", "tekken", "gpt4o", "qwen2", "smollm2", "olmo2", "deepseek-llm", "deepseek-v3", "llama2", "mistral", "phi3",
    "gemma", "unigram", "unigram-bytes", "flags",
};
static const char *const ggufs[] = {"spm-llama", "spm-gemma"};

struct name {
    char text[32];
};

static void free_names(struct criterion_test_params *p) { cr_free(p->params); }

static struct criterion_test_params names(const char *const *list, size_t n)
{
    struct name *v = cr_malloc(n * sizeof *v);
    for (size_t i = 0; i < n; i++)
        snprintf(v[i].text, sizeof v[i].text, "%s", list[i]);
    return cr_make_param_array(struct name, v, n, free_names);
}

ParameterizedTestParameters(vectors, tokenizer_json) { return names(folders, sizeof folders / sizeof *folders); }

/* Would catch: any step of any kind that differs from the library's: a normaliser, a cut, a merge, a flag. */
ParameterizedTest(const struct name *p, vectors, tokenizer_json)
{
    char path[512];
    struct kvt_tokenizer *tok;
    struct kvt_err err;
    snprintf(path, sizeof path, KVT_TEST_VECTORS "/tokenizers/%s", p->text);
    cr_assert_eq(kvt_tokenizer_open_hf(&tok, &(struct kvt_folder){.path = path}, &err), 0, "%s", err.text);
    compare_lines(tok, p->text);
    kvt_tokenizer_close(&tok);
}

ParameterizedTestParameters(vectors, gguf_scores) { return names(ggufs, sizeof ggufs / sizeof *ggufs); }

/* Would catch: the order of merges by score, byte tokens, the space in front. */
ParameterizedTest(const struct name *p, vectors, gguf_scores)
{
    char file[64];
    struct kvt_gguf g;
    struct kvt_tokenizer *tok;
    struct kvt_err err;
    snprintf(file, sizeof file, "%s.bin", p->text);
    cr_assert_eq(kvt_gguf_open(&g, &(struct kvt_folder){.path = KVT_TEST_VECTORS "/tokenizers"}, file, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_tokenizer_open(&tok, &g, &err), 0, "%s", err.text);
    compare_lines(tok, p->text);
    kvt_tokenizer_close(&tok);
    kvt_gguf_close(&g);
}

/* Where the value of a key begins, behind its type. */
static unsigned char *after(unsigned char *p, size_t n, const char *key)
{
    size_t k = strlen(key);
    for (size_t i = 0; i + k + 4 < n; i++)
        if (memcmp(p + i, key, k) == 0)
            return p + i + k + 4;
    cr_assert(false, "no key %s", key);
    return p;
}

static void gguf_refused(unsigned char *base, size_t n, const char *says)
{
    struct kvt_gguf g;
    struct kvt_tokenizer *tok = NULL;
    struct kvt_err err;
    cr_assert_eq(kvt_gguf_parse(&g, "bad", base, n, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_tokenizer_open(&tok, &g, &err), KVT_EFORMAT);
    cr_assert(!tok && strstr(err.text, says), "%s", err.text);
    kvt_gguf_close(&g);
}

/* Would catch: scores that no order holds for, and a vocabulary whose parts don't fit together. */
Test(vectors, bad_scores_in_gguf)
{
    void *base;
    cr_assert_eq(posix_memalign(&base, 64, 1 << 16), 0);
    FILE *in = fopen(KVT_TEST_VECTORS "/tokenizers/spm-llama.bin", "rb");
    cr_assert(in);
    size_t n = fread(base, 1, 1 << 16, in);
    fclose(in);
    unsigned char *scores = after(base, n, "tokenizer.ggml.scores"), keep[4]; /* element type, count (8), values */
    const uint32_t bad[] = {0x7fc00000u, 0x7f800000u, 0xff800000u};
    for (int i = 0; i < 3; i++) {
        unsigned char *value = scores + 12 + 4 * 300;
        memcpy(keep, value, 4);
        memcpy(value, &bad[i], 4);
        gguf_refused(base, n, "the score of token 300");
        memcpy(value, keep, 4);
    }
    memcpy(after(base, n, "tokenizer.ggml.bos_token_id"), "\xff\xff\xff\x7f", 4);
    gguf_refused(base, n, "bos_token_id");
    free(base);
}

static int hash_piece(void *arg, struct kvt_view v, struct kvt_err *err)
{
    uint32_t *h = arg;
    (void)err;
    *h = hash(*h, v.end);
    return 0;
}

/* Every pre-tokenizer that GGUF files name, on blocks of 32 lines. Would catch: a wrong expression, or one that PCRE2 reads
 * otherwise than Oniguruma. For a line: make.py --cuts NAME LINE */
Test(vectors, cuts_of_gguf_names)
{
    struct fragments f;
    char *want = malloc(4096), *text = malloc(MAX_LINE);
    FILE *in = fopen(KVT_TEST_VECTORS "/tokenizers/cuts.txt", "rb");
    int names_seen = 0;
    read_fragments(&f);
    cr_assert(in && want && text);
    for (; fgets(want, 4096, in); names_seen++) {
        struct kvt_pretokenizer *pre;
        struct kvt_err err;
        struct kvt_rng rng;
        size_t name = strcspn(want, " ");
        char *s = want + name;
        cr_assert_eq(kvt_pretokenizer_open(&pre, want, name, "test", &err), 0, "%s", err.text);
        kvt_rng_seed(&rng, 20);
        for (int block = 0; block < N_LINES; block += 32) {
            uint32_t h = 0x811c9dc5u;
            for (int i = 0; i < 32; i++) {
                size_t n = make_line(&rng, &f, text);
                struct kvt_view v = {.p = text, .n = n, .end = (int32_t)n};
                cr_assert_eq(kvt_pretokenize(pre, v, hash_piece, &h, &err), 0, "%s", err.text);
            }
            cr_assert_eq(h & 0xffffff, strtoul(s, &s, 16), "%.*s, lines %d to %d: cut otherwise", (int)name, want, block, block + 31);
        }
        kvt_pretokenizer_close(&pre);
    }
    cr_assert_eq(names_seen, 15);
    fclose(in);
    free(f.text);
    free(want);
    free(text);
}

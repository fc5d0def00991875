/* Text to tokens and back: against vectors of the field's own library, and by properties on a tiny model.
 * With KVT_MODEL=/path/SmolLM2-135M-Instruct.Q4_1.gguf the vectors of real ids are compared too. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "engine/gguf.h"
#include "engine/model.h"
#include "engine/pretokenize.h"
#include "engine/unicode.h"
#include "kvt/prompt.h"
#include "mkmodel.h"

struct tiny {
    void *base;
    struct kvt_model *m;
    const struct kvt_tokenizer *tok;
};

static struct tiny open_tiny(struct kvt_mkmodel_opts o)
{
    struct tiny t = {0};
    unsigned char *p;
    size_t n;
    struct kvt_err err;
    o.L = o.H = o.G = 1;
    o.D = o.E = o.F = 2;
    cr_assert_eq(kvt_mkmodel_bytes(&p, &n, &o, &err), 0);
    cr_assert_eq(posix_memalign(&t.base, 64, n), 0);
    memcpy(t.base, p, n);
    free(p);
    cr_assert_eq(kvt_model_from_memory(&t.m, "tiny", t.base, n, &err), 0, "%s", err.text);
    t.tok = kvt_model_tokenizer(t.m);
    return t;
}

static void close_tiny(struct tiny *t)
{
    kvt_model_close(&t->m);
    free(t->base);
}

static size_t from_hex(const char *hex, size_t n, char *out)
{
    for (size_t i = 0; i + 1 < n; i += 2) {
        unsigned v = 0;
        cr_assert_eq(sscanf(hex + i, "%2x", &v), 1);
        out[i / 2] = (char)v;
    }
    return n / 2;
}

/* Ranges cover the text, and unless a byte has no token, the tokens' bytes are the text's. */
static void check_cover(const struct kvt_tokenizer *tok, const struct kvt_tokens *t, const char *text, size_t n, bool exact)
{
    int32_t at = 0;
    for (int i = 0; i < t->n; i++) {
        if (t->end[i] == 0)
            continue; /* BOS */
        size_t k;
        const char *s = kvt_token_bytes(tok, t->id[i], &k);
        cr_assert_eq(t->start[i], at);
        at = t->end[i];
        if (exact)
            cr_assert(k == (size_t)(at - t->start[i]) && memcmp(s, text + t->start[i], k) == 0, "token %d is not its text", i);
    }
    cr_assert_eq(at, (int32_t)n);
}

static void expect_ids(const struct kvt_tokenizer *tok, const char *text, unsigned flags, const int32_t *want, int n, int line)
{
    struct kvt_tokens t;
    struct kvt_err err;
    cr_assert_eq(kvt_tokenize(tok, text, strlen(text), flags, &t, &err), 0, "line %d: %s", line, err.text);
    cr_assert_eq(t.n, n, "line %d: %d tokens instead of %d", line, t.n, n);
    for (int i = 0; i < n; i++)
        cr_assert_eq(t.id[i], want[i], "line %d: token %d is %d instead of %d", line, i, t.id[i], want[i]);
    check_cover(tok, &t, text, strlen(text), true);
    kvt_tokens_free(&t);
}
#define IDS(tok, text, flags, ...) \
    expect_ids(tok, text, flags, (const int32_t[]){__VA_ARGS__}, (int)(sizeof((int32_t[]){__VA_ARGS__}) / 4), __LINE__)

/* Calls each with every line's fields, separated by tabs; returns the number of lines. */
static int each_line(const char *name, void (*each)(void *arg, char **field, int n), void *arg)
{
    char path[512], line[8192], *field[4];
    snprintf(path, sizeof path, KVT_TEST_VECTORS "/%s", name);
    FILE *f = fopen(path, "r");
    cr_assert(f, "no %s", path);
    int lines = 0;
    for (; fgets(line, sizeof line, f); lines++) {
        int n = 0;
        line[strcspn(line, "\n")] = 0;
        for (char *s = line; s && n < 4; n++) {
            field[n] = s;
            s = strchr(s, '\t');
            if (s)
                *s++ = 0;
        }
        each(arg, field, n);
    }
    fclose(f);
    return lines;
}

/* ---- pre-tokenizers ---- */

struct pieces {
    size_t end[1024];
    int n;
};

static int add_piece(void *arg, struct kvt_view v, struct kvt_err *err)
{
    struct pieces *p = arg;
    (void)err;
    cr_assert(p->n < 1024);
    cr_assert_eq((size_t)v.base, p->n ? p->end[p->n - 1] : 0);
    p->end[p->n++] = (size_t)v.end;
    cr_assert_eq((size_t)(v.end - v.base), v.n);
    return 0;
}

static void compare_pieces(void *arg, char **field, int n)
{
    char text[4096];
    struct pieces p = {.n = 0};
    struct kvt_pretokenizer *pre;
    struct kvt_err err;
    (void)arg;
    cr_assert_eq(n, 3);
    size_t bytes = from_hex(field[1], strlen(field[1]), text);
    cr_assert_eq(kvt_pretokenizer_open(&pre, field[0], strlen(field[0]), "test", &err), 0, "%s", err.text);
    cr_assert_eq(kvt_pretokenize(pre, (struct kvt_view){.p = text, .n = bytes, .end = (int32_t)bytes}, add_piece, &p, &err), 0);
    char *s = field[2];
    for (int i = 0; i < p.n; i++)
        cr_assert_eq(p.end[i], strtoul(s, &s, 10), "%s: piece %d of '%.*s'", field[0], i, (int)bytes, text);
    cr_assert_eq(*s, 0, "%s: more pieces expected in '%.*s'", field[0], (int)bytes, text);
    kvt_pretokenizer_close(&pre);
}

/* Would catch: a wrong expression, classes of another Unicode version, a wrong end of white space before digits. */
Test(tokenizer, pieces_of_the_four_pretokenizers) { cr_assert_geq(each_line("pieces.txt", compare_pieces, NULL), 4 * 40); }

/* ---- real ids ---- */

static void compare_ids(void *arg, char **field, int n)
{
    const struct kvt_tokenizer *tok = arg;
    char text[4096];
    struct kvt_tokens t;
    struct kvt_err err;
    cr_assert_eq(n, 2);
    size_t bytes = from_hex(field[0], strcspn(field[0], "*"), text);
    cr_assert_eq(kvt_tokenize(tok, text, bytes, KVT_TOK_SPECIAL, &t, &err), 0, "%s", err.text);
    char *s = field[1];
    for (int i = 0; i < t.n; i++)
        cr_assert_eq(t.id[i], strtol(s, &s, 10), "token %d of '%.*s'", i, (int)bytes, text);
    cr_assert_eq(*s, 0, "more tokens expected in '%.*s'", (int)bytes, text);
    bool exact = true; /* this vocabulary has no token for some control characters */
    for (int i = 0; i < t.n; i++)
        exact &= t.id[i] != 0 || strstr(text, "<|endoftext|>");
    check_cover(tok, &t, text, bytes, exact);
    kvt_tokens_free(&t);
}

/* Would catch: wrong merges or ranks, specials missed, the pre-tokenizer of another model. */
Test(tokenizer, ids_of_the_real_model)
{
    const char *path = getenv("KVT_MODEL");
    if (!path || !*path)
        cr_skip_test("skipped: KVT_MODEL names no model file");
    struct kvt_model *m;
    struct kvt_err err;
    cr_assert_eq(kvt_model_open(&m, path, &err), 0, "%s", err.text);
    cr_assert_str_eq(kvt_tokenizer_kind(kvt_model_tokenizer(m)), "gpt2/smollm");
    cr_assert_geq(each_line("tokens.txt", compare_ids, (void *)(uintptr_t)kvt_model_tokenizer(m)), 40);
    kvt_model_close(&m);
}

/* ---- the tiny model's own ---- */

/* A byte b is token 3 + b, the first merge token 259. */
Test(tokenizer, merges_by_rank)
{
    struct tiny t = open_tiny((struct kvt_mkmodel_opts){.n_merges = 1});
    size_t n;
    const char *first = kvt_token_bytes(t.tok, 259, &n); /* the one merge */
    cr_assert_eq(n, 2);
    int32_t a = 3 + (unsigned char)first[0], b = 3 + (unsigned char)first[1];
    char text[16];
    snprintf(text, sizeof text, "%c%cq%c%c", first[0], first[1], first[0], first[1]);
    IDS(t.tok, text, 0, 259, 3 + 'q', 259);
    snprintf(text, sizeof text, "%cq%c", first[0], first[1]);
    IDS(t.tok, text, 0, a, 3 + 'q', b);
    close_tiny(&t);
}

/* Merging again and again over the whole list, one at a time, the smallest rank first and of equal ranks the left one:
 * slow, and surely right. Symbols are ranges of s; merges are read from the file, their texts are ASCII here. */
static int merge_slowly(const struct kvt_gguf_kv *merges, const char *s, int n, int *end)
{
    int k = n;
    for (int i = 0; i < n; i++)
        end[i] = i + 1;
    for (;;) {
        int at = -1;
        const uint8_t *p = merges->data;
        for (uint64_t rank = 0; rank < merges->count && at < 0; rank++) {
            struct kvt_bytes m = kvt_gguf_next_str(&p);
            int left = (int)strcspn(m.p, " "), right = (int)m.n - left - 1;
            for (int i = 0, from = 0; i + 1 < k && at < 0; from = end[i], i++)
                if (end[i] - from == left && end[i + 1] - end[i] == right && memcmp(s + from, m.p, (size_t)left) == 0 &&
                    memcmp(s + end[i], m.p + left + 1, (size_t)right) == 0)
                    at = i;
        }
        if (at < 0)
            return k;
        memmove(end + at, end + at + 1, (size_t)(k - at - 1) * sizeof *end);
        k--;
    }
}

/* Would catch: a stale heap entry that still merges, a wrong neighbour after a merge, right before left on equal rank.
 * Three letters in all orders make merges that compete for the same neighbours. */
Test(tokenizer, heap_equals_the_definition)
{
    char words[4000];
    struct kvt_rng rng;
    kvt_rng_seed(&rng, 3);
    for (size_t i = 0; i < sizeof words; i++)
        words[i] = "aaabbc"[kvt_rng_below(&rng, 6)];
    words[sizeof words - 1] = 0;
    struct tiny t = open_tiny((struct kvt_mkmodel_opts){.n_merges = 60, .words = words});
    struct kvt_gguf g;
    const struct kvt_gguf_kv *merges;
    cr_assert_eq(kvt_gguf_parse(&g, "tiny", t.base, kvt_model_bytes(t.m), NULL), 0);
    cr_assert_eq(kvt_gguf_array(&g, "tokenizer.ggml.merges", KVT_GGUF_STR, true, &merges, NULL), 0);
    cr_assert_eq(merges->count, 60);
    for (int round = 0; round < 400; round++) {
        char text[64];
        int want[64], n = 1 + (int)kvt_rng_below(&rng, 60);
        for (int i = 0; i < n; i++)
            text[i] = "aabc"[kvt_rng_below(&rng, 4)];
        int k = merge_slowly(merges, text, n, want);
        struct kvt_tokens got;
        cr_assert_eq(kvt_tokenize(t.tok, text, (size_t)n, 0, &got, NULL), 0);
        cr_assert_eq(got.n, k);
        for (int i = 0; i < k; i++)
            cr_assert_eq(got.end[i], want[i], "round %d '%.*s' token %d", round, n, text, i);
        check_cover(t.tok, &got, text, (size_t)n, true);
        kvt_tokens_free(&got);
    }
    kvt_gguf_close(&g);
    close_tiny(&t);
}

Test(tokenizer, special_tokens_and_bos)
{
    struct tiny t = open_tiny((struct kvt_mkmodel_opts){.n_merges = 1, .add_bos = true});
    const unsigned both = KVT_TOK_SPECIAL | KVT_TOK_BOS;
    IDS(t.tok, "q<|im_end|>q", KVT_TOK_SPECIAL, 3 + 'q', 2, 3 + 'q');
    IDS(t.tok, "<|im_start|><|im_end|><|endoftext|>", KVT_TOK_SPECIAL, 1, 2, 0);
    IDS(t.tok, "<|im", KVT_TOK_SPECIAL, 3 + '<', 3 + '|', 3 + 'i', 3 + 'm');
    IDS(t.tok, "<|q|>", 0, 3 + '<', 3 + '|', 3 + 'q', 3 + '|', 3 + '>');
    IDS(t.tok, "q", both, 1, 3 + 'q');
    IDS(t.tok, "q", KVT_TOK_SPECIAL, 3 + 'q');
    IDS(t.tok, "<|im_start|>q", both, 1, 3 + 'q'); /* no second one */
    struct kvt_tokens v;
    cr_assert_eq(kvt_tokenize(t.tok, "<|im_end|>", 10, 0, &v, NULL), 0);
    cr_assert_eq(v.n, 10); /* plain text when not asked for */
    kvt_tokens_free(&v);
    cr_assert(kvt_token_is_end(t.tok, 0) && kvt_token_is_end(t.tok, 2) && !kvt_token_is_end(t.tok, 1) && !kvt_token_is_end(t.tok, 50));
    cr_assert(kvt_token_is_special(t.tok, 1) && !kvt_token_is_special(t.tok, 3));
    cr_assert(!kvt_token_is_end(t.tok, -1) && !kvt_token_is_special(t.tok, 1 << 30));
    close_tiny(&t);
    t = open_tiny((struct kvt_mkmodel_opts){.n_merges = 1});
    IDS(t.tok, "q", both, 3 + 'q'); /* the file says no BOS */
    cr_assert_str_eq(kvt_tokenizer_kind(t.tok), "gpt2/smollm");
    close_tiny(&t);
}

Test(tokenizer, invalid_utf8_is_refused_with_its_place)
{
    struct tiny t = open_tiny((struct kvt_mkmodel_opts){.n_merges = 1});
    const struct { const char *text; size_t n; int at; } bad[] = {
        {"ab\xff", 3, 2}, {"\x80", 1, 0}, {"ok\xc3", 3, 2}, {"\xc0\x80", 2, 0}, {"\xed\xa0\x80", 3, 0}, {"\xf4\x90\x80\x80", 4, 0},
        {"12345678\xe2\x82", 10, 8}, {"\xe2\x82\xac\xe2\x28\xa1", 6, 3}, {"\xf0\x8f\xbf\xbf", 4, 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct kvt_tokens v;
        struct kvt_err err;
        char says[32];
        cr_assert_eq(kvt_tokenize(t.tok, bad[i].text, bad[i].n, 0, &v, &err), KVT_EINPUT);
        snprintf(says, sizeof says, "at byte %d ", bad[i].at);
        cr_assert(strstr(err.text, says), "case %zu: %s", i, err.text);
    }
    close_tiny(&t);
}

/* Any text comes back byte for byte, whole and through the stream, whatever the pre-tokenizer. Would catch: half
 * characters, lost bytes, ranges with gaps. */
Test(tokenizer, round_trip_and_stream)
{
    static const char *const pre[] = {"smollm", "qwen2", "llama-bpe", "gpt-2"};
    struct kvt_rng rng;
    kvt_rng_seed(&rng, 11);
    for (int k = 0; k < 4; k++) {
        struct tiny t = open_tiny((struct kvt_mkmodel_opts){.n_merges = 60, .pre = pre[k]});
        for (int round = 0; round < 300; round++) {
            char text[512], back[2048], piece[256];
            size_t n = 0, m = 0;
            while (n < 300 && kvt_rng_below(&rng, 50)) {
                static const uint32_t top[] = {0x7f, 0x7f, 0x7f, 0x7ff, 0xd7ff, 0x1ffff};
                uint32_t c = kvt_rng_below(&rng, 4) ? 1 + kvt_rng_below(&rng, top[kvt_rng_below(&rng, 6)])
                                                   : (uint32_t)" \n\t'1a"[kvt_rng_below(&rng, 6)];
                if (c >= 0xd800 && c < 0xe000)
                    c = 'x';
                n += (size_t)kvt_utf8_put(c, text + n);
            }
            struct kvt_tokens v;
            cr_assert_eq(kvt_tokenize(t.tok, text, n, 0, &v, NULL), 0);
            check_cover(t.tok, &v, text, n, true);
            struct kvt_stream s = {{0}, 0};
            for (int i = 0; i < v.n; i++) {
                size_t bad, put = kvt_stream_put(&s, t.tok, v.id[i], piece, sizeof piece);
                cr_assert(kvt_utf8_valid(piece, put, &bad), "half a character was printed");
                memcpy(back + m, piece, put);
                m += put;
            }
            cr_assert_eq(kvt_stream_end(&s, piece, sizeof piece), 0);
            cr_assert(m == n && memcmp(back, text, n) == 0);
            kvt_tokens_free(&v);
        }
        close_tiny(&t);
    }
}

static void stream_case(const struct kvt_tokenizer *tok, const char *bytes, size_t n, const char *want, int line)
{
    char out[64];
    size_t m = 0;
    struct kvt_stream s = {{0}, 0};
    for (size_t i = 0; i < n; i++)
        m += kvt_stream_put(&s, tok, 3 + (unsigned char)bytes[i], out + m, sizeof out - m);
    m += kvt_stream_end(&s, out + m, sizeof out - m);
    cr_assert(m == strlen(want) && memcmp(out, want, m) == 0, "line %d: '%.*s' instead of '%s'", line, (int)m, out, want);
}

/* What can't become a character comes out as U+FFFD, one for each maximal part, and what follows isn't lost. */
Test(tokenizer, stream_of_broken_bytes)
{
    struct tiny t = open_tiny((struct kvt_mkmodel_opts){.n_merges = 1});
#define R "\xef\xbf\xbd"
    stream_case(t.tok, "a\xff" "b", 3, "a" R "b", __LINE__);
    stream_case(t.tok, "\xe2\x82" "b", 3, R "b", __LINE__);
    stream_case(t.tok, "\xe2\x82", 2, R, __LINE__);
    stream_case(t.tok, "\xf0\x9f\x91\xe2\x82\xac", 6, R "\xe2\x82\xac", __LINE__);
    stream_case(t.tok, "\xf0\x9f\x91\x8d", 4, "\xf0\x9f\x91\x8d", __LINE__);
    stream_case(t.tok, "\xed\xa0\x80", 3, R R R, __LINE__);
    stream_case(t.tok, "\xc3\xc3\xa9", 3, R "\xc3\xa9", __LINE__);
    close_tiny(&t);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Would catch: a merge loop that is quadratic in the length of a word. Four times the text may take eight times as long
 * (n log n, caches, a noisy machine), never sixteen. */
Test(tokenizer, a_long_word_is_not_quadratic)
{
    struct tiny t = open_tiny((struct kvt_mkmodel_opts){.n_merges = 141});
    enum { N = 1 << 20 };
    char *text = malloc(N);
    cr_assert(text);
    for (int i = 0; i < N; i++)
        text[i] = "there"[i % 5];
    double took[2];
    for (int k = 0; k < 2; k++) {
        struct kvt_tokens v;
        took[k] = 1e9;
        for (int again = 0; again < 3; again++) {
            double t0 = seconds();
            cr_assert_eq(kvt_tokenize(t.tok, text, k ? N : N / 4, 0, &v, NULL), 0);
            double dt = seconds() - t0;
            took[k] = dt < took[k] ? dt : took[k];
            kvt_tokens_free(&v);
        }
    }
    cr_assert(took[1] < 12 * took[0], "256 KB took %.3f s, 1 MB %.3f s", took[0], took[1]);
    free(text);
    close_tiny(&t);
}

/* tokenizer.json: what is refused and how, where tokens of changed text lie, and what a folder's other files add. Small files
 * written here; that ids are right is test_tokenizer_vectors' business. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/tokenizer.h"

static int open_with(struct kvt_tokenizer **t, const char *json, const char *config, const char *generation, struct kvt_err *err)
{
    const struct kvt_memory_file file[] = {
        {"tokenizer.json", json, strlen(json)},
        {"tokenizer_config.json", config, config ? strlen(config) : 0},
        {"generation_config.json", generation, generation ? strlen(generation) : 0},
    };
    *err = (struct kvt_err){0};
    return kvt_tokenizer_open_hf(t, &(struct kvt_folder){.path = "m", .file = file, .n_files = 1 + (config != NULL) + (generation != NULL)},
                                 err);
}

/* A file over characters: <unk>, <s>, </s>, letters, "ab", "abc", the block, "block a". */
#define VOCAB "{\"<unk>\":0,\"<s>\":1,\"</s>\":2,\"a\":3,\"b\":4,\"c\":5,\"ab\":6,\"abc\":7,\"\u2581\":8,\"\u2581a\":9,\"f\":10,\"i\":11}"
#define MERGES "[\"a b\",[\"ab\",\"c\"],\"\u2581 a\"]"
#define FILE_OF(added, norm, pre, post, model) "{\"added_tokens\":[" added "],\"normalizer\":" norm ",\"pre_tokenizer\":" pre \
    ",\"post_processor\":" post ",\"decoder\":null,\"model\":" model "}"
#define BPE(vocab, merges) "{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"vocab\":" vocab ",\"merges\":" merges "}"
#define PLAIN FILE_OF("", "null", "null", "null", BPE(VOCAB, MERGES))

static void refused(const char *json, int code, const char *says, int line)
{
    struct kvt_tokenizer *t = NULL;
    struct kvt_err err;
    int rc = open_with(&t, json, NULL, NULL, &err);
    cr_assert_eq(rc, code, "line %d: %d (%s)", line, rc, err.text);
    cr_assert(!t && strstr(err.text, says) && !strchr(err.text, '\n'), "line %d: %s", line, err.text);
    cr_assert_eq(kvt_exit_code(rc), 3);
}
#define REFUSED(code, says, json) refused(json, code, says, __LINE__)

Test(tokenizer_json, bad_files_get_one_line)
{
    REFUSED(KVT_EFORMAT, "not valid JSON", "{\"model\":");
    REFUSED(KVT_EFORMAT, "no model", "{}");
    REFUSED(KVT_EFORMAT, "without a vocabulary", FILE_OF("", "null", "null", "null", "{\"type\":\"BPE\"}"));
    REFUSED(KVT_EFORMAT, "a vocabulary of 0 tokens", FILE_OF("", "null", "null", "null", BPE("{}", "[]")));
    REFUSED(KVT_EFORMAT, "not a whole number below", FILE_OF("", "null", "null", "null", BPE("{\"<unk>\":0,\"a\":2147483648}", "[]")));
    REFUSED(KVT_EFORMAT, "not a whole number below", FILE_OF("", "null", "null", "null", BPE("{\"<unk>\":0,\"a\":-1}", "[]")));
    REFUSED(KVT_EFORMAT, "not a whole number below", FILE_OF("", "null", "null", "null", BPE("{\"<unk>\":0,\"a\":1.5}", "[]")));
    REFUSED(KVT_EFORMAT, "there are only 2 tokens", FILE_OF("", "null", "null", "null", BPE("{\"<unk>\":0,\"a\":2}", "[]")));
    REFUSED(KVT_EFORMAT, "no token has the id 1", FILE_OF("{\"id\":0,\"content\":\"<unk>\"}", "null", "null", "null",
            BPE("{\"<unk>\":0,\"a\":2}", "[]")));
    REFUSED(KVT_EFORMAT, "have the same id 1", FILE_OF("", "null", "null", "null", BPE("{\"<unk>\":0,\"a\":1,\"b\":1}", "[]")));
    REFUSED(KVT_EFORMAT, "are the same text", FILE_OF("", "null", "null", "null", BPE("{\"<unk>\":0,\"a\":1,\"a\":2}", "[]")));
    REFUSED(KVT_EFORMAT, "have the same id 3", FILE_OF("{\"id\":3,\"content\":\"x\"}", "null", "null", "null", BPE(VOCAB, MERGES)));
    REFUSED(KVT_EFORMAT, "there are only 13 tokens", FILE_OF("{\"id\":16777214,\"content\":\"x\"}", "null", "null", "null", BPE(VOCAB, MERGES)));
    REFUSED(KVT_EFORMAT, "without content", FILE_OF("{\"id\":12}", "null", "null", "null", BPE(VOCAB, MERGES)));
    REFUSED(KVT_EFORMAT, "unknown token", FILE_OF("", "null", "null", "null", BPE("{\"a\":0}", "[]")));
    REFUSED(KVT_EFORMAT, "merge 0 does not join", FILE_OF("", "null", "null", "null", BPE(VOCAB, "[\"a x\"]")));
    REFUSED(KVT_EFORMAT, "merge 0 does not join", FILE_OF("", "null", "null", "null", BPE(VOCAB, "[\"b a\"]")));
    REFUSED(KVT_EFORMAT, "merge 1 does not join", FILE_OF("", "null", "null", "null", BPE(VOCAB, "[\"a b\",\"a\"]")));
    REFUSED(KVT_EFORMAT, "merge 0 does not join", FILE_OF("", "null", "null", "null", BPE(VOCAB, "[[\"a\",\"b\",\"c\"]]")));
    /* a merge that makes what it is made of: the only cycle there can be */
    REFUSED(KVT_EFORMAT, "merge 0 does not join", FILE_OF("", "null", "null", "null", BPE("{\"<unk>\":0,\"\":1,\"a\":2}", "[[\"\",\"a\"]]")));
    REFUSED(KVT_EFORMAT, "merges 0 and 1 are the same", FILE_OF("", "null", "null", "null", BPE(VOCAB, "[\"a b\",\"a b\"]")));
    REFUSED(KVT_EUNSUP, "dropout", FILE_OF("", "null", "null", "null", "{\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":{},\"merges\":[]}"));
    REFUSED(KVT_EUNSUP, "end_of_word_suffix", FILE_OF("", "null", "null", "null", "{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\"}"));
    REFUSED(KVT_EUNSUP, "model 'WordPiece'", FILE_OF("", "null", "null", "null", "{\"type\":\"WordPiece\"}"));
    REFUSED(KVT_EUNSUP, "normalizer 'Precompiled'", FILE_OF("", "{\"type\":\"Precompiled\"}", "null", "null", BPE(VOCAB, MERGES)));
    REFUSED(KVT_EUNSUP, "pre-tokenizer 'UnicodeScripts'", FILE_OF("", "null", "{\"type\":\"UnicodeScripts\"}", "null", BPE(VOCAB, MERGES)));
    REFUSED(KVT_EUNSUP, "after ByteLevel", FILE_OF("", "null", "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},"
            "{\"type\":\"Digits\"}]}", "null", BPE(VOCAB, MERGES)));
    REFUSED(KVT_EUNSUP, "post-processor 'X'", FILE_OF("", "null", "null", "{\"type\":\"X\"}", BPE(VOCAB, MERGES)));
    REFUSED(KVT_EFORMAT, "nested more than", "{\"model\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[");
#define UNIGRAM(v) FILE_OF("", "null", "null", "null", "{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":" v "}")
    REFUSED(KVT_EFORMAT, "the score of token 1", UNIGRAM("[[\"<unk>\",0],[\"a\",1e999]]"));
    REFUSED(KVT_EFORMAT, "entry 1", UNIGRAM("[[\"<unk>\",0],[\"a\",null]]"));
    REFUSED(KVT_EFORMAT, "unknown token", FILE_OF("", "null", "null", "null", "{\"type\":\"Unigram\",\"unk_id\":7,\"vocab\":[[\"a\",0]]}"));
}

#define SPLIT(regex) FILE_OF("", "null", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\"," \
    "\"invert\":false}", "null", BPE(VOCAB, MERGES))

Test(tokenizer_json, expressions)
{
    REFUSED(KVT_EFORMAT, "does not compile", SPLIT("a("));
    REFUSED(KVT_EFORMAT, "does not compile", SPLIT("[b-a]"));
    REFUSED(KVT_EUNSUP, "a set inside a set", SPLIT("[a[b]]"));
    REFUSED(KVT_EUNSUP, "a set inside a set", SPLIT("[a&&b]"));
    REFUSED(KVT_EUNSUP, "a repeated count", SPLIT("a{1,3}+"));
    REFUSED(KVT_EUNSUP, "this kind of group", SPLIT("(?m:a)"));
    REFUSED(KVT_EUNSUP, "this kind of group", SPLIT("a(?R)"));
    REFUSED(KVT_EUNSUP, "a verb", SPLIT("(*ACCEPT)"));
    REFUSED(KVT_EUNSUP, "this escape", SPLIT("\\\\Qa"));
    REFUSED(KVT_EUNSUP, "an unknown property", SPLIT("\\\\p{Zz}"));
    REFUSED(KVT_EUNSUP, "a set without an end", SPLIT("[a"));
    /* catastrophic: given up within the limit, not waited for */
    struct kvt_tokenizer *t;
    struct kvt_tokens v;
    struct kvt_err err;
    cr_assert_eq(open_with(&t, SPLIT("(a+a+)+\\\\d"), NULL, NULL, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_tokenize(t, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", 73, 0, &v, &err), KVT_EINPUT);
    cr_assert(strstr(err.text, "gave up"), "%s", err.text);
    kvt_tokenizer_close(&t);
}

static void check(const char *json, const char *config, const char *text, const char *want, int line)
{
    struct kvt_tokenizer *t;
    struct kvt_tokens v;
    struct kvt_err err;
    char got[512] = "";
    cr_assert_eq(open_with(&t, json, config, NULL, &err), 0, "line %d: %s", line, err.text);
    cr_assert_eq(kvt_tokenize(t, text, strlen(text), KVT_TOK_SPECIAL | KVT_TOK_BOS, &v, &err), 0, "line %d: %s", line, err.text);
    for (int i = 0; i < v.n; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%d[%d,%d)", i ? " " : "", v.id[i], v.start[i], v.end[i]);
    cr_assert_str_eq(got, want, "line %d", line);
    kvt_tokens_free(&v);
    kvt_tokenizer_close(&t);
}
#define CHECK(json, config, text, want) check(json, config, text, want, __LINE__)

#define NORM(n) FILE_OF("", n, "null", "null", BPE(VOCAB, MERGES))
#define SEQUENCE(a, b) "{\"type\":\"Sequence\",\"normalizers\":[" a "," b "]}"
#define PREPEND "{\"type\":\"Prepend\",\"prepend\":\"\u2581\"}"
#define SPACES "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\u2581\"}"

/* Every token stands for bytes of the text as it was given. Would catch: ranges in the normalised text, gaps, overlaps. */
Test(tokenizer_json, ranges_of_changed_text)
{
    CHECK(PLAIN, NULL, "abcab", "7[0,3) 6[3,5)");
    CHECK(NORM(SEQUENCE(PREPEND, SPACES)), NULL, "abc a", "8[0,0) 7[0,3) 9[3,5)"); /* the space in front stands for nothing */
    CHECK(NORM(SEQUENCE(PREPEND, SPACES)), NULL, "a b", "9[0,1) 8[1,2) 4[2,3)");
    CHECK(NORM("{\"type\":\"Lowercase\"}"), NULL, "ABCaB", "7[0,3) 6[3,5)");
    CHECK(NORM("{\"type\":\"NFKC\"}"), NULL, "a\xef\xac\x81" "b", "3[0,1) 10[1,2) 11[2,4) 4[4,5)"); /* the ligature's 3 bytes for f and i */
    CHECK(NORM("{\"type\":\"NFKC\"}"), NULL, "\xef\xbd\x81\xef\xbd\x82", "6[0,6)");                     /* full-width a and b */
    CHECK(NORM("{\"type\":\"NFKC\"}"), NULL, "\xef\xbd\x81" "c", "3[0,3) 5[3,4)");
    CHECK(NORM("{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}"), NULL, "  ab  ", "6[0,6)");
    CHECK(NORM("{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x+\"},\"content\":\"\"}"), NULL, "xaxxbx", "6[0,6)");
    CHECK(NORM("{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x+\"},\"content\":\"c\"}"), NULL, "abxxa", "7[0,4) 3[4,5)");
    CHECK(PLAIN, NULL, "a\xe2\x82\xac\xe2\x82\xac" "b", "3[0,1) 0[1,7) 4[7,8)"); /* unknown ones are one */
    CHECK(PLAIN, NULL, "", "");
}

static void form(const char *name, const char *text, const char *want, int line)
{
    cJSON *json = cJSON_CreateObject();
    struct kvt_normaliser *n;
    struct kvt_normed out = {0};
    struct kvt_err err;
    cJSON_AddStringToObject(json, "type", name);
    cr_assert_eq(kvt_normaliser_open(&n, json, "test", &err), 0, "%s", err.text);
    cr_assert_eq(kvt_normalise(n, (struct kvt_view){.p = text, .n = strlen(text), .end = (int32_t)strlen(text)}, &out, &err), 0);
    cr_assert(out.n == strlen(want) && memcmp(out.p, want, out.n) == 0, "line %d: '%.*s'", line, (int)out.n, out.p);
    kvt_normed_free(&out);
    kvt_normaliser_close(&n);
    cJSON_Delete(json);
}

/* As the library: Unicode 9's. Every character was compared once, alone before U+0301 and behind twenty bases. */
Test(tokenizer_json, forms)
{
    form("NFC", "q̣̇", "q̣̇", __LINE__);
    form("NFC", "ạ᷶", "ạ᷶", __LINE__); /* U+1DF6 is of Unicode 10 */
    form("NFC", "á᷶é", "á᷶é", __LINE__);
    form("NFC", "각 각 Å", "각 각 Å", __LINE__);
    form("NFD", "ṩ", "ṩ", __LINE__);
    form("NFKC", "ﬁ²Ａ", "fi2A", __LINE__);
    form("Lowercase", "İÉᲉ", "i̇éᲊ", __LINE__);
}

#define ADDED(flags) FILE_OF("{\"id\":12,\"content\":\"<m>\"" flags "},{\"id\":13,\"content\":\"<mm>\"}", "null", "null", "null", \
    BPE(VOCAB, MERGES))

Test(tokenizer_json, added_tokens)
{
    CHECK(ADDED(""), NULL, "a <m>  b", "3[0,1) 0[1,2) 12[2,5) 0[5,7) 4[7,8)");
    CHECK(ADDED(",\"lstrip\":true"), NULL, "a <m>  b", "3[0,1) 12[1,5) 0[5,7) 4[7,8)");
    CHECK(ADDED(",\"rstrip\":true"), NULL, "a <m>  b", "3[0,1) 0[1,2) 12[2,7) 4[7,8)");
    CHECK(ADDED(",\"lstrip\":true,\"rstrip\":true"), NULL, "<m> <m>", "12[0,4) 12[4,7)");
    CHECK(ADDED(",\"single_word\":true"), NULL, "a<m> <m>", "3[0,1) 0[1,5) 12[5,8)");
    CHECK(ADDED(""), NULL, "<mm><m", "13[0,4) 0[4,6)");
    /* a normalised one is looked for in the normalised text */
    CHECK(FILE_OF("{\"id\":12,\"content\":\"AB\",\"normalized\":true}", "{\"type\":\"Lowercase\"}", "null", "null", BPE(VOCAB, MERGES)), NULL,
          "cAbc", "5[0,1) 12[1,3) 5[3,4)");
}

#define TEMPLATE "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":" \
    "{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],\"tokens\":[\"<s>\"]}}}"
#define MARKS "{\"id\":1,\"content\":\"<s>\",\"special\":true},{\"id\":2,\"content\":\"</s>\",\"special\":true}"

Test(tokenizer_json, bos_and_ends)
{
    const char *with = FILE_OF(MARKS, "null", "null", TEMPLATE, BPE(VOCAB, MERGES));
    const char *without = FILE_OF(MARKS, "null", "null", "null", BPE(VOCAB, MERGES));
    CHECK(with, NULL, "a", "1[0,0) 3[0,1)");
    CHECK(with, NULL, "<s>a", "1[0,3) 3[3,4)"); /* no second one */
    CHECK(FILE_OF(MARKS, "{\"type\":\"Strip\",\"strip_left\":true}", "null", TEMPLATE, BPE(VOCAB, MERGES)), NULL, "  a", "1[0,0) 3[0,3)");
    CHECK(with, "{\"bos_token\":\"<s>\",\"add_bos_token\":false}", "a", "3[0,1)");
    CHECK(without, "{\"bos_token\":\"<s>\"}", "a", "3[0,1)");
    CHECK(without, "{\"bos_token\":{\"content\":\"<s>\"},\"add_bos_token\":true}", "a", "1[0,0) 3[0,1)");
    struct kvt_tokenizer *t;
    struct kvt_err err;
    cr_assert_eq(open_with(&t, with, "{\"eos_token\":\"</s>\",\"chat_template\":\"hello\"}", "{\"eos_token_id\":[5,7]}", &err), 0, "%s", err.text);
    cr_assert(kvt_token_is_end(t, 2) && kvt_token_is_end(t, 5) && kvt_token_is_end(t, 7) && !kvt_token_is_end(t, 3));
    cr_assert(kvt_token_is_special(t, 1) && !kvt_token_is_special(t, 3));
    cr_assert(kvt_bytes_equal(t->chat_template, "hello"));
    kvt_tokenizer_close(&t);
}

/* Byte tokens and U+2581 come out as the bytes they stand for, and a character from bytes as one. */
Test(tokenizer_json, streams_bytes_and_spaces)
{
    const char *json = FILE_OF("", SEQUENCE(PREPEND, SPACES), "null", "null",
                               "{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{\"<0xE2>\":0,\"<0x82>\":1,\"<0xAC>\":2,\"\u2581\":3,"
                               "\"\u2581a\":4,\"a\":5},\"merges\":[\"\u2581 a\"]}");
    struct kvt_tokenizer *t;
    struct kvt_tokens v;
    struct kvt_stream s = {{0}, 0};
    struct kvt_err err;
    char out[64];
    size_t n = 0;
    cr_assert_eq(open_with(&t, json, NULL, NULL, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_tokenize(t, "a \xe2\x82\xac", 5, 0, &v, &err), 0, "%s", err.text);
    const int32_t want[] = {4, 3, 0, 1, 2};
    cr_assert_eq(v.n, 5);
    for (int i = 0; i < v.n; i++) {
        size_t put = kvt_stream_put(&s, t, v.id[i], out + n, sizeof out - n);
        cr_assert_eq(v.id[i], want[i]);
        cr_assert(!((i == 2 || i == 3) && put)); /* half a character is held back */
        n += put;
    }
    cr_assert(n == 6 && memcmp(out, " a \xe2\x82\xac", 6) == 0);
    kvt_tokens_free(&v);
    kvt_tokenizer_close(&t);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Would catch: anything quadratic in a long word or in white space. Four times the text may take twelve times as long
 * (n log n, caches, a noisy machine), never sixteen. */
Test(tokenizer_json, long_texts_are_not_quadratic)
{
    static const char *const folders[] = {"llama3", "llama2", "gemma", "unigram", "qwen2", "deepseek-llm"};
    static const char *const texts[] = {"there", " ", "\xe4\xb8\x80", "a\xcc\x81", "x\n"};
    enum { N = 1 << 20 };
    char *text = malloc(N);
    cr_assert(text);
    for (size_t f = 0; f < sizeof folders / sizeof *folders; f++) {
        char path[512];
        struct kvt_tokenizer *t;
        struct kvt_err err;
        snprintf(path, sizeof path, KVT_TEST_VECTORS "/tokenizers/%s", folders[f]);
        cr_assert_eq(kvt_tokenizer_open_hf(&t, &(struct kvt_folder){.path = path}, &err), 0, "%s", err.text);
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
            size_t len = strlen(texts[k]), n[2] = {N / 4 / len * len, N / len * len};
            double took[2];
            for (size_t i = 0; i < n[1]; i++)
                text[i] = texts[k][i % len];
            for (int round = 0; round < 2; round++) {
                struct kvt_tokens v;
                double t0 = seconds();
                cr_assert_eq(kvt_tokenize(t, text, n[round], 0, &v, &err), 0, "%s: %s", folders[f], err.text);
                took[round] = seconds() - t0;
                kvt_tokens_free(&v);
            }
            cr_assert(took[1] < 12 * took[0] + 0.1, "%s, '%s': 256 KB took %.3f s, 1 MB %.3f s", folders[f], texts[k], took[0], took[1]);
        }
        kvt_tokenizer_close(&t);
    }
    free(text);
}

/* Model files: what opens, and that damaged ones are refused with one clear line and the right code. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "engine/model.h"
#include "mkmodel.h"

struct file {
    unsigned char *p; /* 64-byte aligned */
    size_t n;
};

static struct file make(struct kvt_mkmodel_opts o)
{
    struct file f = {0};
    unsigned char *p;
    cr_assert_eq(kvt_mkmodel_bytes(&p, &f.n, &o, NULL), 0);
    void *copy;
    cr_assert_eq(posix_memalign(&copy, 64, f.n), 0);
    f.p = copy;
    memcpy(f.p, p, f.n);
    free(p);
    return f;
}

static unsigned char *find(struct file *f, const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= f->n; i++)
        if (memcmp(f->p + i, text, n) == 0)
            return f->p + i;
    cr_assert(false, "no '%s' in the model", text);
    return NULL;
}

/* The value behind a key, or the fields behind a tensor's name. */
static unsigned char *after(struct file *f, const char *name) { return find(f, name) + strlen(name); }

static void put32(unsigned char *p, uint32_t v) { memcpy(p, &v, 4); }
static void put64(unsigned char *p, uint64_t v) { memcpy(p, &v, 8); }

static int open_it(const struct file *f, struct kvt_err *err)
{
    struct kvt_model *m;
    *err = (struct kvt_err){0};
    int rc = kvt_model_from_memory(&m, "m.gguf", f->p, f->n, err);
    kvt_model_close(&m);
    return rc;
}

static void refuses(const struct file *f, int code, const char *says, int line)
{
    struct kvt_err err;
    int rc = open_it(f, &err);
    cr_assert_eq(rc, code, "line %d: code %d instead of %d: %s", line, rc, code, err.text);
    cr_assert(strstr(err.text, says), "line %d: '%s' says nothing of '%s'", line, err.text, says);
    cr_assert(strncmp(err.text, "m.gguf", 6) == 0, "line %d: '%s' doesn't name the file", line, err.text);
    cr_assert(!strchr(err.text, '\n'), "line %d: more than one line", line);
}

/* Opens a fresh tiny model after `change` (which sees `struct file f`) and expects a refusal. */
#define REFUSED(code, says, ...)                                          \
    do {                                                                  \
        struct file f = make((struct kvt_mkmodel_opts){.seed = 1});       \
        __VA_ARGS__;                                                      \
        refuses(&f, code, says, __LINE__);                                \
        free(f.p);                                                        \
    } while (0)

/* Would catch: a wrong letter in the shape, a tensor bound to the wrong name, rope of the wrong kind, lost biases. */
Test(gguf, shape_and_weights)
{
    for (int qwen = 0; qwen < 2; qwen++) {
        struct file f = make((struct kvt_mkmodel_opts){.seed = 5, .qwen2 = qwen, .untied = qwen, .norm_type = qwen ? KVT_BF16 : KVT_F32,
                                                       .pre = qwen ? "qwen2" : NULL});
        struct kvt_model *m;
        struct kvt_err err;
        cr_assert_eq(kvt_model_from_memory(&m, "m.gguf", f.p, f.n, &err), 0, "%s", err.text);
        const struct kvt_shape *s = kvt_model_shape(m);
        cr_assert(s->L == 3 && s->H == 6 && s->G == 2 && s->D == 16 && s->E == 96 && s->F == 128 && s->V == 400);
        cr_assert(s->context_tok == 2048 && s->rope_rot == 16 && s->rope[0].base == 10000);
        cr_assert_float_eq(s->rms_eps, 1e-5f, 1e-12);
        cr_assert_eq(s->rope_halves, qwen);
        cr_assert_eq(s->qkv_bias, qwen);
        cr_assert_eq(s->tied, !qwen);
        cr_assert_str_eq(s->arch, qwen ? "qwen2" : "llama");
        cr_assert_str_eq(s->name, "tiny random model");
        cr_assert_str_eq(kvt_model_main_type(m), "F32");
        cr_assert_eq(kvt_model_bytes(m), f.n);
        const struct kvt_weights *w = kvt_model_weights(m);
        cr_assert_eq(w->output.data == w->embed.data, !qwen);
        for (int l = 0; l < s->L; l++) {
            const struct kvt_layer_weights *y = &w->layer[l];
            const struct kvt_mat *mat[] = {&y->q, &y->k, &y->v, &y->o, &y->gate, &y->up, &y->down};
            const int n[] = {96, 32, 32, 96, 128, 128, 96}, k[] = {96, 96, 96, 96, 96, 96, 128};
            for (int i = 0; i < 7; i++) {
                cr_assert(mat[i]->n == n[i] && mat[i]->k == k[i]);
                for (int j = 0; j < i; j++)
                    cr_assert(mat[i]->data != mat[j]->data);
            }
            for (int i = 0; i < 96; i++) /* mean 1, deviation 0.1, bounded by 2 sqrt(3) deviations */
                cr_assert(y->attn_norm[i] > 0.6f && y->attn_norm[i] < 1.4f && y->ffn_norm[i] > 0.6f);
            cr_assert_eq(y->q_bias != NULL && y->k_bias != NULL && y->v_bias != NULL, qwen);
        }
        kvt_model_close(&m);
        cr_assert_null(m);
        free(f.p);
    }
}

Test(gguf, every_type_opens)
{
    for (int t = 0; t < KVT_N_DTYPE; t++) {
        struct file f = make((struct kvt_mkmodel_opts){.L = 1, .H = 2, .G = 1, .D = 128, .E = 256, .F = 256, .type = (enum kvt_dtype)t});
        struct kvt_err err;
        cr_assert_eq(open_it(&f, &err), 0, "%s: %s", kvt_dtypes[t].name, err.text);
        free(f.p);
    }
}

/* Would catch: a check that was lost. Each line is one entry of the list of bad inputs. */
Test(gguf, damaged_header)
{
    REFUSED(KVT_EFORMAT, "not a GGUF file", f.p[0] = 'X');
    REFUSED(KVT_EFORMAT, "not a GGUF file", f.n = 3);
    REFUSED(KVT_EFORMAT, "truncated", f.n = 20);
    REFUSED(KVT_EFORMAT, "truncated", f.n = 300);
    REFUSED(KVT_EUNSUP, "version 1", put32(f.p + 4, 1));
    REFUSED(KVT_EUNSUP, "big-endian", put32(f.p + 4, 0x03000000));
    REFUSED(KVT_EFORMAT, "more than this file can hold", put64(f.p + 8, UINT64_MAX));
    REFUSED(KVT_EFORMAT, "more than this file can hold", put64(f.p + 16, 1u << 30));
    REFUSED(KVT_EFORMAT, "truncated", put64(f.p + 24, UINT64_MAX - 7)); /* the length of the first key */
    REFUSED(KVT_EFORMAT, "value type 99", put32(after(&f, "llama.block_count"), 99));
    REFUSED(KVT_EFORMAT, "stands there twice", memcpy(find(&f, "llama.embedding_length"), "llama.attention.key_le", 22),
            memcpy(find(&f, "llama.attention.key_length"), "llama.attention.key_leXYZW", 26),
            memcpy(find(&f, "llama.attention.key_leXYZW"), "llama.attention.head_count", 26));
}

Test(gguf, damaged_metadata)
{
    REFUSED(KVT_EUNSUP, "architecture 'llamb'", memcpy(find(&f, "llama"), "llamb", 5));
    REFUSED(KVT_EFORMAT, "no 'general.architecture'", memcpy(find(&f, "general.architecture"), "general.architectxxx", 20));
    REFUSED(KVT_EFORMAT, "no 'llama.block_count'", memcpy(find(&f, "llama.block_count"), "llama.block_cxxxx", 17));
    REFUSED(KVT_EFORMAT, "expected an integer", put32(after(&f, "llama.block_count"), 6)); /* f32 */
    REFUSED(KVT_EFORMAT, "expected 1 to 1024", put32(after(&f, "llama.block_count") + 4, 5000));
    REFUSED(KVT_EFORMAT, "only", put32(after(&f, "llama.block_count") + 4, 1000));
    REFUSED(KVT_EFORMAT, "'blk.2.attn_norm.weight' is missing",
            memcpy(find(&f, "blk.2.attn_norm.weight"), "blk.2.attn_nxxx.weight", 22));
    REFUSED(KVT_EFORMAT, "can't share", put32(after(&f, "llama.attention.head_count_kv") + 4, 4));
    REFUSED(KVT_EFORMAT, "rope rotates 18", put32(after(&f, "llama.rope.dimension_count") + 4, 18));
    REFUSED(KVT_EFORMAT, "vocabulary has 399", put32(after(&f, "llama.vocab_size") + 4, 399));
    REFUSED(KVT_EUNSUP, "pre-tokenizer 'smollx' is not supported (docs/models.md lists those that are)",
            memcpy(find(&f, "smollm"), "smollx", 6));
    REFUSED(KVT_EUNSUP, "tokenizer model 'gptX'", memcpy(find(&f, "gpt2"), "gptX", 4));
    REFUSED(KVT_EFORMAT, "merge 0", memcpy(after(&f, "tokenizer.ggml.merges") + 4 + 4 + 8 + 8, "\t", 1));
    REFUSED(KVT_EFORMAT, "token types", put64(after(&f, "tokenizer.ggml.token_type") + 8, 399),
            put32(after(&f, "tokenizer.ggml.token_type") + 4, 5),
            memmove(after(&f, "tokenizer.ggml.token_type") + 16 + 4 * 399, after(&f, "tokenizer.ggml.token_type") + 16 + 4 * 400,
                    f.n - (size_t)(after(&f, "tokenizer.ggml.token_type") + 16 + 4 * 400 - f.p)));
    REFUSED(KVT_EFORMAT, "expected 0 to 399", put32(after(&f, "tokenizer.ggml.eos_token_id") + 4, 400));
}

Test(gguf, damaged_tensors)
{
    enum { Q = 4 + 8 + 8 }; /* behind a matrix's name: dimensions, two sizes, type, offset */
    REFUSED(KVT_EFORMAT, "5 dimensions", put32(after(&f, "blk.0.attn_q.weight"), 5));
    REFUSED(KVT_EFORMAT, "impossible size", put64(after(&f, "blk.0.attn_q.weight") + 4, 0));
    REFUSED(KVT_EFORMAT, "impossible size", put64(after(&f, "blk.0.attn_q.weight") + 4, 1ull << 40));
    REFUSED(KVT_EFORMAT, "95 x 96, expected 96 x 96", put64(after(&f, "blk.0.attn_q.weight") + 12, 95));
    REFUSED(KVT_EUNSUP, "type IQ2_XXS", put32(after(&f, "blk.0.attn_q.weight") + Q, 16));
    REFUSED(KVT_EUNSUP, "type unknown (77)", put32(after(&f, "blk.0.attn_q.weight") + Q, 77));
    REFUSED(KVT_EFORMAT, "not a multiple of 256 (Q4_K)", put32(after(&f, "blk.0.attn_q.weight") + Q, 12));
    REFUSED(KVT_EFORMAT, "not a multiple of 32", put64(after(&f, "blk.0.attn_q.weight") + Q + 4, 8));
    REFUSED(KVT_EFORMAT, "reaches past the end", put64(after(&f, "blk.0.attn_q.weight") + Q + 4, (uint64_t)f.n & ~31u));
    REFUSED(KVT_EFORMAT, "reaches past the end", put64(after(&f, "blk.0.attn_q.weight") + Q + 4, UINT64_MAX - 31));
    REFUSED(KVT_EFORMAT, "reaches past the end", f.n -= 1);
    REFUSED(KVT_EFORMAT, "share bytes", memcpy(after(&f, "blk.0.attn_k.weight") + Q + 4, after(&f, "blk.0.attn_v.weight") + Q + 4, 8));
    REFUSED(KVT_EFORMAT, "share bytes", put64(after(&f, "blk.0.attn_q.weight") + Q + 4, 32)); /* inside the embedding */
    /* a vocabulary of 0, of 2^31 */
    REFUSED(KVT_EFORMAT, "'token_embd.weight' has an impossible size", put64(after(&f, "token_embd.weight") + 12, 0));
    REFUSED(KVT_EFORMAT, "'token_embd.weight' has an impossible size", put64(after(&f, "token_embd.weight") + 12, 1ull << 31));
    REFUSED(KVT_EFORMAT, "truncated", put64(after(&f, "tokenizer.ggml.tokens") + 8, 1ull << 31));
    REFUSED(KVT_EFORMAT, "stands there twice", memcpy(find(&f, "blk.1.attn_q.weight"), "blk.0.attn_q.weight", 19));
    REFUSED(KVT_EFORMAT, "'blk.1.attn_q.weight' is missing", memcpy(find(&f, "blk.1.attn_q.weight"), "blk.1.attn_x.weight", 19));
    REFUSED(KVT_EUNSUP, "has no place", put32(after(&f, "llama.block_count") + 4, 2));
    REFUSED(KVT_EFORMAT, "vocabulary has 400 tokens, but the embedding has 399",
            put64(after(&f, "token_embd.weight") + 12, 399));
    REFUSED(KVT_EUNSUP, "norms and biases", put32(after(&f, "blk.0.attn_norm.weight") + 12, 8)); /* Q8_0, 96 values */
}

/* Would catch: arithmetic that we don't do, answered with a wrong one instead of refused. */
Test(gguf, unknown_arithmetic)
{
    const struct { struct kvt_mkmodel_opts o; const char *says; } cases[] = {
        {{.rope_scaling = "mrope", .rope_factor = 1}, "rope scaling 'mrope' is not supported"},
        {{.rope_scaling = "linear", .rope_factor = 4, .rope_freqs = true}, "rope scaling beside the tensor 'rope_freqs.weight'"},
        {{.experts = 8}, "a mixture of 8 experts"},
        {{.qwen2 = true, .sliding_window = 512}, "a sliding window of 512 tokens without a word on which layers have it"},
        {{.rope_scaling = "yarn", .rope_factor = 4}, NULL},
        {{.rope_scaling = "linear", .rope_factor = 4}, NULL},
        {{.rope_freqs = true}, NULL},
        {{.sliding_window = 512}, NULL},
        {{.rope_scaling = "linear", .rope_factor = 1}, NULL},
        {{.rope_scaling = "none", .rope_factor = 8}, NULL},
        {{.sliding_window = 2048}, NULL}, /* the whole context */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct file f = make(cases[i].o);
        struct kvt_err err;
        if (cases[i].says)
            refuses(&f, KVT_EUNSUP, cases[i].says, (int)i);
        else
            cr_assert_eq(open_it(&f, &err), 0, "case %zu: %s", i, err.text);
        free(f.p);
    }
}

/* Would catch: reading outside the file for any damage (under the address sanitizer), a crash, an error without words. */
Test(gguf, twenty_thousand_mutations, .timeout = 240)
{
    struct file f = make((struct kvt_mkmodel_opts){.L = 1, .H = 1, .G = 1, .D = 2, .E = 2, .F = 2, .n_merges = 4});
    size_t head = f.n - 400; /* nearly everything is header in a model of width 2 */
    struct kvt_rng rng;
    kvt_rng_seed(&rng, 20240);
    int opened = 0;
    for (int i = 0; i < 20000; i++) {
        size_t n = i % 4 ? f.n : kvt_rng_below(&rng, (uint32_t)f.n) + 1; /* every fourth one is cut off */
        void *p;
        cr_assert_eq(posix_memalign(&p, 64, n), 0);
        memcpy(p, f.p, n);
        int edits = 1 + (int)kvt_rng_below(&rng, 3);
        for (int e = 0; e < edits; e++) {
            size_t at = kvt_rng_below(&rng, (uint32_t)(head < n ? head : n));
            static const uint64_t numbers[] = {0, 1, 255, 65536, INT32_MAX, UINT32_MAX, 1ull << 40, UINT64_MAX, UINT64_MAX - 31};
            uint64_t v = numbers[kvt_rng_below(&rng, 9)];
            size_t bytes = (size_t)1 << kvt_rng_below(&rng, 4); /* 1, 2, 4, 8 */
            if (kvt_rng_below(&rng, 2))
                v = kvt_rng_u64(&rng);
            memcpy((unsigned char *)p + at, &v, bytes < n - at ? bytes : n - at);
        }
        struct kvt_err err;
        int rc = open_it(&(struct file){p, n}, &err);
        opened += !rc;
        if (rc)
            cr_assert(rc == err.code && err.text[0], "mutation %d: no words", i);
        free(p);
    }
    cr_assert(opened > 100 && opened < 19000, "%d of 20000 opened: the mutations miss the header", opened);
    free(f.p);
}

Test(gguf, files)
{
    struct kvt_err err;
    struct kvt_model *m;
    cr_assert_eq(kvt_model_open(&m, "/nowhere/at/all.gguf", &err), KVT_EINPUT);
    cr_assert(strstr(err.text, "/nowhere/at/all.gguf: cannot open"));
    cr_assert_null(m);
    cr_assert_eq(kvt_model_open(&m, "/", &err), KVT_EINPUT);
    char path[] = "/tmp/kvt_test_XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    cr_assert_eq(kvt_model_open(&m, path, &err), KVT_EFORMAT); /* an empty file */
    cr_assert_eq(kvt_mkmodel(path, &(struct kvt_mkmodel_opts){.seed = 2}, &err), 0);
    cr_assert_eq(kvt_model_open(&m, path, &err), 0, "%s", err.text);
    cr_assert_str_eq(kvt_model_path(m), path);
    kvt_model_close(&m);
    kvt_model_close(&m); /* closing twice is fine */
    unlink(path);
}

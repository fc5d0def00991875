/* Hugging Face folders: the same model as its GGUF, to the last bit where both lay rows out alike; and folders that can't be
 * used are refused with one clear line and the right code. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/model.h"
#include "kvt/session.h"
#include "mkfolder.h"
#include "mkmodel.h"

enum { N_TOK = 60, V = 400 };

struct pair {
    char dir[32], gguf[48];
};

static struct pair make(struct kvt_mkmodel_opts mo, struct kvt_mkfolder_opts fo)
{
    struct pair p = {.dir = "/tmp/kvt-folder-XXXXXX"};
    struct kvt_err err = {0};
    struct kvt_gguf g;
    cr_assert(mkdtemp(p.dir));
    snprintf(p.gguf, sizeof p.gguf, "%s/m.gguf", p.dir);
    cr_assert_eq(kvt_mkmodel(p.gguf, &mo, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_gguf_open(&g, &(struct kvt_folder){.path = p.dir}, "m.gguf", &err), 0, "%s", err.text);
    cr_assert_eq(kvt_mkfolder(p.dir, &g, &fo, &err), 0, "%s", err.text);
    kvt_gguf_close(&g);
    return p;
}

static void clean(const struct pair *p)
{
    char cmd[64];
    snprintf(cmd, sizeof cmd, "rm -rf %s", p->dir);
    cr_assert_eq(system(cmd), 0);
}

static float *logits_of(const struct kvt_model *m, const char *backend)
{
    static int32_t token[N_TOK];
    struct kvt_err err = {0};
    struct kvt_session *s;
    float *out = malloc(sizeof *out * N_TOK * V);
    for (int i = 0; i < N_TOK; i++)
        token[i] = 3 + i * 37 % 390;
    struct kvt_session_opts o = {.ops = kvt_ops_find(backend), .threads = 1, .compute = KVT_COMPUTE_F32, .kv_type = KVT_F32,
                                 .protocol = KVT_PROTOCOL_LITERATURE, .token = token, .n_prompt = N_TOK, .window = 8, .n_new = 1};
    int rc = kvt_session_open(&s, m, &o, &err);
    if (!rc)
        rc = kvt_session_prefill(s, &err);
    if (!rc)
        rc = kvt_session_prefill_logits(s, 0, N_TOK, out, &err);
    cr_assert_eq(rc, 0, "%s", err.text);
    kvt_session_close(&s);
    return out;
}

static double worst(const float *a, const float *b)
{
    double most = 0;
    for (int i = 0; i < N_TOK * V; i++)
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
    return most;
}

static void compare(struct kvt_mkmodel_opts mo, struct kvt_mkfolder_opts fo, double within, int line)
{
    struct pair p = make(mo, fo);
    struct kvt_model *gguf, *folder;
    struct kvt_err err = {0};
    cr_assert_eq(kvt_model_open(&gguf, p.gguf, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_model_from_folder(&folder, &(struct kvt_folder){.path = p.dir}, &err), 0, "line %d: %s", line, err.text);
    cr_assert_eq(kvt_model_files(folder), fo.shards > 1 ? fo.shards : 1);
    cr_assert_str_eq(kvt_model_main_type(folder), kvt_dtypes[fo.type].name);
    for (int l = 0; l < kvt_model_shape(folder)->L; l++) { /* x86 would read them all the same; others wouldn't */
        const struct kvt_layer_weights *y = &kvt_model_weights(folder)->layer[l];
        cr_assert(((uintptr_t)y->attn_norm | (uintptr_t)y->ffn_norm | (uintptr_t)y->q_bias) % _Alignof(float) == 0);
    }
    static const char *const backends[] = {"ref", "cpu"};
    for (int i = 0; i < 2; i++) {
        float *a = logits_of(gguf, backends[i]), *b = logits_of(folder, backends[i]);
        cr_assert_leq(worst(a, b), within, "line %d, %s: logits differ by %g", line, backends[i], worst(a, b));
        free(a);
        free(b);
    }
    kvt_model_close(&gguf);
    kvt_model_close(&folder);
    clean(&p);
}

/* Would catch: a tensor bound to another name, rows of q and k in the wrong order, a transposed matrix, data read from the
 * wrong place of an unaligned file, a bias that is lost. */
Test(folder, same_logits_as_gguf)
{
    const struct kvt_mkmodel_opts qwen = {.seed = 8, .qwen2 = true, .untied = true, .pre = "qwen2"}, llama = {.seed = 9};
    struct kvt_mkmodel_opts half = qwen, brain = qwen;
    half.type = KVT_F16, half.norm_type = KVT_F16;
    brain.type = KVT_BF16, brain.norm_type = KVT_BF16;
    /* qwen2 lies in both as halves: the same sums in the same order */
    compare(qwen, (struct kvt_mkfolder_opts){.type = KVT_F32}, 0, __LINE__);
    compare(qwen, (struct kvt_mkfolder_opts){.type = KVT_F32, .shards = 3}, 0, __LINE__);
    compare(qwen, (struct kvt_mkfolder_opts){.type = KVT_F32, .unaligned = true}, 0, __LINE__);
    compare(half, (struct kvt_mkfolder_opts){.type = KVT_F16, .unaligned = true}, 0, __LINE__);
    compare(brain, (struct kvt_mkfolder_opts){.type = KVT_BF16, .unaligned = true, .shards = 2}, 0, __LINE__);
    /* llama's rotated pairs are side by side in a GGUF: q k is summed in another order. Logits are of size 5, and three layers of
     * sums of 96 terms at 2^-24 each stay well below this */
    compare(llama, (struct kvt_mkfolder_opts){.type = KVT_F32}, 5e-5, __LINE__);
}

/* ---- folders that can't be used ---- */

struct files {
    char *text[4];
    size_t bytes[4];
    struct kvt_memory_file file[4];
    int n;
};

static void load(struct files *f, const char *dir, const char *name)
{
    char path[96];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *in = fopen(path, "rb");
    cr_assert(in, "%s", path);
    void *p;
    cr_assert_eq(posix_memalign(&p, 64, 1 << 21), 0);
    f->text[f->n] = p;
    f->bytes[f->n] = fread(p, 1, (1 << 21) - 4096, in);
    fclose(in);
    f->file[f->n] = (struct kvt_memory_file){.name = name, .base = p, .bytes = f->bytes[f->n]};
    f->n++;
}

/* The config.json and model.safetensors of a tiny folder, in memory. */
static struct files tiny(void)
{
    struct files f = {.n = 0};
    struct pair p = make((struct kvt_mkmodel_opts){.seed = 2, .L = 2}, (struct kvt_mkfolder_opts){.type = KVT_BF16});
    load(&f, p.dir, "config.json");
    load(&f, p.dir, "model.safetensors");
    clean(&p);
    return f;
}

/* Writes `to` over the first `from` of a file; in the safetensors file both must be of one length. */
static void replace(struct files *f, int i, const char *from, const char *to)
{
    size_t n = strlen(from), m = strlen(to), at = 0;
    while (at + n <= f->bytes[i] && memcmp(f->text[i] + at, from, n) != 0)
        at++;
    cr_assert(at + n <= f->bytes[i], "no '%s' in %s", from, f->file[i].name);
    memmove(f->text[i] + at + m, f->text[i] + at + n, f->bytes[i] - at - n);
    memcpy(f->text[i] + at, to, m);
    f->file[i].bytes = f->bytes[i] = f->bytes[i] - n + m;
}

static void refuses(struct files *f, int code, const char *says, int line)
{
    struct kvt_model *m;
    struct kvt_err err = {0};
    int rc = kvt_model_from_folder(&m, &(struct kvt_folder){.path = "dir", .file = f->file, .n_files = f->n}, &err);
    kvt_model_close(&m);
    cr_assert_eq(rc, code, "line %d: code %d instead of %d: %s", line, rc, code, err.text);
    cr_assert(!rc || kvt_exit_code(rc) == 3);
    cr_assert(!rc || strstr(err.text, says), "line %d: '%s' says nothing of '%s'", line, err.text, says);
    cr_assert(!rc || !strncmp(err.text, "dir", 3), "line %d: '%s' doesn't name the place", line, err.text);
    cr_assert(!strchr(err.text, '\n'), "line %d: more than one line", line);
    for (int i = 0; i < f->n; i++)
        free(f->text[i]);
}

enum { CONFIG, WEIGHTS };
#define REFUSED(code, says, file, from, to)      \
    do {                                         \
        struct files f = tiny();                 \
        replace(&f, file, from, to);             \
        refuses(&f, code, says, __LINE__);       \
    } while (0)

/* Would catch: a check that was lost. Each line is one entry of the list of bad inputs. */
Test(folder, damaged)
{
    struct files good = tiny(), none = tiny();
    refuses(&good, 0, "", __LINE__);
    none.file[CONFIG].name = "confug.json";
    refuses(&none, KVT_EINPUT, "without config.json", __LINE__);
    struct files cut = tiny();
    cut.file[WEIGHTS].bytes = cut.bytes[WEIGHTS] -= 2;
    refuses(&cut, KVT_EFORMAT, "truncated", __LINE__);
    struct files empty = tiny();
    empty.file[CONFIG].bytes = 0;
    refuses(&empty, KVT_EFORMAT, "not valid JSON", __LINE__);
    REFUSED(KVT_EFORMAT, "more text after", CONFIG, "{", "");
    REFUSED(KVT_EFORMAT, "not valid JSON", CONFIG, "}", "");
    REFUSED(KVT_EFORMAT, "nested more than 64", CONFIG, "{", "{\"x\":"
            "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],");
    REFUSED(KVT_EUNSUP, "model_type 'lllll'", CONFIG, "\"llama\"", "\"lllll\"");
    /* a vocabulary of 0, of 2^31, of less than the embedding has */
    REFUSED(KVT_EFORMAT, "'vocab_size'", CONFIG, "\"vocab_size\":\t400", "\"vocab_size\":\t0");
    REFUSED(KVT_EFORMAT, "'vocab_size'", CONFIG, "\"vocab_size\":\t400", "\"vocab_size\":\t2147483648");
    REFUSED(KVT_EFORMAT, "400 x 96, expected 399 x 96", CONFIG, "\"vocab_size\":\t400", "\"vocab_size\":\t399");
    REFUSED(KVT_EFORMAT, "expected 2147483647 x 96", CONFIG, "\"vocab_size\":\t400", "\"vocab_size\":\t2147483647");
    /* sizes that don't go together, or overflow */
    REFUSED(KVT_EFORMAT, "'num_hidden_layers'", CONFIG, "\"num_hidden_layers\":\t2", "\"num_hidden_layers\":\t100000");
    REFUSED(KVT_EFORMAT, "1000 layers, but only 20 tensors", CONFIG, "\"num_hidden_layers\":\t2", "\"num_hidden_layers\":\t1000");
    REFUSED(KVT_EFORMAT, "'hidden_size'", CONFIG, "\"hidden_size\":\t96", "\"hidden_size\":\t1e99");
    REFUSED(KVT_EFORMAT, "400 x 96, expected 400 x 16777216", CONFIG, "\"hidden_size\":\t96", "\"hidden_size\":\t16777216");
    REFUSED(KVT_EFORMAT, "can't share", CONFIG, "\"num_key_value_heads\":\t2", "\"num_key_value_heads\":\t4");
    REFUSED(KVT_EFORMAT, "'head_dim'", CONFIG, "\"head_dim\":\t16", "\"head_dim\":\t-16");
    REFUSED(KVT_EFORMAT, "rope rotates", CONFIG, "\"head_dim\":\t16", "\"head_dim\":\t15");
    REFUSED(KVT_EFORMAT, "'model.layers.0.mlp.gate_proj.weight' is 128 x 96, expected 129 x 96", CONFIG, "\"intermediate_size\":\t128",
            "\"intermediate_size\":\t129");
    /* tensors */
    REFUSED(KVT_EFORMAT, "tensor 'model.norm.weight' is missing", WEIGHTS, "model.norm.weight", "model.nxxx.weight");
    REFUSED(KVT_EUNSUP, "'model.layers.1.input_layernorm.weight' has no place", CONFIG, "\"num_hidden_layers\":\t2", "\"num_hidden_layers\":\t1");
    REFUSED(KVT_EFORMAT, "tensor 'lm_head.weight' is missing", CONFIG, "\"tie_word_embeddings\":\ttrue", "\"tie_word_embeddings\":\tfalse");
    REFUSED(KVT_EFORMAT, "'model.layers.0.self_attn.q_proj.bias' is missing", CONFIG, "{", "{\"attention_bias\": true,");
}

/* Would catch: --dry-run counting an embedding that nobody reads whole, or twice where it is the output matrix too. */
Test(folder, bytes_that_a_run_reads)
{
    for (int untied = 0; untied < 2; untied++) {
        struct pair p = make((struct kvt_mkmodel_opts){.seed = 2, .L = 2, .E = 384, .untied = untied},
                             (struct kvt_mkfolder_opts){.type = KVT_F32});
        struct kvt_model *m;
        struct kvt_err err = {0};
        cr_assert_eq(kvt_model_open(&m, p.dir, &err), 0, "%s", err.text);
        const size_t layer = 4 * 384 * (2 * 96 + 2 * 32 + 3 * 128), embed = 4 * 384 * (size_t)kvt_model_shape(m)->V;
        const int32_t token[] = {0, 1, 2, 3};
        size_t all = kvt_model_touched_bytes(m, token, 4);
        cr_assert(embed > 4 * 65536);
        if (untied) /* rows 0 to 3 lie in one piece of 64 KB or across a border */
            cr_assert(all == 2 * layer + embed + 65536 || all == 2 * layer + embed + 2 * 65536, "%zu", all);
        else
            cr_assert_eq(all, 2 * layer + embed);
        cr_assert_lt(all, kvt_model_bytes(m));
        kvt_model_close(&m);
        clean(&p);
    }
}

static size_t mapped_resident(void) /* bytes of files that this process has in memory: also its own code */
{
    long size, all, shared = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    cr_assert(f && fscanf(f, "%ld %ld %ld", &size, &all, &shared) == 3);
    fclose(f);
    return (size_t)shared * (size_t)sysconf(_SC_PAGESIZE);
}

/* Would catch: an opening that reads the weights, which for a model of many GB is the difference between now and a minute. */
Test(folder, opening_reads_no_weights)
{
    struct pair p = make((struct kvt_mkmodel_opts){.seed = 2, .L = 2, .E = 512, .F = 2048}, (struct kvt_mkfolder_opts){.type = KVT_F32});
    const char *const path[] = {p.gguf, p.dir};
    for (int i = 0; i < 2; i++) {
        struct kvt_model *m;
        struct kvt_err err = {0};
        size_t before = mapped_resident();
        cr_assert_eq(kvt_model_open(&m, path[i], &err), 0, "%s", err.text);
        size_t more = mapped_resident() - before;
        cr_assert(kvt_model_bytes(m) > 25 << 20);
        cr_assert_lt(more, 5 << 20, "%s: %zu bytes in memory after the opening", path[i], more);
        kvt_model_close(&m);
    }
    clean(&p);
}

/* Would catch: a token of the vocabulary that the embedding has no row for, read outside it. */
Test(folder, token_without_a_row)
{
    struct pair p = make((struct kvt_mkmodel_opts){.seed = 2, .L = 1}, (struct kvt_mkfolder_opts){.type = KVT_F32});
    struct kvt_model *m;
    struct kvt_session *s;
    struct kvt_err err = {0};
    cr_assert_eq(kvt_model_open(&m, p.dir, &err), 0, "%s", err.text);
    const int32_t token[] = {5, 400, 6, 7};
    struct kvt_session_opts o = {.ops = kvt_ops_find("cpu"), .threads = 1, .kv_type = KVT_F32, .protocol = KVT_PROTOCOL_LITERATURE,
                                 .token = token, .n_prompt = 4, .window = 2, .n_new = 1};
    cr_assert_eq(kvt_session_open(&s, m, &o, &err), KVT_EINPUT);
    cr_assert(strstr(err.text, "token 1 of the prompt is 400") && strstr(err.text, "400 rows"), "%s", err.text);
    kvt_model_close(&m);
    clean(&p);
}

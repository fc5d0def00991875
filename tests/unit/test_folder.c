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

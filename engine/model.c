/* Opening a model: metadata -> shape, tensors -> weights, vocabulary -> tokenizer; the three must agree. A model is a GGUF
 * file, the first part of a split one, or a folder as Hugging Face's libraries save it. */
#include "engine/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "engine/json.h"
#include "engine/safetensors.h"
#include "engine/shape.h"
#include "engine/tokenizer.h"
#include "engine/weights.h"

#define MAX_CONFIG_BYTES (1 << 20)

/* Beside the weights, in the order of a trace's config_sha256. */
static const char *const config_names[] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                                           "chat_template.jinja"};
enum { N_CONFIG = sizeof config_names / sizeof *config_names };

struct kvt_model {
    char *path, *config[N_CONFIG + 1]; /* paths of those that are there, then NULL */
    struct kvt_gguf gguf;          /* one of the two is open */
    struct kvt_safetensors folder;
    const struct kvt_tensors *tensors; /* of that one */
    struct kvt_shape shape;
    struct kvt_weights weights;
    struct kvt_owned owned;
    struct kvt_tokenizer *tokenizer;
    enum kvt_dtype main_type;
    size_t bytes, type_bytes[KVT_N_DTYPE];
};

/* What is left to do when tensors and weights are there. */
static void sum_up(struct kvt_model *m)
{
    const struct kvt_tensors *ts = m->tensors;
    size_t sum[KVT_N_DTYPE] = {0};
    for (int i = 0; i < ts->n; i++)
        m->type_bytes[ts->tensor[i].type] += ts->tensor[i].bytes;
    for (int i = 0; i < ts->n; i++)
        if (ts->tensor[i].n_dims > 1)
            sum[ts->tensor[i].type] += ts->tensor[i].bytes;
    m->main_type = KVT_F32;
    for (int t = 0; t < KVT_N_DTYPE; t++)
        if (sum[t] > sum[m->main_type])
            m->main_type = (enum kvt_dtype)t;
    for (int i = 0; i < ts->n_maps; i++)
        m->bytes += ts->map[i].bytes;
}

/* ---- GGUF ---- */

static int build_gguf(struct kvt_model *m, struct kvt_err *err)
{
    const struct kvt_gguf *g = &m->gguf;
    m->tensors = &g->tensors;
    int rc = kvt_shape_from_gguf(&m->shape, g, err);
    if (!rc)
        rc = kvt_weights_bind(&m->weights, &m->owned, &g->tensors, KVT_NAMES_GGUF, &m->shape, err);
    if (!rc)
        rc = kvt_tokenizer_open(&m->tokenizer, g, err);
    if (rc)
        return rc;
    int n_tok = kvt_tokenizer_size(m->tokenizer);
    int64_t said = m->shape.V;
    char key[64];
    snprintf(key, sizeof key, "%s.vocab_size", m->shape.arch);
    if ((rc = kvt_gguf_int(g, key, false, 1, INT32_MAX, &said, err)))
        return rc;
    if (n_tok != m->shape.V || said != m->shape.V)
        return kvt_fail(err, KVT_EFORMAT, "%s: the vocabulary has %lld tokens, but the embedding has %d rows", g->path,
                        n_tok != m->shape.V ? (long long)n_tok : (long long)said, m->shape.V);
    return 0;
}

static int open_gguf(struct kvt_model *m, const char *path, struct kvt_err *err)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    if (dot && (!strcmp(dot, ".safetensors") || !strcmp(dot, ".json")))
        return kvt_fail(err, KVT_EINPUT, "%s: a file of a Hugging Face model; give the folder that it is in", path);
    char *folder = slash ? strndup(path, (size_t)(slash + 1 - path)) : strdup("");
    if (!folder)
        return kvt_fail(err, KVT_ENOMEM, "no memory to open %s", path);
    int rc = kvt_gguf_open(&m->gguf, &(struct kvt_folder){.path = folder}, name, err);
    free(folder);
    return rc ? rc : build_gguf(m, err);
}

/* ---- a folder ---- */

static int build_folder(struct kvt_model *m, const struct kvt_folder *f, struct kvt_err *err)
{
    cJSON *config = NULL;
    m->tensors = &m->folder.tensors;
    if (!kvt_folder_has(f, "config.json"))
        return kvt_fail(err, KVT_EINPUT, "%s: a folder without config.json; give a GGUF file, or a folder saved by Hugging Face's libraries",
                        m->path);
    for (int i = 0, n = 0; i < N_CONFIG; i++)
        if (kvt_folder_has(f, config_names[i]) && !(m->config[n++] = kvt_folder_join(f, config_names[i])))
            return kvt_fail(err, KVT_ENOMEM, "no memory to open %s", m->path);
    int rc = kvt_json_read(&config, f, "config.json", MAX_CONFIG_BYTES, err);
    if (!rc)
        rc = kvt_shape_from_config(&m->shape, config, m->path, err);
    cJSON_Delete(config);
    if (!rc)
        rc = kvt_safetensors_open(&m->folder, f, err);
    if (!rc)
        rc = kvt_weights_bind(&m->weights, &m->owned, &m->folder.tensors, KVT_NAMES_HF, &m->shape, err);
    return rc;
}

static int open_folder(struct kvt_model *m, struct kvt_err *err)
{
    const struct kvt_folder f = {.path = m->path};
    int rc = build_folder(m, &f, err);
    if (!rc)
        rc = kvt_tokenizer_open_hf(&m->tokenizer, &f, err);
    if (rc)
        return rc;
    int n_tok = kvt_tokenizer_size(m->tokenizer); /* rows beyond the vocabulary only fill up: folders have them */
    return n_tok <= m->shape.V ? 0 : kvt_fail(err, KVT_EFORMAT, "%s: the tokenizer has %d tokens, but the embedding has %d rows",
                                              m->path, n_tok, m->shape.V);
}

/* ---- all of them ---- */

static int finish(struct kvt_model **out, struct kvt_model *m, int rc)
{
    if (rc)
        kvt_model_close(&m);
    else
        sum_up(m);
    *out = m;
    return rc;
}

static struct kvt_model *start(const char *path)
{
    struct kvt_model *m = kvt_calloc(1, sizeof *m);
    if (m && !(m->path = strdup(path)))
        kvt_model_close(&m);
    return m;
}

int kvt_model_open(struct kvt_model **out, const char *path, struct kvt_err *err)
{
    struct stat st;
    struct kvt_model *m = *out = start(path);
    if (!m)
        return kvt_fail(err, KVT_ENOMEM, "no memory to open %s", path);
    bool folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    return finish(out, m, folder ? open_folder(m, err) : open_gguf(m, path, err));
}

int kvt_model_from_memory(struct kvt_model **out, const char *name, const void *base, size_t bytes, struct kvt_err *err)
{
    struct kvt_model *m = *out = start(name);
    if (!m)
        return kvt_fail(err, KVT_ENOMEM, "no memory to open %s", name);
    int rc = kvt_gguf_parse(&m->gguf, name, base, bytes, err);
    return finish(out, m, rc ? rc : build_gguf(m, err));
}

int kvt_model_from_folder(struct kvt_model **out, const struct kvt_folder *f, struct kvt_err *err)
{
    struct kvt_model *m = *out = start(f->path);
    if (!m)
        return kvt_fail(err, KVT_ENOMEM, "no memory to open %s", f->path);
    return finish(out, m, build_folder(m, f, err));
}

void kvt_model_close(struct kvt_model **mp)
{
    struct kvt_model *m = *mp;
    if (!m)
        return;
    kvt_tokenizer_close(&m->tokenizer);
    kvt_weights_free(&m->weights, &m->owned);
    kvt_gguf_close(&m->gguf);
    kvt_safetensors_close(&m->folder);
    for (int i = 0; i < N_CONFIG; i++)
        free(m->config[i]);
    free(m->path);
    free(m);
    *mp = NULL;
}

static size_t bytes_of(struct kvt_mat m) { return m.data ? kvt_row_bytes(m.type, (size_t)m.k) * (size_t)m.n : 0; }

/* Rows of the embedding, in the pieces of 64 KB that Linux maps around a page that is asked for. */
static size_t embed_bytes(struct kvt_mat embed, const int32_t *token, int n)
{
    enum { AROUND = 64 << 10 };
    size_t row = kvt_row_bytes(embed.type, (size_t)embed.k), start = (size_t)((uintptr_t)embed.data % AROUND);
    size_t pieces = (start + bytes_of(embed)) / AROUND + 1, count = 0;
    uint8_t *seen = kvt_calloc(pieces, 1);
    for (int t = 0; seen && t < n; t++) {
        if (token[t] < 0 || token[t] >= embed.n)
            continue;
        size_t at = start + row * (size_t)token[t];
        for (size_t i = at / AROUND; i <= (at + row - 1) / AROUND; i++) {
            count += !seen[i];
            seen[i] = 1;
        }
    }
    free(seen);
    return count * AROUND < bytes_of(embed) ? count * AROUND : bytes_of(embed);
}

size_t kvt_model_touched_bytes(const struct kvt_model *m, const int32_t *token, int n)
{
    const struct kvt_weights *w = &m->weights;
    size_t sum = bytes_of(w->output) + (m->shape.tied ? 0 : embed_bytes(w->embed, token, n));
    for (int l = 0; l < m->shape.L; l++) {
        const struct kvt_layer_weights *y = &w->layer[l];
        sum += bytes_of(y->q) + bytes_of(y->k) + bytes_of(y->v) + bytes_of(y->o) + bytes_of(y->gate) + bytes_of(y->up) + bytes_of(y->down);
    }
    return sum;
}

const struct kvt_shape *kvt_model_shape(const struct kvt_model *m) { return &m->shape; }
const struct kvt_weights *kvt_model_weights(const struct kvt_model *m) { return &m->weights; }
const struct kvt_tokenizer *kvt_model_tokenizer(const struct kvt_model *m) { return m->tokenizer; }
const char *kvt_model_path(const struct kvt_model *m) { return m->path; }
size_t kvt_model_bytes(const struct kvt_model *m) { return m->bytes; }
int kvt_model_files(const struct kvt_model *m) { return m->tensors->n_maps; }
const char *kvt_model_file(const struct kvt_model *m, int i) { return m->tensors->map[i].path; }
const char *kvt_model_config_file(const struct kvt_model *m, int i) { return i <= N_CONFIG ? m->config[i] : NULL; }
const size_t *kvt_model_type_bytes(const struct kvt_model *m) { return m->type_bytes; }
const char *kvt_model_main_type(const struct kvt_model *m) { return kvt_dtypes[m->main_type].name; }

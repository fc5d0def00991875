/* Opening a model: metadata -> shape, tensors -> weights, vocabulary -> tokenizer; the three must agree. */
#include "engine/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/shape.h"
#include "engine/tokenizer.h"
#include "engine/weights.h"

struct kvt_model {
    struct kvt_gguf gguf;
    struct kvt_shape shape;
    struct kvt_weights weights;
    struct kvt_owned owned;
    struct kvt_tokenizer *tokenizer;
    enum kvt_dtype main_type;
};

static enum kvt_dtype most_bytes(const struct kvt_tensors *ts)
{
    size_t sum[KVT_N_DTYPE] = {0};
    enum kvt_dtype best = KVT_F32;
    for (int i = 0; i < ts->n; i++)
        if (ts->tensor[i].n_dims > 1)
            sum[ts->tensor[i].type] += ts->tensor[i].bytes;
    for (int t = 0; t < KVT_N_DTYPE; t++)
        if (sum[t] > sum[best])
            best = (enum kvt_dtype)t;
    return best;
}

/* Everything after the file is parsed. */
static int build(struct kvt_model *m, struct kvt_err *err)
{
    const struct kvt_gguf *g = &m->gguf;
    int rc = kvt_shape_from_gguf(&m->shape, g, err);
    if (!rc)
        rc = kvt_weights_bind(&m->weights, &m->owned, &g->tensors, &m->shape, err);
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
    m->main_type = most_bytes(&g->tensors);
    return 0;
}

static int open_path(struct kvt_model *m, const char *path, struct kvt_err *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash + 1 - path)) : strdup("");
    if (!folder)
        return kvt_fail(err, KVT_ENOMEM, "no memory to open %s", path);
    int rc = kvt_gguf_open(&m->gguf, &(struct kvt_folder){.path = folder}, slash ? slash + 1 : path, err);
    free(folder);
    return rc;
}

/* base NULL: the file is mapped. */
static int open_from(struct kvt_model **out, const char *path, const void *base, size_t bytes, struct kvt_err *err)
{
    *out = NULL;
    struct kvt_model *m = kvt_calloc(1, sizeof *m);
    if (!m)
        return kvt_fail(err, KVT_ENOMEM, "no memory to open %s", path);
    int rc = base ? kvt_gguf_parse(&m->gguf, path, base, bytes, err) : open_path(m, path, err);
    if (!rc)
        rc = build(m, err);
    if (rc)
        kvt_model_close(&m);
    *out = m;
    return rc;
}

int kvt_model_open(struct kvt_model **out, const char *path, struct kvt_err *err) { return open_from(out, path, NULL, 0, err); }

int kvt_model_from_memory(struct kvt_model **out, const char *name, const void *base, size_t bytes, struct kvt_err *err)
{
    return open_from(out, name, base, bytes, err);
}

void kvt_model_close(struct kvt_model **m)
{
    if (!*m)
        return;
    kvt_tokenizer_close(&(*m)->tokenizer);
    kvt_weights_free(&(*m)->weights, &(*m)->owned);
    kvt_gguf_close(&(*m)->gguf);
    free(*m);
    *m = NULL;
}

const struct kvt_shape *kvt_model_shape(const struct kvt_model *m) { return &m->shape; }
const struct kvt_weights *kvt_model_weights(const struct kvt_model *m) { return &m->weights; }
const struct kvt_tokenizer *kvt_model_tokenizer(const struct kvt_model *m) { return m->tokenizer; }
const char *kvt_model_path(const struct kvt_model *m) { return m->gguf.path; }
size_t kvt_model_bytes(const struct kvt_model *m) { return m->gguf.bytes; }
const char *kvt_model_main_type(const struct kvt_model *m) { return kvt_dtypes[m->main_type].name; }

/* Opening a model: metadata -> shape, tensors -> weights, vocabulary -> tokenizer; the three must agree. */
#include "engine/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/gguf.h"
#include "engine/tokenizer.h"
#include "engine/unicode.h"
#include "engine/weights.h"

struct kvt_model {
    struct kvt_gguf gguf;
    struct kvt_shape shape;
    struct kvt_weights weights;
    struct kvt_owned owned;
    struct kvt_tokenizer *tokenizer;
    enum kvt_dtype main_type;
};

/* One key under the architecture's prefix, as "llama.block_count". */
struct arch_keys {
    const struct kvt_gguf *g;
    const char *arch;
    char key[96];
};

static const char *key(struct arch_keys *a, const char *suffix)
{
    snprintf(a->key, sizeof a->key, "%s.%s", a->arch, suffix);
    return a->key;
}

static int get_int(struct arch_keys *a, const char *suffix, bool required, int64_t max, int *out, struct kvt_err *err)
{
    int64_t v = *out;
    int rc = kvt_gguf_int(a->g, key(a, suffix), required, 1, max, &v, err);
    *out = (int)v;
    return rc;
}

static void read_name(const struct kvt_gguf *g, struct kvt_shape *s)
{
    struct kvt_bytes name = {0};
    size_t bad;
    if (kvt_gguf_str(g, "general.name", false, &name, NULL) || !name.n || !kvt_utf8_valid(name.p, name.n, &bad) ||
        memchr(name.p, 0, name.n)) {
        const char *slash = strrchr(g->path, '/');
        name.p = slash ? slash + 1 : g->path;
        name.n = strlen(name.p);
    }
    size_t n = name.n < sizeof s->name - 1 ? name.n : sizeof s->name - 1;
    while (n < name.n && n && ((unsigned char)name.p[n] & 0xc0) == 0x80)
        n--; /* never half a character */
    memcpy(s->name, name.p, n);
    s->name[n] = 0;
}

static int read_arch(const struct kvt_gguf *g, struct kvt_shape *s, struct kvt_err *err)
{
    struct kvt_bytes arch;
    int rc = kvt_gguf_str(g, "general.architecture", true, &arch, err);
    if (rc)
        return rc;
    if (!kvt_bytes_equal(arch, "llama") && !kvt_bytes_equal(arch, "qwen2"))
        return kvt_fail(err, KVT_EUNSUP, "%s: architecture '%.*s' is not supported (llama and qwen2 are)", g->path,
                        arch.n < 32 ? (int)arch.n : 32, arch.p);
    memcpy(s->arch, arch.p, arch.n);
    s->arch[arch.n] = 0;
    return 0;
}

/* Things that change the arithmetic and that we don't do: refused by name instead of answered wrongly. */
static int refuse_unknown_arithmetic(struct arch_keys *a, const struct kvt_shape *s, struct kvt_err *err)
{
    const struct kvt_gguf *g = a->g;
    struct kvt_bytes scaling = {0};
    double factor = 1, old_factor = 1;
    int64_t experts = 0, window = 0;
    int rc = kvt_gguf_str(g, key(a, "rope.scaling.type"), false, &scaling, err);
    if (!rc)
        rc = kvt_gguf_float(g, key(a, "rope.scaling.factor"), false, &factor, err);
    if (!rc)
        rc = kvt_gguf_float(g, key(a, "rope.scale_linear"), false, &old_factor, err);
    if (!rc)
        rc = kvt_gguf_int(g, key(a, "expert_count"), false, 0, INT32_MAX, &experts, err);
    if (!rc)
        rc = kvt_gguf_int(g, key(a, "attention.sliding_window"), false, 0, INT64_MAX, &window, err);
    if (rc)
        return rc;
    bool none = !scaling.p || kvt_bytes_equal(scaling, "none");
    if ((!none && !kvt_bytes_equal(scaling, "linear")) || (!kvt_bytes_equal(scaling, "none") && factor != 1) || old_factor != 1)
        return kvt_fail(err, KVT_EUNSUP, "%s: rope scaling '%.*s' with factor %g is not supported in this version", g->path,
                        none ? 6 : scaling.n < 32 ? (int)scaling.n : 32, none ? "linear" : scaling.p,
                        factor != 1 ? factor : old_factor);
    if (experts > 0)
        return kvt_fail(err, KVT_EUNSUP, "%s: a mixture of %lld experts is not supported", g->path, (long long)experts);
    if (window > 0 && window < s->context_tok)
        return kvt_fail(err, KVT_EUNSUP, "%s: attention in a sliding window of %lld tokens is not supported", g->path,
                        (long long)window);
    return 0;
}

static int read_shape(const struct kvt_gguf *g, struct kvt_shape *s, struct kvt_err *err)
{
    int rc = read_arch(g, s, err);
    if (rc)
        return rc;
    read_name(g, s);
    struct arch_keys a = {.g = g, .arch = s->arch};
    double eps = 0;
    s->rope_base = 10000;
    const int wide = 1 << 24; /* far above any model, and products of two stay in 64 bits */
    if ((rc = get_int(&a, "block_count", true, 4096, &s->L, err)) ||
        (rc = get_int(&a, "embedding_length", true, wide, &s->E, err)) ||
        (rc = get_int(&a, "feed_forward_length", true, wide, &s->F, err)) ||
        (rc = get_int(&a, "context_length", true, INT32_MAX, &s->context_tok, err)) ||
        (rc = get_int(&a, "attention.head_count", true, 4096, &s->H, err)))
        return rc;
    s->G = s->H;
    s->D = s->E / s->H;
    if ((rc = get_int(&a, "attention.head_count_kv", false, 4096, &s->G, err)) ||
        (rc = kvt_gguf_float(g, key(&a, "attention.layer_norm_rms_epsilon"), true, &eps, err)) ||
        (rc = kvt_gguf_float(g, key(&a, "rope.freq_base"), false, &s->rope_base, err)))
        return rc;
    bool has_d = kvt_gguf_find(g, key(&a, "attention.key_length")) != NULL;
    if (!has_d && s->E % s->H)
        return kvt_fail(err, KVT_EFORMAT, "%s: width %d is not a multiple of %d heads", g->path, s->E, s->H);
    if ((rc = get_int(&a, "attention.key_length", false, 4096, &s->D, err)))
        return rc;
    int value_d = s->D;
    s->rope_rot = s->D;
    if ((rc = get_int(&a, "attention.value_length", false, 4096, &value_d, err)) ||
        (rc = get_int(&a, "rope.dimension_count", false, 4096, &s->rope_rot, err)))
        return rc;
    if (s->H % s->G)
        return kvt_fail(err, KVT_EFORMAT, "%s: %d query heads can't share %d kv heads", g->path, s->H, s->G);
    if (value_d != s->D)
        return kvt_fail(err, KVT_EUNSUP, "%s: keys of %d and values of %d dimensions are not supported (they must be equal)",
                        g->path, s->D, value_d);
    if (s->rope_rot > s->D || s->rope_rot % 2)
        return kvt_fail(err, KVT_EFORMAT, "%s: rope rotates %d dimensions of a head of %d", g->path, s->rope_rot, s->D);
    if (!(eps > 0 && eps < 1) || !(s->rope_base > 0))
        return kvt_fail(err, KVT_EFORMAT, "%s: rms epsilon %g or rope base %g is out of range", g->path, eps, s->rope_base);
    s->rms_eps = (float)eps;
    /* Converters permute the rows of llama's q and k so that pairs are adjacent; other architectures keep halves. */
    s->rope_halves = strcmp(s->arch, "llama") != 0;
    return refuse_unknown_arithmetic(&a, s, err);
}

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
    int rc = read_shape(g, &m->shape, err);
    if (!rc)
        rc = kvt_weights_bind(&m->weights, &m->owned, &g->tensors, &m->shape, err);
    if (!rc)
        rc = kvt_tokenizer_open(&m->tokenizer, g, err);
    if (rc)
        return rc;
    int n_tok = kvt_tokenizer_size(m->tokenizer);
    int64_t said = m->shape.V;
    struct arch_keys a = {.g = g, .arch = m->shape.arch};
    if ((rc = kvt_gguf_int(g, key(&a, "vocab_size"), false, 1, INT32_MAX, &said, err)))
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

/* Which tensor is which weight. Matrices stay in the mapped file; only vectors that aren't f32 are copied. */
#include "engine/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"

struct binder {
    const struct kvt_tensors *ts;
    const char *path;           /* for messages */
    struct kvt_owned *owned;
    uint8_t *used;              /* (n_tensors) */
    struct kvt_err *err;
    int rc;                     /* first failure; later requests do nothing */
};

static const struct kvt_tensor *find(struct binder *b, const char *name, bool required)
{
    if (b->rc)
        return NULL;
    const struct kvt_tensor *t = kvt_tensors_find(b->ts, name);
    if (t)
        b->used[t - b->ts->tensor] = 1;
    else if (required)
        b->rc = kvt_fail(b->err, KVT_EFORMAT, "%s: tensor '%s' is missing", b->path, name);
    return t;
}

/* A matrix of n outputs and k inputs; n < 0 takes the rows as they come. */
static struct kvt_mat mat(struct binder *b, const char *name, bool required, int n, int k)
{
    const struct kvt_tensor *t = find(b, name, required);
    if (!t)
        return (struct kvt_mat){0};
    if (t->n_dims != 2 || t->ne[0] != (uint64_t)k || (n >= 0 && t->ne[1] != (uint64_t)n)) {
        char want[16] = "any";
        if (n >= 0)
            snprintf(want, sizeof want, "%d", n);
        b->rc = kvt_fail(b->err, KVT_EFORMAT, "%s: tensor '%s' is %llu x %llu%s, expected %s x %d (outputs x inputs)", b->path,
                         name, (unsigned long long)t->ne[1], (unsigned long long)t->ne[0],
                         t->n_dims > 2 ? " x more" : "", want, k);
        return (struct kvt_mat){0};
    }
    return (struct kvt_mat){.data = t->data, .type = t->type, .n = (int)t->ne[1], .k = k};
}

static const float *vec(struct binder *b, const char *name, bool required, int n)
{
    const struct kvt_tensor *t = find(b, name, required);
    if (!t)
        return NULL;
    if (t->ne[0] != (uint64_t)n || t->ne[1] != 1 || t->ne[2] != 1 || t->ne[3] != 1) {
        b->rc = kvt_fail(b->err, KVT_EFORMAT, "%s: tensor '%s' has %llu x %llu values, expected %d", b->path, name,
                         (unsigned long long)t->ne[0], (unsigned long long)(t->ne[1] * t->ne[2]), n);
        return NULL;
    }
    if (t->type == KVT_F32)
        return t->data;
    if (t->type != KVT_F16 && t->type != KVT_BF16) {
        b->rc = kvt_fail(b->err, KVT_EUNSUP, "%s: tensor '%s' is %s; norms and biases must be F32, F16 or BF16", b->path,
                         name, kvt_dtypes[t->type].name);
        return NULL;
    }
    float *out = b->owned->n < b->owned->cap ? kvt_calloc((size_t)n, sizeof *out) : NULL;
    if (!out) {
        b->rc = kvt_fail(b->err, KVT_ENOMEM, "%s: no memory for tensor '%s'", b->path, name);
        return NULL;
    }
    b->owned->vec[b->owned->n++] = out;
    const unsigned char *src = t->data;
    for (int i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * (size_t)i, 2);
        out[i] = t->type == KVT_F16 ? kvt_f32_from_f16(h) : kvt_f32_from_bf16(h);
    }
    return out;
}

static int bind_layers(struct binder *b, struct kvt_weights *w, struct kvt_shape *s)
{
    int q_n = s->H * s->D, kv_n = s->G * s->D;
    char name[64];
#define NAME(suffix) (snprintf(name, sizeof name, "blk.%d." suffix, l), name)
    for (int l = 0; l < s->L && !b->rc; l++) {
        struct kvt_layer_weights *y = &w->layer[l];
        y->attn_norm = vec(b, NAME("attn_norm.weight"), true, s->E);
        y->q = mat(b, NAME("attn_q.weight"), true, q_n, s->E);
        y->k = mat(b, NAME("attn_k.weight"), true, kv_n, s->E);
        y->v = mat(b, NAME("attn_v.weight"), true, kv_n, s->E);
        y->o = mat(b, NAME("attn_output.weight"), true, s->E, q_n);
        y->ffn_norm = vec(b, NAME("ffn_norm.weight"), true, s->E);
        y->gate = mat(b, NAME("ffn_gate.weight"), true, s->F, s->E);
        y->up = mat(b, NAME("ffn_up.weight"), true, s->F, s->E);
        y->down = mat(b, NAME("ffn_down.weight"), true, s->E, s->F);
        /* qwen2 always has them; some llama files do. All three or none, in every layer alike. */
        if (!b->rc && l == 0 && kvt_tensors_find(b->ts, NAME("attn_q.bias")))
            s->qkv_bias = true;
        if (s->qkv_bias) {
            y->q_bias = vec(b, NAME("attn_q.bias"), true, q_n);
            y->k_bias = vec(b, NAME("attn_k.bias"), true, kv_n);
            y->v_bias = vec(b, NAME("attn_v.bias"), true, kv_n);
        }
    }
#undef NAME
    return b->rc;
}

/* A tensor that we don't use means a computation that we don't do: better no answer than a wrong one. */
static int check_all_used(const struct binder *b, const struct kvt_shape *s)
{
    for (int i = 0; i < b->ts->n; i++) {
        if (b->used[i])
            continue;
        struct kvt_bytes name = b->ts->tensor[i].name;
        if (kvt_bytes_equal(name, "rope_freqs.weight"))
            return kvt_fail(b->err, KVT_EUNSUP, "%s: the model scales its rope frequencies (tensor 'rope_freqs.weight', as "
                            "Llama 3.1 does), which this version doesn't support", b->path);
        return kvt_fail(b->err, KVT_EUNSUP, "%s: tensor '%.*s' has no place in the architecture %s with %d layers as this version "
                        "knows it", b->path, (int)name.n, name.p, s->arch, s->L);
    }
    return 0;
}

int kvt_weights_bind(struct kvt_weights *w, struct kvt_owned *owned, const struct kvt_tensors *ts, struct kvt_shape *s,
                     struct kvt_err *err)
{
    *w = (struct kvt_weights){0};
    *owned = (struct kvt_owned){0};
    if (s->L > ts->n / 9) /* nine tensors a layer: bounds what a wrong block_count can allocate */
        return kvt_fail(err, KVT_EFORMAT, "%s: %d layers, but only %d tensors", ts->map->path, s->L, ts->n);
    struct binder b = {.ts = ts, .path = ts->map->path, .owned = owned, .err = err};
    owned->cap = 5 * s->L + 1;
    owned->vec = kvt_calloc((size_t)owned->cap, sizeof *owned->vec);
    w->layer = kvt_calloc((size_t)s->L, sizeof *w->layer);
    b.used = kvt_calloc((size_t)ts->n, 1);
    if (!owned->vec || !w->layer || !b.used) {
        b.rc = kvt_fail(err, KVT_ENOMEM, "%s: no memory for the list of weights", ts->map->path);
        goto done;
    }
    s->qkv_bias = strcmp(s->arch, "qwen2") == 0;
    w->embed = mat(&b, "token_embd.weight", true, -1, s->E);
    s->V = w->embed.n;
    w->out_norm = vec(&b, "output_norm.weight", true, s->E);
    w->output = mat(&b, "output.weight", false, s->V, s->E);
    s->tied = !w->output.data;
    if (s->tied)
        w->output = w->embed;
    if (!b.rc && !bind_layers(&b, w, s))
        b.rc = check_all_used(&b, s);
done:
    free(b.used);
    return b.rc;
}

void kvt_weights_free(struct kvt_weights *w, struct kvt_owned *owned)
{
    for (int i = 0; i < owned->n; i++)
        free(owned->vec[i]);
    free(owned->vec);
    free(w->layer);
    *w = (struct kvt_weights){0};
    *owned = (struct kvt_owned){0};
}

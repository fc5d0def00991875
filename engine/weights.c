/* Which tensor is which weight. Matrices stay in the mapped files, also the parts of fused ones, which are their rows; only
 * vectors that aren't aligned f32 as they stand are copied. */
#include "engine/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"

/* Names without ".weight" and ".bias"; %d is the layer. */
enum place {
    EMBED, OUTPUT, OUT_NORM,
    ATTN_NORM, FFN_NORM, FFN_NORM_MIDDLE, POST_ATTN_NORM, POST_FFN_NORM, Q_NORM, K_NORM,
    Q, K, V, O, QKV, GATE, UP, DOWN, GATE_UP,
    N_PLACES
};
static const char *const names[N_PLACES][2] = {
    [EMBED] = {"token_embd", "model.embed_tokens"},
    [OUTPUT] = {"output", "lm_head"},
    [OUT_NORM] = {"output_norm", "model.norm"},
    [ATTN_NORM] = {"blk.%d.attn_norm", "model.layers.%d.input_layernorm"},
    /* Hugging Face calls the norm before the feed-forward after what precedes it, unless a norm of attention's output
     * stands between the two (Gemma 2 and 3) */
    [FFN_NORM] = {"blk.%d.ffn_norm", "model.layers.%d.post_attention_layernorm"},
    [FFN_NORM_MIDDLE] = {"blk.%d.ffn_norm", "model.layers.%d.pre_feedforward_layernorm"},
    [POST_ATTN_NORM] = {"blk.%d.post_attention_norm", "model.layers.%d.post_attention_layernorm"},
    [POST_FFN_NORM] = {"blk.%d.post_ffw_norm", "model.layers.%d.post_feedforward_layernorm"},
    [Q_NORM] = {"blk.%d.attn_q_norm", "model.layers.%d.self_attn.q_norm"},
    [K_NORM] = {"blk.%d.attn_k_norm", "model.layers.%d.self_attn.k_norm"},
    [Q] = {"blk.%d.attn_q", "model.layers.%d.self_attn.q_proj"},
    [K] = {"blk.%d.attn_k", "model.layers.%d.self_attn.k_proj"},
    [V] = {"blk.%d.attn_v", "model.layers.%d.self_attn.v_proj"},
    [O] = {"blk.%d.attn_output", "model.layers.%d.self_attn.o_proj"},
    [QKV] = {"blk.%d.attn_qkv", "model.layers.%d.self_attn.qkv_proj"},
    [GATE] = {"blk.%d.ffn_gate", "model.layers.%d.mlp.gate_proj"},
    [UP] = {"blk.%d.ffn_up", "model.layers.%d.mlp.up_proj"},
    [DOWN] = {"blk.%d.ffn_down", "model.layers.%d.mlp.down_proj"},
    [GATE_UP] = {"blk.%d.ffn_up", "model.layers.%d.mlp.gate_up_proj"}, /* rows of gate, then of up */
};

struct binder {
    const struct kvt_tensors *ts;
    const char *path;           /* for messages */
    enum kvt_naming naming;
    const char *prefix;         /* in front of every name: of a text model inside one of several modes */
    bool plus_one;              /* norms hold w for 1 + w */
    struct kvt_owned *owned;
    uint8_t *used;              /* (n) */
    struct kvt_err *err;
    int rc;                     /* first failure; later requests do nothing */
    char name[160];             /* the last one asked for */
};

static const char *name_of(struct binder *b, enum place p, int layer, const char *suffix)
{
    const char *form = names[p][b->naming], *d = strstr(form, "%d");
    if (d)
        snprintf(b->name, sizeof b->name, "%s%.*s%d%s%s", b->prefix, (int)(d - form), form, layer, d + 2, suffix);
    else
        snprintf(b->name, sizeof b->name, "%s%s%s", b->prefix, form, suffix);
    return b->name;
}

static bool there(struct binder *b, enum place p, int layer, const char *suffix)
{
    return kvt_tensors_find(b->ts, name_of(b, p, layer, suffix)) != NULL;
}

/* Never NULL while b->rc is 0. */
static const struct kvt_tensor *find(struct binder *b, enum place p, int layer, const char *suffix)
{
    if (b->rc)
        return NULL;
    const struct kvt_tensor *t = kvt_tensors_find(b->ts, name_of(b, p, layer, suffix));
    if (t)
        b->used[t - b->ts->tensor] = 1;
    else
        b->rc = kvt_fail(b->err, KVT_EFORMAT, "%s: tensor '%s' is missing", b->path, b->name);
    return t;
}

/* A matrix of n outputs and k inputs; n < 0 takes the rows as they come. */
static struct kvt_mat mat(struct binder *b, enum place p, int layer, int n, int k)
{
    const struct kvt_tensor *t = find(b, p, layer, ".weight");
    if (!t)
        return (struct kvt_mat){0};
    if (t->n_dims != 2 || t->ne[0] != (uint64_t)k || (n >= 0 && t->ne[1] != (uint64_t)n)) {
        char want[16] = "any";
        if (n >= 0)
            snprintf(want, sizeof want, "%d", n);
        b->rc = kvt_fail(b->err, KVT_EFORMAT, "%s: tensor '%s' is %llu x %llu%s, expected %s x %d (outputs x inputs)", b->path,
                         b->name, (unsigned long long)t->ne[1], (unsigned long long)t->ne[0],
                         t->n_dims > 2 ? " x more" : "", want, k);
        return (struct kvt_mat){0};
    }
    return (struct kvt_mat){.data = t->data, .type = t->type, .n = (int)t->ne[1], .k = k};
}

/* Rows [from, from + n) of a fused matrix, where they lie. */
static struct kvt_mat rows(struct kvt_mat m, int from, int n)
{
    if (!m.data)
        return m;
    m.data = (const char *)m.data + (size_t)from * kvt_row_bytes(m.type, (size_t)m.k);
    m.n = n;
    return m;
}

static float *own(struct binder *b, int n)
{
    float *out = b->owned->n < b->owned->cap ? kvt_calloc((size_t)n, sizeof *out) : NULL;
    if (out)
        b->owned->vec[b->owned->n++] = out;
    else
        b->rc = kvt_fail(b->err, KVT_ENOMEM, "%s: no memory for tensor '%s'", b->path, b->name);
    return out;
}

static const float *vec(struct binder *b, enum place p, int layer, const char *suffix, int n, bool plus_one)
{
    const struct kvt_tensor *t = find(b, p, layer, suffix);
    if (!t)
        return NULL;
    if (t->ne[0] != (uint64_t)n || t->ne[1] != 1 || t->ne[2] != 1 || t->ne[3] != 1) {
        b->rc = kvt_fail(b->err, KVT_EFORMAT, "%s: tensor '%s' has %llu x %llu values, expected %d", b->path, b->name,
                         (unsigned long long)t->ne[0], (unsigned long long)(t->ne[1] * t->ne[2]), n);
        return NULL;
    }
    if (t->type == KVT_F32 && !plus_one && (uintptr_t)t->data % _Alignof(float) == 0)
        return t->data;
    if (t->type != KVT_F32 && t->type != KVT_F16 && t->type != KVT_BF16) {
        b->rc = kvt_fail(b->err, KVT_EUNSUP, "%s: tensor '%s' is %s; norms and biases must be F32, F16 or BF16", b->path,
                         b->name, kvt_dtypes[t->type].name);
        return NULL;
    }
    float *out = own(b, n);
    if (out)
        kvt_dequantize(t->type, t->data, out, (size_t)n);
    for (int i = 0; out && i < n && plus_one; i++)
        out[i] += 1.0f; /* the sum that transformers makes, in f32 */
    return out;
}

static const float *norm(struct binder *b, enum place p, int layer, int n)
{
    return vec(b, p, layer, ".weight", n, b->plus_one);
}

static const float *bias(struct binder *b, bool has, enum place p, int layer, int n)
{
    return has ? vec(b, p, layer, ".bias", n, false) : NULL;
}

static void bind_norms(struct binder *b, struct kvt_layer_weights *y, const struct kvt_shape *s, int l)
{
    enum place before_ffn = s->post_norm ? FFN_NORM_MIDDLE : FFN_NORM;
    if (s->pre_norm) {
        y->attn_norm = norm(b, ATTN_NORM, l, s->E);
        y->ffn_norm = norm(b, before_ffn, l, s->E);
        y->attn_norm_bias = bias(b, s->layer_norm, ATTN_NORM, l, s->E);
        y->ffn_norm_bias = bias(b, s->layer_norm, before_ffn, l, s->E);
    }
    if (s->post_norm) {
        y->post_attn_norm = norm(b, POST_ATTN_NORM, l, s->E);
        y->post_ffn_norm = norm(b, POST_FFN_NORM, l, s->E);
    }
    if (s->qk_norm != KVT_QK_NONE) {
        bool wide = s->qk_norm == KVT_QK_WIDE;
        y->q_norm = norm(b, Q_NORM, l, wide ? s->H * s->D : s->D);
        y->k_norm = norm(b, K_NORM, l, wide ? s->G * s->D : s->D);
    }
}

static void bind_layer(struct binder *b, struct kvt_layer_weights *y, const struct kvt_shape *s, int l)
{
    int q_n = s->H * s->D, kv_n = s->G * s->D;
    bind_norms(b, y, s, l);
    if (s->fused_qkv) {
        struct kvt_mat all = mat(b, QKV, l, q_n + 2 * kv_n, s->E);
        y->q = rows(all, 0, q_n);
        y->k = rows(all, q_n, kv_n);
        y->v = rows(all, q_n + kv_n, kv_n);
        const float *all_bias = bias(b, s->qkv_bias, QKV, l, q_n + 2 * kv_n);
        if (all_bias)
            y->q_bias = all_bias, y->k_bias = all_bias + q_n, y->v_bias = all_bias + q_n + kv_n;
    } else {
        y->q = mat(b, Q, l, q_n, s->E);
        y->k = mat(b, K, l, kv_n, s->E);
        y->v = mat(b, V, l, kv_n, s->E);
        y->q_bias = bias(b, s->qkv_bias, Q, l, q_n);
        y->k_bias = bias(b, s->qkv_bias, K, l, kv_n);
        y->v_bias = bias(b, s->qkv_bias, V, l, kv_n);
    }
    y->o = mat(b, O, l, s->E, q_n);
    y->o_bias = bias(b, s->o_bias, O, l, s->E);
    if (s->fused_gate_up) {
        struct kvt_mat both = mat(b, GATE_UP, l, 2 * s->F, s->E);
        y->gate = rows(both, 0, s->F);
        y->up = rows(both, s->F, s->F);
        const float *both_bias = bias(b, s->mlp_bias, GATE_UP, l, 2 * s->F);
        if (both_bias)
            y->gate_bias = both_bias, y->up_bias = both_bias + s->F;
    } else {
        y->gate = mat(b, GATE, l, s->F, s->E);
        y->up = mat(b, UP, l, s->F, s->E);
        y->gate_bias = bias(b, s->mlp_bias, GATE, l, s->F);
        y->up_bias = bias(b, s->mlp_bias, UP, l, s->F);
    }
    y->down = mat(b, DOWN, l, s->E, s->F);
    y->down_bias = bias(b, s->mlp_bias, DOWN, l, s->E);
}

static bool ends(struct kvt_bytes name, const char *end)
{
    size_t n = strlen(end);
    return name.n >= n && !memcmp(name.p + name.n - n, end, n);
}

static bool begins(struct kvt_bytes name, const char *start)
{
    size_t n = strlen(start);
    return name.n >= n && !memcmp(name.p, start, n);
}

/* Tensors that say nothing new, or belong to another part of a model that sees as well as reads. */
static bool may_be_left(const struct binder *b, const struct kvt_shape *s, struct kvt_bytes name)
{
    static const char *const eyes[] = {"vision_tower.", "vision_model.", "multi_modal_projector.", "model.vision_tower.",
                                       "model.multi_modal_projector."};
    if (b->naming == KVT_NAMES_GGUF) /* factors that the shape has taken from them */
        return s->rope[0].scaling >= KVT_ROPE_FACTORS && (kvt_bytes_equal(name, "rope_freqs.weight") ||
               kvt_bytes_equal(name, "rope_factors_long.weight") || kvt_bytes_equal(name, "rope_factors_short.weight"));
    for (size_t i = 0; *b->prefix && i < sizeof eyes / sizeof *eyes; i++)
        if (begins(name, eyes[i]))
            return true;
    return ends(name, ".self_attn.rotary_emb.inv_freq") || /* old checkpoints; the same numbers as from rope_theta */
           (s->tied && ends(name, "lm_head.weight"));      /* transformers puts the embedding in its place */
}

/* A tensor that we don't use means a computation that we don't do: better no answer than a wrong one. */
static int check_all_used(const struct binder *b, const struct kvt_shape *s)
{
    for (int i = 0; i < b->ts->n; i++) {
        struct kvt_bytes name = b->ts->tensor[i].name;
        if (b->used[i] || may_be_left(b, s, name))
            continue;
        return kvt_fail(b->err, KVT_EUNSUP, "%s: tensor '%.*s' has no place in the architecture %s with %d layers as this version "
                        "knows it", b->path, kvt_bytes_shown(name), name.p, s->arch, s->L);
    }
    return 0;
}

/* What only tensors tell: a GGUF says in no key which biases it has; all layers are alike. */
static void look(struct binder *b, struct kvt_shape *s)
{
    static const char *const prefixes[] = {"", "language_model.", "model.language_"};
    if (b->naming == KVT_NAMES_GGUF) {
        s->qkv_bias = s->qkv_bias || there(b, Q, 0, ".bias");
        s->o_bias = s->o_bias || there(b, O, 0, ".bias");
        s->mlp_bias = s->mlp_bias || there(b, DOWN, 0, ".bias");
        s->tied = !there(b, OUTPUT, 0, ".weight");
        return;
    }
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) { /* a text model alone, or in one that also sees */
        b->prefix = prefixes[i];
        if (there(b, EMBED, 0, ".weight"))
            return;
    }
    b->prefix = "";
}

/* The embedding and the head. In the newest layout of models that see, the head stands outside the text model. */
static void bind_ends(struct binder *b, struct kvt_weights *w, struct kvt_shape *s)
{
    const char *prefix = b->prefix;
    w->embed = mat(b, EMBED, 0, b->naming == KVT_NAMES_HF ? s->V : -1, s->E);
    s->V = w->embed.n;
    w->out_norm = norm(b, OUT_NORM, 0, s->E);
    w->out_norm_bias = bias(b, s->layer_norm, OUT_NORM, 0, s->E);
    if (*prefix && !there(b, OUTPUT, 0, ".weight"))
        b->prefix = "";
    w->output = s->tied ? w->embed : mat(b, OUTPUT, 0, s->V, s->E);
    b->prefix = prefix;
}

int kvt_weights_bind(struct kvt_weights *w, struct kvt_owned *owned, const struct kvt_tensors *ts, enum kvt_naming naming,
                     struct kvt_shape *s, struct kvt_err *err)
{
    *w = (struct kvt_weights){0};
    *owned = (struct kvt_owned){0};
    const char *path = ts->map->path;
    if (s->L > ts->n / 6) /* six tensors a layer at least: bounds what a wrong number of layers can allocate */
        return kvt_fail(err, KVT_EFORMAT, "%s: %d layers, but only %d tensors", path, s->L, ts->n);
    struct binder b = {.ts = ts, .path = path, .naming = naming, .prefix = "", .plus_one = s->norm_plus_one, .owned = owned, .err = err};
    owned->cap = 15 * s->L + 2; /* every vector of a layer */
    owned->vec = kvt_calloc((size_t)owned->cap, sizeof *owned->vec);
    w->layer = kvt_calloc((size_t)s->L, sizeof *w->layer);
    b.used = kvt_calloc((size_t)ts->n, 1);
    if (!owned->vec || !w->layer || !b.used) {
        b.rc = kvt_fail(err, KVT_ENOMEM, "%s: no memory for the list of weights", path);
        goto done;
    }
    look(&b, s);
    bind_ends(&b, w, s);
    for (int l = 0; l < s->L && !b.rc; l++)
        bind_layer(&b, &w->layer[l], s, l);
    if (!b.rc)
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

/* The table of families. A trait that a row doesn't name is off, or is read from the file (shape_gguf.c, shape_hf.c). */
#include "engine/families.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/shape.h"

#define F(x) KVT_FAMILY_##x
#define GEMMA (F(PLUS_ONE) | F(EMBED_ROOT) | F(TIED))

static const struct kvt_family families[] = {
    { "Llama", "llama", "llama", F(PAIRS) | F(WINDOW_IN_GGUF), .window_layers = KVT_WINDOW_ALL, .rope_base = 1e4, .rms_eps = 1e-6 },
    { "Mistral", NULL, "mistral", 0, .window_layers = KVT_WINDOW_ALL, .window = 4096, .kv_heads = 8, .rope_base = 1e4, .rms_eps = 1e-6 },
    { "Qwen 2", "qwen2", "qwen2", F(QKV_BIAS), .window_layers = KVT_WINDOW_UPPER, .window = 4096, .rope_base = 1e4, .rms_eps = 1e-6 },
    { "Qwen 3", "qwen3", "qwen3", 0, .qk_norm = KVT_QK_HEAD, .window_layers = KVT_WINDOW_UPPER, .window = 4096, .head_dim = 128,
      .rope_base = 1e4, .rms_eps = 1e-6 },
    { "Gemma", "gemma", "gemma", GEMMA, .act = KVT_ACT_GELU_TANH, .head_dim = 256, .heads = 16, .kv_heads = 16, .context = 8192,
      .rope_base = 1e4, .rms_eps = 1e-6 },
    { "Gemma 2", "gemma2", "gemma2", GEMMA | F(POST_NORM) | F(QUERY_SCALE), .act = KVT_ACT_GELU_TANH, .window_layers = KVT_WINDOW_MOST,
      .full_every = 2, .window = 4096, .head_dim = 256, .heads = 8, .kv_heads = 4, .context = 8192, .query_scalar = 256,
      .attn_cap = 50, .logit_cap = 30, .rope_base = 1e4, .rms_eps = 1e-6 },
    { "Gemma 3", "gemma3", "gemma3_text", GEMMA | F(POST_NORM) | F(QUERY_SCALE) | F(LOCAL_ROPE), .act = KVT_ACT_GELU_TANH,
      .qk_norm = KVT_QK_HEAD, .window_layers = KVT_WINDOW_MOST, .full_every = 6, .window = 4096, .head_dim = 256, .heads = 8,
      .kv_heads = 4, .vocab = 262208, .context = 131072, .query_scalar = 256, .rope_base = 1e6, .local_base = 1e4, .rms_eps = 1e-6 },
    { "Phi-3", "phi3", "phi3", F(FUSED), .window_layers = KVT_WINDOW_ALL, .rope_base = 1e4, .rms_eps = 1e-5 },
    { "SmolLM3", "smollm3", "smollm3", F(PAIRS) | F(NOPE) | F(TIED), .window_layers = KVT_WINDOW_NOPE, .rope_base = 2e6, .rms_eps = 1e-6 },
    { "OLMo 2", "olmo2", "olmo2", F(NO_PRE_NORM) | F(POST_NORM), .qk_norm = KVT_QK_WIDE, .rope_base = 1e4, .rms_eps = 1e-5 },
    { "Granite", "granite", "granite", F(PAIRS) | F(SCALES), .rope_base = 1e4, .rms_eps = 1e-6 },
    { "StableLM", "stablelm", "stablelm", F(LAYER_NORM), .rotated = 0.25, .rope_base = 1e4, .rms_eps = 1e-5 },
};
enum { N_FAMILIES = sizeof families / sizeof *families };

const struct kvt_family *kvt_family_of_gguf(const char *arch)
{
    for (int i = 0; i < N_FAMILIES; i++)
        if (families[i].gguf && !strcmp(families[i].gguf, arch))
            return &families[i];
    return NULL;
}

const struct kvt_family *kvt_family_of_hf(const char *model_type)
{
    for (int i = 0; i < N_FAMILIES; i++)
        if (!strcmp(families[i].hf, model_type))
            return &families[i];
    return NULL;
}

void kvt_family_names(bool gguf, char *out, size_t cap)
{
    size_t at = 0;
    out[0] = 0;
    for (int i = 0; i < N_FAMILIES; i++) {
        const char *name = gguf ? families[i].gguf : families[i].hf;
        if (name && at < cap)
            at += (size_t)snprintf(out + at, cap - at, "%s%s", at ? ", " : "", name);
    }
}

void kvt_shape_start(struct kvt_shape *s, const struct kvt_family *f, const char *arch)
{
    memset(s, 0, sizeof *s);
    snprintf(s->arch, sizeof s->arch, "%s", arch);
    s->family = f->name;
    s->act = f->act;
    s->qk_norm = f->qk_norm;
    s->pre_norm = !(f->traits & F(NO_PRE_NORM));
    s->post_norm = f->traits & F(POST_NORM);
    s->layer_norm = f->traits & F(LAYER_NORM);
    s->qkv_bias = f->traits & F(QKV_BIAS);
    s->fused_qkv = s->fused_gate_up = f->traits & F(FUSED);
    s->embed_scale = s->residual_scale = s->logit_scale = 1;
    s->rope_halves = true;
    for (int i = 0; i < 2; i++)
        s->rope[i] = (struct kvt_rope_spec){ .base = i && f->local_base > 0 ? f->local_base : f->rope_base, .factor = 1, .attention = 1 };
}

void kvt_shape_window_layers(struct kvt_shape *s, const struct kvt_family *f, int full_every, int first_upper)
{
    bool most = f->window_layers == KVT_WINDOW_MOST;
    for (int l = 0; l < s->L; l++)
        if (f->window_layers == KVT_WINDOW_ALL || (most && full_every && (l + 1) % full_every) || (most && !full_every) ||
            (f->window_layers == KVT_WINDOW_UPPER && l >= first_upper) ||
            (f->window_layers == KVT_WINDOW_NOPE && s->layer[l] & KVT_LAYER_NOPE))
            s->layer[l] |= KVT_LAYER_WINDOW;
}

void kvt_shape_nope_layers(struct kvt_shape *s, int every)
{
    for (int l = every - 1; every > 0 && l < s->L; l += every)
        s->layer[l] |= KVT_LAYER_NOPE;
}

/* ---- what both formats must hold to ---- */

static int check_rope(const struct kvt_shape *s, const struct kvt_rope_spec *r, const char *path, struct kvt_err *err)
{
    if (!(r->base > 0 && r->base < 1e15))
        return kvt_fail(err, KVT_EFORMAT, "%s: rope base %g is out of range", path, r->base);
    if (!(r->factor >= 1 && r->factor < 1e6) || !(r->attention > 0 && r->attention < 1e3))
        return kvt_fail(err, KVT_EFORMAT, "%s: rope scaling by %g (attention %g) is out of range", path, r->factor, r->attention);
    bool first = r->scaling == KVT_ROPE_DYNAMIC || r->scaling == KVT_ROPE_LLAMA3 || r->scaling == KVT_ROPE_YARN || r->scaling == KVT_ROPE_LONG;
    if (first && r->original_tok < 1)
        return kvt_fail(err, KVT_EFORMAT, "%s: rope scaling without the context before it (original_max_position_embeddings)", path);
    if (r->scaling == KVT_ROPE_LLAMA3 && !(r->low > 0 && r->high > r->low))
        return kvt_fail(err, KVT_EFORMAT, "%s: rope scaling from %g to %g turns is out of range", path, r->low, r->high);
    if (r->scaling == KVT_ROPE_YARN && !(r->low > 0 && r->high >= r->low))
        return kvt_fail(err, KVT_EFORMAT, "%s: rope scaling with beta_slow %g and beta_fast %g is out of range", path, r->low, r->high);
    for (int i = 0; i < s->rope_rot / 2 && r->scaling >= KVT_ROPE_FACTORS; i++)
        if (!(r->long_factor[i] > 0) || !(r->short_factor[i] > 0) || !(r->long_factor[i] < 1e9f) || !(r->short_factor[i] < 1e9f))
            return kvt_fail(err, KVT_EFORMAT, "%s: rope factor of pair %d is out of range", path, i);
    return 0;
}

static bool scale_ok(float x) { return x > 0 && x < 1e9f; }

int kvt_shape_check(struct kvt_shape *s, const struct kvt_family *f, const char *path, struct kvt_err *err)
{
    if (!s->G)
        s->G = s->H;
    if (!s->D && s->E % s->H)
        return kvt_fail(err, KVT_EFORMAT, "%s: width %d is not a multiple of %d heads", path, s->E, s->H);
    if (!s->D)
        s->D = s->E / s->H;
    if (!s->rope_rot)
        s->rope_rot = f->rotated > 0 ? (int)(s->D * f->rotated) : s->D;
    if (s->H % s->G)
        return kvt_fail(err, KVT_EFORMAT, "%s: %d query heads can't share %d kv heads", path, s->H, s->G);
    if (s->rope_rot > s->D || s->rope_rot % 2)
        return kvt_fail(err, KVT_EFORMAT, "%s: rope rotates %d dimensions of a head of %d", path, s->rope_rot, s->D);
    if (!(s->rms_eps > 0 && s->rms_eps < 1))
        return kvt_fail(err, KVT_EFORMAT, "%s: rms epsilon %g is out of range", path, (double)s->rms_eps);
    if (f->traits & KVT_FAMILY_EMBED_ROOT)
        s->embed_scale = sqrtf((float)s->E);
    if (!(s->attn_scale > 0))
        s->attn_scale = 1.0f / sqrtf((float)s->D);
    if (!scale_ok(s->embed_scale) || !scale_ok(s->residual_scale) || !scale_ok(s->logit_scale) || !scale_ok(s->attn_scale))
        return kvt_fail(err, KVT_EFORMAT, "%s: a scale is out of range (embedding %g, residual %g, attention %g, logits %g)", path,
                        (double)s->embed_scale, (double)s->residual_scale, (double)s->attn_scale, (double)s->logit_scale);
    if (!(s->attn_cap >= 0 && s->attn_cap < 1e9f) || !(s->logit_cap >= 0 && s->logit_cap < 1e9f))
        return kvt_fail(err, KVT_EFORMAT, "%s: a cap is out of range (attention %g, logits %g)", path, (double)s->attn_cap,
                        (double)s->logit_cap);
    for (int l = 0; l < s->L && f->traits & KVT_FAMILY_LOCAL_ROPE; l++)
        if (s->layer[l] & KVT_LAYER_WINDOW)
            s->layer[l] |= KVT_LAYER_LOCAL_ROPE;
    int rc = check_rope(s, &s->rope[0], path, err);
    return rc ? rc : check_rope(s, &s->rope[1], path, err);
}

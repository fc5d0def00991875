/* The table of families. A trait that a row doesn't name is off, or is read from the file (shape_gguf.c, shape_hf.c). */
#include "engine/families.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/shape.h"

static const struct kvt_family families[] = {
    { .name = "Llama", .gguf = "llama", .hf = "llama", .traits = KVT_FAMILY_PAIRS, .rope_base = 1e4, .rms_eps = 1e-6 },
    { .name = "Qwen 2", .gguf = "qwen2", .hf = "qwen2", .traits = KVT_FAMILY_QKV_BIAS, .rope_base = 1e4, .rms_eps = 1e-6 },
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
    s->pre_norm = true;
    s->qkv_bias = f->traits & KVT_FAMILY_QKV_BIAS;
    s->embed_scale = s->residual_scale = s->logit_scale = 1;
    s->rope_halves = true;
    for (int i = 0; i < 2; i++)
        s->rope[i] = (struct kvt_rope_spec){ .base = f->rope_base, .factor = 1, .attention = 1 };
}

int kvt_shape_check(struct kvt_shape *s, const char *path, struct kvt_err *err)
{
    if (!s->G)
        s->G = s->H;
    if (!s->D && s->E % s->H)
        return kvt_fail(err, KVT_EFORMAT, "%s: width %d is not a multiple of %d heads", path, s->E, s->H);
    if (!s->D)
        s->D = s->E / s->H;
    if (!s->rope_rot)
        s->rope_rot = s->D;
    if (s->H % s->G)
        return kvt_fail(err, KVT_EFORMAT, "%s: %d query heads can't share %d kv heads", path, s->H, s->G);
    if (s->rope_rot > s->D || s->rope_rot % 2)
        return kvt_fail(err, KVT_EFORMAT, "%s: rope rotates %d dimensions of a head of %d", path, s->rope_rot, s->D);
    if (!(s->rms_eps > 0 && s->rms_eps < 1) || !(s->rope[0].base > 0) || !(s->rope[1].base > 0))
        return kvt_fail(err, KVT_EFORMAT, "%s: rms epsilon %g or rope base %g is out of range", path, (double)s->rms_eps,
                        s->rope[0].base);
    if (!(s->attn_scale > 0))
        s->attn_scale = 1.0f / sqrtf((float)s->D);
    return 0;
}

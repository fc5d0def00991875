/* Shape from config.json of a Hugging Face folder. A key that is absent or null means what transformers assumes. */
#include "engine/shape.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct config {
    const cJSON *json;
    const char *path;
    struct kvt_err *err;
    int rc;                     /* first failure; later reads do nothing */
};

/* NULL: absent or null. */
static const cJSON *get(const struct config *c, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(c->json, key);
    return v && !cJSON_IsNull(v) ? v : NULL;
}

static bool refuse(struct config *c, const char *key, const char *what)
{
    if (!c->rc)
        c->rc = kvt_fail(c->err, KVT_EFORMAT, "%s: config.json: '%s' %s", c->path, key, what);
    return false;
}

static double number(struct config *c, const char *key, double otherwise)
{
    const cJSON *v = get(c, key);
    if (c->rc || !v)
        return otherwise;
    if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble))
        return refuse(c, key, "must be a number"), otherwise;
    return v->valuedouble;
}

static int integer(struct config *c, const char *key, bool required, int max, int otherwise)
{
    const cJSON *v = get(c, key);
    if (c->rc || (!v && !required))
        return otherwise;
    if (!v)
        return refuse(c, key, "is missing"), otherwise;
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 1 && v->valuedouble <= max) || v->valuedouble != floor(v->valuedouble)) {
        if (!c->rc)
            c->rc = kvt_fail(c->err, KVT_EFORMAT, "%s: config.json: '%s' must be a whole number from 1 to %d", c->path, key, max);
        return otherwise;
    }
    return (int)v->valuedouble;
}

static bool truth(struct config *c, const char *key, bool otherwise)
{
    const cJSON *v = get(c, key);
    if (c->rc || !v)
        return otherwise;
    if (!cJSON_IsBool(v))
        return refuse(c, key, "must be true or false");
    return cJSON_IsTrue(v);
}

static const char *text(struct config *c, const char *key)
{
    const cJSON *v = get(c, key);
    if (c->rc || !v)
        return NULL;
    if (!cJSON_IsString(v))
        return refuse(c, key, "must be a string"), NULL;
    return v->valuestring;
}

static void read_name(struct config *c, struct kvt_shape *s)
{
    const char *end = c->path + strlen(c->path);
    while (end > c->path && end[-1] == '/')
        end--;
    const char *from = end;
    while (from > c->path && from[-1] != '/')
        from--;
    size_t n = (size_t)(end - from);
    if (n > sizeof s->name - 1)
        for (n = sizeof s->name - 1; n && ((unsigned char)from[n] & 0xc0) == 0x80;)
            n--; /* never half a character */
    memcpy(s->name, from, n);
    s->name[n] = 0;
}

static void read_act(struct config *c, struct kvt_shape *s)
{
    const char *act = text(c, "hidden_act");
    if (!act || c->rc)
        return;
    if (!strcmp(act, "silu") || !strcmp(act, "swish"))
        s->act = KVT_ACT_SILU;
    else if (!strcmp(act, "gelu_pytorch_tanh") || !strcmp(act, "gelu_new") || !strcmp(act, "gelu_fast"))
        s->act = KVT_ACT_GELU_TANH;
    else if (!strcmp(act, "gelu"))
        s->act = KVT_ACT_GELU;
    else
        c->rc = kvt_fail(c->err, KVT_EUNSUP, "%s: config.json: activation '%.40s' is not supported", c->path, act);
}

/* transformers 5 writes `rope_parameters`, older ones `rope_theta` and `rope_scaling`. */
static void read_rope(struct config *c, struct kvt_shape *s)
{
    s->rope[0].base = number(c, "rope_theta", s->rope[0].base);
    for (int i = 0; i < 2; i++) {
        const char *key = i ? "rope_scaling" : "rope_parameters";
        struct config r = { .json = get(c, key), .path = c->path, .err = c->err, .rc = c->rc };
        if (!r.json)
            continue;
        const char *type = text(&r, "rope_type");
        if (!type)
            type = text(&r, "type");
        s->rope[0].base = number(&r, "rope_theta", s->rope[0].base);
        if (!r.rc && type && strcmp(type, "default"))
            r.rc = kvt_fail(c->err, KVT_EUNSUP, "%s: config.json: rope scaling '%.40s' is not supported", c->path, type);
        c->rc = r.rc;
    }
}

int kvt_shape_from_config(struct kvt_shape *s, const cJSON *config, const char *path, struct kvt_err *err)
{
    struct config c = { .json = config, .path = path, .err = err };
    const char *type = text(&c, "model_type");
    char known[400];
    if (c.rc)
        return c.rc;
    const struct kvt_family *f = type ? kvt_family_of_hf(type) : NULL;
    if (!f) {
        kvt_family_names(false, known, sizeof known);
        return kvt_fail(err, type ? KVT_EUNSUP : KVT_EFORMAT, "%s: config.json: model_type '%.40s' is not supported (%s are)", path,
                        type ? type : "", known);
    }
    kvt_shape_start(s, f, type);
    read_name(&c, s);
    const int wide = 1 << 24; /* far above any model, and products of two stay in 64 bits */
    s->L = integer(&c, "num_hidden_layers", true, KVT_MAX_LAYERS, 0);
    s->E = integer(&c, "hidden_size", true, wide, 0);
    s->F = integer(&c, "intermediate_size", true, wide, 0);
    s->H = integer(&c, "num_attention_heads", true, 4096, 0);
    s->G = integer(&c, "num_key_value_heads", false, 4096, 0);
    s->D = integer(&c, "head_dim", false, 4096, 0);
    s->V = integer(&c, "vocab_size", true, INT_MAX, 0);
    s->context_tok = integer(&c, "max_position_embeddings", true, INT_MAX, 0);
    s->rms_eps = (float)number(&c, "rms_norm_eps", f->rms_eps);
    s->tied = truth(&c, "tie_word_embeddings", false);
    if (truth(&c, "attention_bias", false))
        s->qkv_bias = s->o_bias = true;
    s->mlp_bias = truth(&c, "mlp_bias", false);
    read_act(&c, s);
    read_rope(&c, s);
    return c.rc ? c.rc : kvt_shape_check(s, path, err);
}

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
    /* Gemma's first files say hidden_act = gelu and mean the approximation, which hidden_activation names. */
    bool gemma = s->act == KVT_ACT_GELU_TANH;
    const char *act = text(c, gemma ? "hidden_activation" : "hidden_act");
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

/* ---- rope ---- */

static void factors(struct config *c, const char *key, int pairs, float *out)
{
    const cJSON *list = get(c, key), *v;
    int i = 0;
    if (c->rc)
        return;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != pairs || pairs > KVT_ROPE_PAIRS) {
        c->rc = kvt_fail(c->err, KVT_EFORMAT, "%s: config.json: '%s' must be a list of %d numbers, one for each rotated pair (at most %d)",
                         c->path, key, pairs, KVT_ROPE_PAIRS);
        return;
    }
    cJSON_ArrayForEach(v, list) {
        if (!cJSON_IsNumber(v))
            refuse(c, key, "must be a list of numbers");
        out[i++] = (float)v->valuedouble;
    }
}

static double yarn_scale(double factor, double by) { return factor > 1 ? 0.1 * by * log(factor) + 1 : 1; }

static void read_yarn(struct config *r, struct kvt_rope_spec *spec)
{
    double mscale = number(r, "mscale", 0), all_dim = number(r, "mscale_all_dim", 0);
    spec->low = number(r, "beta_slow", 1);
    spec->high = number(r, "beta_fast", 32);
    spec->truncate = truth(r, "truncate", true);
    double own = mscale != 0 && all_dim != 0 ? yarn_scale(spec->factor, mscale) / yarn_scale(spec->factor, all_dim)
                                             : yarn_scale(spec->factor, 1);
    spec->attention = number(r, "attention_factor", own);
}

static void read_long(struct config *r, struct kvt_shape *s, struct kvt_rope_spec *spec)
{
    double own = spec->factor > 1 && spec->original_tok > 1 ? sqrt(1 + log(spec->factor) / log(spec->original_tok)) : 1;
    spec->attention = number(r, "attention_factor", own);
    factors(r, "short_factor", s->rope_rot / 2, spec->short_factor);
    factors(r, "long_factor", s->rope_rot / 2, spec->long_factor);
    if (spec->factor < 1)
        spec->factor = 1;
}

/* One object of rope parameters: rope_scaling of older files, rope_parameters of transformers 5. */
static void read_spec(struct config *c, const cJSON *json, struct kvt_shape *s, struct kvt_rope_spec *spec)
{
    struct config r = { .json = json, .path = c->path, .err = c->err, .rc = c->rc };
    const char *type = text(&r, "rope_type");
    if (!type)
        type = text(&r, "type");
    spec->base = number(&r, "rope_theta", spec->base);
    /* Phi-3 has it beside the object, and that one counts (modeling_rope_utils.py) */
    spec->original_tok = integer(c, "original_max_position_embeddings", false, INT_MAX,
                                 integer(&r, "original_max_position_embeddings", false, INT_MAX, s->context_tok));
    spec->factor = number(&r, "factor", (double)s->context_tok / spec->original_tok);
    double stretched = 0;
    bool yarn = type && !strcmp(type, "yarn"), lists = get(&r, "long_factor") != NULL; /* the first Phi-3 said yarn for longrope */
    if (type && !get(&r, "factor") && (!strcmp(type, "linear") || !strcmp(type, "dynamic") || !strcmp(type, "llama3")))
        refuse(&r, "factor", "is missing from the rope scaling");
    if (!type || !strcmp(type, "default")) {
        spec->factor = 1;
    } else if (!strcmp(type, "linear")) {
        spec->scaling = KVT_ROPE_LINEAR;
        stretched = s->window ? 0 : spec->factor * s->context_tok; /* Gemma 3 says the stretched one */
    } else if (!strcmp(type, "dynamic")) {
        spec->scaling = KVT_ROPE_DYNAMIC;
        spec->original_tok = s->context_tok;
        stretched = spec->factor * s->context_tok;
    } else if (yarn && !lists) {
        spec->scaling = KVT_ROPE_YARN;
        read_yarn(&r, spec);
        stretched = spec->factor * spec->original_tok;
    } else if (!strcmp(type, "llama3")) {
        spec->scaling = KVT_ROPE_LLAMA3;
        spec->low = number(&r, "low_freq_factor", 0);
        spec->high = number(&r, "high_freq_factor", 0);
    } else if (yarn || !strcmp(type, "longrope") || !strcmp(type, "su")) {
        if (!get(c, "original_max_position_embeddings") && !get(&r, "original_max_position_embeddings"))
            refuse(&r, "original_max_position_embeddings", "is missing; longrope chooses its factors by it");
        spec->scaling = KVT_ROPE_LONG;
        read_long(&r, s, spec);
    } else if (!r.rc) {
        r.rc = kvt_fail(c->err, KVT_EUNSUP, "%s: config.json: rope scaling '%.40s' is not supported", c->path, type);
    }
    if (!c->rc)
        c->rc = r.rc;
    if (stretched > s->context_tok && stretched < INT_MAX)
        s->context_tok = (int)stretched;
}

static void read_rope(struct config *c, struct kvt_shape *s, const struct kvt_family *f)
{
    const cJSON *json = get(c, "rope_parameters"), *full = NULL, *local = NULL;
    if (!json)
        json = get(c, "rope_scaling");
    if (cJSON_IsObject(json)) {
        full = cJSON_GetObjectItemCaseSensitive(json, "full_attention");
        local = cJSON_GetObjectItemCaseSensitive(json, "sliding_attention");
    } else if (json) {
        refuse(c, "rope_parameters", "must be an object");
        json = NULL;
    }
    s->rope[0].base = number(c, "rope_theta", s->rope[0].base);
    s->rope[1].base = number(c, "rope_local_base_freq", f->local_base > 0 ? f->local_base : s->rope[0].base);
    struct config one = { .json = full ? full : json, .path = c->path, .err = c->err };
    double rotated = number(c, "partial_rotary_factor", number(&one, "partial_rotary_factor", f->rotated > 0 ? f->rotated : 1));
    s->rope_rot = rotated > 0 && rotated <= 1 ? (int)(s->D * rotated) : 0;
    if (!s->rope_rot && s->D) /* no D: kvt_shape_check says so */
        refuse(c, "partial_rotary_factor", "must be a share of the head's dimensions");
    if (one.json)
        read_spec(c, one.json, s, &s->rope[0]);
    if (local && f->traits & KVT_FAMILY_LOCAL_ROPE)
        read_spec(c, local, s, &s->rope[1]);
    if ((full || local) && !(f->traits & KVT_FAMILY_LOCAL_ROPE))
        refuse(c, "rope_parameters", "gives kinds of layers rope parameters of their own, which this family doesn't have");
}

/* ---- layers ---- */

static void read_nope(struct config *c, struct kvt_shape *s)
{
    const cJSON *list = get(c, "no_rope_layers"), *v;
    int l = 0;
    if (!list) {
        kvt_shape_nope_layers(s, integer(c, "no_rope_layer_interval", false, KVT_MAX_LAYERS, 4));
        return;
    }
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != s->L)
        refuse(c, "no_rope_layers", "must be a list of 1 (rotates) and 0, one for each layer");
    cJSON_ArrayForEach(v, list) {
        bool no = cJSON_IsNumber(v) ? v->valuedouble == 0 : cJSON_IsFalse(v);
        if (!c->rc && no)
            s->layer[l] |= KVT_LAYER_NOPE;
        l++;
    }
}

static void read_windows(struct config *c, struct kvt_shape *s, const struct kvt_family *f)
{
    bool asked = f->window_layers == KVT_WINDOW_UPPER || f->window_layers == KVT_WINDOW_NOPE; /* and off unless it says so */
    const cJSON *json = cJSON_GetObjectItemCaseSensitive(c->json, "sliding_window"), *list = get(c, "layer_types"), *v;
    int window = cJSON_IsNull(json) ? 0 : integer(c, "sliding_window", false, INT_MAX, f->window), l = 0;
    if (f->traits & KVT_FAMILY_WINDOW_IN_GGUF)
        return;
    bool used = (!asked || truth(c, "use_sliding_window", false)) && f->window_layers != KVT_WINDOW_UNSAID && window > 0 && !c->rc;
    if (list && (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != s->L))
        refuse(c, "layer_types", "must be a list with one entry for each layer");
    if (c->rc)
        return;
    cJSON_ArrayForEach(v, list) {
        bool sliding = cJSON_IsString(v) && !strcmp(v->valuestring, "sliding_attention");
        if (!sliding && !(cJSON_IsString(v) && !strcmp(v->valuestring, "full_attention"))) {
            if (!c->rc)
                c->rc = kvt_fail(c->err, KVT_EUNSUP, "%s: config.json: layer type '%.40s' is not supported", c->path,
                                 cJSON_IsString(v) ? v->valuestring : "?");
        } else if (sliding && used) {
            s->layer[l] |= KVT_LAYER_WINDOW;
        }
        l++;
    }
    if (!used)
        return;
    s->window = window;
    if (!list || f->window_layers == KVT_WINDOW_ALL) /* those families know no kinds of layers */
        kvt_shape_window_layers(s, f, integer(c, "sliding_window_pattern", false, KVT_MAX_LAYERS, f->full_every),
                                (int)fmin(fmax(number(c, "max_window_layers", 28), 0), KVT_MAX_LAYERS));
}

/* ---- numbers that scale ---- */

static void read_scales(struct config *c, struct kvt_shape *s, const struct kvt_family *f)
{
    if (f->traits & KVT_FAMILY_QUERY_SCALE) {
        double scalar = number(c, "query_pre_attn_scalar", f->query_scalar);
        if (!(scalar > 0))
            refuse(c, "query_pre_attn_scalar", "must be above 0");
        s->attn_scale = (float)(1 / sqrt(scalar));
        /* null is no cap, absent the family's. Gemma 3 takes over Gemma 2's keys, but its attention doesn't look at the cap. */
        bool no_cap = cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(c->json, "attn_logit_softcapping"));
        s->attn_cap = no_cap || !(f->attn_cap > 0) ? 0 : (float)number(c, "attn_logit_softcapping", (double)f->attn_cap);
        no_cap = cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(c->json, "final_logit_softcapping"));
        s->logit_cap = no_cap ? 0 : (float)number(c, "final_logit_softcapping", (double)f->logit_cap);
    }
    if (f->traits & KVT_FAMILY_SCALES) {
        s->embed_scale = (float)number(c, "embedding_multiplier", 1);
        s->residual_scale = (float)number(c, "residual_multiplier", 1);
        s->attn_scale = (float)number(c, "attention_multiplier", 1);
        if (!(s->attn_scale > 0))
            refuse(c, "attention_multiplier", "must be above 0");
        s->logit_scale = (float)(1 / number(c, "logits_scaling", 1));
    }
}

static void refuse_unknown_arithmetic(struct config *c, const struct kvt_shape *s)
{
    static const char *const off[] = { "use_parallel_residual", "qk_layernorm", "use_bidirectional_attention" };
    const char *positions = text(c, "position_embedding_type");
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        if (truth(c, off[i], false) && !c->rc)
            c->rc = kvt_fail(c->err, KVT_EUNSUP, "%s: config.json: '%s' is not supported for %s", c->path, off[i], s->family);
    if (!c->rc && (number(c, "num_local_experts", 0) > 0 || number(c, "num_experts", 0) > 0))
        c->rc = kvt_fail(c->err, KVT_EUNSUP, "%s: config.json: a mixture of experts is not supported", c->path);
    if (!c->rc && positions && strcmp(positions, "rope"))
        c->rc = kvt_fail(c->err, KVT_EUNSUP, "%s: config.json: positions by '%.40s' are not supported", c->path, positions);
}

int kvt_shape_from_config(struct kvt_shape *s, const cJSON *config, const char *path, struct kvt_err *err)
{
    struct config c = { .json = config, .path = path, .err = err };
    const char *type = text(&c, "model_type");
    char known[400];
    if (c.rc)
        return c.rc;
    const cJSON *inner = get(&c, "text_config");
    if (type && !strcmp(type, "gemma3") && cJSON_IsObject(inner)) { /* its text model; pictures aren't read */
        type = "gemma3_text";
        c.json = inner;
    }
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
    s->H = integer(&c, "num_attention_heads", !f->heads, 4096, f->heads);
    s->G = integer(&c, "num_key_value_heads", false, 4096, f->kv_heads);
    s->D = integer(&c, "head_dim", false, 4096, f->head_dim ? f->head_dim : s->H && s->E % s->H == 0 ? s->E / s->H : 0);
    s->V = integer(&c, "vocab_size", !f->vocab, INT_MAX, f->vocab);
    s->context_tok = integer(&c, "max_position_embeddings", !f->context, INT_MAX, f->context);
    s->rms_eps = (float)number(&c, s->layer_norm ? "layer_norm_eps" : "rms_norm_eps", f->rms_eps);
    s->norm_plus_one = f->traits & KVT_FAMILY_PLUS_ONE;
    s->tied = truth(&c, "tie_word_embeddings", f->traits & KVT_FAMILY_TIED);
    if (truth(&c, "attention_bias", false))
        s->qkv_bias = s->o_bias = true;
    if (truth(&c, "use_qkv_bias", false))
        s->qkv_bias = true;
    s->mlp_bias = truth(&c, "mlp_bias", false);
    read_act(&c, s);
    if (f->traits & KVT_FAMILY_NOPE && !c.rc)
        read_nope(&c, s);
    read_windows(&c, s, f);
    read_rope(&c, s, f);
    read_scales(&c, s, f);
    refuse_unknown_arithmetic(&c, s);
    return c.rc ? c.rc : kvt_shape_check(s, f, path, err);
}

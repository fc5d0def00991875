/* Shape from the metadata of a GGUF file, whose keys begin with the architecture's name: "llama.block_count". Names and
 * meanings are llama.cpp's; where it knows a number without being told, so do we. */
#include "engine/shape.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/unicode.h"

/* One key under the architecture's prefix. The first failure stays; later reads do nothing. */
struct arch_keys {
    const struct kvt_gguf *g;
    const char *arch;
    char key[96];
    struct kvt_err *err;
    int rc;
};

static const char *key(struct arch_keys *a, const char *suffix)
{
    snprintf(a->key, sizeof a->key, "%s.%s", a->arch, suffix);
    return a->key;
}

static bool has(struct arch_keys *a, const char *suffix) { return kvt_gguf_find(a->g, key(a, suffix)) != NULL; }

static int64_t integer(struct arch_keys *a, const char *suffix, bool required, int64_t min, int64_t max, int64_t otherwise)
{
    int64_t v = otherwise;
    if (!a->rc)
        a->rc = kvt_gguf_int(a->g, key(a, suffix), required, min, max, &v, a->err);
    return v;
}

static int count(struct arch_keys *a, const char *suffix, bool required, int max, int otherwise)
{
    return (int)integer(a, suffix, required, 1, max, otherwise);
}

static double number(struct arch_keys *a, const char *suffix, bool required, double otherwise)
{
    double v = otherwise;
    if (!a->rc)
        a->rc = kvt_gguf_float(a->g, key(a, suffix), required, &v, a->err);
    return v;
}

static int unsupported(struct arch_keys *a, const char *what)
{
    if (!a->rc)
        a->rc = kvt_fail(a->err, KVT_EUNSUP, "%s: %s is not supported", a->g->path, what);
    return a->rc;
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

/* ---- rope ---- */

/* A tensor of a factor for each pair; false where the file has none. */
static bool factors(struct arch_keys *a, const char *name, int pairs, float *out)
{
    const struct kvt_tensor *t = a->rc ? NULL : kvt_tensors_find(&a->g->tensors, name);
    if (!t)
        return false;
    if (t->type != KVT_F32 || t->n_dims != 1 || t->ne[0] != (uint64_t)pairs || pairs > KVT_ROPE_PAIRS)
        a->rc = kvt_fail(a->err, KVT_EFORMAT, "%s: tensor '%s' must be %d values of F32, one for each rotated pair (at most %d)",
                         a->g->path, name, pairs, KVT_ROPE_PAIRS);
    else
        memcpy(out, t->data, (size_t)pairs * sizeof *out);
    return !a->rc;
}

static void read_scaling(struct arch_keys *a, struct kvt_shape *s)
{
    struct kvt_rope_spec *r = &s->rope[0];
    struct kvt_bytes type = {0};
    if (!a->rc)
        a->rc = kvt_gguf_str(a->g, key(a, "rope.scaling.type"), false, &type, a->err);
    double factor = number(a, "rope.scaling.factor", false, 0), old = number(a, "rope.scale_linear", false, 0);
    bool none = type.p && kvt_bytes_equal(type, "none");
    if (a->rc || none)
        return;
    if (!type.p || kvt_bytes_equal(type, "linear")) { /* a factor alone means linear, as in llama.cpp; 0 means nothing */
        r->factor = factor > 0 ? factor : old > 0 ? old : 1;
        r->scaling = r->factor != 1 ? KVT_ROPE_LINEAR : KVT_ROPE_PLAIN;
    } else if (kvt_bytes_equal(type, "yarn")) {
        r->scaling = KVT_ROPE_YARN;
        r->factor = factor > 0 ? factor : 1;
        r->truncate = true;
        r->low = number(a, "rope.scaling.yarn_beta_slow", false, 1);
        r->high = number(a, "rope.scaling.yarn_beta_fast", false, 32);
        r->attention = number(a, "rope.scaling.yarn_attn_factor", false, number(a, "rope.scaling.attn_factor", false, 1)) *
                       (1 + 0.1 * log(r->factor));
        if (number(a, "rope.scaling.yarn_ext_factor", false, 1) != 1 || number(a, "rope.scaling.yarn_log_multiplier", false, 0) != 0)
            unsupported(a, "rope scaling 'yarn' with an extension factor or a logarithmic multiplier");
        double stretched = r->factor * r->original_tok;
        if (stretched > s->context_tok && stretched < INT32_MAX)
            s->context_tok = (int)stretched;
    } else if (!kvt_bytes_equal(type, "longrope")) { /* its factors are tensors */
        a->rc = kvt_fail(a->err, KVT_EUNSUP, "%s: rope scaling '%.*s' is not supported", a->g->path,
                         type.n < 32 ? (int)type.n : 32, type.p);
    }
}

static void read_rope(struct arch_keys *a, struct kvt_shape *s, const struct kvt_family *f)
{
    struct kvt_rope_spec *r = &s->rope[0];
    r->base = number(a, "rope.freq_base", false, 1e4);
    s->rope[1].base = number(a, "rope.freq_base_swa", false, f->local_base > 0 ? f->local_base : r->base);
    s->rope_rot = count(a, "rope.dimension_count", false, 4096, 0);
    r->original_tok = count(a, "rope.scaling.original_context_length", false, INT32_MAX, s->context_tok);
    s->rope_halves = !(f->traits & KVT_FAMILY_PAIRS);
    read_scaling(a, s);
}

/* After kvt_shape_check has settled how many pairs there are. */
static void read_factors(struct arch_keys *a, struct kvt_shape *s)
{
    struct kvt_rope_spec *r = &s->rope[0];
    int pairs = s->rope_rot / 2;
    if (factors(a, "rope_freqs.weight", pairs, r->long_factor)) {
        if (r->scaling != KVT_ROPE_PLAIN)
            unsupported(a, "rope scaling beside the tensor 'rope_freqs.weight'");
        memcpy(r->short_factor, r->long_factor, sizeof r->short_factor);
        r->scaling = KVT_ROPE_FACTORS;
    }
    bool far = factors(a, "rope_factors_long.weight", pairs, r->long_factor);
    bool near = factors(a, "rope_factors_short.weight", pairs, r->short_factor);
    if (!a->rc && far != near)
        a->rc = kvt_fail(a->err, KVT_EFORMAT, "%s: of the tensors 'rope_factors_long.weight' and 'rope_factors_short.weight' only one "
                         "is there", a->g->path);
    struct kvt_bytes type = {0};
    if (!a->rc && !far && !kvt_gguf_str(a->g, key(a, "rope.scaling.type"), false, &type, NULL) && type.p && kvt_bytes_equal(type, "longrope"))
        a->rc = kvt_fail(a->err, KVT_EFORMAT, "%s: rope scaling 'longrope' without its tensor 'rope_factors_long.weight'; convert the "
                         "model again", a->g->path);
    if (far && near) {
        r->scaling = KVT_ROPE_LONG;
        r->attention = number(a, "rope.scaling.attn_factor", false, 1);
    }
}

/* ---- windows ---- */

static void read_windows(struct arch_keys *a, struct kvt_shape *s, const struct kvt_family *f)
{
    int64_t window = integer(a, "attention.sliding_window", false, 0, INT64_MAX, f->window_layers == KVT_WINDOW_MOST && f->full_every == 2 ? f->window : 0);
    if (a->rc || window == 0 || window >= s->context_tok)
        return;
    s->window = (int)window;
    const struct kvt_gguf_kv *kv = kvt_gguf_find(a->g, key(a, "attention.sliding_window_pattern"));
    if (kv && kv->type == KVT_GGUF_ARR) {
        if (kv->elem != KVT_GGUF_BOOL || kv->count != (uint64_t)s->L)
            a->rc = kvt_fail(a->err, KVT_EFORMAT, "%s: '%s' must be a truth value for each of the %d layers", a->g->path, a->key, s->L);
        for (int l = 0; l < s->L && !a->rc; l++)
            s->layer[l] |= kv->data[l] ? KVT_LAYER_WINDOW : 0;
        return;
    }
    int every = count(a, "attention.sliding_window_pattern", false, KVT_MAX_LAYERS, 0);
    if (every || f->window_layers == KVT_WINDOW_MOST)
        kvt_shape_window_layers(s, &(struct kvt_family){.window_layers = KVT_WINDOW_MOST}, every ? every : f->full_every, 0);
    else if (f->window_layers == KVT_WINDOW_ALL)
        kvt_shape_window_layers(s, f, 0, 0);
    else if (!a->rc)
        a->rc = kvt_fail(a->err, KVT_EUNSUP, "%s: a sliding window of %lld tokens without a word on which layers have it is not supported",
                         a->g->path, (long long)window);
}

/* ---- numbers that scale ---- */

static void read_scales(struct arch_keys *a, struct kvt_shape *s, const struct kvt_family *f)
{
    if (f->attn_cap > 0) /* Gemma 2; llama.cpp asks for it there alone too */
        s->attn_cap = (float)number(a, "attn_logit_softcapping", false, (double)f->attn_cap);
    s->logit_cap = (float)number(a, "final_logit_softcapping", false, (double)f->logit_cap);
    s->attn_scale = (float)number(a, "attention.scale", false, 0);
    /* Converters don't write Gemma's query_pre_attn_scalar. It is the head size, but for the two models of 27B, which
     * llama.cpp knows by their number of layers. */
    if (f->traits & KVT_FAMILY_QUERY_SCALE && !(s->attn_scale > 0) && s->L == (f->full_every == 2 ? 46 : 62))
        s->attn_scale = 1.0f / sqrtf((float)s->E / (float)s->H);
    if (!(f->traits & KVT_FAMILY_SCALES))
        return;
    s->embed_scale = (float)number(a, "embedding_scale", false, 1);
    s->residual_scale = (float)number(a, "residual_scale", false, 1);
    s->logit_scale = (float)(1 / number(a, "logit_scale", false, 1));
    bool rotates = true;
    if (!a->rc)
        a->rc = kvt_gguf_bool(a->g, key(a, "rope.scaling.finetuned"), &rotates, a->err);
    if (!rotates)
        unsupported(a, "a Granite without positions (rope.scaling.finetuned = false)");
}

/* Things that change the arithmetic and that we don't do: refused by name instead of answered wrongly. */
static void refuse_unknown_arithmetic(struct arch_keys *a)
{
    bool parallel = false, causal = true;
    int64_t experts = integer(a, "expert_count", false, 0, INT32_MAX, 0);
    if (!a->rc)
        a->rc = kvt_gguf_bool(a->g, key(a, "use_parallel_residual"), &parallel, a->err);
    if (!a->rc && experts > 0)
        a->rc = kvt_fail(a->err, KVT_EUNSUP, "%s: a mixture of %lld experts is not supported", a->g->path, (long long)experts);
    if (!a->rc)
        a->rc = kvt_gguf_bool(a->g, key(a, "attention.causal"), &causal, a->err);
    if (!causal)
        unsupported(a, "attention to later tokens too (attention.causal = false)");
    if (parallel)
        unsupported(a, "attention beside the feed-forward (use_parallel_residual)");
    if (has(a, "attention.temperature_scale"))
        unsupported(a, "a temperature of attention by position (attention.temperature_scale)");
}

int kvt_shape_from_gguf(struct kvt_shape *s, const struct kvt_gguf *g, struct kvt_err *err)
{
    struct kvt_bytes said;
    char arch[32], known[400];
    int rc = kvt_gguf_str(g, "general.architecture", true, &said, err);
    if (rc)
        return rc;
    snprintf(arch, sizeof arch, "%.*s", said.n < 32 ? (int)said.n : 31, said.p);
    const struct kvt_family *f = kvt_family_of_gguf(arch);
    if (!f) {
        kvt_family_names(true, known, sizeof known);
        return kvt_fail(err, KVT_EUNSUP, "%s: architecture '%s' is not supported (%s are)", g->path, arch, known);
    }
    kvt_shape_start(s, f, arch);
    read_name(g, s);
    struct arch_keys a = {.g = g, .arch = s->arch, .err = err};
    const int wide = 1 << 24; /* far above any model, and products of two stay in 64 bits */
    s->L = count(&a, "block_count", true, KVT_MAX_LAYERS, 0);
    s->E = count(&a, "embedding_length", true, wide, 0);
    s->F = count(&a, "feed_forward_length", true, wide, 0);
    s->context_tok = count(&a, "context_length", true, INT32_MAX, 0);
    s->H = count(&a, "attention.head_count", true, 4096, 0);
    s->G = count(&a, "attention.head_count_kv", false, 4096, 0);
    s->D = count(&a, "attention.key_length", false, 4096, 0);
    s->rms_eps = (float)number(&a, s->layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", true, 0);
    read_rope(&a, s, f);
    read_scales(&a, s, f);
    read_windows(&a, s, f);
    if (f->traits & KVT_FAMILY_NOPE)
        kvt_shape_nope_layers(s, 4);
    refuse_unknown_arithmetic(&a);
    if (!a.rc)
        a.rc = kvt_shape_check(s, f, g->path, err);
    int value_d = count(&a, "attention.value_length", false, 4096, s->D);
    if (!a.rc && value_d != s->D)
        a.rc = kvt_fail(err, KVT_EUNSUP, "%s: keys of %d and values of %d dimensions are not supported (they must be equal)",
                        g->path, s->D, value_d);
    read_factors(&a, s);
    return a.rc ? a.rc : kvt_shape_check(s, f, g->path, err);
}

/* Shape from the metadata of a GGUF file, whose keys begin with the architecture's name: "llama.block_count". */
#include "engine/shape.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/unicode.h"

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
    struct arch_keys a = {.g = g, .arch = s->arch};
    double eps = 0;
    const int wide = 1 << 24; /* far above any model, and products of two stay in 64 bits */
    if ((rc = get_int(&a, "block_count", true, KVT_MAX_LAYERS, &s->L, err)) ||
        (rc = get_int(&a, "embedding_length", true, wide, &s->E, err)) ||
        (rc = get_int(&a, "feed_forward_length", true, wide, &s->F, err)) ||
        (rc = get_int(&a, "context_length", true, INT32_MAX, &s->context_tok, err)) ||
        (rc = get_int(&a, "attention.head_count", true, 4096, &s->H, err)) ||
        (rc = get_int(&a, "attention.head_count_kv", false, 4096, &s->G, err)) ||
        (rc = get_int(&a, "attention.key_length", false, 4096, &s->D, err)) ||
        (rc = get_int(&a, "rope.dimension_count", false, 4096, &s->rope_rot, err)) ||
        (rc = kvt_gguf_float(g, key(&a, "attention.layer_norm_rms_epsilon"), true, &eps, err)) ||
        (rc = kvt_gguf_float(g, key(&a, "rope.freq_base"), false, &s->rope[0].base, err)))
        return rc;
    s->rms_eps = (float)eps;
    s->rope_halves = !(f->traits & KVT_FAMILY_PAIRS);
    rc = kvt_shape_check(s, g->path, err);
    int value_d = s->D;
    if (!rc)
        rc = get_int(&a, "attention.value_length", false, 4096, &value_d, err);
    if (!rc && value_d != s->D)
        rc = kvt_fail(err, KVT_EUNSUP, "%s: keys of %d and values of %d dimensions are not supported (they must be equal)",
                      g->path, s->D, value_d);
    return rc ? rc : refuse_unknown_arithmetic(&a, s, err);
}

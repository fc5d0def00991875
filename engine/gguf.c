/* The GGUF reader. A cursor that can't pass the end, and nothing that is believed before it was checked. */
#include "engine/gguf.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define MAX_ENTRIES 65536       /* keys, or tensors; real files have tens and hundreds */
#define MAX_KEY_BYTES 65535     /* the format's own limit */
#define MAX_NAME_BYTES 255
#define MAX_STR_BYTES (64 << 20)
#define MAX_PARTS 999           /* of a split model; real ones have tens */

/* ggml's numbers for the types that have no kvt_dtype, so that a refusal can name them. */
static const char *const ggml_names[] = {
    [15] = "Q8_K", [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S",
    [21] = "IQ3_S", [22] = "IQ2_S", [24] = "I8", [25] = "I16", [26] = "I32",
    [27] = "I64", [28] = "F64", [29] = "IQ1_M", [34] = "TQ1_0", [35] = "TQ2_0", [40] = "NVFP4",
};
#define N_GGML_NAMES (sizeof ggml_names / sizeof *ggml_names)

static const size_t value_bytes[KVT_N_GGUF_TYPE] = {
    [KVT_GGUF_U8] = 1, [KVT_GGUF_I8] = 1, [KVT_GGUF_U16] = 2, [KVT_GGUF_I16] = 2, [KVT_GGUF_U32] = 4,
    [KVT_GGUF_I32] = 4, [KVT_GGUF_F32] = 4, [KVT_GGUF_BOOL] = 1, [KVT_GGUF_U64] = 8, [KVT_GGUF_I64] = 8,
    [KVT_GGUF_F64] = 8,
};
static const char *const type_names[KVT_N_GGUF_TYPE] = {
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64",
};

struct cursor {
    const uint8_t *p, *end;
};

static bool take(struct cursor *c, void *out, size_t n)
{
    if ((size_t)(c->end - c->p) < n)
        return false;
    memcpy(out, c->p, n);
    c->p += n;
    return true;
}

static bool skip(struct cursor *c, size_t n)
{
    if ((size_t)(c->end - c->p) < n)
        return false;
    c->p += n;
    return true;
}

static bool take_str(struct cursor *c, struct kvt_bytes *out, size_t max)
{
    uint64_t n;
    if (!take(c, &n, 8) || n > max || n > (size_t)(c->end - c->p))
        return false;
    *out = (struct kvt_bytes){(const char *)c->p, (size_t)n};
    c->p += n;
    return true;
}

static bool dtype_of(uint32_t ggml, enum kvt_dtype *out)
{
    switch (ggml) {
    case 0: *out = KVT_F32; return true;
    case 1: *out = KVT_F16; return true;
    case 2: *out = KVT_Q4_0; return true;
    case 3: *out = KVT_Q4_1; return true;
    case 6: *out = KVT_Q5_0; return true;
    case 7: *out = KVT_Q5_1; return true;
    case 8: *out = KVT_Q8_0; return true;
    case 12: *out = KVT_Q4_K; return true;
    case 13: *out = KVT_Q5_K; return true;
    case 14: *out = KVT_Q6_K; return true;
    case 30: *out = KVT_BF16; return true;
    case 10: *out = KVT_Q2_K; return true;
    case 11: *out = KVT_Q3_K; return true;
    case 20: *out = KVT_IQ4_NL; return true;
    case 23: *out = KVT_IQ4_XS; return true;
    case 39: *out = KVT_MXFP4; return true;
    default: return false;
    }
}

static int order_kv(const void *a, const void *b)
{
    return kvt_bytes_order(((const struct kvt_gguf_kv *)a)->key, ((const struct kvt_gguf_kv *)b)->key);
}

static int cut(const struct kvt_gguf *g, const char *what, struct kvt_err *err)
{
    return kvt_fail(err, KVT_EFORMAT, "%s: the file ends, or a length is wrong, inside %s; it is truncated or damaged",
                    g->path, what);
}

static int parse_value(struct kvt_gguf *g, struct cursor *c, struct kvt_gguf_kv *kv, struct kvt_err *err)
{
    uint32_t type;
    if (!take(c, &type, 4))
        return cut(g, "the metadata", err);
    if (type >= KVT_N_GGUF_TYPE)
        return kvt_fail(err, KVT_EFORMAT, "%s: key '%.*s' has unknown value type %u", g->path, kvt_bytes_shown(kv->key), kv->key.p,
                        type);
    kv->type = (enum kvt_gguf_type)type;
    kv->elem = kv->type;
    kv->count = 1;
    if (kv->type == KVT_GGUF_ARR) {
        uint32_t elem;
        if (!take(c, &elem, 4) || !take(c, &kv->count, 8))
            return cut(g, "the metadata", err);
        if (elem >= KVT_N_GGUF_TYPE || elem == KVT_GGUF_ARR)
            return kvt_fail(err, KVT_EFORMAT, "%s: array '%.*s' has element type %u, which is not supported", g->path,
                            kvt_bytes_shown(kv->key), kv->key.p, elem);
        kv->elem = (enum kvt_gguf_type)elem;
    }
    kv->data = c->p;
    if (kv->elem == KVT_GGUF_STR) {
        struct kvt_bytes s;
        for (uint64_t i = 0; i < kv->count; i++)
            if (!take_str(c, &s, MAX_STR_BYTES))
                return cut(g, "a string of the metadata", err);
        return 0;
    }
    size_t bytes;
    if (kv->count > SIZE_MAX || !kvt_mul_size((size_t)kv->count, value_bytes[kv->elem], &bytes) || !skip(c, bytes))
        return cut(g, "an array of the metadata", err);
    return 0;
}

static int parse_tensor(struct kvt_gguf *g, struct cursor *c, struct kvt_tensor *t, uint64_t *offset,
                        struct kvt_err *err)
{
    uint32_t n_dims, type;
    *t = (struct kvt_tensor){0};
    if (!take_str(c, &t->name, MAX_NAME_BYTES) || !take(c, &n_dims, 4))
        return cut(g, "the list of tensors", err);
    int name_n = kvt_bytes_shown(t->name);
    if (n_dims < 1 || n_dims > 4)
        return kvt_fail(err, KVT_EFORMAT, "%s: tensor '%.*s' has %u dimensions (1 to 4 expected)", g->path, name_n,
                        t->name.p, n_dims);
    t->n_dims = (int)n_dims;
    for (int d = 0; d < 4; d++) {
        t->ne[d] = 1;
        if (d < t->n_dims && !take(c, &t->ne[d], 8))
            return cut(g, "the list of tensors", err);
        if (t->ne[d] < 1 || t->ne[d] > INT_MAX)
            return kvt_fail(err, KVT_EFORMAT, "%s: tensor '%.*s' has an impossible size", g->path, name_n, t->name.p);
    }
    if (!take(c, &type, 4) || !take(c, offset, 8))
        return cut(g, "the list of tensors", err);
    if (!dtype_of(type, &t->type)) {
        const char *known = type < N_GGML_NAMES ? ggml_names[type] : NULL;
        return kvt_fail(err, KVT_EUNSUP,
                        "%s: tensor '%.*s' has type %s (%u), which is not supported; convert the file to one of F32 F16 "
                        "BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K to Q6_K IQ4_NL IQ4_XS MXFP4", g->path, name_n, t->name.p,
                        known ? known : "unknown", type);
    }
    const struct kvt_dtype_info *info = &kvt_dtypes[t->type];
    if (t->ne[0] % (uint64_t)info->block_values)
        return kvt_fail(err, KVT_EFORMAT, "%s: rows of tensor '%.*s' have %llu values, not a multiple of %d (%s)", g->path,
                        name_n, t->name.p, (unsigned long long)t->ne[0], info->block_values, info->name);
    if (!kvt_tensor_size(t, &t->bytes))
        return kvt_fail(err, KVT_EFORMAT, "%s: tensor '%.*s' has an impossible size", g->path, name_n, t->name.p);
    return 0;
}

static int parse_header(struct kvt_gguf *g, struct cursor *c, int *n, struct kvt_err *err)
{
    char magic[4];
    uint32_t version;
    uint64_t n_tensors, n_kv;
    if (!take(c, magic, 4) || memcmp(magic, "GGUF", 4) != 0)
        return kvt_fail(err, KVT_EFORMAT, "%s: not a GGUF file", g->path);
    if (!take(c, &version, 4) || !take(c, &n_tensors, 8) || !take(c, &n_kv, 8))
        return cut(g, "the header", err);
    if (version != 2 && version != 3) {
        if (version == 0x02000000u || version == 0x03000000u)
            return kvt_fail(err, KVT_EUNSUP, "%s: a big-endian GGUF file; convert it to little-endian", g->path);
        return kvt_fail(err, KVT_EUNSUP, "%s: GGUF version %u is not supported (2 and 3 are)", g->path, version);
    }
    /* the smallest entries bound the counts, so that a damaged header can't ask for memory the file doesn't back */
    size_t left = (size_t)(c->end - c->p);
    if (n_kv > MAX_ENTRIES || n_kv > left / 13 || n_tensors > MAX_ENTRIES || n_tensors > left / 32)
        return kvt_fail(err, KVT_EFORMAT, "%s: the header counts %llu keys and %llu tensors, more than this file can hold; "
                        "it is truncated or damaged", g->path, (unsigned long long)n_kv, (unsigned long long)n_tensors);
    g->n_kv = (int)n_kv;
    *n = (int)n_tensors;
    g->kv = kvt_calloc((size_t)n_kv, sizeof *g->kv);
    return g->kv ? kvt_tensors_reserve(&g->tensors, (size_t)n_tensors, err) : kvt_fail(err, KVT_ENOMEM, "%s: no memory for the list of keys", g->path);
}

static int place_tensors(struct kvt_gguf *g, const struct cursor *c, const uint64_t *offset, struct kvt_err *err)
{
    int64_t align = 32;
    int rc = kvt_gguf_int(g, "general.alignment", false, 4, 1 << 20, &align, err);
    if (rc)
        return rc;
    if (align & (align - 1))
        return kvt_fail(err, KVT_EFORMAT, "%s: general.alignment is %lld, not a power of two", g->path, (long long)align);
    size_t start;
    if (!kvt_add_size((size_t)(c->p - g->base), (size_t)align - 1, &start))
        return cut(g, "the list of tensors", err);
    start &= ~((size_t)align - 1);
    size_t room = start <= g->bytes ? g->bytes - start : 0;
    for (int i = 0; i < g->tensors.n; i++) {
        struct kvt_tensor *t = &g->tensors.tensor[i];
        int name_n = kvt_bytes_shown(t->name);
        if (offset[i] % (uint64_t)align)
            return kvt_fail(err, KVT_EFORMAT, "%s: tensor '%.*s' lies at offset %llu, not a multiple of %lld", g->path, name_n,
                            t->name.p, (unsigned long long)offset[i], (long long)align);
        if (offset[i] > room || t->bytes > room - offset[i])
            return kvt_fail(err, KVT_EFORMAT,
                            "%s: tensor '%.*s' (offset %llu, %zu bytes) reaches past the end of the file (%zu bytes of data); "
                            "the file is truncated or damaged, fetch it again", g->path, name_n, t->name.p,
                            (unsigned long long)offset[i], t->bytes, room);
        t->data = g->base + start + offset[i];
    }
    return 0;
}

/* The map's file, whole; g has no other yet. */
static int parse(struct kvt_gguf *g, struct kvt_map *m, struct kvt_err *err)
{
    struct cursor c = {m->base, m->base + m->bytes};
    uint64_t *offset = NULL;
    int n = 0;
    *g = (struct kvt_gguf){.base = m->base, .bytes = m->bytes};
    int rc = kvt_tensors_add_map(&g->tensors, m, err);
    if (rc)
        return rc;
    g->path = g->tensors.map->path;
    if ((rc = parse_header(g, &c, &n, err)))
        return rc;
    for (int i = 0; i < g->n_kv; i++) {
        if (!take_str(&c, &g->kv[i].key, MAX_KEY_BYTES))
            return cut(g, "the metadata", err);
        if ((rc = parse_value(g, &c, &g->kv[i], err)))
            return rc;
    }
    qsort(g->kv, (size_t)g->n_kv, sizeof *g->kv, order_kv);
    for (int i = 1; i < g->n_kv; i++)
        if (order_kv(&g->kv[i - 1], &g->kv[i]) == 0)
            return kvt_fail(err, KVT_EFORMAT, "%s: key '%.*s' stands there twice", g->path, kvt_bytes_shown(g->kv[i].key), g->kv[i].key.p);

    offset = kvt_calloc((size_t)n, sizeof *offset);
    if (!offset)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory for the list of tensors", g->path);
    for (; g->tensors.n < n && !rc; g->tensors.n++)
        rc = parse_tensor(g, &c, &g->tensors.tensor[g->tensors.n], &offset[g->tensors.n], err);
    if (!rc)
        rc = place_tensors(g, &c, offset, err);
    free(offset);
    return rc ? rc : kvt_tensors_seal(&g->tensors, err);
}

/* ---- split models: gguf-split's keys and names ---- */

/* Where this file stands among how many; *count is 0 for a whole file. */
static int split_of(const struct kvt_gguf *g, int64_t *no, int64_t *count, struct kvt_err *err)
{
    *no = *count = 0;
    int rc = kvt_gguf_int(g, "split.count", false, 0, MAX_PARTS, count, err);
    if (!rc)
        rc = kvt_gguf_int(g, "split.no", *count > 1, 0, *count > 1 ? *count - 1 : MAX_PARTS, no, err);
    if (*count == 1)
        *count = 0;
    return rc;
}

/* "NAME-00002-of-00003.gguf" of part no = 1 from any part's name; false where the name isn't of this kind. */
static bool part_name(char *out, size_t size, const char *name, int64_t no, int64_t count)
{
    char end[32];
    size_t n = strlen(name);
    const size_t tail = sizeof "-00001-of-00003.gguf" - 1;
    snprintf(end, sizeof end, "-of-%05d.gguf", (int)count);
    if (n < tail || strcmp(name + n - strlen(end), end) != 0 || name[n - tail] != '-')
        return false;
    return (size_t)snprintf(out, size, "%.*s-%05d%s", (int)(n - tail), name, (int)no + 1, end) < size;
}

/* Moves the tensors and the map of a part behind g's. */
static int join(struct kvt_gguf *g, struct kvt_gguf *part, struct kvt_err *err)
{
    struct kvt_tensors *to = &g->tensors, *from = &part->tensors;
    int rc = kvt_tensors_reserve(to, (size_t)from->n, err);
    if (!rc)
        rc = kvt_tensors_add_map(to, from->map, err);
    for (int i = 0; i < from->n && !rc; i++) {
        to->tensor[to->n] = from->tensor[i];
        to->tensor[to->n++].file = to->n_maps - 1;
    }
    g->path = to->map->path;
    return rc;
}

static int open_parts(struct kvt_gguf *g, const struct kvt_folder *f, const char *name, int64_t count, struct kvt_err *err)
{
    int64_t total = -1;
    int rc = kvt_gguf_int(g, "split.tensors.count", false, 0, INT32_MAX, &total, err);
    for (int64_t i = 1; i < count && !rc; i++) {
        char other[512];
        struct kvt_map m;
        struct kvt_gguf part = {0};
        int64_t no, of;
        if (!part_name(other, sizeof other, name, i, count))
            return kvt_fail(err, KVT_EINPUT, "%s: the first of %d parts, but its name doesn't end in -00001-of-%05d.gguf, by which "
                            "the others are found; rename it", g->path, (int)count, (int)count);
        rc = kvt_folder_map(&m, f, other, "model file's part", err);
        if (!rc)
            rc = parse(&part, &m, err);
        if (!rc)
            rc = split_of(&part, &no, &of, err);
        if (!rc && (no != i || of != count))
            rc = kvt_fail(err, KVT_EFORMAT, "%s: says that it is part %d of %d, expected %d of %d", part.path, (int)no + 1, (int)of,
                          (int)i + 1, (int)count);
        if (!rc)
            rc = join(g, &part, err);
        kvt_gguf_close(&part);
    }
    if (!rc && total >= 0 && total != g->tensors.n)
        rc = kvt_fail(err, KVT_EFORMAT, "%s: the %d parts have %d tensors, expected %d", g->path, (int)count, g->tensors.n, (int)total);
    return rc ? rc : kvt_tensors_seal(&g->tensors, err);
}

/* f NULL: a file that stands alone. */
static int open_map(struct kvt_gguf *g, struct kvt_map *m, const struct kvt_folder *f, const char *name, struct kvt_err *err)
{
    int64_t no, count;
    int rc = parse(g, m, err);
    if (!rc)
        rc = split_of(g, &no, &count, err);
    if (!rc && no > 0) {
        char first[512] = "the first part";
        part_name(first, sizeof first, name, 0, count);
        rc = kvt_fail(err, KVT_EINPUT, "%s: part %d of %d; give %s instead", g->path, (int)no + 1, (int)count, first);
    } else if (!rc && count && !f) {
        rc = kvt_fail(err, KVT_EINPUT, "%s: the first of %d parts, without the others", g->path, (int)count);
    } else if (!rc && count) {
        rc = open_parts(g, f, name, count, err);
    }
    if (rc)
        kvt_gguf_close(g);
    return rc;
}

int kvt_gguf_open(struct kvt_gguf *g, const struct kvt_folder *f, const char *name, struct kvt_err *err)
{
    struct kvt_map m;
    *g = (struct kvt_gguf){0};
    int rc = kvt_folder_map(&m, f, name, "model file", err);
    return rc ? rc : open_map(g, &m, f, name, err);
}

int kvt_gguf_parse(struct kvt_gguf *g, const char *path, const void *base, size_t bytes, struct kvt_err *err)
{
    struct kvt_map m;
    *g = (struct kvt_gguf){0};
    int rc = kvt_map_memory(&m, path, base, bytes, err);
    return rc ? rc : open_map(g, &m, NULL, path, err);
}

void kvt_gguf_close(struct kvt_gguf *g)
{
    kvt_tensors_free(&g->tensors);
    free(g->kv);
    *g = (struct kvt_gguf){0};
}

const struct kvt_gguf_kv *kvt_gguf_find(const struct kvt_gguf *g, const char *key)
{
    struct kvt_gguf_kv want = {.key = {key, strlen(key)}};
    return g->n_kv ? bsearch(&want, g->kv, (size_t)g->n_kv, sizeof want, order_kv) : NULL;
}

/* Finds a key; *kv is NULL where it is absent and that is allowed. */
static int lookup(const struct kvt_gguf *g, const char *key, bool required, const struct kvt_gguf_kv **kv, struct kvt_err *err)
{
    *kv = kvt_gguf_find(g, key);
    if (!*kv && required)
        return kvt_fail(err, KVT_EFORMAT, "%s: the metadata has no '%s'", g->path, key);
    return 0;
}

static int wrong_type(const struct kvt_gguf *g, const struct kvt_gguf_kv *kv, const char *key, const char *want,
                      struct kvt_err *err)
{
    return kvt_fail(err, KVT_EFORMAT, "%s: '%s' is of type %s%s, expected %s", g->path, key,
                    kv->type == KVT_GGUF_ARR ? "array of " : "", type_names[kv->elem], want);
}

int kvt_gguf_int(const struct kvt_gguf *g, const char *key, bool required, int64_t min, int64_t max, int64_t *out,
                 struct kvt_err *err)
{
    const struct kvt_gguf_kv *kv;
    int rc = lookup(g, key, required, &kv, err);
    if (rc || !kv)
        return rc;
    union { uint8_t u8; int8_t i8; uint16_t u16; int16_t i16; uint32_t u32; int32_t i32; uint64_t u64; int64_t i64; } v;
    int64_t got;
    switch (kv->type) {
    case KVT_GGUF_U8: memcpy(&v, kv->data, 1); got = v.u8; break;
    case KVT_GGUF_I8: memcpy(&v, kv->data, 1); got = v.i8; break;
    case KVT_GGUF_U16: memcpy(&v, kv->data, 2); got = v.u16; break;
    case KVT_GGUF_I16: memcpy(&v, kv->data, 2); got = v.i16; break;
    case KVT_GGUF_U32: memcpy(&v, kv->data, 4); got = v.u32; break;
    case KVT_GGUF_I32: memcpy(&v, kv->data, 4); got = v.i32; break;
    case KVT_GGUF_U64: memcpy(&v, kv->data, 8); got = v.u64 > INT64_MAX ? INT64_MAX : (int64_t)v.u64; break;
    case KVT_GGUF_I64: memcpy(&v, kv->data, 8); got = v.i64; break;
    default: return wrong_type(g, kv, key, "an integer", err);
    }
    if (got < min || got > max)
        return kvt_fail(err, KVT_EFORMAT, "%s: '%s' is %lld, expected %lld to %lld", g->path, key, (long long)got,
                        (long long)min, (long long)max);
    *out = got;
    return 0;
}

int kvt_gguf_float(const struct kvt_gguf *g, const char *key, bool required, double *out, struct kvt_err *err)
{
    const struct kvt_gguf_kv *kv;
    int rc = lookup(g, key, required, &kv, err);
    if (rc || !kv)
        return rc;
    float f;
    double d;
    if (kv->type == KVT_GGUF_F32) {
        memcpy(&f, kv->data, 4);
        d = (double)f;
    } else if (kv->type == KVT_GGUF_F64) {
        memcpy(&d, kv->data, 8);
    } else {
        return wrong_type(g, kv, key, "a floating-point number", err);
    }
    if (!isfinite(d))
        return kvt_fail(err, KVT_EFORMAT, "%s: '%s' is not a finite number", g->path, key);
    *out = d;
    return 0;
}

int kvt_gguf_bool(const struct kvt_gguf *g, const char *key, bool *out, struct kvt_err *err)
{
    const struct kvt_gguf_kv *kv = kvt_gguf_find(g, key);
    if (!kv)
        return 0;
    if (kv->type != KVT_GGUF_BOOL)
        return wrong_type(g, kv, key, "bool", err);
    *out = *kv->data != 0;
    return 0;
}

int kvt_gguf_str(const struct kvt_gguf *g, const char *key, bool required, struct kvt_bytes *out, struct kvt_err *err)
{
    const struct kvt_gguf_kv *kv;
    int rc = lookup(g, key, required, &kv, err);
    if (rc || !kv)
        return rc;
    if (kv->type != KVT_GGUF_STR)
        return wrong_type(g, kv, key, "a string", err);
    const uint8_t *p = kv->data;
    *out = kvt_gguf_next_str(&p);
    return 0;
}

int kvt_gguf_array(const struct kvt_gguf *g, const char *key, enum kvt_gguf_type elem, bool required,
                   const struct kvt_gguf_kv **out, struct kvt_err *err)
{
    int rc = lookup(g, key, required, out, err);
    if (rc || !*out)
        return rc;
    if ((*out)->type != KVT_GGUF_ARR || (*out)->elem != elem) {
        char want[32] = "array of ";
        strncat(want, type_names[elem], sizeof want - strlen(want) - 1);
        return wrong_type(g, *out, key, want, err);
    }
    return 0;
}

struct kvt_bytes kvt_gguf_next_str(const uint8_t **p)
{
    uint64_t n;
    memcpy(&n, *p, 8);
    struct kvt_bytes s = {(const char *)*p + 8, (size_t)n};
    *p += 8 + n;
    return s;
}

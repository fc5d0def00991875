/* safetensors files, shards and their index, and split GGUF files: what opens, and that what is damaged is refused with one
 * clear line and the right code. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine/gguf.h"
#include "engine/json.h"
#include "engine/safetensors.h"

/* ---- a folder in memory ---- */

struct made {
    struct kvt_memory_file file[8];
    int n;
};

static void add(struct made *m, const char *name, const void *p, size_t n)
{
    void *copy; /* its own allocation, so that the address sanitizer sees a read past the end */
    cr_assert_eq(posix_memalign(&copy, 64, n ? n : 1), 0);
    memcpy(copy, p, n);
    m->file[m->n++] = (struct kvt_memory_file){.name = name, .base = copy, .bytes = n};
}

/* A safetensors file of this header and so many bytes of data; length: what the file says, 0 = the truth. */
static void add_st(struct made *m, const char *name, const char *header, size_t data, uint64_t length)
{
    size_t n = strlen(header);
    unsigned char *p = calloc(1, 8 + n + data);
    cr_assert(p);
    length = length ? length : n;
    memcpy(p, &length, 8);
    memcpy(p + 8, header, n);
    for (size_t i = 0; i < data; i++)
        p[8 + n + i] = (unsigned char)(i + 1);
    add(m, name, p, 8 + n + data);
    free(p);
}

static int open_made(struct kvt_safetensors *s, const struct made *m, struct kvt_err *err)
{
    *err = (struct kvt_err){0};
    return kvt_safetensors_open(s, &(struct kvt_folder){.path = "dir", .file = m->file, .n_files = m->n}, err);
}

static void unmake(struct made *m)
{
    for (int i = 0; i < m->n; i++)
        free((void *)(uintptr_t)m->file[i].base);
    m->n = 0;
}

static void refuses(struct made *m, int code, const char *says, int line)
{
    struct kvt_safetensors s;
    struct kvt_err err;
    int rc = open_made(&s, m, &err);
    kvt_safetensors_close(&s);
    cr_assert_eq(rc, code, "line %d: code %d instead of %d: %s", line, rc, code, err.text);
    cr_assert_eq(kvt_exit_code(rc), 3);
    cr_assert(strstr(err.text, says), "line %d: '%s' says nothing of '%s'", line, err.text, says);
    cr_assert(strncmp(err.text, "dir", 3) == 0, "line %d: '%s' doesn't name the place", line, err.text);
    cr_assert(!strchr(err.text, '\n'), "line %d: more than one line", line);
    unmake(m);
}

/* A single file with this header is refused. */
#define REFUSED(code, says, header, data, length)                      \
    do {                                                               \
        struct made m = {.n = 0};                                      \
        add_st(&m, "model.safetensors", header, data, length);         \
        refuses(&m, code, says, __LINE__);                             \
    } while (0)

#define A8 "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

/* Would catch: dimensions in the wrong order, data from the wrong place, a lost scalar, metadata taken for a tensor. */
Test(safetensors, opens)
{
    struct made m = {.n = 0};
    add_st(&m, "model.safetensors",
           "{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"BF16\",\"shape\":[3,2],\"data_offsets\":[4,16]},"
           "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},\"c\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[16,18]}}  ", 18, 0);
    struct kvt_safetensors s;
    struct kvt_err err;
    cr_assert_eq(open_made(&s, &m, &err), 0, "%s", err.text);
    cr_assert_eq(s.tensors.n, 3);
    const struct kvt_tensor *b = kvt_tensors_find(&s.tensors, "b");
    cr_assert(b && b->type == KVT_BF16 && b->n_dims == 2 && b->ne[0] == 2 && b->ne[1] == 3 && b->ne[2] == 1 && b->bytes == 12);
    cr_assert_eq(*(const unsigned char *)b->data, 5);
    const struct kvt_tensor *a = kvt_tensors_find(&s.tensors, "a");
    cr_assert(a && a->n_dims == 1 && a->ne[0] == 1 && a->bytes == 4 && *(const unsigned char *)a->data == 1);
    cr_assert_null(kvt_tensors_find(&s.tensors, "__metadata__"));
    cr_assert_null(kvt_tensors_find(&s.tensors, "ab"));
    kvt_safetensors_close(&s);
    unmake(&m);
}

/* Would catch: a check that was lost. Each line is one entry of the list of bad inputs. */
Test(safetensors, damaged_file)
{
    struct made none = {.n = 0}, weights = {.n = 0};
    add(&none, "config.json", "{}", 2);
    refuses(&none, KVT_EINPUT, "neither model.safetensors nor", __LINE__);
    add(&weights, "pytorch_model.bin", "PK", 2);
    refuses(&weights, KVT_EUNSUP, "save_pretrained", __LINE__);
    struct made empty = {.n = 0};
    add(&empty, "model.safetensors", "", 0);
    refuses(&empty, KVT_EFORMAT, "not a safetensors file", __LINE__);
    /* the header's length */
    REFUSED(KVT_EFORMAT, "not a safetensors file", A8 "}", 8, UINT64_MAX);
    REFUSED(KVT_EFORMAT, "not a safetensors file", A8 "}", 8, 1);
    REFUSED(KVT_EFORMAT, "not a safetensors file", A8 "}", 8, 200);
    REFUSED(KVT_EFORMAT, "not a safetensors file", A8 "}", 8, (uint64_t)100 << 21);
    REFUSED(KVT_EFORMAT, "not a safetensors file", "[1]", 8, 0);
    /* the JSON */
    REFUSED(KVT_EFORMAT, "not valid JSON", A8, 8, 0);
    REFUSED(KVT_EFORMAT, "not valid JSON", "{\"a\":", 8, 0);
    REFUSED(KVT_EFORMAT, "more text after", "{}{}", 0, 0);
    REFUSED(KVT_EFORMAT, "a zero character", "{\"a\\u0000b\":1}", 8, 0);
    /* an entry */
    REFUSED(KVT_EFORMAT, "'a' isn't described", "{\"a\":1}", 8, 0);
    REFUSED(KVT_EFORMAT, "'a' isn't described", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, 0);
    REFUSED(KVT_EFORMAT, "isn't described", "{\"\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, 0);
    REFUSED(KVT_EFORMAT, "'a' isn't described", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}}", 8, 0);
    REFUSED(KVT_EFORMAT, "'a' isn't described", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{\"x\":0,\"y\":8}}}", 8, 0);
    REFUSED(KVT_EUNSUP, "type 'F8_E4M3'", "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, 0);
    REFUSED(KVT_EUNSUP, "type 'I32'", "{\"a\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, 0);
    REFUSED(KVT_EUNSUP, "type 'Q4_1'", "{\"a\":{\"dtype\":\"Q4_1\",\"shape\":[32],\"data_offsets\":[0,20]}}", 20, 0);
    /* sizes */
    REFUSED(KVT_EFORMAT, "impossible shape", "{\"a\":{\"dtype\":\"F32\",\"shape\":[0,2],\"data_offsets\":[0,0]}}", 0, 0);
    REFUSED(KVT_EFORMAT, "impossible shape", "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, 0);
    REFUSED(KVT_EFORMAT, "impossible shape", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,6]}}", 6, 0);
    REFUSED(KVT_EFORMAT, "impossible shape", "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967298],\"data_offsets\":[0,8]}}", 8, 0);
    REFUSED(KVT_EFORMAT, "impossible shape", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,8]}}", 8, 0);
    REFUSED(KVT_EFORMAT, "impossible shape", /* 2^31-1 cubed */
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[2147483647,2147483647,2147483647],\"data_offsets\":[0,8]}}", 8, 0);
    REFUSED(KVT_EFORMAT, "8 bytes of data, but its shape in F32 needs 4611686014132420608", /* wraps to 8 in 32 bits, not in 64 */
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[1073741824,1073741823],\"data_offsets\":[0,8]}}", 8, 0);
    REFUSED(KVT_EFORMAT, "8 bytes of data, but its shape in F32 needs 12", "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, 0);
    /* places */
    REFUSED(KVT_EFORMAT, "outside the 8 bytes", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 8, 0);
    REFUSED(KVT_EFORMAT, "outside the 8 bytes", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, 0);
    REFUSED(KVT_EFORMAT, "outside the 8 bytes", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, 0);
    REFUSED(KVT_EFORMAT, "outside the 8 bytes", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1e300,1e300]}}", 8, 0);
    REFUSED(KVT_EFORMAT, "outside the 7 bytes", A8 "}", 7, 0);
    REFUSED(KVT_EFORMAT, "the tensors have 8 bytes, but 9", A8 "}", 9, 0); /* bytes that belong to nobody */
    REFUSED(KVT_EFORMAT, "share bytes", A8 ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 16, 0);
    REFUSED(KVT_EFORMAT, "'a' and 'b' share bytes", A8 ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 16, 0);
    REFUSED(KVT_EFORMAT, "'a' stands there twice", A8 ",\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", 16, 0);
}

Test(safetensors, deep_json)
{
    char *deep = malloc(400016);
    cr_assert(deep);
    memcpy(deep, "{\"a\":", 5);
    memset(deep + 5, '[', 200000);
    memset(deep + 200005, ']', 200000);
    strcpy(deep + 400005, "}");
    REFUSED(KVT_EFORMAT, "nested more than 64 deep", deep, 0, 0);
    free(deep);
}

/* ---- shards ---- */

#define INDEX(map) "{\"metadata\":{\"total_size\":16},\"weight_map\":{" map "}}"
#define B8 "{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

static struct made sharded(const char *index)
{
    struct made m = {.n = 0};
    add(&m, "model.safetensors.index.json", index, strlen(index));
    add_st(&m, "s2", B8 "}", 8, 0);
    add_st(&m, "s1", A8 "}", 8, 0);
    return m;
}

#define SHARDS_REFUSED(code, says, map)        \
    do {                                       \
        struct made m = sharded(INDEX(map));   \
        refuses(&m, code, says, __LINE__);     \
    } while (0)

/* Would catch: shards in another order than the one stated for the model's hash; tensors of the wrong shard. */
Test(safetensors, shards)
{
    struct made m = sharded(INDEX("\"b\":\"s2\",\"a\":\"s1\""));
    struct kvt_safetensors s;
    struct kvt_err err;
    cr_assert_eq(open_made(&s, &m, &err), 0, "%s", err.text);
    cr_assert(s.tensors.n == 2 && s.tensors.n_maps == 2);
    cr_assert_str_eq(s.tensors.map[0].path, "dir/s1");
    cr_assert_str_eq(s.tensors.map[1].path, "dir/s2");
    cr_assert_eq(kvt_tensors_find(&s.tensors, "b")->file, 1);
    kvt_safetensors_close(&s);
    add_st(&m, "model.safetensors", A8 "}", 8, 0); /* where both are there, the single file is the model */
    cr_assert_eq(open_made(&s, &m, &err), 0, "%s", err.text);
    cr_assert_eq(s.tensors.n, 1);
    kvt_safetensors_close(&s);
    unmake(&m);
}

Test(safetensors, damaged_index)
{
    SHARDS_REFUSED(KVT_EINPUT, "dir/s3: cannot open the shard", "\"a\":\"s1\",\"b\":\"s3\"");
    SHARDS_REFUSED(KVT_EINPUT, "not a file in the model's own folder", "\"a\":\"s1\",\"b\":\"../s2\"");
    SHARDS_REFUSED(KVT_EINPUT, "not a file in the model's own folder", "\"a\":\"s1\",\"b\":\"/etc/passwd\"");
    SHARDS_REFUSED(KVT_EINPUT, "not a file in the model's own folder", "\"a\":\"s1\",\"b\":\"..\"");
    SHARDS_REFUSED(KVT_EINPUT, "not a file in the model's own folder", "\"a\":\"s1\",\"b\":\"x\\\\s2\"");
    SHARDS_REFUSED(KVT_EFORMAT, "names no file for tensor 'b'", "\"a\":\"s1\",\"b\":2");
    SHARDS_REFUSED(KVT_EFORMAT, "names no file for tensor 'b'", "\"a\":\"s1\",\"b\":\"\"");
    SHARDS_REFUSED(KVT_EFORMAT, "tensor 'a' is not in 's2'", "\"a\":\"s2\",\"b\":\"s1\"");
    SHARDS_REFUSED(KVT_EFORMAT, "tensor 'c' is not in 's2'", "\"a\":\"s1\",\"b\":\"s2\",\"c\":\"s2\"");
    SHARDS_REFUSED(KVT_EFORMAT, "lists 3 tensors, the shards have 2", "\"a\":\"s1\",\"b\":\"s2\",\"b\":\"s2\"");
    SHARDS_REFUSED(KVT_EFORMAT, "names 0 files", "");
    struct made m = sharded("{\"weight_map\":[]}");
    refuses(&m, KVT_EFORMAT, "no object 'weight_map'", __LINE__);
    m = sharded("[");
    refuses(&m, KVT_EFORMAT, "not valid JSON", __LINE__);
    m = sharded("");
    refuses(&m, KVT_EFORMAT, "not valid JSON", __LINE__);
    m = (struct made){.n = 0};
    add(&m, "model.safetensors.index.json", INDEX("\"a\":\"s1\",\"b\":\"s2\""), strlen(INDEX("\"a\":\"s1\",\"b\":\"s2\"")));
    add_st(&m, "s1", A8 "}", 8, 0);
    add_st(&m, "s2", A8 "}", 8, 0); /* the same name in both */
    refuses(&m, KVT_EFORMAT, "tensor 'a' is in dir/s1 too", __LINE__);
    m = (struct made){.n = 0};
    add(&m, "model.safetensors.index.json", INDEX("\"a\":\"s1\",\"b\":\"s2\""), strlen(INDEX("\"a\":\"s1\",\"b\":\"s2\"")));
    add_st(&m, "s1", A8 "}", 8, 0);
    add_st(&m, "s2", B8 "}", 7, 0); /* the second shard is cut off */
    refuses(&m, KVT_EFORMAT, "dir/s2: tensor 'b' has data_offsets outside", __LINE__);
}

/* Would catch: reading outside a file for any damage (under the address sanitizer), an error without words. */
Test(safetensors, twenty_thousand_mutations, .timeout = 240)
{
    static const char *const header = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                                      "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]}}";
    static const char letters[] = "{}[]\":,0123456789-.eE\\ \n\tabFu";
    struct kvt_rng rng;
    struct made from = {.n = 0};
    int opened = 0;
    kvt_rng_seed(&rng, 4);
    add(&from, "model.safetensors.index.json", INDEX("\"a\":\"s1\",\"b\":\"s1\""), strlen(INDEX("\"a\":\"s1\",\"b\":\"s1\"")));
    add_st(&from, "s1", header, 32, 0);
    for (int i = 0; i < 20000; i++) {
        struct made m = {.n = 0};
        for (int f = 0; f < from.n; f++) {
            size_t n = from.file[f].bytes, cut = i % 8 == f ? kvt_rng_below(&rng, (uint32_t)n) : n;
            add(&m, from.file[f].name, from.file[f].base, cut);
            for (unsigned e = kvt_rng_below(&rng, 3); e && cut; e--) {
                unsigned char *at = (unsigned char *)(uintptr_t)m.file[f].base + kvt_rng_below(&rng, (uint32_t)cut);
                *at = kvt_rng_below(&rng, 4) ? (unsigned char)letters[kvt_rng_below(&rng, sizeof letters - 1)] : (unsigned char)kvt_rng_u64(&rng);
            }
        }
        struct kvt_safetensors s;
        struct kvt_err err;
        int rc = open_made(&s, &m, &err);
        unsigned sum = 0;
        for (int t = 0; t < s.tensors.n && !rc; t++) /* both ends of what is promised */
            sum += *(const unsigned char *)s.tensors.tensor[t].data + ((const unsigned char *)s.tensors.tensor[t].data)[s.tensors.tensor[t].bytes - 1];
        cr_assert(rc ? rc == err.code && err.text[0] : sum != 12345, "mutation %d: no words", i);
        opened += !rc;
        kvt_safetensors_close(&s);
        unmake(&m);
    }
    cr_assert(opened > 100 && opened < 19000, "%d of 20000 opened: the mutations miss", opened);
    unmake(&from);
}

/* ---- split GGUF ---- */

struct buf {
    unsigned char p[4096];
    size_t n;
};
static void put(struct buf *b, const void *p, size_t n)
{
    memcpy(b->p + b->n, p, n);
    b->n += n;
}
static void put32(struct buf *b, uint32_t v) { put(b, &v, 4); }
static void put64(struct buf *b, uint64_t v) { put(b, &v, 8); }
static void put_str(struct buf *b, const char *s)
{
    put64(b, strlen(s));
    put(b, s, strlen(s));
}

/* A part as gguf-split writes it, with F32 tensors of 8 values each; names: one letter each. */
static struct buf part(int no, int count, int total, const char *names)
{
    struct buf b = {.n = 0};
    put(&b, "GGUF", 4);
    put32(&b, 3);
    put64(&b, strlen(names));
    put64(&b, 3);
    const char *const key[] = {"split.no", "split.count", "split.tensors.count"};
    const int value[] = {no, count, total};
    for (int i = 0; i < 3; i++) {
        put_str(&b, key[i]);
        put32(&b, 4);
        put32(&b, (uint32_t)value[i]);
    }
    for (int i = 0; names[i]; i++) {
        put_str(&b, (char[]){names[i], 0});
        put32(&b, 1);
        put64(&b, 8);
        put32(&b, 0);
        put64(&b, 32 * (uint64_t)i);
    }
    while (b.n % 32)
        put(&b, "", 1);
    for (int i = 0; names[i]; i++)
        for (int j = 0; j < 8; j++)
            put(&b, &(float){(float)names[i]}, 4);
    return b;
}

static int open_split(const struct buf *b, int n, const char *const *name, const char *first, struct kvt_gguf *g, struct kvt_err *err)
{
    struct made m = {.n = 0};
    *err = (struct kvt_err){0};
    for (int i = 0; i < n; i++)
        add(&m, name[i], b[i].p, b[i].n);
    int rc = kvt_gguf_open(g, &(struct kvt_folder){.path = "dir", .file = m.file, .n_files = m.n}, first, err);
    for (int t = 0; t < g->tensors.n && !rc; t++)
        for (int j = 0; j < 8; j++)
            cr_assert_eq(((const float *)g->tensors.tensor[t].data)[j], (float)g->tensors.tensor[t].name.p[0]);
    if (!rc) {
        cr_assert_str_eq(g->path, "dir/m-00001-of-00003.gguf");
        cr_assert(g->tensors.n_maps == 3 && !strcmp(g->tensors.map[2].path, "dir/m-00003-of-00003.gguf"));
    }
    cr_assert(!rc || !strncmp(err->text, "dir/", 4));
    int got = rc ? rc : g->tensors.n;
    kvt_gguf_close(g);
    unmake(&m);
    return got;
}

/* Would catch: a part that is skipped, data of another part, parts of another model taken for this one's. */
Test(safetensors, split_gguf)
{
    static const char *const name[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"};
    static const char *const other[] = {"model.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"};
    struct buf good[3] = {part(0, 3, 5, "xb"), part(1, 3, 5, "ya"), part(2, 3, 5, "c")}, bad[3];
    struct kvt_gguf g;
    struct kvt_err err;
    cr_assert_eq(open_split(good, 3, name, name[0], &g, &err), 5, "%s", err.text);
    struct buf first_empty[3] = {part(0, 3, 3, ""), good[1], good[2]};
    cr_assert_eq(open_split(first_empty, 3, name, name[0], &g, &err), 3, "%s", err.text);
    struct { int at; struct buf b; const char *says; } cases[] = {
        {1, part(2, 3, 5, "ya"), "says that it is part 3 of 3, expected 2 of 3"},
        {1, part(1, 2, 5, "ya"), "says that it is part 2 of 2, expected 2 of 3"},
        {1, part(1, 3, 5, "yx"), "tensor 'x' is in dir/m-00001-of-00003.gguf too"},
        {2, part(2, 3, 5, "cd"), "the 3 parts have 6 tensors, expected 5"},
        {0, part(0, 1000000, 5, "xb"), "expected 0 to 999"},
        {0, part(3, 3, 5, "xb"), "expected 0 to 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memcpy(bad, good, sizeof bad);
        bad[cases[i].at] = cases[i].b;
        cr_assert_eq(open_split(bad, 3, name, name[0], &g, &err), KVT_EFORMAT, "case %zu: %s", i, err.text);
        cr_assert(strstr(err.text, cases[i].says), "case %zu: %s", i, err.text);
    }
    cr_assert_eq(open_split(good, 2, name, name[0], &g, &err), KVT_EINPUT);
    cr_assert(strstr(err.text, "dir/m-00003-of-00003.gguf: cannot open the model file's part"), "%s", err.text);
    cr_assert_eq(open_split(good, 3, name, name[1], &g, &err), KVT_EINPUT);
    cr_assert(strstr(err.text, "part 2 of 3; give m-00001-of-00003.gguf instead"), "%s", err.text);
    cr_assert_eq(open_split(good, 3, other, other[0], &g, &err), KVT_EINPUT);
    cr_assert(strstr(err.text, "rename it"), "%s", err.text);
    memcpy(bad, good, sizeof bad);
    bad[2].n -= 1;
    cr_assert_eq(open_split(bad, 3, name, name[0], &g, &err), KVT_EFORMAT);
    cr_assert(strstr(err.text, "dir/m-00003-of-00003.gguf: tensor 'c'") && strstr(err.text, "past the end"), "%s", err.text);
    bad[1] = good[1];
    for (size_t i = 0; i + 8 < bad[1].n; i++) /* 'a' at offset 32 comes to lie on 'y' at 0 */
        if (!memcmp(bad[1].p + i, "a\1\0\0\0\10\0\0\0\0\0\0\0\0\0\0\0\40", 18))
            bad[1].p[i + 17] = 0;
    cr_assert_eq(open_split(bad, 3, name, name[0], &g, &err), KVT_EFORMAT);
    cr_assert(strstr(err.text, "share bytes"), "%s", err.text);
}

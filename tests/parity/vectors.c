#include "vectors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cursor { const uint8_t *at, *end; bool ok; };

static const void *take(struct cursor *c, size_t bytes)
{
    const void *p = c->at;
    if (!c->ok || (size_t)(c->end - c->at) < bytes) {
        c->ok = false;
        return NULL;
    }
    c->at += bytes;
    return p;
}

static int32_t take_i32(struct cursor *c)
{
    const void *p = take(c, 4);
    int32_t v = 0;
    if (p)
        memcpy(&v, p, sizeof v);
    return v;
}

/* The whole file; its numbers are little endian, like every machine this runs on. */
static void *slurp(const char *path, size_t *bytes)
{
    FILE *f = fopen(path, "rb");
    long n = -1;
    if (f && !fseek(f, 0, SEEK_END))
        n = ftell(f);
    void *p = n > 0 ? malloc((size_t)n) : NULL;
    if (p) {
        rewind(f);
        if (fread(p, 1, (size_t)n, f) != (size_t)n) {
            free(p);
            p = NULL;
        }
    }
    if (f)
        fclose(f);
    *bytes = p ? (size_t)n : 0;
    return p;
}

static bool broken(const char *path, void **file)
{
    fprintf(stderr, "%s: not a readable vector file; make it again with tests/vectors/make_parity.py\n", path);
    free(*file);
    *file = NULL;
    return false;
}

static struct cursor start(void **file, const char *path, const char *magic)
{
    size_t bytes;
    *file = slurp(path, &bytes);
    struct cursor c = { *file, *file ? (const uint8_t *)*file + bytes : NULL, *file != NULL };
    const void *m = take(&c, 8);
    c.ok = m && !memcmp(m, magic, 8);
    return c;
}

bool logits_vector_read(struct logits_vector *v, const char *path)
{
    memset(v, 0, sizeof *v);
    struct cursor c = start(&v->file, path, "KVTPAR1\n");
    v->text_bytes = take_i32(&c), v->n = take_i32(&c), v->V = take_i32(&c), v->top = take_i32(&c);
    v->n_greedy = take_i32(&c), v->n_heads = take_i32(&c), v->window = take_i32(&c), v->has_text = take_i32(&c);
    v->model_bytes = take_i32(&c), v->model_crc = (uint32_t)take_i32(&c);
    if (!c.ok || v->text_bytes < 0 || v->n < 2 || v->n > 1 << 20 || v->top < 1 || v->top > 64 || v->n_greedy < 1
        || v->n_greedy > 4096 || v->n_heads < 0 || v->n_heads > 32)
        return broken(path, &v->file);
    size_t n = (size_t)v->n, top = n * (size_t)v->top;
    v->text = take(&c, ((size_t)v->text_bytes + 3) / 4 * 4);
    v->id = take(&c, n * 4);
    v->top_id = take(&c, top * 4);
    v->top_lp = take(&c, top * 4);
    v->greedy = take(&c, (size_t)v->n_greedy * 4);
    v->margin = take(&c, (size_t)v->n_greedy * 4);
    for (int i = 0; i < v->n_heads; i++) {
        struct seen_head *h = &v->head[i];
        h->layer = take_i32(&c), h->head = take_i32(&c);
        h->mass = take(&c, n * 4), h->wmass = take(&c, n * 4), h->last = take(&c, n * 4), h->entropy = take(&c, n * 4);
    }
    return c.ok ? true : broken(path, &v->file);
}

bool family_vector_read(struct family_vector *v, const char *path)
{
    memset(v, 0, sizeof *v);
    struct cursor c = start(&v->file, path, "KVTFAM1\n");
    v->n = take_i32(&c), v->V = take_i32(&c), v->L = take_i32(&c), v->H = take_i32(&c), v->n_greedy = take_i32(&c);
    if (!c.ok || v->n < 2 || v->n > 4096 || v->V < 1 || v->V > 4096 || v->L < 1 || v->L > 64 || v->H < 1 || v->H > 64 || v->n_greedy < 1 ||
        v->n_greedy > 4096)
        return broken(path, &v->file);
    size_t n = (size_t)v->n, g = (size_t)v->n_greedy;
    v->id = take(&c, n * 4);
    v->greedy = take(&c, g * 4);
    v->margin = take(&c, g * 4);
    v->logprob = take(&c, n * (size_t)v->V * 4);
    v->mass = take(&c, n * (size_t)(v->L * v->H) * 4);
    return c.ok ? true : broken(path, &v->file);
}

bool kept_vector_read(struct kept_vector *v, const char *path)
{
    memset(v, 0, sizeof *v);
    struct cursor c = start(&v->file, path, "KVTKEP2\n");
    v->text_bytes = take_i32(&c), v->n = take_i32(&c), v->L = take_i32(&c), v->G = take_i32(&c);
    v->n_sets = take_i32(&c), v->has_text = take_i32(&c), v->model_bytes = take_i32(&c), v->model_crc = (uint32_t)take_i32(&c);
    if (!c.ok || v->text_bytes < 0 || v->n < 2 || v->n > 1 << 20 || v->L < 1 || v->L > 1024 || v->G < 1 || v->G > 1024
        || v->n_sets < 1 || v->n_sets > 32)
        return broken(path, &v->file);
    size_t cells = (size_t)v->L * (size_t)v->G, bits = cells * (((size_t)v->n + 7) / 8);
    v->text = take(&c, ((size_t)v->text_bytes + 3) / 4 * 4);
    v->id = take(&c, (size_t)v->n * 4);
    for (int i = 0; i < v->n_sets; i++) {
        struct kept_set *s = &v->set[i];
        s->name = take(&c, 64), s->spec = take(&c, 160);
        s->tokens = take_i32(&c), s->keep_ppm = take_i32(&c);
        s->count = take(&c, cells * 4), s->bits = take(&c, (bits + 3) / 4 * 4);
        if (!c.ok || s->name[47] || s->spec[79])
            return broken(path, &v->file);
    }
    return true;
}

bool file_crc(const char *path, uint32_t *crc, long *bytes)
{
    uint32_t table[256], x = 0xffffffffu;
    static const size_t block = 1 << 16;
    FILE *f = fopen(path, "rb");
    uint8_t *buf = malloc(block);
    size_t got;
    *bytes = 0;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int k = 0; k < 8; k++)
            v = v & 1 ? v >> 1 ^ 0xedb88320u : v >> 1;
        table[i] = v;
    }
    while (f && buf && (got = fread(buf, 1, block, f)) > 0) {
        for (size_t i = 0; i < got; i++)
            x = table[(x ^ buf[i]) & 255] ^ x >> 8;
        *bytes += (long)got;
    }
    bool ok = f && buf && !ferror(f);
    if (f)
        fclose(f);
    free(buf);
    *crc = ~x;
    return ok;
}

static bool exists(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f)
        fclose(f);
    return f != NULL;
}

const char *test_model(const char *given, char *buf, size_t cap)
{
    static const char file[] = "SmolLM2-135M-Instruct.Q4_1.gguf";
    const char *env = getenv("KVT_MODEL"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (given || (env && *env)) {
        snprintf(buf, cap, "%s", given ? given : env);
        return buf;
    }
    if (cache && *cache)
        snprintf(buf, cap, "%s/kvtrace/%s", cache, file);
    else
        snprintf(buf, cap, "%s/.cache/kvtrace/%s", home ? home : "", file);
    if (exists(buf))
        return buf;
    snprintf(buf, cap, "models/%s", file);
    return exists(buf) ? buf : NULL;
}

bool made_from(const struct model_id *model, const char *vector, int bytes, uint32_t crc)
{
    if (model->bytes == bytes && model->crc == crc)
        return true;
    fprintf(stderr, "%s: made from another file than %s (%ld bytes, crc %08x; wanted %d, %08x); "
                    "take that model or make the vectors again with tests/vectors/make_parity.py\n",
            vector, model->path, model->bytes, model->crc, bytes, crc);
    return false;
}

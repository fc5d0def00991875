/* The prefill's reductions against numpy's of transformers' attention maps, and its queries, keys and values against transformers'
 * (tests/vectors/make_sweep.py).
 *
 * usage: sweep [-m MODEL] VECTOR.bin     exits 77 where the real model isn't there
 *
 * Every array is compared with its own largest value: 1e-4 as for mass and entropy in parity.c, since both sides compute the scores
 * in f32. Columns of the largest are compared where the reference's values are apart by more than that. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/half.h"
#include "kvt/session.h"
#include "tests/parity/vectors.h"

#define ALLOWED 1e-4

enum { TOP = 4, R = 11, C = 16, N_SPANS = 5, EACH = 13 };
static const int32_t offsets[] = { 0, 1, 12, 40 };
static const int32_t span[2 * N_SPANS] = { 0, 7, 7, 40, 10, 25, 40, 90, 90, 1 << 20 };

struct array { char name[16]; int32_t layer, head, count; };

struct look {
    const char *data, *end;      /* arrays of the vector */
    int n, heads, kv_heads, seen, failed;
    double worst;
    float map[2][16 * R * C];    /* the layer's maps as floats */
    const float *top;            /* the reference's values of the rows whose columns come next */
};

static void wants(void *self, struct kvt_wants *w)
{
    (void)self;
    w->scores = w->visible = w->square = w->max = w->keys = w->local = w->distance = true;
    w->n_local = 5;
    w->offset = offsets, w->n_offsets = 4;
    w->span = span, w->n_spans = N_SPANS;
    w->top_k = TOP;
    w->q = w->k = w->v = true;
    w->map_r = R, w->map_c = C;
}

/* Ours of one head, or NULL. */
static const float *ours_of(const struct look *k, const struct kvt_ev_prefill_layer *p, const struct array *a)
{
    const struct { const char *name; const float *all; int each; } of[] = {
        { "mass", p->mass, p->n }, { "visible", p->visible, p->n }, { "square", p->square, p->n }, { "max", p->max, p->n },
        { "entropy", p->entropy, p->n }, { "keys", p->keys, p->n }, { "sink", p->sink, p->n }, { "local", p->local, p->n },
        { "distance", p->distance, p->n_distances }, { "offset", p->offset, p->n_offsets }, { "spans", p->spans, p->n_spans * p->n_spans },
        { "top", p->top, p->n * p->top_k }, { "map mean", k->map[0], R * C }, { "map max", k->map[1], R * C } };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        if (!strcmp(of[i].name, a->name))
            return of[i].all && of[i].each == a->count ? of[i].all + (size_t)a->head * (size_t)a->count : NULL;
    return NULL;
}

static void compare(struct look *k, const struct array *a, const float *theirs, const float *ours)
{
    double top = 0, diff = 0;
    for (int i = 0; i < a->count; i++) {
        if (isnan(theirs[i]) && isnan(ours[i]))
            continue;
        top = fmax(top, fabs((double)theirs[i]));
        diff = isfinite(ours[i]) ? fmax(diff, fabs((double)ours[i] - (double)theirs[i])) : INFINITY;
    }
    double d = diff / top;
    k->worst = fmax(k->worst, d);
    if (!(d <= (strncmp(a->name, "map", 3) ? ALLOWED : ALLOWED + 0x1p-11))) { /* maps come in f16 */
        fprintf(stderr, "sweep: %s of layer %d, head %d is off by %g of its largest\n", a->name, a->layer, a->head, d);
        k->failed++;
    }
}

static void compare_columns(struct look *k, const struct array *a, const float *theirs, const int32_t *ours)
{
    for (int i = 0; i < a->count; i++) {
        bool first = i % TOP == 0, last = i % TOP == TOP - 1;
        double above = first ? 1 : k->top[i - 1] - k->top[i], below = last ? 0 : k->top[i] - k->top[i + 1];
        if ((int32_t)theirs[i] != ours[i] && above > ALLOWED && below > ALLOWED) {
            fprintf(stderr, "sweep: layer %d, head %d, row %d: column %d, not %d\n", a->layer, a->head, i / TOP, ours[i], (int)theirs[i]);
            k->failed++;
        }
    }
}

/* Vectors of every 13th token; the prompt is one run. */
static void vectors(struct look *k, const struct kvt_ev_vectors *e)
{
    const struct { const char *name; bool rotated; const float *all; int heads; } of[] = {
        { "q", false, e->q, k->heads }, { "k", false, e->k, k->kv_heads }, { "v", false, e->v, k->kv_heads },
        { "q rotated", true, e->q, k->heads }, { "k rotated", true, e->k, k->kv_heads } };
    float ours[1 << 12];
    for (const char *p = k->data; p + sizeof(struct array) <= k->end;) {
        struct array a;
        memcpy(&a, p, sizeof a);
        const float *theirs = (const float *)(const void *)(p + sizeof a);
        p += sizeof a + (size_t)a.count * sizeof *theirs;
        for (size_t i = 0; a.layer == e->layer && i < sizeof of / sizeof *of; i++) {
            int head = of[i].heads == k->heads ? a.head : a.head / (k->heads / k->kv_heads), rows = (k->n + EACH - 1) / EACH;
            if (strcmp(a.name, of[i].name) || of[i].rotated != e->rotated)
                continue;
            if (e->n_rows != k->n || !of[i].all || a.count != rows * e->D || a.count > (int)(sizeof ours / sizeof *ours))
                k->failed++;
            for (int v = 0; !k->failed && v < a.count; v++)
                ours[v] = of[i].all[(size_t)(v / e->D * EACH * of[i].heads + head) * (size_t)e->D + (size_t)(v % e->D)];
            if (!k->failed)
                compare(k, &a, theirs, ours);
            k->seen++;
        }
    }
}

static bool is_vectors(const char *name) { return strchr("qkv", *name) && (!name[1] || name[1] == ' '); }

static int see(void *self, const struct kvt_event *ev)
{
    struct look *k = self;
    if (ev->kind == KVT_EV_VECTORS)
        vectors(k, &ev->vectors);
    if (ev->kind != KVT_EV_PREFILL_LAYER)
        return 0;
    for (int i = 0; i < 16 * R * C; i++) { /* heads there aren't are never looked at */
        bool there = i < k->heads * R * C;
        k->map[0][i] = there ? kvt_f32_from_f16(ev->prefill_layer.map_mean[i]) / KVT_HALF_SCALE : 0;
        k->map[1][i] = there ? kvt_f32_from_f16(ev->prefill_layer.map_max[i]) / KVT_HALF_SCALE : 0;
    }
    for (const char *p = k->data; p + sizeof(struct array) <= k->end;) {
        struct array a;
        memcpy(&a, p, sizeof a);
        const float *theirs = (const float *)(const void *)(p + sizeof a);
        p += sizeof a + (size_t)a.count * sizeof *theirs;
        if (a.layer != ev->prefill_layer.layer || is_vectors(a.name))
            continue;
        k->seen++;
        if (!strcmp(a.name, "top"))
            k->top = theirs;
        const float *ours = ours_of(k, &ev->prefill_layer, &a);
        if (!strcmp(a.name, "top_at")) {
            compare_columns(k, &a, theirs, ev->prefill_layer.top_at + (size_t)a.head * (size_t)a.count);
        } else if (ours) {
            compare(k, &a, theirs, ours);
        } else {
            fprintf(stderr, "sweep: no %s of %d values\n", a.name, a.count);
            k->failed++;
        }
    }
    return 0;
}

static char *read_all(const char *path, size_t *bytes)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    fseek(f, 0, SEEK_END);
    *bytes = (size_t)ftell(f);
    rewind(f);
    char *p = malloc(*bytes);
    if (p && fread(p, 1, *bytes, f) != *bytes) {
        free(p);
        p = NULL;
    }
    fclose(f);
    return p;
}

int main(int argc, char **argv)
{
    char buf[4096];
    const char *given = argc > 2 && !strcmp(argv[1], "-m") ? argv[2] : NULL, *path = test_model(given, buf, sizeof buf);
    size_t bytes;
    char *file = argc > 1 ? read_all(argv[argc - 1], &bytes) : NULL;
    if (!file || bytes < 24 || memcmp(file, "KVTSWP1\n", 8))
        return fprintf(stderr, "usage: sweep [-m MODEL] VECTOR.bin\n"), 2;
    if (!path)
        return fprintf(stderr, "sweep: no model\n"), 77;
    int32_t head[4]; /* n, heads, model bytes, CRC */
    memcpy(head, file + 8, sizeof head);
    uint32_t crc;
    struct model_id id = { .path = path };
    if (!file_crc(path, &id.crc, &id.bytes) || (memcpy(&crc, &head[3], sizeof crc), !made_from(&id, argv[argc - 1], head[2], crc)))
        return 2;
    const int32_t *token = (const int32_t *)(const void *)(file + 24);
    static struct look k;
    k = (struct look){ .data = file + 24 + (size_t)head[0] * 4, .end = file + bytes, .n = head[0] };
    struct kvt_probe probe = { &k, wants, see };
    struct kvt_session_opts o = { .ops = kvt_ops_find("cpu"), .compute = KVT_COMPUTE_F32, .kv_type = KVT_F32, .protocol = KVT_PROTOCOL_LITERATURE,
                                  .decode = KVT_DECODE_FREE, .token = token, .n_prompt = k.n, .question_start = -1, .window = 32, .n_new = 1,
                                  .probe = &probe };
    struct kvt_model *m = NULL;
    struct kvt_session *s = NULL;
    struct kvt_err err = { 0 };
    int rc = kvt_model_open(&m, path, &err);
    if (!rc && (k.heads = kvt_model_shape(m)->H) > 16)
        return fprintf(stderr, "sweep: more than 16 heads\n"), 2;
    if (!rc)
        k.kv_heads = kvt_model_shape(m)->G;
    if (!rc)
        rc = kvt_session_open(&s, m, &o, &err);
    if (!rc)
        rc = kvt_session_prefill(s, &err);
    if (rc)
        fprintf(stderr, "sweep: %s\n", err.text);
    kvt_session_close(&s);
    kvt_model_close(&m);
    printf("%d arrays of %d heads, %d tokens: largest difference %.1e of an array's largest value, %d wrong\n", k.seen, head[1], k.n, k.worst, k.failed);
    free(file);
    return rc || k.failed || k.seen != 20 * head[1];
}

/* kvinfo --export: every dataset and dimension of a trace comes back from TSV, JSON and NPY as it is in the file. */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/half.h"
#include "mktrace.h"
#include "tracer/trace_data.h"
#include "tracer/trace_export.h"

static char folder[64], file[96];
static struct kvt_trace *t;

static void setup(void)
{
    struct kvt_err err = {0};
    snprintf(folder, sizeof folder, "/tmp/kvt_export_XXXXXX");
    cr_assert(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/run.h5", folder);
    struct mktrace_opts o = {.path = file, .L = 2, .n_shots = 8, .n_new = 5, .bins = 9};
    cr_assert_eq(mktrace(&o, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_trace_open(&t, file, NULL, &err), 0, "%s", err.text);
}

static void teardown(void)
{
    kvt_trace_close(&t);
    unlink(file);
    rmdir(folder);
}

TestSuite(export, .init = setup, .fini = teardown);

static char *export(const char *name, enum kvt_export_as as, size_t *bytes)
{
    struct kvt_err err = {0};
    char *text = NULL;
    FILE *out = open_memstream(&text, bytes);
    cr_assert_eq(kvt_trace_export(t, name, as, out, &err), 0, "%s: %s", name, err.text);
    fclose(out);
    return text;
}

/* A dataset as read by the reader: n values of `size` bytes, f16 as the float it stands for. */
struct want { enum kvt_h5_type type; size_t n, size, len; char *v; int rank; size_t shape[KVT_TRACE_MAX_RANK]; };

static bool append(void *arg, const size_t *start, const size_t *count, const void *v)
{
    struct want *w = arg;
    size_t n = 1;
    (void)start;
    for (int i = 0; i < w->rank; i++)
        n *= count[i];
    w->v = realloc(w->v, (w->n + n) * w->size);
    cr_assert(w->v);
    if (w->type == KVT_H5_F16)
        for (size_t i = 0; i < n; i++) {
            float f = kvt_f32_from_f16(((const uint16_t *)v)[i]) / 32768;
            memcpy(w->v + (w->n + i) * 4, &f, 4);
        }
    else
        memcpy(w->v + w->n * w->size, v, n * w->size);
    w->n += n;
    return true;
}

static bool same_number(const struct want *w, size_t i, double v)
{
    const char *at = w->v + i * w->size;
    double have = 0;
    float f;
    int32_t i32;
    int64_t i64;
    uint64_t u64;
    switch (w->type) {
    case KVT_H5_U8:  have = (unsigned char)*at; break;
    case KVT_H5_I32: memcpy(&i32, at, 4), have = i32; break;
    case KVT_H5_I64: memcpy(&i64, at, 8), have = (double)i64; break;
    case KVT_H5_U64: memcpy(&u64, at, 8), have = (double)u64; break;
    case KVT_H5_F64: memcpy(&have, at, 8); break;
    default:         memcpy(&f, at, 4), have = (double)f, v = (double)(float)v;
    }
    return have == v || (isnan(have) && isnan(v));
}

static bool same_text(const struct want *w, size_t i, const char *s)
{
    return strlen(s) == strnlen(w->v + i * w->size, w->len) && !memcmp(s, w->v + i * w->size, strlen(s));
}

static void check_npy(const char *name, const struct want *w)
{
    static const char *const descr[] = {"|u1", "<i4", "<i8", "<u8", "<f4", "<f4", "<f8"};
    size_t bytes;
    char *npy = export(name, KVT_EXPORT_NPY, &bytes), want[256], type[24];
    size_t header = 10 + (unsigned char)npy[8] + 256 * (size_t)(unsigned char)npy[9], n = 0;
    cr_assert(!memcmp(npy, "\x93NUMPY\x01\x00", 8) && header % 64 == 0 && npy[header - 1] == '\n', "%s", name);
    if (w->type == KVT_H5_STR)
        snprintf(type, sizeof type, "|S%zu", w->len);
    else
        snprintf(type, sizeof type, "%s", descr[w->type]);
    n = (size_t)snprintf(want, sizeof want, "{'descr': '%s', 'fortran_order': False, 'shape': (", type);
    for (int i = 0; i < w->rank; i++)
        n += (size_t)snprintf(want + n, sizeof want - n, "%zu%s", w->shape[i], w->rank == 1 ? "," : i + 1 < w->rank ? ", " : "");
    n += (size_t)snprintf(want + n, sizeof want - n, "), }");
    cr_expect(!memcmp(npy + 10, want, n), "%s: %.*s, not %s", name, (int)n, npy + 10, want);
    cr_expect_eq(bytes - header, w->n * w->size, "%s", name);
    cr_expect(!memcmp(npy + header, w->v, w->n * w->size), "%s: other bytes", name);
    free(npy);
}

static size_t walk_json(const struct want *w, const cJSON *node, int depth, size_t i, const char *name)
{
    if (depth < w->rank) {
        cr_assert(cJSON_IsArray(node) && (size_t)cJSON_GetArraySize(node) == w->shape[depth], "%s: dimension %d", name, depth);
        for (const cJSON *c = node->child; c; c = c->next)
            i = walk_json(w, c, depth + 1, i, name);
        return i;
    }
    if (w->type == KVT_H5_STR)
        cr_expect(cJSON_IsString(node) && same_text(w, i, node->valuestring), "%s: text %zu", name, i);
    else
        cr_expect(cJSON_IsNull(node) ? same_number(w, i, NAN) : cJSON_IsNumber(node) && same_number(w, i, node->valuedouble), "%s: value %zu", name, i);
    return i + 1;
}

static void check_json(const char *name, const struct want *w)
{
    size_t bytes;
    char *text = export(name, KVT_EXPORT_JSON, &bytes);
    cJSON *json = cJSON_ParseWithLength(text, bytes);
    cr_assert(json, "%s: no JSON", name);
    cr_expect_str_eq(cJSON_GetObjectItem(json, "path")->valuestring, name);
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(json, "dims")), w->rank);
    cr_expect_eq(walk_json(w, cJSON_GetObjectItem(json, "data"), 0, 0, name), w->n, "%s", name);
    cJSON_Delete(json);
    free(text);
}

static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++)
        *to++ = *s != '\\' ? *s : *++s == 't' ? '\t' : *s == 'n' ? '\n' : *s == 'r' ? '\r' : *s;
    *to = '\0';
}

static void check_tsv(const char *name, const struct want *w, const enum kvt_dim *dim)
{
    size_t bytes, i = 0;
    char *text = export(name, KVT_EXPORT_TSV, &bytes), *line = text, *next;
    cr_assert(!strncmp(line, "# ", 2));
    for (line = strchr(line, '\n') + 1; *line; line = next, i++) {
        next = strchr(line, '\n');
        cr_assert(next);
        *next++ = '\0';
        size_t stride = w->n;
        for (int k = 0; k < w->rank; k++) {
            char *end;
            long at = strtol(line, &end, 10);
            stride /= w->shape[k];
            if (dim[k] == KVT_DIM_layer || dim[k] == KVT_DIM_key || dim[k] == KVT_DIM_token || dim[k] == KVT_DIM_step)
                cr_expect_eq(at, (long)(i / stride % w->shape[k]) + (dim[k] == KVT_DIM_step), "%s: line %zu, column %d", name, i, k);
            cr_assert_eq(*end, '\t', "%s: line %zu", name, i);
            line = end + 1;
        }
        if (w->type == KVT_H5_STR) {
            unescape(line);
            cr_expect(same_text(w, i, line), "%s: text %zu", name, i);
        } else {
            cr_expect(same_number(w, i, strtod(line, NULL)), "%s: value %zu is %s", name, i, line);
        }
    }
    cr_expect_eq(i, w->n, "%s: %zu lines", name, i);
    free(text);
}

Test(export, round_trips)
{
    int seen = 0;
    for (int id = 0; id < KVT_N_DATASET; id++) {
        struct kvt_dataset_info d;
        struct kvt_err err = {0};
        char name[96];
        size_t len = 0;
        kvt_schema_get((enum kvt_dataset)id, &d);
        int branch = d.per_branch ? 6 : 0;
        if (!kvt_trace_has_dataset(t, (enum kvt_dataset)id, branch))
            continue;
        kvt_schema_path(&d, branch, name, sizeof name);
        hid_t ds = kvt_trace_dataset(t, (enum kvt_dataset)id, branch, &len, NULL, &err);
        H5Dclose(ds);
        struct want w = {.type = d.type, .len = len, .rank = d.rank,
                         .size = d.type == KVT_H5_F16 ? 4 : kvt_h5_type_bytes(d.type, len)};
        for (int i = 0; i < d.rank; i++)
            w.shape[i] = t->extent[d.dim[i]];
        cr_assert_eq(kvt_trace_boxes(t, (enum kvt_dataset)id, branch, false, append, &w, &err), 0, "%s", err.text);
        check_npy(name, &w);
        check_tsv(name, &w, d.dim);
        check_json(name, &w);
        free(w.v);
        seen++;
    }
    cr_expect_gt(seen, 50);
}

Test(export, dimensions)
{
    size_t bytes;
    char *text = export("window", KVT_EXPORT_TSV, &bytes);
    cr_expect_str_eq(text, "# window\twindow\n0\t32\n");
    free(text);
    text = export("full_layer", KVT_EXPORT_JSON, &bytes);
    cr_expect(strstr(text, "\"data\": [1]}"), "%s", text);
    free(text);
}

Test(export, names)
{
    struct kvt_err err = {0};
    FILE *null = fopen("/dev/null", "w");
    static const struct { const char *name, *says; } bad[] = {
        {"score/mas", "did you mean 'score/mass'"}, {"branches/09/evicted_at", "has 00 to 06"}, {"branches/x", "name a branch by its number"},
        {"branches/01/evicted", "did you mean 'evicted_at'"}, {"fidelity/lost_mass", "it wasn't asked for"}, {"", "no dataset ''"},
        {"branches/01/", "no dataset 'branches/01/'"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect_eq(kvt_trace_export(t, bad[i].name, KVT_EXPORT_TSV, null, &err), KVT_EINPUT);
        cr_expect(strstr(err.text, bad[i].says), "%s: %s", bad[i].name, err.text);
    }
    fclose(null);
}

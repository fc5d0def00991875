/* A dataset as TSV, JSON or NPY: one walk over its values, three ways to write one. */
#include "tracer/trace_export.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/table.h"
#include "tracer/h5_own.h"
#include "tracer/trace_data.h"

/* What is being written: a dataset of the schema, or a dimension as one. */
struct export {
    struct kvt_trace *t;
    FILE *out;
    enum kvt_export_as as;
    struct kvt_dataset_info d;
    char path[96];
    size_t shape[KVT_TRACE_MAX_RANK], len; /* len: bytes of a string */
    int32_t *scale[KVT_TRACE_MAX_RANK];    /* values of its dimensions; TSV only */
    size_t done;                           /* values written */
    char *text;                            /* (len + 1) */
};

/* ---- one value --------------------------------------------------------------------------------------------------- */

/* Numbers with all their digits; in JSON what isn't finite is null, or a number that readers take for infinite. */
static void put_real(const struct export *e, double v, int digits)
{
    bool json = e->as == KVT_EXPORT_JSON;
    if (isnan(v))
        fputs(json ? "null" : "nan", e->out);
    else if (isinf(v))
        fputs(json ? (v > 0 ? "1e999" : "-1e999") : v > 0 ? "inf" : "-inf", e->out);
    else
        fprintf(e->out, "%.*g", digits, v);
}

static const void *text_of(struct export *e, const void *v)
{
    memcpy(e->text, v, e->len);
    e->text[e->len] = '\0';
    return e->text;
}

/* The i-th value of a box. */
static void put_value(struct export *e, const void *v, size_t i)
{
    switch (e->d.type) {
    case KVT_H5_U8:  fprintf(e->out, "%u", ((const uint8_t *)v)[i]); break;
    case KVT_H5_I32: fprintf(e->out, "%d", ((const int32_t *)v)[i]); break;
    case KVT_H5_I64: fprintf(e->out, "%lld", (long long)((const int64_t *)v)[i]); break;
    case KVT_H5_U64: fprintf(e->out, "%llu", (unsigned long long)((const uint64_t *)v)[i]); break;
    case KVT_H5_F16: put_real(e, (double)(kvt_f32_from_f16(((const uint16_t *)v)[i]) * (1.0f / KVT_FULL_SCALE)), 9); break;
    case KVT_H5_F32: put_real(e, (double)((const float *)v)[i], 9); break;
    case KVT_H5_F64: put_real(e, ((const double *)v)[i], 17); break;
    case KVT_H5_STR:
        if (e->as == KVT_EXPORT_JSON)
            kvt_json_text(e->out, text_of(e, (const char *)v + i * e->len));
        else
            kvt_tsv_text(e->out, text_of(e, (const char *)v + i * e->len));
    }
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

static void put_line(struct export *e, const void *v, size_t i)
{
    size_t stride = 1, at = e->done;
    for (int k = 1; k < e->d.rank; k++)
        stride *= e->shape[k];
    for (int k = 0; k < e->d.rank; k++) {
        fprintf(e->out, "%d\t", e->scale[k][at / stride]);
        at %= stride;
        stride /= k + 1 < e->d.rank ? e->shape[k + 1] : 1;
    }
    put_value(e, v, i);
    fputc('\n', e->out);
}

/* Brackets open and close where a dimension begins and ends. */
static void put_nested(struct export *e, const void *v, size_t i)
{
    size_t stride = 1;
    int opens = 0, closes = 0;
    for (int k = e->d.rank - 1; k >= 0; k--) {
        stride *= e->shape[k];
        opens += e->done % stride == 0;
        closes += (e->done + 1) % stride == 0;
    }
    if (e->done)
        fputs(opens ? ",\n" : ",", e->out);
    while (opens-- > 0)
        fputc('[', e->out);
    put_value(e, v, i);
    while (closes-- > 0)
        fputc(']', e->out);
}

static bool put_box(void *arg, const size_t *start, const size_t *count, const void *v)
{
    struct export *e = arg;
    size_t n = 1;
    (void)start;
    for (int i = 0; i < e->d.rank; i++)
        n *= count[i];
    if (e->as == KVT_EXPORT_NPY && e->d.type != KVT_H5_F16) {
        fwrite(v, e->d.type == KVT_H5_STR ? e->len : (size_t[]){1, 4, 8, 8, 2, 4, 8}[e->d.type], n, e->out);
        return !ferror(e->out);
    }
    for (size_t i = 0; i < n; i++, e->done++) {
        if (e->as == KVT_EXPORT_TSV)
            put_line(e, v, i);
        else if (e->as == KVT_EXPORT_JSON)
            put_nested(e, v, i);
        else {
            float f = kvt_f32_from_f16(((const uint16_t *)v)[i]) * (1.0f / KVT_FULL_SCALE);
            fwrite(&f, sizeof f, 1, e->out);
        }
    }
    return !ferror(e->out);
}

/* numpy's format, version 1.0: magic, length of the header, a Python dictionary padded so that data begin at 64 bytes. */
static void put_npy_header(const struct export *e)
{
    static const char *const descr[] = {"|u1", "<i4", "<i8", "<u8", "<f4", "<f4", "<f8"};
    char type[24], header[256];
    if (e->d.type == KVT_H5_STR)
        snprintf(type, sizeof type, "|S%zu", e->len);
    else
        snprintf(type, sizeof type, "%s", descr[e->d.type]);
    size_t n = (size_t)snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (", type);
    for (int i = 0; i < e->d.rank; i++)
        n += (size_t)snprintf(header + n, sizeof header - n, e->d.rank == 1 ? "%zu," : i ? ", %zu" : "%zu", e->shape[i]);
    n += (size_t)snprintf(header + n, sizeof header - n, "), }");
    size_t whole = (10 + n + 1 + 63) / 64 * 64 - 10;
    fwrite("\x93NUMPY\x01\x00", 1, 8, e->out);
    fputc((int)(whole & 255), e->out);
    fputc((int)(whole >> 8), e->out);
    fprintf(e->out, "%s%*s\n", header, (int)(whole - n - 1), "");
}

static void put_begin(const struct export *e)
{
    if (e->as == KVT_EXPORT_NPY) {
        put_npy_header(e);
    } else if (e->as == KVT_EXPORT_TSV) {
        fputs("# ", e->out);
        for (int i = 0; i < e->d.rank; i++)
            fprintf(e->out, "%s\t", kvt_dims[e->d.dim[i]].name);
        fprintf(e->out, "%s\n", e->path);
    } else {
        fputs("{\"path\": ", e->out);
        kvt_json_text(e->out, e->path);
        fputs(", \"unit\": ", e->out);
        kvt_json_text(e->out, e->d.unit);
        fputs(", \"meaning\": ", e->out);
        kvt_json_text(e->out, e->d.meaning);
        fputs(", \"dims\": [", e->out);
        for (int i = 0; i < e->d.rank; i++)
            fprintf(e->out, "%s\"%s\"", i ? ", " : "", kvt_dims[e->d.dim[i]].name);
        fputs("], \"shape\": [", e->out);
        for (int i = 0; i < e->d.rank; i++)
            fprintf(e->out, "%s%zu", i ? ", " : "", e->shape[i]);
        fputs("],\n\"data\": ", e->out);
    }
}

/* ---- which ------------------------------------------------------------------------------------------------------- */

static int32_t *scale_values(struct kvt_trace *t, enum kvt_dim dim, struct kvt_err *err)
{
    size_t n = t->extent[dim];
    int32_t *v = kvt_calloc(n, sizeof *v);
    const char *wrong;
    hid_t ds = v ? kvt_h5_open_own(t->prompt, kvt_dims[dim].name, &wrong) : -1;
    bool ok = ds >= 0 && kvt_h5_read(ds, H5T_NATIVE_INT32, NULL, NULL, 1, v);
    if (ds >= 0)
        H5Dclose(ds);
    if (ok)
        return v;
    kvt_fail(err, v ? KVT_EFORMAT : KVT_ENOMEM, "%s: cannot read the dimension %s", t->path, kvt_dims[dim].name);
    free(v);
    return NULL;
}

/* The dataset named; its branch. */
static int find(struct kvt_trace *t, const char *name, enum kvt_dataset *id, int *branch, struct kvt_err *err)
{
    const char *known[KVT_N_DATASET + KVT_N_DIM];
    int nn = -1, used = 0;
    struct kvt_dataset_info d;
    if (!strncmp(name, "branches/", 9) && (sscanf(name, "branches/%d/%n", &nn, &used) != 1 || !used || nn < 0 || nn >= t->info.n_branches))
        return kvt_fail(err, KVT_EINPUT, "'%.80s': name a branch by its number, as branches/01/evicted_at; %s has 00 to %02d", name, t->path,
                        t->info.n_branches - 1);
    for (int i = 0; i < KVT_N_DATASET; i++) {
        kvt_schema_get((enum kvt_dataset)i, &d);
        if (used ? d.per_branch && !strcmp(d.path + 9, name + used) : !d.per_branch && !strcmp(d.path, name)) {
            *id = (enum kvt_dataset)i;
            *branch = used ? nn : 0;
            return KVT_OK;
        }
        known[i] = used ? d.per_branch ? d.path + 9 : NULL : d.per_branch ? NULL : d.path;
    }
    for (int i = 0; i < KVT_N_DIM; i++)
        known[KVT_N_DATASET + i] = used ? NULL : kvt_dims[i].name;
    const char *near = kvt_nearest(name + used, known, KVT_N_DATASET + KVT_N_DIM);
    return kvt_fail(err, KVT_EINPUT, "no dataset '%.80s' in the format%s%s%s; kvinfo --schema lists all", name, near ? "; did you mean '" : "",
                    near ? near : "", near ? "'" : "");
}

static int export_dataset(struct export *e, enum kvt_dataset id, int branch, struct kvt_err *err)
{
    struct kvt_trace *t = e->t;
    bool missing = false;
    int rc = KVT_OK;
    kvt_schema_get(id, &e->d);
    kvt_schema_path(&e->d, branch, e->path, sizeof e->path);
    hid_t ds = kvt_trace_dataset(t, id, branch, &e->len, &missing, err);
    if (ds < 0)
        return missing ? kvt_fail(err, KVT_EINPUT, "%s holds no %s: it wasn't asked for", t->path, e->path) : err ? err->code : KVT_EFORMAT;
    H5Dclose(ds);
    for (int i = 0; i < e->d.rank; i++) {
        e->shape[i] = t->extent[e->d.dim[i]];
        if (e->as == KVT_EXPORT_TSV && !rc && !(e->scale[i] = scale_values(t, e->d.dim[i], err)))
            rc = err ? err->code : KVT_EFORMAT;
    }
    if (!rc && !(e->text = kvt_calloc(e->len + 1, 1)))
        rc = kvt_fail(err, KVT_ENOMEM, "%s: no memory", t->path);
    if (!rc) {
        put_begin(e);
        rc = kvt_trace_boxes(t, id, branch, false, put_box, e, err);
    }
    for (int i = 0; i < e->d.rank; i++)
        free(e->scale[i]);
    free(e->text);
    return rc;
}

/* A dimension is a dataset of its own values. */
static int export_dim(struct export *e, enum kvt_dim dim, struct kvt_err *err)
{
    const struct kvt_dim_info *d = &kvt_dims[dim];
    size_t n = e->t->extent[dim];
    if (!n)
        return kvt_fail(err, KVT_EINPUT, "%s hasn't the dimension %s", e->t->path, d->name);
    int32_t *v = scale_values(e->t, dim, err), *index = v ? kvt_calloc(n, sizeof *index) : NULL;
    int rc = index ? KVT_OK : v ? kvt_fail(err, KVT_ENOMEM, "%s: no memory", e->t->path) : err ? err->code : KVT_EFORMAT;
    for (size_t i = 0; index && i < n; i++)
        index[i] = (int32_t)i;
    e->d = (struct kvt_dataset_info){.path = d->name, .type = KVT_H5_I32, .unit = d->unit, .meaning = d->meaning, .rank = 1, .dim = {dim}};
    snprintf(e->path, sizeof e->path, "%s", d->name);
    e->shape[0] = n;
    e->scale[0] = index;
    if (!rc) {
        put_begin(e);
        put_box(e, (size_t[]){0}, (size_t[]){n}, v);
    }
    free(index);
    free(v);
    return rc;
}

int kvt_trace_export(struct kvt_trace *t, const char *name, enum kvt_export_as as, FILE *out, struct kvt_err *err)
{
    struct export e = {.t = t, .out = out, .as = as};
    enum kvt_dataset id = KVT_N_DATASET;
    int branch = 0, dim = 0;
    kvt_h5_quiet(&t->why);
    while (dim < KVT_N_DIM && strcmp(kvt_dims[dim].name, name))
        dim++;
    int rc = dim < KVT_N_DIM ? export_dim(&e, (enum kvt_dim)dim, err) : find(t, name, &id, &branch, err);
    if (!rc && dim == KVT_N_DIM)
        rc = export_dataset(&e, id, branch, err);
    if (!rc && as == KVT_EXPORT_JSON)
        fputs("}\n", out);
    if (!rc && (fflush(out) || ferror(out)))
        rc = kvt_fail(err, KVT_EIO, "cannot write %s", e.path);
    return rc;
}

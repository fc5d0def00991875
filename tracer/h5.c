/* HDF5 helpers. */
#include "tracer/h5.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvt/trace.h"
#include "tracer/h5_chunks.h"

static herr_t innermost(unsigned n, const H5E_error2_t *e, void *arg)
{
    struct kvt_h5_why *why = arg;
    (void)n;
    if (e->desc && *e->desc)
        snprintf(why->text, sizeof why->text, "%s", e->desc); /* walked inwards: the last one is where it happened */
    return 0;
}

static herr_t note_failure(hid_t stack, void *arg)
{
    struct kvt_h5_why *why = arg;
    if (*why->text) /* later failures are mostly consequences */
        return 0;
    why->memory = errno == ENOMEM; /* not every place in HDF5 says so when an allocation failed */
    H5Ewalk2(stack, H5E_WALK_DOWNWARD, innermost, why);
    return 0;
}

void kvt_h5_quiet(struct kvt_h5_why *why)
{
    if (why) {
        *why = (struct kvt_h5_why){"", false};
        errno = 0;
    }
    H5Eset_auto2(H5E_DEFAULT, why ? note_failure : NULL, why);
}

int kvt_h5_fail(struct kvt_err *err, int code, const char *fmt, ...)
{
    char what[320];
    H5E_auto2_t handler = NULL;
    struct kvt_h5_why none = {"", false}, *why = &none;
    void *data = NULL;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (H5Eget_auto2(H5E_DEFAULT, &handler, &data) >= 0 && handler == note_failure)
        why = data;
    const char *number = strstr(why->text, "errno = ");
    int e = number ? atoi(number + strlen("errno = ")) : 0;
    if (!e && (why->memory || strstr(why->text, "memory allocation failed")))
        code = KVT_ENOMEM;
    int rc = e ? kvt_fail(err, code, "%s: %s", what, strerror(e))
               : kvt_fail(err, code, "%s%s%s%s", what, *why->text ? ": " : why->memory ? "" : ": HDF5 gives no reason (perhaps it had no memory)", why->text, why->memory ? " (out of memory)" : "");
    *why = (struct kvt_h5_why){"", false};
    return rc;
}

static bool set_flag(hid_t fapl, const char *name)
{
    hbool_t yes = 1;
    return H5Pexist(fapl, name) > 0 && H5Pset(fapl, name, &yes) >= 0;
}

bool kvt_h5_accept_cut(hid_t fapl) { return set_flag(fapl, "skip_eof_check"); }
bool kvt_h5_clear_mark(hid_t fapl) { return set_flag(fapl, "clear_status_flags"); }

static hid_t f16_type(hid_t f32)
{
    hid_t t = H5Tcopy(f32);
    if (t >= 0 && (H5Tset_fields(t, 15, 10, 5, 0, 10) < 0 || H5Tset_size(t, 2) < 0 || H5Tset_ebias(t, 15) < 0)) {
        H5Tclose(t);
        return -1;
    }
    return t;
}

static hid_t str_type(size_t len)
{
    hid_t t = H5Tcopy(H5T_C_S1);
    if (t >= 0 && (H5Tset_size(t, len) < 0 || H5Tset_cset(t, H5T_CSET_UTF8) < 0 || H5Tset_strpad(t, H5T_STR_NULLPAD) < 0)) {
        H5Tclose(t);
        return -1;
    }
    return t;
}

hid_t kvt_h5_disk_type(enum kvt_h5_type type, size_t len)
{
    switch (type) {
    case KVT_H5_U8:  return H5Tcopy(H5T_STD_U8LE);
    case KVT_H5_I32: return H5Tcopy(H5T_STD_I32LE);
    case KVT_H5_I64: return H5Tcopy(H5T_STD_I64LE);
    case KVT_H5_U64: return H5Tcopy(H5T_STD_U64LE);
    case KVT_H5_F16: return f16_type(H5T_IEEE_F32LE);
    case KVT_H5_F32: return H5Tcopy(H5T_IEEE_F32LE);
    case KVT_H5_F64: return H5Tcopy(H5T_IEEE_F64LE);
    case KVT_H5_STR: return str_type(len);
    }
    return -1;
}

hid_t kvt_h5_mem_type(enum kvt_h5_type type, size_t len)
{
    switch (type) {
    case KVT_H5_U8:  return H5Tcopy(H5T_NATIVE_UINT8);
    case KVT_H5_I32: return H5Tcopy(H5T_NATIVE_INT32);
    case KVT_H5_I64: return H5Tcopy(H5T_NATIVE_INT64);
    case KVT_H5_U64: return H5Tcopy(H5T_NATIVE_UINT64);
    case KVT_H5_F16: return f16_type(H5T_NATIVE_FLOAT);
    case KVT_H5_F32: return H5Tcopy(H5T_NATIVE_FLOAT);
    case KVT_H5_F64: return H5Tcopy(H5T_NATIVE_DOUBLE);
    case KVT_H5_STR: return str_type(len);
    }
    return -1;
}

size_t kvt_h5_type_bytes(enum kvt_h5_type type, size_t len)
{
    static const size_t bytes[] = {1, 4, 8, 8, 2, 4, 8};
    return type == KVT_H5_STR ? len : bytes[type];
}

static bool put(hid_t at, const char *name, hid_t disk, hid_t mem, const void *v)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t a = space < 0 ? -1 : H5Acreate2(at, name, disk, space, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = a >= 0 && H5Awrite(a, mem, v) >= 0;
    if (a >= 0)
        H5Aclose(a);
    if (space >= 0)
        H5Sclose(space);
    return ok;
}

bool kvt_h5_put_str(hid_t at, const char *name, const char *text)
{
    size_t n = text ? strlen(text) : 0;
    hid_t t = str_type(n ? n : 1);
    bool ok = t >= 0 && put(at, name, t, t, n ? text : "");
    if (t >= 0)
        H5Tclose(t);
    return ok;
}

bool kvt_h5_put_label(hid_t at, const char *name, const char *text)
{
    hid_t t = H5Tcopy(H5T_C_S1);
    bool ok = t >= 0 && H5Tset_size(t, H5T_VARIABLE) >= 0 && H5Tset_cset(t, H5T_CSET_UTF8) >= 0 && put(at, name, t, t, &text);
    if (t >= 0)
        H5Tclose(t);
    return ok;
}

/* Ended by a zero, of exactly its length: what the dimension scale specification asks for. */
static bool put_scale_str(hid_t at, const char *name, const char *text)
{
    hid_t t = H5Tcopy(H5T_C_S1);
    bool ok = t >= 0 && H5Tset_size(t, strlen(text) + 1) >= 0 && put(at, name, t, t, text);
    if (t >= 0)
        H5Tclose(t);
    return ok;
}

bool kvt_h5_put_i64(hid_t at, const char *name, int64_t v) { return put(at, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &v); }
bool kvt_h5_put_u64(hid_t at, const char *name, uint64_t v) { return put(at, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, &v); }
bool kvt_h5_put_f64(hid_t at, const char *name, double v) { return put(at, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &v); }

bool kvt_h5_get_number(hid_t at, const char *name, H5T_class_t class, hid_t mem, void *out)
{
    if (H5Aexists(at, name) <= 0)
        return false;
    hid_t a = H5Aopen(at, name, H5P_DEFAULT), type = a < 0 ? -1 : H5Aget_type(a), space = a < 0 ? -1 : H5Aget_space(a);
    bool ok = type >= 0 && space >= 0 && H5Tget_class(type) == class && H5Sget_simple_extent_npoints(space) == 1 &&
              H5Aread(a, mem, out) >= 0;
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    if (a >= 0)
        H5Aclose(a);
    return ok;
}

/* The file's box and the memory's shape; *file is H5S_ALL where start is NULL. */
static bool box(hid_t ds, const size_t *start, const size_t *count, int rank, hid_t *file, hid_t *mem)
{
    *file = *mem = H5S_ALL;
    if (!start)
        return true;
    hsize_t at[KVT_TRACE_MAX_RANK], n[KVT_TRACE_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        at[i] = start[i];
        n[i] = count[i];
    }
    *file = H5Dget_space(ds);
    if (*file < 0 || H5Sselect_hyperslab(*file, H5S_SELECT_SET, at, NULL, n, NULL) < 0)
        return false;
    *mem = H5Screate_simple(rank, n, NULL);
    return *mem >= 0;
}

static void box_close(hid_t file, hid_t mem)
{
    if (file > 0)
        H5Sclose(file);
    if (mem > 0)
        H5Sclose(mem);
}

bool kvt_h5_write(hid_t ds, hid_t type, const size_t *start, const size_t *count, int rank, const void *in)
{
    hid_t file, mem;
    bool ok = box(ds, start, count, rank, &file, &mem) && H5Dwrite(ds, type, mem, file, H5P_DEFAULT, in) >= 0;
    box_close(file, mem);
    return ok;
}

bool kvt_h5_read(hid_t ds, hid_t type, const size_t *start, const size_t *count, int rank, void *out)
{
    hid_t file, mem;
    if (kvt_h5_read_chunks(ds, type, start, count, rank, out))
        return true;
    bool ok = box(ds, start, count, rank, &file, &mem) && H5Dread(ds, type, mem, file, H5P_DEFAULT, out) >= 0;
    box_close(file, mem);
    return ok;
}

static bool set_fill(hid_t dcpl, enum kvt_fill fill)
{
    int32_t minus1 = -1, not_yet = KVT_NOT_YET, none = 255;
    float nan32 = NAN;
    switch (fill) {
    case KVT_FILL_ZERO:      return true; /* HDF5's own */
    case KVT_FILL_NAN:       return H5Pset_fill_value(dcpl, H5T_NATIVE_FLOAT, &nan32) >= 0;
    case KVT_FILL_MINUS1:    return H5Pset_fill_value(dcpl, H5T_NATIVE_INT32, &minus1) >= 0;
    case KVT_FILL_NOT_YET:   return H5Pset_fill_value(dcpl, H5T_NATIVE_INT32, &not_yet) >= 0;
    case KVT_FILL_NO_REASON: return H5Pset_fill_value(dcpl, H5T_NATIVE_INT32, &none) >= 0;
    }
    return false;
}

hid_t kvt_h5_make(hid_t at, const char *path, const struct kvt_dataset_info *d, const size_t *shape, size_t str_len)
{
    hid_t type = kvt_h5_disk_type(d->type, str_len), ds = -1, space = -1;
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE), lcpl = H5Pcreate(H5P_LINK_CREATE);
    if (type < 0 || dcpl < 0 || lcpl < 0 || H5Pset_create_intermediate_group(lcpl, 1) < 0 || !set_fill(dcpl, d->fill))
        goto end;
    hsize_t n[KVT_TRACE_MAX_RANK], c[KVT_TRACE_MAX_RANK];
    for (int i = 0; i < d->rank; i++)
        n[i] = shape[i];
    space = d->rank ? H5Screate_simple(d->rank, n, NULL) : H5Screate(H5S_SCALAR);
    if (space < 0)
        goto end;
    if (d->store == KVT_STORE_INPLACE) {
        if (H5Pset_layout(dcpl, H5D_CONTIGUOUS) < 0 || H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY) < 0)
            goto end;
    } else {
        size_t chunk[KVT_TRACE_MAX_RANK];
        kvt_schema_chunk(d, shape, kvt_h5_type_bytes(d->type, str_len), chunk);
        for (int i = 0; i < d->rank; i++)
            c[i] = chunk[i];
        if (H5Pset_chunk(dcpl, d->rank, c) < 0)
            goto end;
        bool packed = d->store == KVT_STORE_PACKED || d->store == KVT_STORE_HISTORY || d->deflate;
        if ((packed && (H5Pset_shuffle(dcpl) < 0 || H5Pset_deflate(dcpl, 1) < 0)) ||
            ((packed || d->store == KVT_STORE_SUMMED) && H5Pset_fletcher32(dcpl) < 0))
            goto end;
    }
    ds = H5Dcreate2(at, path, type, space, lcpl, dcpl, H5P_DEFAULT);
    if (ds >= 0 && !(kvt_h5_put_label(ds, "long_name", d->meaning) && (!*d->unit || kvt_h5_put_label(ds, "units", d->unit)))) {
        H5Dclose(ds);
        ds = -1;
    }
end:
    if (space >= 0)
        H5Sclose(space);
    if (lcpl >= 0)
        H5Pclose(lcpl);
    if (dcpl >= 0)
        H5Pclose(dcpl);
    if (type >= 0)
        H5Tclose(type);
    return ds;
}

hid_t kvt_h5_make_scale(hid_t at, enum kvt_dim dim, const int32_t *value, size_t n)
{
    const struct kvt_dim_info *d = &kvt_dims[dim];
    hsize_t dims = n;
    hid_t space = H5Screate_simple(1, &dims, NULL), dcpl = H5Pcreate(H5P_DATASET_CREATE), ds = -1;
    hsize_t chunk = n < 1 << 15 ? n : 1 << 15;
    bool packed = n <= 1024 || (H5Pset_chunk(dcpl, 1, &chunk) >= 0 && H5Pset_shuffle(dcpl) >= 0 && H5Pset_deflate(dcpl, 1) >= 0);
    if (space >= 0 && dcpl >= 0 && packed) /* long ones mostly count, and pack to next to nothing */
        ds = H5Dcreate2(at, d->name, H5T_STD_I32LE, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    if (dcpl >= 0)
        H5Pclose(dcpl);
    bool ok = ds >= 0 && put_scale_str(ds, "CLASS", "DIMENSION_SCALE") && put_scale_str(ds, "NAME", d->name) &&
              kvt_h5_put_label(ds, "long_name", d->meaning) && kvt_h5_put_label(ds, "units", d->unit) &&
              kvt_h5_write(ds, H5T_NATIVE_INT32, NULL, NULL, 1, value);
    if (space >= 0)
        H5Sclose(space);
    if (!ok && ds >= 0) {
        H5Dclose(ds);
        ds = -1;
    }
    return ds;
}

static bool put_array(hid_t at, const char *name, hid_t disk, hid_t mem, size_t n, const void *v)
{
    hsize_t dims = n;
    hid_t space = H5Screate_simple(1, &dims, NULL);
    hid_t a = space < 0 ? -1 : H5Acreate2(at, name, disk, space, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = a >= 0 && H5Awrite(a, mem, v) >= 0;
    if (a >= 0)
        H5Aclose(a);
    if (space >= 0)
        H5Sclose(space);
    return ok;
}

bool kvt_h5_links_add(struct kvt_h5_links *l, hid_t ds, const struct kvt_dataset_info *d)
{
    if (!d->rank)
        return true;
    hobj_ref_t self;
    if (H5Rcreate(&self, ds, ".", H5R_OBJECT, -1) < 0)
        return false;
    hvl_t list[KVT_TRACE_MAX_RANK];
    const char *label[KVT_TRACE_MAX_RANK];
    for (int i = 0; i < d->rank; i++) {
        enum kvt_dim dim = d->dim[i];
        list[i] = (hvl_t){1, &l->ref[dim]};
        label[i] = kvt_dims[dim].name;
        if (l->n == l->cap) {
            size_t cap = l->cap ? 2 * l->cap : 256;
            struct kvt_h5_link *grown = realloc(l->link, cap * sizeof *grown);
            if (!grown)
                return false;
            l->link = grown;
            l->cap = cap;
        }
        l->link[l->n++] = (struct kvt_h5_link){self, (unsigned)i, dim};
    }
    hid_t refs = H5Tvlen_create(H5T_STD_REF_OBJ), names = H5Tcopy(H5T_C_S1);
    bool ok = refs >= 0 && names >= 0 && H5Tset_size(names, H5T_VARIABLE) >= 0 &&
              put_array(ds, "DIMENSION_LIST", refs, refs, (size_t)d->rank, list) &&
              put_array(ds, "DIMENSION_LABELS", names, names, (size_t)d->rank, label);
    if (refs >= 0)
        H5Tclose(refs);
    if (names >= 0)
        H5Tclose(names);
    return ok;
}

bool kvt_h5_links_write(struct kvt_h5_links *l)
{
    struct entry { hobj_ref_t ref; unsigned index; } *e = malloc((l->n ? l->n : 1) * sizeof *e);
    hid_t type = H5Tcreate(H5T_COMPOUND, sizeof *e);
    bool ok = e && type >= 0 && H5Tinsert(type, "dataset", offsetof(struct entry, ref), H5T_STD_REF_OBJ) >= 0 &&
              H5Tinsert(type, "dimension", offsetof(struct entry, index), H5T_NATIVE_UINT) >= 0;
    for (int dim = 0; ok && dim < KVT_N_DIM; dim++) {
        size_t n = 0;
        for (size_t i = 0; i < l->n; i++)
            if (l->link[i].dim == (enum kvt_dim)dim)
                e[n++] = (struct entry){l->link[i].ref, l->link[i].index};
        if (n)
            ok = put_array(l->scale[dim], "REFERENCE_LIST", type, type, n, e);
    }
    if (type >= 0)
        H5Tclose(type);
    free(e);
    return ok;
}

void kvt_h5_links_free(struct kvt_h5_links *l)
{
    for (int dim = 0; dim < KVT_N_DIM; dim++)
        if (l->scale[dim] >= 0)
            H5Dclose(l->scale[dim]);
    free(l->link);
}

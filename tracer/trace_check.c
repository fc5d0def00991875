/* Each dataset of a trace by itself: is it there, has it the type and shape of the schema, do its numbers lie in their range;
 * and, apart, its labels. What must hold between datasets is in trace_check_values.c. */
#include "tracer/trace_check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tracer/h5_own.h"
#include "tracer/trace_check_parts.h"

#define MOST_PROBLEMS 200 /* a file with more is described well enough */

void kvt_check_found(struct kvt_check *c, const char *where, const char *fmt, ...)
{
    char what[400];
    va_list ap;
    if (c->n++ >= MOST_PROBLEMS)
        return;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    c->found(c->arg, where, what);
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

bool kvt_check_each(struct kvt_check *c, enum kvt_dataset id, int branch, kvt_box_fn each, void *arg)
{
    struct kvt_dataset_info d;
    struct kvt_err err = {0};
    char path[96];
    if (!kvt_trace_has_dataset(c->t, id, branch))
        return true;
    kvt_schema_get(id, &d);
    int rc = kvt_trace_boxes(c->t, id, branch, true, each, arg, &err);
    if (rc == KVT_ENOMEM)
        c->memory = true;
    else if (rc)
        kvt_check_found(c, kvt_schema_path(&d, branch, path, sizeof path), "can't be read: its bytes are damaged");
    *c->t->why.text = '\0';
    return !rc;
}

struct range { struct kvt_check *c; const struct kvt_dataset_info *d; const char *path; size_t bad; size_t at[KVT_TRACE_MAX_RANK]; double first; };

static bool is_fill(const struct kvt_dataset_info *d, double v)
{
    switch (d->fill) {
    case KVT_FILL_ZERO:      return v == 0;
    case KVT_FILL_NAN:       return isnan(v);
    case KVT_FILL_MINUS1:    return v == -1;
    case KVT_FILL_NOT_YET:   return v == (double)KVT_NOT_YET;
    case KVT_FILL_NO_REASON: return v == 255;
    }
    return false;
}

static bool in_range(void *arg, const size_t *start, const size_t *count, const void *values)
{
    struct range *r = arg;
    const double *v = values;
    const struct kvt_dataset_info *d = r->d;
    bool real = d->type == KVT_H5_F16 || d->type == KVT_H5_F32 || d->type == KVT_H5_F64;
    double slack = real ? 1e-3 : 0;
    size_t n = 1;
    for (int i = 0; i < d->rank; i++)
        n *= count[i];
    double low = d->low - slack, high = d->high + slack;
    size_t bad = 0, first = n;
#pragma omp parallel for reduction(+ : bad) reduction(min : first) if (n > 1 << 16)
    for (size_t j = 0; j < n; j++)
        if (!(v[j] >= low && v[j] <= high) && !is_fill(d, v[j])) {
            bad++;
            first = j < first ? j : first;
        }
    if (bad && !r->bad) {
        r->first = v[first];
        for (int i = d->rank - 1; i >= 0; i--) {
            r->at[i] = start[i] + first % count[i];
            first /= count[i];
        }
    }
    r->bad += bad;
    return true;
}

static void check_range(struct kvt_check *c, enum kvt_dataset id, const struct kvt_dataset_info *d, int branch, const char *path)
{
    struct range r = {.c = c, .d = d, .path = path};
    char at[96] = "", what[160];
    if (!d->ranged)
        return;
    if (!kvt_check_each(c, id, branch, in_range, &r))
        c->good[id] = false;
    if (!r.bad)
        return;
    c->good[id] = false;
    size_t n = 0;
    for (int i = 0; i < d->rank; i++)
        n += (size_t)snprintf(at + n, sizeof at - n, "%s%zu%s", i ? "," : "[", r.at[i], i == d->rank - 1 ? "] " : "");
    if (d->high < KVT_RANGE_ANY && d->low > -KVT_RANGE_ANY)
        snprintf(what, sizeof what, "%g to %g", d->low, d->high);
    else if (d->high < KVT_RANGE_ANY)
        snprintf(what, sizeof what, "a finite number, at most %g", d->high);
    else
        snprintf(what, sizeof what, "a finite number from %g on", d->low);
    kvt_check_found(c, path, "%sis %g; it can only be %s (%zu such values)", at, r.first, what, r.bad);
}

/* ---- type and shape ---------------------------------------------------------------------------------------------- */

static bool same_type(hid_t ds, const struct kvt_dataset_info *d, size_t len)
{
    hid_t have = H5Dget_type(ds), want = kvt_h5_disk_type(d->type, len);
    bool same = have >= 0 && want >= 0 && H5Tequal(have, want) > 0;
    if (have >= 0)
        H5Tclose(have);
    if (want >= 0)
        H5Tclose(want);
    return same;
}

static void check_dataset(struct kvt_check *c, enum kvt_dataset id, const struct kvt_dataset_info *d, int branch)
{
    struct kvt_err err = {0};
    char path[96];
    size_t len = 0;
    bool missing = false;
    kvt_schema_path(d, branch, path, sizeof path);
    hid_t ds = kvt_trace_dataset(c->t, id, branch, &len, &missing, &err);
    *c->t->why.text = '\0';
    if (ds < 0) {
        const char *in = strstr(err.text, path), *words = in ? in + strlen(path) : err.text;
        if (!missing)
            kvt_check_found(c, path, "%s", *words == ' ' ? words + 1 : words);
        else if (!kvt_trace_optional(c->t, d))
            kvt_check_found(c, path, "isn't there");
        c->good[id] = c->good[id] && missing && kvt_trace_optional(c->t, d);
        return;
    }
    bool type = same_type(ds, d, len);
    H5Dclose(ds);
    if (!type)
        kvt_check_found(c, path, d->type == KVT_H5_STR ? "isn't UTF-8 text padded with zeros" : "isn't %s, little-endian",
                        kvt_h5_type_names[d->type]);
    c->good[id] = c->good[id] && type;
    check_range(c, id, d, branch, path);
}

static bool attr_fits(hid_t at, const struct kvt_attr_info *a)
{
    hid_t id = H5Aopen(at, a->name, H5P_DEFAULT), type = id < 0 ? -1 : H5Aget_type(id), space = id < 0 ? -1 : H5Aget_space(id);
    H5T_class_t want = !strcmp(a->type, "STR") ? H5T_STRING : !strcmp(a->type, "F64") ? H5T_FLOAT : H5T_INTEGER;
    bool ok = type >= 0 && space >= 0 && H5Tget_class(type) == want && H5Sget_simple_extent_npoints(space) == 1 &&
              (want != H5T_STRING || H5Tis_variable_str(type) == 0);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    if (id >= 0)
        H5Aclose(id);
    return ok;
}

static void check_attrs(struct kvt_check *c, const char *where, hid_t at, const char *name)
{
    for (int i = 0; i < kvt_n_attrs; i++) {
        const struct kvt_attr_info *a = &kvt_attrs[i];
        int since = !strcmp(a->name, "schema_minor") || !strcmp(a->name, "full_branch") ? 1 : !strcmp(a->name, "replayed") ? 2 : 0;
        if (strcmp(a->where, where) || c->t->info.schema_minor < since)
            continue; /* older minor versions lack these */
        if (H5Aexists(at, a->name) <= 0)
            kvt_check_found(c, name, "has no attribute %s", a->name);
        else if (!attr_fits(at, a))
            kvt_check_found(c, name, "attribute %s isn't one %s", a->name, !strcmp(a->type, "STR") ? "text of fixed length" : !strcmp(a->type, "F64") ? "f64" : "integer");
    }
}

/* Each group's attributes; a branch that can't be opened is a problem of its own. */
static void check_all_attrs(struct kvt_check *c)
{
    check_attrs(c, "FILE", c->t->file, "file");
    check_attrs(c, "PROMPT", c->t->prompt, "prompt");
    for (int b = 0; b < c->t->info.n_branches; b++) {
        char path[32];
        snprintf(path, sizeof path, "branches/%02d", b);
        hid_t g = kvt_h5_link_at(c->t->prompt, path) == KVT_H5_OWN ? H5Gopen2(c->t->prompt, path, H5P_DEFAULT) : -1;
        if (g < 0) {
            kvt_check_found(c, path, "isn't there");
            continue;
        }
        check_attrs(c, "BRANCH", g, path);
        H5Gclose(g);
    }
}

static int open_check(struct kvt_check *c, const char *path, const char *prompt_id, kvt_problem_fn found, void *arg, struct kvt_err *err)
{
    *c = (struct kvt_check){.found = found, .arg = arg};
    for (int i = 0; i < KVT_N_DATASET; i++)
        c->good[i] = true;
    return kvt_trace_open_bare(&c->t, path, prompt_id, err);
}

static int close_check(struct kvt_check *c, int *n, struct kvt_err *err)
{
    kvt_trace_close(&c->t);
    *n += c->n;
    return c->memory ? kvt_fail(err, KVT_ENOMEM, "no memory to check the trace") : KVT_OK;
}

int kvt_trace_check(const char *path, const char *prompt_id, kvt_problem_fn found, void *arg, int *n, struct kvt_err *err)
{
    struct kvt_check c;
    int rc = open_check(&c, path, prompt_id, found, arg, err);
    if (rc)
        return rc;
    check_all_attrs(&c);
    for (int i = 0; i < KVT_N_DATASET && !c.memory; i++) {
        struct kvt_dataset_info d;
        kvt_schema_get((enum kvt_dataset)i, &d);
        for (int b = 0; b < (d.per_branch ? c.t->info.n_branches : 1); b++)
            check_dataset(&c, (enum kvt_dataset)i, &d, b);
    }
    if (!c.memory)
        kvt_check_invariants(&c);
    return close_check(&c, n, err);
}

/* ---- labels ------------------------------------------------------------------------------------------------------ */

/* A label of variable length: whether it reads as `want`. */
static bool label_is(hid_t ds, const char *name, const char *want)
{
    hid_t a = H5Aexists(ds, name) > 0 ? H5Aopen(ds, name, H5P_DEFAULT) : -1, type = a < 0 ? -1 : H5Aget_type(a);
    hid_t space = a < 0 ? -1 : H5Aget_space(a), mem = -1;
    bool ok = false;
    if (type >= 0 && space >= 0 && H5Tget_class(type) == H5T_STRING && H5Sget_simple_extent_npoints(space) == 1) {
        size_t size = H5Tget_size(type), len = strlen(want);
        if (H5Tis_variable_str(type) > 0) {
            char *text = NULL;
            mem = H5Tcopy(type);
            ok = mem >= 0 && H5Aread(a, mem, &text) >= 0 && text && !strcmp(text, want);
            if (text)
                H5Dvlen_reclaim(mem, space, H5P_DEFAULT, &text);
        } else if (size < 4096) { /* other writers' */
            char text[4096] = "";
            ok = H5Aread(a, type, text) >= 0 && strnlen(text, size) == len && !memcmp(text, want, len);
        }
    }
    const hid_t ids[] = {mem, type};
    for (int i = 0; i < 2; i++)
        if (ids[i] >= 0)
            H5Tclose(ids[i]);
    if (space >= 0)
        H5Sclose(space);
    if (a >= 0)
        H5Aclose(a);
    return ok;
}

/* Whether each axis refers to the dimension scale of its name, first of all. */
static bool axes_are(struct kvt_check *c, hid_t ds, const struct kvt_dataset_info *d)
{
    hvl_t list[KVT_TRACE_MAX_RANK] = {{0, NULL}};
    hid_t a = H5Aexists(ds, "DIMENSION_LIST") > 0 ? H5Aopen(ds, "DIMENSION_LIST", H5P_DEFAULT) : -1;
    hid_t type = a < 0 ? -1 : H5Aget_type(a), space = a < 0 ? -1 : H5Aget_space(a), base = -1;
    bool ok = type >= 0 && space >= 0 && H5Tget_class(type) == H5T_VLEN && H5Sget_simple_extent_npoints(space) == d->rank &&
              (base = H5Tget_super(type)) >= 0 && H5Tequal(base, H5T_STD_REF_OBJ) > 0 && H5Aread(a, type, list) >= 0;
    bool fits = ok;
    for (int i = 0; fits && i < d->rank; i++) {
        H5O_info_t mine, scale;
        hid_t o = list[i].len ? H5Rdereference2(ds, H5P_DEFAULT, H5R_OBJECT, list[i].p) : -1;
        fits = o >= 0 && H5Oget_info(o, &mine) >= 0 && H5Oget_info_by_name(c->t->prompt, kvt_dims[d->dim[i]].name, &scale, H5P_DEFAULT) >= 0 &&
               mine.addr == scale.addr;
        if (o >= 0)
            H5Oclose(o);
    }
    if (ok)
        H5Dvlen_reclaim(type, space, H5P_DEFAULT, list);
    if (base >= 0)
        H5Tclose(base);
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    if (a >= 0)
        H5Aclose(a);
    return fits;
}

static void check_labels(struct kvt_check *c, enum kvt_dataset id, const struct kvt_dataset_info *d, int branch)
{
    char path[96];
    hid_t ds = kvt_trace_dataset(c->t, id, branch, NULL, NULL, NULL);
    *c->t->why.text = '\0';
    if (ds < 0)
        return;
    kvt_schema_path(d, branch, path, sizeof path);
    if (*d->unit && !label_is(ds, "units", d->unit))
        kvt_check_found(c, path, "its attribute units isn't \"%s\"", d->unit);
    if (H5Aexists(ds, "long_name") <= 0) /* its words may change between versions */
        kvt_check_found(c, path, "has no attribute long_name");
    if (d->rank && !axes_are(c, ds, d))
        kvt_check_found(c, path, "its axes don't refer to the dimensions %s", d->dims);
    H5Dclose(ds);
}

int kvt_trace_check_labels(const char *path, const char *prompt_id, kvt_problem_fn found, void *arg, int *n, struct kvt_err *err)
{
    struct kvt_check c;
    int rc = open_check(&c, path, prompt_id, found, arg, err);
    if (rc)
        return rc;
    for (int i = 0; i < KVT_N_DIM; i++) {
        if (!c.t->extent[i])
            continue;
        const char *wrong;
        hid_t ds = kvt_h5_open_own(c.t->prompt, kvt_dims[i].name, &wrong);
        if (ds < 0 || !label_is(ds, "CLASS", "DIMENSION_SCALE"))
            kvt_check_found(&c, kvt_dims[i].name, "isn't a dimension scale");
        else if (!label_is(ds, "units", kvt_dims[i].unit))
            kvt_check_found(&c, kvt_dims[i].name, "its attribute units isn't \"%s\"", kvt_dims[i].unit);
        if (ds >= 0)
            H5Dclose(ds);
    }
    for (int i = 0; i < KVT_N_DATASET; i++) {
        struct kvt_dataset_info d;
        kvt_schema_get((enum kvt_dataset)i, &d);
        for (int b = 0; b < (d.per_branch ? c.t->info.n_branches : 1); b++)
            check_labels(&c, (enum kvt_dataset)i, &d, b);
    }
    return close_check(&c, n, err);
}

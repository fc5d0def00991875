/* Arrays of a trace. Nothing in the file is believed: types, ranks and extents are compared with the schema first. */
#include "tracer/trace_data.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "tracer/h5_own.h"

bool kvt_trace_has_dataset(const struct kvt_trace *t, enum kvt_dataset id, int branch)
{
    struct kvt_dataset_info d;
    char path[96];
    kvt_schema_get(id, &d);
    return kvt_h5_link_at(t->prompt, kvt_schema_path(&d, branch, path, sizeof path)) != KVT_H5_NOTHING;
}

static bool type_fits(hid_t have, const struct kvt_dataset_info *d, size_t *str_len)
{
    H5T_class_t c = H5Tget_class(have);
    size_t size = H5Tget_size(have);
    if (d->type == KVT_H5_STR) {
        *str_len = size;
        return c == H5T_STRING && H5Tis_variable_str(have) == 0 && size >= 1 && size <= (64u << 20);
    }
    bool is_float = d->type == KVT_H5_F16 || d->type == KVT_H5_F32 || d->type == KVT_H5_F64;
    return c == (is_float ? H5T_FLOAT : H5T_INTEGER) && size == kvt_h5_type_bytes(d->type, 0);
}

/* What a file claims can be far more than what it is: a megabyte of packed zeros is at most 1032 times as long. A
 * dataset that was never written is all fill value and costs nothing on disk; those up to 256 MiB are let through, and maps and rows of
 * any size, which an interrupted run may have none of yet: nobody reads them but one by one. */
static bool plausible(hid_t ds, const struct kvt_dataset_info *d, size_t bytes)
{
    bool piecewise = d->store == KVT_STORE_WHOLE || d->store == KVT_STORE_TILES;
    return piecewise || bytes <= (256u << 20) || bytes / 1100 <= H5Dget_storage_size(ds);
}

hid_t kvt_trace_dataset(struct kvt_trace *t, enum kvt_dataset id, int branch, size_t *str_len, bool *missing, struct kvt_err *err)
{
    struct kvt_dataset_info d;
    char path[96];
    size_t len = 0, bytes = 1;
    kvt_schema_get(id, &d);
    kvt_schema_path(&d, branch, path, sizeof path);
    if (missing)
        *missing = false;
    const char *wrong;
    hid_t ds = kvt_h5_open_own(t->prompt, path, &wrong);
    if (ds < 0 && kvt_h5_link_at(t->prompt, path) == KVT_H5_NOTHING) {
        if (missing)
            *missing = true;
        else
            kvt_fail(err, KVT_EFORMAT, "%s: no dataset /prompt/%s/%s", t->path, t->info.prompt_id, path);
        return -1;
    }
    if (ds < 0 && wrong)
        kvt_fail(err, KVT_EFORMAT, "%s: /prompt/%s/%s %s", t->path, t->info.prompt_id, path, wrong);
    else if (ds < 0)
        kvt_h5_fail(err, KVT_EFORMAT, "%s: /prompt/%s/%s is no dataset that can be opened", t->path, t->info.prompt_id, path);
    if (ds < 0)
        return -1;
    hid_t type = H5Dget_type(ds), space = H5Dget_space(ds);
    hsize_t n[KVT_TRACE_MAX_RANK] = {0};
    bool ok = type >= 0 && space >= 0 && type_fits(type, &d, &len);
    wrong = ok ? NULL : "has another type than the format says";
    if (ok && (H5Sget_simple_extent_type(space) == H5S_NULL || H5Sget_simple_extent_ndims(space) != d.rank ||
               (d.rank && H5Sget_simple_extent_dims(space, n, NULL) < 0)))
        wrong = "has another number of dimensions than the format says";
    for (int i = 0; !wrong && i < d.rank; i++)
        if (n[i] != t->extent[d.dim[i]] || !kvt_mul_size(bytes, (size_t)n[i], &bytes))
            wrong = "doesn't have the size of its dimensions";
    if (!wrong && (!kvt_mul_size(bytes, kvt_h5_type_bytes(d.type, len), &bytes) || !plausible(ds, &d, bytes)))
        wrong = "claims more data than the file holds";
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    if (wrong) {
        H5Dclose(ds);
        kvt_fail(err, KVT_EFORMAT, "%s: /prompt/%s/%s %s", t->path, t->info.prompt_id, path, wrong);
        return -1;
    }
    if (str_len)
        *str_len = len;
    return ds;
}

int kvt_trace_get(struct kvt_trace *t, enum kvt_dataset id, int branch, const size_t *start, const size_t *count, void *out,
                  struct kvt_err *err)
{
    struct kvt_dataset_info d;
    char path[96];
    size_t len = 0;
    kvt_schema_get(id, &d);
    hid_t ds = kvt_trace_dataset(t, id, branch, &len, NULL, err);
    if (ds < 0)
        return err ? err->code : KVT_EFORMAT;
    if (t->growing)
        H5Drefresh(ds);
    hid_t type = kvt_h5_mem_type(d.type, len);
    bool ok = type >= 0 && kvt_h5_read(ds, type, start, count, d.rank, out);
    if (type >= 0)
        H5Tclose(type);
    H5Dclose(ds);
    return ok ? KVT_OK : kvt_h5_fail(err, KVT_EFORMAT, "%s: cannot read /prompt/%s/%s", t->path, t->info.prompt_id,
                                     kvt_schema_path(&d, branch, path, sizeof path));
}

#define BOX_VALUES ((size_t)1 << 20)

/* Values as the schema's type into doubles. */
static void as_doubles(enum kvt_h5_type type, const void *v, size_t n, double *out)
{
    switch (type) {
#define EACH(of, value)                                  \
    {                                                    \
        const of *x = v;                                 \
        for (size_t i = 0; i < n; i++)                   \
            out[i] = (double)(value);                    \
        break;                                           \
    }
    case KVT_H5_U8: EACH(uint8_t, x[i])
    case KVT_H5_I32: EACH(int32_t, x[i])
    case KVT_H5_I64: EACH(int64_t, x[i])
    case KVT_H5_U64: EACH(uint64_t, x[i])
    case KVT_H5_F16: EACH(uint16_t, kvt_f32_from_f16(x[i]))
    case KVT_H5_F32: EACH(float, x[i])
    case KVT_H5_F64: EACH(double, x[i])
#undef EACH
    case KVT_H5_STR: break;
    }
}

/* A box as it is; or, with `real` (values of the longest box), as doubles. */
struct boxes { hid_t ds, type; enum kvt_h5_type of; int rank; void *buf; double *real; };

static bool read_box(const struct boxes *b, const size_t *start, const size_t *count, const void **values)
{
    size_t n = 1;
    if (!kvt_h5_read(b->ds, b->type, b->rank ? start : NULL, b->rank ? count : NULL, b->rank, b->buf))
        return false;
    for (int i = 0; i < b->rank; i++)
        n *= count[i];
    if (b->real)
        as_doubles(b->of, b->buf, n, b->real);
    *values = b->real ? (const void *)b->real : b->buf;
    return true;
}

static bool each_box(const struct boxes *b, const size_t *shape, kvt_box_fn each, void *arg)
{
    size_t start[KVT_TRACE_MAX_RANK] = {0}, count[KVT_TRACE_MAX_RANK] = {0};
    int rank = b->rank;
    const void *values;
    if (!rank)
        return read_box(b, start, count, &values) && (each(arg, start, count, values), true);
    /* dimensions before `split` are walked one by one, it in runs, those behind it are whole */
    int split = rank > 1 ? rank - 2 : 0;
    size_t below = rank > 1 ? shape[rank - 1] : 1;
    for (; split > 0 && below * shape[split] <= BOX_VALUES; split--)
        below *= shape[split];
    size_t at_once = BOX_VALUES / below ? BOX_VALUES / below : 1;
    while (start[0] < shape[0]) {
        for (int i = 0; i < rank; i++)
            count[i] = i < split ? 1 : i > split ? shape[i] : shape[i] - start[i] < at_once ? shape[i] - start[i] : at_once;
        if (!read_box(b, start, count, &values))
            return false;
        if (!each(arg, start, count, values))
            break;
        int i = split;
        start[i] += count[i];
        while (i > 0 && start[i] >= shape[i]) {
            start[i--] = 0;
            start[i]++;
        }
    }
    return true;
}

int kvt_trace_boxes(struct kvt_trace *t, enum kvt_dataset id, int branch, bool doubles, kvt_box_fn each, void *arg, struct kvt_err *err)
{
    struct kvt_dataset_info d;
    size_t shape[KVT_TRACE_MAX_RANK] = {0}, most = BOX_VALUES, all = 1, len = 0;
    char path[96];
    kvt_schema_get(id, &d);
    hid_t ds = kvt_trace_dataset(t, id, branch, &len, NULL, err);
    if (ds < 0)
        return err ? err->code : KVT_EFORMAT;
    bool empty = false;
    for (int i = 0; i < d.rank; i++) {
        shape[i] = t->extent[d.dim[i]];
        empty = empty || !shape[i]; /* its dimension has no scale */
        all *= shape[i];           /* was found to be no overflow */
    }
    if (d.rank && shape[d.rank - 1] > most)
        most = shape[d.rank - 1];
    doubles = doubles && d.type != KVT_H5_F64;
    struct boxes b = {ds, kvt_h5_mem_type(d.type, len), d.type, d.rank, NULL, NULL};
    b.buf = kvt_calloc(all < most ? all : most, kvt_h5_type_bytes(d.type, len));
    b.real = doubles ? kvt_calloc(all < most ? all : most, sizeof *b.real) : NULL;
    bool room = b.buf && (b.real || !doubles), ok = empty || (b.type >= 0 && room && each_box(&b, shape, each, arg));
    free(b.buf);
    free(b.real);
    if (b.type >= 0)
        H5Tclose(b.type);
    H5Dclose(ds);
    if (!room && !empty)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory", t->path);
    return ok ? KVT_OK : kvt_h5_fail(err, KVT_EFORMAT, "%s: cannot read /prompt/%s/%s", t->path, t->info.prompt_id,
                                     kvt_schema_path(&d, branch, path, sizeof path));
}

char *kvt_trace_prompts(struct kvt_trace *t, char *first, size_t cap)
{
    char name[160];
    H5G_info_t g;
    *first = '\0';
    if (H5Gget_info_by_name(t->file, "prompt", &g, H5P_DEFAULT) < 0 || !g.nlinks || g.nlinks > 100000)
        return NULL;
    bool listed = H5Lget_name_by_idx(t->file, "prompt", H5_INDEX_CRT_ORDER, H5_ITER_INC, 0, name, sizeof name, H5P_DEFAULT) > 0;
    char *all = kvt_calloc(g.nlinks, sizeof name + 2), *end = all;
    for (hsize_t i = 0; all && i < g.nlinks; i++)
        if (H5Lget_name_by_idx(t->file, "prompt", listed ? H5_INDEX_CRT_ORDER : H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT) > 0) {
            if (!*first)
                snprintf(first, cap, "%s", name);
            end += sprintf(end, "%s%s", end > all ? ", " : "", name);
        }
    *t->why.text = '\0'; /* of the order that isn't known */
    return all;
}

static int check_branch(struct kvt_trace *t, int branch, struct kvt_err *err)
{
    kvt_h5_quiet(&t->why);
    if (branch < 0 || branch >= t->info.n_branches)
        return kvt_fail(err, KVT_EINPUT, "%s has no branch %d; the last is %d", t->path, branch, t->info.n_branches - 1);
    return KVT_OK;
}

static int absent(struct kvt_trace *t, struct kvt_err *err, const char *what, const char *how)
{
    return kvt_fail(err, KVT_EINPUT, "%s holds no %s; %s", t->path, what, how);
}

int kvt_trace_evicted_at(struct kvt_trace *t, int branch, int32_t *out, struct kvt_err *err)
{
    int rc = check_branch(t, branch, err);
    return rc ? rc : kvt_trace_get(t, KVT_DS_EVICTED, branch, NULL, NULL, out, err);
}

int kvt_trace_reason(struct kvt_trace *t, int branch, uint8_t *out, struct kvt_err *err)
{
    int rc = check_branch(t, branch, err);
    if (!rc && !kvt_trace_has_dataset(t, KVT_DS_REASON, branch))
        rc = absent(t, err, "reasons: it was made without decisions", "trace again with --method");
    return rc ? rc : kvt_trace_get(t, KVT_DS_REASON, branch, NULL, NULL, out, err);
}

int kvt_trace_cells(struct kvt_trace *t, int branch, int32_t *asked, int32_t *kept, struct kvt_err *err)
{
    int rc = check_branch(t, branch, err);
    rc = rc ? rc : kvt_trace_get(t, KVT_DS_BUDGET, branch, NULL, NULL, asked, err);
    return rc ? rc : kvt_trace_get(t, KVT_DS_KEPT, branch, NULL, NULL, kept, err);
}

static int check_score(struct kvt_trace *t, int branch, struct kvt_err *err)
{
    int rc = check_branch(t, branch, err);
    if (!rc && (!t->branch[branch].R || !kvt_trace_has_dataset(t, KVT_DS_SCORE, branch)))
        rc = kvt_fail(err, KVT_EINPUT, "%s: branch \"%s\" ranks nothing, so it has no scores", t->path, t->branch[branch].name);
    return rc;
}

int kvt_trace_score(struct kvt_trace *t, int branch, float *out, float *threshold, struct kvt_err *err)
{
    int rc = check_score(t, branch, err);
    if (rc)
        return rc;
    size_t L = (size_t)t->info.L, R = (size_t)t->branch[branch].R, n = (size_t)t->info.n_context;
    rc = kvt_trace_get(t, KVT_DS_SCORE, branch, (size_t[]){0, 0, 0}, (size_t[]){L, R, n}, out, err);
    return rc || !threshold ? rc : kvt_trace_get(t, KVT_DS_THRESHOLD, branch, (size_t[]){0, 0}, (size_t[]){L, R}, threshold, err);
}

int kvt_trace_score_layer(struct kvt_trace *t, int branch, int layer, float *out, struct kvt_err *err)
{
    int rc = check_score(t, branch, err);
    if (!rc && (layer < 0 || layer >= t->info.L))
        rc = kvt_fail(err, KVT_EINPUT, "%s has no layer %d; the last is %d", t->path, layer, t->info.L - 1);
    return rc ? rc : kvt_trace_get(t, KVT_DS_SCORE, branch, (size_t[]){(size_t)layer, 0, 0},
                                   (size_t[]){1, (size_t)t->branch[branch].R, (size_t)t->info.n_context}, out, err);
}

int kvt_trace_raw(struct kvt_trace *t, const char *what, int w, int layer, float *out, struct kvt_err *err)
{
    static const struct { const char *name; enum kvt_dataset id; } raw[] = {
        {"mass", KVT_DS_MASS}, {"wmass", KVT_DS_WMASS}, {"last", KVT_DS_LAST}, {"entropy", KVT_DS_ENTROPY}, {"sink", KVT_DS_SINK},
        {"visible", KVT_DS_VISIBLE}, {"square", KVT_DS_SQUARE}, {"max", KVT_DS_MAX}, {"keys", KVT_DS_KEYS}, {"local", KVT_DS_LOCAL_MASS}};
    kvt_h5_quiet(&t->why);
    size_t H = (size_t)t->info.H, n = (size_t)t->info.n_prompt;
    if (layer < 0 || layer >= t->info.L)
        return kvt_fail(err, KVT_EINPUT, "%s has no layer %d; the last is %d", t->path, layer, t->info.L - 1);
    for (size_t i = 0; i < sizeof raw / sizeof *raw; i++) {
        if (strcmp(raw[i].name, what))
            continue;
        if (!kvt_trace_has_dataset(t, raw[i].id, 0))
            return i < 5 ? kvt_fail(err, KVT_EINPUT, "%s holds no raw scores (%s); trace again with --see scores", t->path, what)
                         : kvt_fail(err, KVT_EINPUT, "%s holds no score/%s; trace again with --see scores,%s", t->path, what, what);
        if (raw[i].id != KVT_DS_WMASS)
            return kvt_trace_get(t, raw[i].id, 0, (size_t[]){(size_t)layer, 0, 0}, (size_t[]){1, H, n}, out, err);
        if (w < 0 || w >= t->info.n_windows)
            return kvt_fail(err, KVT_EINPUT, "%s has no window %d; it has %d", t->path, w, t->info.n_windows);
        return kvt_trace_get(t, raw[i].id, 0, (size_t[]){(size_t)w, (size_t)layer, 0, 0}, (size_t[]){1, 1, H, n}, out, err);
    }
    return kvt_fail(err, KVT_EINPUT, "no raw score '%s'; there are mass, wmass, last, entropy, sink, visible, square, max, keys and local", what);
}

static int check_layer(struct kvt_trace *t, int layer, struct kvt_err *err)
{
    kvt_h5_quiet(&t->why);
    return layer >= 0 && layer < t->info.L ? KVT_OK : kvt_fail(err, KVT_EINPUT, "%s has no layer %d; the last is %d", t->path, layer, t->info.L - 1);
}

/* One layer of a dataset [layer, head, ...]. */
static int get_layer(struct kvt_trace *t, enum kvt_dataset id, int layer, const char *how, void *out, struct kvt_err *err)
{
    struct kvt_dataset_info d;
    size_t start[KVT_TRACE_MAX_RANK] = {(size_t)layer}, count[KVT_TRACE_MAX_RANK] = {1};
    int rc = check_layer(t, layer, err);
    kvt_schema_get(id, &d);
    for (int i = 1; i < d.rank; i++)
        count[i] = t->extent[d.dim[i]];
    if (!rc && !kvt_trace_has_dataset(t, id, 0))
        rc = kvt_fail(err, KVT_EINPUT, "%s holds no %s; trace with --see %s", t->path, d.path, how);
    return rc ? rc : kvt_trace_get(t, id, 0, start, count, out, err);
}

int kvt_trace_distance(struct kvt_trace *t, int layer, float *out, struct kvt_err *err)
{
    return get_layer(t, KVT_DS_DISTANCE, layer, "distance", out, err);
}

int kvt_trace_offset(struct kvt_trace *t, int layer, float *out, struct kvt_err *err)
{
    return get_layer(t, KVT_DS_OFFSET, layer, "'distance[17+32]'", out, err);
}

int kvt_trace_spans(struct kvt_trace *t, int layer, float *out, struct kvt_err *err)
{
    return get_layer(t, KVT_DS_SPANS, layer, "spans and a prompt that has some", out, err);
}

int kvt_trace_top(struct kvt_trace *t, int layer, float *out, int32_t *at, struct kvt_err *err)
{
    int rc = get_layer(t, KVT_DS_TOP, layer, "'top[8]'", out, err);
    return rc ? rc : get_layer(t, KVT_DS_TOP_AT, layer, "'top[8]'", at, err);
}

/* One step of a dataset [step, layer, head, ...]. */
static int get_row_step(struct kvt_trace *t, enum kvt_dataset id, int step, const char *how, void *out, struct kvt_err *err)
{
    struct kvt_dataset_info d;
    size_t start[KVT_TRACE_MAX_RANK] = {(size_t)step - 1}, count[KVT_TRACE_MAX_RANK] = {1};
    kvt_h5_quiet(&t->why);
    kvt_schema_get(id, &d);
    for (int i = 1; i < d.rank; i++)
        count[i] = t->extent[d.dim[i]];
    if (step < 1 || step > t->info.n_steps)
        return kvt_fail(err, KVT_EINPUT, "%s has no step %d; the last is %d", t->path, step, t->info.n_steps);
    if (!kvt_trace_has_dataset(t, id, 0))
        return kvt_fail(err, KVT_EINPUT, "%s holds no %s; trace with --see scores%s%s,decode", t->path, d.path, *how ? "," : "", how);
    return kvt_trace_get(t, id, 0, start, count, out, err);
}

int kvt_trace_decode(struct kvt_trace *t, const char *what, int step, float *out, struct kvt_err *err)
{
    static const struct { const char *name, *how; enum kvt_dataset id; } of[] = {
        {"entropy", "", KVT_DS_ROW_ENTROPY}, {"keys", "keys", KVT_DS_ROW_KEYS}, {"first", "", KVT_DS_ROW_FIRST}, {"sink", "", KVT_DS_ROW_SINK}, {"local", "", KVT_DS_ROW_LOCAL},
        {"own", "", KVT_DS_ROW_OWN}, {"distance", "distance", KVT_DS_ROW_DISTANCE}, {"offset", "'distance[17+32]'", KVT_DS_ROW_OFFSET},
        {"spans", "spans", KVT_DS_ROW_SPANS}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        if (!strcmp(of[i].name, what))
            return get_row_step(t, of[i].id, step, of[i].how, out, err);
    return kvt_fail(err, KVT_EINPUT, "no '%s' of decoded rows; there are entropy, keys, first, sink, local, own, distance, offset and spans", what);
}

int kvt_trace_decode_top(struct kvt_trace *t, int step, float *out, int32_t *at, struct kvt_err *err)
{
    int rc = get_row_step(t, KVT_DS_ROW_TOP, step, "'top[8]'", out, err);
    return rc ? rc : get_row_step(t, KVT_DS_ROW_TOP_AT, step, "'top[8]'", at, err);
}

static int check_head(struct kvt_trace *t, int layer, int head, struct kvt_err *err)
{
    kvt_h5_quiet(&t->why);
    if (layer < 0 || layer >= t->info.L || head < 0 || head >= t->info.H)
        return kvt_fail(err, KVT_EINPUT, "%s has no layer %d, head %d; the last are %d and %d", t->path, layer, head, t->info.L - 1,
                        t->info.H - 1);
    return KVT_OK;
}

/* Scaled f16 as what it stands for. The f16 values fit in the second half of the floats they become. */
static int get_half(struct kvt_trace *t, enum kvt_dataset id, const size_t *start, const size_t *count, size_t values, float *out, struct kvt_err *err)
{
    uint16_t *half = (uint16_t *)(void *)out + values;
    int rc = kvt_trace_get(t, id, 0, start, count, half, err);
    for (size_t i = 0; !rc && i < values; i++) {
        uint16_t v;
        memcpy(&v, (char *)out + 2 * values + 2 * i, sizeof v);
        float f = kvt_f32_from_f16(v) * (1.0f / KVT_FULL_SCALE);
        memcpy((char *)out + 4 * i, &f, sizeof f);
    }
    return rc;
}

int kvt_trace_map(struct kvt_trace *t, const char *what, int layer, int head, float *out, struct kvt_err *err)
{
    int rc = check_head(t, layer, head, err);
    bool mean = !strcmp(what, "mean");
    if (!rc && !mean && strcmp(what, "max"))
        rc = kvt_fail(err, KVT_EINPUT, "no map '%s'; there are mean and max", what);
    if (!rc && !t->info.map_r)
        rc = absent(t, err, "pooled maps", "trace with --maps pooled");
    size_t n = (size_t)t->info.map_r * (size_t)t->info.map_c;
    return rc ? rc : get_half(t, mean ? KVT_DS_MAP_MEAN : KVT_DS_MAP_MAX, (size_t[]){(size_t)layer, (size_t)head, 0, 0},
                              (size_t[]){1, 1, (size_t)t->info.map_r, (size_t)t->info.map_c}, n, out, err);
}

static int index_of(const int32_t *v, size_t n, int what)
{
    for (size_t i = 0; v && i < n; i++)
        if (v[i] == what)
            return (int)i;
    return -1;
}

int kvt_trace_full_part(struct kvt_trace *t, int layer, int head, int row, int rows, int col, int cols, float *out, struct kvt_err *err)
{
    int rc = check_head(t, layer, head, err);
    if (rc)
        return rc;
    assert(row >= 0 && rows >= 0 && row + rows <= t->info.n_prompt && col >= 0 && cols >= 0 && col + cols <= t->info.n_prompt);
    int l = index_of(t->full_layer, t->extent[KVT_DIM_full_layer], layer);
    int h = index_of(t->full_head, t->extent[KVT_DIM_full_head], head);
    if (l < 0 || h < 0)
        return kvt_fail(err, KVT_EINPUT, "%s holds no full map of layer %d, head %d; trace with --maps full --layers %d --heads %d",
                        t->path, layer, head, layer, head);
    size_t values;
    if (!kvt_mul_size((size_t)rows, (size_t)cols, &values))
        return kvt_fail(err, KVT_ENOMEM, "a map of %d x %d is too large", rows, cols);
    return get_half(t, KVT_DS_FULL, (size_t[]){(size_t)l, (size_t)h, (size_t)row, (size_t)col}, (size_t[]){1, 1, (size_t)rows, (size_t)cols}, values, out, err);
}

int kvt_trace_full(struct kvt_trace *t, int layer, int head, float *out, struct kvt_err *err)
{
    return kvt_trace_full_part(t, layer, head, 0, t->info.n_prompt, 0, t->info.n_prompt, out, err);
}

int kvt_trace_decode_row(struct kvt_trace *t, int step, int layer, float *out, struct kvt_err *err)
{
    int rc = check_layer(t, layer, err);
    if (!rc && !t->info.has_rows)
        rc = absent(t, err, "rows of the steps", "trace with --see rows");
    if (!rc && (step < 1 || step > t->info.n_steps))
        rc = kvt_fail(err, KVT_EINPUT, "%s has no step %d; the last is %d", t->path, step, t->info.n_steps);
    return rc ? rc : kvt_trace_get(t, KVT_DS_DECODE_ROWS, 0, (size_t[]){(size_t)step - 1, (size_t)layer, 0, 0},
                                   (size_t[]){1, 1, (size_t)t->info.H, (size_t)t->info.n_tok}, out, err);
}

/* One column of a [step, branch] dataset, the steps done. */
static int column(struct kvt_trace *t, enum kvt_dataset id, int branch, void *out, struct kvt_err *err)
{
    size_t n = (size_t)t->info.n_steps;
    return n ? kvt_trace_get(t, id, 0, (size_t[]){0, (size_t)branch}, (size_t[]){n, 1}, out, err) : KVT_OK;
}

int kvt_trace_series(struct kvt_trace *t, int branch, const char *what, float *out, struct kvt_err *err)
{
    int rc = check_branch(t, branch, err);
    if (rc)
        return rc;
    if (!strcmp(what, "kl"))
        return column(t, KVT_DS_STEP_KL, branch, out, err);
    if (!strcmp(what, "logprob"))
        return column(t, KVT_DS_STEP_LOGPROB, branch, out, err);
    if (!strcmp(what, "entropy"))
        return column(t, KVT_DS_STEP_ENTROPY, branch, out, err);
    return kvt_fail(err, KVT_EINPUT, "no series '%s'; there are kl, logprob and entropy", what);
}

int kvt_trace_fidelity_of(struct kvt_trace *t, int branch, const char *what, float *out, struct kvt_err *err)
{
    static const struct { const char *name, *option; enum kvt_dataset id; } of[] = {
        {"lost_mass", "lost", KVT_DS_LOST_MASS}, {"lost_rest", "lost", KVT_DS_LOST_REST},
        {"output_local", "output", KVT_DS_LOCAL}, {"output_propagated", "output", KVT_DS_PROPAGATED}};
    int rc = check_branch(t, branch, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        if (strcmp(of[i].name, what))
            continue;
        if (!kvt_trace_has_dataset(t, of[i].id, 0))
            return kvt_fail(err, KVT_EINPUT, "%s holds no %s; trace with --fidelity %s", t->path, what, of[i].option);
        size_t n = (size_t)t->info.n_steps, L = (size_t)t->info.L, G = (size_t)t->info.G;
        return n ? kvt_trace_get(t, of[i].id, 0, (size_t[]){0, (size_t)branch, 0, 0}, (size_t[]){n, 1, L, G}, out, err) : KVT_OK;
    }
    return kvt_fail(err, KVT_EINPUT, "no fidelity '%s'; there are lost_mass, lost_rest, output_local and output_propagated", what);
}

int kvt_trace_bytes(struct kvt_trace *t, int branch, const char *what, int64_t *out, struct kvt_err *err)
{
    int rc = check_branch(t, branch, err);
    if (!rc && strcmp(what, "alone") && strcmp(what, "own"))
        rc = kvt_fail(err, KVT_EINPUT, "no bytes '%s'; there are alone and own", what);
    return rc ? rc : column(t, *what == 'a' ? KVT_DS_STEP_ALONE : KVT_DS_STEP_OWN, branch, out, err);
}

int kvt_trace_tokens(struct kvt_trace *t, int branch, const char *what, int32_t *out, struct kvt_err *err)
{
    int rc = check_branch(t, branch, err);
    if (!rc && strcmp(what, "forced") && strcmp(what, "free"))
        rc = kvt_fail(err, KVT_EINPUT, "no tokens '%s'; there are forced and free", what);
    return rc ? rc : column(t, !strcmp(what, "forced") ? KVT_DS_STEP_ARGMAX : KVT_DS_FREE_TOKEN, branch, out, err);
}

int kvt_trace_token_text(struct kvt_trace *t, int branch, const char *what, int step, char *out, size_t cap, struct kvt_err *err)
{
    int rc = check_branch(t, branch, err);
    *out = '\0';
    if (rc || step < 1 || step > t->info.n_steps)
        return rc;
    size_t len = 0;
    enum kvt_dataset id = !strcmp(what, "free") ? KVT_DS_FREE_TEXT : KVT_DS_STEP_TEXT;
    hid_t ds = kvt_trace_dataset(t, id, 0, &len, NULL, err);
    if (ds < 0)
        return err ? err->code : KVT_EFORMAT;
    H5Dclose(ds);
    char *field = kvt_calloc(len + 1, 1);
    if (!field)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory", t->path);
    rc = kvt_trace_get(t, id, 0, (size_t[]){(size_t)step - 1, (size_t)branch}, (size_t[]){1, 1}, field, err);
    if (!rc && cap)
        snprintf(out, cap, "%s", field);
    free(field);
    return rc;
}

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

struct walk { void (*each)(void *, const char *, uint64_t, uint64_t, const char *, const char *); void *arg; };

static bool walk_one(struct kvt_trace *t, enum kvt_dataset id, int branch, const struct walk *w, struct kvt_err *err)
{
    struct kvt_dataset_info d;
    char path[96];
    bool missing;
    kvt_schema_get(id, &d);
    size_t len = 0;
    hid_t ds = kvt_trace_dataset(t, id, branch, &len, &missing, err);
    if (ds < 0)
        return missing;
    uint64_t logical = kvt_h5_type_bytes(d.type, len);
    for (int i = 0; i < d.rank; i++)
        logical *= t->extent[d.dim[i]];
    w->each(w->arg, kvt_schema_path(&d, branch, path, sizeof path), H5Dget_storage_size(ds), logical, d.unit, d.meaning);
    H5Dclose(ds);
    return true;
}

int kvt_trace_walk(struct kvt_trace *t, void (*each)(void *arg, const char *path, uint64_t stored, uint64_t logical, const char *unit, const char *meaning),
                   void *arg, struct kvt_err *err)
{
    struct walk w = {each, arg};
    kvt_h5_quiet(&t->why);
    for (int id = 0; id < KVT_N_DATASET; id++) {
        struct kvt_dataset_info d;
        kvt_schema_get((enum kvt_dataset)id, &d);
        for (int b = 0; b < (d.per_branch ? t->info.n_branches : 1); b++)
            if (!walk_one(t, (enum kvt_dataset)id, b, &w, err))
                return err ? err->code : KVT_EFORMAT;
    }
    return KVT_OK;
}

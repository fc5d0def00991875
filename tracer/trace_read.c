/* Opening a trace and describing it. Every dataset is compared with the schema here, once, so that sizes in the info can
 * be trusted for allocation. */
#include "tracer/trace_data.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "tracer/h5_own.h"

#define MAX_EXTENT (1u << 24)

/* Remembers p for close; NULL without memory (p is freed then). */
static void *own(struct kvt_trace *t, void *p)
{
    if (!p)
        return NULL;
    if (t->n_owned == t->cap_owned) {
        size_t cap = t->cap_owned ? 2 * t->cap_owned : 64;
        char **grown = realloc(t->owned, cap * sizeof *grown);
        if (!grown) {
            free(p);
            return NULL;
        }
        t->owned = grown;
        t->cap_owned = cap;
    }
    t->owned[t->n_owned++] = p;
    return p;
}

static void *own_array(struct kvt_trace *t, size_t n, size_t size) { return own(t, kvt_calloc(n ? n : 1, size)); }

static char *copy_text(struct kvt_trace *t, const char *text, size_t len)
{
    char *s = own_array(t, len + 1, 1);
    if (s)
        memcpy(s, text, len);
    return s;
}

/* A string attribute of fixed length, "" where there is none or it is something else. */
static const char *attr_str(struct kvt_trace *t, hid_t at, const char *name)
{
    if (H5Aexists(at, name) <= 0)
        return "";
    hid_t a = H5Aopen(at, name, H5P_DEFAULT), type = a < 0 ? -1 : H5Aget_type(a), space = a < 0 ? -1 : H5Aget_space(a);
    const char *s = NULL;
    size_t size = type < 0 ? 0 : H5Tget_size(type);
    bool one = type >= 0 && space >= 0 && H5Tget_class(type) == H5T_STRING && H5Sget_simple_extent_npoints(space) == 1;
    if (one && H5Tis_variable_str(type) == 0 && size >= 1 && size <= (1u << 20)) {
        char *v = kvt_calloc(size, 1);
        if (v && H5Aread(a, type, v) >= 0)
            s = copy_text(t, v, strnlen(v, size));
        free(v);
    }
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    if (a >= 0)
        H5Aclose(a);
    return s ? s : "";
}

/* Names and notes go to terminals as they are: control characters, which no writer of ours puts there, become blanks. */
static void make_plain(char *s)
{
    for (unsigned char *u = (unsigned char *)s; *u; u++) {
        bool two = *u == 0xc2 && u[1] >= 0x80 && u[1] < 0xa0; /* U+0080 to U+009F */
        if (two)
            *u++ = ' ';
        if (two || *u < 0x20 || *u == 0x7f)
            *u = ' ';
    }
}

static const char *attr_name(struct kvt_trace *t, hid_t at, const char *name)
{
    const char *s = attr_str(t, at, name);
    char *copy = copy_text(t, s, strlen(s));
    if (copy)
        make_plain(copy);
    return copy ? copy : "";
}

static int64_t attr_i64(hid_t at, const char *name, int64_t none)
{
    int64_t v;
    return kvt_h5_get_number(at, name, H5T_INTEGER, H5T_NATIVE_INT64, &v) ? v : none;
}

static int bounded(int64_t v) { return v < 0 || v > INT32_MAX ? 0 : (int)v; }

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static int open_file(struct kvt_trace *t, const char *path, struct kvt_err *err)
{
    size_t n = strlen(path) + sizeof ".part";
    t->path = own_array(t, n, 1);
    if (!t->path)
        return kvt_fail(err, KVT_ENOMEM, "no memory");
    snprintf(t->path, n, "%s", path);
    if (access(t->path, R_OK)) {
        int e = errno;
        snprintf(t->path, n, "%s.part", path); /* of a run that goes on, or didn't end */
        if (e != ENOENT || access(t->path, R_OK))
            return kvt_fail(err, KVT_EINPUT, "cannot read %s: %s", path, strerror(e));
    }
    htri_t hdf5 = H5Fis_hdf5(t->path);
    if (hdf5 <= 0) {
        *t->why.text = '\0';
        return kvt_fail(err, KVT_EFORMAT, "%s is not an HDF5 file", t->path);
    }
    /* An ordinary file; one that is marked as being written; one whose last growth a full disk refused (what lies before
     * is whole). */
    const struct { unsigned flags; bool cut; } way[] = {
        {H5F_ACC_RDONLY, false}, {H5F_ACC_RDONLY | H5F_ACC_SWMR_READ, false},
        {H5F_ACC_RDONLY, true}, {H5F_ACC_RDONLY | H5F_ACC_SWMR_READ, true}};
    for (size_t i = 0; i < sizeof way / sizeof *way && t->file < 0; i++) {
        hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
        if (fapl < 0 || (way[i].cut && !kvt_h5_accept_cut(fapl)))
            break;
        /* Beside a writer HDF5 reads a damaged object 100 times, and waits twice as long each time: for ever. These are
         * a tenth of a second. */
        if (way[i].flags & H5F_ACC_SWMR_READ)
            H5Pset_metadata_read_attempts(fapl, 26);
        t->file = H5Fopen(t->path, way[i].flags, fapl);
        t->growing = way[i].flags & H5F_ACC_SWMR_READ;
        H5Pclose(fapl);
    }
    if (t->file < 0)
        return kvt_h5_fail(err, KVT_EFORMAT, "%s is damaged or cut short", t->path);
    *t->why.text = '\0'; /* of the ways that didn't do */
    return KVT_OK;
}

static int open_prompt(struct kvt_trace *t, const char *id, struct kvt_err *err)
{
    char first[160], name[176];
    int64_t version = attr_i64(t->file, "schema_version", -1);
    if (strncmp(attr_str(t, t->file, "Conventions"), "kvtrace-", 8) || version < 1)
        return kvt_fail(err, KVT_EFORMAT, "%s is an HDF5 file, but not a trace of kvtrace", t->path);
    if (version > KVT_SCHEMA_VERSION)
        return kvt_fail(err, KVT_EUNSUP, "%s has format version %lld; this program knows %d", t->path, (long long)version, KVT_SCHEMA_VERSION);
    t->info.schema_version = (int)version;
    t->info.schema_minor = bounded(attr_i64(t->file, "schema_minor", 0));
    if (kvt_h5_link_at(t->file, "prompt") != KVT_H5_OWN)
        return kvt_fail(err, KVT_EFORMAT, "%s has no group /prompt of its own", t->path);
    char *prompts = own(t, kvt_trace_prompts(t, first, sizeof first));
    if (prompts)
        make_plain(prompts);
    t->info.prompts = prompts ? prompts : "";
    if (!id) {
        if (!*first)
            return kvt_h5_fail(err, KVT_EFORMAT, "%s holds no prompt", t->path);
        make_plain(first); /* then it isn't found, and can be said */
        id = first;
    }
    char *copy = own_array(t, strlen(id) + 1, 1);
    if (!copy)
        return kvt_fail(err, KVT_ENOMEM, "no memory");
    t->info.prompt_id = strcpy(copy, id);
    if (!*id || strlen(id) >= sizeof first || strchr(id, '/') || (snprintf(name, sizeof name, "prompt/%s", id), H5Lexists(t->file, name, H5P_DEFAULT) <= 0))
        return kvt_fail(err, KVT_EINPUT, "%s holds no prompt '%s'", t->path, id);
    const char *wrong;
    t->prompt = kvt_h5_open_beside(t->file, name, t->path, &wrong);
    if (t->prompt < 0 && wrong)
        return kvt_fail(err, KVT_EFORMAT, "%s: /%s %s", t->path, name, wrong);
    if (t->prompt < 0)
        return kvt_h5_fail(err, KVT_EFORMAT, "%s: /%s is not a group that can be opened", t->path, name);
    return KVT_OK;
}

/* Extents come from the dimension scales; *value (owned) gets their values where asked. */
static int read_scale(struct kvt_trace *t, enum kvt_dim dim, int32_t **value, struct kvt_err *err)
{
    const char *name = kvt_dims[dim].name;
    const char *wrong;
    if (kvt_h5_link_at(t->prompt, name) == KVT_H5_NOTHING)
        return KVT_OK;
    hid_t ds = kvt_h5_open_own(t->prompt, name, &wrong), space = ds < 0 ? -1 : H5Dget_space(ds), type = ds < 0 ? -1 : H5Dget_type(ds);
    hsize_t n = 0;
    bool ok = space >= 0 && type >= 0 && H5Tget_class(type) == H5T_INTEGER && H5Sget_simple_extent_ndims(space) == 1 &&
              H5Sget_simple_extent_dims(space, &n, NULL) >= 0 && n >= 1 && n <= MAX_EXTENT;
    if (ok && value) {
        *value = own_array(t, n, sizeof **value);
        ok = *value && H5Dread(ds, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, *value) >= 0;
    }
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    if (ds >= 0)
        H5Dclose(ds);
    if (!ok)
        return kvt_h5_fail(err, KVT_EFORMAT, "%s: dimension '%s' is damaged", t->path, name);
    t->extent[dim] = n;
    return KVT_OK;
}

static int read_shape(struct kvt_trace *t, struct kvt_err *err)
{
    int32_t *window = NULL, *distance = NULL, *far = NULL, *offset = NULL, *span = NULL, *late = NULL;
    int32_t **values[KVT_N_DIM] = {[KVT_DIM_window] = &window, [KVT_DIM_full_layer] = &t->full_layer, [KVT_DIM_full_head] = &t->full_head,
                                   [KVT_DIM_distance] = &distance, [KVT_DIM_row_distance] = &far, [KVT_DIM_offset] = &offset, [KVT_DIM_query_span] = &span, [KVT_DIM_late_row] = &late};
    for (int i = 0; i < KVT_N_DIM; i++) {
        int rc = read_scale(t, (enum kvt_dim)i, values[i], err);
        if (rc)
            return rc;
    }
    const size_t *e = t->extent;
    struct kvt_trace_info *in = &t->info;
    if (!e[KVT_DIM_layer] || !e[KVT_DIM_head] || !e[KVT_DIM_kv_head] || !e[KVT_DIM_prompt_token] || !e[KVT_DIM_branch])
        return kvt_fail(err, KVT_EFORMAT, "%s lacks one of the dimensions layer, head, kv_head, prompt_token and branch", t->path);
    if (e[KVT_DIM_layer] > 65536 || e[KVT_DIM_head] > 65536 || e[KVT_DIM_branch] > 65536 || e[KVT_DIM_window] > 8 ||
        e[KVT_DIM_square] > 8 || (e[KVT_DIM_question] && e[KVT_DIM_question] != e[KVT_DIM_prompt_token] - e[KVT_DIM_context]) || e[KVT_DIM_head] % e[KVT_DIM_kv_head] || e[KVT_DIM_context] > e[KVT_DIM_prompt_token] ||
        e[KVT_DIM_query] != e[KVT_DIM_prompt_token] || e[KVT_DIM_key] != e[KVT_DIM_prompt_token] ||
        e[KVT_DIM_token] != e[KVT_DIM_prompt_token] + e[KVT_DIM_step] || e[KVT_DIM_query_span] != e[KVT_DIM_key_span])
        return kvt_fail(err, KVT_EFORMAT, "%s: its dimensions contradict each other", t->path);
    in->L = (int)e[KVT_DIM_layer], in->H = (int)e[KVT_DIM_head], in->G = (int)e[KVT_DIM_kv_head];
    in->n_prompt = (int)e[KVT_DIM_prompt_token];
    in->n_context = (int)e[KVT_DIM_context];
    in->n_new = (int)e[KVT_DIM_step], in->n_tok = (int)e[KVT_DIM_token];
    in->n_branches = (int)e[KVT_DIM_branch], in->n_spans = (int)e[KVT_DIM_span];
    in->map_r = (int)e[KVT_DIM_query_bin], in->map_c = (int)e[KVT_DIM_key_bin];
    in->n_windows = (int)e[KVT_DIM_window];
    for (int i = 0; i < in->n_windows; i++)
        in->window[i] = window[i];
    in->n_distances = (int)e[KVT_DIM_distance], in->n_offsets = (int)e[KVT_DIM_offset], in->top_k = (int)e[KVT_DIM_rank];
    in->n_row_distances = (int)e[KVT_DIM_row_distance], in->row_distance = far, in->distance = distance, in->offset = offset, in->map_span = span, in->n_map_spans = (int)e[KVT_DIM_query_span];
    in->n_late = (int)e[KVT_DIM_late_row], in->late_from = late ? late[0] : 0, in->n_squares = (int)e[KVT_DIM_square], in->n_question = (int)e[KVT_DIM_question];
    for (int i = 0; i < in->n_late; i++)
        if (late[i] != late[0] + i || late[0] < 0 || late[i] >= in->n_prompt)
            return kvt_fail(err, KVT_EFORMAT, "%s: dimension 'late_row' isn't a run of the prompt's positions", t->path);
    for (int i = 0; i < in->n_map_spans; i++)
        if (span[i] < 0 || span[i] >= in->n_spans)
            return kvt_fail(err, KVT_EFORMAT, "%s: dimension 'query_span' names span %d of %d", t->path, span[i], in->n_spans);
    return KVT_OK;
}

bool kvt_trace_optional(const struct kvt_trace *t, const struct kvt_dataset_info *d)
{
    for (int i = 0; i < d->rank; i++)
        if (!t->extent[d->dim[i]])
            return true;
    return d->when != KVT_WHEN_ALWAYS || d->since > t->info.schema_minor;
}

static int check_datasets(struct kvt_trace *t, struct kvt_err *err)
{
    for (int i = 0; i < KVT_N_DATASET; i++) {
        struct kvt_dataset_info d;
        enum kvt_dataset id = (enum kvt_dataset)i;
        kvt_schema_get(id, &d);
        for (int b = 0; b < (d.per_branch ? t->info.n_branches : 1); b++) {
            bool missing, may = kvt_trace_optional(t, &d);
            hid_t ds = kvt_trace_dataset(t, id, b, NULL, may ? &missing : NULL, err);
            if (ds < 0 && !(may && missing))
                return err ? err->code : KVT_EFORMAT;
            if (ds >= 0)
                H5Dclose(ds);
        }
    }
    return KVT_OK;
}

/* ---- contents ---------------------------------------------------------------------------------------------------- */

/* n strings of a dataset as an array of pointers, all owned. */
static int read_strings(struct kvt_trace *t, enum kvt_dataset id, size_t n, const char ***out, struct kvt_err *err)
{
    size_t len = 0;
    hid_t ds = kvt_trace_dataset(t, id, 0, &len, NULL, err);
    if (ds < 0)
        return err ? err->code : KVT_EFORMAT;
    H5Dclose(ds);
    char *flat = kvt_calloc(n, len), *text = own_array(t, n, len + 1);
    const char **p = own_array(t, n, sizeof *p);
    int rc = flat && text && p ? kvt_trace_get(t, id, 0, NULL, NULL, flat, err) : kvt_fail(err, KVT_ENOMEM, "%s: no memory for its strings", t->path);
    for (size_t i = 0; !rc && i < n; i++) {
        char *one = text + i * (len + 1);
        memcpy(one, flat + i * len, len);
        if (id != KVT_DS_TEXT && id != KVT_DS_TOK_TEXT && id != KVT_DS_RES_TEXT)
            make_plain(one);
        p[i] = one;
    }
    free(flat);
    *out = p;
    return rc;
}

static int read_ints(struct kvt_trace *t, enum kvt_dataset id, size_t n, int32_t **out, struct kvt_err *err)
{
    *out = own_array(t, n, sizeof **out);
    return *out ? kvt_trace_get(t, id, 0, NULL, NULL, *out, err) : kvt_fail(err, KVT_ENOMEM, "%s: no memory", t->path);
}

static int read_tokens(struct kvt_trace *t, struct kvt_err *err)
{
    size_t n = t->extent[KVT_DIM_prompt_token];
    const char **text = NULL;
    int rc = read_strings(t, KVT_DS_TEXT, 1, &text, err);
    if (!rc)
        rc = read_strings(t, KVT_DS_TOK_TEXT, n, &t->token_text, err);
    if (!rc)
        rc = read_ints(t, KVT_DS_TOK_ID, n, &t->token_id, err);
    if (!rc)
        rc = read_ints(t, KVT_DS_TOK_START, n, &t->token_start, err);
    if (!rc)
        rc = read_ints(t, KVT_DS_TOK_END, n, &t->token_end, err);
    if (rc)
        return rc;
    t->info.text = text[0];
    int32_t bytes = 0;
    size_t len;
    hid_t ds = kvt_trace_dataset(t, KVT_DS_TEXT, 0, &len, NULL, err);
    H5Dclose(ds);
    bytes = len > INT32_MAX ? INT32_MAX : (int32_t)len;
    for (size_t i = 0; i < n; i++) /* analyzers cut the text by these */
        if (t->token_start[i] < 0 || t->token_end[i] < t->token_start[i] || t->token_end[i] > bytes)
            return kvt_fail(err, KVT_EFORMAT, "%s: bytes [%d, %d) of token %zu lie outside the text of %d bytes", t->path, t->token_start[i],
                            t->token_end[i], i, bytes);
    return KVT_OK;
}

static int read_spans(struct kvt_trace *t, struct kvt_err *err)
{
    size_t n = t->extent[KVT_DIM_span];
    if (!n)
        return KVT_OK;
    const char **name, **kind;
    int32_t *parent, *start, *end, *byte_start, *byte_end;
    int rc = read_strings(t, KVT_DS_SPAN_NAME, n, &name, err);
    rc = rc ? rc : read_strings(t, KVT_DS_SPAN_KIND, n, &kind, err);
    rc = rc ? rc : read_ints(t, KVT_DS_SPAN_PARENT, n, &parent, err);
    rc = rc ? rc : read_ints(t, KVT_DS_SPAN_START, n, &start, err);
    rc = rc ? rc : read_ints(t, KVT_DS_SPAN_END, n, &end, err);
    rc = rc ? rc : read_ints(t, KVT_DS_SPAN_BYTE_START, n, &byte_start, err);
    rc = rc ? rc : read_ints(t, KVT_DS_SPAN_BYTE_END, n, &byte_end, err);
    t->span = rc ? NULL : own_array(t, n, sizeof *t->span);
    if (!t->span)
        return rc ? rc : kvt_fail(err, KVT_ENOMEM, "%s: no memory", t->path);
    for (size_t i = 0; i < n; i++) {
        if (parent[i] < -1 || parent[i] >= (int32_t)n || start[i] < 0 || end[i] < start[i] || end[i] > t->info.n_prompt)
            return kvt_fail(err, KVT_EFORMAT, "%s: span %zu [%d, %d) lies outside the prompt of %d tokens", t->path, i, start[i], end[i],
                            t->info.n_prompt);
        t->span[i] = (struct kvt_trace_span){name[i], kind[i], parent[i], start[i], end[i], byte_start[i], byte_end[i]};
    }
    return KVT_OK;
}

static int read_phases(struct kvt_trace *t, struct kvt_err *err)
{
    size_t n = t->extent[KVT_DIM_phase];
    const char **name;
    int32_t *tok;
    int64_t *start = own_array(t, n, sizeof *start), *dur = own_array(t, n, sizeof *dur);
    struct kvt_trace_phase *phase = own_array(t, n, sizeof *phase);
    if (!n || !start || !dur || !phase)
        return n ? kvt_fail(err, KVT_ENOMEM, "%s: no memory", t->path) : KVT_OK;
    int rc = read_strings(t, KVT_DS_PHASE_NAME, n, &name, err);
    rc = rc ? rc : read_ints(t, KVT_DS_PHASE_TOK, n, &tok, err);
    rc = rc ? rc : kvt_trace_get(t, KVT_DS_PHASE_START, 0, NULL, NULL, start, err);
    rc = rc ? rc : kvt_trace_get(t, KVT_DS_PHASE_DUR, 0, NULL, NULL, dur, err);
    for (size_t i = 0; !rc && i < n && *name[i]; i++)
        phase[t->info.n_phases++] = (struct kvt_trace_phase){name[i], start[i], dur[i], tok[i]};
    t->info.phase = phase;
    return rc;
}

static void read_provenance(struct kvt_trace *t)
{
    struct kvt_trace_info *in = &t->info;
    hid_t p = t->prompt;
    in->model_name = attr_name(t, p, "model_name"), in->model_arch = attr_name(t, p, "model_arch");
    in->protocol = attr_name(t, p, "protocol");
    in->map_tok = strcmp(in->protocol, "hidden") ? in->n_prompt : in->n_context;
    in->decode = attr_str(t, p, "decode");
    in->compute = attr_str(t, p, "compute");
    in->kv_type = attr_str(t, p, "kv_type");
    in->windows = attr_str(t, p, "windows");
    in->n_sink = bounded(attr_i64(p, "n_sink", 0)), in->n_local = bounded(attr_i64(p, "n_local", 0));
    in->backend = attr_str(t, p, "backend");
    in->device = attr_str(t, p, "device");
    in->command_line = attr_str(t, p, "command_line");
    in->created = attr_str(t, p, "created");
    in->commit = attr_str(t, t->file, "commit");
    in->no_full = !strcmp(attr_str(t, p, "full_branch"), "none");
    in->D = bounded(attr_i64(p, "head_dim", 0));
    in->V = bounded(attr_i64(p, "vocabulary", 0));
    struct kvt_trace_attr *attr = own_array(t, (size_t)kvt_n_attrs, sizeof *attr);
    for (int i = 0; attr && i < kvt_n_attrs; i++) {
        const struct kvt_attr_info *a = &kvt_attrs[i];
        hid_t at = !strcmp(a->where, "FILE") ? t->file : p;
        if (!strcmp(a->where, "BRANCH"))
            continue;
        const char *value = "";
        if (!strcmp(a->type, "STR")) {
            value = attr_str(t, at, a->name);
        } else {
            char *text = own_array(t, 32, 1);
            uint64_t v;
            if (text && kvt_h5_get_number(at, a->name, H5T_INTEGER, H5T_NATIVE_UINT64, &v))
                snprintf(text, 32, "%llu", (unsigned long long)v);
            value = text ? text : "";
        }
        if (*value)
            attr[in->n_attrs++] = (struct kvt_trace_attr){a->name, value};
    }
    in->attr = attr;
}

/* Numbers of a branch that follow from its steps; what a run wrote at its end is preferred. */
static int branch_from_steps(struct kvt_trace *t, int b, struct kvt_err *err)
{
    struct kvt_trace_branch *br = &t->branch[b];
    int n = t->info.n_steps;
    br->bytes_last = br->bytes_after;
    br->bytes_mean = br->bytes_after < 0 ? NAN : (double)br->bytes_after;
    if (!n)
        return KVT_OK;
    int64_t *bytes = kvt_calloc((size_t)n, sizeof *bytes);
    float *kl = kvt_calloc((size_t)n, sizeof *kl);
    int rc = bytes && kl ? kvt_trace_bytes(t, b, "alone", bytes, err) : kvt_fail(err, KVT_ENOMEM, "%s: no memory", t->path);
    if (!rc)
        rc = kvt_trace_series(t, b, "kl", kl, err);
    if (!rc) {
        double sum = 0, sum_kl = 0;
        for (int i = 0; i < n; i++) {
            sum += (double)bytes[i];
            sum_kl += (double)kl[i];
        }
        br->bytes_last = bytes[n - 1];
        br->bytes_mean = sum / n;
        if (isnan(br->mean_kl))
            br->mean_kl = sum_kl / n;
    }
    free(bytes);
    free(kl);
    return rc;
}

static int read_branches(struct kvt_trace *t, struct kvt_err *err)
{
    size_t B = t->extent[KVT_DIM_branch];
    const char **note, **text = NULL;
    int32_t *rows, *diverged;
    double *keep = own_array(t, B, sizeof *keep), *kl = own_array(t, B, sizeof *kl), *top1 = own_array(t, B, sizeof *top1);
    int64_t *after = own_array(t, B, sizeof *after), *peak = own_array(t, B, sizeof *peak);
    uint8_t *fallback = own_array(t, B, 1);
    t->branch = own_array(t, B, sizeof *t->branch);
    if (!keep || !kl || !top1 || !after || !peak || !fallback || !t->branch)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory", t->path);
    int rc = read_strings(t, KVT_DS_RES_NOTE, B, &note, err);
    rc = rc ? rc : read_strings(t, KVT_DS_RES_TEXT, B, &text, err);
    rc = rc ? rc : read_ints(t, KVT_DS_RES_ROWS, B, &rows, err);
    rc = rc ? rc : read_ints(t, KVT_DS_RES_DIVERGED, B, &diverged, err);
    rc = rc ? rc : kvt_trace_get(t, KVT_DS_RES_KEEP, 0, NULL, NULL, keep, err);
    rc = rc ? rc : kvt_trace_get(t, KVT_DS_RES_KL, 0, NULL, NULL, kl, err);
    rc = rc ? rc : kvt_trace_get(t, KVT_DS_RES_TOP1, 0, NULL, NULL, top1, err);
    for (size_t b = 0; b < B; b++)
        after[b] = peak[b] = -1; /* of an older trace */
    if (!rc && kvt_trace_has_dataset(t, KVT_DS_RES_AFTER, 0))
        rc = kvt_trace_get(t, KVT_DS_RES_AFTER, 0, NULL, NULL, after, err);
    if (!rc && kvt_trace_has_dataset(t, KVT_DS_RES_PEAK, 0))
        rc = kvt_trace_get(t, KVT_DS_RES_PEAK, 0, NULL, NULL, peak, err);
    rc = rc ? rc : kvt_trace_get(t, KVT_DS_RES_FALLBACK, 0, NULL, NULL, fallback, err);
    for (size_t b = 0; !rc && b < B; b++) {
        char path[32];
        snprintf(path, sizeof path, "branches/%02zu", b);
        hid_t g = kvt_h5_link_at(t->prompt, path) == KVT_H5_OWN ? H5Gopen2(t->prompt, path, H5P_DEFAULT) : -1;
        if (g < 0)
            return kvt_h5_fail(err, KVT_EFORMAT, "%s: no group %s", t->path, path);
        double asked = NAN;
        kvt_h5_get_number(g, "asked_keep", H5T_FLOAT, H5T_NATIVE_DOUBLE, &asked);
        if (rows[b] != 0 && rows[b] != 1 && rows[b] != t->info.G)
            rc = kvt_fail(err, KVT_EFORMAT, "%s: branch %zu has %d rows of score; 0, 1 or %d can be", t->path, b, rows[b], t->info.G);
        t->branch[b] = (struct kvt_trace_branch){
            .name = attr_name(t, g, "name"), .method = attr_name(t, g, "method"), .canonical = attr_name(t, g, "canonical"),
            .schedule = attr_name(t, g, "schedule"), .asked = attr_name(t, g, "asked"), .replayed = attr_name(t, g, "replayed"), .renumber = attr_i64(g, "renumbered", 0) != 0, .asked_keep = asked,
            .asked_tok = bounded(attr_i64(g, "asked_tok", 0)), .effective_keep = keep[b], .fallback = fallback[b], .note = note[b],
            .bytes_after = after[b], .bytes_peak = peak[b], .R = rows[b], .diverged = diverged[b], .mean_kl = kl[b], .top1 = top1[b], .text = text[b]};
        H5Gclose(g);
        rc = rc ? rc : branch_from_steps(t, (int)b, err);
    }
    t->info.branch = t->branch;
    return rc;
}

static int read_state(struct kvt_trace *t, struct kvt_err *err)
{
    const char **status, **sha;
    int32_t steps = 0;
    int rc = read_strings(t, KVT_DS_STATUS, 1, &status, err);
    rc = rc ? rc : read_strings(t, KVT_DS_MODEL_SHA256, 1, &sha, err);
    rc = rc ? rc : kvt_trace_get(t, KVT_DS_STEPS_DONE, 0, NULL, NULL, &steps, err);
    rc = rc ? rc : kvt_trace_get(t, KVT_DS_DROPPED, 0, NULL, NULL, &t->info.dropped, err);
    rc = rc ? rc : kvt_trace_get(t, KVT_DS_LOGITS_HASH, 0, NULL, NULL, &t->info.logits_hash, err);
    t->info.kv_peak = -1; /* of an older trace */
    if (!rc && kvt_trace_has_dataset(t, KVT_DS_KV_PEAK, 0))
        rc = kvt_trace_get(t, KVT_DS_KV_PEAK, 0, NULL, NULL, &t->info.kv_peak, err);
    t->info.beyond_f16 = -1;
    if (!rc && kvt_trace_has_dataset(t, KVT_DS_BEYOND_F16, 0))
        rc = kvt_trace_get(t, KVT_DS_BEYOND_F16, 0, NULL, NULL, &t->info.beyond_f16, err);
    if (rc)
        return rc;
    if (steps < 0 || steps > t->info.n_new)
        return kvt_fail(err, KVT_EFORMAT, "%s: %d steps done of %d", t->path, steps, t->info.n_new);
    t->info.n_steps = steps;
    t->info.status = status[0];
    t->info.model_sha256 = sha[0];
    t->info.has_scores = kvt_trace_has_dataset(t, KVT_DS_MASS, 0);
    t->info.has_keys = kvt_trace_has_dataset(t, KVT_DS_KEYS, 0), t->info.has_local = kvt_trace_has_dataset(t, KVT_DS_LOCAL_MASS, 0);
    t->info.has_visible = kvt_trace_has_dataset(t, KVT_DS_VISIBLE, 0), t->info.has_square = kvt_trace_has_dataset(t, KVT_DS_SQUARE, 0);
    t->info.has_max = kvt_trace_has_dataset(t, KVT_DS_MAX, 0), t->info.has_decode = kvt_trace_has_dataset(t, KVT_DS_ROW_ENTROPY, 0);
    t->info.has_full = kvt_trace_has_dataset(t, KVT_DS_FULL, 0), t->info.has_rows = kvt_trace_has_dataset(t, KVT_DS_DECODE_ROWS, 0);
    t->info.has_replay = kvt_trace_has_dataset(t, KVT_DS_LATE_ROWS, 0), t->info.has_later = kvt_trace_has_dataset(t, KVT_DS_LATER, 0);
    return KVT_OK;
}

int kvt_trace_open_bare(struct kvt_trace **out, const char *path, const char *prompt_id, struct kvt_err *err)
{
    *out = NULL;
    struct kvt_trace *t = calloc(1, sizeof *t);
    if (!t)
        return kvt_fail(err, KVT_ENOMEM, "no memory");
    t->file = t->prompt = -1;
    kvt_h5_quiet(&t->why);
    int rc = open_file(t, path, err);
    rc = rc ? rc : open_prompt(t, prompt_id, err);
    rc = rc ? rc : read_shape(t, err);
    t->info.path = t->path;
    if (rc)
        kvt_trace_close(&t);
    *out = t;
    return rc;
}

int kvt_trace_open(struct kvt_trace **out, const char *path, const char *prompt_id, struct kvt_err *err)
{
    struct kvt_err mine;
    struct kvt_trace *t;
    err = err ? err : &mine;
    *out = NULL;
    int rc = kvt_trace_open_bare(&t, path, prompt_id, err);
    if (rc)
        return rc;
    rc = check_datasets(t, err);
    rc = rc ? rc : read_state(t, err);
    rc = rc ? rc : read_tokens(t, err);
    rc = rc ? rc : read_spans(t, err);
    rc = rc ? rc : read_phases(t, err);
    if (!rc) {
        read_provenance(t);
        rc = read_branches(t, err);
    }
    if (rc) {
        kvt_trace_close(&t);
        return rc;
    }
    t->info.token_id = t->token_id;
    t->info.token_text = t->token_text;
    t->info.token_start = t->token_start;
    t->info.token_end = t->token_end;
    t->info.span = t->span;
    *out = t;
    return KVT_OK;
}

void kvt_trace_close(struct kvt_trace **tp)
{
    struct kvt_trace *t = *tp;
    if (!t)
        return;
    if (t->prompt >= 0)
        H5Gclose(t->prompt);
    if (t->file >= 0)
        H5Fclose(t->file);
    kvt_h5_quiet(NULL);
    for (size_t i = 0; i < t->n_owned; i++)
        free(t->owned[i]);
    free(t->owned);
    free(t);
    *tp = NULL;
}

const struct kvt_trace_info *kvt_trace_info(const struct kvt_trace *t) { return &t->info; }

/* Making a trace's objects. All of them exist before the first event: a file that is appended to while others read (and
 * that a kill must not harm) can't get new ones. */
#include "tracer/trace_objects.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

static size_t positive(int n) { return n > 0 ? (size_t)n : 0; }

static size_t count_wanted(const uint8_t *mask, int n)
{
    size_t k = 0;
    for (int i = 0; i < n; i++)
        k += !mask || mask[i];
    return k;
}

size_t kvt_trace_map_tok(const struct kvt_trace_plan *p)
{
    return positive(p->protocol && !strcmp(p->protocol, "hidden") ? p->n_context : p->n_prompt);
}

/* Room for timed parts: of a prefill whose attention comes 128 rows at a time; of steps and of the question, which some methods take
 * token by token, and once more beside the oracles; of chunks, repeats and messages. No more than 2^17, some 4 MB. */
static size_t timed_parts(const struct kvt_trace_plan *p)
{
    size_t L = positive(p->L), B = positive(p->n_branches), per_step = 0, most = (size_t)1 << 17;
    for (int b = 0; b < p->n_branches; b++)
        per_step += p->branch[b].schedule && strcmp(p->branch[b].schedule, "prefill") != 0;
    size_t steps = positive(p->n_new) + (p->n_prompt < 128 ? positive(p->n_prompt) : 128);
    size_t n = L * (8 + 8 * (positive(p->n_prompt) / 128)) * (1 + B / 4) + B * (2 * L + 8) + 2 * steps * (L * (5 + 6 * per_step) + 8) + 256;
    return n < most ? n : most;
}

/* Calls of operations on the device: 24 for a layer of a pass, and some for each head's rows and each branch's eviction. A record each is
 * usual, and there is room for two. No more than 2^19: 34 + 96 MB before they are packed. */
size_t kvt_trace_device_room(const struct kvt_trace_plan *p)
{
    size_t L = positive(p->L), B = positive(p->n_branches), per_step = 0, most = (size_t)1 << 19;
    for (int b = 0; b < p->n_branches; b++)
        per_step += p->branch[b].schedule && strcmp(p->branch[b].schedule, "prefill") != 0;
    size_t steps = positive(p->n_new) + (p->n_prompt < 128 ? positive(p->n_prompt) : 128), runs = 1 + positive(p->n_prompt) / 128;
    size_t n = 4096 + 32 * L * runs * (1 + B / 4) + 64 * L * B + 2 * steps * (L * (24 + 16 * per_step) + 64);
    return n < most ? n : most;
}

void kvt_trace_shape_of(const struct kvt_trace_plan *p, struct kvt_trace_shape *s)
{
    *s = (struct kvt_trace_shape){0};
    const struct kvt_wants *w = p->wants;
    size_t *e = s->extent;
    e[KVT_DIM_layer] = positive(p->L);
    e[KVT_DIM_head] = positive(p->H);
    e[KVT_DIM_kv_head] = positive(p->G);
    e[KVT_DIM_prompt_token] = e[KVT_DIM_query] = e[KVT_DIM_key] = positive(p->n_prompt);
    e[KVT_DIM_context] = positive(p->n_context);
    e[KVT_DIM_token] = positive(p->n_prompt) + positive(p->n_new);
    e[KVT_DIM_step] = positive(p->n_new);
    e[KVT_DIM_branch] = positive(p->n_branches);
    e[KVT_DIM_window] = positive(p->n_windows);
    e[KVT_DIM_span] = positive(p->n_spans);
    e[KVT_DIM_phase] = KVT_TRACE_PHASES;
    e[KVT_DIM_event] = timed_parts(p);
    s->made[KVT_WHEN_ALWAYS] = true;
    s->made[KVT_WHEN_PROFILE] = p->profile;
    e[KVT_DIM_call] = p->profile ? kvt_trace_device_room(p) : 0;
    e[KVT_DIM_record] = 2 * e[KVT_DIM_call];
    e[KVT_DIM_name] = p->profile ? KVT_TRACE_NAMES : 0;
    s->made[KVT_WHEN_LOST] = p->lost_mass;
    s->made[KVT_WHEN_OUTPUT] = p->output_error;
    if (w) {
        s->made[KVT_WHEN_SCORES] = w->scores;
        s->made[KVT_WHEN_DECISIONS] = w->decisions;
        s->made[KVT_WHEN_VISIBLE] = w->visible;
        s->made[KVT_WHEN_SQUARE] = w->square;
        s->made[KVT_WHEN_MAX] = w->max;
        s->made[KVT_WHEN_KEYS] = w->keys;
        s->made[KVT_WHEN_LOCAL] = w->local;
        s->made[KVT_WHEN_ROWS] = w->rows && !p->no_full;
        s->made[KVT_WHEN_REPLAY] = w->replay > 0 && !p->no_full;
        s->made[KVT_WHEN_LATER] = s->made[KVT_WHEN_REPLAY] && p->later;
        if (s->made[KVT_WHEN_REPLAY]) {
            e[KVT_DIM_late_row] = positive(w->replay) < kvt_trace_map_tok(p) ? positive(w->replay) : kvt_trace_map_tok(p);
            e[KVT_DIM_square] = positive(p->n_squares);
            e[KVT_DIM_question] = positive(p->n_prompt - p->n_context);
        }
        e[KVT_DIM_distance] = w->distance ? (size_t)kvt_distance_bins((int)kvt_trace_map_tok(p)) : 0;
        e[KVT_DIM_offset] = positive(w->n_offsets);
        e[KVT_DIM_query_span] = e[KVT_DIM_key_span] = positive(w->n_spans);
        e[KVT_DIM_rank] = positive(w->top_k);
        s->made[KVT_WHEN_DECODE] = w->decode && !p->no_full;
        s->made[KVT_WHEN_DECODE_KEYS] = w->decode && w->keys && !p->no_full;
        e[KVT_DIM_row_distance] = w->decode && w->distance && !p->no_full ? (size_t)kvt_distance_bins(p->n_prompt + p->n_new) : 0;
        e[KVT_DIM_query_bin] = positive(w->map_r);
        e[KVT_DIM_key_bin] = positive(w->map_c);
        s->made[KVT_WHEN_DUMP_Q] = w->q;
        s->made[KVT_WHEN_DUMP_K] = w->k;
        s->made[KVT_WHEN_DUMP_V] = w->v;
        if (w->q || w->k || w->v) {
            e[KVT_DIM_vector_layer] = count_wanted(w->layer, p->L);
            e[KVT_DIM_channel] = positive(p->D);
        }
        if (w->full) {
            e[KVT_DIM_full_layer] = count_wanted(w->layer, p->L);
            e[KVT_DIM_full_head] = count_wanted(w->head, p->H);
        }
    }
    s->text_len = p->text_bytes ? p->text_bytes : 1;
    size_t longest = p->longest_token;
    for (int i = 0; i < p->n_prompt; i++) {
        size_t n = p->token_text ? strlen(p->token_text[i]) : 0;
        longest = n > longest ? n : longest;
    }
    s->token_len = longest < 4 ? 4 : longest > 256 ? 256 : longest;
    size_t output = s->token_len * positive(p->n_new);
    s->output_len = output < 16 ? 16 : output > (1u << 20) ? 1u << 20 : output;
}

bool kvt_trace_has(const struct kvt_trace_shape *s, const struct kvt_dataset_info *d, size_t *shape, size_t *str_len)
{
    *str_len = d->len > 0 ? (size_t)d->len : d->len == KVT_STR_TEXT ? s->text_len : d->len == KVT_STR_TOKEN ? s->token_len
             : s->output_len;
    bool has = s->made[d->when];
    for (int i = 0; i < d->rank; i++) {
        shape[i] = s->extent[d->dim[i]];
        has = has && shape[i];
    }
    return has;
}

/* Copies text into a field of fixed length, whole characters only. */
static void put_text(char *field, size_t len, const char *text)
{
    size_t n = text ? strlen(text) : 0;
    if (n > len) {
        n = len;
        while (n && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--;
    }
    memcpy(field, text ? text : "", n);
    memset(field + n, 0, len - n);
}

static int32_t bin_start(size_t bin, size_t bins, size_t n) { return (int32_t)((bin * n + bins - 1) / bins); }

static int32_t scale_value(const struct kvt_trace_plan *p, enum kvt_dim dim, size_t i, size_t extent)
{
    switch (dim) {
    case KVT_DIM_step:      return (int32_t)i + 1;
    case KVT_DIM_window:    return p->window[i];
    case KVT_DIM_query_bin:
    case KVT_DIM_key_bin:   return bin_start(i, extent, kvt_trace_map_tok(p));
    case KVT_DIM_row_distance:
    case KVT_DIM_distance:  return kvt_distance_start((int)i);
    case KVT_DIM_offset:    return p->wants->offset[i];
    case KVT_DIM_late_row:  return (int32_t)(kvt_trace_map_tok(p) - extent + i);
    case KVT_DIM_question:  return p->n_context + (int32_t)i;
    case KVT_DIM_query_span:
    case KVT_DIM_key_span:  return p->wants->span_of ? p->wants->span_of[i] : (int32_t)i;
    case KVT_DIM_full_layer:
    case KVT_DIM_vector_layer:
    case KVT_DIM_full_head: {
        const uint8_t *mask = dim == KVT_DIM_full_head ? p->wants->head : p->wants->layer;
        if (!mask)
            return (int32_t)i;
        int32_t at = 0;
        for (size_t seen = 0;; at++)
            if (mask[at] && seen++ == i)
                return at;
    }
    default: return (int32_t)i;
    }
}

static bool make_scales(hid_t prompt, const struct kvt_trace_plan *p, const struct kvt_trace_shape *s, struct kvt_h5_links *links)
{
    for (int dim = 0; dim < KVT_N_DIM; dim++) {
        size_t n = s->extent[dim];
        if (!n)
            continue;
        int32_t *value = kvt_calloc(n, sizeof *value);
        for (size_t i = 0; value && i < n; i++)
            value[i] = scale_value(p, (enum kvt_dim)dim, i, n);
        links->scale[dim] = value ? kvt_h5_make_scale(prompt, (enum kvt_dim)dim, value, n) : -1;
        free(value);
        if (links->scale[dim] < 0 || H5Rcreate(&links->ref[dim], links->scale[dim], ".", H5R_OBJECT, -1) < 0)
            return false;
    }
    return true;
}

bool kvt_trace_file_attrs(hid_t root, const char *now)
{
    return kvt_h5_put_str(root, "Conventions", "kvtrace-1") && kvt_h5_put_i64(root, "schema_version", KVT_SCHEMA_VERSION) &&
           kvt_h5_put_i64(root, "schema_minor", KVT_SCHEMA_MINOR) &&
           kvt_h5_put_str(root, "creator", "kvtrace") && kvt_h5_put_str(root, "creator_version", kvt_version()) &&
           kvt_h5_put_str(root, "commit", kvt_commit()) && kvt_h5_put_str(root, "file_time", now);
}

static bool prompt_attrs(hid_t at, const struct kvt_trace_plan *p, const char *now)
{
    return kvt_h5_put_str(at, "command_line", p->command_line) && kvt_h5_put_str(at, "created", now) &&
           kvt_h5_put_str(at, "model_name", p->model_name) && kvt_h5_put_str(at, "model_arch", p->model_arch) &&
           kvt_h5_put_str(at, "model_path", p->model_path) && kvt_h5_put_str(at, "model_type", p->model_type) &&
           kvt_h5_put_str(at, "config_sha256", p->config_sha256) &&
           kvt_h5_put_i64(at, "model_bytes", (int64_t)p->model_bytes) &&
           kvt_h5_put_str(at, "tokenizer", p->tokenizer_kind) && kvt_h5_put_i64(at, "head_dim", p->D) &&
           kvt_h5_put_i64(at, "vocabulary", p->V) && kvt_h5_put_str(at, "protocol", p->protocol) &&
           kvt_h5_put_str(at, "decode", p->decode) && kvt_h5_put_str(at, "shot_order", p->shot_order ? p->shot_order : "file") && kvt_h5_put_str(at, "full_branch", p->no_full ? "none" : "ran") && kvt_h5_put_str(at, "compute", p->compute) &&
           kvt_h5_put_str(at, "rope", p->rope ? p->rope : "") && kvt_h5_put_str(at, "windows", p->windows ? p->windows : "") &&
           kvt_h5_put_str(at, "kv_type", p->kv_type) && kvt_h5_put_str(at, "backend", p->backend) &&
           kvt_h5_put_str(at, "device", p->device) && kvt_h5_put_i64(at, "threads", p->threads) &&
           kvt_h5_put_u64(at, "seed", p->seed) && kvt_h5_put_i64(at, "n_sink", p->wants ? p->wants->n_sink : 0) &&
           kvt_h5_put_i64(at, "n_local", p->wants ? p->wants->n_local : 0) && kvt_h5_put_str(at, "ring_policy", p->drop_when_full ? "drop" : "block");
}

static bool branch_attrs(hid_t at, const struct kvt_plan_branch *b)
{
    return kvt_h5_put_str(at, "name", b->name) && kvt_h5_put_str(at, "method", b->method) &&
           kvt_h5_put_str(at, "canonical", b->canonical) && kvt_h5_put_f64(at, "asked_keep", b->asked_keep) &&
           kvt_h5_put_i64(at, "asked_tok", b->asked_tok) && kvt_h5_put_str(at, "schedule", b->schedule) &&
           kvt_h5_put_i64(at, "renumbered", b->renumber) && kvt_h5_put_str(at, "asked", b->asked ? b->asked : "") && kvt_h5_put_str(at, "replayed", b->replayed ? b->replayed : "");
}

static bool fill_flags(hid_t ds, enum kvt_dataset id, const struct kvt_trace_plan *p)
{
    size_t n = positive(id == KVT_DS_ACTS ? p->L : p->n_squares);
    uint8_t *flag = kvt_calloc(n, 1);
    for (size_t i = 0; flag && i < n; i++)
        flag[i] = id == KVT_DS_ACTS ? !p->acts || p->acts[i] : p->square_by_pos[i] != 0;
    bool ok = flag && kvt_h5_write(ds, H5T_NATIVE_UINT8, NULL, NULL, 1, flag);
    free(flag);
    return ok;
}

/* What is known of a dataset before the run. */
static bool fill_known(hid_t ds, enum kvt_dataset id, const struct kvt_trace_plan *p, size_t len)
{
    size_t rows = 0;
    const int32_t *ints = NULL;
    switch (id) {
    case KVT_DS_TOK_ID:    ints = p->token_id; break;
    case KVT_DS_TOK_START: ints = p->token_start; break;
    case KVT_DS_TOK_END:   ints = p->token_end; break;
    case KVT_DS_TOK_TEXT:  rows = p->token_text ? (size_t)p->n_prompt : 0; break;
    case KVT_DS_STATUS:
    case KVT_DS_TEXT:      rows = 1; break;
    case KVT_DS_SQ_WINDOW:   ints = p->square_window; break;
    case KVT_DS_SQ_DISTANCE: ints = p->square_distance; break;
    case KVT_DS_SQ_BY_POS:
    case KVT_DS_ACTS:        return fill_flags(ds, id, p);
    case KVT_DS_SPAN_NAME:
    case KVT_DS_SPAN_KIND:
    case KVT_DS_SPAN_PARENT:
    case KVT_DS_SPAN_START:
    case KVT_DS_SPAN_END:
    case KVT_DS_SPAN_BYTE_START:
    case KVT_DS_SPAN_BYTE_END: rows = (size_t)p->n_spans; break;
    default: return true;
    }
    if (ints)
        return kvt_h5_write(ds, H5T_NATIVE_INT32, NULL, NULL, 1, ints);
    if (!rows)
        return true;
    bool text = id == KVT_DS_TOK_TEXT || id == KVT_DS_STATUS || id == KVT_DS_TEXT || id == KVT_DS_SPAN_NAME || id == KVT_DS_SPAN_KIND;
    char *buf = kvt_calloc(rows, text ? len : sizeof(int32_t));
    if (!buf)
        return false;
    for (size_t i = 0; i < rows; i++) {
        char *field = buf + i * len;
        int32_t *v = (int32_t *)(void *)buf + i;
        const struct kvt_plan_span *span = p->span ? &p->span[id == KVT_DS_TOK_TEXT ? 0 : i] : NULL;
        switch (id) {
        case KVT_DS_TOK_TEXT:        put_text(field, len, p->token_text[i]); break;
        case KVT_DS_STATUS:          put_text(field, len, "in_progress"); break;
        case KVT_DS_TEXT:            memcpy(field, p->text, p->text_bytes); break;
        case KVT_DS_SPAN_NAME:       put_text(field, len, span->name); break;
        case KVT_DS_SPAN_KIND:       put_text(field, len, span->kind); break;
        case KVT_DS_SPAN_PARENT:     *v = span->parent; break;
        case KVT_DS_SPAN_START:      *v = span->start; break;
        case KVT_DS_SPAN_END:        *v = span->end; break;
        case KVT_DS_SPAN_BYTE_START: *v = span->byte_start; break;
        default:                     *v = span->byte_end; break;
        }
    }
    hid_t type = kvt_h5_mem_type(text ? KVT_H5_STR : KVT_H5_I32, len);
    bool ok = type >= 0 && kvt_h5_write(ds, type, NULL, NULL, 1, buf);
    if (type >= 0)
        H5Tclose(type);
    free(buf);
    return ok;
}

static bool make_one(hid_t prompt, enum kvt_dataset id, int branch, const struct kvt_trace_plan *p, const struct kvt_trace_shape *s,
                     struct kvt_h5_links *links)
{
    struct kvt_dataset_info d;
    size_t shape[KVT_TRACE_MAX_RANK], len;
    char path[96];
    kvt_schema_get(id, &d);
    if (!kvt_trace_has(s, &d, shape, &len))
        return true;
    d.deflate = p->compress && d.store >= KVT_STORE_TILES;
    hid_t ds = kvt_h5_make(prompt, kvt_schema_path(&d, branch, path, sizeof path), &d, shape, len);
    if (ds < 0)
        return false;
    bool ok = kvt_h5_links_add(links, ds, &d) && fill_known(ds, id, p, len) &&
              (d.type != KVT_H5_F16 || kvt_h5_put_f64(ds, "scale_factor", 1.0 / (double)KVT_FULL_SCALE));
    return H5Dclose(ds) >= 0 && ok;
}

static bool make_branch(hid_t prompt, int branch, const struct kvt_trace_plan *p, const struct kvt_trace_shape *s,
                        struct kvt_h5_links *links)
{
    for (int id = 0; id < KVT_N_DATASET; id++) {
        struct kvt_dataset_info d;
        kvt_schema_get((enum kvt_dataset)id, &d);
        if (d.per_branch && !make_one(prompt, (enum kvt_dataset)id, branch, p, s, links))
            return false;
    }
    char path[32];
    snprintf(path, sizeof path, "branches/%02d", branch);
    hid_t group = H5Gopen2(prompt, path, H5P_DEFAULT);
    bool ok = group >= 0 && branch_attrs(group, &p->branch[branch]);
    if (group >= 0)
        H5Gclose(group);
    return ok;
}

static bool make_all(hid_t file, const struct kvt_trace_plan *p, const struct kvt_trace_shape *s)
{
    struct kvt_h5_links links = {.n = 0};
    char now[32], path[160];
    time_t t = time(NULL);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &tm);
    for (int i = 0; i < KVT_N_DIM; i++)
        links.scale[i] = -1;
    snprintf(path, sizeof path, "/prompt/%s", p->prompt_id);
    hid_t lcpl = H5Pcreate(H5P_LINK_CREATE);
    hid_t prompt = lcpl < 0 || H5Pset_create_intermediate_group(lcpl, 1) < 0 ? -1
                 : H5Gcreate2(file, path, lcpl, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = prompt >= 0 && kvt_trace_file_attrs(file, now) && prompt_attrs(prompt, p, now) && make_scales(prompt, p, s, &links);
    for (int id = 0; ok && id < KVT_N_DATASET; id++) {
        struct kvt_dataset_info d;
        kvt_schema_get((enum kvt_dataset)id, &d);
        ok = d.per_branch || make_one(prompt, (enum kvt_dataset)id, 0, p, s, &links);
    }
    for (int b = 0; ok && b < p->n_branches; b++)
        ok = make_branch(prompt, b, p, s, &links);
    ok = ok && kvt_h5_links_write(&links);
    kvt_h5_links_free(&links);
    if (prompt >= 0)
        H5Gclose(prompt);
    if (lcpl >= 0)
        H5Pclose(lcpl);
    return ok;
}

/* SWMR wants the newest format; closing a file closes what is open in it. What is large begins at a page of memory. */
static hid_t file_access(void)
{
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    if (fapl >= 0 && (H5Pset_libver_bounds(fapl, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST) < 0 ||
                      H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) < 0 || H5Pset_alignment(fapl, 16384, 4096) < 0)) {
        H5Pclose(fapl);
        return -1;
    }
    return fapl;
}

int kvt_trace_make(const char *path, const char *name, const struct kvt_trace_plan *plan, const struct kvt_trace_shape *s, struct kvt_err *err)
{
    hid_t fapl = file_access();
    hid_t file = fapl < 0 ? -1 : H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, fapl);
    if (fapl >= 0)
        H5Pclose(fapl);
    if (file < 0)
        return kvt_h5_fail(err, KVT_EIO, "cannot make %s", name);
    bool ok = make_all(file, plan, s);
    int rc = ok ? KVT_OK : kvt_h5_fail(err, KVT_EIO, "cannot write %s", name);
    if (H5Fclose(file) < 0 && !rc)
        rc = kvt_h5_fail(err, KVT_EIO, "cannot write %s", name);
    return rc;
}

int kvt_trace_append(struct kvt_trace_file *f, const char *path, const char *prompt_id, const struct kvt_trace_shape *s,
                     struct kvt_err *err)
{
    *f = (struct kvt_trace_file){.file = -1, .n_branches = (int)s->extent[KVT_DIM_branch]};
    for (int id = 0; id < KVT_N_DATASET; id++)
        f->type[id] = -1;
    size_t n = (size_t)f->n_branches * KVT_N_DATASET;
    f->ds = kvt_calloc(n, sizeof *f->ds);
    if (!f->ds)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the trace's %d branches", f->n_branches);
    for (size_t i = 0; i < n; i++)
        f->ds[i] = -1;
    hid_t fapl = file_access();
    f->file = fapl < 0 ? -1 : H5Fopen(path, H5F_ACC_RDWR | H5F_ACC_SWMR_WRITE, fapl);
    if (fapl >= 0)
        H5Pclose(fapl);
    if (f->file < 0)
        return kvt_h5_fail(err, KVT_EIO, "cannot append to %s", path);
    /* Chunks are written once and whole, so a cache of them would only hold memory. */
    hid_t plain = H5Pcreate(H5P_DATASET_ACCESS);
    bool ok = plain >= 0 && H5Pset_chunk_cache(plain, 1, 0, 1.0) >= 0;
    for (int id = 0; ok && id < KVT_N_DATASET; id++) {
        struct kvt_dataset_info d;
        size_t shape[KVT_TRACE_MAX_RANK], len;
        char below[96], full[288];
        kvt_schema_get((enum kvt_dataset)id, &d);
        if (!kvt_trace_has(s, &d, shape, &len))
            continue;
        f->type[id] = kvt_h5_mem_type(d.type, len);
        for (int b = 0; ok && b < (d.per_branch ? f->n_branches : 1); b++) {
            snprintf(full, sizeof full, "/prompt/%s/%s", prompt_id, kvt_schema_path(&d, b, below, sizeof below));
            hid_t ds = H5Dopen2(f->file, full, plain);
            f->ds[(size_t)b * KVT_N_DATASET + (size_t)id] = ds;
            ok = ds >= 0 && f->type[id] >= 0;
        }
    }
    if (plain >= 0)
        H5Pclose(plain);
    return ok ? KVT_OK : kvt_h5_fail(err, KVT_EIO, "cannot append to %s", path);
}

bool kvt_trace_append_close(struct kvt_trace_file *f)
{
    for (int id = 0; id < KVT_N_DATASET; id++)
        if (f->type[id] >= 0)
            H5Tclose(f->type[id]);
    bool ok = f->file < 0 || H5Fclose(f->file) >= 0; /* closes the datasets too */
    free(f->ds);
    *f = (struct kvt_trace_file){.file = -1};
    return ok;
}

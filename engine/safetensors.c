/* The safetensors reader. A file is 8 bytes with the length n of the header, n bytes of JSON { name: { dtype, shape,
 * data_offsets: [begin, end) } }, and the data, in which tensors lie end to end: no hole, no overlap, nothing behind the
 * last. The format's own library refuses what breaks that, and so do we (huggingface/safetensors, README). */
#include "engine/safetensors.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/json.h"

#define MAX_HEADER_BYTES (100 << 20) /* the format's own limit */
#define MAX_INDEX_BYTES (64 << 20)
#define MAX_TENSORS 65536            /* real files have hundreds */
#define MAX_SHARDS 1000
#define MAX_WHOLE 9007199254740992.0 /* 2^53: whole numbers up to here are exact in JSON's doubles */

static const char single_name[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

static int shown(const char *s) { return kvt_bytes_shown((struct kvt_bytes){s, strlen(s)}); }

static bool whole(const cJSON *v, double most, uint64_t *out)
{
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= most) || v->valuedouble != floor(v->valuedouble))
        return false;
    *out = (uint64_t)v->valuedouble;
    return true;
}

static bool dtype_of(const char *name, enum kvt_dtype *out)
{
    static const enum kvt_dtype types[] = {KVT_F32, KVT_F16, KVT_BF16};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(kvt_dtypes[types[i]].name, name)) {
            *out = types[i];
            return true;
        }
    return false;
}

/* [n, ..., k] with the innermost last; a tensor without dimensions is one value. */
static bool read_dims(const cJSON *shape, struct kvt_tensor *t)
{
    uint64_t dim[4];
    int n = 0;
    if (!cJSON_IsArray(shape))
        return false;
    for (const cJSON *v = shape->child; v; v = v->next)
        if (n == 4 || !whole(v, INT_MAX, &dim[n]) || !dim[n++])
            return false;
    t->n_dims = n ? n : 1;
    for (int d = 0; d < 4; d++)
        t->ne[d] = d < n ? dim[n - 1 - d] : 1;
    return true;
}

/* One entry of the header; data: what follows the header. */
static int read_tensor(struct kvt_tensor *t, const struct kvt_map *m, const cJSON *v, const uint8_t *data, size_t room,
                       struct kvt_err *err)
{
    const char *name = v->string;
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(v, "dtype"), *shape = cJSON_GetObjectItemCaseSensitive(v, "shape");
    const cJSON *at = cJSON_GetObjectItemCaseSensitive(v, "data_offsets");
    uint64_t begin, end;
    if (!*name || !cJSON_IsObject(v) || !cJSON_IsString(dtype) || !cJSON_IsArray(shape) || cJSON_GetArraySize(at) != 2 ||
        !cJSON_IsArray(at))
        return kvt_fail(err, KVT_EFORMAT, "%s: tensor '%.*s' isn't described by dtype, shape and data_offsets", m->path,
                        shown(name), name);
    if (!dtype_of(dtype->valuestring, &t->type))
        return kvt_fail(err, KVT_EUNSUP, "%s: tensor '%.*s' has type '%.*s', which is not supported; F32, F16 and BF16 are. "
                        "Save the model in one of them", m->path, shown(name), name, shown(dtype->valuestring), dtype->valuestring);
    if (!read_dims(shape, t) || !kvt_tensor_size(t, &t->bytes))
        return kvt_fail(err, KVT_EFORMAT, "%s: tensor '%.*s' has an impossible shape (1 to 4 dimensions expected)", m->path,
                        shown(name), name);
    if (!whole(at->child, MAX_WHOLE, &begin) || !whole(at->child->next, MAX_WHOLE, &end) || end < begin || end > room)
        return kvt_fail(err, KVT_EFORMAT, "%s: tensor '%.*s' has data_offsets outside the %zu bytes of data; the file is truncated or "
                        "damaged, fetch it again", m->path, shown(name), name, room);
    if (end - begin != t->bytes)
        return kvt_fail(err, KVT_EFORMAT, "%s: tensor '%.*s' has %llu bytes of data, but its shape in %s needs %zu", m->path,
                        shown(name), name, (unsigned long long)(end - begin), kvt_dtypes[t->type].name, t->bytes);
    t->data = data + begin;
    return 0;
}

static int keep_name(struct kvt_safetensors *s, struct kvt_tensor *t, const char *name, struct kvt_err *err)
{
    char *copy = strdup(name);
    if (!copy)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the list of tensors");
    s->name[s->n_names++] = copy;
    t->name = (struct kvt_bytes){copy, strlen(copy)};
    return 0;
}

static int grow(struct kvt_safetensors *s, int n, struct kvt_err *err)
{
    int rc = kvt_tensors_reserve(&s->tensors, (size_t)n, err);
    char **all = rc ? NULL : realloc(s->name, ((size_t)s->n_names + (size_t)n + 1) * sizeof *all);
    if (all)
        s->name = all;
    return rc || all ? rc : kvt_fail(err, KVT_ENOMEM, "no memory for the list of tensors");
}

/* A file and its tensors. */
static int read_file(struct kvt_safetensors *s, struct kvt_map *map, struct kvt_err *err)
{
    struct kvt_tensors *ts = &s->tensors;
    cJSON *header = NULL;
    int rc = kvt_tensors_add_map(ts, map, err);
    if (rc)
        return rc;
    const struct kvt_map *m = &ts->map[ts->n_maps - 1];
    uint64_t n = 0;
    if (m->bytes >= 8)
        for (int i = 0; i < 8; i++)
            n |= (uint64_t)m->base[i] << 8 * i;
    if (m->bytes < 8 || n < 2 || n > MAX_HEADER_BYTES || n > m->bytes - 8 || m->base[8] != '{')
        return kvt_fail(err, KVT_EFORMAT, "%s: not a safetensors file, or a truncated one (%zu bytes, header of %llu)", m->path,
                        m->bytes, (unsigned long long)n);
    if ((rc = kvt_json_parse(&header, m->path, (const char *)m->base + 8, (size_t)n, err)))
        return rc;
    const uint8_t *data = m->base + 8 + n;
    size_t room = m->bytes - 8 - (size_t)n, total = 0;
    int count = cJSON_GetArraySize(header);
    if (count > MAX_TENSORS)
        rc = kvt_fail(err, KVT_EFORMAT, "%s: %d tensors; at most %d are expected", m->path, count, MAX_TENSORS);
    if (!rc)
        rc = grow(s, count, err);
    for (const cJSON *v = header->child; v && !rc; v = v->next) {
        struct kvt_tensor *t = &ts->tensor[ts->n];
        if (!strcmp(v->string, "__metadata__"))
            continue;
        *t = (struct kvt_tensor){.file = ts->n_maps - 1};
        rc = read_tensor(t, m, v, data, room, err);
        if (!rc)
            rc = keep_name(s, t, v->string, err);
        if (rc)
            break;
        ts->n++;
        if (!kvt_add_size(total, t->bytes, &total))
            total = SIZE_MAX;
    }
    cJSON_Delete(header);
    if (!rc && total != room) /* with no overlap, which is checked at the end, this means no hole */
        rc = kvt_fail(err, KVT_EFORMAT, "%s: the tensors have %zu bytes, but %zu follow the header; the file is damaged, fetch it again",
                      m->path, total, room);
    return rc;
}

/* ---- shards ---- */

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* The shards of an index in the order of their names; *shard is malloc'ed and borrows from the index. */
static int list_shards(const char ***shard, int *n, const cJSON *map, const char *path, struct kvt_err *err)
{
    int entries = cJSON_GetArraySize(map), kept = 0;
    *n = 0;
    const char **list = *shard = kvt_calloc((size_t)entries + 1, sizeof *list);
    if (!list)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory for %d entries", path, entries);
    for (const cJSON *v = map->child; v; v = v->next) {
        const char *file = cJSON_IsString(v) ? v->valuestring : NULL;
        if (!file || !*file)
            return kvt_fail(err, KVT_EFORMAT, "%s: weight_map names no file for tensor '%.*s'", path, shown(v->string), v->string);
        if (strchr(file, '/') || strchr(file, '\\') || !strcmp(file, ".") || !strcmp(file, ".."))
            return kvt_fail(err, KVT_EINPUT, "%s: weight_map names '%.*s', which is not a file in the model's own folder", path,
                            shown(file), file);
        list[kept++] = file;
    }
    qsort(list, (size_t)kept, sizeof *list, by_text);
    for (int i = 0; i < kept; i++)
        if (!i || strcmp(list[i], list[*n - 1]))
            list[(*n)++] = list[i];
    if (!*n || *n > MAX_SHARDS)
        return kvt_fail(err, KVT_EFORMAT, "%s: weight_map names %d files, expected 1 to %d", path, *n, MAX_SHARDS);
    return 0;
}

/* Every tensor of the index lies in the shard that it names, and nothing else lies there. */
static int check_index(const struct kvt_safetensors *s, const cJSON *map, const char *const *shard, const char *path,
                       struct kvt_err *err)
{
    int entries = 0;
    for (const cJSON *v = map->child; v; v = v->next, entries++) {
        const struct kvt_tensor *t = kvt_tensors_find(&s->tensors, v->string);
        if (!t || strcmp(shard[t->file], v->valuestring))
            return kvt_fail(err, KVT_EFORMAT, "%s: tensor '%.*s' is not in '%.*s', as the index says; fetch both again", path,
                            shown(v->string), v->string, shown(v->valuestring), v->valuestring);
    }
    if (entries != s->tensors.n)
        return kvt_fail(err, KVT_EFORMAT, "%s: the index lists %d tensors, the shards have %d; fetch them again", path, entries,
                        s->tensors.n);
    return 0;
}

static int open_shards(struct kvt_safetensors *s, const struct kvt_folder *f, struct kvt_err *err)
{
    cJSON *index;
    const char **shard = NULL;
    int n = 0, rc = kvt_json_read(&index, f, index_name, MAX_INDEX_BYTES, err);
    if (rc)
        return rc;
    char *path = kvt_folder_join(f, index_name);
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(index, "weight_map");
    if (!path)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory to open %s", index_name);
    else if (!cJSON_IsObject(map))
        rc = kvt_fail(err, KVT_EFORMAT, "%s: no object 'weight_map' in the index", path);
    if (!rc)
        rc = list_shards(&shard, &n, map, path, err);
    for (int i = 0; i < n && !rc; i++) {
        struct kvt_map m;
        rc = kvt_folder_map(&m, f, shard[i], "shard of the model", err);
        if (!rc)
            rc = read_file(s, &m, err);
    }
    if (!rc)
        rc = kvt_tensors_seal(&s->tensors, err);
    if (!rc)
        rc = check_index(s, map, shard, path, err);
    free(shard);
    free(path);
    cJSON_Delete(index);
    return rc;
}

int kvt_safetensors_open(struct kvt_safetensors *s, const struct kvt_folder *f, struct kvt_err *err)
{
    static const char *const others[] = {"pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.safetensors"};
    struct kvt_map m;
    *s = (struct kvt_safetensors){0};
    if (kvt_folder_has(f, single_name)) { /* as transformers does: the single file goes before an index */
        int rc = kvt_folder_map(&m, f, single_name, "model file", err);
        if (!rc)
            rc = read_file(s, &m, err);
        return rc ? rc : kvt_tensors_seal(&s->tensors, err);
    }
    if (kvt_folder_has(f, index_name))
        return open_shards(s, f, err);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (kvt_folder_has(f, others[i]))
            return kvt_fail(err, KVT_EUNSUP, "%s: holds %s but no %s; save the model with transformers' save_pretrained to get one",
                            f->path, others[i], single_name);
    return kvt_fail(err, KVT_EINPUT, "%s: holds neither %s nor %s", f->path, single_name, index_name);
}

void kvt_safetensors_close(struct kvt_safetensors *s)
{
    kvt_tensors_free(&s->tensors);
    for (int i = 0; i < s->n_names; i++)
        free(s->name[i]);
    free(s->name);
    *s = (struct kvt_safetensors){0};
}

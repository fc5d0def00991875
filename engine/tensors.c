/* The list of tensors: names that are there once, bytes that belong to one. */
#include "engine/tensors.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

bool kvt_bytes_equal(struct kvt_bytes a, const char *b)
{
    return a.n == strlen(b) && memcmp(a.p, b, a.n) == 0;
}

int kvt_bytes_order(struct kvt_bytes a, struct kvt_bytes b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

int kvt_bytes_shown(struct kvt_bytes b)
{
    int n = 0;
    while ((size_t)n < b.n && n < 64 && b.p[n] >= 0x20 && b.p[n] < 0x7f)
        n++;
    return n;
}

bool kvt_tensor_size(const struct kvt_tensor *t, size_t *bytes)
{
    const struct kvt_dtype_info *info = &kvt_dtypes[t->type];
    size_t size = (size_t)(t->ne[0] / (uint64_t)info->block_values);
    bool fits = t->ne[0] <= SIZE_MAX && t->ne[0] % (uint64_t)info->block_values == 0 &&
                kvt_mul_size(size, (size_t)info->block_bytes, &size);
    for (int d = 1; d < 4; d++)
        fits = fits && t->ne[d] <= SIZE_MAX && kvt_mul_size(size, (size_t)t->ne[d], &size);
    *bytes = size;
    return fits;
}

int kvt_tensors_add_map(struct kvt_tensors *ts, struct kvt_map *m, struct kvt_err *err)
{
    struct kvt_map *all = realloc(ts->map, ((size_t)ts->n_maps + 1) * sizeof *all);
    if (!all) {
        kvt_map_close(m);
        return kvt_fail(err, KVT_ENOMEM, "no memory for the list of files");
    }
    ts->map = all;
    all[ts->n_maps++] = *m;
    *m = (struct kvt_map){0};
    return 0;
}

int kvt_tensors_reserve(struct kvt_tensors *ts, size_t n, struct kvt_err *err)
{
    size_t count, bytes;
    struct kvt_tensor *all = NULL;
    if (kvt_add_size((size_t)ts->n, n, &count) && count <= INT_MAX && kvt_mul_size(count + 1, sizeof *all, &bytes))
        all = realloc(ts->tensor, bytes);
    if (!all)
        return kvt_fail(err, KVT_ENOMEM, "no memory for a list of %zu tensors", n);
    ts->tensor = all;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct kvt_tensor *s = a, *t = b;
    int c = kvt_bytes_order(s->name, t->name);
    return c ? c : (s->file > t->file) - (s->file < t->file);
}

static int by_place(const void *a, const void *b)
{
    const struct kvt_tensor *s = *(const struct kvt_tensor *const *)a, *t = *(const struct kvt_tensor *const *)b;
    if (s->file != t->file)
        return s->file < t->file ? -1 : 1;
    return ((const char *)s->data > (const char *)t->data) - ((const char *)s->data < (const char *)t->data);
}

static int check_overlap(const struct kvt_tensors *ts, struct kvt_err *err)
{
    const struct kvt_tensor **at = kvt_calloc((size_t)ts->n, sizeof *at);
    int rc = at ? 0 : kvt_fail(err, KVT_ENOMEM, "%s: no memory for the list of tensors", ts->map->path);
    for (int i = 0; at && i < ts->n; i++)
        at[i] = &ts->tensor[i];
    if (at)
        qsort(at, (size_t)ts->n, sizeof *at, by_place);
    for (int i = 1; i < ts->n && !rc; i++) {
        const struct kvt_tensor *s = at[i - 1], *t = at[i];
        if (s->file == t->file && (size_t)((const char *)t->data - (const char *)s->data) < s->bytes)
            rc = kvt_fail(err, KVT_EFORMAT, "%s: tensors '%.*s' and '%.*s' share bytes; the file is damaged, fetch it again",
                          ts->map[s->file].path, kvt_bytes_shown(s->name), s->name.p, kvt_bytes_shown(t->name), t->name.p);
    }
    free(at);
    return rc;
}

int kvt_tensors_seal(struct kvt_tensors *ts, struct kvt_err *err)
{
    if (!ts->n)
        return 0;
    qsort(ts->tensor, (size_t)ts->n, sizeof *ts->tensor, by_name);
    for (int i = 1; i < ts->n; i++) {
        const struct kvt_tensor *s = &ts->tensor[i - 1], *t = &ts->tensor[i];
        if (kvt_bytes_order(s->name, t->name) == 0 && s->file == t->file)
            return kvt_fail(err, KVT_EFORMAT, "%s: tensor '%.*s' stands there twice", ts->map[t->file].path,
                            kvt_bytes_shown(t->name), t->name.p);
        if (kvt_bytes_order(s->name, t->name) == 0)
            return kvt_fail(err, KVT_EFORMAT, "%s: tensor '%.*s' is in %s too", ts->map[t->file].path, kvt_bytes_shown(t->name),
                            t->name.p, ts->map[s->file].path);
    }
    return check_overlap(ts, err);
}

const struct kvt_tensor *kvt_tensors_find(const struct kvt_tensors *ts, const char *name)
{
    struct kvt_bytes want = {name, strlen(name)};
    int lo = 0, hi = ts->n;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2, c = kvt_bytes_order(ts->tensor[mid].name, want);
        if (!c)
            return &ts->tensor[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

void kvt_tensors_free(struct kvt_tensors *ts)
{
    for (int i = 0; i < ts->n_maps; i++)
        kvt_map_close(&ts->map[i]);
    free(ts->map);
    free(ts->tensor);
    *ts = (struct kvt_tensors){0};
}

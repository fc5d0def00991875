/* A column for each field, a chunk at a time. */
#include "tracer/trace_times.h"

#include <stdlib.h>

#include "base/mem.h"

struct kvt_timeline {
    size_t room, chunk;      /* events of the file, of a chunk */
    size_t done, n;          /* in the file; gathered here */
    int64_t lost, lost_before;
    uint8_t *part;           /* (chunk), likewise all below */
    int32_t *layer, *branch, *step;
    int64_t *start, *duration;
};

void kvt_timeline_close(struct kvt_timeline *t)
{
    if (!t)
        return;
    void *own[] = {t->part, t->layer, t->branch, t->step, t->start, t->duration, t};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        free(own[i]);
}

struct kvt_timeline *kvt_timeline_open(const struct kvt_trace_shape *s, struct kvt_trace_file *f, bool *has)
{
    struct kvt_dataset_info d;
    size_t shape[KVT_TRACE_MAX_RANK], chunk[KVT_TRACE_MAX_RANK], len;
    kvt_schema_get(KVT_DS_TIME_START, &d);
    *has = kvt_trace_has(s, &d, shape, &len);
    struct kvt_timeline *t = *has ? kvt_calloc(1, sizeof *t) : NULL;
    if (!t)
        return NULL;
    kvt_schema_chunk(&d, shape, sizeof(int64_t), chunk);
    t->room = shape[0];
    int64_t count = 0;
    if (kvt_h5_read(f->ds[KVT_DS_TIME_COUNT], f->type[KVT_DS_TIME_COUNT], NULL, NULL, 0, &count) && count > 0)
        t->done = (uint64_t)count < t->room ? (size_t)count : t->room;
    t->chunk = chunk[0];
    t->part = kvt_calloc(t->chunk, sizeof *t->part);
    t->layer = kvt_calloc(t->chunk, sizeof *t->layer);
    t->branch = kvt_calloc(t->chunk, sizeof *t->branch);
    t->step = kvt_calloc(t->chunk, sizeof *t->step);
    t->start = kvt_calloc(t->chunk, sizeof *t->start);
    t->duration = kvt_calloc(t->chunk, sizeof *t->duration);
    if (t->part && t->layer && t->branch && t->step && t->start && t->duration)
        return t;
    kvt_timeline_close(t);
    return NULL;
}

static bool put(struct kvt_trace_file *f, enum kvt_dataset id, size_t at, size_t n, int rank, const void *v)
{
    return kvt_h5_write(f->ds[id], f->type[id], rank ? &at : NULL, &n, rank, v);
}

static bool write_gathered(struct kvt_timeline *t, struct kvt_trace_file *f)
{
    const struct { enum kvt_dataset id; const void *v; } column[] = {
        {KVT_DS_TIME_PART, t->part}, {KVT_DS_TIME_LAYER, t->layer}, {KVT_DS_TIME_BRANCH, t->branch}, {KVT_DS_TIME_STEP, t->step},
        {KVT_DS_TIME_START, t->start}, {KVT_DS_TIME_DUR, t->duration}};
    bool ok = true;
    for (size_t i = 0; ok && t->n && i < sizeof column / sizeof *column; i++)
        ok = put(f, column[i].id, t->done, t->n, 1, column[i].v);
    t->done += t->n;
    t->n = 0;
    int64_t count = (int64_t)t->done, lost = t->lost + t->lost_before;
    return ok && put(f, KVT_DS_TIME_COUNT, 0, 0, 0, &count) && put(f, KVT_DS_TIME_LOST, 0, 0, 0, &lost);
}

bool kvt_timeline_add(struct kvt_timeline *t, struct kvt_trace_file *f, const struct kvt_time *time, int n, int64_t lost)
{
    if (lost > t->lost_before)
        t->lost_before = lost;
    for (int i = 0; i < n; i++) {
        if (t->done + t->n == t->room) {
            t->lost += n - i;
            return true;
        }
        t->part[t->n] = (uint8_t)time[i].part;
        t->layer[t->n] = time[i].layer;
        t->branch[t->n] = time[i].branch;
        t->step[t->n] = time[i].step;
        t->start[t->n] = time[i].start_ns;
        t->duration[t->n++] = time[i].dur_ns;
        if (t->n == t->chunk && !write_gathered(t, f))
            return false;
    }
    return true;
}

bool kvt_timeline_end(struct kvt_timeline *t, struct kvt_trace_file *f) { return write_gathered(t, f); }

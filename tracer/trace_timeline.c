/* The times of a run as a JSON object of Chrome's trace events ("Trace Event Format", JSON Object Format), which ui.perfetto.dev and
 * chrome://tracing open: complete events (X) with microseconds, a track for the run, the writer and each branch, and a counter (C) of
 * KV bytes. On a track events nest: phase, step, part. With kvtrace --profile a process more, the device, with a track for each of its
 * streams, and on the host's side the calls of its operations. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/table.h"
#include "kvt/probe.h"
#include "tracer/trace_data.h"
#include "tracer/trace_export.h"
#include "tracer/trace_profile.h"

enum { TRACK_RUN = 1, TRACK_WRITER = 2, TRACK_CALLS = 3, TRACK_BRANCH = 10 };
enum { PROCESS_HOST = 1, PROCESS_DEVICE = 2 };

static const struct { const char *name, *cat; } parts[KVT_N_PART] = {
    [KVT_PART_QKV] = {"norm, q, k, v, cache", "layer"}, [KVT_PART_ATTENTION] = {"attention", "layer"}, [KVT_PART_LOOK] = {"look", "layer"},
    [KVT_PART_OUTPUT] = {"output", "layer"}, [KVT_PART_FFN] = {"feed-forward", "layer"}, [KVT_PART_HEAD] = {"logits", "layer"},
    [KVT_PART_SCORE] = {"score", "eviction"}, [KVT_PART_SELECT] = {"select", "eviction"}, [KVT_PART_COMPACT] = {"compact", "eviction"},
    [KVT_PART_STEP] = {"step", "step"}, [KVT_PART_WRITE] = {"write", "writer"}, [KVT_PART_EVICT] = {"score, select, compact", "eviction"}};

struct timeline {
    struct kvt_trace *t;
    FILE *out;
    int64_t origin;   /* what counts as 0 */
    size_t n;
    uint8_t *part;    /* (n), likewise all below */
    int32_t *layer, *branch, *step;
    int64_t *start, *duration;
};

/* The first `n` of a column. */
static void *column(struct kvt_trace *t, enum kvt_dataset id, size_t n, size_t size, int *rc, struct kvt_err *err)
{
    void *v = *rc ? NULL : kvt_calloc(n ? n : 1, size);
    if (*rc || !v)
        *rc = *rc ? *rc : kvt_fail(err, KVT_ENOMEM, "%s: no memory", t->path);
    else if (n)
        *rc = kvt_trace_get(t, id, 0, (size_t[]){0}, (size_t[]){n}, v, err);
    return v;
}

static int read_columns(struct timeline *l, struct kvt_err *err)
{
    int64_t count = 0;
    int rc = KVT_OK;
    if (kvt_trace_has_dataset(l->t, KVT_DS_TIME_START, 0) && kvt_trace_has_dataset(l->t, KVT_DS_TIME_COUNT, 0))
        rc = kvt_trace_get(l->t, KVT_DS_TIME_COUNT, 0, NULL, NULL, &count, err);
    if (!rc && (count < 0 || (uint64_t)count > l->t->extent[KVT_DIM_event]))
        rc = kvt_fail(err, KVT_EFORMAT, "%s: timeline/count is %lld; there is room for %zu", l->t->path, (long long)count, l->t->extent[KVT_DIM_event]);
    l->n = rc ? 0 : (size_t)count;
    l->part = column(l->t, KVT_DS_TIME_PART, l->n, sizeof *l->part, &rc, err);
    l->layer = column(l->t, KVT_DS_TIME_LAYER, l->n, sizeof *l->layer, &rc, err);
    l->branch = column(l->t, KVT_DS_TIME_BRANCH, l->n, sizeof *l->branch, &rc, err);
    l->step = column(l->t, KVT_DS_TIME_STEP, l->n, sizeof *l->step, &rc, err);
    l->start = column(l->t, KVT_DS_TIME_START, l->n, sizeof *l->start, &rc, err);
    l->duration = column(l->t, KVT_DS_TIME_DUR, l->n, sizeof *l->duration, &rc, err);
    return rc;
}

static void free_columns(struct timeline *l)
{
    void *own[] = {l->part, l->layer, l->branch, l->step, l->start, l->duration};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        free(own[i]);
}

const char *kvt_trace_part_name(int part) { return part >= 0 && part < KVT_N_PART && parts[part].name ? parts[part].name : "?"; }

int kvt_trace_times(struct kvt_trace *t, struct kvt_trace_time **out, size_t *n, struct kvt_err *err)
{
    struct timeline l = {.t = t};
    kvt_h5_quiet(&t->why);
    int rc = read_columns(&l, err);
    *n = rc ? 0 : l.n;
    *out = *n ? kvt_calloc(*n, sizeof **out) : NULL;
    if (*n && !*out)
        rc = kvt_fail(err, KVT_ENOMEM, "%s: no memory", t->path);
    for (size_t i = 0; *out && i < *n; i++)
        (*out)[i] = (struct kvt_trace_time){l.part[i], l.layer[i], l.branch[i], l.step[i], l.start[i], l.duration[i]};
    free_columns(&l);
    return rc;
}

static void put_track(const struct timeline *l, int tid, const char *name)
{
    fprintf(l->out, ",\n{\"name\": \"thread_name\", \"ph\": \"M\", \"pid\": 1, \"tid\": %d, \"args\": {\"name\": ", tid);
    kvt_json_text(l->out, name);
    fprintf(l->out, "}},\n{\"name\": \"thread_sort_index\", \"ph\": \"M\", \"pid\": 1, \"tid\": %d, \"args\": {\"sort_index\": %d}}", tid, tid);
}

/* Microseconds from the origin, to the nanosecond. */
static void put_time(const struct timeline *l, const char *key, int64_t ns)
{
    fprintf(l->out, ", \"%s\": %lld.%03d", key, (long long)(ns / 1000), (int)(ns % 1000));
}

static void put_event(const struct timeline *l, size_t i)
{
    int part = l->part[i], b = l->branch[i];
    bool ours = part < KVT_N_PART && l->start[i] >= l->origin && l->duration[i] >= 0 && b < l->t->info.n_branches;
    if (!ours) /* a foreign writer's */
        return;
    bool eviction = part == KVT_PART_SCORE || part == KVT_PART_SELECT || part == KVT_PART_COMPACT || part == KVT_PART_EVICT;
    int tid = part == KVT_PART_WRITE ? TRACK_WRITER : eviction && b >= 0 ? TRACK_BRANCH + b : TRACK_RUN;
    fprintf(l->out, ",\n{\"name\": \"%s\", \"cat\": \"%s\", \"ph\": \"X\"", parts[part].name, parts[part].cat);
    put_time(l, "ts", l->start[i] - l->origin);
    put_time(l, "dur", l->duration[i]);
    fprintf(l->out, ", \"pid\": 1, \"tid\": %d, \"args\": {", tid);
    const struct { const char *key; int v; } arg[] = {{"layer", l->layer[i]}, {"branch", b}, {"step", l->step[i]}};
    bool first = true;
    for (int k = 0; k < 3; k++)
        if (arg[k].v > 0 || (arg[k].v == 0 && k < 2)) {
            fprintf(l->out, "%s\"%s\": %d", first ? "" : ", ", arg[k].key, arg[k].v);
            first = false;
        }
    fputs("}}", l->out);
}

static void put_phases(const struct timeline *l)
{
    const struct kvt_trace_info *in = &l->t->info;
    for (int i = 0; i < in->n_phases; i++) {
        const struct kvt_trace_phase *p = &in->phase[i];
        if (p->start_ns < l->origin || p->dur_ns < 0)
            continue;
        fputs(",\n{\"name\": ", l->out);
        kvt_json_text(l->out, p->name);
        fputs(", \"cat\": \"phase\", \"ph\": \"X\"", l->out);
        put_time(l, "ts", p->start_ns - l->origin);
        put_time(l, "dur", p->dur_ns);
        fprintf(l->out, ", \"pid\": 1, \"tid\": %d, \"args\": {\"tokens\": %d}}", TRACK_RUN, p->n_tok);
    }
}

/* KV bytes of the whole run at the end of each step. */
static int put_bytes(const struct timeline *l, struct kvt_err *err)
{
    int rc = KVT_OK;
    size_t steps = (size_t)l->t->info.n_steps;
    int64_t *held = column(l->t, KVT_DS_STEP_HELD, steps, sizeof *held, &rc, err);
    for (size_t i = 0; !rc && i < l->n; i++) {
        if (l->part[i] != KVT_PART_STEP || l->step[i] < 1 || (size_t)l->step[i] > steps || held[l->step[i] - 1] < 0 || l->start[i] < l->origin)
            continue;
        fputs(",\n{\"name\": \"KV bytes\", \"ph\": \"C\"", l->out);
        put_time(l, "ts", l->start[i] - l->origin + l->duration[i]);
        fprintf(l->out, ", \"pid\": 1, \"args\": {\"held\": %lld}}", (long long)held[l->step[i] - 1]);
    }
    free(held);
    return rc;
}

/* ---- the device ---- */

static void begin_event(const struct timeline *l, const char *name, const char *cat, int pid, int tid, int64_t start_ns, int64_t dur_ns)
{
    fputs(",\n{\"name\": ", l->out);
    kvt_json_text(l->out, name);
    fprintf(l->out, ", \"cat\": \"%s\", \"ph\": \"X\"", cat);
    put_time(l, "ts", start_ns - l->origin);
    put_time(l, "dur", dur_ns);
    fprintf(l->out, ", \"pid\": %d, \"tid\": %d, \"args\": {", pid, tid);
}

static void put_where(const struct timeline *l, const struct kvt_device_call *c)
{
    fprintf(l->out, "\"layer\": %d, \"step\": %d, \"branches\": \"%llx\", \"bytes\": %lld}}", c->layer, c->step, (unsigned long long)c->branches, (long long)c->bytes);
}

static void put_device(const struct timeline *l, const struct kvt_profile_read *p)
{
    static const char *const kind[KVT_N_DEVICE_KIND] = {"kernel", "copy", "set", "wait", "overhead"};
    if (!p->times.version)
        return;
    put_track(l, TRACK_CALLS, "operations");
    fprintf(l->out, ",\n{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": %d, \"args\": {\"name\": \"device\"}}", PROCESS_DEVICE);
    for (size_t i = 0; i < p->times.n_calls; i++) {
        const struct kvt_device_call *c = &p->call[i];
        if (c->start_ns < l->origin || c->dur_ns < 0)
            continue;
        begin_event(l, kvt_profile_name(p, c->name), "operation", PROCESS_HOST, TRACK_CALLS, c->start_ns, c->dur_ns);
        put_where(l, c);
    }
    for (size_t i = 0; i < p->times.n_records; i++) {
        const struct kvt_device_record *r = &p->record[i];
        if (r->start_ns < l->origin || r->kind >= KVT_N_DEVICE_KIND) /* no time was taken, or a foreign writer's */
            continue;
        bool host = r->kind == KVT_DEVICE_WAIT || r->kind == KVT_DEVICE_OVERHEAD;
        begin_event(l, kvt_profile_name(p, r->name), kind[r->kind], PROCESS_DEVICE, host ? 1000000 : r->stream, r->start_ns, r->dur_ns);
        if (r->call < 0) {
            fputs("}}", l->out);
            continue;
        }
        fputs("\"operation\": ", l->out);
        kvt_json_text(l->out, kvt_profile_name(p, p->call[r->call].name));
        fputs(", ", l->out);
        put_where(l, &p->call[r->call]);
    }
}

int kvt_trace_timeline(struct kvt_trace *t, FILE *out, struct kvt_err *err)
{
    struct timeline l = {.t = t, .out = out, .origin = INT64_MAX};
    const struct kvt_trace_info *in = &t->info;
    kvt_h5_quiet(&t->why);
    struct kvt_profile_read profile = {0};
    int rc = read_columns(&l, err);
    if (!rc)
        rc = kvt_profile_read(t, &profile, err);
    for (size_t i = 0; i < profile.times.n_calls; i++) /* weights go over before the first phase */
        l.origin = profile.call[i].start_ns >= 0 && profile.call[i].start_ns < l.origin ? profile.call[i].start_ns : l.origin;
    for (size_t i = 0; !rc && i < l.n; i++)
        l.origin = l.start[i] >= 0 && l.start[i] < l.origin ? l.start[i] : l.origin;
    for (int i = 0; i < in->n_phases; i++)
        l.origin = in->phase[i].start_ns >= 0 && in->phase[i].start_ns < l.origin ? in->phase[i].start_ns : l.origin;
    if (!rc) {
        fputs("{\"displayTimeUnit\": \"ms\", \"otherData\": {\"command\": ", out);
        kvt_json_text(out, in->command_line);
        fputs("},\n\"traceEvents\": [\n{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": 1, \"args\": {\"name\": \"kvtrace\"}}", out);
        put_track(&l, TRACK_RUN, "run");
        put_track(&l, TRACK_WRITER, "writer");
        for (int b = 0; b < in->n_branches; b++)
            put_track(&l, TRACK_BRANCH + b, in->branch[b].name);
        put_phases(&l);
        for (size_t i = 0; i < l.n; i++)
            put_event(&l, i);
        put_device(&l, &profile);
        rc = put_bytes(&l, err);
        fputs("\n]}\n", out);
    }
    free_columns(&l);
    kvt_profile_free(&profile);
    if (!rc && (fflush(out) || ferror(out)))
        rc = kvt_fail(err, KVT_EIO, "cannot write the timeline");
    return rc;
}

/* What the device did, into the file: a column for each field, a chunk at a time. */
#include "tracer/trace_device.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { RUN = 8192 }; /* of a chunk: each is written once */

/* Values of a column for entries [from, from + n). */
static void calls(enum kvt_dataset id, const struct kvt_device_call *c, size_t n, void *to)
{
    for (size_t i = 0; i < n; i++)
        switch (id) {
        case KVT_DS_CALL_OP: ((int32_t *)to)[i] = c[i].name; break;
        case KVT_DS_CALL_PHASE: ((uint8_t *)to)[i] = c[i].phase < 0 ? 255 : (uint8_t)c[i].phase; break;
        case KVT_DS_CALL_LAYER: ((int32_t *)to)[i] = c[i].layer; break;
        case KVT_DS_CALL_STEP: ((int32_t *)to)[i] = c[i].step; break;
        case KVT_DS_CALL_BRANCHES: ((uint64_t *)to)[i] = c[i].branches; break;
        case KVT_DS_CALL_BYTES: ((int64_t *)to)[i] = c[i].bytes; break;
        case KVT_DS_CALL_START: ((int64_t *)to)[i] = c[i].start_ns; break;
        default: ((int64_t *)to)[i] = c[i].dur_ns; break;
        }
}

static void records(enum kvt_dataset id, const struct kvt_device_record *r, size_t n, void *to)
{
    for (size_t i = 0; i < n; i++)
        switch (id) {
        case KVT_DS_DEV_KIND: ((uint8_t *)to)[i] = (uint8_t)r[i].kind; break;
        case KVT_DS_DEV_NAME: ((int32_t *)to)[i] = r[i].name < KVT_TRACE_NAMES ? r[i].name : -1; break;
        case KVT_DS_DEV_CALL: ((int32_t *)to)[i] = r[i].call; break;
        case KVT_DS_DEV_STREAM: ((int32_t *)to)[i] = r[i].stream; break;
        case KVT_DS_DEV_BYTES: ((int64_t *)to)[i] = r[i].bytes; break;
        case KVT_DS_DEV_START: ((int64_t *)to)[i] = r[i].start_ns; break;
        default: ((int64_t *)to)[i] = r[i].dur_ns; break;
        }
}

static bool put_names(struct kvt_trace_file *f, const struct kvt_device_times *t)
{
    size_t len = H5Tget_size(f->type[KVT_DS_DEV_NAMES]), n = (size_t)(t->n_names < KVT_TRACE_NAMES ? t->n_names : KVT_TRACE_NAMES);
    char *field = kvt_calloc(n ? n : 1, len);
    for (size_t i = 0; field && i < n; i++)
        memcpy(field + i * len, t->name[i], strlen(t->name[i]) < len ? strlen(t->name[i]) : len);
    bool ok = field && (!n || kvt_h5_write(f->ds[KVT_DS_DEV_NAMES], f->type[KVT_DS_DEV_NAMES], (size_t[]){0}, &n, 1, field));
    free(field);
    return ok;
}

bool kvt_device_write(struct kvt_trace_file *f, const struct kvt_device_times *t)
{
    static const enum kvt_dataset call[] = {KVT_DS_CALL_OP, KVT_DS_CALL_PHASE, KVT_DS_CALL_LAYER, KVT_DS_CALL_STEP, KVT_DS_CALL_BRANCHES,
                                            KVT_DS_CALL_BYTES, KVT_DS_CALL_START, KVT_DS_CALL_DUR};
    static const enum kvt_dataset record[] = {KVT_DS_DEV_KIND, KVT_DS_DEV_NAME, KVT_DS_DEV_CALL, KVT_DS_DEV_STREAM,
                                              KVT_DS_DEV_BYTES, KVT_DS_DEV_START, KVT_DS_DEV_DUR};
    if (f->ds[KVT_DS_DEV_COUNT] < 0)
        return true;
    int64_t *run = kvt_calloc(RUN, sizeof *run);
    bool ok = run;
    for (size_t c = 0; c < sizeof call / sizeof *call; c++)
        for (size_t at = 0, n; ok && at < t->n_calls; at += n) {
            n = t->n_calls - at < RUN ? t->n_calls - at : RUN;
            calls(call[c], t->call + at, n, run);
            ok = kvt_h5_write(f->ds[call[c]], f->type[call[c]], &at, &n, 1, run);
        }
    for (size_t c = 0; c < sizeof record / sizeof *record; c++)
        for (size_t at = 0, n; ok && at < t->n_records; at += n) {
            n = t->n_records - at < RUN ? t->n_records - at : RUN;
            records(record[c], t->record + at, n, run);
            ok = kvt_h5_write(f->ds[record[c]], f->type[record[c]], &at, &n, 1, run);
        }
    free(run);
    const int64_t count[2] = {(int64_t)t->n_calls, (int64_t)t->n_records}, version = t->version;
    const struct { enum kvt_dataset id; const void *v; } one[] = {
        {KVT_DS_CALL_LOST, &t->calls_lost}, {KVT_DS_DEV_LOST, &t->records_lost}, {KVT_DS_DEV_DROPPED, &t->dropped}, {KVT_DS_DEV_DAMAGED, &t->damaged},
        {KVT_DS_DEV_BANDWIDTH, &t->bandwidth}, {KVT_DS_DEV_REAL0, &t->real_ns[0]}, {KVT_DS_DEV_REAL1, &t->real_ns[1]},
        {KVT_DS_DEV_MONO0, &t->mono_ns[0]}, {KVT_DS_DEV_MONO1, &t->mono_ns[1]}, {KVT_DS_CALL_COUNT, &count[0]}, {KVT_DS_DEV_COUNT, &count[1]},
        {KVT_DS_DEV_CUPTI, &version}};
    ok = ok && put_names(f, t);
    for (size_t i = 0; ok && i < sizeof one / sizeof *one; i++)
        ok = kvt_h5_write(f->ds[one[i].id], f->type[one[i].id], NULL, NULL, 0, one[i].v);
    return ok;
}

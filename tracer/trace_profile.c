/* A device's records out of a trace, column by column. */
#include "tracer/trace_profile.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tracer/trace_data.h"

/* Scalar, or the first n of a column; buf holds them. */
static int get(struct kvt_trace *t, enum kvt_dataset id, size_t n, void *buf, struct kvt_err *err)
{
    return kvt_trace_get(t, id, 0, (size_t[]){0}, (size_t[]){n}, buf, err);
}

static int scalars(struct kvt_trace *t, struct kvt_device_times *to, int64_t *calls, int64_t *records, struct kvt_err *err)
{
    int64_t version = 0;
    const struct { enum kvt_dataset id; void *v; } one[] = {
        {KVT_DS_DEV_CUPTI, &version}, {KVT_DS_CALL_COUNT, calls}, {KVT_DS_CALL_LOST, &to->calls_lost}, {KVT_DS_DEV_COUNT, records},
        {KVT_DS_DEV_LOST, &to->records_lost}, {KVT_DS_DEV_DROPPED, &to->dropped}, {KVT_DS_DEV_DAMAGED, &to->damaged},
        {KVT_DS_DEV_BANDWIDTH, &to->bandwidth}, {KVT_DS_DEV_REAL0, &to->real_ns[0]}, {KVT_DS_DEV_REAL1, &to->real_ns[1]},
        {KVT_DS_DEV_MONO0, &to->mono_ns[0]}, {KVT_DS_DEV_MONO1, &to->mono_ns[1]}};
    int rc = KVT_OK;
    for (size_t i = 0; !rc && i < sizeof one / sizeof *one; i++)
        rc = kvt_trace_get(t, one[i].id, 0, NULL, NULL, one[i].v, err);
    to->version = (uint32_t)version;
    return rc;
}

static int32_t index_below(int32_t i, int64_t n) { return i >= 0 && i < n ? i : -1; }

static int read_calls(struct kvt_trace *t, struct kvt_profile_read *p, int64_t *buf, struct kvt_err *err)
{
    static const enum kvt_dataset column[] = {KVT_DS_CALL_OP, KVT_DS_CALL_LAYER, KVT_DS_CALL_STEP, KVT_DS_CALL_PHASE, KVT_DS_CALL_BRANCHES,
                                              KVT_DS_CALL_BYTES, KVT_DS_CALL_START, KVT_DS_CALL_DUR};
    int rc = KVT_OK;
    size_t n = p->times.n_calls;
    for (size_t k = 0; n && !rc && k < sizeof column / sizeof *column; k++) {
        rc = get(t, column[k], n, buf, err);
        const int32_t *v = (const int32_t *)buf;
        for (size_t i = 0; !rc && i < n; i++) {
            struct kvt_device_call *c = &p->call[i];
            switch (column[k]) {
            case KVT_DS_CALL_OP: c->name = index_below(v[i], p->times.n_names); break;
            case KVT_DS_CALL_LAYER: c->layer = v[i]; break;
            case KVT_DS_CALL_STEP: c->step = v[i]; break;
            case KVT_DS_CALL_PHASE: c->phase = ((const uint8_t *)buf)[i] < KVT_N_PHASE ? ((const uint8_t *)buf)[i] : -1; break;
            case KVT_DS_CALL_BRANCHES: c->branches = ((const uint64_t *)buf)[i]; break;
            case KVT_DS_CALL_BYTES: c->bytes = buf[i]; break;
            case KVT_DS_CALL_START: c->start_ns = buf[i]; break;
            default: c->dur_ns = buf[i]; break;
            }
        }
    }
    return rc;
}

static int read_records(struct kvt_trace *t, struct kvt_profile_read *p, int64_t *buf, struct kvt_err *err)
{
    static const enum kvt_dataset column[] = {KVT_DS_DEV_KIND, KVT_DS_DEV_NAME, KVT_DS_DEV_CALL, KVT_DS_DEV_STREAM,
                                              KVT_DS_DEV_BYTES, KVT_DS_DEV_START, KVT_DS_DEV_DUR};
    int rc = KVT_OK;
    size_t n = p->times.n_records;
    int64_t calls = (int64_t)p->times.n_calls;
    for (size_t k = 0; n && !rc && k < sizeof column / sizeof *column; k++) {
        rc = get(t, column[k], n, buf, err);
        const int32_t *v = (const int32_t *)buf;
        for (size_t i = 0; !rc && i < n; i++) {
            struct kvt_device_record *r = &p->record[i];
            switch (column[k]) {
            case KVT_DS_DEV_KIND: r->kind = ((const uint8_t *)buf)[i]; break;
            case KVT_DS_DEV_NAME: r->name = index_below(v[i], p->times.n_names); break;
            case KVT_DS_DEV_CALL: r->call = index_below(v[i], calls); break;
            case KVT_DS_DEV_STREAM: r->stream = v[i]; break;
            case KVT_DS_DEV_BYTES: r->bytes = buf[i]; break;
            case KVT_DS_DEV_START: r->start_ns = buf[i]; break;
            default: r->dur_ns = buf[i] > 0 ? buf[i] : 0; break;
            }
        }
    }
    return rc;
}

/* Texts of fixed length, without an end where they are full. */
static int read_names(struct kvt_trace *t, struct kvt_profile_read *p, struct kvt_err *err)
{
    size_t len = 0, n = t->extent[KVT_DIM_name];
    hid_t ds = kvt_trace_dataset(t, KVT_DS_DEV_NAMES, 0, &len, NULL, err);
    if (ds < 0)
        return err ? err->code : KVT_EFORMAT;
    H5Dclose(ds);
    char *packed = kvt_calloc(n, len);
    p->text = kvt_calloc(n, len + 1);
    p->name = kvt_calloc(n, sizeof *p->name);
    int rc = packed && p->text && p->name ? kvt_trace_get(t, KVT_DS_DEV_NAMES, 0, NULL, NULL, packed, err) : kvt_fail(err, KVT_ENOMEM, "%s: no memory", t->path);
    for (size_t i = 0; !rc && i < n; i++) {
        memcpy(p->text + i * (len + 1), packed + i * len, len);
        p->name[i] = p->text + i * (len + 1);
        p->times.n_names = *p->name[i] ? (int)i + 1 : p->times.n_names;
    }
    p->times.name = p->name;
    free(packed);
    return rc;
}

int kvt_profile_read(struct kvt_trace *t, struct kvt_profile_read *out, struct kvt_err *err)
{
    *out = (struct kvt_profile_read){0};
    kvt_h5_quiet(&t->why);
    if (!kvt_trace_has_dataset(t, KVT_DS_DEV_CUPTI, 0))
        return KVT_OK;
    int64_t calls = 0, records = 0;
    int rc = scalars(t, &out->times, &calls, &records, err);
    if (!rc && !out->times.version)
        return KVT_OK;
    if (!rc && (calls < 0 || (uint64_t)calls > t->extent[KVT_DIM_call] || records < 0 || (uint64_t)records > t->extent[KVT_DIM_record]))
        rc = kvt_fail(err, KVT_EFORMAT, "%s: timeline/ counts %lld calls and %lld records; there is room for %zu and %zu", t->path, (long long)calls,
                      (long long)records, t->extent[KVT_DIM_call], t->extent[KVT_DIM_record]);
    if (rc)
        return rc;
    out->times.n_calls = (size_t)calls;
    out->times.n_records = (size_t)records;
    int64_t *buf = kvt_calloc((size_t)(calls > records ? calls : records) + 1, sizeof *buf);
    out->call = kvt_calloc((size_t)calls + 1, sizeof *out->call);
    out->record = kvt_calloc((size_t)records + 1, sizeof *out->record);
    out->times.call = out->call;
    out->times.record = out->record;
    rc = buf && out->call && out->record ? read_names(t, out, err) : kvt_fail(err, KVT_ENOMEM, "%s: no memory", t->path);
    if (!rc)
        rc = read_calls(t, out, buf, err);
    if (!rc)
        rc = read_records(t, out, buf, err);
    free(buf);
    if (rc)
        kvt_profile_free(out);
    return rc;
}

void kvt_profile_free(struct kvt_profile_read *p)
{
    free(p->call);
    free(p->record);
    free(p->text);
    free(p->name);
    *p = (struct kvt_profile_read){0};
}

const char *kvt_profile_name(const struct kvt_profile_read *p, int32_t name) { return name < 0 ? "?" : p->name[name]; }

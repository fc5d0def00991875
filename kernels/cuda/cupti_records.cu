/* Activity records into rows. Only fields that we know are read, and the next record is always asked of CUPTI: its structs grow. */
#include "kernels/cuda/cupti.h"

#include <cxxabi.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers to indices ---- */

static size_t slot_of(const struct kvt_id_map *m, uint64_t key)
{
    size_t at = (size_t)(key * 0x9e3779b97f4a7c15u >> 20) & (m->cap - 1);
    while (m->value[at] >= 0 && m->key[at] != key)
        at = (at + 1) & (m->cap - 1);
    return at;
}

static bool grow(struct kvt_id_map *m)
{
    struct kvt_id_map to = {NULL, NULL, m->cap ? 2 * m->cap : 1024, m->n};
    to.key = (uint64_t *)malloc(to.cap * sizeof *to.key);
    to.value = (int32_t *)malloc(to.cap * sizeof *to.value);
    if (!to.key || !to.value) {
        kvt_id_free(&to);
        return false;
    }
    memset(to.value, 0xff, to.cap * sizeof *to.value);
    for (size_t i = 0; i < m->cap; i++)
        if (m->value[i] >= 0) {
            size_t at = slot_of(&to, m->key[i]);
            to.key[at] = m->key[i], to.value[at] = m->value[i];
        }
    kvt_id_free(m);
    *m = to;
    return true;
}

bool kvt_id_put(struct kvt_id_map *m, uint64_t key, int32_t value)
{
    if (2 * (m->n + 1) > m->cap && !grow(m))
        return false;
    size_t at = slot_of(m, key);
    if (m->value[at] < 0)
        m->key[at] = key, m->value[at] = value, m->n++;
    return true;
}

int32_t kvt_id_get(const struct kvt_id_map *m, uint64_t key) { return m->cap ? m->value[slot_of(m, key)] : -1; }

void kvt_id_free(struct kvt_id_map *m)
{
    free(m->key);
    free(m->value);
    *m = (struct kvt_id_map){};
}

/* ---- names ---- */

static int32_t add_name(struct kvt_records *r, char *own, const void *from)
{
    if (own && r->n_names == r->cap_names) {
        int cap = r->cap_names ? 2 * r->cap_names : 64;
        char **name = (char **)realloc(r->name, (size_t)cap * sizeof *name);
        r->name = name ? name : r->name;
        const void **name_from = name ? (const void **)realloc(r->name_from, (size_t)cap * sizeof *name_from) : NULL;
        r->name_from = name_from ? name_from : r->name_from;
        r->cap_names = name_from ? cap : r->cap_names;
    }
    if (!own || r->n_names == r->cap_names) {
        free(own);
        return -1;
    }
    r->name[r->n_names] = own, r->name_from[r->n_names] = from;
    return r->n_names++;
}

int32_t kvt_records_name(struct kvt_records *r, const char *name)
{
    for (int i = 0; i < r->n_names; i++)
        if (!r->name_from[i] && !strcmp(r->name[i], name))
            return i;
    return add_name(r, strdup(name), NULL);
}

/* "rows_kernel<__half, 8>" of _ZL11rows_kernel...: without namespaces, arguments and what it returns. */
static char *readable(const char *mangled)
{
    int status = -1, depth = 0;
    char *whole = strncmp(mangled, "_Z", 2) ? NULL : abi::__cxa_demangle(mangled, NULL, NULL, &status), *from = whole; /* "a" is signed char */
    if (status || !whole)
        return strdup(mangled);
    for (char *c = whole; *c; c++) {
        if (!depth && *c == '(' && strncmp(c, "(anonymous", 10)) {
            *c = '\0';
            break;
        }
        depth += (*c == '<' || *c == '(') - (*c == '>' || *c == ')');
        if (!depth && (*c == ':' || *c == ' '))
            from = c + 1;
    }
    memmove(whole, from, strlen(from) + 1);
    return whole;
}

/* CUPTI's string is one for all records of a kernel: its address is looked for, its text is copied. */
static int32_t kernel_name(struct kvt_records *r, const char *name)
{
    if (!name)
        return kvt_records_name(r, "kernel without a name");
    for (int i = r->n_names; i-- > 0;)
        if (r->name_from[i] == name)
            return i;
    return add_name(r, readable(name), name);
}

/* ---- records ---- */

int kvt_records_open(struct kvt_records *r, size_t room)
{
    *r = (struct kvt_records){};
    r->room = room;
    r->record = (struct kvt_raw_record *)malloc(room * sizeof *r->record); /* pages that nothing is written to cost nothing */
    r->joined = (struct kvt_device_record *)malloc(room * sizeof *r->joined);
    return r->record && r->joined ? 0 : KVT_ENOMEM;
}

void kvt_records_close(struct kvt_records *r)
{
    for (int i = 0; i < r->n_names; i++)
        free(r->name[i]);
    free(r->name);
    free(r->name_from);
    free(r->record);
    free(r->joined);
    kvt_id_free(&r->asked);
    kvt_id_free(&r->node);
    free(r->launch);
    free(r->of_node);
    *r = (struct kvt_records){};
}

static bool room_for(void **p, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap)
        return true;
    size_t to = 2 * need + 64;
    void *more = realloc(*p, to * size);
    *p = more ? more : *p;
    *cap = more ? to : *cap;
    return more != NULL;
}

int32_t kvt_records_launch(struct kvt_records *r, const int32_t *call, int n)
{
    if (r->n_launches >= INT32_MAX - KVT_LAUNCH0 || !room_for((void **)&r->launch, &r->cap_launches, r->n_launches + 1, sizeof *r->launch) ||
        !room_for((void **)&r->of_node, &r->cap_of_node, r->n_of_node + (size_t)n, sizeof *r->of_node))
        return -1;
    r->launch[r->n_launches] = {r->n_of_node, n};
    memcpy(r->of_node + r->n_of_node, call, (size_t)n * sizeof *call);
    r->n_of_node += (size_t)n;
    return (int32_t)(KVT_LAUNCH0 + r->n_launches++);
}

static void add(struct kvt_records *r, enum kvt_device_kind kind, int32_t name, uint64_t start, uint64_t end, int64_t bytes, uint32_t stream,
                uint32_t correlation, uint64_t node)
{
    if (r->n == r->room) {
        r->lost++;
        return;
    }
    bool timed = start && end >= start; /* 0: no time was taken */
    struct kvt_raw_record *to = &r->record[r->n++];
    *to = (struct kvt_raw_record){{}, correlation, node};
    to->to.start_ns = timed ? (int64_t)start : -1;
    to->to.dur_ns = timed ? (int64_t)(end - start) : 0;
    to->to.bytes = bytes;
    to->to.kind = kind;
    to->to.name = name;
    to->to.stream = (int32_t)stream;
    to->to.call = -1;
}

static const char *copy_name(int kind)
{
    switch (kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD: return "copy to the device";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH: return "copy to the host";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD: return "copy on the device";
    default: return "copy";
    }
}

static const char *wait_name(CUpti_ActivitySynchronizationType type)
{
    switch (type) {
    case CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_EVENT_SYNCHRONIZE: return "wait for an event";
    case CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_STREAM_WAIT_EVENT: return "stream waits for an event";
    case CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_STREAM_SYNCHRONIZE: return "wait for a stream";
    case CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_CONTEXT_SYNCHRONIZE: return "wait for the device";
    default: return "wait";
    }
}

static const char *overhead_name(CUpti_ActivityOverheadKind kind)
{
    switch (kind) {
    case CUPTI_ACTIVITY_OVERHEAD_DRIVER_COMPILER: return "overhead: compiling";
    case CUPTI_ACTIVITY_OVERHEAD_CUPTI_BUFFER_FLUSH: return "overhead: buffers of the profile";
    case CUPTI_ACTIVITY_OVERHEAD_CUPTI_INSTRUMENTATION: return "overhead: instrumentation";
    case CUPTI_ACTIVITY_OVERHEAD_CUPTI_RESOURCE: return "overhead: resources of the profile";
    case CUPTI_ACTIVITY_OVERHEAD_RUNTIME_TRIGGERED_MODULE_LOADING: return "overhead: loading modules";
    case CUPTI_ACTIVITY_OVERHEAD_LAZY_FUNCTION_LOADING: return "overhead: loading functions";
    case CUPTI_ACTIVITY_OVERHEAD_COMMAND_BUFFER_FULL: return "overhead: command buffer full";
    case CUPTI_ACTIVITY_OVERHEAD_ACTIVITY_BUFFER_REQUEST: return "overhead: asking for a buffer";
    default: return "overhead: other";
    }
}

static void read_one(struct kvt_records *r, const CUpti_Activity *any)
{
    switch (any->kind) {
    case CUPTI_ACTIVITY_KIND_KERNEL:
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
        const CUpti_ActivityKernel10 *k = (const CUpti_ActivityKernel10 *)any;
        add(r, KVT_DEVICE_KERNEL, kernel_name(r, k->name), k->start, k->end, -1, k->streamId, k->correlationId, k->graphNodeId);
        break;
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
        const CUpti_ActivityMemcpy6 *c = (const CUpti_ActivityMemcpy6 *)any;
        add(r, KVT_DEVICE_COPY, kvt_records_name(r, copy_name(c->copyKind)), c->start, c->end, (int64_t)c->bytes, c->streamId, c->correlationId, c->graphNodeId);
        break;
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
        const CUpti_ActivityMemset4 *s = (const CUpti_ActivityMemset4 *)any;
        add(r, KVT_DEVICE_SET, kvt_records_name(r, "set"), s->start, s->end, (int64_t)s->bytes, s->streamId, s->correlationId, s->graphNodeId);
        break;
    }
    case CUPTI_ACTIVITY_KIND_SYNCHRONIZATION: {
        const CUpti_ActivitySynchronization2 *s = (const CUpti_ActivitySynchronization2 *)any;
        add(r, KVT_DEVICE_WAIT, kvt_records_name(r, wait_name(s->type)), s->start, s->end, -1, s->streamId, s->correlationId, 0);
        break;
    }
    case CUPTI_ACTIVITY_KIND_OVERHEAD: {
        const CUpti_ActivityOverhead3 *o = (const CUpti_ActivityOverhead3 *)any;
        add(r, KVT_DEVICE_OVERHEAD, kvt_records_name(r, overhead_name(o->overheadKind)), o->start, o->end, -1, 0, o->correlationId, 0);
        if (o->overheadKind == CUPTI_ACTIVITY_OVERHEAD_COMMAND_BUFFER_FULL)
            free(o->overheadData); /* ours to free, says the header */
        break;
    }
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
        const CUpti_ActivityExternalCorrelation *e = (const CUpti_ActivityExternalCorrelation *)any;
        if (e->externalKind != CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0 || !e->externalId || e->externalId > INT32_MAX)
            break; /* another tool's */
        r->lost += !kvt_id_put(&r->asked, e->correlationId, (int32_t)(e->externalId - 1));
        break;
    }
    default: break; /* calls of the API, without which there are no external ids; and what newer versions bring */
    }
}

void kvt_records_read(struct kvt_records *r, const struct kvt_cupti *cupti, uint8_t *buffer, size_t valid)
{
    CUpti_Activity *record = NULL;
    CUptiResult code;
    if (!buffer || !valid)
        return;
    while ((code = cupti->ActivityGetNextRecord(buffer, valid, &record)) == CUPTI_SUCCESS)
        read_one(r, record);
    r->damaged += code != CUPTI_ERROR_MAX_LIMIT_REACHED;
}

static int by_start(const void *a, const void *b)
{
    const struct kvt_device_record *x = (const struct kvt_device_record *)a, *y = (const struct kvt_device_record *)b;
    return x->start_ns != y->start_ns ? (x->start_ns > y->start_ns) - (x->start_ns < y->start_ns) : (x->name > y->name) - (x->name < y->name);
}

/* The call of a record: of an ordinary launch, or of its node of a graph's. */
static int32_t call_of(const struct kvt_records *r, const struct kvt_raw_record *from, size_t n_calls)
{
    int32_t call = kvt_id_get(&r->asked, from->correlation);
    if (call >= KVT_LAUNCH0) {
        size_t launch = (size_t)(call - KVT_LAUNCH0);
        int32_t place = from->node ? kvt_id_get(&r->node, from->node) : -1;
        call = launch < r->n_launches && place >= 0 && place < r->launch[launch].n ? r->of_node[r->launch[launch].first + (size_t)place] : -1;
    }
    return call >= 0 && (size_t)call < n_calls ? call : -1;
}

void kvt_records_join(struct kvt_records *r, size_t n_calls, const int64_t real_ns[2], const int64_t mono_ns[2])
{
    int64_t first = real_ns[0] - mono_ns[0], drift = real_ns[1] - mono_ns[1] - first, span = real_ns[1] - real_ns[0];
    for (size_t i = 0; i < r->n; i++) {
        const struct kvt_raw_record *from = &r->record[i];
        struct kvt_device_record *to = &r->joined[i];
        *to = from->to;
        to->call = call_of(r, from, n_calls);
        if (to->start_ns < 0)
            continue;
        double part = span > 0 ? (double)(to->start_ns - real_ns[0]) / (double)span : 0;
        to->start_ns -= first + (int64_t)(part * (double)drift);
        to->start_ns = to->start_ns < 0 ? 0 : to->start_ns; /* a clock of another kind */
    }
    qsort(r->joined, r->n, sizeof *r->joined, by_start);
}

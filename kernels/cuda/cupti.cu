/* A profile from start to stop. CUPTI's callbacks carry no argument of ours, so the running profile is known by a static pointer, the one
 * in this library. Buffers are handed back in any thread; the calls are noted by the thread that makes them. */
#include "kernels/cuda/cupti.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/cuda/cuda.h"

enum { BUFFER_BYTES = 4 << 20 };

struct spare { struct spare *next; };

struct kvt_profile {
    struct kvt_cupti cupti;
    CUpti_SubscriberHandle subscriber;
    pthread_mutex_t lock;      /* of records */
    pthread_mutex_t inner;     /* of free buffers and nodes: taken inside CUPTI, so never held while CUPTI is called */
    struct kvt_records records;
    struct spare *spare;       /* buffers that can be used again */
    struct kvt_device_call *call; /* (room) */
    size_t n_calls, room;
    int64_t calls_lost;
    int64_t open;              /* the call that runs; -1: none */
    int place;                 /* of the node that is captured; -1: none is */
    int enabled;               /* of kinds */
    int64_t real_ns[2], mono_ns[2];
    uint32_t version;
};

static struct kvt_profile *running;

static const CUpti_ActivityKind kinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET,
    CUPTI_ACTIVITY_KIND_SYNCHRONIZATION, CUPTI_ACTIVITY_KIND_OVERHEAD, CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION,
    CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_ACTIVITY_KIND_DRIVER /* external ids come in front of calls of these */};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static int64_t clock_ns(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void clock_pair(struct kvt_profile *p, int i)
{
    p->mono_ns[i] = clock_ns(CLOCK_MONOTONIC);
    p->real_ns[i] = clock_ns(CLOCK_REALTIME);
}

/* ---- what CUPTI calls ---- */

static void CUPTIAPI buffer_wanted(uint8_t **buffer, size_t *size, size_t *max_records)
{
    struct kvt_profile *p = running;
    *buffer = NULL;
    *size = BUFFER_BYTES;
    *max_records = 0;
    if (!p)
        return;
    pthread_mutex_lock(&p->inner);
    *buffer = (uint8_t *)p->spare;
    p->spare = p->spare ? p->spare->next : NULL;
    pthread_mutex_unlock(&p->inner);
    if (!*buffer)
        *buffer = (uint8_t *)malloc(BUFFER_BYTES); /* NULL: records are dropped, and counted */
}

static void CUPTIAPI buffer_done(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid)
{
    struct kvt_profile *p = running;
    size_t dropped = 0;
    (void)size;
    if (!p) {
        free(buffer);
        return;
    }
    if (p->cupti.ActivityGetNumDroppedRecords(context, stream, &dropped) != CUPTI_SUCCESS)
        dropped = 0;
    pthread_mutex_lock(&p->lock);
    kvt_records_read(&p->records, &p->cupti, buffer, valid);
    p->records.dropped += (int64_t)dropped;
    pthread_mutex_unlock(&p->lock);
    if (!buffer)
        return;
    pthread_mutex_lock(&p->inner);
    ((struct spare *)buffer)->next = p->spare;
    p->spare = (struct spare *)buffer;
    pthread_mutex_unlock(&p->inner);
}

/* Nodes of graphs: one that is captured has its place, and so have its copies, of which an executable graph is made. */
static void CUPTIAPI resource_seen(void *self, CUpti_CallbackDomain domain, CUpti_CallbackId id, const void *data)
{
    struct kvt_profile *p = (struct kvt_profile *)self;
    if (domain != CUPTI_CB_DOMAIN_RESOURCE || (id != CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED && id != CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED))
        return;
    const CUpti_GraphData *g = (const CUpti_GraphData *)((const CUpti_ResourceData *)data)->resourceDescriptor;
    bool copy = id == CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED;
    uint64_t node = 0, original = 0;
    if (p->cupti.GetGraphNodeId(g->node, &node) != CUPTI_SUCCESS || (copy && p->cupti.GetGraphNodeId(g->originalNode, &original) != CUPTI_SUCCESS))
        return;
    pthread_mutex_lock(&p->inner);
    int place = copy ? kvt_id_get(&p->records.node, original) : p->place;
    if (place >= 0)
        kvt_id_put(&p->records.node, node, place); /* without memory its records aren't joined */
    pthread_mutex_unlock(&p->inner);
}

/* ---- start and stop ---- */

static void end(struct kvt_profile *p)
{
    while (p->enabled)
        p->cupti.ActivityDisable(kinds[--p->enabled]);
    if (p->subscriber)
        p->cupti.Unsubscribe(p->subscriber);
    p->subscriber = NULL;
}

static int start(struct kvt_profile *p, struct kvt_err *err)
{
    const struct { CUpti_CallbackId id; } seen[] = {{CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED}, {CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED}};
    int rc = kvt_cupti_open(&p->cupti, NULL, err);
    if (rc)
        return rc;
    p->cupti.GetVersion(&p->version);
    CUptiResult code = p->cupti.Subscribe(&p->subscriber, (CUpti_CallbackFunc)resource_seen, p); /* also says whether another profiler is there */
    if (code != CUPTI_SUCCESS)
        return p->subscriber = NULL, kvt_cupti_refused(&p->cupti, code, "subscribing", err);
    for (size_t i = 0; i < sizeof seen / sizeof *seen && code == CUPTI_SUCCESS; i++)
        code = p->cupti.EnableCallback(1, p->subscriber, CUPTI_CB_DOMAIN_RESOURCE, seen[i].id);
    if (code == CUPTI_SUCCESS)
        code = p->cupti.ActivityRegisterCallbacks(buffer_wanted, buffer_done);
    for (; p->enabled < N_KINDS && code == CUPTI_SUCCESS; p->enabled += code == CUPTI_SUCCESS)
        code = p->cupti.ActivityEnable(kinds[p->enabled]);
    return code == CUPTI_SUCCESS ? 0 : kvt_cupti_refused(&p->cupti, code, "enabling its records", err);
}

int kvt_cuda_profile_start(struct kvt_profile **out, size_t room, struct kvt_err *err)
{
    *out = NULL;
    struct kvt_profile *p = (struct kvt_profile *)calloc(1, sizeof *p);
    if (!p || running)
        return free(p), kvt_fail(err, p ? KVT_EDEVICE : KVT_ENOMEM, p ? "a profile runs already" : "no memory for the profile");
    p->room = room;
    p->open = p->place = -1;
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->inner, NULL);
    p->call = (struct kvt_device_call *)malloc(room * sizeof *p->call);
    int rc = p->call && !kvt_records_open(&p->records, 2 * room) ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu calls", room);
    running = p;
    clock_pair(p, 0);
    if (!rc)
        rc = start(p, err);
    *out = p;
    if (rc) {
        end(p);
        kvt_cuda_profile_close(out);
    }
    return rc;
}

/* The bound of the device's memory, by its clock and width: two transfers a clock. */
static double bandwidth(void)
{
    int device = 0, khz = 0, bits = 0;
    if (cudaGetDevice(&device) != cudaSuccess || cudaDeviceGetAttribute(&khz, cudaDevAttrMemoryClockRate, device) != cudaSuccess ||
        cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, device) != cudaSuccess)
        return 0;
    return 2.0 * khz * 1e3 * bits / 8;
}

void kvt_cuda_profile_stop(struct kvt_profile *p, struct kvt_device_times *out)
{
    cudaDeviceSynchronize(); /* a flush waits for nothing */
    clock_pair(p, 1);
    p->cupti.ActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    end(p);
    pthread_mutex_lock(&p->lock);
    struct kvt_records *r = &p->records;
    kvt_records_join(r, p->n_calls, p->real_ns, p->mono_ns);
    *out = (struct kvt_device_times){};
    out->call = p->call, out->n_calls = p->n_calls, out->calls_lost = p->calls_lost;
    out->record = r->joined, out->n_records = r->n, out->records_lost = r->lost;
    out->name = r->name, out->n_names = r->n_names;
    out->dropped = r->dropped, out->damaged = r->damaged;
    out->version = p->version;
    out->bandwidth = bandwidth();
    memcpy(out->real_ns, p->real_ns, sizeof out->real_ns);
    memcpy(out->mono_ns, p->mono_ns, sizeof out->mono_ns);
    pthread_mutex_unlock(&p->lock);
}

void kvt_cuda_profile_close(struct kvt_profile **out)
{
    struct kvt_profile *p = out ? *out : NULL;
    if (!p)
        return;
    running = NULL;
    while (p->spare) {
        struct spare *next = p->spare->next;
        free(p->spare);
        p->spare = next;
    }
    kvt_records_close(&p->records);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->inner);
    free(p->call);
    free(p);
    *out = NULL;
}

/* ---- calls ---- */

static void push(struct kvt_profile *p, int32_t what) /* 0 asks for nothing: the call isn't known */
{
    p->cupti.ActivityPushExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, (uint64_t)(what + 1));
}

static void pop(struct kvt_profile *p)
{
    uint64_t id;
    p->cupti.ActivityPopExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &id);
}

int64_t kvt_cuda_profile_enter(const char *name, const struct kvt_where *where, int layer, int64_t bytes)
{
    struct kvt_profile *p = running;
    if (!p || !p->enabled)
        return -1;
    if (p->n_calls == p->room) {
        p->calls_lost++;
        return -1;
    }
    pthread_mutex_lock(&p->lock);
    int32_t index = kvt_records_name(&p->records, name);
    p->open = (int64_t)p->n_calls++;
    pthread_mutex_unlock(&p->lock);
    struct kvt_device_call *c = &p->call[p->open];
    *c = (struct kvt_device_call){};
    c->bytes = bytes;
    c->name = index;
    c->branches = where ? where->branches : 0;
    c->phase = where ? where->phase : -1;
    c->layer = layer != -2 ? layer : where ? where->layer : -1;
    c->step = where ? where->step : 0;
    push(p, (int32_t)p->open);
    c->start_ns = clock_ns(CLOCK_MONOTONIC);
    return p->open;
}

void kvt_cuda_profile_leave(int64_t call)
{
    struct kvt_profile *p = running;
    if (!p || call < 0)
        return;
    p->call[call].dur_ns = clock_ns(CLOCK_MONOTONIC) - p->call[call].start_ns;
    pop(p);
    p->open = -1;
}

int32_t kvt_cuda_profile_now(void) { return running ? (int32_t)running->open : -1; }

void kvt_cuda_profile_again(int32_t call)
{
    if (running && running->enabled)
        push(running, call);
}

void kvt_cuda_profile_node(int place)
{
    if (running)
        running->place = place;
}

void kvt_cuda_profile_graph(const int32_t *call, int n)
{
    struct kvt_profile *p = running;
    if (!p || !p->enabled)
        return;
    pthread_mutex_lock(&p->lock);
    int32_t what = kvt_records_launch(&p->records, call, n);
    pthread_mutex_unlock(&p->lock);
    push(p, what);
}

void kvt_cuda_profile_done(void)
{
    if (running && running->enabled)
        pop(running);
}

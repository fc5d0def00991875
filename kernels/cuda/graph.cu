/* A step's launches as graphs.
 *
 * Between step_begin and step_end nothing is launched: each launch is noted with its arguments, and after SEGMENT of them, or when the
 * host must see a result, what was noted goes to the device. The same notes as before, byte for byte: the graph that was made of them
 * then is launched, one call for all. Notes that are met for the second time become a graph (a capture of the very same launches); those
 * that are new are launched one by one. So a graph does what its launches would have done, whatever an operation is: there is no
 * state that it could have missed, and the bits are the same by construction.
 *
 * For notes to be the same in every step, what changes must not be among the arguments: rows, positions, tokens and budgets are posted
 * to a place that is the same in every step (kvt_cuda_post), lengths live in the cache's tables, and bounds that the host knows (slots of
 * a cell) are rounded up, so that they change once in a while; blocks beyond a cell's own length end at once.
 *
 * SEGMENT: the device waits for the first notes of a step, and works on a segment while the next is noted.
 *
 * To a profile (cupti.h) a launch is made for the operation that noted it, whenever it is made; a graph's nodes are in the order of its
 * notes, one kernel a note, in a chain. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/cupti.h"

#include <stdlib.h>
#include <string.h>

enum {
    SEGMENT = 128,           /* launches */
    GRAPHS = 256,            /* that are kept, and lists that may become one */
    AREA_BYTES = 1 << 20,    /* of posts in a step */
    ALIGN = 16,
};

/* A launch as it is noted; its arguments follow, each at a multiple of ALIGN. */
struct note {
    const void *kernel;
    unsigned grid[3], block[3];
    size_t shared;
    unsigned n, bytes;       /* arguments, and of all of it */
};

struct list {                /* notes, one behind the other */
    unsigned char *data;
    size_t bytes, room;
    int n;
};

struct known {
    struct list list;
    cudaGraphExec_t exec;    /* NULL: met once */
    bool refused;            /* no graph could be made of them, for want of memory */
    unsigned long long used; /* when, in flushes */
};

struct kvt_cuda_steps {
    bool on;                 /* within a step */
    int failed;              /* what went wrong in it, with the text in dev->err */
    struct list now;
    int32_t call[SEGMENT];   /* of a profile: which operation noted each */
    int at;                  /* segment of the step */
    int guess[GRAPHS];       /* by segment: which one it was in the step before */
    struct known known[GRAPHS];
    int n_known;
    unsigned long long flushes;

    /* posts: two areas on the host in turn, one on the device */
    unsigned char *area[2], *area_dev;
    cudaEvent_t sent[2];     /* what a step posted has left the host's area */
    int turn;
    size_t area_at, area_sent;
    struct { size_t at, bytes; } same[KVT_POST_KINDS];
};

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* ---- notes ---- */

static bool room_for(struct list *l, size_t bytes)
{
    if (l->bytes + bytes <= l->room)
        return true;
    size_t room = 2 * (l->bytes + bytes) + 65536;
    unsigned char *data = (unsigned char *)realloc(l->data, room);
    if (!data)
        return false;
    l->data = data;
    l->room = room;
    return true;
}

static void launch_note(struct kvt_dev *dev, const struct note *note)
{
    void *arg[64];
    const unsigned *size = (const unsigned *)(note + 1);
    unsigned char *at = (unsigned char *)(note + 1) + round_up(note->n * sizeof *size, ALIGN);
    for (unsigned i = 0; i < note->n; i++) {
        arg[i] = at;
        at += round_up(size[i], ALIGN);
    }
    cudaLaunchKernel(note->kernel, dim3(note->grid[0], note->grid[1], note->grid[2]), dim3(note->block[0], note->block[1], note->block[2]), arg,
                     note->shared, dev->stream);
}

/* call: for whom, NULL: they are captured. */
static void launch_list(struct kvt_dev *dev, const struct list *l, const int32_t *call)
{
    int place = 0;
    for (size_t at = 0; at < l->bytes; at += ((const struct note *)(l->data + at))->bytes, place++) {
        bool told = call && call[place] >= 0;
        if (told)
            kvt_cuda_profile_again(call[place]);
        else if (!call)
            kvt_cuda_profile_node(place);
        launch_note(dev, (const struct note *)(l->data + at));
        if (told)
            kvt_cuda_profile_done();
    }
}

void kvt_cuda_launch(struct kvt_dev *dev, const void *kernel, dim3 grid, dim3 block, size_t shared, void **arg, const size_t *bytes, int n)
{
    struct kvt_cuda_steps *s = dev->steps;
    if (s && s->failed)
        return;
    size_t all = sizeof(struct note) + round_up((size_t)n * sizeof(unsigned), ALIGN);
    for (int i = 0; i < n; i++)
        all += round_up(bytes[i], ALIGN);
    if (!s || !s->on || n > 64 || !room_for(&s->now, all)) {
        if (!kvt_cuda_flush(dev))
            cudaLaunchKernel(kernel, grid, block, arg, shared, dev->stream);
        return;
    }
    struct note *note = (struct note *)(s->now.data + s->now.bytes);
    memset(note, 0, all); /* what lies between arguments is compared too */
    *note = (struct note){kernel, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared, (unsigned)n, (unsigned)all};
    unsigned *size = (unsigned *)(note + 1);
    unsigned char *at = (unsigned char *)(note + 1) + round_up((size_t)n * sizeof *size, ALIGN);
    for (int i = 0; i < n; i++) {
        size[i] = (unsigned)bytes[i];
        memcpy(at, arg[i], bytes[i]);
        at += round_up(bytes[i], ALIGN);
    }
    s->now.bytes += all;
    s->call[s->now.n] = kvt_cuda_profile_now();
    if (++s->now.n == SEGMENT)
        kvt_cuda_flush(dev);
}

/* ---- graphs ---- */

static bool same(const struct list *a, const struct list *b) { return a->bytes == b->bytes && !memcmp(a->data, b->data, a->bytes); }

/* Where these notes are known, or -1. */
static int find(struct kvt_cuda_steps *s)
{
    int guess = s->at < GRAPHS ? s->guess[s->at] : 0;
    if (guess < s->n_known && same(&s->known[guess].list, &s->now))
        return guess;
    for (int i = 0; i < s->n_known; i++)
        if (same(&s->known[i].list, &s->now))
            return i;
    return -1;
}

static void forget(struct known *k)
{
    if (k->exec)
        cudaGraphExecDestroy(k->exec);
    free(k->list.data);
    *k = {};
}

/* A place for new notes: the one that was used longest ago. */
static int place(struct kvt_cuda_steps *s)
{
    if (s->n_known < GRAPHS)
        return s->n_known++;
    int oldest = 0;
    for (int i = 1; i < GRAPHS; i++)
        oldest = s->known[i].used < s->known[oldest].used ? i : oldest;
    forget(&s->known[oldest]);
    return oldest;
}

static cudaError_t make(struct kvt_dev *dev, struct known *k)
{
    cudaGraph_t graph = NULL;
    cudaError_t code = cudaStreamBeginCapture(dev->stream, cudaStreamCaptureModeThreadLocal);
    if (code != cudaSuccess)
        return code;
    launch_list(dev, &k->list, NULL);
    code = cudaStreamEndCapture(dev->stream, &graph);
    if (code == cudaSuccess)
        code = cudaGraphInstantiate(&k->exec, graph, 0);
    if (graph)
        cudaGraphDestroy(graph);
    return code;
}

int kvt_cuda_flush(struct kvt_dev *dev)
{
    struct kvt_cuda_steps *s = dev->steps;
    if (!s || s->failed || (!s->now.n && s->area_sent == s->area_at))
        return s ? s->failed : 0;
    cudaError_t code = cudaSuccess;
    if (s->area_sent < s->area_at)
        code = cudaMemcpyAsync(s->area_dev + s->area_sent, s->area[s->turn] + s->area_sent, s->area_at - s->area_sent, cudaMemcpyHostToDevice, dev->stream);
    s->area_sent = s->area_at;
    int at = s->now.n ? find(s) : -1;
    s->flushes++;
    if (at >= 0 && !s->known[at].exec && !s->known[at].refused && code == cudaSuccess && make(dev, &s->known[at]) != cudaSuccess) {
        s->known[at].refused = true;
        cudaGetLastError();
    }
    if (code != cudaSuccess) {
        ; /* nothing more is launched */
    } else if (at >= 0 && s->known[at].exec) {
        kvt_cuda_profile_graph(s->call, s->now.n);
        code = cudaGraphLaunch(s->known[at].exec, dev->stream);
        kvt_cuda_profile_done();
    } else if (s->now.n) {
        launch_list(dev, &s->now, s->call);
        code = cudaGetLastError();
    }
    if (at < 0 && s->now.n && code == cudaSuccess) {
        at = place(s);
        s->known[at].list = s->now; /* whose memory goes there */
        s->now = {};
    }
    if (at >= 0) {
        s->known[at].used = s->flushes;
        if (s->at < GRAPHS)
            s->guess[s->at] = at;
        s->at++;
    }
    s->now.bytes = 0;
    s->now.n = 0;
    return s->failed = kvt_cuda_failed(dev, code, "step");
}

/* ---- posts ---- */

bool kvt_cuda_in_step(const struct kvt_dev *dev) { return dev->steps && dev->steps->on; }

const void *kvt_cuda_step_post(struct kvt_dev *dev, enum kvt_post_kind kind, const void *host, size_t bytes)
{
    struct kvt_cuda_steps *s = dev->steps;
    unsigned char *area = s->area[s->turn];
    if (kind != KVT_POST_OWN && s->same[kind].bytes == bytes && bytes && !memcmp(area + s->same[kind].at, host, bytes))
        return s->area_dev + s->same[kind].at;
    if (bytes > AREA_BYTES - s->area_at) { /* begin anew, when all has been read */
        if (bytes > AREA_BYTES || kvt_cuda_flush(dev) || kvt_cuda_failed(dev, cudaStreamSynchronize(dev->stream), "step"))
            return NULL;
        s->area_at = s->area_sent = 0;
        memset(s->same, 0, sizeof s->same);
    }
    memcpy(area + s->area_at, host, bytes);
    const void *to = s->area_dev + s->area_at;
    s->same[kind] = {s->area_at, bytes};
    s->area_at = round_up(s->area_at + bytes, ALIGN);
    return to;
}

size_t kvt_cuda_step_post_most(void) { return AREA_BYTES; }

/* ---- steps ---- */

int kvt_cuda_steps_open(struct kvt_dev *dev)
{
    struct kvt_cuda_steps *s = dev->steps = (struct kvt_cuda_steps *)calloc(1, sizeof *dev->steps);
    if (!s)
        return kvt_fail(&dev->err, KVT_ENOMEM, "cuda: no memory for %zu bytes", sizeof *s);
    int rc = kvt_cuda_failed(dev, cudaMalloc((void **)&s->area_dev, AREA_BYTES), "cuda: device memory");
    for (int i = 0; i < 2 && !rc; i++) {
        rc = kvt_cuda_failed(dev, cudaMallocHost((void **)&s->area[i], AREA_BYTES), "cuda: pinned memory");
        if (!rc)
            rc = kvt_cuda_failed(dev, cudaEventCreateWithFlags(&s->sent[i], cudaEventDisableTiming), "cuda: making an event");
    }
    return rc;
}

void kvt_cuda_steps_close(struct kvt_dev *dev)
{
    struct kvt_cuda_steps *s = dev->steps;
    if (!s)
        return;
    for (int i = 0; i < s->n_known; i++)
        forget(&s->known[i]);
    for (int i = 0; i < 2; i++) {
        if (s->sent[i])
            cudaEventDestroy(s->sent[i]);
        cudaFreeHost(s->area[i]);
    }
    cudaFree(s->area_dev);
    free(s->now.data);
    free(s);
    dev->steps = NULL;
}

int kvt_cuda_step_begin(struct kvt_dev *dev, const struct kvt_step_args *a)
{
    struct kvt_cuda_steps *s = dev->steps;
    int rc = kvt_cuda_cache_room(dev, a->cache, a->T);
    if (!rc)
        rc = kvt_cuda_out_step(dev);
    if (rc || !s)
        return rc;
    s->turn ^= 1;
    rc = kvt_cuda_failed(dev, cudaEventSynchronize(s->sent[s->turn]), "step"); /* of the step before the last: long past */
    s->area_at = s->area_sent = 0;
    memset(s->same, 0, sizeof s->same);
    s->at = 0;
    s->failed = 0;
    s->on = !rc;
    return rc;
}

int kvt_cuda_step_end(struct kvt_dev *dev)
{
    struct kvt_cuda_steps *s = dev->steps;
    if (!s || !s->on)
        return 0;
    int rc = kvt_cuda_flush(dev);
    s->on = false;
    s->failed = 0;
    s->now.bytes = 0;
    s->now.n = 0;
    if (!rc)
        rc = kvt_cuda_out_begin(dev);
    return rc ? rc : kvt_cuda_failed(dev, cudaEventRecord(s->sent[s->turn], dev->stream), "step");
}

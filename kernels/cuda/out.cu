/* What leaves the device while it works: copies to pinned memory of the host on a stream of their own, behind an event of the stream that
 * computes, which never waits for them. The one who asked sees to it that the source is not written again before `settle`: what is
 * made anew by each layer has two places, in turn. In a step the copies are noted and begin when its last launch has been made; what the
 * host has to compute from results of a step's operations (kvt_cuda_answer) is computed when they have come. */
#include "kernels/cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

struct later {
    void *host;
    const void *src;
    size_t bytes;
};

struct answer {
    void (*take)(void *job, const void *result);
    void *job;               /* owned */
    size_t at;               /* of its result in the room */
};

struct kvt_cuda_out {
    cudaStream_t stream;
    cudaEvent_t made, arrived;
    bool under_way;          /* since the last settle */
    struct later *later;     /* of the running step */
    size_t n, room;
    struct answer *answer;   /* of the running step */
    size_t n_answer, answer_room;
    unsigned char *results, *host_results; /* room for them, on the device and pinned */
    size_t results_bytes, results_at, results_most;
};

int kvt_cuda_out_open(struct kvt_dev *dev)
{
    struct kvt_cuda_out *o = dev->out = (struct kvt_cuda_out *)calloc(1, sizeof *dev->out);
    if (!o)
        return kvt_fail(&dev->err, KVT_ENOMEM, "cuda: no memory for %zu bytes", sizeof *o);
    int rc = kvt_cuda_failed(dev, cudaStreamCreateWithFlags(&o->stream, cudaStreamNonBlocking), "cuda: making a stream");
    if (!rc)
        rc = kvt_cuda_failed(dev, cudaEventCreateWithFlags(&o->made, cudaEventDisableTiming), "cuda: making an event");
    if (!rc)
        rc = kvt_cuda_failed(dev, cudaEventCreateWithFlags(&o->arrived, cudaEventDisableTiming), "cuda: making an event");
    return rc;
}

void kvt_cuda_out_close(struct kvt_dev *dev)
{
    struct kvt_cuda_out *o = dev->out;
    if (!o)
        return;
    if (o->stream)
        cudaStreamSynchronize(o->stream);
    if (o->made)
        cudaEventDestroy(o->made);
    if (o->arrived)
        cudaEventDestroy(o->arrived);
    if (o->stream)
        cudaStreamDestroy(o->stream);
    for (size_t i = 0; i < o->n_answer; i++)
        free(o->answer[i].job);
    free(o->answer);
    cudaFree(o->results);
    cudaFreeHost(o->host_results);
    free(o->later);
    free(o);
    dev->out = NULL;
}

void *kvt_cuda_alloc_host(struct kvt_dev *dev, size_t bytes)
{
    void *p = NULL;
    cudaError_t code = cudaMallocHost(&p, bytes ? bytes : 1);
    if (code == cudaSuccess)
        return p;
    cudaGetLastError();
    kvt_fail(&dev->err, KVT_ENOMEM, "pinned memory: none for %zu bytes (%s); ask for fewer maps", bytes, cudaGetErrorString(code));
    return NULL;
}

void kvt_cuda_free_host(struct kvt_dev *dev, void *p)
{
    if (p && dev->out) /* copies to it may be under way */
        cudaStreamSynchronize(dev->out->stream);
    cudaFreeHost(p);
}

/* The stream of copies goes on from here. */
static cudaError_t follow(struct kvt_dev *dev)
{
    cudaError_t code = cudaEventRecord(dev->out->made, dev->stream);
    return code == cudaSuccess ? cudaStreamWaitEvent(dev->out->stream, dev->out->made, 0) : code;
}

static cudaError_t copy(struct kvt_cuda_out *o, const struct later *l)
{
    o->under_way = true;
    return cudaMemcpyAsync(l->host, l->src, l->bytes, cudaMemcpyDeviceToHost, o->stream);
}

int kvt_cuda_read_later(struct kvt_dev *dev, void *host_dst, const void *src, size_t bytes)
{
    struct kvt_cuda_out *o = dev->out;
    struct later l = {host_dst, src, bytes};
    if (!bytes)
        return 0;
    if (!kvt_cuda_in_step(dev)) {
        cudaError_t code = follow(dev);
        return kvt_cuda_failed(dev, code == cudaSuccess ? copy(o, &l) : code, "read");
    }
    if (o->n == o->room) {
        size_t room = 2 * o->room + 64;
        struct later *more = (struct later *)realloc(o->later, room * sizeof *more);
        if (!more)
            return kvt_fail(&dev->err, KVT_ENOMEM, "read: no memory for a list of %zu", room);
        o->later = more;
        o->room = room;
    }
    o->later[o->n++] = l;
    return 0;
}

void *kvt_cuda_answer_room(struct kvt_dev *dev, size_t bytes)
{
    struct kvt_cuda_out *o = dev->out;
    if (!kvt_cuda_in_step(dev))
        return NULL;
    size_t at = o->results_at;
    o->results_at += (bytes + 255) / 256 * 256;
    o->results_most = o->results_at > o->results_most ? o->results_at : o->results_most;
    return o->results_at <= o->results_bytes ? o->results + at : NULL;
}

int kvt_cuda_answer(struct kvt_dev *dev, const void *result, void (*take)(void *job, const void *result), void *job)
{
    struct kvt_cuda_out *o = dev->out;
    if (o->n_answer == o->answer_room) {
        size_t room = 2 * o->answer_room + 64;
        struct answer *more = (struct answer *)realloc(o->answer, room * sizeof *more);
        if (!more) {
            free(job);
            return kvt_fail(&dev->err, KVT_ENOMEM, "read: no memory for a list of %zu", room);
        }
        o->answer = more;
        o->answer_room = room;
    }
    o->answer[o->n_answer++] = {take, job, (size_t)((const unsigned char *)result - o->results)};
    return 0;
}

int kvt_cuda_out_step(struct kvt_dev *dev)
{
    struct kvt_cuda_out *o = dev->out;
    o->results_at = 0;
    if (o->results_most <= o->results_bytes)
        return 0;
    cudaFree(o->results); /* waits for what still uses it */
    cudaFreeHost(o->host_results);
    o->results = o->host_results = NULL;
    o->results_bytes = 0;
    if (cudaMalloc((void **)&o->results, o->results_most) != cudaSuccess || cudaMallocHost((void **)&o->host_results, o->results_most) != cudaSuccess) {
        cudaGetLastError(); /* then results are waited for, one by one */
        return 0;
    }
    o->results_bytes = o->results_most;
    return 0;
}

int kvt_cuda_out_begin(struct kvt_dev *dev)
{
    struct kvt_cuda_out *o = dev->out;
    if (o->n_answer) {
        size_t bytes = o->results_at < o->results_bytes ? o->results_at : o->results_bytes;
        int rc = kvt_cuda_read_later(dev, o->host_results, o->results, bytes);
        if (rc)
            return rc;
    }
    cudaError_t code = o->n ? follow(dev) : cudaSuccess;
    for (size_t i = 0; i < o->n && code == cudaSuccess; i++)
        code = copy(o, &o->later[i]);
    o->n = 0;
    return kvt_cuda_failed(dev, code, "read");
}

int kvt_cuda_settle(struct kvt_dev *dev)
{
    struct kvt_cuda_out *o = dev->out;
    if (!o->under_way)
        return 0;
    o->under_way = false;
    int rc = kvt_cuda_failed(dev, cudaEventRecord(o->arrived, o->stream), "read");
    if (!rc)
        rc = kvt_cuda_failed(dev, cudaEventSynchronize(o->arrived), "read");
    for (size_t i = 0; i < o->n_answer; i++) {
        if (!rc)
            o->answer[i].take(o->answer[i].job, o->host_results + o->answer[i].at);
        free(o->answer[i].job);
    }
    o->n_answer = 0;
    return rc;
}

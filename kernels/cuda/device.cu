/* The opened CUDA device: its stream, its memory, and how small things cross from the host and back. */
#include "kernels/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kvt_cuda_block {
    struct kvt_cuda_block *next;
    void *data;
};

enum { BOX_BYTES = 4 << 20, ALIGN = 256, PAD = 64 }; /* PAD: a kernel may read a vector past the last block of a row of weights */

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* What to do about errors after which the device does nothing more for this process. */
static const char *advice(cudaError_t code)
{
    switch (code) {
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorMisalignedAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorContained:
    case cudaErrorUnknown: return "; the device is lost to this run, what was recorded is kept: start it again (nvidia-smi tells whether the GPU is well), or use --backend cpu";
    default: return "";
    }
}

int kvt_cuda_failed(struct kvt_dev *dev, cudaError_t code, const char *what)
{
    if (code == cudaSuccess)
        return 0;
    cudaGetLastError(); /* an error that doesn't stick is not reported twice */
    return kvt_fail(&dev->err, code == cudaErrorMemoryAllocation ? KVT_ENOMEM : KVT_EDEVICE, "%s: %s%s", what, cudaGetErrorString(code), advice(code));
}

int kvt_cuda_launched(struct kvt_dev *dev, const char *what) { return kvt_cuda_in_step(dev) ? 0 : kvt_cuda_failed(dev, cudaGetLastError(), what); }

/* ---- open and close ---- */

/* Why there is no GPU to be had, in words that say what to do. */
static int no_device(struct kvt_err *err, cudaError_t code, int count)
{
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (!driver)
        return kvt_fail(err, KVT_EDEVICE, "cuda: this machine has no NVIDIA driver; use --backend cpu");
    if (code == cudaErrorInsufficientDriver)
        return kvt_fail(err, KVT_EDEVICE, "cuda: the driver knows CUDA %d.%d, this build needs %d.%d; update the driver, or use --backend cpu",
                        driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    if ((code == cudaSuccess && !count) || code == cudaErrorNoDevice)
        return kvt_fail(err, KVT_EDEVICE, "cuda: no GPU is visible (CUDA_VISIBLE_DEVICES? with MIG, it names an instance: nvidia-smi -L); use --backend cpu");
    return kvt_fail(err, KVT_EDEVICE, "cuda: %s; use --backend cpu", cudaGetErrorString(code));
}

int kvt_cuda_open(struct kvt_dev **out, const struct kvt_dev_opts *opts, struct kvt_err *err)
{
    *out = NULL;
    int count = 0, at = 0, most = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess || !count)
        return no_device(err, code, count);
    struct kvt_dev *dev = (struct kvt_dev *)calloc(1, sizeof *dev);
    if (!dev)
        return kvt_fail(err, KVT_ENOMEM, "cuda: no memory for %zu bytes", sizeof *dev);
    struct cudaDeviceProp prop;
    int rc = kvt_cuda_failed(dev, cudaGetDevice(&at), "cuda: choosing the device");
    if (!rc)
        rc = kvt_cuda_failed(dev, cudaGetDeviceProperties(&prop, at), "cuda: asking for the device's properties");
    if (!rc)
        rc = kvt_cuda_failed(dev, cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, at), "cuda: asking for shared memory");
    if (!rc)
        rc = kvt_cuda_failed(dev, code = cudaStreamCreateWithFlags(&dev->stream, cudaStreamNonBlocking), "cuda: making a stream"); /* the first call that needs the device itself */
    const bool busy = code == cudaErrorDevicesUnavailable;
    if (!rc)
        rc = kvt_cuda_failed(dev, cudaMallocHost((void **)&dev->in, KVT_CUDA_IN_BYTES), "cuda: pinned memory");
    if (!rc)
        rc = kvt_cuda_failed(dev, cudaMallocHost((void **)&dev->box, BOX_BYTES), "cuda: pinned memory");
    if (!rc)
        rc = kvt_cuda_failed(dev, cudaMalloc((void **)&dev->box_dev, BOX_BYTES), "cuda: device memory");
    if (!rc)
        rc = kvt_cuda_out_open(dev);
    if (!rc && !(opts && opts->no_graphs))
        rc = kvt_cuda_steps_open(dev);
    if (!rc && (cublasCreate(&dev->blas) != CUBLAS_STATUS_SUCCESS || cublasSetStream(dev->blas, dev->stream) != CUBLAS_STATUS_SUCCESS))
        rc = kvt_fail(&dev->err, KVT_EDEVICE, "cuda: cuBLAS could not be started");
    if (rc) {
        if (busy)
            kvt_fail(err, rc, "cuda: the GPU is busy: another process has it for itself (nvidia-smi -q -d COMPUTE), or it is in MIG mode and CUDA_VISIBLE_DEVICES names no instance; use --backend cpu");
        else
            kvt_fail(err, rc, "%s; use --backend cpu", dev->err.text);
        kvt_cuda_close(&dev);
        return rc;
    }
    dev->box_bytes = BOX_BYTES;
    dev->sms = prop.multiProcessorCount;
    dev->arch = prop.major * 10 + prop.minor;
    dev->shared_most = (size_t)most;
    snprintf(dev->what, sizeof dev->what, "%s, %.48s, sm_%d, %d SMs", KVT_PLUGIN_NAME, prop.name, dev->arch, dev->sms);
    *out = dev;
    return 0;
}

void kvt_cuda_close(struct kvt_dev **out)
{
    if (!out || !*out)
        return;
    struct kvt_dev *dev = *out;
    if (dev->stream)
        cudaStreamSynchronize(dev->stream);
    while (dev->owned) {
        struct kvt_cuda_block *next = dev->owned->next;
        cudaFree(dev->owned->data);
        free(dev->owned);
        dev->owned = next;
    }
    kvt_cuda_out_close(dev);
    kvt_cuda_steps_close(dev);
    cudaFree(dev->scratch);
    cudaFree(dev->box_dev);
    cudaFreeHost(dev->box);
    cudaFreeHost(dev->in);
    if (dev->blas)
        cublasDestroy(dev->blas);
    if (dev->stream)
        cudaStreamDestroy(dev->stream);
    free(dev);
    *out = NULL;
}

const char *kvt_cuda_describe(struct kvt_dev *dev) { return dev->what; }

bool kvt_cuda_can_compute(struct kvt_dev *dev, enum kvt_compute compute)
{
    (void)dev;
    return compute != KVT_COMPUTE_F16; /* f16's range is the CPU's concern; tensor cores do bf16 as fast */
}

/* ---- memory ---- */

void *kvt_cuda_alloc(struct kvt_dev *dev, size_t bytes)
{
    void *p = NULL;
    cudaError_t code = cudaMalloc(&p, bytes ? bytes : 1);
    if (code == cudaSuccess)
        code = cudaMemsetAsync(p, 0, bytes ? bytes : 1, dev->stream);
    if (code == cudaSuccess)
        return p;
    cudaFree(p);
    cudaGetLastError();
    kvt_fail(&dev->err, KVT_ENOMEM, "device memory: no memory for %zu bytes (%s); use a shorter prompt or fewer branches", bytes,
             cudaGetErrorString(code));
    return NULL;
}

void kvt_cuda_free(struct kvt_dev *dev, void *p)
{
    kvt_cuda_flush(dev);
    cudaFree(p); /* waits for kernels that still use it */
}

/* In the stream, and done when it returns: cudaMemcpy from pageable memory may come back while the last of it is still on its way, and
 * what is launched into another stream then doesn't wait for it. */
static int upload(struct kvt_dev *dev, void *dst, const void *src, size_t bytes, const char *what)
{
    int rc = kvt_cuda_flush(dev);
    if (!rc)
        rc = kvt_cuda_failed(dev, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, dev->stream), what);
    return rc ? rc : kvt_cuda_failed(dev, cudaStreamSynchronize(dev->stream), what);
}

/* A block copies 1024 words. */
static __global__ void words_kernel(unsigned *dst, const unsigned *src, size_t words)
{
    size_t i = (size_t)blockIdx.x * 1024 + threadIdx.x;
    for (int k = 0; k < 4; k++, i += 256)
        if (i < words)
            dst[i] = src[i];
}

/* A copy among a step's launches; false: it isn't one of whole words. */
static bool copy_words(struct kvt_dev *dev, void *dst, const void *src, size_t bytes)
{
    if (((uintptr_t)dst | (uintptr_t)src | bytes) % sizeof(unsigned) || bytes > 1 << 20)
        return false;
    GPU_LAUNCH(words_kernel, kvt_blocks(bytes / sizeof(unsigned), 1024), 256, 0, dev->stream, (unsigned *)dst, (const unsigned *)src, bytes / sizeof(unsigned));
    return true;
}

/* Small writes go through the box, so that the caller's memory is free at once and nobody waits. */
int kvt_cuda_write(struct kvt_dev *dev, void *dst, const void *host_src, size_t bytes)
{
    if (!bytes)
        return 0;
    if (bytes > dev->box_bytes / 16)
        return upload(dev, dst, host_src, bytes, "write");
    if (kvt_cuda_in_step(dev)) {
        const void *src = kvt_cuda_post(dev, host_src, bytes);
        return !src ? dev->err.code : copy_words(dev, dst, src, bytes) ? 0 : kvt_cuda_copy(dev, dst, src, bytes);
    }
    if (round_up(bytes, ALIGN) > dev->box_bytes - dev->box_at) {
        int rc = kvt_cuda_failed(dev, cudaStreamSynchronize(dev->stream), "write");
        if (rc)
            return rc;
        dev->box_at = 0;
    }
    memcpy(dev->box + dev->box_at, host_src, bytes);
    int rc = kvt_cuda_failed(dev, cudaMemcpyAsync(dst, dev->box + dev->box_at, bytes, cudaMemcpyHostToDevice, dev->stream), "write");
    dev->box_at += round_up(bytes, ALIGN);
    return rc;
}

int kvt_cuda_fetch(struct kvt_dev *dev, void *host, const void *device, size_t bytes)
{
    if (!bytes)
        return 0;
    bool small = bytes <= KVT_CUDA_IN_BYTES;
    int rc = kvt_cuda_flush(dev);
    if (!rc)
        rc = kvt_cuda_failed(dev, cudaMemcpyAsync(small ? dev->in : host, device, bytes, cudaMemcpyDeviceToHost, dev->stream), "read");
    if (!rc)
        rc = kvt_cuda_failed(dev, cudaStreamSynchronize(dev->stream), "read");
    if (!rc && small)
        memcpy(host, dev->in, bytes);
    return rc;
}

int kvt_cuda_read(struct kvt_dev *dev, void *host_dst, const void *src, size_t bytes) { return kvt_cuda_fetch(dev, host_dst, src, bytes); }

int kvt_cuda_zero(struct kvt_dev *dev, void *dst, size_t bytes)
{
    int rc = bytes ? kvt_cuda_flush(dev) : 0;
    return bytes && !rc ? kvt_cuda_failed(dev, cudaMemsetAsync(dst, 0, bytes, dev->stream), "zero") : rc;
}

int kvt_cuda_copy(struct kvt_dev *dev, void *dst, const void *src, size_t bytes)
{
    if (!bytes || (kvt_cuda_in_step(dev) && copy_words(dev, dst, src, bytes)))
        return 0;
    int rc = kvt_cuda_flush(dev);
    return rc ? rc : kvt_cuda_failed(dev, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, dev->stream), "copy");
}

int kvt_cuda_weights(struct kvt_dev *dev, struct kvt_mat *mat)
{
    size_t bytes = kvt_row_bytes(mat->type, (size_t)mat->k) * (size_t)mat->n;
    struct kvt_cuda_block *block = (struct kvt_cuda_block *)calloc(1, sizeof *block);
    if (!block)
        return kvt_fail(&dev->err, KVT_ENOMEM, "weights: no memory for %zu bytes", sizeof *block);
    cudaError_t code = cudaMalloc(&block->data, bytes + PAD);
    if (code != cudaSuccess) {
        free(block);
        cudaGetLastError();
        return kvt_fail(&dev->err, KVT_ENOMEM, "weights: no device memory for %zu bytes (%s); use a smaller or more quantised model", bytes,
                        cudaGetErrorString(code));
    }
    block->next = dev->owned;
    dev->owned = block;
    int rc = kvt_cuda_zero(dev, (char *)block->data + bytes, PAD);
    if (!rc)
        rc = upload(dev, block->data, mat->data, bytes, "weights");
    mat->data = block->data;
    return rc;
}

void *kvt_cuda_scratch(struct kvt_dev *dev, size_t bytes)
{
    if (bytes <= dev->scratch_bytes)
        return dev->scratch;
    if (kvt_cuda_flush(dev))
        return NULL;
    cudaFree(dev->scratch); /* waits for kernels that still use it */
    dev->scratch_bytes = 0;
    dev->scratch = NULL;
    cudaError_t code = cudaMalloc(&dev->scratch, bytes);
    if (code != cudaSuccess) {
        cudaGetLastError();
        dev->scratch = NULL;
        kvt_fail(&dev->err, KVT_ENOMEM, "scratch: no device memory for %zu bytes (%s); use a shorter prompt or fewer branches", bytes,
                 cudaGetErrorString(code));
        return NULL;
    }
    dev->scratch_bytes = bytes;
    return dev->scratch;
}

const void *kvt_cuda_post(struct kvt_dev *dev, const void *host, size_t bytes)
{
    size_t need = round_up(bytes ? bytes : 1, ALIGN);
    if (kvt_cuda_in_step(dev) && bytes <= kvt_cuda_step_post_most())
        return kvt_cuda_step_post(dev, KVT_POST_OWN, host, bytes);
    if (kvt_cuda_flush(dev))
        return NULL;
    if (need > dev->box_bytes - dev->box_at) {
        if (kvt_cuda_failed(dev, cudaStreamSynchronize(dev->stream), "post"))
            return NULL;
        dev->box_at = 0;
    }
    if (need > dev->box_bytes) {
        cudaFreeHost(dev->box);
        cudaFree(dev->box_dev);
        dev->box = dev->box_dev = NULL;
        dev->box_bytes = 0;
        if (kvt_cuda_failed(dev, cudaMallocHost((void **)&dev->box, 2 * need), "post: pinned memory") ||
            kvt_cuda_failed(dev, cudaMalloc((void **)&dev->box_dev, 2 * need), "post: device memory"))
            return NULL;
        dev->box_bytes = 2 * need;
    }
    unsigned char *to = dev->box_dev + dev->box_at;
    memcpy(dev->box + dev->box_at, host, bytes);
    if (kvt_cuda_failed(dev, cudaMemcpyAsync(to, dev->box + dev->box_at, bytes, cudaMemcpyHostToDevice, dev->stream), "post"))
        return NULL;
    dev->box_at += need;
    return to;
}

const void *kvt_cuda_post_once(struct kvt_dev *dev, enum kvt_post_kind kind, const void *host, size_t bytes)
{
    bool step = kvt_cuda_in_step(dev) && bytes <= kvt_cuda_step_post_most();
    return step ? kvt_cuda_step_post(dev, kind, host, bytes) : kvt_cuda_post(dev, host, bytes);
}

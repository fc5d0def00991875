// The CUDA runtime API, with the genuine prototypes: memory, copies, the device and its attributes.
#include "simt_rt.h"
#include <algorithm>
#include <cstdlib>
using namespace simt;
static void traced_copy(void *d, const void *s, size_t n, cudaMemcpyKind k, cudaStream_t st, uint32_t c)
{
    uint64_t t0 = now_ns();
    do_copy(d, s, n);
    if (trace)
        trace->copy(k, n, st, t0, now_ns(), c, 0);
}
SIMT_API cudaError_t cudaMalloc(void **p, size_t n) { return capturing() ? not_in_capture("cudaMalloc") : dev_alloc(p, n, 0); }
SIMT_API cudaError_t cudaMallocAsync(void **p, size_t n, cudaStream_t) { return dev_alloc(p, n, 0); }
SIMT_API cudaError_t cudaMallocManaged(void **p, size_t n, unsigned) { return dev_alloc(p, n, 1); }
SIMT_API cudaError_t cudaFree(void *p)
{
    if (capturing())
        return not_in_capture("cudaFree");
    drain_all();
    return dev_free(p);
}
SIMT_API cudaError_t cudaFreeAsync(void *p, cudaStream_t s)
{
    submit(s, [p] { dev_free(p); });
    return cudaSuccess;
}
SIMT_API cudaError_t cudaMallocHost(void **p, size_t n)
{
    if (capturing())
        return not_in_capture("cudaMallocHost");
    *p = nullptr;
    if (alloc_fails())
        return ret(cudaErrorMemoryAllocation);
    *p = aligned_alloc(4096, (n + 4095) & ~size_t(4095));
    allocs[(unsigned char *)*p] = Alloc{(unsigned char *)*p, n, 2, false};
    return cudaSuccess;
}
SIMT_API cudaError_t cudaHostAlloc(void **p, size_t n, unsigned) { return cudaMallocHost(p, n); }
SIMT_API cudaError_t cudaFreeHost(void *p)
{
    if (capturing())
        return not_in_capture("cudaFreeHost");
    drain_all();
    return dev_free(p);
}
SIMT_API cudaError_t cudaMemcpy(void *d, const void *s, size_t n, cudaMemcpyKind k)
{
    if (capturing()) // it goes to the legacy stream
        return not_in_capture("cudaMemcpy");
    drain_all();
    if (sticky)
        return ret(sticky);
    cudaError_t e = check_copy(d, s, n, k);
    if (e)
        return ret(e);
    traced_copy(d, s, n, k, nullptr, trace ? trace->api(31, now_ns(), now_ns()) : 0);
    return cudaSuccess;
}
SIMT_API cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, cudaMemcpyKind k, cudaStream_t st)
{
    if (sticky)
        return ret(sticky);
    cudaError_t e = check_copy(d, s, n, k);
    if (e)
        return ret(e);
    uint32_t c = trace ? trace->api(41, now_ns(), now_ns()) : 0;
    if (deferred() && !stream_of(st)->capture && !in_device_arena(s) && !find_alloc(s)) { // a pageable source is staged at the call
        std::string tmp((const char *)s, n);
        submit(st, [=] { traced_copy(d, tmp.data(), n, k, st, c); });
    } else {
        submit(st, [=] { traced_copy(d, s, n, k, st, c); });
    }
    return cudaSuccess;
}
SIMT_API cudaError_t cudaMemset(void *p, int v, size_t n)
{
    if (capturing())
        return not_in_capture("cudaMemset");
    drain_all();
    if (!dev_range(p, n))
        return ret(cudaErrorInvalidValue);
    memset(p, v, n);
    if (hooks)
        hooks->host_write(p, n, true);
    return cudaSuccess;
}
SIMT_API cudaError_t cudaMemsetAsync(void *p, int v, size_t n, cudaStream_t s)
{
    if (!dev_range(p, n))
        return ret(cudaErrorInvalidValue);
    uint32_t c = trace ? trace->api(51, now_ns(), now_ns()) : 0;
    submit(s, [=] {
        uint64_t t0 = now_ns();
        memset(p, v, n);
        if (hooks)
            hooks->host_write(p, n, true);
        if (trace)
            trace->set(n, v, s, t0, now_ns(), c, 0);
    });
    return cudaSuccess;
}
SIMT_API cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last;
    last = sticky;
    return e;
}
SIMT_API cudaError_t cudaPeekAtLastError(void) { return last; }
SIMT_API cudaError_t cudaGetDeviceCount(int *n)
{
    init_once();
    cudaError_t e = device_state(false);
    *n = e == cudaSuccess;
    return ret(e);
}
SIMT_API cudaError_t cudaGetDevice(int *d)
{
    *d = 0;
    return cudaSuccess;
}
SIMT_API cudaError_t cudaSetDevice(int d) { return d ? ret(cudaErrorInvalidDevice) : cudaSuccess; }
SIMT_API cudaError_t cudaRuntimeGetVersion(int *v)
{
    *v = CUDART_VERSION;
    return cudaSuccess;
}
SIMT_API cudaError_t cudaDriverGetVersion(int *v)
{
    *v = device_state(false) == cudaErrorInsufficientDriver ? 12040 : CUDART_VERSION;
    return cudaSuccess;
}
SIMT_API cudaError_t cudaMemGetInfo(size_t *f, size_t *t)
{
    *t = MAXMEM;
    *f = MAXMEM - bytes_live;
    return cudaSuccess;
}
SIMT_API cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int)
{
    switch (a) {
    case cudaDevAttrComputeCapabilityMajor: *v = 8; break;
    case cudaDevAttrComputeCapabilityMinor: *v = 0; break;
    case cudaDevAttrMultiProcessorCount: *v = 4; break;
    case cudaDevAttrWarpSize: *v = 32; break;
    case cudaDevAttrMaxThreadsPerBlock: *v = 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *v = 49152; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *v = 166912; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *v = 167936; break;
    case cudaDevAttrMemoryClockRate: *v = 1000000; break; // kHz: with 64 bits 16 GB/s, which mean nothing
    case cudaDevAttrGlobalMemoryBusWidth: *v = 64; break;
    default: *v = 0;
    }
    return cudaSuccess;
}
SIMT_API cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "SIMT CPU emulation");
    p->major = 8;
    p->multiProcessorCount = 4;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->sharedMemPerBlock = 49152;
    p->sharedMemPerBlockOptin = 166912;
    p->sharedMemPerMultiprocessor = 167936;
    p->totalGlobalMem = MAXMEM;
    p->maxThreadsPerMultiProcessor = 2048;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    return cudaSuccess;
}
SIMT_API cudaError_t cudaFuncSetAttribute(const void *f, cudaFuncAttribute a, int v)
{
    if (a == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (v < 0 || v > 166912)
            return ret(cudaErrorInvalidValue);
        dyn_limits[f] = v;
    }
    return cudaSuccess;
}
SIMT_API cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *fa, const void *)
{
    memset(fa, 0, sizeof *fa);
    fa->maxThreadsPerBlock = 1024;
    return cudaSuccess;
}
SIMT_API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *, int b, size_t s)
{
    int k = 2048 / (b ? b : 1);
    if (s)
        k = std::min<int>(k, (int)(167936 / (s + 1024)));
    *n = std::min(k, 32);
    return cudaSuccess;
}
SIMT_API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *at, const void *p)
{
    const Alloc *a = find_alloc(p);
    memset(at, 0, sizeof *at);
    at->type = !a             ? cudaMemoryTypeUnregistered
               : a->kind == 2 ? cudaMemoryTypeHost
               : a->kind == 1 ? cudaMemoryTypeManaged
                              : cudaMemoryTypeDevice;
    return cudaSuccess;
}
SIMT_API const char *cudaGetErrorName(cudaError_t e)
{
    switch (e) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorECCUncorrectable: return "cudaErrorECCUncorrectable";
    default: return "cudaError(emulated)";
    }
}
SIMT_API const char *cudaGetErrorString(cudaError_t e) { return cudaGetErrorName(e); }
SIMT_API cudaError_t cudaDeviceSynchronize(void)
{
    if (capturing())
        return not_in_capture("cudaDeviceSynchronize");
    drain_all();
    for (auto &a : allocs)
        if (!a.second.freed && !check_red(a.second)) {
            memset(a.second.p + a.second.n, 0xA5, RED);
            memset(a.second.p - RED, 0xA5, RED);
        }
    return sticky ? ret(sticky) : cudaSuccess;
}
SIMT_API cudaError_t cudaDeviceReset(void)
{
    drain_all();
    sticky = last = cudaSuccess;
    return cudaSuccess;
}

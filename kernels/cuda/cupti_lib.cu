/* CUPTI opened by name, so that this library opens where there is none. */
#include "kernels/cuda/cupti.h"

#include <dlfcn.h>
#include <stdio.h>

#ifdef KVT_CUPTI_INSIDE /* the emulation's own (tests/simt) */

int kvt_cupti_open(struct kvt_cupti *out, const char *const *file, struct kvt_err *err)
{
    (void)file, (void)err;
#define X(name) out->name = cupti##name;
    KVT_CUPTI_MAP(X)
#undef X
    return 0;
}

#else

static const char *const places[] = {"libcupti.so.13", "libcupti.so", "/usr/local/cuda/extras/CUPTI/lib64/libcupti.so.13",
                                     "/usr/local/cuda/lib64/libcupti.so.13", NULL};

int kvt_cupti_open(struct kvt_cupti *out, const char *const *file, struct kvt_err *err)
{
    void *lib = NULL;
    for (file = file ? file : places; !lib && *file; file++)
        lib = dlopen(*file, RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        return kvt_fail(err, KVT_EDEVICE, "libcupti.so.13 isn't found; install CUDA's CUPTI, or put its folder into LD_LIBRARY_PATH");
#define X(name)                                                                                                                      \
    if (!(*(void **)&out->name = dlsym(lib, "cupti" #name)))                                                                         \
        return kvt_fail(err, KVT_EDEVICE, "this libcupti has no cupti" #name "; use the one of CUDA 13");
    KVT_CUPTI_MAP(X)
#undef X
    return 0; /* stays open: it may have threads of its own */
}

#endif

int kvt_cupti_refused(const struct kvt_cupti *cupti, CUptiResult code, const char *what, struct kvt_err *err)
{
    const char *text = NULL;
    switch ((int)code) {
    case CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED:
        return kvt_fail(err, KVT_EDEVICE, "another profiler (nsys, ncu) is attached, and CUPTI serves one; it sees our names as NVTX ranges");
    case CUPTI_ERROR_INSUFFICIENT_PRIVILEGES:
    case CUPTI_ERROR_VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES:
        return kvt_fail(err, KVT_EDEVICE, "the driver allows profiling to administrators only; ask for NVreg_RestrictProfilingToAdminUsers=0");
    case CUPTI_ERROR_VIRTUALIZED_DEVICE_NOT_SUPPORTED:
    case CUPTI_ERROR_CONFIDENTIAL_COMPUTING_NOT_SUPPORTED:
    case CUPTI_ERROR_MIG_DEVICE_NOT_SUPPORTED:
    case CUPTI_ERROR_WSL_DEVICE_NOT_SUPPORTED:
        return kvt_fail(err, KVT_EDEVICE, "CUPTI can't trace this kind of device (virtual, MIG, confidential or WSL)");
    case CUPTI_ERROR_NOT_INITIALIZED:
        return kvt_fail(err, KVT_EDEVICE, "CUPTI finds no driver that it can use");
    default: break;
    }
    if (cupti->GetResultString(code, &text) != CUPTI_SUCCESS || !text)
        text = "unknown error";
    return kvt_fail(err, KVT_EDEVICE, "%s: CUPTI error %d, %s", what, (int)code, text);
}

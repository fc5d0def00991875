// simt_blas.cpp - the cuBLAS entry points an LLM needs, by plain loops (column-major as cuBLAS), same prototypes
#pragma GCC diagnostic ignored "-Wmisleading-indentation"
#include "simt.h"
#include <cublas_v2.h>
#include <vector>
struct cublasContext {
    cudaStream_t stream = nullptr;
    cublasPointerMode_t pm = CUBLAS_POINTER_MODE_HOST;
    cublasMath_t mm = CUBLAS_DEFAULT_MATH;
};
#define API extern "C" __attribute__((visibility("default")))
API cublasStatus_t cublasCreate_v2(cublasHandle_t *h)
{
    *h = new cublasContext;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasDestroy_v2(cublasHandle_t h)
{
    if (!h)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasSetStream_v2(cublasHandle_t h, cudaStream_t s)
{
    h->stream = s;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasSetMathMode(cublasHandle_t h, cublasMath_t m)
{
    h->mm = m;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void *, size_t) { return CUBLAS_STATUS_SUCCESS; }
API cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t h, cublasPointerMode_t m)
{
    h->pm = m;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int *v)
{
    *v = 130100;
    return CUBLAS_STATUS_SUCCESS;
}
static size_t esize(cudaDataType t) { return t == CUDA_R_32F ? 4 : t == CUDA_R_16F || t == CUDA_R_16BF ? 2 : 0; }
static float get(const void *p, size_t i, cudaDataType t)
{
    return t == CUDA_R_32F   ? ((const float *)p)[i]
           : t == CUDA_R_16F ? __half2float(((const __half *)p)[i])
                             : __bfloat162float(((const __nv_bfloat16 *)p)[i]);
}
static void put(void *p, size_t i, cudaDataType t, float v)
{
    if (t == CUDA_R_32F)
        ((float *)p)[i] = v;
    else if (t == CUDA_R_16F)
        ((__half *)p)[i] = __float2half_rn(v);
    else
        ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(v);
}
static void gemm(bool ta, bool tb, int m, int n, int k, float al, const void *A, cudaDataType at, int lda, const void *B, cudaDataType bt,
                 int ldb, float be, void *C, cudaDataType ct, int ldc)
{
    int ra = ta ? k : m, ca = ta ? m : k, rb = tb ? n : k, cb = tb ? k : n;
    std::vector<float> a((size_t)ra * ca), b((size_t)rb * cb), c((size_t)m * n);
    for (int j = 0; j < ca; j++)
        for (int i = 0; i < ra; i++)
            a[(size_t)j * ra + i] = get(A, (size_t)j * lda + i, at);
    for (int j = 0; j < cb; j++)
        for (int i = 0; i < rb; i++)
            b[(size_t)j * rb + i] = get(B, (size_t)j * ldb + i, bt);
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            float s = 0;
            for (int l = 0; l < k; l++)
                s += a[ta ? (size_t)i * ra + l : (size_t)l * ra + i] * b[tb ? (size_t)l * rb + j : (size_t)j * rb + l];
            c[(size_t)j * m + i] = s;
        }
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            float v = al * c[(size_t)j * m + i];
            if (be != 0.f)
                v += be * get(C, (size_t)j * ldc + i, ct);
            put(C, (size_t)j * ldc + i, ct, v);
        } // beta 0: C is not read, as cuBLAS
}
namespace simt {
void submit_host(cudaStream_t, std::function<void()>);
bool device_range(const void *, size_t);
void mark_written(void *, size_t);
} // namespace simt
static cublasStatus_t checked(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, const void *al,
                              const void *A, cudaDataType at, int lda, long long sa, const void *B, cudaDataType bt, int ldb, long long sb,
                              const void *be, void *C, cudaDataType ct, int ldc, long long sc, int batch, cublasComputeType_t comp)
{
    if (!h)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (m < 0 || n < 0 || k < 0 || batch < 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!m || !n || !batch)
        return CUBLAS_STATUS_SUCCESS;
    bool tA = ta != CUBLAS_OP_N, tB = tb != CUBLAS_OP_N;
    if (lda < (tA ? k : m) || ldb < (tB ? n : k) || ldc < m)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!esize(at) || at != bt || !esize(ct) || (at == CUDA_R_32F && ct != CUDA_R_32F) ||
        (comp != CUBLAS_COMPUTE_32F && comp != CUBLAS_COMPUTE_32F_FAST_TF32 && comp != CUBLAS_COMPUTE_32F_PEDANTIC &&
         comp != CUBLAS_COMPUTE_32F_FAST_16BF))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (h->pm != CUBLAS_POINTER_MODE_HOST)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    auto last = [](int ld, int rows, int cols) { return (size_t)ld * (size_t)(cols - 1) + (size_t)rows; };
    auto span = [&](long long s, size_t one) { return (size_t)s * (size_t)(batch - 1) + one; };
    size_t na = span(sa, last(lda, tA ? k : m, tA ? m : k)) * esize(at), nb = span(sb, last(ldb, tB ? n : k, tB ? k : n)) * esize(bt),
           nc = span(sc, last(ldc, m, n)) * esize(ct);
    if (!simt::device_range(A, na) || !simt::device_range(B, nb) || !simt::device_range(C, nc)) {
        simt::report(
            simt::Err::GlobalOOB,
            "cublas gemm m=%d n=%d k=%d lda=%d ldb=%d ldc=%d batch=%d reaches outside its device buffers (A %zu, B %zu, C %zu bytes)", m, n,
            k, lda, ldb, ldc, batch, na, nb, nc);
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    float alpha = *(const float *)al, beta = *(const float *)be;
    simt::submit_host(h->stream, [=] {
        for (int b = 0; b < batch; b++)
            gemm(tA, tB, m, n, k, alpha, (const char *)A + (size_t)b * (size_t)sa * esize(at), at, lda,
                 (const char *)B + (size_t)b * (size_t)sb * esize(bt), bt, ldb, beta, (char *)C + (size_t)b * (size_t)sc * esize(ct), ct,
                 ldc);
        simt::mark_written(C, nc);
    });
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasGemmEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, const void *al,
                                const void *A, cudaDataType at, int lda, const void *B, cudaDataType bt, int ldb, const void *be, void *C,
                                cudaDataType ct, int ldc, cublasComputeType_t comp, cublasGemmAlgo_t)
{
    return checked(h, ta, tb, m, n, k, al, A, at, lda, 0, B, bt, ldb, 0, be, C, ct, ldc, 0, 1, comp);
}
API cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                                              const void *al, const void *A, cudaDataType at, int lda, long long sa, const void *B,
                                              cudaDataType bt, int ldb, long long sb, const void *be, void *C, cudaDataType ct, int ldc,
                                              long long sc, int batch, cublasComputeType_t comp, cublasGemmAlgo_t)
{
    return checked(h, ta, tb, m, n, k, al, A, at, lda, sa, B, bt, ldb, sb, be, C, ct, ldc, sc, batch, comp);
}
API cublasStatus_t cublasSgemm_v2(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, const float *al,
                                  const float *A, int lda, const float *B, int ldb, const float *be, float *C, int ldc)
{
    return checked(h, ta, tb, m, n, k, al, A, CUDA_R_32F, lda, 0, B, CUDA_R_32F, ldb, 0, be, C, CUDA_R_32F, ldc, 0, 1, CUBLAS_COMPUTE_32F);
}
API cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                                             const float *al, const float *A, int lda, long long sa, const float *B, int ldb, long long sb,
                                             const float *be, float *C, int ldc, long long sc, int batch)
{
    return checked(h, ta, tb, m, n, k, al, A, CUDA_R_32F, lda, sa, B, CUDA_R_32F, ldb, sb, be, C, CUDA_R_32F, ldc, sc, batch,
                   CUBLAS_COMPUTE_32F);
}
API const char *cublasGetStatusName(cublasStatus_t s)
{
    return s == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : "CUBLAS_STATUS_(emulated)";
}
API const char *cublasGetStatusString(cublasStatus_t s) { return cublasGetStatusName(s); }

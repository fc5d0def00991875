/* What a .cu file stands on: CUDA C as nvcc compiles it, or the same words for a host compiler (tests/simt), so that one source is
 * the product and what the tests run. The PTX written by hand is here and nowhere else.
 *
 * Rules that keep both compilers happy: kernels are launched by GPU_LAUNCH (launch.h), dynamic shared memory is had by GPU_DYN_SHARED,
 * __CUDA_ARCH__ is not asked for outside this file, sums of floats by several threads have a fixed order (no atomics on floats:
 * a result must have the same bits in each run; atomics on integers are exact in any order). */
#ifndef KVT_KERNELS_CUDA_GPU_H
#define KVT_KERNELS_CUDA_GPU_H

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define GPU_LAUNCH(kernel, grid, block, shared, stream, ...) kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
#define GPU_KERNEL(name, kernel) ((void)(name)) /* the emulation must be told what cudaLaunchKernel will get */
#define GPU_DYN_SHARED(T, name)                                   \
    extern __shared__ __align__(16) unsigned char gpu_dyn_raw_[]; \
    T *name = reinterpret_cast<T *>(gpu_dyn_raw_)

static __device__ __forceinline__ unsigned gpu_smem(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }

/* 16 bytes from global to shared memory, past the registers and L1; both 16-byte aligned. _line: the rest of the 128 bytes around them
 * will be wanted soon, so L2 may fetch it too. */
static __device__ __forceinline__ void gpu_cp_async16(void *shared, const void *global)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(gpu_smem(shared)), "l"(global) : "memory");
}
static __device__ __forceinline__ void gpu_cp_async16_line(void *shared, const void *global)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(gpu_smem(shared)), "l"(global) : "memory");
}
static __device__ __forceinline__ void gpu_cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Waits until no more than `left` of this thread's groups are on their way. */
template <int left> static __device__ __forceinline__ void gpu_cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory"); }

/* Four (two) 8 x 8 matrices of 16-bit values; lane l gives the address of row l % 8 of matrix l / 8 (16-byte aligned) and gets the
 * two values at row l / 4, columns 2 (l % 4) of each. trans: of each matrix's transpose. */
static __device__ __forceinline__ void gpu_ldmatrix_x4(unsigned *d, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(gpu_smem(row)) : "memory");
}
static __device__ __forceinline__ void gpu_ldmatrix_x4_trans(unsigned *d, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(gpu_smem(row)) : "memory");
}
static __device__ __forceinline__ void gpu_ldmatrix_x2(unsigned *d, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(d[0]), "=r"(d[1]) : "r"(gpu_smem(row)) : "memory");
}

/* c (16 x 8) += a (16 x 16) b (16 x 8), products exact, sums in f32. Lane l holds of c the values at rows l / 4 (0, 1) and l / 4 + 8
 * (2, 3), columns 2 (l % 4) + {0, 1}; of a, as pairs of columns, [row l / 4, 2 (l % 4)], [row + 8, same], [row, + 8], [row + 8, + 8];
 * of b, as pairs of rows, [2 (l % 4), column l / 4], [+ 8, same]. */
static __device__ __forceinline__ void gpu_mma_bf16(float *c, const unsigned *a, const unsigned *b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
static __device__ __forceinline__ void gpu_mma_f16(float *c, const unsigned *a, const unsigned *b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* 2^x to two units in the last place; results below 2^-126 are 0. */
static __device__ __forceinline__ float gpu_exp2(float x)
{
    asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(x));
    return x;
}

#else /* a host compiler, on the emulation */

#include "simt.h"
#include "ptx_rt.h"

#define GPU_KERNEL(name, kernel) ::simt::kernel_known(name, kernel)

static inline void gpu_cp_async16(void *shared, const void *global, simt::Site at = SIMT_SITE) { simt::async_copy(shared, global, 16, 0, at); }
static inline void gpu_cp_async16_line(void *shared, const void *global, simt::Site at = SIMT_SITE) { simt::async_copy(shared, global, 16, 0, at); }
static inline void gpu_cp_async_commit() { simt::async_commit(); }
template <int left> static inline void gpu_cp_async_wait(simt::Site at = SIMT_SITE) { simt::async_wait(left, at); }
static inline float gpu_exp2(float x) { return x < -126 ? 0 : exp2f(x); }
static inline void gpu_ldmatrix_x4(unsigned *d, const void *row) { ptx::ldmatrix(d, row, 4, false, 0); }
static inline void gpu_ldmatrix_x4_trans(unsigned *d, const void *row) { ptx::ldmatrix(d, row, 4, true, 0); }
static inline void gpu_ldmatrix_x2(unsigned *d, const void *row) { ptx::ldmatrix(d, row, 2, false, 0); }
static inline void gpu_mma(float *c, const unsigned *a, const unsigned *b, bool bf16)
{
    unsigned bits[4];
    memcpy(bits, c, sizeof bits);
    ptx::mma16816(bits, a, b, bits, bf16, 0);
    memcpy(c, bits, sizeof bits);
}
static inline void gpu_mma_bf16(float *c, const unsigned *a, const unsigned *b) { gpu_mma(c, a, b, true); }
static inline void gpu_mma_f16(float *c, const unsigned *a, const unsigned *b) { gpu_mma(c, a, b, false); }

#endif
#endif

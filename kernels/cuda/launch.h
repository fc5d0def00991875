/* How a kernel of this backend is launched: at once, or, between step_begin and step_end, noted down and launched with its neighbours as
 * a graph (graph.cu). Every kernel goes through here, so that nobody has to know which. */
#ifndef KVT_KERNELS_CUDA_LAUNCH_H
#define KVT_KERNELS_CUDA_LAUNCH_H

#include "kernels/cuda/gpu.h"

struct kvt_dev;

/* n arguments at arg[i], of bytes[i]; they are copied. What goes wrong is told by the next kvt_cuda_launched or kvt_cuda_flush. */
void kvt_cuda_launch(struct kvt_dev *dev, const void *kernel, dim3 grid, dim3 block, size_t shared, void **arg, const size_t *bytes, int n);

/* The arguments turned into the kernel's own types, as <<<>>> does it. */
template <class... P, class... A>
static inline void kvt_launch_as(struct kvt_dev *dev, const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A &&...given)
{
    [&](P... p) {
        void *arg[] = {(void *)&p..., NULL};
        const size_t bytes[] = {sizeof(P)..., 0};
        GPU_KERNEL(name, kernel);
        kvt_cuda_launch(dev, (const void *)kernel, grid, block, shared, arg, bytes, (int)sizeof...(P));
    }(static_cast<P>(given)...);
}

/* In a function with a `dev`: the stream is always the device's. */
#undef GPU_LAUNCH
#define GPU_LAUNCH(kernel, grid, block, shared, stream, ...) kvt_launch_as(dev, #kernel, kernel, grid, block, shared, ##__VA_ARGS__)

#endif

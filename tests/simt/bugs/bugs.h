/* The kernels of bugs.cu by name. */
#ifndef SIMT_BUGS_H
#define SIMT_BUGS_H

#include <cuda_runtime_api.h>

/* The launch's error, or -1: no such kernel. */
int run_bug(const char *name, int bug, const float *x, float *y, int n, cudaStream_t stream);

#endif

/* Reading chunked datasets with all cores. */
#ifndef KVT_TRACER_H5_CHUNKS_H
#define KVT_TRACER_H5_CHUNKS_H

#include "tracer/h5.h"

/* The box [start, start + count) as kvt_h5_read has it, start NULL: all of it; false: not done (not such a dataset, or damaged), out is undefined then. */
bool kvt_h5_read_chunks(hid_t ds, hid_t type, const size_t *start, const size_t *count, int rank, void *out);

#endif

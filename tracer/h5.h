/* HDF5 as this project uses it: typed creation, whole and partial reads and writes, attributes, dimension scales, and
 * error text with the library's innermost reason. Only tracer/ includes it. */
#ifndef KVT_TRACER_H5_H
#define KVT_TRACER_H5_H

#include <stdbool.h>
#include <hdf5.h>
#include <stdint.h>

#include "tracer/schema.h"
#include "kvt/kvt.h"

/* HDF5's own printing off in this thread; its reasons go to `why` instead, until kvt_h5_quiet(NULL). */
struct kvt_h5_why { char text[256]; bool memory; };
void kvt_h5_quiet(struct kvt_h5_why *why);
/* Like kvt_fail; adds the innermost reason of the first HDF5 call that failed since kvt_h5_quiet or the last kvt_h5_fail
 * (the system's words where it was the system). */
int kvt_h5_fail(struct kvt_err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* File access that opens a file shorter than it says, or clears the mark of being written: the library's own names for what
 * h5clear does. */
bool kvt_h5_accept_cut(hid_t fapl);
bool kvt_h5_clear_mark(hid_t fapl);

/* Type on disk; len: bytes of a string. The caller closes it. Negative without memory. */
hid_t kvt_h5_disk_type(enum kvt_h5_type type, size_t len);
/* ... in memory: the machine's own byte order. */
hid_t kvt_h5_mem_type(enum kvt_h5_type type, size_t len);
size_t kvt_h5_type_bytes(enum kvt_h5_type type, size_t len);

/* Attributes; false: failed (kvt_h5_fail knows why). What the reader reads has a fixed length: strings of variable length lie
 * in a heap without checksums, where a changed byte can keep HDF5 1.10 busy for ever. Labels for other programs, which show
 * them best so, are of variable length. */
bool kvt_h5_put_label(hid_t at, const char *name, const char *text);
bool kvt_h5_put_str(hid_t at, const char *name, const char *text);
bool kvt_h5_put_i64(hid_t at, const char *name, int64_t v);
bool kvt_h5_put_u64(hid_t at, const char *name, uint64_t v);
bool kvt_h5_put_f64(hid_t at, const char *name, double v);
/* One number of that class as `mem`; false: it isn't there, or something else. */
bool kvt_h5_get_number(hid_t at, const char *name, H5T_class_t class, hid_t mem, void *out);

/* A box of a dataset: [start, start + count) in every dimension, memory dense in `type`. start NULL: all of it. */
bool kvt_h5_write(hid_t ds, hid_t type, const size_t *start, const size_t *count, int rank, const void *in);
bool kvt_h5_read(hid_t ds, hid_t type, const size_t *start, const size_t *count, int rank, void *out);

/* A dataset of the schema with its fill value, layout, `units` and `long_name`; shape (rank). Negative: failed. */
hid_t kvt_h5_make(hid_t at, const char *path, const struct kvt_dataset_info *d, const size_t *shape, size_t str_len);
/* A dimension scale (n values) at `at`. */
hid_t kvt_h5_make_scale(hid_t at, enum kvt_dim dim, const int32_t *value, size_t n);

/* Names and joins the dimensions of datasets to their scales. Unlike the library's own H5DSattach_scale, which rewrites
 * a scale's list for each dataset (quadratic in branches), the lists are written once, by kvt_h5_links_write. */
struct kvt_h5_link { hobj_ref_t ref; unsigned index; enum kvt_dim dim; };
struct kvt_h5_links {
    hid_t scale[KVT_N_DIM];      /* open, or negative */
    hobj_ref_t ref[KVT_N_DIM];
    struct kvt_h5_link *link;
    size_t n, cap;
};
bool kvt_h5_links_add(struct kvt_h5_links *l, hid_t ds, const struct kvt_dataset_info *d);
bool kvt_h5_links_write(struct kvt_h5_links *l);
void kvt_h5_links_free(struct kvt_h5_links *l);

#endif

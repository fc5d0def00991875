/* What a device did, by the operation that asked for it: the times of its kernels, copies and waits, joined to the phase, step, layer and
 * branches of the run. The engine says where it is (struct kvt_where); a backend in a library of its own, asked for its profile (kernels/plugin.h),
 * has a second table of operations that notes each call, and gathers what the device did for it. The plain table knows nothing of this. */
#ifndef KVT_KERNELS_PROFILE_H
#define KVT_KERNELS_PROFILE_H

#include "kernels/ops.h"

/* Where a run is. phase: enum kvt_phase, -1 before the first; layer -1: none; step 0 before the first. branches: bit b: a row, or the
 * eviction, is branch b's (63: of that one or a later one; 0: the whole run's). */
struct kvt_where {
    int32_t phase, layer, step;
    uint64_t branches;
};
static inline uint64_t kvt_branch_bit(int branch) { return (uint64_t)1 << (branch < 63 ? branch : 63); }

/* One call of an operation, on the host. */
struct kvt_device_call {
    int64_t start_ns, dur_ns;  /* CLOCK_MONOTONIC; a device may begin later */
    int64_t bytes;             /* the least it must move (kernels/traffic.h); -1: not modelled */
    uint64_t branches;
    int32_t name, phase, layer, step; /* name: an index of names, of the operation in struct kvt_ops */
};

enum kvt_device_kind { KVT_DEVICE_KERNEL, KVT_DEVICE_COPY, KVT_DEVICE_SET,
                       KVT_DEVICE_WAIT,     /* of the host, for the device */
                       KVT_DEVICE_OVERHEAD, /* of the driver and of the profile itself */
                       KVT_N_DEVICE_KIND };

/* One thing that the device did. */
struct kvt_device_record {
    int64_t start_ns, dur_ns;  /* the same clock; start -1: no time was taken */
    int64_t bytes;             /* copied or set; else -1 */
    int32_t kind, name;        /* enum kvt_device_kind; of the kernel, or what kind of copy, wait or overhead */
    int32_t stream;
    int32_t call;              /* that it was done for; -1: none is known */
};

struct kvt_device_times {
    const struct kvt_device_call *call;     /* (n_calls) */
    const struct kvt_device_record *record; /* (n_records) in order of their start */
    const char *const *name;                /* (n_names) */
    size_t n_calls, n_records;
    int n_names;
    int64_t calls_lost, records_lost; /* that found no room */
    int64_t dropped;           /* records that the profiling library lost */
    int64_t damaged;           /* buffers of it that ended before their time */
    uint32_t version;          /* of the library: cuptiGetVersion */
    double bandwidth;          /* bytes/s of the device's memory, by its properties; 0: not known */
    int64_t real_ns[2], mono_ns[2]; /* CLOCK_REALTIME and CLOCK_MONOTONIC at the profile's start and end */
};

struct kvt_profile;

/* A backend's profile; one at a time in a process. */
struct kvt_profile_table {
    const struct kvt_ops *ops; /* the operations, each of which notes its calls while a profile runs */
    /* Begins, best before the first device is opened. room: calls that are kept, and twice as many records. KVT_EDEVICE: refused, and err says why in
     * a line; such a run can go on without. */
    int (*start)(struct kvt_profile **out, size_t room, struct kvt_err *err);
    void (*stop)(struct kvt_profile *p, struct kvt_device_times *out); /* waits for the device; out points into p */
    void (*close)(struct kvt_profile **p);
};

#endif

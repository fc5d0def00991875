/* The profile's parts: CUPTI, opened when it is asked for (cupti_lib.cu); its records, read and joined (cupti_records.cu: host code that
 * needs neither a device nor a driver); a profile from start to stop (cupti.cu); the operations that note their calls (cupti_ops.cu). */
#ifndef KVT_KERNELS_CUDA_CUPTI_H
#define KVT_KERNELS_CUDA_CUPTI_H

extern "C" {
#include "kernels/profile.h"
}
#include <cupti.h>
#include <pthread.h>

/* ---- cupti_lib.cu: functions of a library that may not be there. The program links to none of it. */

#define KVT_CUPTI_MAP(X)                                                                                                      \
    X(GetVersion) X(GetResultString) X(Subscribe) X(Unsubscribe) X(EnableCallback) X(GetGraphNodeId) X(ActivityRegisterCallbacks) \
    X(ActivityEnable) X(ActivityDisable) X(ActivityPushExternalCorrelationId) X(ActivityPopExternalCorrelationId)              \
    X(ActivityFlushAll) X(ActivityGetNextRecord) X(ActivityGetNumDroppedRecords)

struct kvt_cupti {
#define X(name) decltype(&cupti##name) name;
    KVT_CUPTI_MAP(X)
#undef X
};

/* From the first of these files that opens (NULL ends; NULL alone: where the toolkit has it). */
int kvt_cupti_open(struct kvt_cupti *out, const char *const *file, struct kvt_err *err);
/* A refusal in words that say what to do. */
int kvt_cupti_refused(const struct kvt_cupti *cupti, CUptiResult code, const char *what, struct kvt_err *err);

/* ---- cupti_records.cu */

struct kvt_id_map {          /* a number to an index: open addressing, grows */
    uint64_t *key;           /* (cap), a power of two; value -1: free */
    int32_t *value;
    size_t cap, n;
};
bool kvt_id_put(struct kvt_id_map *m, uint64_t key, int32_t value); /* the first value of a key stays */
int32_t kvt_id_get(const struct kvt_id_map *m, uint64_t key);       /* -1: none */
void kvt_id_free(struct kvt_id_map *m);

struct kvt_raw_record {      /* with what it is joined by */
    struct kvt_device_record to; /* times by CUPTI's clock until the end */
    uint32_t correlation;
    uint64_t node;           /* of a graph; 0: outside graphs */
};

/* Everything that buffers brought. Buffers may come in any order, in any thread: whoever hands them in holds a lock. */
struct kvt_records {
    struct kvt_raw_record *record; /* (room) */
    struct kvt_device_record *joined; /* (room) by the end */
    size_t n, room;
    int64_t lost, dropped, damaged;
    struct kvt_id_map asked; /* correlation id to what was asked: a call, or KVT_LAUNCH0 + a launch of a graph */
    struct kvt_id_map node;  /* graph node to its place in its graph */
    struct kvt_graph_launch { size_t first; int n; } *launch; /* (n_launches) the calls of its nodes: of_node[first ... first + n) */
    int32_t *of_node;
    size_t n_launches, cap_launches, n_of_node, cap_of_node;
    char **name;             /* (n_names) */
    const void **name_from;  /* (n_names) CUPTI's pointer, which all records of a kernel share; NULL: ours */
    int n_names, cap_names;
};

enum { KVT_LAUNCH0 = 1 << 30 };

/* A launch of a graph whose node i does the work of call[i]; what to ask for as its external id, or -1 without memory. */
int32_t kvt_records_launch(struct kvt_records *r, const int32_t *call, int n);
int kvt_records_open(struct kvt_records *r, size_t room);
void kvt_records_close(struct kvt_records *r);
int32_t kvt_records_name(struct kvt_records *r, const char *name); /* -1 without memory */
/* A buffer that CUPTI has filled up to `valid`. */
void kvt_records_read(struct kvt_records *r, const struct kvt_cupti *cupti, uint8_t *buffer, size_t valid);
/* Joins, takes times from CLOCK_REALTIME to CLOCK_MONOTONIC by the pairs taken at start and end, sorts. */
void kvt_records_join(struct kvt_records *r, size_t n_calls, const int64_t real_ns[2], const int64_t mono_ns[2]);

/* ---- cupti.cu */

extern "C" {
int kvt_cuda_profile_start(struct kvt_profile **out, size_t room, struct kvt_err *err);
void kvt_cuda_profile_stop(struct kvt_profile *p, struct kvt_device_times *out);
void kvt_cuda_profile_close(struct kvt_profile **p);
}
/* A call begins; its number, or -1 where no profile runs or there is no room. name: a literal. layer -2: where says. */
int64_t kvt_cuda_profile_enter(const char *name, const struct kvt_where *where, int layer, int64_t bytes);
void kvt_cuda_profile_leave(int64_t call);

/* Launches that are noted now and made later, one by one or as a graph (graph.cu). The call that runs now, -1: none; its launch begins later and
 * is over, as if it ran; node number `place` of a graph is captured; a graph of n nodes is launched, for these calls, and was. */
int32_t kvt_cuda_profile_now(void);
void kvt_cuda_profile_again(int32_t call);
void kvt_cuda_profile_node(int place);
void kvt_cuda_profile_graph(const int32_t *call, int n);
void kvt_cuda_profile_done(void);

#endif

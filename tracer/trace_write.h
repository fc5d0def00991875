/* The trace writer: a probe that packs events into a bounded ring, and one thread that owns HDF5.
 *
 * open makes name.h5.part with every object that the run will need, writes what is known (tokens, spans, provenance) and
 * starts SWMR; events append; close ends with sync and an atomic rename to name.h5, `status` complete or failed. */
#ifndef KVT_TRACER_TRACE_WRITE_H
#define KVT_TRACER_TRACE_WRITE_H

#include <stdbool.h>

#include "kvt/probe.h"
#include "kvt/kvt.h"

struct kvt_trace_writer;

struct kvt_plan_span { const char *name, *kind; int parent, start, end, byte_start, byte_end; };
struct kvt_plan_branch {
    const char *name;          /* "snapkv 25%": unique */
    const char *method;        /* "snapkv" */
    const char *canonical;     /* "snapkv@1[w=32,...]" */
    double asked_keep;         /* share kept, NaN where asked in tokens; 1 for full */
    int asked_tok;             /* tokens of the context asked for */
    const char *schedule;      /* "prefill" or "step" */
    bool renumber;
    const char *asked;         /* the budget in words: "25%", "256 tok", "as shotkv 10%" */
    const char *replayed;      /* "exact", "approx"; NULL: by a run */
};

/* Everything known before the run. Strings are copied; arrays too. */
struct kvt_trace_plan {
    const char *path;          /* run.h5 */
    bool force;                /* may replace an existing run.h5 */
    const char *prompt_id;     /* "0" */
    int L, H, G, D, V;
    const char *model_name, *model_arch, *model_path, *model_type, *config_sha256, *tokenizer_kind;
    uint64_t model_bytes;
    const char *text;          /* the prompt; text_bytes long */
    size_t text_bytes;
    int n_prompt, n_context;   /* tokens */
    const int32_t *token_id, *token_start, *token_end; /* (n_prompt), byte ranges */
    const char *const *token_text; /* (n_prompt) valid UTF-8, for people */
    size_t longest_token;      /* bytes, of the vocabulary: generated tokens' text fits */
    const struct kvt_plan_span *span;
    int n_spans;
    const struct kvt_plan_branch *branch; /* branch 0 is "full" */
    int n_branches;
    int n_new;
    bool no_full;              /* branch 0 doesn't run */
    const struct kvt_wants *wants;
    bool lost_mass, output_error; /* fidelity that will be measured */
    int n_windows;
    int window[KVT_MAX_WINDOWS];
    int n_squares;             /* that are recorded for a replay */
    int square_window[KVT_MAX_WINDOWS], square_distance[KVT_MAX_WINDOWS], square_by_pos[KVT_MAX_WINDOWS];
    bool later;                /* there are shots to be later than */
    const uint8_t *acts;       /* (L) 1: methods act on the layer; NULL: on all */
    const char *shot_order;    /* as asked: "file", "reverse", "seed:7"; NULL: "file" */
    const char *protocol;      /* "visible" ... */
    const char *decode;        /* "both", "forced", "free" */
    const char *rope, *windows; /* "llama3 x8"; "none", "17 tokens in layers 0-4,6; left alone"; NULL: not known */
    const char *compute, *kv_type, *backend, *device, *command_line;
    int threads;
    uint64_t seed;
    bool drop_when_full;       /* ring policy for maps and rows; decisions and scores always block */
    bool profile;              /* what the device does, by kvt_trace_device */
    bool compress;             /* maps, scores and vectors too; all else is in any case */
};

int kvt_trace_create(struct kvt_trace_writer **out, const struct kvt_trace_plan *plan, struct kvt_err *err);
/* The probe to hand to the session. Its `see` fails once the writer thread has failed (disk full ...). */
const struct kvt_probe *kvt_trace_probe(struct kvt_trace_writer *w);
/* Text of a generated token, for the branch's token axis; step >= 1. free: of the free-running branch. */
int kvt_trace_token(struct kvt_trace_writer *w, int branch, int step, bool free, int32_t id, const char *utf8);
/* Results known at the end: recorded as attributes of the branch. diverged = 0: never. */
int kvt_trace_result(struct kvt_trace_writer *w, int branch, const char *text, int diverged, double mean_kl, double top1);
/* Means of the fidelity measured: lost mass, the same without sinks, local and propagated error of outputs, regret. */
int kvt_trace_fidelity(struct kvt_trace_writer *w, int branch, const double mean[5]);
/* KV bytes that the branch would hold by itself after prefill-end eviction (struct kvt_branch_result's bytes_after). */
int kvt_trace_bytes_after(struct kvt_trace_writer *w, int branch, uint64_t bytes);
/* The most that it ever held (its bytes_peak); branch -1: that all branches together did. */
int kvt_trace_bytes_peak(struct kvt_trace_writer *w, int branch, uint64_t bytes);
/* Sums that were too large for f16, of the whole run. */
int kvt_trace_beyond_f16(struct kvt_trace_writer *w, uint64_t sums);
/* The model's hash, when it is known: reading the weights takes longer than opening them. */
int kvt_trace_model_sha256(struct kvt_trace_writer *w, const char *hex);
struct kvt_device_times;
/* What the device did: kept where it lies until the end, when it is written. At most so many calls, and twice as many records, find room. */
void kvt_trace_device(struct kvt_trace_writer *w, const struct kvt_device_times *times);
size_t kvt_trace_device_room(const struct kvt_trace_plan *plan);
/* Ends the file: status KVT_OK -> complete and renamed to path; KVT_EINTR -> "interrupted", renamed too (what is there
 * is readable); anything else -> "failed", left as .part. Frees w. Returns the first error of the writer thread. */
int kvt_trace_finish(struct kvt_trace_writer **w, int status, uint64_t logits_hash, struct kvt_err *err);
/* Bytes of the file before it is made, by kind of data, before compression: what lies in the file is smaller. */
struct kvt_trace_sizes {
    size_t scores, maps, full, vectors, decisions, other;
    size_t writer;             /* in memory, while it is written */
};
void kvt_trace_estimate(const struct kvt_trace_plan *plan, struct kvt_trace_sizes *out);

#endif

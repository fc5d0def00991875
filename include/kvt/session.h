/* One prefill, many forks: a prompt is prefilled once, every branch compresses its own view of the shared cache, and
 * all of them decode in lockstep beside a branch that is never compressed (branch 0, "full"). */
#ifndef KVT_SESSION_H
#define KVT_SESSION_H

#include "kvt/method.h"
#include "kvt/model.h"
#include "kvt/probe.h"

struct kvt_session;

/* reference/measures.md 1: what the method sees and what the answer reads. */
enum kvt_protocol { KVT_PROTOCOL_VISIBLE, KVT_PROTOCOL_HIDDEN, KVT_PROTOCOL_LITERATURE };

enum kvt_decode {              /* how branches get their next token */
    KVT_DECODE_BOTH,           /* teacher-forced on the full branch; at its first different token a branch forks a free one */
    KVT_DECODE_FORCED,
    KVT_DECODE_FREE
};

struct kvt_branch_opts {
    const char *name;          /* "snapkv 25%", unique in the session; copied */
    struct kvt_spec spec;
    struct kvt_budget budget;
    const float *given;        /* KVT_SCORE_FILE: (L, G, n_given) host, the worth of the context's tokens, or of the whole prompt's;
                                * KVT_ALLOC_CLASS: (L, G) the heads' gates, n_given 1. Such a branch's budget is what the classes give */
    int n_given;
    int oracle;                /* branch number of the oracle of the same unit, allocation, schedule and budget: the other end
                                * of its regret; 0: none */
};

/* A signal may come in any thread: its word is written and read atomically. interrupted may be NULL. */
static inline int kvt_interrupted(volatile const int *interrupted)
{
    return interrupted ? __atomic_load_n(interrupted, __ATOMIC_RELAXED) : 0;
}

struct kvt_session_opts {
    const struct kvt_ops *ops;
    bool no_graphs;          /* kvt_dev_opts.no_graphs */
    int threads;
    enum kvt_compute compute;
    enum kvt_dtype kv_type;
    enum kvt_protocol protocol;
    enum kvt_decode decode;
    const int32_t *token;      /* (n_prompt) */
    int n_prompt;
    int question_start;        /* first token of the question; -1: the last `window` tokens stand for it */
    int window;                /* 32 */
    const int32_t *shot;       /* (n_shots, 2) token ranges */
    int n_shots;
    const int32_t *span;       /* (n_spans, 3) kind (enum kvt_span_kind), first token, end; ascending by first token */
    int n_spans;
    int n_new;                 /* tokens to decode */
    bool compress_windows;     /* methods act also on layers whose sliding window is shorter than the run */
    bool lost_mass, output_error; /* measured at every teacher-forced step (measures.md 3); nothing where not asked */
    /* No uncompressed branch, so nothing to compare with: no KL, no agreement, and no prefill but the branches' own. All branches
     * prefill in chunks, and decode is free. Branch 0 is there, empty and silent. */
    bool no_full;
    /* One branch alone, to be timed or put into a batch (kvt/batch.h): the full branch prefills for it, lets go of its cells as soon as the branch
     * has them, and is empty and silent from then on. One branch, decode FREE. */
    bool alone;
    bool stop_at_end;          /* end early: teacher-forced with the full branch's end token, free text with its own */
    /* Whether a branch's own text has ended with the last of its n tokens (a stop string), asked after each; or NULL. A branch that still says
     * what the full one says ends with it. */
    bool (*stop)(void *arg, int branch, const int32_t *token, int n);
    void *stop_arg;
    const int32_t *force;      /* (n_new) teacher-forced on these instead of the full branch's own words, decode FORCED alone; borrowed; or NULL */
    /* What prompts share at their beginning, kept from one session for the next (kvt_prefix_open; one session at a time), or NULL. Of this prompt
     * the first shared_tok tokens are worth keeping. Results are the same bit by bit; with a probe, which sees every row, it isn't used. */
    struct kvt_prefix *prefix;
    int shared_tok;
    const struct kvt_branch_opts *branch; /* without the full branch */
    int n_branches;
    const struct kvt_probe *probe; /* or NULL */
    volatile const int *interrupted; /* nonzero (set atomically): stop as soon as possible with KVT_EINTR; or NULL */
    void (*progress)(void *arg, enum kvt_phase phase, int done, int of); /* or NULL */
    void *progress_arg;
};

/* NULL without memory. */
struct kvt_prefix *kvt_prefix_open(void);
void kvt_prefix_close(struct kvt_prefix **p);
/* Tokens of its prompt that the last session didn't have to prefill; that one behind it won't have to, by what it was told they share (whole runs of the
 * backend, in front of every method's window). */
int kvt_prefix_restored(const struct kvt_prefix *p);
int kvt_prefix_shared(const struct kvt_prefix *p);

/* Sizes before anything runs (--dry-run), for what a probe would want. */
struct kvt_session_sizes {
    size_t weights_bytes;      /* mapped, as far as they are read */
    size_t kv_prefill_bytes;   /* shared by all branches */
    size_t kv_decode_bytes;    /* what branches hold beside it, at most */
    size_t scores_bytes, maps_bytes, work_bytes;
};
int kvt_session_sizes(const struct kvt_model *m, const struct kvt_session_opts *o, const struct kvt_wants *wants,
                      struct kvt_session_sizes *out, struct kvt_err *err);

/* Lengths of the observation windows whose mass the prefill will record; returns how many. */
int kvt_session_windows(const struct kvt_session_opts *o, const struct kvt_wants *wants, int window[KVT_MAX_WINDOWS]);

/* Squares, and sums by position, that it will record for a replay; returns how many. */
int kvt_session_squares(const struct kvt_session_opts *o, const struct kvt_wants *wants, struct kvt_square square[KVT_MAX_WINDOWS]);

/* Layers that methods act on, ascending, into layer (L) or nowhere; returns how many. A layer whose window is shorter than
 * the run (prompt + n_new) loses what it can't see by itself and is left alone, unless compress_windows. */
int kvt_session_layers(const struct kvt_model *m, const struct kvt_session_opts *o, int32_t *layer);
/* For people and for the trace: "llama3 x8"; "none", "17 tokens in layers 0-4,6; left alone". */
void kvt_session_rope_text(const struct kvt_model *m, const struct kvt_session_opts *o, char *out, size_t cap);
void kvt_session_windows_text(const struct kvt_model *m, const struct kvt_session_opts *o, char *out, size_t cap);

int kvt_session_open(struct kvt_session **out, const struct kvt_model *m, const struct kvt_session_opts *o, struct kvt_err *err);
void kvt_session_close(struct kvt_session **s);

/* The three movements; each reports through the probe. */
int kvt_session_prefill(struct kvt_session *s, struct kvt_err *err);   /* prompt, then evict, then the question again */
int kvt_session_decode(struct kvt_session *s, struct kvt_err *err);    /* n_new lockstep steps */

int kvt_session_n_context(const struct kvt_session *s);
uint64_t kvt_session_logits_hash(const struct kvt_session *s);         /* FNV-1a of the full branch's last logits */
/* Logits (n_rows, V) of prefill rows [row0, row0 + n_rows), host memory; after prefill. */
int kvt_session_prefill_logits(struct kvt_session *s, int row0, int n_rows, float *out, struct kvt_err *err);
/* Last logits of a branch (0 = full), host (V). */
int kvt_session_branch_logits(struct kvt_session *s, int branch, float *out, struct kvt_err *err);

/* What a branch did; owned by the session. Branch 0 is the full one. */
struct kvt_branch_result {
    const char *name;          /* "full", "snapkv 25%" */
    const int32_t *forced;     /* (n_steps) argmax at each step whose text is the full branch's: all that it lived, or,
                                * free-running, those up to the first difference */
    const int32_t *free;       /* (n_free) free-running tokens from step 1 */
    int n_steps, n_free;
    int diverged;              /* first step whose token differs from the full branch's, 1-based; 0 = none */
    double mean_kl, top1_agree;
    double mean_nll;           /* -ln p of the tokens it was teacher-forced on, nats, mean over steps; NaN where there were none */
    double regret;             /* lost mass beyond that of its oracle; NaN where there is none */
    double lost_mass, lost_rest; /* means over steps, layers and kv heads; NaN where not measured */
    double output_local, output_propagated; /* means over steps and layers */
    double effective_keep;
    bool fallback;             /* PyramidKV's uniform one, ChunkKV below one chunk */
    double last_tok;           /* tokens held after the last step, mean over the kv heads that may be evicted from */
    uint64_t bytes_after;      /* KV bytes alone, after eviction */
    uint64_t bytes_last;       /* after the last step */
    double bytes_mean;         /* mean over steps */
    uint64_t bytes_peak;       /* the most it ever held: the shared prefill, or a chunk before its eviction, or a step */
};
int kvt_session_result(const struct kvt_session *s, int branch, struct kvt_branch_result *out);
/* The most K and V bytes that all branches together ever held, counted in the page allocator. */
uint64_t kvt_session_bytes_peak(const struct kvt_session *s);
int kvt_session_steps(const struct kvt_session *s);
const char *kvt_session_device(const struct kvt_session *s);
/* Sums of products so far that were too large for f16 (kernels/ops.h), and so were taken in f64. */
uint64_t kvt_session_beyond_f16(const struct kvt_session *s);
/* Nanoseconds spent in a phase. */
int64_t kvt_session_phase_ns(const struct kvt_session *s, enum kvt_phase phase);
/* Positions held by a cell, ascending; returns how many (capacity n). For checks and tests. */
int kvt_session_positions(struct kvt_session *s, int branch, int layer, int g, int32_t *pos, int cap, struct kvt_err *err);

#endif

/* Reading a trace. Everything an analyzer needs, without HDF5 in sight.
 *
 * Pointers in info structs are owned by the reader and live until close. Functions that fill arrays take the caller's
 * memory with the shape stated here. */
#ifndef KVT_TRACE_H
#define KVT_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "kvt/kvt.h"

#define KVT_NOT_YET INT32_MIN  /* evicted_at of a token that was never generated */

struct kvt_trace;

struct kvt_trace_span { const char *name, *kind; int parent, start, end, byte_start, byte_end; };

struct kvt_trace_branch {
    const char *name, *method, *canonical, *schedule, *asked; /* asked: the budget in words, "" in older traces */
    const char *replayed;      /* "exact", "approx"; "": by a run */
    bool renumber;
    double asked_keep;         /* NaN: asked in tokens */
    int asked_tok;
    double effective_keep;     /* of the context, after rounding and protection; NaN before eviction */
    bool fallback;
    const char *note;
    int64_t bytes_after, bytes_last, bytes_peak; /* KV, of the branch by itself; -1: not known */
    double bytes_mean;
    int R;                     /* rows of its final score: G, or 1 where heads share; 0 where there are none */
    int diverged;              /* first different free-running step, 0 = none, -1 = not known */
    double mean_kl, top1;      /* NaN if not known */
    const char *text;          /* free-running text, "" if none */
};

struct kvt_trace_phase { const char *name; int64_t start_ns, dur_ns; int n_tok; }; /* monotonic clock */
struct kvt_trace_attr { const char *name, *value; };

struct kvt_trace_info {
    int schema_version, schema_minor;
    const char *status;        /* in_progress, complete, interrupted, failed */
    const char *prompts;       /* ids of all prompts of the file, "cat, 7" */
    const char *prompt_id, *model_name, *model_arch, *protocol, *decode, *compute, *kv_type, *backend, *device,
               *command_line, *created, *commit, *windows; /* windows: none, or which layers have one */
    int L, H, G, D, V;
    int n_prompt, n_context;   /* tokens; methods evict from [0, n_context) */
    int n_new, n_steps;        /* asked, done */
    int n_tok;                 /* n_prompt + n_new: the token axis of a branch */
    int n_branches;
    const struct kvt_trace_branch *branch; /* 0 is "full" */
    bool no_full;              /* which didn't run: it is empty, and nothing was compared with it */
    const int32_t *token_id;   /* (n_prompt) */
    const char *const *token_text; /* (n_prompt) */
    const int32_t *token_start, *token_end; /* bytes of text */
    const char *text;          /* the prompt */
    int n_spans;
    const struct kvt_trace_span *span;
    int n_distances, n_offsets, n_map_spans, top_k; /* 0 = not recorded */
    const int32_t *distance;   /* (n_distances) first distance of each bin */
    const int32_t *offset;     /* (n_offsets) */
    int n_row_distances;       /* the same of the rows of generated tokens */
    const int32_t *row_distance; /* (n_row_distances) */
    const int32_t *map_span;   /* (n_map_spans) indices into span */
    int n_sink, n_local;       /* first tokens that count in "sink", newest keys that count in "local" */
    bool has_keys, has_local, has_visible, has_square, has_max;
    bool has_decode;           /* what the full branch's row of each step comes to */
    int map_r, map_c;          /* 0 = no pooled maps */
    int map_tok;               /* tokens that pooled maps cover: the prompt, or (protocol hidden) the context alone */
    int n_windows, window[8];
    int64_t dropped;           /* events that a full ring lost */
    bool has_scores, has_full;
    bool has_rows;             /* the uncompressed branch's row of each step */
    bool has_replay, has_later; /* made with --for-replay; there are shots that rows came after */
    int n_late, late_from;     /* last rows of the prefill, position of the first; 0 = not recorded */
    int n_squares, n_question; /* sums of squares; tokens of the question that were fed again */
    int64_t kv_peak;           /* the most KV bytes that all branches together held; -1: not known */
    int64_t beyond_f16;        /* sums that were too large for f16 and were taken in f64; -1: not known */
    const char *path;          /* the file really opened: run.h5.part where only that exists */
    int n_phases;
    const struct kvt_trace_phase *phase;
    int n_attrs;               /* provenance: every attribute of the file and the prompt, as text */
    const struct kvt_trace_attr *attr;
    uint64_t logits_hash;
    const char *model_sha256;  /* "" where the run ended before it was known */
};

/* prompt_id NULL: the first prompt of the file. EFORMAT with the reason for anything that isn't a trace. */
int kvt_trace_open(struct kvt_trace **out, const char *path, const char *prompt_id, struct kvt_err *err);
void kvt_trace_close(struct kvt_trace **t);
const struct kvt_trace_info *kvt_trace_info(const struct kvt_trace *t);

/* out (L, G, n_tok): -1 held, 0 lost at prefill's end, k after the branch's k-th token, -2-c in chunk c, KVT_NOT_YET. */
int kvt_trace_evicted_at(struct kvt_trace *t, int branch, int32_t *out, struct kvt_err *err);
/* out (L, G, n_context): enum kvt_reason of kernels/ops.h. */
int kvt_trace_reason(struct kvt_trace *t, int branch, uint8_t *out, struct kvt_err *err);
/* Tokens of the context asked of each cell, after rounding and allocation, and really kept at prefill's end: (L, G) each, -1 where
 * nothing was decided. */
int kvt_trace_cells(struct kvt_trace *t, int branch, int32_t *asked, int32_t *kept, struct kvt_err *err);
/* out (L, R, n_context), threshold (L, R). */
int kvt_trace_score(struct kvt_trace *t, int branch, float *out, float *threshold, struct kvt_err *err);
/* One layer of it, out (R, n_context). */
int kvt_trace_score_layer(struct kvt_trace *t, int branch, int layer, float *out, struct kvt_err *err);
/* Raw prefill scores of one layer: what is "mass", "wmass" (window index w), "last", "visible", "square", "max" by key, "entropy",
 * "keys", "sink", "local" by row. out (H, n_prompt). */
int kvt_trace_raw(struct kvt_trace *t, const char *what, int w, int layer, float *out, struct kvt_err *err);
/* Of one layer, EINPUT where it wasn't recorded: mass by distance (H, n_distances) in bins that begin at info.distance; attention at
 * single distances (H, n_offsets); from span to span (H, n_map_spans, n_map_spans), mean over the rows of the first; the largest
 * of each row and their keys (H, n_prompt, top_k). */
int kvt_trace_distance(struct kvt_trace *t, int layer, float *out, struct kvt_err *err);
int kvt_trace_offset(struct kvt_trace *t, int layer, float *out, struct kvt_err *err);
int kvt_trace_spans(struct kvt_trace *t, int layer, float *out, struct kvt_err *err);
int kvt_trace_top(struct kvt_trace *t, int layer, float *out, int32_t *at, struct kvt_err *err);
/* Of the full branch's row of one step, 1 .. n_steps, EINPUT where it wasn't recorded: "entropy", "keys", "first", "sink", "local", "own", out
 * (L, H); "distance" (L, H, n_row_distances), "offset" (L, H, n_offsets), "spans" (L, H, n_map_spans); the largest and their keys
 * (L, H, top_k). NaN in a step that wasn't recorded: the full branch's text had ended. */
int kvt_trace_decode(struct kvt_trace *t, const char *what, int step, float *out, struct kvt_err *err);
int kvt_trace_decode_top(struct kvt_trace *t, int step, float *out, int32_t *at, struct kvt_err *err);
/* Pooled map of one layer and head; what is "mean" or "max". out (R, C). */
int kvt_trace_map(struct kvt_trace *t, const char *what, int layer, int head, float *out, struct kvt_err *err);
/* Full attention map of one layer and head, out (n_prompt, n_prompt); EINPUT if it wasn't recorded. */
int kvt_trace_full(struct kvt_trace *t, int layer, int head, float *out, struct kvt_err *err);
/* A part of it, out (rows, cols): only the tiles that it touches are read. */
int kvt_trace_full_part(struct kvt_trace *t, int layer, int head, int row, int rows, int col, int cols, float *out, struct kvt_err *err);
/* The uncompressed branch's row of the token that step (1 to n_steps) appended, out (H, n_tok) by position, 0 on what it can't see;
 * EINPUT where rows weren't recorded. */
int kvt_trace_decode_row(struct kvt_trace *t, int step, int layer, float *out, struct kvt_err *err);
/* What a replay needs (--for-replay; EINPUT without). Of one layer: the last rows of a head, out (n_late, n_prompt); mass from rows
 * after the key's shot, out (H, n_prompt); the i-th sum of squares, out (H, n_prompt); norms of keys, out (G, n_tok), NaN where the run
 * didn't get, and ||W_O v||_1 of the context, out (G, n_context); a row of the question, out (H, n_tok). */
int kvt_trace_late_rows(struct kvt_trace *t, int layer, int head, float *out, struct kvt_err *err);
int kvt_trace_later(struct kvt_trace *t, int layer, float *out, struct kvt_err *err);
int kvt_trace_square(struct kvt_trace *t, int i, int layer, float *out, struct kvt_err *err);
int kvt_trace_key_norm(struct kvt_trace *t, int layer, float *out, struct kvt_err *err);
int kvt_trace_out_norm(struct kvt_trace *t, int layer, float *out, struct kvt_err *err);
int kvt_trace_question_row(struct kvt_trace *t, int i, int layer, float *out, struct kvt_err *err);
/* Of the whole: in what order rows are added up, out (n_late), 255: not told; window, distance and by_pos of each sum of squares,
 * out (n_squares) each; layers that methods act on, out (L). */
int kvt_trace_row_sums(struct kvt_trace *t, uint8_t *out, struct kvt_err *err);
int kvt_trace_squares(struct kvt_trace *t, int32_t *window, int32_t *distance, uint8_t *by_pos, struct kvt_err *err);
int kvt_trace_acts(struct kvt_trace *t, uint8_t *out, struct kvt_err *err);
/* Per-step series of a branch: "kl", "logprob", "entropy" (doubles as float), out (n_steps). */
int kvt_trace_series(struct kvt_trace *t, int branch, const char *what, float *out, struct kvt_err *err);
/* Fidelity by step, layer and kv head: "lost_mass" or "lost_rest", out (n_steps, L, G); by step and layer: "output_local" or
 * "output_propagated", out (n_steps, L). EINPUT where it wasn't measured. */
int kvt_trace_fidelity_of(struct kvt_trace *t, int branch, const char *what, float *out, struct kvt_err *err);
/* "alone", "own" KV bytes by step, out (n_steps). */
int kvt_trace_bytes(struct kvt_trace *t, int branch, const char *what, int64_t *out, struct kvt_err *err);
/* Tokens of a branch by step: "forced" (argmax) or "free", out (n_steps); -1 where there is none. */
int kvt_trace_tokens(struct kvt_trace *t, int branch, const char *what, int32_t *out, struct kvt_err *err);
/* Text of a generated token, step >= 1: "forced": the one appended to the branch, "free"; "" where there is none. */
int kvt_trace_token_text(struct kvt_trace *t, int branch, const char *what, int step, char *out, size_t cap, struct kvt_err *err);
/* Timed parts of the run in the order in which they ended: enum kvt_part of kvt/probe.h, layer and branch (-1: all or none), step (0: before the
 * first), monotonic clock. *out is malloc'ed, NULL where there are none. */
struct kvt_trace_time { int part, layer, branch, step; int64_t start_ns, dur_ns; };
int kvt_trace_times(struct kvt_trace *t, struct kvt_trace_time **out, size_t *n, struct kvt_err *err);
/* "attention"; "?" for a part that this version doesn't know. */
const char *kvt_trace_part_name(int part);
/* Size on disk by group, for kvinfo: calls back for each dataset with its stored and logical bytes. */
int kvt_trace_walk(struct kvt_trace *t, void (*each)(void *arg, const char *path, uint64_t stored, uint64_t logical, const char *unit, const char *meaning),
                   void *arg, struct kvt_err *err);

#endif

/* What every analyzer does before it measures: open, warn, choose branches and layers, and turn a branch's history into
 * the sets it held at a step. */
#ifndef KVT_ANALYZERS_ANALYZER_H
#define KVT_ANALYZERS_ANALYZER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "kvt/trace.h"

/* What a branch holds of the context at a step. Cells are (layer, kv head) of the chosen layers. */
struct kvt_held {
    int L, G, n;          /* n: tokens of the context */
    uint8_t *kept;        /* (L, G, n) 1 = held */
    uint8_t *guarded;     /* (L, G, n) 1 = stays by rule: sink, protected span, recent or observation window */
    uint8_t *shared;      /* (L) 1 = all kv heads of the layer hold the same tokens */
};

/* step 0: after eviction at prefill's end; k: after the branch's k-th token. layer (L) 0/1, NULL: all. */
int kvt_held_load(struct kvt_trace *t, int branch, int step, const uint8_t *layer, struct kvt_held *out, struct kvt_err *err);
void kvt_held_free(struct kvt_held *h);
/* From evicted_at (L, G, n_tok) and reason (L, G, n): the same without a file, for tests. reason NULL: nothing guarded. */
int kvt_held_make(int L, int G, int n, int n_tok, const int32_t *evicted_at, const uint8_t *reason, int step,
                  struct kvt_held *out, struct kvt_err *err);
/* A branch's whole history, for those who ask at many steps. layer (L) 0/1, NULL: all. */
struct kvt_history {
    int L, G, n, n_tok;
    int32_t *evicted_at;  /* (L, G, n_tok) */
    uint8_t *reason;      /* (L, G, n) */
};
int kvt_history_load(struct kvt_trace *t, int branch, const uint8_t *layer, struct kvt_history *out, struct kvt_err *err);
int kvt_history_at(const struct kvt_history *h, int step, struct kvt_held *out, struct kvt_err *err);
/* Does a context token leave after step `from`, at step `to` at the latest? */
bool kvt_history_changes(const struct kvt_history *h, int from, int to);
void kvt_history_free(struct kvt_history *h);
/* Share of the cells that hold each token, out (n). */
void kvt_held_share(const struct kvt_held *h, double *out);

/* Shots: spans of kind "shot" that end inside the context. For each: its span, and its question's and answer's (-1: none). */
struct kvt_shot { int span, start, end, question, answer; };
/* *out is malloc'ed (NULL where there are none). */
int kvt_shots(const struct kvt_trace_info *info, struct kvt_shot **out, int *count, struct kvt_err *err);

/* Keys that a layer's sliding window sees, the row's own included; 0: all. From info->windows, "17 tokens in layers 0-4,6; left alone". */
int kvt_window_of(const struct kvt_trace_info *info, int layer);

/* Is it one of the prompt's large parts (system text, shot, the question asked), as people would head or border them? */
bool kvt_is_section(const struct kvt_trace_span *s);

/* The branches a user names: "snapkv 25%" (its name), "snapkv" (every budget of that method), a number, in a list split at
 * commas outside brackets; NULL: all but the full one. *out (count) is malloc'ed. */
int kvt_pick_branches(const struct kvt_trace_info *info, const char *list, int **out, int *count, struct kvt_err *err);
/* Do two branches have the same asked budget? */
bool kvt_same_budget(const struct kvt_trace_branch *a, const struct kvt_trace_branch *b);
/* Keeps those of `branch` (*count) with the budget named by text ("25%", "0.25", "256 tokens" or "256"); text NULL: the
 * middle one of the budgets that the most methods have. EINPUT when none has it. */
int kvt_pick_budget(const struct kvt_trace_info *info, const char *text, int *branch, int *count, struct kvt_err *err);
/* "25%" or "256 tokens" */
const char *kvt_budget_text(const struct kvt_trace_branch *b, char *buf, size_t cap);
/* Whether a branch has its method's name: one made from a preset, "kvpress/SnapKVPress 25%", hasn't. */
bool kvt_named_by_method(const struct kvt_trace_branch *b);
/* A short name that tells these branches apart: the method where each method occurs once and names it, else the branch's name. */
const char *kvt_short_name(const struct kvt_trace_info *info, const int *branch, int count, int i);

/* Step as asked: EINPUT beyond what the trace holds. */
int kvt_check_step(const struct kvt_trace_info *info, int step, struct kvt_err *err);
/* One line each on err for what makes a trace less than complete: status, dropped events. */
void kvt_warn_partial(const struct kvt_trace_info *info, const char *tool, const char *path, FILE *err);

#endif

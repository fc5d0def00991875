/* kvbudget's parts: what they share. */
#ifndef KVT_ANALYZERS_KVBUDGET_H
#define KVT_ANALYZERS_KVBUDGET_H

#include "analyzers/analyzer.h"
#include "analyzers/derive.h"
#include "base/args.h"
#include "base/table.h"

/* --show */
enum kvbudget_show {
    KVBUDGET_AUDIT, KVBUDGET_ROUNDING, KVBUDGET_DERIVE, KVBUDGET_CURVE, KVBUDGET_LAYERS, KVBUDGET_HEADS, KVBUDGET_CONFIRM, KVBUDGET_N_SHOW
};

struct kvbudget_options {
    const char *branches, *keep, *layers, *prompt, *out, *as, *check;
    const char *replay, *tokens, *against, *write_trace, *command_line; /* --replay and what goes with it */
    bool force;
    int show, every, format, horizon, split, sinks, recent, keep_sinks;
    bool per_layer, per_head, peak, held;
};

/* The first trace and what was chosen of it. */
struct kvbudget_run {
    struct kvbudget_options o;
    char **path;
    int n_paths;
    struct kvt_trace *trace;
    const struct kvt_trace_info *info;
    uint8_t *layer;            /* (L) 1 = chosen */
    int *branch, n_branches;
};

/* Prints a table, or only frees it after a failure rc. */
int kvbudget_end_table(const struct kvbudget_run *r, int rc, struct kvt_table **t, struct kvt_err *err);

/* Calls back for each prompt of a file, or for the one that --prompt names, until one fails. */
typedef int (*kvbudget_prompt_fn)(const struct kvbudget_run *r, void *self, struct kvt_trace *t, const char *path, struct kvt_err *err);
int kvbudget_each_prompt(const struct kvbudget_run *r, const char *path, kvbudget_prompt_fn each, void *self, struct kvt_err *err);

/* kvbudget_write.c: a file for kvtrace --budget-file. Begins it; a line of it, head -1: all heads of the layer; ends it: EIO where
 * something couldn't be written (rc: what went wrong before). */
int kvbudget_write_begin(FILE **out, const char *path, const struct kvt_trace_info *info, struct kvt_err *err);
void kvbudget_write_line(FILE *f, const char *name, int layer, int head, int64_t ppm);
int kvbudget_write_end(FILE **f, const char *path, int rc, struct kvt_err *err);
/* Writes what the chosen branches kept. */
int kvbudget_write_kept(const struct kvbudget_run *r, struct kvt_err *err);

/* kvbudget_audit.c: what every branch was asked for, what it kept and what that took (measures.md 2 and 7). */
int kvbudget_audit(const struct kvbudget_run *r, struct kvt_err *err);
/* ... and where the difference comes from: rounding, allocation, protection, whole units. */
int kvbudget_rounding(const struct kvbudget_run *r, struct kvt_err *err);

/* kvbudget_derive.c: ShotKV's budgets from the full branch's decode rows, of the traces in path. */
int kvbudget_derive(const struct kvbudget_run *r, struct kvt_err *err);
/* kvbudget_heads.c: shares of kv heads for a method that ranks tokens, in the same way. */
int kvbudget_heads(const struct kvbudget_run *r, struct kvt_err *err);
/* kvbudget_confirm.c: two branches of the traces in path, side by side: which is nearer to the full branch, at how many bytes. */
int kvbudget_confirm(const struct kvbudget_run *r, struct kvt_err *err);
/* kvbudget_replay.c: what other methods would have kept (measures.md 8). */
int kvbudget_replay(const struct kvbudget_run *r, struct kvt_err *err);

#endif

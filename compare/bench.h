/* Inside of kvbench: what a run decided, what a result file holds. */
#ifndef KVT_COMPARE_BENCH_H
#define KVT_COMPARE_BENCH_H

#include <cjson/cJSON.h>

#include "compare/item.h"
#include "tracer/kvtrace.h"
#include "tracer/kvtrace_deal.h"

struct kvt_bench_options {
    const char *data, *task_dir, *out, *traces, *only, *contrasts, *cell;
    int n_shots, limit, max_new, seeds, format, show;
    bool list_tasks, quiet, by_group, no_sandbox, no_prefix;
};

/* ---- result.c: the file. One JSON object a line: the run, its branches, then items as they are done, each with its cells. ---- */

/* What one branch made of one question. */
struct kvt_cell {
    char *text;                    /* what it wrote, up to a stop; choice: the continuation it finds likeliest */
    char *answer[KVT_MAX_RULES];   /* of the first gold; NULL: none was found */
    double right[KVT_MAX_RULES];   /* 0 or 1; share of the answers where an output has several. NaN: a text, which has none */
    int n_new;                     /* tokens written */
    char end[8];                   /* "stop", "end" (token), "limit"; "" where nothing is written */
    int diverged;                  /* first token that differs from the full branch's, 0: none */
    double kl, top1, nll, kept;    /* means over steps; NaN where not measured */
    double bytes_after, bytes_last, bytes_mean, bytes_peak;
    bool there;
};

struct kvt_result_branch {
    const char *name, *method, *canonical, *asked, *family; /* owned; family: the canonical form without its seed: branches that are one row */
    bool renumbered;
};

struct kvt_result_item {
    char *id, *group, *prompt, *prompt_hash, *failed; /* prompt: its text, with what the chat form adds; failed: why nothing counts, or NULL */
    int n_prompt, n_context, n_gold;
    int n_shared;                  /* first tokens of the prompt that are prefilled once for it and its neighbours; 0: none */
    struct kvt_cell *cell;         /* (n_branches) */
};

struct kvt_result {
    char *path;
    cJSON *run;                    /* the first line */
    struct kvt_result_branch *branch; /* 0 is "full" */
    int n_branches;
    struct kvt_result_item *item;
    int n_items;
    int n_rules;
    char *rule[KVT_MAX_RULES];     /* names */
    int fd;                        /* open for appending and locked, or -1 */
};

/* Reads what is there; a torn last line (a run that was killed) is passed over. EFORMAT: no result file, or which line is wrong. */
int kvt_result_read(struct kvt_result *out, const char *path, struct kvt_err *err);
/* For a run: makes the file, or goes on with it: locked against a second run (EINPUT), held against `run` (EINPUT: what differs), a torn last
 * line cut off. Takes run over. */
int kvt_result_open(struct kvt_result *out, const char *path, cJSON *run, struct kvt_err *err);
void kvt_result_close(struct kvt_result *r);
/* Number of the branch of that name, made and written if it is new. EINPUT: the file has another method of that name. */
int kvt_result_branch(struct kvt_result *r, const struct kvt_result_branch *b, int *out, struct kvt_err *err);
/* Number of an item, -1: none. */
int kvt_result_find(const struct kvt_result *r, const char *id);
/* An item's line with its cells (n) of the branches so named, malloc'ed; NULL without memory. */
char *kvt_result_line(const struct kvt_result_item *item, const struct kvt_cell *cell, const char *const *branch, int n, int n_rules);
/* Takes such a line in: written at once and synced. Replaces a failed item, adds cells to one that is there; EINPUT where its prompt or what the full
 * branch wrote isn't what the file has. */
int kvt_result_take(struct kvt_result *r, const char *line, struct kvt_err *err);
void kvt_cell_free(struct kvt_cell *c);

/* ---- the rest ---- */

struct kvt_bench {
    struct kvt_bench_options o;
    struct kvtrace_run run;
    struct kvt_task *task;
    struct kvt_items items;
    struct kvt_result result;
    const char **name;             /* (run.n_branches + 1) names of the run's branches, and */
    int *at;                       /* on rank 0 their numbers in the result */
    struct kvt_deal *deal;
    struct kvt_prefix *prefix;     /* what the last prompts share, or NULL */
    bool tried;                    /* this rank has asked something before */
    volatile const int *interrupted;
};

/* bench_options.c: kvbench's own, and those of kvtrace that it has too. 0; KVT_ARGS_* after printing help or version; or EUSAGE. */
int kvt_bench_parse(int argc, char **argv, struct kvt_bench *b, struct kvt_args *args, struct kvt_err *err);
/* bench_run.c: every question that isn't done. */
int kvt_bench_run(struct kvt_bench *b, struct kvt_err *err);
/* bench_cell.c: one question through a session, into cells (run.n_branches + 1). */
int kvt_bench_item(struct kvt_bench *b, const struct kvt_item *item, struct kvt_cell *cell, struct kvt_result_item *about, struct kvt_err *err);
/* bench_table.c: the tables of a result; bench_show.c: one cell of it, and the tasks. */
int kvt_bench_tables(const struct kvt_bench_options *o, const struct kvt_result *r, struct kvt_err *err);
int kvt_bench_show(const struct kvt_result *r, const char *cell, struct kvt_err *err);
int kvt_bench_list(const struct kvt_bench_options *o, struct kvt_err *err);

#endif

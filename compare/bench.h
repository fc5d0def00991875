/* Inside of kvbench: what a run decided. */
#ifndef KVT_COMPARE_BENCH_H
#define KVT_COMPARE_BENCH_H

#include "compare/item.h"
#include "compare/result.h"
#include "tracer/kvtrace.h"
#include "tracer/kvtrace_deal.h"

struct kvt_bench_options {
    const char *data, *task_dir, *out, *traces, *only, *contrasts, *cell;
    int n_shots, limit, max_new, seeds, format, show;
    bool list_tasks, quiet, by_group, no_sandbox, no_prefix, no_kept, kept, dry_run;
    const char *batches, *memory;  /* --time */
    int n_prompt, n_new, repeats;
    bool time;
};

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
/* bench_plan.c: --dry-run: what the questions todo (left) will take, from the longest of them; else the size of kept sets, on stderr. */
int kvt_bench_plan(struct kvt_bench *b, const int *todo, int left, struct kvt_err *err);
/* bench_cell.c: one question through a session, into cells (run.n_branches + 1). */
int kvt_bench_item(struct kvt_bench *b, const struct kvt_item *item, struct kvt_cell *cell, struct kvt_result_item *about, struct kvt_err *err);
/* bench_table.c: the tables of a result; bench_show.c: one cell of it, and the tasks. */
int kvt_bench_tables(const struct kvt_bench_options *o, const struct kvt_result *r, struct kvt_err *err);
int kvt_bench_show(const struct kvt_result *r, const struct kvt_bench_options *o, struct kvt_err *err);
int kvt_bench_list(const struct kvt_bench_options *o, struct kvt_err *err);
/* bench_time.c: --time, one method alone in batches; bench_time_largest.c: the largest that fits. What came of it. */
int kvt_bench_time(struct kvt_bench *b, struct kvt_err *err);
int kvt_bench_time_tables(const struct kvt_bench_options *o, const struct kvt_result *r, struct kvt_err *err);

#endif

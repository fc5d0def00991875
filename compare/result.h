/* A result of kvbench: one JSON object a line, the run, its branches, then items as they are done, each with its cells. */
#ifndef KVT_COMPARE_RESULT_H
#define KVT_COMPARE_RESULT_H

#include <cjson/cJSON.h>

#include "compare/task.h"

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
    bool fallback;                 /* the method's own allocation was impossible, and its fallback was used */
    char *kept_sets;                 /* which of the context's tokens it held at its first (kept.h), on its way to the file; what is read has NULL */
    bool there;
};

struct kvt_result_branch {
    const char *name, *method, *canonical, *asked, *family; /* owned; family: the canonical form without its seed: branches that are one row */
    bool renumbered;
};

struct kvt_result_item {
    char *id, *group, *prompt, *prompt_hash, *gold, *failed; /* prompt: its text, with what the chat form adds; gold: what counts as right, the first; failed: why nothing counts, or NULL */
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
    cJSON *times;                  /* lines of --time, an array; or NULL */
    int fd;                        /* open for appending and locked, or -1 */
};

/* What made a result, added to its line: commit, time, command line. */
void kvt_result_made(cJSON *run, const char *command_line);

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
/* The kept set of one cell, from the file once more, malloc'ed; NULL: it has none. */
int kvt_result_kept(const struct kvt_result *r, const char *item, const char *branch, char **out, struct kvt_err *err);
/* A line of --time: written at once and synced. Takes o over. */
int kvt_result_note(struct kvt_result *r, cJSON *o, struct kvt_err *err);
void kvt_cell_free(struct kvt_cell *c);

#endif

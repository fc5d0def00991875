/* A file with a budget for each layer or kv head: tab-separated lines of branch, layer, kv head and budget. kvbudget writes it,
 * kvtrace --budget-file reads it. */
#ifndef KVT_TRACER_BUDGET_FILE_H
#define KVT_TRACER_BUDGET_FILE_H

#include "kvt/method.h"

enum { KVT_BUDGET_NAME = 48 };

struct kvt_budget_line {
    char name[KVT_BUDGET_NAME]; /* "shotkv" or "shotkv 25%": a method, and what tells its budgets apart */
    int layer, head;           /* -1: all */
    int number;                /* of the line */
    struct kvt_budget keep;    /* KEEP or TOKENS of a head */
};
struct kvt_budget_file {
    const char *path;          /* borrowed */
    struct kvt_budget_line *line;
    int n;
};

int kvt_budget_file_read(struct kvt_budget_file *out, const char *path, struct kvt_err *err);
void kvt_budget_file_free(struct kvt_budget_file *f);
/* The budgets under a name into cell (L, G): a line for each, none twice. EFORMAT. */
int kvt_budget_file_cells(const struct kvt_budget_file *f, const char *name, int L, int G, struct kvt_budget *cell, struct kvt_err *err);

#endif

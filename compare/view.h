/* A result as rows and pairs: a row is a method at a budget, branches that differ in their seed alone are one. Definitions: docs/measures.md, section 10. */
#ifndef KVT_COMPARE_VIEW_H
#define KVT_COMPARE_VIEW_H

#include "base/table.h"
#include "compare/paired.h"
#include "compare/result.h"

enum { KVT_VIEW_SEEDS = 64, KVT_VIEW_COLUMNS = 32 };

struct kvt_view_row {
    const char *name;
    int branch[KVT_VIEW_SEEDS], n;
    bool renumbered;
    double fallback;               /* share of outputs whose allocation fell back */
    double bytes, value, low, high; /* mean over steps and questions; accuracy (a text: nats) with its interval */
};

struct kvt_view_pair { int row, against; double diff, low, high, p, holm, bytes; struct kvt_pairs n; }; /* bytes: more than the other, as a share of it */

struct kvt_view {
    const struct kvt_result *r;
    const char *group;             /* of the items, or NULL: all */
    struct kvt_view_row *row;      /* 0 is "full" */
    int n_rows;
    int *item, n_items;            /* those that every row has: the same questions for all */
    int failed, lacking;
    bool text, several;            /* perplexity; more than one answer in an output */
    struct kvt_view_pair *pair;
    int n_pairs;
    double discordant;             /* share of questions that differ, mean over pairs */
    struct kvt_col row_col[KVT_VIEW_COLUMNS], pair_col[KVT_VIEW_COLUMNS]; /* of the tables, which borrow them */
};

/* contrasts: "A:B,..." beside each row with full and what --match made to be compared, or NULL. EUSAGE where a name is no row's. */
int kvt_view_open(struct kvt_view *v, const struct kvt_result *r, const char *contrasts, struct kvt_err *err);
void kvt_view_close(struct kvt_view *v);
/* Measures rows and pairs on the items of one group (NULL: all). */
int kvt_view_measure(struct kvt_view *v, const char *group, struct kvt_err *err);

const char *kvt_view_run(const struct kvt_view *v, const char *name); /* a text of the run's line, or "" */
double kvt_view_number(const struct kvt_view *v, const char *name);
/* "random 25% x8", for people with its marks: * a fallback, + positions counted inside the cache. */
const char *kvt_view_name(const struct kvt_view_row *row, bool people, char *out, size_t cap);
int kvt_view_rows(struct kvt_view *v, bool people, struct kvt_table **out, struct kvt_err *err);
int kvt_view_pairs(struct kvt_view *v, bool people, struct kvt_table **out, struct kvt_err *err);
/* What was run, and what to know of the tables; a line each. */
void kvt_view_head(const struct kvt_view *v, FILE *out);
void kvt_view_remarks(const struct kvt_view *v, FILE *out);

#endif

/* kvoverlap's parts: what they share. */
#ifndef KVT_ANALYZERS_KVOVERLAP_H
#define KVT_ANALYZERS_KVOVERLAP_H

#include "analyzers/analyzer.h"
#include "analyzers/overlap.h"
#include "base/table.h"

enum { KVOVERLAP_FEWEST_PROMPTS = 10 };

/* --show */
enum kvoverlap_show {
    KVOVERLAP_METHODS, KVOVERLAP_LAYERS, KVOVERLAP_HEADS, KVOVERLAP_BUDGETS, KVOVERLAP_PROMPTS, KVOVERLAP_TRACES, KVOVERLAP_SCORES,
    KVOVERLAP_SETS, KVOVERLAP_CLUSTERS, KVOVERLAP_FUTURE, KVOVERLAP_QUERY, KVOVERLAP_N_SHOW
};

struct kvoverlap_options {
    const char *branches, *keep, *layers, *prompt;
    int at, shifts, width, format, show;
    uint64_t seed;
    bool per_layer, tokens, letters, force;
};

/* Two branches of the first trace. */
struct kvoverlap_pair {
    int a, b;
    struct kvt_overlap sum;    /* over all prompts */
    struct kvt_overlap other;  /* a on one prompt against b on another: positions alone */
    double *gain, *room;       /* (prompts) */
    double *null;              /* (shifts) gain under each shift, summed over prompts */
};

struct kvoverlap {
    struct kvoverlap_options o;
    struct kvt_trace *first;   /* stays open: names, spans, the prompt to show */
    const struct kvt_trace_info *info;
    const char *const *path;   /* (n_prompts) the traces */
    int n_prompts;
    uint8_t *layer;            /* (L) 1 = asked for */
    int n_layers;
    int *branch, n_branches;   /* of the first trace */
    struct kvoverlap_pair *pair;
    int n_pairs;
};

/* Trace p, once it was found to be of the same model; closed by kvoverlap_close. */
int kvoverlap_open(struct kvoverlap *r, int p, struct kvt_trace **out, struct kvt_err *err);
void kvoverlap_close(struct kvoverlap *r, struct kvt_trace **t);
/* The sets of the first trace's branch in it. */
int kvoverlap_load_branch(struct kvoverlap *r, struct kvt_trace *t, int p, int branch, struct kvt_held *held, struct kvt_err *err);
/* The sets of the chosen branches in trace p, held (n_branches of the first trace), indexed by its branches. */
int kvoverlap_load(struct kvoverlap *r, int p, struct kvt_held *held, struct kvt_err *err);
void kvoverlap_unload(struct kvoverlap *r, struct kvt_held *held);
/* How a branch is called beside the others. */
const char *kvoverlap_name(const struct kvoverlap *r, int branch);
/* The layer of the model that is row l of the held sets. */
int kvoverlap_layer(const struct kvoverlap *r, int l);
/* Prints the table, unless rc says that making it failed, and frees it; returns rc or what went wrong. */
int kvoverlap_write(const struct kvoverlap *r, int rc, struct kvt_table **t, struct kvt_err *err);
/* What the numbers below are about. */
void kvoverlap_say(const struct kvoverlap *r);

/* ---- kvoverlap_pairs.c: between methods ---- */

int kvoverlap_make_pairs(struct kvoverlap *r, struct kvt_err *err);
void kvoverlap_free_pairs(struct kvoverlap *r);
/* Adds trace p to every pair; before (NULL for the first) are the sets on the trace before it. */
int kvoverlap_measure(struct kvoverlap *r, const struct kvt_held *held, const struct kvt_held *before, int p, struct kvt_err *err);
int kvoverlap_pair_table(struct kvoverlap *r, struct kvt_err *err);
int kvoverlap_layer_table(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err);
int kvoverlap_clusters(struct kvoverlap *r, struct kvt_err *err);
int kvoverlap_scores(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err);

/* ---- kvoverlap_within.c: one method's sets among themselves, and against what came later ---- */

int kvoverlap_layers(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err);
int kvoverlap_heads(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err);
int kvoverlap_budgets(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err);
/* Each branch on every two traces that follow each other. */
int kvoverlap_prompts(struct kvoverlap *r, struct kvt_err *err);
/* Each branch in two traces of one prompt. */
int kvoverlap_traces(struct kvoverlap *r, struct kvt_err *err);
int kvoverlap_future(struct kvoverlap *r, struct kvt_err *err);

/* ---- kvoverlap_query.c: each query head's own set against its kv head's ---- */

int kvoverlap_query_heads(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err);

/* ---- kvoverlap_prompt.c: the prompt, token by token ---- */

int kvoverlap_show_prompt(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err);
/* Tokens that all methods keep, that only one keeps, that none does. */
int kvoverlap_sets(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err);

#endif

/* The figures of kvplot: each takes the open trace and the options, and draws one picture. */
#ifndef KVT_PLOTS_PLOT_H
#define KVT_PLOTS_PLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "analyzers/analyzer.h"
#include "plots/figure.h"

struct kvt_plot {
    struct kvt_trace *trace;
    const struct kvt_trace_info *info;
    struct kvt_figure_opts figure;
    const char *branches, *keep;   /* kept, overlap */
    int at;
    const char *layer, *head;      /* heatmap: lists, or NULL */
    bool max, sinks;               /* heatmap: the pooled maximum; sinks inside the colour range */
    bool jaccard;                  /* overlap */
    int measure;                   /* budget: enum kvt_measure */
};

/* What `kvplot budget` draws. */
enum kvt_measure { KVT_MEASURE_KL, KVT_MEASURE_COHERENCE, KVT_MEASURE_OVERLAP, KVT_MEASURE_LOST, KVT_MEASURE_TOP1, KVT_MEASURES };
extern const char *const kvt_plot_measures[KVT_MEASURES + 1];

int kvt_plot_heatmap(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_kept(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_overlap(const struct kvt_plot *p, struct kvt_err *err);
/* retention.c */
int kvt_plot_depth(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_survival(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_sets(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_asked(const struct kvt_plot *p, struct kvt_err *err);
/* curves.c */
int kvt_plot_coherence(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_budget(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_bytes(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_kl(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_lost(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_layers(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_lorenz(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_timeline(const struct kvt_plot *p, struct kvt_err *err);

/* Top-level spans (shots, question ...) on an axis ("x2", "y2"): lines where they start, their names in the middle; "1"
 * and "Q" where they are short. */
enum kvt_tics { KVT_TICS_BORDERS, KVT_TICS_SHORT, KVT_TICS_NAMES };
void kvt_plot_span_tics(FILE *gp, const struct kvt_trace_info *info, const char *axis, int n_tok, enum kvt_tics how);
/* Whether there are any that start before token n_tok. */
bool kvt_plot_has_sections(const struct kvt_trace_info *info, int n_tok);
/* "SmolLM2-135M-Instruct, 1150 tokens, protocol visible" */
const char *kvt_plot_subject(const struct kvt_trace_info *info, char *buf, size_t cap);

/* A head chosen because it shows something. */
struct kvt_pick { int layer, head; const char *what; };
/* Chooses up to cap heads from the pooled mean maps; mean (R, C) receives the mean over all layers and heads. */
int kvt_pick_heads(struct kvt_trace *t, struct kvt_pick *pick, int cap, int *count, float *mean, struct kvt_err *err);

#endif

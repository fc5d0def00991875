/* The figures of kvplot: each takes the open traces and the options, and draws one picture. */
#ifndef KVT_PLOTS_PLOT_H
#define KVT_PLOTS_PLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "analyzers/analyzer.h"
#include "plots/figure.h"

struct kvt_plot {
    struct kvt_trace *trace;       /* the first */
    const struct kvt_trace_info *info;
    struct kvt_trace **traces;     /* (n_traces) all; several prompts of one file are several traces */
    int n_traces;
    char **path;                   /* (n_paths) the operands: `accuracy` reads a table */
    int n_paths;
    struct kvt_figure_opts figure;
    const char *branches, *keep;
    int at;
    const char *layer, *head;      /* heatmap, spans: lists, or NULL */
    const char *tokens;            /* heatmap: "100-160", or NULL */
    bool max, sinks, full, wall;   /* heatmap: the pooled maximum; sinks inside the colour range; every pair; all heads at once */
    int scale;                     /* enum kvt_scale */
    bool jaccard;                  /* overlap */
    int measure;                   /* budget: enum kvt_measure */
    int by, steps;                 /* kept: enum kvt_by; panels or frames over decode steps, 0: the one of `at` */
};

/* What `kvplot budget` draws. */
enum kvt_measure { KVT_MEASURE_KL, KVT_MEASURE_COHERENCE, KVT_MEASURE_OVERLAP, KVT_MEASURE_LOST, KVT_MEASURE_TOP1, KVT_MEASURES };
extern const char *const kvt_plot_measures[KVT_MEASURES + 1];
enum kvt_scale { KVT_SCALE_LOG, KVT_SCALE_POWER, KVT_SCALE_LINEAR };
extern const char *const kvt_scale_names[4];
enum kvt_by { KVT_BY_LAYERS, KVT_BY_METHODS };
extern const char *const kvt_by_names[3];

int kvt_plot_heatmap(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_spans(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_heads(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_kept(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_overlap(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_sets(const struct kvt_plot *p, struct kvt_err *err);
/* retention.c */
int kvt_plot_depth(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_survival(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_asked(const struct kvt_plot *p, struct kvt_err *err);
/* curves.c */
int kvt_plot_coherence(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_budget(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_bytes(const struct kvt_plot *p, struct kvt_err *err);
/* steps.c */
int kvt_plot_kl(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_lost(const struct kvt_plot *p, struct kvt_err *err);
/* attention.c */
int kvt_plot_layers(const struct kvt_plot *p, struct kvt_err *err);
int kvt_plot_lorenz(const struct kvt_plot *p, struct kvt_err *err);
/* derive.c */
int kvt_plot_derive(const struct kvt_plot *p, struct kvt_err *err);
/* timeline.c */
int kvt_plot_timeline(const struct kvt_plot *p, struct kvt_err *err);
/* accuracy.c */
int kvt_plot_accuracy(const struct kvt_plot *p, struct kvt_err *err);

/* Top-level spans (shots, question ...) on an axis ("x2", "y2") that is `room` points long: lines where they start, their
 * names in the middle, "1" and "Q" where they are short. The axis shows tokens [from, to). */
enum kvt_tics { KVT_TICS_BORDERS, KVT_TICS_SHORT, KVT_TICS_NAMES };
void kvt_plot_span_tics(const struct kvt_figure *f, const struct kvt_trace_info *info, const char *axis, int from, int to, enum kvt_tics how, double room, double size);
/* "shot 3" as "3", "question" as "Q"; letter holds it where it isn't part of the name. */
const char *kvt_plot_brief(const struct kvt_trace_span *span, char letter[5]);
/* Whether there are any that lie in [from, to). */
bool kvt_plot_has_sections(const struct kvt_trace_info *info, int from, int to);
/* Model, prompt and protocol, for the small print. */
const char *kvt_plot_subject(const struct kvt_trace_info *info, char *buf, size_t cap);

/* Colours for values in [low, high]: a function COLOUR_OF() of the script, the bar's range and its tics. */
void kvt_plot_scale(FILE *gp, enum kvt_scale scale, double low, double high);
/* A round distance, at least 1, of which at most about `count` fit into range. */
double kvt_plot_step(double range, double count);
/* "log scale" */
const char *kvt_plot_scale_text(enum kvt_scale scale);

/* A head chosen because it shows something. */
struct kvt_pick { int layer, head; const char *what; };
/* Chooses up to cap heads from the pooled mean maps; mean (R, C) receives the mean over all layers and heads. */
int kvt_pick_heads(struct kvt_trace *t, struct kvt_pick *pick, int cap, int *count, float *mean, struct kvt_err *err);

#endif

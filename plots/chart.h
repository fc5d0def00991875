/* Charts of kvplot: curves, bands and bars on one pair of axes. A chart is a figure (figure.h) whose data is one table, chart.tsv, with a
 * block for each series, in the style chart.gp. */
#ifndef KVT_PLOTS_CHART_H
#define KVT_PLOTS_CHART_H

#include "plots/plot.h"

enum { KVT_CHART_SERIES = 48 };

enum kvt_series_kind {
    KVT_SERIES_LINE,     /* x y */
    KVT_SERIES_BAND,     /* x y low high: a line in its band */
    KVT_SERIES_BARS,     /* bar number, y, low, high, name: a bar and, where low isn't NaN, the range that chance would give */
    KVT_SERIES_POINTS,   /* x y . . name: joined points with their names */
    KVT_SERIES_SPANS,    /* start length row name: horizontal bars in rows */
};

struct kvt_chart {
    struct kvt_figure f;
    FILE *data;
    enum kvt_series_kind kind;
    int n;                          /* series begun */
    char name[KVT_CHART_SERIES][64];
    bool empty[KVT_CHART_SERIES];
    bool over;                      /* a series more than there is room for was begun */
};

/* What stands around the axes; NULL: nothing there. `extra` are gnuplot commands after the style ("set logscale y"). */
struct kvt_chart_text { const char *title, *note, *x, *y, *extra; };

/* The branches of a chart, malloc'ed: those named, of one budget unless more are named or one_budget is false. EINPUT for none, and for more than
 * a chart has series. */
int kvt_chart_pick(const struct kvt_plot *p, int **branch, int *n, bool one_budget, struct kvt_err *err);
/* Their budget, for a title. */
const char *kvt_chart_budget(const struct kvt_plot *p, const int *branch, char *buf, size_t cap);

int kvt_chart_begin(struct kvt_chart *c, const struct kvt_plot *p, enum kvt_series_kind kind, const struct kvt_chart_text *text, struct kvt_err *err);
void kvt_chart_series(struct kvt_chart *c, const char *name);
void kvt_chart_point(struct kvt_chart *c, double x, double y, double low, double high, const char *name);
int kvt_chart_end(struct kvt_chart *c, int rc, struct kvt_err *err);

#endif

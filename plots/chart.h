/* Charts: series of (x, y) on one pair of axes or a panel each, lines in one look. Figures fill in the data; this file knows gnuplot. */
#ifndef KVT_PLOTS_CHART_H
#define KVT_PLOTS_CHART_H

#include "plots/sheet.h"

enum { KVT_CHART_SERIES = 256, KVT_CHART_PANELS = 48, KVT_CHART_NAMES = 48, KVT_CHART_LABELS = 256 };

enum kvt_series_kind {
    KVT_SERIES_LINE,     /* x y */
    KVT_SERIES_BAND,     /* x y low high: a line in its band */
    KVT_SERIES_ERRORS,   /* x y low high . name: joined points with their intervals and names */
    KVT_SERIES_BARS,     /* bar number, y, low, high, name: a bar and, where low isn't NaN, the range that chance would give */
    KVT_SERIES_SPANS,    /* start length row height name: boxes in rows */
};

/* What stands around the axes; NULL: nothing there. `extra` are gnuplot commands after the style ("set logscale y"); `more`
 * ends the small print. All are copied. */
struct kvt_chart_text { const char *title, *note, *x, *y, *extra, *more; };

struct kvt_chart {
    struct kvt_sheet s;
    FILE *data;
    const struct kvt_trace_info *info;
    enum kvt_series_kind kind;
    char title[256], note[512], x[96], y[96], extra[1024], more[2400];
    const int *branch;              /* (n_branches) stated in the small print; the caller's, until the end */
    int n_branches;
    int n, names, panels;           /* series begun, looks given, panels begun */
    struct { int panel, look, points; bool empty, ranged; } series[KVT_CHART_SERIES];
    char name[KVT_CHART_NAMES][80]; /* of each look, in the legend */
    char panel[KVT_CHART_PANELS][96];
    double longest;                 /* of the bars' names, points */
    double most_row;                /* of spans */
    struct { double x, y; char name[40]; } label[KVT_CHART_LABELS]; /* of points: set where they don't cover each other */
    int labels;
    double least[2], most[2];       /* of x and y */
    bool shared_y;                  /* panels have one y scale: `extra` sets it */
    bool nested;                    /* lines may lie on each other: marks of the first are larger */
    bool over;                      /* more was begun than there is room for */
};

/* The branches of a chart, malloc'ed: those named, of one budget unless more are named or one_budget is false. EINPUT for none. */
int kvt_chart_pick(const struct kvt_plot *p, int **branch, int *n, bool one_budget, struct kvt_err *err);
/* Their budget, for a title. */
const char *kvt_chart_budget(const struct kvt_plot *p, const int *branch, char *buf, size_t cap);

int kvt_chart_begin(struct kvt_chart *c, const struct kvt_plot *p, enum kvt_series_kind kind, const struct kvt_chart_text *text, struct kvt_err *err);
void kvt_chart_branches(struct kvt_chart *c, const int *branch, int n);
/* The series from here on are in a panel of that title. Series of one name look alike in all of them. */
void kvt_chart_panel(struct kvt_chart *c, const char *title);
void kvt_chart_series(struct kvt_chart *c, const char *name);
void kvt_chart_point(struct kvt_chart *c, double x, double y, double low, double high, const char *name);
int kvt_chart_end(struct kvt_chart *c, int rc, struct kvt_err *err);

#endif

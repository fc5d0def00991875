/* The page of a figure: title, note, legend or colour bar, panels in a grid, small print. Everything is placed here, in points
 * of 1/72 inch, for a screen and for a journal's column and page; the styles only say how it looks. */
#ifndef KVT_PLOTS_SHEET_H
#define KVT_PLOTS_SHEET_H

#include "plots/figure.h"
#include "plots/plot.h"

struct kvt_sheet_plan {
    const char *title, *note;      /* above; NULL: none */
    const char *more;              /* ends the small print: what the picture leaves out */
    const struct kvt_trace_info *info, *other; /* whose model and prompt the small print states; other: a second trace */
    const int *branch;             /* (n_branches) of info, whose methods and parameters it states */
    int n_branches;
    const char *const *legend;     /* (n_legend): room for gnuplot's key with these names */
    int n_legend;
    const char *bar;               /* room for a colour bar of this name; NULL: none */
    int panels;
    double narrow, wide;           /* the least and the largest width of a panel, em; wide 0: no limit */
    double high, shape;            /* height of a panel: em, or (where > 0) its width times shape */
    double left, right, above, below; /* around the grid, em */
    double gap_x, gap_y;           /* between panels, em */
    int cols;                      /* 0: as many as fit */
    bool plots;                    /* more than one plot command follows, though there is one panel */
};

struct kvt_sheet {
    struct kvt_figure f;
    double em;                     /* size of plain text */
    double width, height;          /* of the page */
    double x, y, panel_w, panel_h, step_x, step_y; /* corner of the first panel, size of each, from one to the next */
    double head_y, bar_y;          /* tops of legend and bar */
    double bar[4];                 /* the bar's corner and size, of the page's */
    int cols, rows, panels, labels;
    bool plots;
    int wide, tall;                /* 2: the last matrix has one column, or row, which is written twice: gnuplot draws none of one */
};

/* Size of plain text, width of the page. */
double kvt_sheet_em(int paper);
double kvt_sheet_width(int paper);
/* Width of s in points when set at that size: a good guess, for wrapping and for room. */
double kvt_text_points(const char *s, double size);
/* Starts the figure's folder; its data can be written now. */
int kvt_sheet_begin(struct kvt_sheet *s, const struct kvt_plot *p, const char *style, struct kvt_err *err);
/* Terminal, style and everything outside the panels. */
int kvt_sheet_lay_out(struct kvt_sheet *s, const struct kvt_sheet_plan *plan, struct kvt_err *err);
/* Where panel i goes, and its title (NULL: none). */
void kvt_sheet_panel(struct kvt_sheet *s, int i, const char *title);
/* The axes' box from here on: its corner on the page, points from the top left. */
void kvt_sheet_place(struct kvt_sheet *s, double x, double y, double w, double h);
/* The colour bar (again, where the first panel has no use for it). */
void kvt_sheet_bar(struct kvt_sheet *s);
/* After the first plot: what belongs to the page isn't drawn again. */
void kvt_sheet_once(struct kvt_sheet *s);
bool kvt_sheet_is_left(const struct kvt_sheet *s, int i), kvt_sheet_is_bottom(const struct kvt_sheet *s, int i), kvt_sheet_is_right(const struct kvt_sheet *s, int i);
int kvt_sheet_end(struct kvt_sheet *s, int rc, struct kvt_err *err);
/* A matrix (rows, cols) as panel<i>.tsv, and the plot command's beginning that places it: element (r, c) covers [x + c dx, x + (c + 1) dx]
 * and the same of y; value is what is coloured, "3" or a function of it. NaN: left white. */
int kvt_sheet_matrix(struct kvt_sheet *s, int i, const float *v, int rows, int cols, const char *what, struct kvt_err *err);
void kvt_sheet_image(struct kvt_sheet *s, int i, double x, double dx, double y, double dy, const char *value);

#endif

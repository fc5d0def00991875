/* A picture in the making: a folder with a gnuplot script and its data, and the run of gnuplot that draws it.
 *
 * The script (plot.gp) loads a style (heatmap.gp ...) for everything that is a matter of taste; the user's texts enter it
 * only through kvt_gp_text. gnuplot is started without a shell in the folder, draws figure.<kind> there, and the result is
 * copied beside the target and renamed. plots/sheet.h says what is where on the page. */
#ifndef KVT_PLOTS_FIGURE_H
#define KVT_PLOTS_FIGURE_H

#include <stdbool.h>
#include <stdio.h>

#include "kvt/kvt.h"

/* The width of the page: of a screen, of one column or of the whole page of a journal (84 and 174 mm). */
enum kvt_paper { KVT_PAPER_SCREEN, KVT_PAPER_COLUMN, KVT_PAPER_PAGE };
extern const char *const kvt_paper_names[4]; /* "screen", "column", "page", NULL */

struct kvt_figure_opts {
    const char *out;         /* x.png, x.svg, x.pdf, x.tex (and x.pdf beside it), x.gif (frames) */
    const char *data;        /* folder to leave script and data in, or NULL */
    const char *style_dir;   /* folder of the .gp styles, or NULL: beside the sources, or near the program */
    const char *style;       /* "heatmap" */
    int paper;               /* enum kvt_paper */
    int delay_ms;            /* .gif: of a frame */
};

struct kvt_figure {
    struct kvt_figure_opts o;
    FILE *gp;                /* plot.gp, to write into */
    char dir[512];           /* folder with script and data */
    char style_path[1024];
    int kind;                /* index of the output format */
    bool latex;              /* texts are LaTeX's */
};

/* Whether a picture can have that name, before anything long starts: EUSAGE for an unknown extension. frames: it has several. */
int kvt_figure_check(const char *out, bool frames, struct kvt_err *err);
/* The folder, its style and its script. EUSAGE for an unknown extension, EIO where folder or style can't be had. */
int kvt_figure_begin(struct kvt_figure *f, const struct kvt_figure_opts *o, struct kvt_err *err);
/* The terminal and where it draws to. width, height and the size of plain text in points of 1/72 inch. */
void kvt_figure_terminal(struct kvt_figure *f, double width, double height, double em);
/* A data file of that name in the folder, opened for writing. */
FILE *kvt_figure_data(struct kvt_figure *f, const char *name, struct kvt_err *err);
/* Closes it; rc, or EIO where it couldn't be written. */
int kvt_figure_close(FILE *data, const char *name, int rc, struct kvt_err *err);
/* Loads the style: after the variables it reads are set. */
void kvt_figure_style(struct kvt_figure *f);
/* Runs gnuplot where rc is 0, and removes the folder unless it is to be kept. Returns rc or its own failure. */
int kvt_figure_end(struct kvt_figure *f, int rc, struct kvt_err *err);

/* s as a gnuplot string literal: quotes doubled, control characters gone, bytes that are no UTF-8 as '?'; for LaTeX escaped. */
void kvt_gp_text(const struct kvt_figure *f, const char *s);
/* The same with its size in points, and its weight. */
void kvt_gp_sized(const struct kvt_figure *f, const char *s, double size, bool bold);
/* The same as the label of a tic, which gnuplot takes for a format: '%' doubled. */
void kvt_gp_tic(const struct kvt_figure *f, const char *s);
/* s inside a line that begins with #: control characters gone. */
void kvt_gp_comment(FILE *data, const char *s);
/* s as a quoted field of a data file, whose text `with labels` or xtic() shows. */
void kvt_gp_field(const struct kvt_figure *f, FILE *data, const char *s);

#endif

/* A picture in the making: a folder with a gnuplot script and its data, and the run of gnuplot that draws it.
 *
 * The script (plot.gp) sets the terminal and the data's variables and loads a style (heatmap.gp ...) for everything that
 * is a matter of taste; the user's texts enter it only through kvt_gp_text. gnuplot is started without a shell and
 * writes to a file next to the target, which is renamed at the end. */
#ifndef KVT_PLOTS_FIGURE_H
#define KVT_PLOTS_FIGURE_H

#include <stdbool.h>
#include <stdio.h>

#include "kvt/kvt.h"

struct kvt_figure_opts {
    const char *out;         /* x.png, x.svg or x.pdf */
    const char *keep_data;   /* folder to leave script and data in, or NULL */
    const char *style_dir;   /* folder of the .gp styles, or NULL: beside the sources, or near the program */
    const char *style;       /* "heatmap" */
};

struct kvt_figure {
    struct kvt_figure_opts o;
    FILE *gp;                /* plot.gp, to write into */
    char dir[512];           /* folder with script and data */
    char style_path[1024];
    int kind;                /* index of the output format */
};

/* Whether a picture can have that name, before anything long starts: EUSAGE for an unknown extension. */
int kvt_figure_check(const char *out, struct kvt_err *err);
/* EUSAGE for an unknown extension, EIO where folder or style can't be had. width, height: in points of 1/72 inch. */
int kvt_figure_begin(struct kvt_figure *f, const struct kvt_figure_opts *o, int width, int height, struct kvt_err *err);
/* A data file of that name in the folder, opened for writing. */
FILE *kvt_figure_data(struct kvt_figure *f, const char *name, struct kvt_err *err);
/* Loads the style: after the variables it reads are set. */
void kvt_figure_style(struct kvt_figure *f);
/* Runs gnuplot where rc is 0, and removes the folder unless it is to be kept. Returns rc or its own failure. */
int kvt_figure_end(struct kvt_figure *f, int rc, struct kvt_err *err);

/* s as a gnuplot string literal: quotes doubled, control characters gone, bytes that are no UTF-8 as '?'. */
void kvt_gp_text(FILE *gp, const char *s);
/* The same as the label of a tic, which gnuplot takes for a format: '%' doubled. */
void kvt_gp_tic(FILE *gp, const char *s);

#endif

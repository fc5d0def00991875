/* kvreport's parts: what they share. */
#ifndef KVT_ANALYZERS_KVREPORT_H
#define KVT_ANALYZERS_KVREPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "analyzers/analyzer.h"
#include "analyzers/coherence.h"
#include "analyzers/damage.h"
#include "analyzers/fate.h"
#include "analyzers/overlap.h"
#include "analyzers/patterns.h"
#include "base/table.h"

enum {
    KVREPORT_STEPS = 8,              /* of colour, beside none */
    KVREPORT_MOST_BYTES = 5000000,   /* of the whole page */
    KVREPORT_MOST_SHOTS = 40         /* columns of the table of shots */
};

struct kvreport_options { const char *out, *prompt, *keep; int shifts; uint64_t seed; bool no_pictures; };

/* A compressed branch and what was measured of it. */
struct kvreport_branch {
    const struct kvt_trace_branch *in;
    int number;                      /* of info->branch */
    int row, col;                    /* in the grid of methods and budgets */
    struct kvt_fate fate;
    struct kvt_coherence_result coherence;
    struct kvt_damage damage;
    struct kvt_agreement agreement;
    double *shot;                    /* (S) share of each shot kept */
    double lost, lost_rest;          /* mean lost mass with and without sinks; NaN: not measured */
};

/* Columns of the table of attention: head, field, kind, digits; the same as kvattn's. */
#define KVREPORT_HEAD_MAP(X)                                                                                    \
    X("even", evenness, KVT_COL_REAL, 2) X("keys", keys, KVT_COL_REAL, 1) X("token 0", first, KVT_COL_SHARE, 1) \
    X("sinks", sinks, KVT_COL_SHARE, 1) X("local", local, KVT_COL_SHARE, 1) X("self", self, KVT_COL_SHARE, 1)   \
    X("prev.", previous, KVT_COL_SHARE, 1) X("90% on", hold[1], KVT_COL_SHARE, 1)                               \
    X("no sinks", hold_rest[1], KVT_COL_SHARE, 1)

/* Two branches at one budget. */
struct kvreport_pair { int a, b; struct kvt_overlap sum; double shift_high, p; };

struct kvreport {
    struct kvreport_options o;
    const char *path;
    struct kvt_trace *trace;
    const struct kvt_trace_info *info;
    struct kvreport_branch *one;     /* (n), budget by budget */
    int n;
    /* methods (rows) x budgets (columns) */
    int rows, cols, middle;          /* middle: the column shown first */
    char (*row_name)[96];            /* (rows) */
    int *cell;                       /* (rows, cols) index into one, -1: none */
    struct kvt_shot *shot;
    int S;
    struct kvreport_pair *pair;
    int n_pairs;
    bool shifted;                    /* the null was drawn */
    double *mass;                    /* (n_prompt) column sum of attention, mean over layers and heads; NULL: not recorded */
    int *rank;                       /* (n_prompt) of mass, 0 = the most */
    struct kvt_head *head;           /* (L) mean over heads; NULL: not recorded, or too long to read */
    struct kvt_sink *sink;
    int n_sinks;                     /* -1: not known */
    FILE *html;                      /* the body in the making */
};

/* kvreport.c: what every page has: the head with its policy, from which everything of the page that acts is known by its hash; the theme's button and the
 * links to sections (the header is open); the script and the end. */
struct kvreport_section { const char *id, *title; };
int kvreport_begin_page(FILE *f, const char *css, size_t css_bytes, const char *title, struct kvt_err *err);
void kvreport_nav(FILE *f, const struct kvreport_section *section, int n);
void kvreport_end_page(FILE *f);

/* kvreport_bench.c: a page of a result of kvbench. */
bool kvreport_is_result(const char *path);
int kvreport_of_result(const char *path, FILE *f, struct kvt_err *err);

/* kvreport_measure.c */
int kvreport_measure(struct kvreport *r, struct kvt_err *err);
void kvreport_free(struct kvreport *r);
/* "25%", "256 tokens" of a column. */
const char *kvreport_budget(const struct kvreport *r, int col, char *buf, size_t cap);

/* kvreport_prompt.c: how a page may choose what colours the prompt. */
struct kvreport_view { int one, col; bool late; }; /* one >= 0: that branch; else col >= 0: how many methods keep it; else attention */
struct kvreport_views { struct kvreport_view *v; int n, shown; };
int kvreport_make_views(const struct kvreport *r, struct kvreport_views *out, struct kvt_err *err);
int kvreport_prompt(struct kvreport *r, const struct kvreport_views *views, struct kvt_err *err);
/* The rules of the style sheet that the choice needs. */
void kvreport_view_rules(const struct kvreport_views *views, FILE *css);
/* What scripts show of each token: base64 of the deflated numbers (kvreport.js, readNumbers). */
int kvreport_numbers(struct kvreport *r, const struct kvreport_views *views, struct kvt_err *err);

/* kvreport_text.c */
void kvreport_summary(struct kvreport *r);
int kvreport_answers(struct kvreport *r, struct kvt_err *err);
void kvreport_origin(struct kvreport *r);

/* kvreport_tables.c */
int kvreport_methods(struct kvreport *r, struct kvt_err *err);
int kvreport_overlap(struct kvreport *r, struct kvt_err *err);
int kvreport_coherence(struct kvreport *r, struct kvt_err *err);
int kvreport_attention(struct kvreport *r, struct kvt_err *err);

/* kvreport_pictures.c: kvplot as a child. start begins the first; each other starts when one ends. */
struct kvreport_pictures;
int kvreport_pictures_start(struct kvreport_pictures **out, const struct kvreport *r, struct kvt_err *err);
/* Waits; *bytes of base64 and markup that all of them take. */
int kvreport_pictures_wait(struct kvreport_pictures *p, struct kvt_err *err);
/* The pictures of a section ("methods"), as far as `room` bytes take them; room goes down. */
void kvreport_pictures_put(struct kvreport_pictures *p, const char *section, int64_t *room, FILE *html);
void kvreport_pictures_free(struct kvreport_pictures **p);

/* printf with every %s escaped for HTML; knows %s, %d, %lld and %.Nf alone. */
void kvreport_say(FILE *html, const char *format, ...);

/* kvreport.css, kvreport_dark.css and kvreport.js, put into the program when it is built. */
extern const unsigned char kvreport_css[], kvreport_dark_css[], kvreport_js[];
extern const size_t kvreport_css_bytes, kvreport_dark_css_bytes, kvreport_js_bytes;

#endif

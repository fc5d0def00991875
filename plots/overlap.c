/* The overlap of every two methods at one budget: a matrix with its numbers, in the order of the tree beside it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/cluster.h"
#include "analyzers/overlap.h"
#include "base/mem.h"
#include "plots/sheet.h"

enum { MAX_METHODS = 32 };

static int measure(const struct kvt_plot *p, const int *branch, int n, double *m, struct kvt_err *err)
{
    struct kvt_held held[MAX_METHODS];
    memset(held, 0, sizeof held);
    int rc = 0;
    for (int i = 0; !rc && i < n; i++)
        rc = kvt_held_load(p->trace, branch[i], p->at, NULL, &held[i], err);
    for (int i = 0; !rc && i < n; i++)
        for (int j = i; j < n; j++) {
            struct kvt_overlap o;
            kvt_overlap_of(&held[i], &held[j], 0, held[i].L, &o);
            m[i * n + j] = m[j * n + i] = i == j ? NAN : p->jaccard ? kvt_overlap_jaccard(&o) : kvt_overlap_adjusted(&o);
        }
    for (int i = 0; i < n; i++)
        kvt_held_free(&held[i]);
    return rc;
}

/* digits 2: "0.42", 1: ".42", 0: nothing */
static int write_matrix(struct kvt_figure *f, const double *m, int n, const int *order, int digits, struct kvt_err *err)
{
    FILE *data = kvt_figure_data(f, "matrix.tsv", err);
    if (!data)
        return KVT_EIO;
    fputs("# column\trow\tvalue\ttext\n", data);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double v = m[order[i] * n + order[j]];
            char text[16];
            snprintf(text, sizeof text, "%.2f", fabs(v) < 0.005 ? 0 : v);
            char *zero = digits < 2 ? strstr(text, "0.") : NULL;
            if (digits < 2 && !strcmp(text, "1.00"))
                text[1] = 0;
            if (zero)
                memmove(zero, zero + 1, strlen(zero));
            if (isnan(v))
                fprintf(data, "%d\t%d\tNaN\t\"%s\"\n", j, i, i == j || !digits ? "" : "-");
            else
                fprintf(data, "%d\t%d\t%.6f\t\"%s\"\n", j, i, v, digits ? text : "");
        }
    return kvt_figure_close(data, "matrix.tsv", 0, err);
}

/* Brackets: from a group's likeness to that of the group it joins. Leaves lie at their rows. */
static int write_tree(struct kvt_figure *f, const struct kvt_join *join, int n, const int *order, double *least, struct kvt_err *err)
{
    FILE *data = kvt_figure_data(f, "tree.tsv", err);
    double y[2 * MAX_METHODS], at[2 * MAX_METHODS];
    if (!data)
        return KVT_EIO;
    for (int i = 0; i < n; i++)
        y[order[i]] = i, at[order[i]] = 1;
    *least = 0;
    fputs("# likeness\trow; a bracket for each join\n", data);
    for (int i = 0; i < n - 1; i++) {
        int a = join[i].left, b = join[i].right;
        double v = join[i].at;
        fprintf(data, "%.6f\t%.6f\n%.6f\t%.6f\n%.6f\t%.6f\n%.6f\t%.6f\n\n", at[a], y[a], v, y[a], v, y[b], at[b], y[b]);
        y[n + i] = (y[a] + y[b]) / 2;
        at[n + i] = v;
        *least = fmin(*least, v);
    }
    return kvt_figure_close(data, "tree.tsv", 0, err);
}

static void name_tics(struct kvt_sheet *s, const struct kvt_trace_info *info, const int *branch, int n, const int *order, const char *axis)
{
    fprintf(s->f.gp, "set %stics (", axis);
    for (int i = 0; i < n; i++) {
        fputs(i ? ", " : "", s->f.gp);
        kvt_gp_tic(&s->f, kvt_short_name(info, branch, n, order[i]));
        fprintf(s->f.gp, " %d", i);
    }
    fprintf(s->f.gp, ") font ',%g'\n", fmin(s->em, 0.95 * s->panel_h / n));
}

static int draw(const struct kvt_plot *p, const int *branch, int n, const double *m, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    struct kvt_join join[MAX_METHODS];
    struct kvt_sheet s;
    int order[MAX_METHODS];
    char title[200], budget[32];
    double longest = 0, least = 0, em = kvt_sheet_em(p->figure.paper), page = kvt_sheet_width(p->figure.paper) / em;
    int rc = kvt_sheet_begin(&s, p, "overlap", err);
    if (!rc)
        rc = kvt_cluster(m, n, join, order, err);
    for (int i = 0; i < n; i++)
        longest = fmax(longest, kvt_text_points(kvt_short_name(info, branch, n, i), 1));
    double left = fmin(longest, 0.35 * page) + 1.6, tree = page > 40 ? 10 : 6.5, side = fmin(page - left - tree - 3, fmax(3.6 * n, 14)), cell = side / n;
    snprintf(title, sizeof title, "%s of the tokens kept at %s", p->jaccard ? "Jaccard overlap" : "Adjusted overlap",
             p->branches && !p->keep ? "the budgets named" : kvt_budget_text(&info->branch[branch[0]], budget, sizeof budget));
    if (!rc)
        rc = kvt_sheet_lay_out(&s, &(struct kvt_sheet_plan){.title = title, .info = info, .branch = branch, .n_branches = n, .bar = p->jaccard ? "shared by both / kept by either" : "adjusted overlap O",
                               .note = p->jaccard ? "protected tokens left out; right: average linkage" : "1 = nested, 0 = chance, below: they avoid each other; protected tokens left out; right: average linkage",
                               .panels = 1, .wide = side, .shape = 1, .left = left, .right = tree + 2, .above = 0.6, .below = fmax(0.72 * longest + 1.4, 3.4), .plots = true}, err);
    if (!rc)
        rc = write_matrix(&s.f, m, n, order, cell >= 2.9 ? 2 : cell >= 1.9 ? 1 : 0, err);
    if (!rc)
        rc = write_tree(&s.f, join, n, order, &least, err);
    if (!rc) {
        FILE *gp = s.f.gp;
        fputs(p->jaccard ? "eval FROM_NOTHING\n" : "eval FROM_CHANCE\n", gp);
        fprintf(gp, "set xrange [-0.5:%g]\nset yrange [%g:-0.5]\n", n - 0.5, n - 0.5);
        name_tics(&s, info, branch, n, order, "x");
        name_tics(&s, info, branch, n, order, "y");
        kvt_sheet_panel(&s, 0, NULL);
        fprintf(gp, "plot 'matrix.tsv' using 1:2:3 with image notitle, \\\n     '' using 1:2:4:(INK($3)) with labels textcolor rgb variable font ',%g' notitle\n", (cell >= 2.9 ? 0.9 : 0.75) * em);
        kvt_sheet_once(&s);
        kvt_sheet_place(&s, s.x + s.panel_w + 0.8 * em, s.y, tree * em, s.panel_h);
        fprintf(gp, "unset object 1\nunset ytics\nset border 1\nset xrange [1:%g]\nset xtics 0.5 nomirror norotate center scale 0.4 offset 0,0.4\nset xlabel 'groups join at' offset 0,1\n", least - 0.04);
        fputs("plot 'tree.tsv' using 1:2 with lines linestyle 2 notitle\n", gp);
    }
    return kvt_sheet_end(&s, rc, err);
}

int kvt_plot_overlap(const struct kvt_plot *p, struct kvt_err *err)
{
    int *branch = NULL, n = 0;
    double *m = NULL;
    int rc = kvt_pick_branches(p->info, p->branches, &branch, &n, err);
    if (!rc && (!p->branches || p->keep))
        rc = kvt_pick_budget(p->info, p->keep, branch, &n, err);
    if (!rc && n < 2)
        rc = kvt_fail(err, KVT_EINPUT, "one branch at this budget has nothing to be compared with; trace again with two methods, as --method snapkv,h2o, or see --keep and --branches");
    if (!rc && n > MAX_METHODS)
        rc = kvt_fail(err, KVT_EINPUT, "%d branches; a matrix takes up to %d: see --keep and --branches", n, MAX_METHODS);
    if (!rc && !(m = kvt_calloc((size_t)(n * n), sizeof *m)))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", n);
    if (!rc)
        rc = measure(p, branch, n, m, err);
    if (!rc)
        rc = draw(p, branch, n, m, err);
    free(m);
    free(branch);
    return rc;
}

/* The overlap of every two methods at one budget, as a matrix with its numbers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/overlap.h"
#include "base/mem.h"
#include "plots/plot.h"

enum { MAX_METHODS = 24 };

static int measure(const struct kvt_plot *p, const int *branch, int n, double *m, struct kvt_err *err)
{
    struct kvt_held held[MAX_METHODS];
    memset(held, 0, sizeof held);
    int rc = 0;
    for (int i = 0; !rc && i < n; i++)
        rc = kvt_held_load(p->trace, branch[i], p->at, NULL, &held[i], err);
    for (int i = 0; !rc && i < n; i++)
        for (int j = 0; j < n; j++) {
            struct kvt_overlap o;
            kvt_overlap_of(&held[i], &held[j], 0, held[i].L, &o);
            m[i * n + j] = i == j ? NAN : p->jaccard ? kvt_overlap_jaccard(&o) : kvt_overlap_adjusted(&o);
        }
    for (int i = 0; i < n; i++)
        kvt_held_free(&held[i]);
    return rc;
}

static int write_matrix(struct kvt_figure *f, const double *m, int n, struct kvt_err *err)
{
    FILE *data = kvt_figure_data(f, "matrix.txt", err);
    if (!data)
        return KVT_EIO;
    fputs("# column row value text\n", data);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            if (isnan(m[i * n + j]))
                fprintf(data, "%d %d NaN \"%s\"\n", j, i, i == j ? "" : "-");
            else
                fprintf(data, "%d %d %.6f \"%.2f\"\n", j, i, m[i * n + j], fabs(m[i * n + j]) < 0.005 ? 0 : m[i * n + j]);
        }
    bool bad = ferror(data);
    if (fclose(data) || bad)
        return kvt_fail(err, KVT_EIO, "matrix.txt: writing failed (disk full?)");
    return 0;
}

static void name_tics(FILE *gp, const struct kvt_trace_info *info, const int *branch, int n, const char *axis)
{
    fprintf(gp, "set %stics (", axis);
    for (int i = 0; i < n; i++) {
        fputs(i ? ", " : "", gp);
        kvt_gp_tic(gp, kvt_short_name(info, branch, n, i));
        fprintf(gp, " %d", i);
    }
    fputs(")\n", gp);
}

int kvt_plot_overlap(const struct kvt_plot *p, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    struct kvt_figure f = {0};
    int *branch = NULL, n = 0;
    double *m = NULL;
    int rc = kvt_pick_branches(info, p->branches, &branch, &n, err);
    if (!rc && (!p->branches || p->keep))
        rc = kvt_pick_budget(info, p->keep, branch, &n, err);
    if (!rc && (n < 2 || n > MAX_METHODS))
        rc = kvt_fail(err, KVT_EINPUT, "%d branches at this budget; a matrix takes 2 to %d: see --keep and --branches", n, MAX_METHODS);
    if (!rc && !(m = kvt_calloc((size_t)(n * n), sizeof *m)))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", n);
    if (!rc)
        rc = measure(p, branch, n, m, err);
    int cell = n <= 8 ? 46 : 36, longest = 0;
    for (int i = 0; !rc && i < n; i++) {
        int len = (int)strlen(kvt_short_name(info, branch, n, i));
        longest = len > longest ? len : longest;
    }
    int left = 24 + 6 * longest, w = left + n * cell + 110, h = n * cell + 4 * longest + 104;
    if (w < 470)
        w = 470; /* room for title and caption */
    if (!rc)
        rc = kvt_figure_begin(&f, &p->figure, w, h, err);
    if (!rc) {
        char subject[256], text[400], budget[32];
        fprintf(f.gp, "n = %d\nwidth = %d.0\nheight = %d.0\nleft = %d.0\ncell = %d.0\nleast = %s\n", n, w, h, left, cell,
                p->jaccard ? "0" : "-1");
        kvt_figure_style(&f);
        name_tics(f.gp, info, branch, n, "x");
        name_tics(f.gp, info, branch, n, "y");
        snprintf(text, sizeof text, "%s of the tokens kept at %s", p->jaccard ? "Jaccard overlap" : "Adjusted overlap",
                 p->branches && !p->keep ? "the budgets named" : kvt_budget_text(&info->branch[branch[0]], budget, sizeof budget));
        fputs("set label 2 ", f.gp);
        kvt_gp_text(f.gp, text);
        fputs(" at screen 12.0/width,screen 1-18.0/height left front font ',11'\nset label 3 ", f.gp);
        kvt_gp_text(f.gp, p->jaccard ? "shared by both / kept by either; protected tokens left out"
                                     : "1 = nested, 0 = chance, below: they avoid each other; protected tokens left out");
        fputs(" at screen 12.0/width,screen 1-34.0/height left front\nset label 1 ", f.gp);
        kvt_gp_text(f.gp, kvt_plot_subject(info, subject, sizeof subject));
        fputs(" at screen 12.0/width,screen 12.0/height left front\n", f.gp);
        rc = write_matrix(&f, m, n, err);
        fputs("plot 'matrix.txt' using 1:2:3 with image notitle, \\\n"
              "     '' using 1:2:4:(INK($3)) with labels textcolor rgb variable notitle\n", f.gp);
    }
    rc = kvt_figure_end(&f, rc, err);
    free(m);
    free(branch);
    return rc;
}

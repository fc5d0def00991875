/* A chart's data and its plot command. */
#include "plots/chart.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 620, HEIGHT = 380 };

int kvt_chart_pick(const struct kvt_plot *p, int **branch, int *n, bool one_budget, struct kvt_err *err)
{
    int rc = kvt_pick_branches(p->info, p->branches, branch, n, err);
    if (!rc && one_budget && (!p->branches || p->keep))
        rc = kvt_pick_budget(p->info, p->keep, *branch, n, err);
    if (!rc && *n < 1)
        rc = kvt_fail(err, KVT_EINPUT, "no compressed branch; trace with --method");
    if (!rc && one_budget && *n > KVT_CHART_SERIES)
        rc = kvt_fail(err, KVT_EINPUT, "%d branches; a chart takes 1 to %d: see --keep and --branches", *n, KVT_CHART_SERIES);
    return rc;
}

const char *kvt_chart_budget(const struct kvt_plot *p, const int *branch, char *buf, size_t cap)
{
    return p->branches && !p->keep ? "the budgets named" : kvt_budget_text(&p->info->branch[branch[0]], buf, cap);
}

int kvt_chart_begin(struct kvt_chart *c, const struct kvt_plot *p, enum kvt_series_kind kind, const struct kvt_chart_text *text, struct kvt_err *err)
{
    char subject[256];
    struct kvt_figure_opts o = p->figure;
    o.style = "chart";
    *c = (struct kvt_chart){.kind = kind};
    int rc = kvt_figure_begin(&c->f, &o, WIDTH, HEIGHT, err);
    if (!rc && !(c->data = kvt_figure_data(&c->f, "chart.tsv", err)))
        rc = KVT_EIO;
    if (rc)
        return rc;
    fprintf(c->f.gp, "width = %d.0\nheight = %d.0\n", WIDTH, HEIGHT);
    kvt_figure_style(&c->f);
    const struct { const char *command, *text; } part[] = {{"set label 2 ", text->title}, {"set label 3 ", text->note}, {"set xlabel ", text->x}, {"set ylabel ", text->y}};
    static const char *const place[] = {" at screen 12.0/width,screen 1-18.0/height left front font ',11'\n", " at screen 12.0/width,screen 1-34.0/height left front\n", "\n", "\n"};
    for (int i = 0; i < 4; i++)
        if (part[i].text) {
            fputs(part[i].command, c->f.gp);
            kvt_gp_text(c->f.gp, part[i].text);
            fputs(place[i], c->f.gp);
        }
    fputs("set label 1 ", c->f.gp);
    kvt_gp_text(c->f.gp, kvt_plot_subject(p->info, subject, sizeof subject));
    fprintf(c->f.gp, " at screen 12.0/width,screen 10.0/height left front\n%s%s", text->extra ? text->extra : "", text->extra ? "\n" : "");
    fputs("# x y low high name; a block for each series\n", c->data);
    return 0;
}

void kvt_chart_series(struct kvt_chart *c, const char *name)
{
    c->over = c->n == KVT_CHART_SERIES;
    if (c->over)
        return;
    fprintf(c->data, "%s# ", c->n ? "\n\n" : "");
    kvt_gp_text(c->data, name);
    fputc('\n', c->data);
    snprintf(c->name[c->n], sizeof c->name[c->n], "%s", name);
    c->empty[c->n++] = true;
}

void kvt_chart_point(struct kvt_chart *c, double x, double y, double low, double high, const char *name)
{
    if (c->over)
        return;
    const double v[] = {x, y, low, high};
    for (int i = 0; i < 4; i++)
        fprintf(c->data, isnan(v[i]) ? "NaN\t" : "%.9g\t", v[i]);
    fputc('"', c->data);
    for (const char *s = name ? name : ""; *s; s++)
        fputc(*s == '"' || *s == '\\' || (unsigned char)*s < ' ' ? '\'' : *s, c->data);
    fputs("\"\n", c->data);
    c->empty[c->n - 1] = c->empty[c->n - 1] && isnan(y);
}

static void title(struct kvt_chart *c, int i)
{
    fputs(" title ", c->f.gp);
    kvt_gp_text(c->f.gp, c->name[i]);
}

static void put_series(struct kvt_chart *c, int i)
{
    FILE *gp = c->f.gp;
    switch (c->kind) {
    case KVT_SERIES_LINE:
        fprintf(gp, "'chart.tsv' index %d using 1:2 with linespoints linetype %d", i, i + 1);
        title(c, i);
        break;
    case KVT_SERIES_BAND:
        fprintf(gp, "'chart.tsv' index %d using 1:3:4 with filledcurves linetype %d fillstyle transparent solid 0.16 noborder notitle, \\\n     "
                    "'' index %d using 1:2 with linespoints linetype %d", i, i + 1, i, i + 1);
        title(c, i);
        break;
    case KVT_SERIES_BARS:
        fprintf(gp, "'chart.tsv' index %d using 1:2:xtic(5) with boxes linetype %d", i, i + 1);
        title(c, i);
        fprintf(gp, ", \\\n     '' index %d using 1:(($3+$4)/2):3:4 with yerrorbars linetype 100 notitle", i);
        break;
    case KVT_SERIES_POINTS:
        fprintf(gp, "'chart.tsv' index %d using 1:2 with linespoints linetype %d", i, i + 1);
        title(c, i);
        fprintf(gp, ", \\\n     '' index %d using 1:2:5 with labels left offset 0.8,0.4 font ',7' notitle", i);
        break;
    case KVT_SERIES_SPANS:
        fprintf(gp, "'chart.tsv' index %d using 1:3:1:($1+$2):($3-0.36):($3+0.36):ytic(5) with boxxyerror linetype %d fillstyle solid 0.85 noborder notitle", i, i + 1);
        break;
    }
}

int kvt_chart_end(struct kvt_chart *c, int rc, struct kvt_err *err)
{
    bool any = false;
    if (!rc && c->over)
        rc = kvt_fail(err, KVT_EINPUT, "more than %d series; name fewer branches with --branches", KVT_CHART_SERIES);
    for (int i = 0; !rc && i < c->n; i++) {
        if (c->empty[i])
            continue;
        fputs(any ? ", \\\n     " : "plot ", c->f.gp);
        put_series(c, i);
        any = true;
    }
    if (!rc && any)
        fputc('\n', c->f.gp);
    bool bad = c->data && ferror(c->data);
    if (c->data && (fclose(c->data) || bad) && !rc)
        rc = kvt_fail(err, KVT_EIO, "chart.tsv: writing failed (disk full?)");
    if (!rc && !any)
        rc = kvt_fail(err, KVT_EINPUT, "nothing to draw: no branch has a value here");
    return kvt_figure_end(&c->f, rc, err);
}

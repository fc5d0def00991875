/* A chart's data and its plot commands. */
#include "plots/chart.h"

#include <math.h>
#include <string.h>

int kvt_chart_pick(const struct kvt_plot *p, int **branch, int *n, bool one_budget, struct kvt_err *err)
{
    int rc = kvt_pick_branches(p->info, p->branches, branch, n, err);
    if (!rc && one_budget && *n && (!p->branches || p->keep))
        rc = kvt_pick_budget(p->info, p->keep, *branch, n, err);
    if (!rc && *n < 1)
        rc = kvt_fail(err, KVT_EINPUT, "this trace has no compressed branch; trace again with --method");
    return rc;
}

const char *kvt_chart_budget(const struct kvt_plot *p, const int *branch, char *buf, size_t cap)
{
    return p->branches && !p->keep ? "the budgets named" : kvt_budget_text(&p->info->branch[branch[0]], buf, cap);
}

int kvt_chart_begin(struct kvt_chart *c, const struct kvt_plot *p, enum kvt_series_kind kind, const struct kvt_chart_text *text, struct kvt_err *err)
{
    *c = (struct kvt_chart){.kind = kind, .info = p->info, .least = {INFINITY, INFINITY}, .most = {-INFINITY, -INFINITY}};
    const struct { char *to; size_t cap; const char *from; } part[] = {{c->title, sizeof c->title, text->title}, {c->note, sizeof c->note, text->note},
        {c->x, sizeof c->x, text->x}, {c->y, sizeof c->y, text->y}, {c->extra, sizeof c->extra, text->extra}, {c->more, sizeof c->more, text->more}};
    for (int i = 0; i < 6; i++)
        snprintf(part[i].to, part[i].cap, "%s", part[i].from ? part[i].from : "");
    int rc = kvt_sheet_begin(&c->s, p, "chart", err);
    if (!rc && !(c->data = kvt_figure_data(&c->s.f, "chart.tsv", err)))
        rc = KVT_EIO;
    if (!rc)
        fputs("# x y low high name; a block for each series\n", c->data);
    return rc;
}

void kvt_chart_branches(struct kvt_chart *c, const int *branch, int n) { c->branch = branch, c->n_branches = n; }

void kvt_chart_panel(struct kvt_chart *c, const char *title)
{
    c->over = c->over || c->panels == KVT_CHART_PANELS;
    if (!c->over)
        snprintf(c->panel[c->panels++], sizeof c->panel[0], "%s", title);
}

void kvt_chart_series(struct kvt_chart *c, const char *name)
{
    int look = 0;
    while (look < c->names && strncmp(c->name[look], name, sizeof c->name[0] - 1))
        look++;
    c->over = c->over || c->n == KVT_CHART_SERIES || look == KVT_CHART_NAMES;
    if (c->over)
        return;
    if (look == c->names)
        snprintf(c->name[c->names++], sizeof c->name[0], "%s", name);
    int panel = c->panels ? c->panels - 1 : 0;
    fputs(c->n ? "\n\n# " : "# ", c->data);
    if (c->panels) {
        kvt_gp_comment(c->data, c->panel[panel]);
        fputs(": ", c->data);
    }
    kvt_gp_comment(c->data, c->name[look]);
    fputc('\n', c->data);
    c->series[c->n].panel = panel;
    c->series[c->n].look = look;
    c->series[c->n].points = 0;
    c->series[c->n].ranged = false;
    c->series[c->n++].empty = true;
}

void kvt_chart_point(struct kvt_chart *c, double x, double y, double low, double high, const char *name)
{
    if (c->over)
        return;
    const double v[] = {x, y, low, high};
    for (int i = 0; i < 4; i++)
        fprintf(c->data, isfinite(v[i]) ? "%.9g\t" : "NaN\t", v[i]);
    kvt_gp_field(&c->s.f, c->data, name ? name : "");
    fputc('\n', c->data);
    c->most_row = fmax(c->most_row, isfinite(low) ? low : 0);
    c->longest = fmax(c->longest, kvt_text_points(name ? name : "", c->s.em));
    c->series[c->n - 1].points++;
    c->series[c->n - 1].ranged = c->series[c->n - 1].ranged || !isnan(low);
    for (int i = 0; i < 4; i++)
        if (isfinite(v[i]))
            c->least[i > 0] = fmin(c->least[i > 0], v[i]), c->most[i > 0] = fmax(c->most[i > 0], v[i]);
    if (name && c->kind == KVT_SERIES_ERRORS && !isnan(y) && c->labels < KVT_CHART_LABELS) {
        c->label[c->labels].x = x;
        c->label[c->labels].y = y;
        snprintf(c->label[c->labels++].name, sizeof c->label[0].name, "%s", name);
    }
    c->series[c->n - 1].empty = c->series[c->n - 1].empty && isnan(y);
}

/* A mark on about a dozen points of a line: enough to tell lines apart in grey. */
static void line(FILE *gp, int i, int type, int points, double size)
{
    fprintf(gp, "'chart.tsv' index %d using 1:2 with linespoints linetype %d", i, type);
    if (size > 0)
        fprintf(gp, " pointsize %g * em / 22 * mark", size);
    if (points > 16)
        fprintf(gp, " pointinterval %d", (points + 11) / 12);
}

static void put_series(struct kvt_chart *c, int i, bool first_panel)
{
    FILE *gp = c->s.f.gp;
    int type = c->series[i].look + 1;
    switch (c->kind) {
    case KVT_SERIES_LINE:
        line(gp, i, type, c->series[i].points, c->nested ? fmax(2.4 - 0.3 * c->series[i].look, 0.5) : 0);
        break;
    case KVT_SERIES_BAND:
        fprintf(gp, "'chart.tsv' index %d using 1:3:4 with filledcurves linetype %d fillstyle transparent solid 0.16 noborder notitle, \\\n     ", i, type);
        line(gp, i, type, c->series[i].points, c->nested ? fmax(2.4 - 0.3 * c->series[i].look, 0.5) : 0);
        break;
    case KVT_SERIES_ERRORS:
        if (c->series[i].ranged)
            fprintf(gp, "'chart.tsv' index %d using 1:3:(0):($4-$3) with vectors nohead linetype %d dashtype 1 linewidth 1 notitle, \\\n     ", i, type);
        line(gp, i, type, c->series[i].points, c->nested ? fmax(2.4 - 0.3 * c->series[i].look, 0.5) : 0);
        break;
    case KVT_SERIES_BARS:
        fprintf(gp, "'chart.tsv' index %d using 1:2:xtic(5) with boxes linetype %d fillstyle solid 0.45 notitle", i, type);
        if (c->series[i].ranged)
            fprintf(gp, ", \\\n     '' index %d using 1:3:(0):($4-$3) with vectors nohead linetype 100 notitle, '' index %d using ($1-0.12):3:(0.24):(0) with vectors nohead linetype 100 notitle, "
                        "'' index %d using ($1-0.12):4:(0.24):(0) with vectors nohead linetype 100 notitle", i, i, i);
        return;
    case KVT_SERIES_SPANS:
        /* names beside the first box of each row; a box stands on its row's line */
        fprintf(gp, "'chart.tsv' index %d using 1:3:1:($1+$2):($3+0.38-0.76*$4):($3+0.38):ytic(strlen(strcol(5)) ? strcol(5) : NaN) with boxxyerror linetype %d fillstyle solid 0.85 noborder notitle", i, type);
        return;
    }
    if (!first_panel) {
        fputs(" notitle", gp);
        return;
    }
    fputs(" title ", gp);
    kvt_gp_text(&c->s.f, c->name[c->series[i].look]);
}

/* Names of points, the earlier first, where they'd not cover one that is there: in units of the panel, y by its logarithm where the axis is. */
static void put_labels(struct kvt_chart *c)
{
    struct { double x, y, w; } set[KVT_CHART_LABELS];
    bool logarithmic = strstr(c->extra, "logscale y");
    double size = 0.85 * c->s.em, wx = c->most[0] - c->least[0], low = logarithmic ? log(c->least[1]) : c->least[1], wy = (logarithmic ? log(c->most[1]) : c->most[1]) - low;
    int n = 0;
    for (int i = 0; i < c->labels; i++) {
        double x = (wx > 0 ? (c->label[i].x - c->least[0]) / wx : 0) * c->s.panel_w, y = (wy > 0 ? ((logarithmic ? log(c->label[i].y) : c->label[i].y) - low) / wy : 0) * c->s.panel_h, w = kvt_text_points(c->label[i].name, size);
        bool room = true;
        for (int k = 0; k < n; k++)
            room = room && (fabs(set[k].y - y) > 1.1 * size || x > set[k].x + set[k].w + 0.3 * size || set[k].x > x + w + 0.3 * size);
        if (!room)
            continue;
        set[n].x = x, set[n].y = y, set[n++].w = w;
        fprintf(c->s.f.gp, "set label %d ", 2000 + n);
        kvt_gp_sized(&c->s.f, c->label[i].name, size, false);
        fprintf(c->s.f.gp, " at first %.9g,%.9g left offset 0.5,0.5 front textcolor rgb '#444444'\n", c->label[i].x, c->label[i].y);
    }
}

/* Names of the legend that the first panel doesn't draw. */
static void put_missing(struct kvt_chart *c)
{
    for (int k = 0; k < c->names; k++) {
        bool drawn = false;
        for (int i = 0; i < c->n; i++)
            drawn = drawn || (c->series[i].look == k && !c->series[i].panel && !c->series[i].empty);
        if (drawn)
            continue;
        fprintf(c->s.f.gp, ", \\\n     keyentry with linespoints linetype %d title ", k + 1);
        kvt_gp_text(&c->s.f, c->name[k]);
    }
}

static void put_panel(struct kvt_chart *c, int panel)
{
    FILE *gp = c->s.f.gp;
    bool any = false, bottom = kvt_sheet_is_bottom(&c->s, panel), left = kvt_sheet_is_left(&c->s, panel);
    kvt_sheet_panel(&c->s, panel, c->panels ? c->panel[panel] : NULL);
    fputs("set xlabel ", gp);
    kvt_gp_text(&c->s.f, bottom ? c->x : "");
    fputs("\nset ylabel ", gp);
    kvt_gp_text(&c->s.f, left ? c->y : "");
    if (c->panels && c->shared_y)
        fprintf(gp, "\nset format y '%s'", left ? "%g" : "");
    fputc('\n', gp);
    for (int i = 0; i < c->n; i++) {
        if (c->series[i].empty || c->series[i].panel != panel)
            continue;
        fputs(any ? ", \\\n     " : "plot ", gp);
        put_series(c, i, !panel);
        any = true;
    }
    if (!any)
        fputs("plot NaN notitle", gp);
    if (!panel && c->kind != KVT_SERIES_BARS && c->kind != KVT_SERIES_SPANS)
        put_missing(c);
    fputc('\n', gp);
}

int kvt_chart_end(struct kvt_chart *c, int rc, struct kvt_err *err)
{
    bool any = false, keyed = c->kind != KVT_SERIES_BARS && c->kind != KVT_SERIES_SPANS, column = c->s.f.o.paper == KVT_PAPER_COLUMN;
    const char *name[KVT_CHART_NAMES];
    for (int k = 0; k < c->names; k++)
        name[k] = c->name[k];
    for (int i = 0; i < c->n; i++)
        any = any || !c->series[i].empty;
    if (!rc && c->over)
        rc = kvt_fail(err, KVT_EINPUT, "more lines than a chart shows (%d in a panel); name fewer branches with --branches", KVT_CHART_NAMES);
    rc = kvt_figure_close(c->data, "chart.tsv", rc, err);
    if (!rc && !any)
        rc = kvt_fail(err, KVT_EINPUT, "nothing to draw: no branch has a value here");
    struct kvt_sheet_plan plan = {.title = c->title, .note = c->note, .more = c->more, .info = c->info, .branch = c->branch, .n_branches = c->n_branches,
                                  .legend = name, .n_legend = keyed ? c->names : 0, .panels = c->panels ? c->panels : 1, .narrow = 12, .left = 6.4, .right = 1.4,
                                  .above = c->panels ? 1.9 : 1, .below = c->x[0] ? 4 : 2.4, .gap_x = c->shared_y ? 1.4 : 4.6, .gap_y = 3.4,
                                  .shape = c->panels > 1 ? 0.7 : column ? 0.66 : 0.46};
    if (c->kind == KVT_SERIES_BARS) { /* names hang down to the right */
        plan.below = fmin(0.45 * c->longest / c->s.em, 16) + 2.2;
        plan.right = fmax(1.2, fmin(0.5 * c->longest / c->s.em, 16));
    } else if (c->kind == KVT_SERIES_SPANS) {
        plan.left = fmin(c->longest / c->s.em, 22) + 1.4;
        plan.shape = 0;
        plan.high = 1 + 1.9 * (c->most_row + 1);
    }
    if (!rc)
        rc = kvt_sheet_lay_out(&c->s, &plan, err);
    if (!rc && c->extra[0])
        fprintf(c->s.f.gp, "%s\n", c->extra);
    if (!rc && c->kind == KVT_SERIES_SPANS)
        fprintf(c->s.f.gp, "set yrange [%g:-0.5]\n", c->most_row + 0.5);
    if (!rc && c->labels)
        fputs("set offsets graph 0, graph 0.06, 0, 0\n", c->s.f.gp);
    if (!rc)
        put_labels(c);
    for (int panel = 0; !rc && panel < plan.panels; panel++)
        put_panel(c, panel);
    return kvt_sheet_end(&c->s, rc, err);
}

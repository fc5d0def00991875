/* Laying out a page and writing what stands around the panels. */
#include "plots/sheet.h"

#include <math.h>
#include <string.h>

#include "base/utf8.h"

#define SMALL 0.8   /* small print, of plain text */
#define TITLE 1.1
#define LINE 1.3    /* from line to line */
enum { SMALL_CHARS = 8000, LINE_CHARS = 400 };

/* A column of a journal is 84 mm, its page 174 mm. */
double kvt_sheet_width(int paper)
{
    return paper == KVT_PAPER_COLUMN ? 84 / 25.4 * 72 : paper == KVT_PAPER_PAGE ? 174 / 25.4 * 72 : 660;
}

double kvt_sheet_em(int paper) { return paper == KVT_PAPER_COLUMN ? 7 : paper == KVT_PAPER_PAGE ? 7.2 : 10; }

/* DejaVu Sans in tenths of its size, roughly. */
double kvt_text_points(const char *s, double size)
{
    double w = 0;
    while (*s) {
        uint32_t c;
        s += kvt_utf8_next(s, &c);
        if (c >= 0x80)
            w += 0.6 + 0.4 * (kvt_utf8_width(c) > 1);
        else if (strchr("iljI.,:;'|! ", (int)c))
            w += 0.31;
        else if (strchr("ftr()[]-/\\\"", (int)c))
            w += 0.4;
        else if (strchr("mwMWC%@OQG+=<>~", (int)c))
            w += 0.84;
        else
            w += c >= 'A' && c <= 'Z' ? 0.69 : 0.62;
    }
    return w * size;
}

/* Labels from the top of the page downwards; *y moves on. Lines break at blanks; commas help where a word has no room. */
static int lines(struct kvt_sheet *s, const char *text, double size, double width, double *y, const char *colour, bool bold, bool draw)
{
    int count = 0;
    while (text && *text) {
        char line[LINE_CHARS] = "";
        size_t used = 0, good = 0;
        while (text[used] && used < sizeof line - 8) {
            uint32_t c;
            size_t next = used + (size_t)kvt_utf8_next(text + used, &c);
            memcpy(line + used, text + used, next - used);
            line[next] = 0;
            if (kvt_text_points(line, size) * (s->f.latex ? 1.08 : 1) * (bold ? 1.12 : 1) > width && used) /* TeX may round a size up */
                break;
            used = next;
            if (c == ' ' || (c == ',' && text[used] != ' '))
                good = used;
        }
        size_t take = !text[used] || !good ? used : good, shown = take;
        while (shown && text[shown - 1] == ' ')
            shown--;
        memcpy(line, text, shown);
        line[shown] = 0;
        if (draw) {
            fprintf(s->f.gp, "set label %d ", 1000 + s->labels++);
            kvt_gp_sized(&s->f, line, size, bold);
            fprintf(s->f.gp, " at screen %.5f,%.5f left front textcolor rgb '%s'\n", s->em / s->width, 1 - (*y + 0.5 * LINE * size) / s->height, colour);
        }
        *y += LINE * size;
        count++;
        text += take;
    }
    return count;
}

/* ---- small print ---- */

static void add(char *text, const char *more)
{
    size_t len = strlen(text);
    snprintf(text + len, SMALL_CHARS - len, "%s%s", len ? " " : "", more);
}

/* Each method once, with the budgets that are drawn. */
static void add_methods(char *text, const struct kvt_sheet_plan *plan)
{
    const struct kvt_trace_branch *b = plan->info->branch;
    for (int i = 0; i < plan->n_branches; i++) {
        char one[2000];
        bool seen = false;
        for (int k = 0; k < i; k++)
            seen = seen || !strcmp(b[plan->branch[k]].canonical, b[plan->branch[i]].canonical);
        if (seen)
            continue;
        int n = snprintf(one, sizeof one, "%s", b[plan->branch[i]].canonical);
        for (int k = i; k < plan->n_branches; k++) {
            char budget[32];
            if (!strcmp(b[plan->branch[k]].canonical, b[plan->branch[i]].canonical) && n < (int)sizeof one - 40)
                n += snprintf(one + n, sizeof one - (size_t)n, "%s%s", k == i ? " " : ", ", kvt_budget_text(&b[plan->branch[k]], budget, sizeof budget));
        }
        snprintf(one + n, sizeof one - (size_t)n, ";");
        add(text, one);
    }
    size_t len = strlen(text);
    if (plan->n_branches && len)
        text[len - 1] = '.';
}

static void small_print(const struct kvt_sheet_plan *plan, char *text)
{
    char subject[400];
    text[0] = 0;
    if (plan->info)
        add(text, kvt_plot_subject(plan->info, subject, sizeof subject));
    if (plan->other)
        add(text, kvt_plot_subject(plan->other, subject, sizeof subject));
    if (plan->info)
        add_methods(text, plan);
    if (plan->more)
        add(text, plan->more);
}

/* ---- legend and bar ---- */

static void legend_size(const struct kvt_sheet *s, const struct kvt_sheet_plan *plan, int *cols, int *rows)
{
    double widest = 0;
    for (int i = 0; i < plan->n_legend; i++)
        widest = fmax(widest, kvt_text_points(plan->legend[i], s->em));
    *cols = (int)((s->width - 2 * s->em) / (widest + 4 * s->em));
    *cols = *cols < 1 ? 1 : *cols > plan->n_legend ? plan->n_legend : *cols;
    *rows = *cols ? (plan->n_legend + *cols - 1) / *cols : 0;
}

static void put_head(struct kvt_sheet *s, const struct kvt_sheet_plan *plan, int rows)
{
    FILE *gp = s->f.gp;
    if (plan->n_legend)
        fprintf(gp, "set key at screen %.5f,%.5f left top vertical maxrows %d Left reverse samplen 1.6 spacing 1.1 width 0.5 nobox\n",
                0.6 * s->em / s->width, 1 - s->head_y / s->height, rows);
    else
        fputs("unset key\n", gp);
    if (!plan->bar)
        return;
    double text = kvt_text_points(plan->bar, s->em), room = s->width - 2 * s->em, y = s->bar_y;
    bool beside = text + 13 * s->em < room;
    fprintf(gp, "set label %d ", 1000 + s->labels++);
    kvt_gp_sized(&s->f, plan->bar, s->em, false);
    fprintf(gp, " at screen %.5f,%.5f left front\n", s->em / s->width, 1 - (y + 0.65 * s->em) / s->height);
    double x = s->em + (beside ? text + 1.6 * s->em : 1.6 * s->em), w = fmin(s->width - 2 * s->em - x, 20 * s->em);
    if (!beside)
        y += LINE * s->em;
    s->bar[0] = x / s->width, s->bar[1] = 1 - (y + 1.0 * s->em) / s->height, s->bar[2] = w / s->width, s->bar[3] = 0.7 * s->em / s->height;
    kvt_sheet_bar(s);
}

void kvt_sheet_bar(struct kvt_sheet *s)
{
    fprintf(s->f.gp, "set colorbox horizontal user origin %.5f,%.5f size %.5f,%.5f noborder\nset cbtics offset 0,0.6\n", s->bar[0], s->bar[1], s->bar[2], s->bar[3]);
}

/* ---- the page ---- */

int kvt_sheet_begin(struct kvt_sheet *s, const struct kvt_plot *p, const char *style, struct kvt_err *err)
{
    struct kvt_figure_opts o = p->figure;
    o.style = style;
    *s = (struct kvt_sheet){.em = kvt_sheet_em(o.paper), .width = kvt_sheet_width(o.paper)};
    return kvt_figure_begin(&s->f, &o, err);
}

static void grid(struct kvt_sheet *s, const struct kvt_sheet_plan *plan)
{
    double em = s->em, room = s->width - (plan->left + plan->right) * em, gap = plan->gap_x * em;
    s->panels = plan->panels > 0 ? plan->panels : 1;
    s->cols = plan->cols ? plan->cols : (int)((room + gap) / (fmax(plan->narrow, 1) * em + gap));
    s->cols = s->cols < 1 ? 1 : s->cols > s->panels ? s->panels : s->cols;
    s->rows = (s->panels + s->cols - 1) / s->cols;
    if (!plan->cols)
        s->cols = (s->panels + s->rows - 1) / s->rows; /* 3 + 3 rather than 4 + 2 */
    s->panel_w = (room - (s->cols - 1) * gap) / s->cols;
    if (plan->wide > 0 && s->panel_w > plan->wide * em)
        s->panel_w = plan->wide * em;
    s->panel_h = plan->shape > 0 ? s->panel_w * plan->shape : plan->high * em;
    s->step_x = s->panel_w + gap;
    s->step_y = s->panel_h + plan->gap_y * em;
    s->x = plan->left * em;
    if (s->f.o.paper == KVT_PAPER_SCREEN) /* nothing holds a screen's picture to a width that it doesn't fill */
        s->width = fmax(fmin(s->width, s->x + s->cols * s->step_x - gap + plan->right * em), 46 * em);
}

int kvt_sheet_lay_out(struct kvt_sheet *s, const struct kvt_sheet_plan *plan, struct kvt_err *err)
{
    char small[SMALL_CHARS];
    double em = s->em, y = 0.6 * em;
    int cols, rows;
    grid(s, plan);
    double inner = s->width - 2 * em;
    small_print(plan, small);
    legend_size(s, plan, &cols, &rows);
    for (int draw = 0; draw < 2; draw++) { /* once for the height */
        y = 0.6 * em;
        if (draw) {
            kvt_figure_terminal(&s->f, s->width, s->height, em);
            fprintf(s->f.gp, "em = %g # points of plain text\nwidth = %.2f # of the page, points\nheight = %.2f\n", em, s->width, s->height);
            kvt_figure_style(&s->f);
        }
        lines(s, plan->title, TITLE * em, inner, &y, "#000000", true, draw);
        lines(s, plan->note, em, inner, &y, "#444444", false, draw);
        s->head_y = y + 0.3 * em;
        if (plan->n_legend)
            y = s->head_y + (rows * 1.32 + 0.3) * em;
        s->bar_y = plan->n_legend ? y : s->head_y;
        if (plan->bar)
            y = s->bar_y + (kvt_text_points(plan->bar, em) + 13 * em < inner ? 2.3 : 3.6) * em;
        s->y = y + plan->above * em;
        y = s->y + (s->rows - 1) * s->step_y + s->panel_h + plan->below * em;
        lines(s, small, SMALL * em, inner, &y, "#555555", false, draw);
        s->height = y + 0.5 * em;
    }
    put_head(s, plan, rows);
    s->plots = s->panels > 1 || plan->plots;
    if (s->plots)
        fputs("set multiplot\n", s->f.gp);
    return ferror(s->f.gp) ? kvt_fail(err, KVT_EIO, "%s/plot.gp: writing failed (disk full?)", s->f.dir) : 0;
}

bool kvt_sheet_is_left(const struct kvt_sheet *s, int i) { return i % s->cols == 0; }
bool kvt_sheet_is_right(const struct kvt_sheet *s, int i) { return i % s->cols == s->cols - 1 || i == s->panels - 1; }
bool kvt_sheet_is_bottom(const struct kvt_sheet *s, int i) { return i + s->cols >= s->panels; }

void kvt_sheet_place(struct kvt_sheet *s, double x, double y, double w, double h)
{
    fprintf(s->f.gp, "set lmargin at screen %.5f; set rmargin at screen %.5f; set tmargin at screen %.5f; set bmargin at screen %.5f\n", x / s->width,
            (x + w) / s->width, 1 - y / s->height, 1 - (y + h) / s->height);
}

void kvt_sheet_once(struct kvt_sheet *s)
{
    for (int k = 0; k < s->labels; k++)
        fprintf(s->f.gp, "unset label %d\n", 1000 + k);
    fputs("unset key\nunset colorbox\n", s->f.gp);
}

void kvt_sheet_panel(struct kvt_sheet *s, int i, const char *title)
{
    double x = s->x + i % s->cols * s->step_x, y = s->y + i / s->cols * s->step_y;
    if (i == 1)
        kvt_sheet_once(s);
    kvt_sheet_place(s, x, y, s->panel_w, s->panel_h);
    if (!title)
        return;
    fputs("set label 999 ", s->f.gp);
    kvt_gp_sized(&s->f, title, s->em, false);
    fprintf(s->f.gp, " at screen %.5f,%.5f left front\n", x / s->width, 1 - (y - 0.75 * s->em) / s->height);
}

int kvt_sheet_end(struct kvt_sheet *s, int rc, struct kvt_err *err)
{
    if (!rc && s->plots)
        fputs("unset multiplot\n", s->f.gp);
    return kvt_figure_end(&s->f, rc, err);
}

/* ---- matrices ---- */

int kvt_sheet_matrix(struct kvt_sheet *s, int i, const float *v, int rows, int cols, const char *what, struct kvt_err *err)
{
    char name[32];
    snprintf(name, sizeof name, "panel%d.tsv", i);
    FILE *data = kvt_figure_data(&s->f, name, err);
    if (!data)
        return KVT_EIO;
    fputs("# ", data);
    kvt_gp_comment(data, what);
    fprintf(data, "; %d rows of %d\n", rows, cols);
    s->wide = cols == 1 ? 2 : 1, s->tall = rows == 1 ? 2 : 1;
    for (int r = 0; r < rows * s->tall; r++)
        for (int c = 0; c < cols * s->wide; c++) {
            float a = v[(size_t)(r / s->tall) * (size_t)cols + (size_t)(c / s->wide)];
            char end = c == cols * s->wide - 1 ? '\n' : '\t';
            if (isnan(a))
                fprintf(data, "NaN%c", end);
            else
                fprintf(data, "%.4g%c", a, end);
        }
    return kvt_figure_close(data, name, 0, err);
}

void kvt_sheet_image(struct kvt_sheet *s, int i, double x, double dx, double y, double dy, const char *value)
{
    dx /= s->wide, dy /= s->tall;
    fprintf(s->f.gp, "plot 'panel%d.tsv' matrix using (%.9g+%.9g*$1):(%.9g+%.9g*$2):%s with image notitle", i, x + dx / 2, dx, y + dy / 2, dy, value);
}

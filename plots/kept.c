/* Kept maps: which tokens each layer, or each method, holds; at one step, over steps in panels, or as an animation. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "plots/sheet.h"

enum { MAX_PANELS = 48, MAX_FRAMES = 200 };

/* One picture: rows (layers, or branches) by columns of one or more tokens. */
struct map {
    int rows, cols, n;   /* n: tokens */
    float *v;            /* (rows, cols): share of cells that hold a token, mean over the tokens of a column */
    double held;         /* share of all slots */
};

/* Panels are branches at one step, or steps of one branch (layers) or of all (methods). */
struct what { int branch, step; char title[128]; };

/* v (rows from `row` on): a row for each layer, or one for all. */
static void fill(struct map *m, const struct kvt_held *h, int row, bool by_layer)
{
    size_t n = (size_t)h->n, kept = 0, all = (size_t)h->L * (size_t)h->G * n;
    int rows = by_layer ? h->L : 1, cells = h->L * h->G / rows;
    for (size_t k = 0; k < all; k++)
        kept += h->kept[k];
    m->held = all ? (double)kept / (double)all : 0;
    for (int r = 0; r < rows; r++) {
        const uint8_t *from = h->kept + (size_t)r * (size_t)cells * n;
        for (int c = 0; c < m->cols; c++) {
            size_t a = (size_t)((int64_t)c * m->n / m->cols), b = (size_t)((int64_t)(c + 1) * m->n / m->cols);
            int64_t count = 0;
            for (int cell = 0; cell < cells; cell++)
                for (size_t j = a; j < b; j++)
                    count += from[(size_t)cell * n + j];
            m->v[(size_t)(row + r) * (size_t)m->cols + (size_t)c] = (float)((double)count / ((double)cells * (double)(b - a)));
        }
    }
}

/* The maps (count) of all panels: each branch's history is read once. */
static int load(const struct kvt_plot *p, struct map *m, const int *branch, int n, const struct what *w, int count, bool by_layer, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    int32_t *ev = kvt_calloc((size_t)info->L * (size_t)info->G * (size_t)info->n_tok, sizeof *ev);
    int rc = ev ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for the history of a branch");
    for (int i = 0; !rc && i < n; i++) {
        rc = kvt_trace_evicted_at(p->trace, branch[i], ev, err);
        for (int k = 0; !rc && k < count; k++) {
            struct kvt_held h;
            if (by_layer && w[k].branch != i)
                continue;
            rc = kvt_held_make(info->L, info->G, info->n_context, info->n_tok, ev, NULL, w[k].step, &h, err);
            if (!rc)
                fill(&m[k], &h, by_layer ? 0 : i, by_layer);
            kvt_held_free(&h);
        }
    }
    free(ev);
    return rc;
}

static void row_tics(struct kvt_sheet *s, const struct kvt_plot *p, const int *branch, int n, bool labels)
{
    if (p->by == KVT_BY_LAYERS) {
        int every = 1;
        for (; p->info->L * 1.1 * s->em > s->panel_h * every; every = every == 1 ? 2 : every == 2 ? 5 : every * 2)
            ;
        fprintf(s->f.gp, "set ytics %d\n", every);
        return;
    }
    fputs("set ytics (", s->f.gp);
    for (int i = 0; i < n; i++) {
        fputs(i ? ", " : "", s->f.gp);
        kvt_gp_tic(&s->f, labels ? kvt_short_name(p->info, branch, n, i) : "");
        fprintf(s->f.gp, " %d", i);
    }
    fputs(") scale 0\n", s->f.gp);
}

static int choose(const struct kvt_plot *p, const int *branch, int n, bool frames, struct what *w, int *count, struct kvt_err *err)
{
    int steps = p->steps ? p->steps : 1, last = p->info->n_steps;
    if (p->steps && p->by == KVT_BY_LAYERS && n != 1)
        return kvt_fail(err, KVT_EUSAGE, "--steps draws the layers of one branch; name it with --branches 'snapkv 25%%', or add --by methods");
    if (p->steps > 1 && !last)
        return kvt_fail(err, KVT_EINPUT, "this trace has no decode steps; trace again with -n");
    *count = p->steps ? steps : p->by == KVT_BY_METHODS ? 1 : n;
    if (*count > (frames ? MAX_FRAMES : MAX_PANELS))
        return kvt_fail(err, KVT_EUSAGE, "%d panels are more than %d; name fewer with --branches or --steps", *count, MAX_PANELS);
    for (int i = 0; i < *count; i++) {
        const struct kvt_trace_branch *b = &p->info->branch[branch[p->steps ? 0 : i]];
        char budget[32];
        w[i].branch = p->steps || p->by == KVT_BY_METHODS ? 0 : i;
        w[i].step = !p->steps ? p->at : steps == 1 ? 0 : (int)((int64_t)i * last / (steps - 1));
        if (p->steps)
            snprintf(w[i].title, sizeof w[i].title, w[i].step ? "after token %d" : "after the prefill", w[i].step);
        else if (p->by == KVT_BY_LAYERS)
            snprintf(w[i].title, sizeof w[i].title, "%s, asked %s", kvt_short_name(p->info, branch, n, i), kvt_budget_text(b, budget, sizeof budget));
    }
    return 0;
}

static int draw(const struct kvt_plot *p, const int *branch, int n, struct what *w, int count, bool frames, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    bool by_layer = p->by == KVT_BY_LAYERS, sections = kvt_plot_has_sections(info, 0, info->n_context), narrow = p->figure.paper == KVT_PAPER_COLUMN;
    struct kvt_sheet s;
    int rows = by_layer ? info->L : n, cols;
    char title[200], more[200], budget[32], bar[96], when[32] = "at the prefill's end";
    int rc = kvt_sheet_begin(&s, p, "kept", err), most = narrow ? 500 : 1200;
    if (rc)
        return kvt_sheet_end(&s, rc, err);
    double longest = 3;
    for (int i = 0; !by_layer && i < n; i++)
        longest = fmax(longest, kvt_text_points(kvt_short_name(info, branch, n, i), 1) + 1.4);
    cols = info->n_context < most ? info->n_context : most;
    struct map *m = kvt_calloc((size_t)count, sizeof *m);
    float *v = kvt_calloc((size_t)count * (size_t)rows * (size_t)cols + 1, sizeof *v);
    if (!m || !v)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for maps of %d columns", cols);
    for (int i = 0; !rc && i < count; i++)
        m[i] = (struct map){.rows = rows, .cols = cols, .n = info->n_context, .v = v + (size_t)i * (size_t)rows * (size_t)cols};
    if (!rc)
        rc = load(p, m, branch, n, w, count, by_layer, err);
    if (p->at)
        snprintf(when, sizeof when, "after token %d", p->at);
    if (p->steps && by_layer)
        snprintf(title, sizeof title, "What %s holds while decoding", info->branch[branch[0]].name);
    else if (p->steps)
        snprintf(title, sizeof title, "What methods hold at %s, while decoding", p->branches && !p->keep ? "the budgets named" : kvt_budget_text(&info->branch[branch[0]], budget, sizeof budget));
    else
        snprintf(title, sizeof title, "What is held %s", when);
    snprintf(more, sizeof more, cols < info->n_context ? "Shares held are of the context; a column is the mean of up to %d tokens." : "Shares held are of the context.", (info->n_context + cols - 1) / cols);
    snprintf(bar, sizeof bar, "share of the %d %s that hold a token", by_layer ? info->G : info->G * info->L, by_layer ? "kv heads of a layer" : "cells (layer, kv head)");
    struct kvt_sheet_plan plan = {.title = title, .more = more, .info = info, .branch = branch, .n_branches = n, .bar = bar, .panels = frames ? 1 : count, .narrow = p->steps ? 20 : 30,
                                  .high = by_layer ? (info->L < 40 ? 7.2 : 9) : fmax(4, 1.3 * n), .left = by_layer ? 4.4 : longest, .right = 1, .above = 1.8 + sections * 1.3, .below = 3.4,
                                  .gap_x = by_layer ? 1.4 : 1.4, .gap_y = 2.2};
    if (!by_layer && !p->steps)
        plan.above -= 1.6;
    if (!rc)
        rc = kvt_sheet_lay_out(&s, &plan, err);
    FILE *gp = s.f.gp;
    fprintf(gp, "set xrange [0:%d]\nset x2range [0:%d]\nset yrange [%g:-0.5]\n", info->n_context, info->n_context, rows - 0.5);
    for (int i = 0; !rc && i < count; i++) {
        int panel = frames ? 0 : i;
        rc = kvt_sheet_matrix(&s, i, m[i].v, rows, cols, w[i].title[0] ? w[i].title : title, err);
        if (rc)
            break;
        char text[200];
        snprintf(text, sizeof text, by_layer ? "%s%sholds %.1f%%" : "%s", w[i].title, p->steps ? ": " : "; ", 100 * m[i].held);
        kvt_sheet_panel(&s, panel, w[i].title[0] ? text : NULL);
        if (w[i].title[0] && sections)
            fprintf(gp, "set label 999 offset character 0,%s\n", panel < s.cols ? "1.2" : "0");
        fprintf(gp, "set xlabel '%s'\nset format x '%s'\n", kvt_sheet_is_bottom(&s, panel) ? "token" : "", kvt_sheet_is_bottom(&s, panel) ? "%g" : "");
        bool left = kvt_sheet_is_left(&s, panel);
        row_tics(&s, p, branch, n, left);
        fprintf(gp, "set ylabel '%s'\nset format y '%s'\n", by_layer && left ? "layer" : "", left ? "%g" : "");
        kvt_plot_span_tics(&s.f, info, "x2", 0, info->n_context, panel < s.cols ? KVT_TICS_NAMES : KVT_TICS_BORDERS, s.panel_w, 0.8 * s.em);
        kvt_sheet_image(&s, i, 0, (double)info->n_context / cols, -0.5, 1, "3");
        fputc('\n', gp);
    }
    rc = kvt_sheet_end(&s, rc, err);
    free(m);
    free(v);
    return rc;
}

int kvt_plot_kept(const struct kvt_plot *p, struct kvt_err *err)
{
    size_t len = strlen(p->figure.out);
    bool frames = len > 4 && !strcmp(p->figure.out + len - 4, ".gif");
    int *branch = NULL, n = 0, count = 0;
    struct what *w = NULL;
    int rc = p->info->n_context > 0 ? kvt_pick_branches(p->info, p->branches, &branch, &n, err) : kvt_fail(err, KVT_EINPUT, "this prompt has no context that a method may evict from; trace a longer one, or see kvtrace -w");
    if (!rc && (!p->branches || p->keep))
        rc = kvt_pick_budget(p->info, p->keep, branch, &n, err);
    if (!rc && !(w = kvt_calloc((size_t)MAX_FRAMES + (size_t)n, sizeof *w)))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for the panels");
    if (!rc)
        rc = choose(p, branch, n, frames, w, &count, err);
    if (!rc)
        rc = draw(p, branch, n, w, count, frames, err);
    free(w);
    free(branch);
    return rc;
}

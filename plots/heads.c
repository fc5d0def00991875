/* What each head is, beside what methods keep in it: labels of query heads, shares of slots of kv heads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/patterns.h"
#include "base/mem.h"
#include "plots/chart.h"

enum { MAX_PANELS = 24 };

/* The label that a head passes by most; -1: none. */
static int label_of(const struct kvt_head *h)
{
    int best = -1;
    double most = 1;
    for (int k = 0; k < KVT_N_LABELS; k++) {
        double by = kvt_head_score(h, (enum kvt_label)k) / kvt_label_default[k];
        if (by > most)
            most = by, best = k;
    }
    return best;
}

/* matrix.tsv: a row for each query head. count (KVT_N_LABELS) of each. */
static int write_labels(const struct kvt_plot *p, struct kvt_figure *f, int *count, struct kvt_err *err)
{
    struct kvt_head *head = kvt_calloc((size_t)p->info->H, sizeof *head);
    FILE *data = head ? kvt_figure_data(f, "matrix.tsv", err) : NULL;
    int rc = data ? 0 : head ? KVT_EIO : kvt_fail(err, KVT_ENOMEM, "no memory for %d heads", p->info->H);
    if (!rc)
        fputs("# head\tlayer\tlabel\tletter\n", data);
    for (int l = 0; !rc && l < p->info->L; l++) {
        rc = kvt_heads_of(p->trace, l, head, err);
        for (int h = 0; !rc && h < p->info->H; h++) {
            int k = label_of(&head[h]);
            if (k < 0)
                continue;
            count[k]++;
            fprintf(data, "%d\t%d\t%d\t\"%c\"\n", h, l, k, kvt_label_text[k][0] - 'a' + 'A');
        }
    }
    rc = kvt_figure_close(data, "matrix.tsv", rc, err);
    free(head);
    return rc;
}

/* share (L, G): slots kept, % of the context. */
static int kept_of(const struct kvt_plot *p, int branch, float *share, double *most, struct kvt_err *err)
{
    struct kvt_held h;
    size_t cells = (size_t)p->info->L * (size_t)p->info->G;
    int rc = kvt_held_load(p->trace, branch, p->at, NULL, &h, err);
    for (size_t c = 0; !rc && c < cells; c++) {
        int64_t kept = 0;
        for (int j = 0; j < h.n; j++)
            kept += h.kept[c * (size_t)h.n + (size_t)j];
        share[c] = (float)(100.0 * (double)kept / h.n);
        *most = fmax(*most, share[c]);
    }
    kvt_held_free(&h);
    return rc;
}

static void draw_labels(struct kvt_sheet *s, const struct kvt_plot *p)
{
    FILE *gp = s->f.gp;
    double cell = fmin(s->panel_w / p->info->H, s->panel_h / p->info->L);
    kvt_sheet_panel(s, 0, "labels");
    fprintf(gp, "set xrange [-0.5:%g]\nset xlabel 'head'\nset xtics %g\n", p->info->H - 0.5, kvt_plot_step(p->info->H, s->panel_w / (2 * s->em)));
    fputs("plot 'matrix.tsv' using 1:2:($1-0.47):($1+0.47):($2-0.44):($2+0.44):(FILL($3)) with boxxyerror fillstyle solid noborder linecolor rgb variable notitle", gp);
    if (cell >= 0.62 * s->em)
        fprintf(gp, ", \\\n     '' using 1:2:4:(INK_ON($3)) with labels textcolor rgb variable font ',%g' notitle", fmin(0.85 * s->em, 0.95 * cell));
}

int kvt_plot_heads(const struct kvt_plot *p, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    struct kvt_sheet s = {0};
    int *branch = NULL, n = 0, count[KVT_N_LABELS] = {0}, used = 0, of[KVT_N_LABELS];
    char title[160], budget[32], legend[KVT_N_LABELS][48];
    const char *name[KVT_N_LABELS];
    int rc = kvt_chart_pick(p, &branch, &n, true, err);
    if (!rc && n > MAX_PANELS)
        rc = kvt_fail(err, KVT_EINPUT, "%d branches; %d panels are shown: see --keep and --branches", n, MAX_PANELS);
    size_t cells = (size_t)info->L * (size_t)info->G;
    float *share = rc ? NULL : kvt_calloc((size_t)n * cells, sizeof *share);
    double most = 0;
    if (!rc && !share)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", n);
    for (int i = 0; !rc && i < n; i++)
        rc = kept_of(p, branch[i], share + (size_t)i * cells, &most, err);
    most = ceil(most / 10) * 10;
    if (!rc)
        rc = kvt_sheet_begin(&s, p, "heads", err);
    if (!rc)
        rc = write_labels(p, &s.f, count, err);
    for (int k = 0; !rc && k < KVT_N_LABELS; k++)
        if (count[k]) {
            snprintf(legend[used], sizeof legend[used], "%c: %s (%d)", kvt_label_text[k][0] - 'a' + 'A', kvt_label_text[k], count[k]);
            name[used] = legend[used];
            of[used++] = k;
        }
    if (!rc) {
        snprintf(title, sizeof title, "Heads and the slots kept in them, at %s", kvt_chart_budget(p, branch, budget, sizeof budget));
        rc = kvt_sheet_lay_out(&s, &(struct kvt_sheet_plan){.title = title, .note = "labels by the thresholds of kvattn, the one passed by most; a head without one passes none", .info = info, .branch = branch,
                               .n_branches = n, .legend = name, .n_legend = used, .bar = "slots kept, % of the context, linear scale", .panels = n + 1, .narrow = 5.6, .wide = 14, .high = fmin(fmax(14, 0.75 * info->L), 26),
                               .left = 4.4, .right = 1, .above = 1.9, .below = 3.4, .gap_x = 1.6, .gap_y = 4.2}, err);
    }
    for (int i = 0; !rc && i <= n; i++) {
        bool left = kvt_sheet_is_left(&s, i);
        fprintf(s.f.gp, "set ylabel '%s'\nset format y '%s'\nset yrange [%g:-0.5]\nset ytics %g\n", left ? "layer" : "", left ? "%g" : "", info->L - 0.5, kvt_plot_step(info->L, s.panel_h / (2.4 * s.em)));
        if (!i) {
            draw_labels(&s, p);
            for (int k = 0; k < used; k++) {
                fprintf(s.f.gp, ", \\\n     keyentry with boxes fillstyle solid noborder linecolor rgb FILL(%d) title ", of[k]);
                kvt_gp_text(&s.f, legend[k]);
            }
            fputc('\n', s.f.gp);
            continue;
        }
        rc = kvt_sheet_matrix(&s, i, share + (size_t)(i - 1) * cells, info->L, info->G, info->branch[branch[i - 1]].name, err);
        kvt_sheet_panel(&s, i, kvt_short_name(info, branch, n, i - 1));
        fprintf(s.f.gp, "set xrange [-0.5:%g]\nset xlabel '%s'\nset xtics %d\n", info->G - 0.5, kvt_sheet_is_bottom(&s, i) ? "kv head" : "", info->G > 8 ? 5 : 1);
        if (i == 1) {
            kvt_sheet_bar(&s);
            fprintf(s.f.gp, "set cbrange [0:%g]\n", most);
        } else {
            fputs("unset colorbox\n", s.f.gp);
        }
        kvt_sheet_image(&s, i, -0.5, 1, -0.5, 1, "3");
        fputc('\n', s.f.gp);
    }
    free(share);
    if (s.f.dir[0])
        rc = kvt_sheet_end(&s, rc, err);
    free(branch);
    return rc;
}

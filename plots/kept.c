/* Kept maps: for each branch, which tokens each layer holds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "plots/plot.h"

enum { MAX_PANELS = 24, TITLE = 100 /* characters that fit over a panel */ };

static int write_panel(struct kvt_figure *f, int i, const struct kvt_held *h, struct kvt_err *err)
{
    char name[32];
    snprintf(name, sizeof name, "panel%d.bin", i);
    size_t n = (size_t)h->n;
    float *row = kvt_calloc(n, sizeof *row);
    FILE *data = row ? kvt_figure_data(f, name, err) : NULL;
    int rc = data ? 0 : row ? KVT_EIO : kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", h->n);
    for (int l = 0; !rc && l < h->L; l++) {
        for (size_t j = 0; j < n; j++) {
            int kept = 0;
            for (int g = 0; g < h->G; g++)
                kept += h->kept[((size_t)l * (size_t)h->G + (size_t)g) * n + j];
            row[j] = (float)kept / (float)h->G;
        }
        if (fwrite(row, sizeof *row, n, data) != n)
            rc = kvt_fail(err, KVT_EIO, "%s: writing failed (disk full?)", name);
    }
    if (data && fclose(data) && !rc)
        rc = kvt_fail(err, KVT_EIO, "%s: writing failed (disk full?)", name);
    free(row);
    return rc;
}

int kvt_plot_kept(const struct kvt_plot *p, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    struct kvt_figure f = {0};
    int *branch = NULL, n = 0;
    char subject[256], budget[32];
    int rc = kvt_pick_branches(info, p->branches, &branch, &n, err);
    if (!rc && (!p->branches || p->keep))
        rc = kvt_pick_budget(info, p->keep, branch, &n, err);
    if (!rc && n > MAX_PANELS)
        rc = kvt_fail(err, KVT_EUSAGE, "%d branches are more than %d panels; name fewer with --branches", n, MAX_PANELS);
    int cols = n > 8 ? 2 : 1, rows = n ? (n + cols - 1) / cols : 1, high = rows > 6 ? 78 : 92;
    bool names = kvt_plot_has_sections(info, info->n_context);
    int w = cols * 640 + 120, h = rows * (high + 22) + 96;
    if (!rc)
        rc = kvt_figure_begin(&f, &p->figure, w, h, err);
    if (!rc) {
        fprintf(f.gp, "n = %d\nlayers = %d\nheads = %d\nwidth = %d.0\nheight = %d.0\ncols = %d\nrows = %d\nhigh = %d.0\n",
                info->n_context, info->L, info->G, w, h, cols, rows, high);
        kvt_figure_style(&f);
        /* the bar is h - 110 points long, a character of its label 6 */
        fprintf(f.gp, h - 110 > 45 * 6 ? "set cblabel 'share of the %d kv heads that keep the token'\nset label 1 "
                                       : "set cblabel 'share of %d kv heads'\nset label 1 ", info->G);
        char caption[400], when[32] = "at prefill's end";
        if (p->at)
            snprintf(when, sizeof when, "after step %d", p->at);
        snprintf(caption, sizeof caption, "%s, %s. Shares are of the context.",
                 kvt_plot_subject(info, subject, sizeof subject), when);
        kvt_gp_text(f.gp, caption);
        fputs(" at screen 0.012,screen 12.0/height left front\nset multiplot\n", f.gp);
    }
    for (int i = 0; !rc && i < n; i++) {
        const struct kvt_trace_branch *b = &info->branch[branch[i]];
        struct kvt_held held;
        rc = kvt_held_load(p->trace, branch[i], p->at, NULL, &held, err);
        if (!rc)
            rc = write_panel(&f, i, &held, err);
        size_t all = rc ? 0 : (size_t)held.L * (size_t)held.G * (size_t)held.n, kept = 0;
        for (size_t k = 0; k < all; k++)
            kept += held.kept[k];
        kvt_held_free(&held);
        if (rc)
            break;
        char title[TITLE + 1];
        const char *how = strchr(b->canonical, '[');
        int used = snprintf(title, sizeof title, "%s: holds %.1f%%, asked %s   %s", kvt_short_name(info, branch, n, i),
                            100.0 * (double)kept / (double)all, kvt_budget_text(b, budget, sizeof budget), how ? how : "");
        if (used > TITLE)
            memcpy(title + TITLE - 3, "...", 4);
        bool bottom = i + cols >= n;
        fprintf(f.gp, "col = %d\nrow = %d\n@PLACE\n%s\nset label 2 ", i % cols, i / cols, i == n - 1 ? "@COLOURBOX" : "unset colorbox");
        kvt_gp_text(f.gp, title);
        fprintf(f.gp, " at graph 0,graph 1 left offset character 0,%s front\n", names && i < cols ? "1.75" : "0.6");
        fprintf(f.gp, "set xlabel '%s'\nset format x '%s'\nset ylabel '%s'\n", bottom ? "token position" : "", bottom ? "%g" : "",
                i % cols ? "" : "layer");
        if (i < cols)
            kvt_plot_span_tics(f.gp, info, "x2", info->n_context, KVT_TICS_NAMES);
        else if (i == cols)
            kvt_plot_span_tics(f.gp, info, "x2", info->n_context, KVT_TICS_BORDERS);
        fprintf(f.gp, "plot 'panel%d.bin' binary array=(%d,%d) format='%%float' dx=1 dy=1 origin=(0.5,0) with image notitle\n", i,
                info->n_context, info->L);
        if (i == 0)
            fputs("unset label 1\n", f.gp);
    }
    if (!rc)
        fputs("unset multiplot\n", f.gp);
    rc = kvt_figure_end(&f, rc, err);
    free(branch);
    return rc;
}

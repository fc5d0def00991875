/* An UpSet plot (Lex, Gehlenborg et al. 2014): how many slots exactly which methods keep, the largest combinations first. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "plots/chart.h"

enum { SETS_SHOWN = 20, SETS_SHOWN_COLUMN = 12, MOST = 20 /* a count for each of 2^20 combinations */ };

struct combination { uint32_t who; int64_t slots; };

static int larger(const void *a, const void *b)
{
    const struct combination *x = a, *y = b;
    if (x->slots != y->slots)
        return x->slots < y->slots ? 1 : -1;
    return (x->who > y->who) - (x->who < y->who);
}

/* Slots by who keeps them, slots that anybody protects left out; size (n) those of each. */
static int count_sets(const struct kvt_plot *p, const int *branch, int n, struct combination *set, int64_t *size, struct kvt_err *err)
{
    size_t all = (size_t)p->info->L * (size_t)p->info->G * (size_t)p->info->n_context;
    uint32_t *who = kvt_calloc(all, sizeof *who), guarded = UINT32_C(1) << 31;
    int rc = who ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu slots", all);
    for (int i = 0; !rc && i < n; i++) {
        struct kvt_held h;
        rc = kvt_held_load(p->trace, branch[i], p->at, NULL, &h, err);
        for (size_t j = 0; !rc && j < all; j++)
            who[j] |= (uint32_t)h.kept[j] << i | (h.guarded[j] ? guarded : 0);
        kvt_held_free(&h);
    }
    for (size_t j = 0; !rc && j < all; j++)
        if (who[j] && !(who[j] & guarded))
            set[who[j]].slots++;
    for (uint32_t k = 0; !rc && k < UINT32_C(1) << n; k++) {
        set[k].who = k;
        for (int i = 0; i < n; i++)
            size[i] += k >> i & 1 ? set[k].slots : 0;
    }
    free(who);
    return rc;
}

static void write_sets(FILE *bars, FILE *dots, const struct combination *set, int used, int n)
{
    fputs("# combination\tslots\n", bars);
    fputs("# combination\trow\tin it\n", dots);
    for (int c = 0; c < used; c++) {
        fprintf(bars, "%d\t%lld\n", c, (long long)set[c].slots);
        for (int i = 0; i < n; i++)
            fprintf(dots, "%d\t%d\t%d\n", c, i, (int)(set[c].who >> i & 1));
    }
}

static int draw(const struct kvt_plot *p, const int *branch, int n, const struct combination *set, int used, const int64_t *size, struct kvt_err *err)
{
    struct kvt_sheet s;
    char title[200], budget[32], more[160], name[32][120];
    double longest = 0, em = kvt_sheet_em(p->figure.paper);
    int64_t all = 0, shown = 0;
    int rc = kvt_sheet_begin(&s, p, "chart", err), most = p->figure.paper == KVT_PAPER_COLUMN ? SETS_SHOWN_COLUMN : SETS_SHOWN;
    int columns = used < most ? used : most;
    for (int c = 0; c < used; c++) {
        all += set[c].slots;
        shown += c < columns ? set[c].slots : 0;
    }
    for (int i = 0; i < n; i++) {
        snprintf(name[i], sizeof name[i], "%s %.0f%%", kvt_short_name(p->info, branch, n, i), all ? 100.0 * (double)size[i] / (double)all : 0);
        longest = fmax(longest, kvt_text_points(name[i], 1));
    }
    snprintf(title, sizeof title, "Which methods keep a slot together, at %s", kvt_chart_budget(p, branch, budget, sizeof budget));
    snprintf(more, sizeof more, "%d of %d combinations, %.1f%% of the slots. Protected tokens are left out.", columns, used, all ? 100.0 * (double)shown / (double)all : 0);
    double rows = 1.5 * n;
    if (!rc)
        rc = kvt_sheet_lay_out(&s, &(struct kvt_sheet_plan){.title = title, .note = "slots that exactly the marked methods keep; beside a name: its share of all slots that any keeps", .more = more,
                               .info = p->info, .branch = branch, .n_branches = n, .panels = 1, .wide = 2.8 * columns + 2, .high = 15, .left = fmax(longest + 1.8, 5.6), .right = 1, .above = 1,
                               .below = rows + 1.4, .plots = true}, err);
    FILE *bars = rc ? NULL : kvt_figure_data(&s.f, "chart.tsv", err), *dots = bars ? kvt_figure_data(&s.f, "matrix.tsv", err) : NULL;
    if (!rc && !dots)
        rc = KVT_EIO;
    if (!rc)
        write_sets(bars, dots, set, columns, n);
    rc = kvt_figure_close(bars, "chart.tsv", rc, err);
    rc = kvt_figure_close(dots, "matrix.tsv", rc, err);
    if (!rc) {
        FILE *gp = s.f.gp;
        kvt_sheet_panel(&s, 0, NULL);
        fprintf(gp, "set xrange [-0.6:%g]\nset yrange [0:*]\nunset xtics\nset ylabel 'slots'\nset border 2\n", columns - 0.4);
        fprintf(gp, "plot 'chart.tsv' using 1:2 with boxes linetype 1 notitle%s\n", s.panel_w / columns > 2.6 * em ? ", '' using 1:2:(sprintf('%.0f', $2)) with labels font sprintf(',%g', 0.75 * em) offset 0,0.45 notitle" : "");
        kvt_sheet_once(&s);
        kvt_sheet_place(&s, s.x, s.y + s.panel_h + 0.6 * em, s.panel_w, rows * em);
        fprintf(gp, "set border 0\nunset grid\nset ylabel ''\nset yrange [%g:-0.5]\nset ytics scale 0 (", n - 0.5);
        for (int i = 0; i < n; i++) {
            fputs(i ? ", " : "", gp);
            kvt_gp_tic(&s.f, name[i]);
            fprintf(gp, " %d", i);
        }
        fputs(")\n", gp);
        for (int c = 0; c < columns; c++) { /* from the first to the last that is in it */
            int low = -1, high = -1;
            for (int i = 0; i < n; i++)
                if (set[c].who >> i & 1)
                    low = low < 0 ? i : low, high = i;
            if (high > low)
                fprintf(gp, "set arrow from %d,%d to %d,%d nohead linewidth 2 linecolor '#0072B2' front\n", c, low, c, high);
        }
        fputs("plot 'matrix.tsv' using 1:2 with points pointtype 7 pointsize em / 13.0 * mark linecolor '#dddddd' notitle, \\\n"
              "     '' using ($3 > 0 ? $1 : NaN):2 with points pointtype 7 pointsize em / 13.0 * mark linecolor '#0072B2' notitle\n", gp);
    }
    return kvt_sheet_end(&s, rc, err);
}

int kvt_plot_sets(const struct kvt_plot *p, struct kvt_err *err)
{
    int *branch = NULL, n = 0, used = 0;
    int64_t size[MOST] = {0};
    struct combination *set = NULL;
    int rc = kvt_chart_pick(p, &branch, &n, true, err);
    if (!rc && n > MOST)
        rc = kvt_fail(err, KVT_EINPUT, "%d branches; combinations of %d are shown: see --keep and --branches", n, MOST);
    if (!rc && !(set = kvt_calloc((size_t)1 << n, sizeof *set)))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for the combinations of %d methods", n);
    if (!rc)
        rc = count_sets(p, branch, n, set, size, err);
    if (!rc) {
        qsort(set, (size_t)1 << n, sizeof *set, larger);
        while (used < 1 << n && set[used].slots)
            used++;
        rc = used ? draw(p, branch, n, set, used, size, err) : kvt_fail(err, KVT_EINPUT, "these methods keep nothing but what they protect");
    }
    free(set);
    free(branch);
    return rc;
}

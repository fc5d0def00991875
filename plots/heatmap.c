/* Attention heatmaps: pooled maps on one logarithmic colour scale. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/mem.h"
#include "base/stats.h"
#include "plots/plot.h"

enum { MAX_PANELS = 12, PICKED = 5, DECADES_SHOWN = 10000 };

struct panels {
    int n;
    float *map[MAX_PANELS];      /* (R, C) */
    char title[MAX_PANELS][80];
};

static float *add_panel(struct panels *ps, size_t size)
{
    float *map = ps->n < MAX_PANELS ? kvt_calloc(size, sizeof *map) : NULL;
    if (map)
        ps->map[ps->n++] = map;
    return map;
}

/* The mean over all heads, and the heads that tell something. */
static int panels_chosen(const struct kvt_plot *p, struct panels *ps, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    size_t size = (size_t)info->map_r * (size_t)info->map_c;
    struct kvt_pick pick[PICKED];
    int n = 0;
    float *mean = add_panel(ps, size);
    if (!mean)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the panels");
    int rc = kvt_pick_heads(p->trace, pick, PICKED, &n, mean, err);
    snprintf(ps->title[0], sizeof ps->title[0], "mean of %d heads", info->L * info->H);
    for (int i = 0; !rc && i < n; i++) {
        float *map = add_panel(ps, size);
        if (!map)
            return kvt_fail(err, KVT_ENOMEM, "no memory for the panels");
        snprintf(ps->title[ps->n - 1], sizeof ps->title[0], "layer %d, head %d: %s", pick[i].layer, pick[i].head, pick[i].what);
        rc = kvt_trace_map(p->trace, p->max ? "max" : "mean", pick[i].layer, pick[i].head, map, err);
    }
    return rc;
}

/* One panel for each layer and head named; without --head the mean over the heads of each layer named. */
static int panels_named(const struct kvt_plot *p, struct panels *ps, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    size_t size = (size_t)info->map_r * (size_t)info->map_c;
    uint8_t *layer = kvt_calloc((size_t)info->L, 1), *head = kvt_calloc((size_t)info->H, 1);
    float *one = kvt_calloc(size, sizeof *one);
    int rc = layer && head && one ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for the panels");
    if (!rc)
        rc = kvt_parse_mask(p->layer ? p->layer : "all", info->L, layer, "--layer", err);
    if (!rc)
        rc = kvt_parse_mask(p->head ? p->head : "all", info->H, head, "--head", err);
    for (int l = 0; !rc && l < info->L; l++)
        for (int h = 0; !rc && layer[l] && h < info->H; h++) {
            if (!head[h])
                continue;
            bool first = !p->head ? h == 0 : true;
            float *map = first ? add_panel(ps, size) : ps->map[ps->n - 1];
            if (!map) {
                rc = kvt_fail(err, KVT_EUSAGE, "more than %d panels; name fewer with --layer and --head", MAX_PANELS);
                break;
            }
            if (p->head)
                snprintf(ps->title[ps->n - 1], sizeof ps->title[0], "layer %d, head %d", l, h);
            else
                snprintf(ps->title[ps->n - 1], sizeof ps->title[0], "layer %d, mean of %d heads", l, info->H);
            rc = kvt_trace_map(p->trace, p->max ? "max" : "mean", l, h, one, err);
            for (size_t k = 0; !rc && k < size; k++)
                map[k] += p->head ? one[k] : one[k] / (float)info->H;
        }
    free(layer);
    free(head);
    free(one);
    return rc;
}

/* The colour range over all panels: up to the 99.9th percentile, from the 5th or four decades below; the first key bin
 * left out unless asked. */
static int colour_range(const struct kvt_plot *p, const struct panels *ps, double *low, double *high, struct kvt_err *err)
{
    size_t R = (size_t)p->info->map_r, C = (size_t)p->info->map_c;
    double *v = kvt_calloc((size_t)ps->n * R * C, sizeof *v);
    int n = 0;
    if (!v)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the colour range");
    for (int i = 0; i < ps->n; i++)
        for (size_t r = 0; r < R; r++)
            for (size_t c = p->sinks ? 0 : 1; c < C; c++) {
                float a = ps->map[i][r * C + c];
                if (isfinite(a) && a > 0)
                    v[n++] = a;
            }
    if (n) {
        *low = kvt_quantile(v, n, 0.05);
        *high = v[(int)(0.999 * (n - 1))]; /* sorted by kvt_quantile */
        if (*low < *high / DECADES_SHOWN)
            *low = *high / DECADES_SHOWN; /* a sink head's rest lies decades below all that matters */
    }
    free(v);
    if (!n || !(*high > *low))
        return kvt_fail(err, KVT_EINPUT, "the maps hold no attention to show");
    return 0;
}

/* Squares in a grid that fits a page: widths in points. */
static void grid_of(int n, int *cols, int *rows)
{
    *cols = n <= 3 ? n : n <= 4 ? 2 : n <= 9 ? 3 : 4;
    *rows = (n + *cols - 1) / *cols;
}

static void panel_script(const struct kvt_plot *p, FILE *gp, const struct panels *ps, int i, int cols)
{
    const struct kvt_trace_info *info = p->info;
    int n = info->map_tok;
    bool left = i % cols == 0, right = i % cols == cols - 1 || i == ps->n - 1, bottom = i + cols >= ps->n;
    fputs("set title ", gp);
    kvt_gp_text(gp, ps->title[i]);
    fprintf(gp, "\nset xlabel '%s'\nset format x '%s'\nset ylabel '%s'\nset format y '%s'\n",
            bottom ? "key position (token)" : "", bottom ? "%g" : "", left ? "query position (token)" : "", left ? "%g" : "");
    kvt_plot_span_tics(gp, info, "y2", n, right ? KVT_TICS_SHORT : KVT_TICS_BORDERS);
    /* pixel centres: bin c covers tokens [c n / C, (c + 1) n / C) */
    fprintf(gp, "plot 'panel%d.bin' binary array=(%d,%d) format='%%float' dx=%.9g dy=%.9g origin=(%.9g,%.9g) with image notitle\n",
            i, info->map_c, info->map_r, (double)n / info->map_c, (double)n / info->map_r, 0.5 * n / info->map_c,
            0.5 * n / info->map_r);
}

/* Two lines at the foot: what is seen, and what the colours leave out. */
static void put_captions(const struct kvt_plot *p, FILE *gp)
{
    const struct kvt_trace_info *info = p->info;
    char text[400];
    int binned = (info->map_tok + info->map_c - 1) / info->map_c;
    const char *marks = kvt_plot_has_sections(info, info->map_tok) ? " 1, 2 ...: shots, Q: question." : "";
    fputs("set label 1 ", gp);
    kvt_gp_text(gp, kvt_plot_subject(info, text, sizeof text));
    fputs(" at screen 0.012,screen 26.0/height left front\nset label 2 ", gp);
    if (p->sinks)
        snprintf(text, sizeof text, "A bin is up to %d x %d tokens.%s", binned, binned, marks);
    else
        snprintf(text, sizeof text, "Sinks (the first key bin, %d token%s) are outside the colour range.%s", binned,
                 binned > 1 ? "s" : "", marks);
    kvt_gp_text(gp, text);
    fputs(" at screen 0.012,screen 11.0/height left front\n", gp);
}

int kvt_plot_heatmap(const struct kvt_plot *p, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    struct panels ps = {0};
    struct kvt_figure f = {0};
    double low = 0, high = 1;
    if (!info->map_r)
        return kvt_fail(err, KVT_EINPUT, "this trace has no pooled maps; trace again with --maps pooled");
    int rc = p->layer || p->head ? panels_named(p, &ps, err) : panels_chosen(p, &ps, err);
    if (!rc)
        rc = colour_range(p, &ps, &low, &high, err);
    int cols, rows;
    grid_of(ps.n ? ps.n : 1, &cols, &rows);
    int side = ps.n == 1 ? 430 : ps.n <= 4 ? 300 : 250;
    int w = cols * (side + 16) + 164, h = rows * (side + 36) + 92;
    if (!rc)
        rc = kvt_figure_begin(&f, &p->figure, w, h, err);
    if (!rc) {
        fprintf(f.gp, "n = %d\nlow = %.6g\nhigh = %.6g\nwidth = %d.0\nheight = %d.0\ncols = %d\nrows = %d\nside = %d.0\n", info->map_tok,
                low, high, w, h, cols, rows, side);
        kvt_figure_style(&f);
        kvt_plot_span_tics(f.gp, info, "x2", info->map_tok, ps.n == 1 ? KVT_TICS_NAMES : KVT_TICS_SHORT);
        fprintf(f.gp, "set cblabel '%s'\n", p->max ? "largest attention weight in the bin" : "attention weight, mean of the bin");
        put_captions(p, f.gp);
        fputs("set multiplot\n", f.gp);
    }
    for (int i = 0; !rc && i < ps.n; i++) {
        char name[32];
        snprintf(name, sizeof name, "panel%d.bin", i);
        FILE *data = kvt_figure_data(&f, name, err);
        size_t size = (size_t)info->map_r * (size_t)info->map_c;
        if (!data || fwrite(ps.map[i], sizeof(float), size, data) != size)
            rc = data ? kvt_fail(err, KVT_EIO, "%s: writing failed (disk full?)", name) : KVT_EIO;
        if (data && fclose(data) && !rc)
            rc = kvt_fail(err, KVT_EIO, "%s: writing failed (disk full?)", name);
        fprintf(f.gp, "col = %d\nrow = %d\n@PLACE\n%s\n", i % cols, i / cols,
                i == ps.n - 1 ? "@COLOURBOX" : "unset colorbox");
        panel_script(p, f.gp, &ps, i, cols);
        if (i == 0)
            fputs("unset label 1\nunset label 2\n", f.gp);
    }
    if (!rc)
        fputs("unset multiplot\n", f.gp);
    rc = kvt_figure_end(&f, rc, err);
    for (int i = 0; i < ps.n; i++)
        free(ps.map[i]);
    return rc;
}

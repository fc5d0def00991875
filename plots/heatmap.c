/* Attention heatmaps: pooled or full maps on one colour scale; heads in panels, or all of the model's on a wall. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/mem.h"
#include "base/stats.h"
#include "plots/sheet.h"

enum { MAX_PANELS = 64, PICKED = 5, DECADES_SHOWN = 10000, FULL_BINS = 700, WALL_PIXELS = 700, FEW_TOKENS = 80 };

struct panels {
    int n, R, C;                 /* bins of each map */
    int from, to;                /* tokens that they cover */
    int in_bin;                  /* tokens of a bin, at most */
    float *map[MAX_PANELS];      /* (R, C) */
    char title[MAX_PANELS][80];
};

static float *add_panel(struct panels *ps)
{
    float *map = ps->n < MAX_PANELS ? kvt_calloc((size_t)ps->R * (size_t)ps->C, sizeof *map) : NULL;
    if (map)
        ps->map[ps->n++] = map;
    return map;
}

/* A full map, pooled to R x C bins of its causal pairs, in strips of rows. */
static int pool_full(const struct kvt_plot *p, const struct panels *ps, int layer, int head, float *out, struct kvt_err *err)
{
    int n = ps->to - ps->from, rc = 0;
    int32_t *count = kvt_calloc((size_t)ps->C, sizeof *count);
    float *strip = kvt_calloc((size_t)n * (size_t)((n + ps->R - 1) / ps->R), sizeof *strip);
    if (!count || !strip)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for a map of %d tokens", n);
    for (int r = 0; !rc && r < ps->R; r++) {
        int first = (int)((int64_t)r * n / ps->R), rows = (int)((int64_t)(r + 1) * n / ps->R) - first;
        float *to = out + (size_t)r * (size_t)ps->C;
        rc = kvt_trace_full_part(p->trace, layer, head, ps->from + first, rows, ps->from, n, strip, err);
        memset(count, 0, (size_t)ps->C * sizeof *count);
        for (int c = 0; c < ps->C; c++)
            to[c] = 0;
        for (int i = 0; !rc && i < rows; i++)
            for (int j = 0; j <= first + i && j < n; j++) {
                int c = (int)((int64_t)j * ps->C / n);
                float a = strip[(size_t)i * (size_t)n + (size_t)j];
                to[c] = p->max ? fmaxf(to[c], a) : to[c] + a;
                count[c]++;
            }
        for (int c = 0; c < ps->C; c++)
            to[c] = !count[c] ? NAN : p->max ? to[c] : to[c] / (float)count[c];
    }
    free(count);
    free(strip);
    return rc;
}

static int load(const struct kvt_plot *p, const struct panels *ps, int layer, int head, float *out, struct kvt_err *err)
{
    return p->full ? pool_full(p, ps, layer, head, out, err) : kvt_trace_map(p->trace, p->max ? "max" : "mean", layer, head, out, err);
}

/* What maps there are, and which tokens are asked for. */
static int choose_tokens(const struct kvt_plot *p, struct panels *ps, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    ps->from = 0, ps->to = p->full ? info->n_prompt : info->map_tok;
    if (!p->full && !info->map_r)
        return kvt_fail(err, KVT_EINPUT, "this trace has no pooled maps; trace again with --maps pooled%s", info->has_full ? ", or draw --full ones" : "");
    if (p->full && !info->has_full)
        return kvt_fail(err, KVT_EINPUT, "this trace has no full maps; trace again with --maps full (and --layers, --heads)");
    if (p->tokens) {
        uint8_t *mask = kvt_calloc((size_t)ps->to + 1, 1);
        int rc = !p->full ? kvt_fail(err, KVT_EUSAGE, "--tokens looks into full maps; give --full too") : mask ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", ps->to);
        if (!rc)
            rc = kvt_parse_mask(p->tokens, ps->to, mask, "--tokens", err);
        int first = -1, last = -1;
        for (int j = 0; !rc && j < ps->to; j++)
            if (mask[j])
                first = first < 0 ? j : first, last = j;
        free(mask);
        if (rc)
            return rc;
        ps->from = first, ps->to = last + 1;
    }
    int n = ps->to - ps->from;
    ps->R = ps->C = n < FULL_BINS ? n : FULL_BINS;
    if (!p->full)
        ps->R = info->map_r, ps->C = info->map_c;
    ps->in_bin = (n + ps->C - 1) / ps->C;
    return 0;
}

/* The mean over all heads, and the heads that tell something. */
static int panels_chosen(const struct kvt_plot *p, struct panels *ps, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    struct kvt_pick pick[PICKED];
    int n = 0;
    float *mean = add_panel(ps);
    if (!mean)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the panels");
    int rc = kvt_pick_heads(p->trace, pick, PICKED, &n, mean, err);
    snprintf(ps->title[0], sizeof ps->title[0], "mean of %d heads", info->L * info->H);
    for (int i = 0; !rc && i < n; i++) {
        float *map = add_panel(ps);
        if (!map)
            return kvt_fail(err, KVT_ENOMEM, "no memory for the panels");
        snprintf(ps->title[ps->n - 1], sizeof ps->title[0], p->figure.paper == KVT_PAPER_COLUMN ? "L%d H%d: %s" : "layer %d, head %d: %s", pick[i].layer, pick[i].head, pick[i].what);
        rc = load(p, ps, pick[i].layer, pick[i].head, map, err);
    }
    return rc;
}

/* One panel for each layer and head named; without --head the mean over the heads of each layer named. */
static int panels_named(const struct kvt_plot *p, struct panels *ps, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    size_t size = (size_t)ps->R * (size_t)ps->C;
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
            float *map = p->head || h == 0 ? add_panel(ps) : ps->map[ps->n - 1];
            if (!map) {
                rc = kvt_fail(err, KVT_EUSAGE, "more than %d panels; name fewer with --layer and --head, or see --wall", MAX_PANELS);
                break;
            }
            char *title = ps->title[ps->n - 1];
            if (p->head)
                snprintf(title, sizeof ps->title[0], "layer %d, head %d", l, h);
            else
                snprintf(title, sizeof ps->title[0], "layer %d, mean of %d heads", l, info->H);
            rc = load(p, ps, l, h, one, err);
            for (size_t k = 0; !rc && k < size; k++)
                map[k] += p->head ? one[k] : one[k] / (float)info->H;
        }
    free(layer);
    free(head);
    free(one);
    return rc;
}

/* The colour range of maps (n, R, C) of any size: up to the 99.9th percentile, from the 5th or four decades below; the first
 * key bin of each row of `width` left out unless asked. */
static int colour_range(bool sinks, float *const *map, int n, size_t size, size_t width, double *low, double *high, struct kvt_err *err)
{
    double *v = kvt_calloc((size_t)n * size + 1, sizeof *v);
    int count = 0;
    if (!v)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the colour range");
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < size; k++)
            if ((sinks || k % width) && isfinite(map[i][k]) && map[i][k] > 0)
                v[count++] = map[i][k];
    if (count) {
        *low = kvt_quantile(v, count, 0.05);
        *high = v[(int)(0.999 * (count - 1))]; /* sorted by kvt_quantile */
        if (*low < *high / DECADES_SHOWN)
            *low = *high / DECADES_SHOWN; /* a sink head's rest lies decades below all that matters */
    }
    free(v);
    if (!count || !(*high > *low))
        return kvt_fail(err, KVT_EINPUT, "the maps hold no attention to show");
    return 0;
}

static void caption(const struct kvt_plot *p, const struct panels *ps, bool marks, char *text, size_t cap)
{
    int n = snprintf(text, cap, p->full ? "Full maps" : "Pooled maps");
    if (ps->in_bin > 1)
        n += snprintf(text + n, cap - (size_t)n, "; a bin is up to %d x %d tokens, its %s", ps->in_bin, ps->in_bin, p->max ? "largest" : "mean");
    if (p->tokens)
        n += snprintf(text + n, cap - (size_t)n, "; tokens %d to %d", ps->from, ps->to - 1);
    if (!p->sinks && !ps->from)
        n += snprintf(text + n, cap - (size_t)n, ps->in_bin > 1 ? "; sinks (the first %d keys) are outside the colour range" : "; the first key, a sink, is outside the colour range", ps->in_bin);
    snprintf(text + n, cap - (size_t)n, ".%s", marks ? " 1, 2 ...: shots, Q: question." : "");
}

/* What can be seen of a token. */
static const char *visible(const char *text, bool latex)
{
    if (text[strspn(text, " ")] == '\n')
        return latex ? "\\n" : "\xe2\x86\xb5"; /* a return sign */
    return text[0] && !text[strspn(text, " ")] ? latex ? "_" : "\xe2\x90\xa3" : text; /* an open box */
}

static void token_tics(struct kvt_sheet *s, const struct kvt_plot *p, const struct panels *ps, const char *axis, double size, bool labels)
{
    fprintf(s->f.gp, "set %stics (", axis);
    for (int j = ps->from; j < ps->to; j++) {
        fputs(j > ps->from ? ", " : "", s->f.gp);
        kvt_gp_tic(&s->f, labels ? visible(p->info->token_text[j], s->f.latex) : "");
        fprintf(s->f.gp, " %g", j + 0.5);
    }
    fprintf(s->f.gp, ")%s font ',%g'\n", axis[0] == 'x' ? " rotate by -90 left" : "", size);
}

static void panel_script(const struct kvt_plot *p, struct kvt_sheet *s, const struct panels *ps, int i, bool tokens)
{
    FILE *gp = s->f.gp;
    int n = ps->to - ps->from;
    bool left = kvt_sheet_is_left(s, i), right = kvt_sheet_is_right(s, i), bottom = kvt_sheet_is_bottom(s, i), top = i < s->cols;
    enum kvt_tics names = ps->n == 1 ? KVT_TICS_NAMES : KVT_TICS_SHORT;
    double size = 0.8 * s->em;
    if (tokens && (bottom || left)) {
        token_tics(s, p, ps, "x", fmin(0.9 * s->em, s->panel_w / n), bottom);
        token_tics(s, p, ps, "y", fmin(0.9 * s->em, s->panel_w / n), left);
    } else if (!tokens) {
        fprintf(gp, "set xlabel '%s'\nset format x '%s'\nset ylabel '%s'\nset format y '%s'\n", bottom ? "key (token)" : "", bottom ? "%g" : "",
                left ? "query (token)" : "", left ? "%g" : "");
    }
    kvt_plot_span_tics(&s->f, p->info, "x2", ps->from, ps->to, top ? names : KVT_TICS_BORDERS, s->panel_w, size);
    kvt_plot_span_tics(&s->f, p->info, "y2", ps->from, ps->to, right ? names : KVT_TICS_BORDERS, s->panel_h, size);
    if (ps->n == 1 && kvt_plot_has_sections(p->info, ps->from, ps->to))
        fputs("set y2tics rotate by -90\n", gp);
    kvt_sheet_image(s, i, ps->from, (double)n / ps->C, ps->from, (double)n / ps->R, "(COLOUR_OF($3))");
    fputc('\n', gp);
}

static int draw_panels(const struct kvt_plot *p, struct panels *ps, struct kvt_err *err)
{
    struct kvt_sheet s = {0};
    char bar[160], more[400], title[120];
    double low = 0, high = 1;
    int n = ps->to - ps->from, rc = colour_range(p->sinks || ps->from, ps->map, ps->n, (size_t)ps->R * (size_t)ps->C, (size_t)ps->C, &low, &high, err);
    if (!rc)
        rc = kvt_sheet_begin(&s, p, "heatmap", err);
    if (rc)
        return ps->n ? kvt_sheet_end(&s, rc, err) : rc;
    bool marks = kvt_plot_has_sections(p->info, ps->from, ps->to), one = ps->n == 1, many = ps->n > 9;
    double side = kvt_sheet_width(p->figure.paper) / kvt_sheet_em(p->figure.paper) - 9;
    bool tokens = ps->in_bin == 1 && ps->R == n && ps->C == n && one && n <= FEW_TOKENS && n * 0.75 < (side < 44 ? side : 44);
    double longest = 0;
    for (int j = ps->from; tokens && j < ps->to; j++)
        longest = fmax(longest, kvt_text_points(p->info->token_text[j], 0.9));
    snprintf(bar, sizeof bar, "attention weight%s, %s", ps->in_bin < 2 ? "" : p->max ? ", largest of the bin" : ", mean of the bin", kvt_plot_scale_text((enum kvt_scale)p->scale));
    snprintf(title, sizeof title, one ? "Attention by query and key: %s" : "Attention by query and key%s", one ? ps->title[0] : "");
    caption(p, ps, marks, more, sizeof more);
    rc = kvt_sheet_lay_out(&s, &(struct kvt_sheet_plan){.title = title, .info = p->info, .more = more, .bar = bar, .panels = ps->n, .narrow = many ? 8 : 11, .wide = 44,
                           .shape = 1, .left = tokens ? longest + 1.2 : 5.6, .right = 2.4, .above = (one ? 0.6 : 1.8) + (marks ? 1.2 : 0), .below = tokens ? longest + 1.2 : 3.6,
                           .gap_x = 1.6, .gap_y = 2.2}, err);
    fprintf(s.f.gp, "set xrange [%d:%d]\nset yrange [%d:%d]\nset x2range [%d:%d]\nset y2range [%d:%d]\n", ps->from, ps->to, ps->to, ps->from, ps->from, ps->to, ps->to, ps->from);
    kvt_plot_scale(s.f.gp, (enum kvt_scale)p->scale, low, high);
    if (!tokens) /* at most so many numbers along a side */
        fprintf(s.f.gp, "set xtics %g\nset ytics %g\n", kvt_plot_step(n, s.panel_w / (4 * s.em)), kvt_plot_step(n, s.panel_h / (3 * s.em)));
    for (int i = 0; !rc && i < ps->n; i++) {
        rc = kvt_sheet_matrix(&s, i, ps->map[i], ps->R, ps->C, ps->title[i], err);
        kvt_sheet_panel(&s, i, one ? NULL : ps->title[i]);
        if (!rc && !one && marks && i < s.cols) /* the title stands above the names of spans */
            fputs("set label 999 offset character 0,1.1\n", s.f.gp);
        else if (!one && i == s.cols)
            fputs("set label 999 offset character 0,0\n", s.f.gp);
        if (!rc)
            panel_script(p, &s, ps, i, tokens);
    }
    return kvt_sheet_end(&s, rc, err);
}

/* ---- the wall ---- */

/* Every head as k x k pixels; layers along the longer side. */
static int draw_wall(const struct kvt_plot *p, const struct panels *ps, struct kvt_err *err)
{
    int L = p->info->L, H = p->info->H, across = L >= H ? L : H, down = L >= H ? H : L, k = WALL_PIXELS / across, rc;
    k = k < 6 ? 6 : k > 32 ? 32 : k;
    k = k > ps->C ? ps->C : k;
    size_t width = (size_t)across * (size_t)k, size = width * (size_t)down * (size_t)k;
    float *wall = kvt_calloc(size, sizeof *wall), *one = kvt_calloc((size_t)ps->R * (size_t)ps->C, sizeof *one);
    struct kvt_sheet s = {0};
    double low = 0, high = 1;
    char bar[160], more[400], title[120];
    rc = wall && one ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for the wall");
    for (size_t i = 0; !rc && i < size; i++)
        wall[i] = NAN;
    for (int l = 0; !rc && l < L; l++)
        for (int h = 0; !rc && h < H; h++) {
            rc = load(p, ps, l, h, one, err);
            size_t x = (size_t)(L >= H ? l : h) * (size_t)k, y = (size_t)(L >= H ? h : l) * (size_t)k;
            for (int r = 0; !rc && r < k; r++)
                for (int c = 0; c < k; c++) {
                    double sum = 0, most = -INFINITY;
                    int count = 0;
                    for (int i = r * ps->R / k; i < (r + 1) * ps->R / k; i++)
                        for (int j = c * ps->C / k; j < (c + 1) * ps->C / k; j++) {
                            float a = one[(size_t)i * (size_t)ps->C + (size_t)j];
                            if (isfinite(a))
                                sum += a, count++, most = fmax(most, a);
                        }
                    if (count)
                        wall[(y + (size_t)r) * width + x + (size_t)c] = (float)(p->max ? most : sum / count);
                }
        }
    if (!rc)
        rc = colour_range(p->sinks, (float *[]){wall}, 1, size, (size_t)k, &low, &high, err);
    if (!rc)
        rc = kvt_sheet_begin(&s, p, "heatmap", err);
    if (!rc) {
        caption(p, &(struct panels){.from = 0, .to = ps->to, .in_bin = (ps->to + k - 1) / k}, false, more, sizeof more);
        snprintf(bar, sizeof bar, "attention weight, %s of the bin, %s", p->max ? "largest" : "mean", kvt_plot_scale_text((enum kvt_scale)p->scale));
        snprintf(title, sizeof title, "Attention of all %d heads", L * H);
        rc = kvt_sheet_lay_out(&s, &(struct kvt_sheet_plan){.title = title, .note = "each square is a head: queries down, keys to the right", .info = p->info, .more = more, .bar = bar,
                               .panels = 1, .shape = (double)down / across, .left = 4, .right = 1, .above = 0.6, .below = 3.4}, err);
        rc = rc ? rc : kvt_sheet_matrix(&s, 0, wall, down * k, across * k, "heads side by side", err);
    }
    if (!rc) {
        FILE *gp = s.f.gp;
        kvt_plot_scale(gp, (enum kvt_scale)p->scale, low, high);
        kvt_sheet_panel(&s, 0, NULL);
        fprintf(gp, "set xrange [-0.5:%g]\nset yrange [%g:-0.5]\nset xlabel '%s'\nset ylabel '%s'\nunset x2tics\nunset y2tics\nset xtics %d\nset ytics %d\n", across - 0.5, down - 0.5, L >= H ? "layer" : "head",
                L >= H ? "head" : "layer", across * 2.2 * s.em > s.panel_w ? 5 : 1, down * 1.4 * s.em > s.panel_h ? 5 : 1);
        for (int i = 1; i < across; i++)
            fprintf(gp, "set arrow from %g,-0.5 to %g,%g nohead linestyle 3 front\n", i - 0.5, i - 0.5, down - 0.5);
        for (int i = 1; i < down; i++)
            fprintf(gp, "set arrow from -0.5,%g to %g,%g nohead linestyle 3 front\n", i - 0.5, across - 0.5, i - 0.5);
        kvt_sheet_image(&s, 0, -0.5, 1.0 / k, -0.5, 1.0 / k, "(COLOUR_OF($3))");
        fputc('\n', gp);
    }
    if (s.f.dir[0])
        rc = kvt_sheet_end(&s, rc, err);
    free(wall);
    free(one);
    return rc;
}

int kvt_plot_heatmap(const struct kvt_plot *p, struct kvt_err *err)
{
    struct panels ps = {0};
    struct kvt_plot with = *p;
    if (p->full && !p->wall && !p->layer && !p->head)
        with.layer = "0", with.head = "0";
    int rc = choose_tokens(p, &ps, err);
    if (!rc && p->wall)
        return draw_wall(p, &ps, err);
    if (!rc)
        rc = with.layer || with.head ? panels_named(&with, &ps, err) : panels_chosen(p, &ps, err);
    if (!rc)
        rc = draw_panels(p, &ps, err);
    for (int i = 0; i < ps.n; i++)
        free(ps.map[i]);
    return rc;
}

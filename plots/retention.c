/* What is kept and where: by depth, over steps, in which combination of methods; asked against effective budgets. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "plots/chart.h"

enum { DEPTH_BINS = 50, SETS_SHOWN = 16 };

/* ---- depth ---- */

int kvt_plot_depth(const struct kvt_plot *p, struct kvt_err *err)
{
    int *branch = NULL, n = 0;
    char title[200], budget[32];
    struct kvt_chart c = {0};
    double *share = kvt_calloc((size_t)p->info->n_context, sizeof *share);
    int rc = share ? kvt_chart_pick(p, &branch, &n, true, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", p->info->n_context);
    if (!rc) {
        snprintf(title, sizeof title, "What is kept at %s, by depth", kvt_chart_budget(p, branch, budget, sizeof budget));
        rc = kvt_chart_begin(&c, p, KVT_SERIES_LINE, &(struct kvt_chart_text){title, "mean over layers and kv heads", "place in the context, %", "tokens kept, %",
                             "set xrange [0:100]\nset yrange [0:100]"}, err);
    }
    for (int i = 0; !rc && i < n; i++) {
        struct kvt_held h;
        rc = kvt_held_load(p->trace, branch[i], p->at, NULL, &h, err);
        if (rc)
            break;
        kvt_held_share(&h, share);
        kvt_held_free(&h);
        int bins = p->info->n_context < DEPTH_BINS ? p->info->n_context : DEPTH_BINS;
        kvt_chart_series(&c, kvt_short_name(p->info, branch, n, i));
        for (int b = 0; b < bins; b++) {
            int from = (int)((int64_t)b * p->info->n_context / bins), to = (int)((int64_t)(b + 1) * p->info->n_context / bins);
            double sum = 0;
            for (int j = from; j < to; j++)
                sum += share[j];
            kvt_chart_point(&c, 100 * (b + 0.5) / bins, 100 * sum / (to - from), NAN, NAN, NULL);
        }
    }
    rc = kvt_chart_end(&c, rc, err);
    free(branch);
    free(share);
    return rc;
}

/* ---- survival ---- */

/* Whether token j lies in a span of that kind. */
static uint8_t *of_kind(const struct kvt_trace_info *info, const char *kind)
{
    uint8_t *in = kvt_calloc((size_t)info->n_context, 1);
    for (int s = 0; in && s < info->n_spans; s++)
        for (int j = info->span[s].start; !strcmp(info->span[s].kind, kind) && j < info->span[s].end && j < info->n_context; j++)
            in[j] = 1;
    return in;
}

static double kept_of(const struct kvt_held *h, const uint8_t *in)
{
    int64_t all = 0, kept = 0;
    for (size_t cell = 0, cells = (size_t)h->L * (size_t)h->G; cell < cells; cell++)
        for (int j = 0; j < h->n; j++)
            if (!in || in[j]) {
                all++;
                kept += h->kept[cell * (size_t)h->n + (size_t)j];
            }
    return all ? 100.0 * (double)kept / (double)all : NAN;
}

/* One branch by kind of span; several: all tokens of each. */
int kvt_plot_survival(const struct kvt_plot *p, struct kvt_err *err)
{
    static const char *const kinds[] = {NULL, "system", "shot", "question", "answer", "number", "operator"};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    int *branch = NULL, n = 0;
    char title[200], budget[32];
    uint8_t *in[KINDS] = {0};
    struct kvt_chart c = {0};
    int rc = kvt_chart_pick(p, &branch, &n, true, err), steps = p->info->n_steps, every = steps > 100 ? (steps + 99) / 100 : 1, points = steps / every + 1;
    int series = n == 1 ? KINDS : n;
    double *y = kvt_calloc((size_t)series * (size_t)points + 1, sizeof *y);
    if (!rc && !y)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d steps", steps);
    for (int k = 1; !rc && n == 1 && k < KINDS; k++)
        if (!(in[k] = of_kind(p->info, kinds[k])))
            rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", p->info->n_context);
    if (!rc) {
        if (n == 1)
            snprintf(title, sizeof title, "%s: prompt tokens still held, by kind of span", p->info->branch[branch[0]].name);
        else
            snprintf(title, sizeof title, "Prompt tokens still held, at %s", kvt_chart_budget(p, branch, budget, sizeof budget));
        rc = kvt_chart_begin(&c, p, KVT_SERIES_LINE, &(struct kvt_chart_text){title, "of the context's tokens; step 0 is the prefill's end", "generated tokens",
                             "held, %", "set yrange [0:*]"}, err);
    }
    for (int i = 0; !rc && i < n; i++)
        for (int k = 0; !rc && k < points; k++) {
            struct kvt_held h;
            rc = kvt_held_load(p->trace, branch[i], k * every, NULL, &h, err);
            for (int s = 0; !rc && s < (n == 1 ? KINDS : 1); s++)
                y[(size_t)(n == 1 ? s : i) * (size_t)points + (size_t)k] = kept_of(&h, in[s]);
            kvt_held_free(&h);
        }
    for (int s = 0; !rc && s < series; s++) {
        kvt_chart_series(&c, n > 1 ? kvt_short_name(p->info, branch, n, s) : s ? kinds[s] : "all");
        for (int k = 0; k < points; k++)
            kvt_chart_point(&c, k * every, y[(size_t)s * (size_t)points + (size_t)k], NAN, NAN, NULL);
    }
    rc = kvt_chart_end(&c, rc, err);
    for (int k = 0; k < KINDS; k++)
        free(in[k]);
    free(y);
    free(branch);
    return rc;
}

/* ---- sets ---- */

struct combination { uint64_t who; int64_t slots; };

static int larger(const void *a, const void *b)
{
    const struct combination *x = a, *y = b;
    if (x->slots != y->slots)
        return x->slots < y->slots ? 1 : -1;
    return (x->who > y->who) - (x->who < y->who);
}

static int by_who(const void *a, const void *b)
{
    const struct combination *x = a, *y = b;
    return (x->who > y->who) - (x->who < y->who);
}

/* An UpSet plot's bars: how many slots exactly these methods keep, the largest combinations first; protected tokens left out. */
int kvt_plot_sets(const struct kvt_plot *p, struct kvt_err *err)
{
    int *branch = NULL, n = 0, used = 0;
    char title[200], budget[32];
    struct kvt_chart c = {0};
    struct kvt_held h = {0};
    uint64_t *who = NULL;
    uint8_t *guarded = NULL;
    struct combination *set = NULL;
    int rc = kvt_chart_pick(p, &branch, &n, true, err);
    size_t all = (size_t)p->info->L * (size_t)p->info->G * (size_t)p->info->n_context, count = 0;
    if (!rc && (!(who = kvt_calloc(all, sizeof *who)) || !(guarded = kvt_calloc(all, 1)) || !(set = kvt_calloc(all, sizeof *set))))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %zu slots", all);
    for (int i = 0; !rc && i < n; i++) {
        rc = kvt_held_load(p->trace, branch[i], p->at, NULL, &h, err);
        for (size_t j = 0; !rc && j < all; j++) {
            who[j] |= (uint64_t)h.kept[j] << i;
            guarded[j] |= h.guarded[j];
        }
        kvt_held_free(&h);
    }
    for (size_t j = 0; !rc && j < all; j++)
        if (!guarded[j] && who[j])
            set[count++] = (struct combination){who[j], 1};
    if (!rc) {
        qsort(set, count, sizeof *set, by_who);
        for (size_t j = 0; j < count; j++) { /* equal ones stand together now */
            if (used && set[used - 1].who == set[j].who)
                set[used - 1].slots++;
            else
                set[used++] = set[j];
        }
        qsort(set, (size_t)used, sizeof *set, larger);
        snprintf(title, sizeof title, "Which methods keep a slot together, at %s", kvt_chart_budget(p, branch, budget, sizeof budget));
        rc = kvt_chart_begin(&c, p, KVT_SERIES_BARS, &(struct kvt_chart_text){title, "slots that exactly these methods keep; protected tokens left out", NULL, "slots",
                             "set xtics rotate by -40 left font ',7'\nset bmargin at screen 170/height\nset key off\nset rmargin at screen 0.86\nset yrange [0:*]"}, err);
    }
    if (!rc)
        kvt_chart_series(&c, "slots");
    for (int i = 0; !rc && i < used && i < SETS_SHOWN; i++) {
        char name[256] = "";
        for (int k = 0; k < n; k++)
            if (set[i].who >> k & 1) {
                size_t len = strlen(name);
                snprintf(name + len, sizeof name - len, "%s%s", len ? "+" : "", kvt_short_name(p->info, branch, n, k));
            }
        kvt_chart_point(&c, i, (double)set[i].slots, NAN, NAN, name);
    }
    rc = kvt_chart_end(&c, rc, err);
    free(set);
    free(guarded);
    free(who);
    free(branch);
    return rc;
}

/* ---- asked and effective ---- */

int kvt_plot_asked(const struct kvt_plot *p, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    struct kvt_chart c = {0};
    int rc = kvt_chart_begin(&c, p, KVT_SERIES_LINE, &(struct kvt_chart_text){"Budgets: asked and held", "slots held at prefill's end; the dotted line is what was asked", "asked, % of the context",
                             "held, %", "set arrow 1 from graph 0,graph 0 to graph 1,graph 1 nohead dashtype 3 linecolor '#888888'\nset xrange [0:100]\nset yrange [0:100]"}, err);
    for (int b = 1; !rc && b < info->n_branches; b++) {
        bool first = true;
        for (int a = 1; a < b; a++)
            first = first && strcmp(info->branch[a].method, info->branch[b].method);
        if (!first)
            continue;
        kvt_chart_series(&c, info->branch[b].method);
        for (int a = b; a < info->n_branches; a++) {
            const struct kvt_trace_branch *x = &info->branch[a];
            if (!strcmp(x->method, info->branch[b].method))
                kvt_chart_point(&c, isnan(x->asked_keep) ? 100.0 * x->asked_tok / info->n_context : 100 * x->asked_keep, 100 * x->effective_keep, NAN, NAN, NULL);
        }
    }
    return kvt_chart_end(&c, rc, err);
}

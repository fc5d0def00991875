/* kvoverlap between methods: pairs of branches, over all layers or each by itself, their scores, and who goes with whom. */
#include "analyzers/kvoverlap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/cluster.h"
#include "analyzers/rank.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/sort.h"
#include "base/stats.h"

enum { BOOTSTRAP_ROUNDS = 2000 };

/* ---- measuring ---- */

int kvoverlap_make_pairs(struct kvoverlap *r, struct kvt_err *err)
{
    int n = r->n_branches;
    r->pair = kvt_calloc((size_t)n * (size_t)(n > 0 ? n : 1), sizeof *r->pair);
    if (!r->pair)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the pairs of %d branches", n);
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++) {
            /* Different budgets can't agree better than the smaller one allows: only on request. */
            if (!r->o.branches && !kvt_same_budget(&r->info->branch[r->branch[i]], &r->info->branch[r->branch[j]]))
                continue;
            struct kvoverlap_pair *p = &r->pair[r->n_pairs++];
            *p = (struct kvoverlap_pair){.a = r->branch[i], .b = r->branch[j],
                               .gain = kvt_calloc((size_t)r->n_prompts, sizeof *p->gain),
                               .room = kvt_calloc((size_t)r->n_prompts, sizeof *p->room),
                               .null = kvt_calloc((size_t)r->o.shifts + 1, sizeof *p->null)};
            if (!p->gain || !p->room || !p->null)
                return kvt_fail(err, KVT_ENOMEM, "no memory for %d shifts", r->o.shifts);
        }
    if (!r->n_pairs && !r->o.tokens)
        return kvt_fail(err, KVT_EINPUT, "no two branches to compare at one budget; name some with --branches, or "
                                         "trace again with two: --method A,B");
    return 0;
}

/* One pair on a prompt; gain (shifts) is work space. */
static int measure_pair(struct kvoverlap *r, struct kvoverlap_pair *p, const struct kvt_held *held, const struct kvt_held *before, int prompt,
                        double *gain, struct kvt_err *err)
{
    const struct kvt_held *a = &held[p->a], *b = &held[p->b];
    struct kvt_overlap one;
    struct kvt_rng rng;
    kvt_rng_seed(&rng, r->o.seed + (uint64_t)prompt); /* the same shifts for every pair */
    kvt_overlap_of(a, b, 0, a->L, &one);
    kvt_overlap_add(&p->sum, &one);
    if (before) {
        kvt_overlap_by_place(&before[p->a], b, &p->other);
        kvt_overlap_by_place(a, &before[p->b], &p->other);
    }
    p->gain[prompt] = one.gain;
    p->room[prompt] = one.room;
    int rc = kvt_overlap_shifts(a, b, 0, a->L, r->o.shifts, &rng, gain, err);
    for (int s = 0; !rc && s < r->o.shifts; s++)
        p->null[s] += gain[s];
    return rc;
}

int kvoverlap_measure(struct kvoverlap *r, const struct kvt_held *held, const struct kvt_held *before, int prompt, struct kvt_err *err)
{
    struct kvt_progress bar;
    int rc = 0, done = 0;
    kvt_progress_start(&bar, stderr, "overlap", "pairs", r->n_pairs);
#pragma omp parallel
    {
        double *gain = kvt_calloc((size_t)r->o.shifts + 1, sizeof *gain);
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < r->n_pairs; i++) {
            struct kvt_err mine = {0};
            int one = gain ? measure_pair(r, &r->pair[i], held, before, prompt, gain, &mine) : kvt_fail(&mine, KVT_ENOMEM, "no memory for %d shifts", r->o.shifts);
#pragma omp critical(kvoverlap_pairs)
            {
                if (one && !rc) {
                    rc = one;
                    *err = mine;
                }
                kvt_progress_at(&bar, ++done);
            }
        }
        free(gain);
    }
    kvt_progress_end(&bar);
    return rc;
}

void kvoverlap_free_pairs(struct kvoverlap *r)
{
    for (int i = 0; i < r->n_pairs; i++) {
        free(r->pair[i].gain);
        free(r->pair[i].room);
        free(r->pair[i].null);
    }
    free(r->pair);
}

/* ---- tables ---- */

static void put_pair_names(const struct kvoverlap *r, struct kvt_table *t, const struct kvoverlap_pair *p)
{
    const struct kvt_trace_branch *a = &r->info->branch[p->a], *b = &r->info->branch[p->b];
    char buf[32];
    kvt_put_text(t, kvt_same_budget(a, b) ? kvt_budget_text(a, buf, sizeof buf) : NULL);
    kvt_put_text(t, kvoverlap_name(r, p->a));
    kvt_put_text(t, kvoverlap_name(r, p->b));
}

static void put_measures(struct kvt_table *t, const struct kvt_overlap *o, double *null, int shifts)
{
    double O = kvt_overlap_adjusted(o), high = NAN, mean = NAN, pvalue = NAN;
    if (shifts > 0 && o->room > 0) {
        int reach = 1; /* the sets as they are count as one of the shifts */
        struct kvt_running m = {0};
        for (int s = 0; s < shifts; s++) {
            null[s] /= o->room;
            reach += null[s] >= O - 1e-12;
            kvt_running_add(&m, null[s]);
        }
        pvalue = (double)reach / (shifts + 1);
        mean = kvt_running_mean(&m);
        high = kvt_quantile(null, shifts, 0.95);
    }
    kvt_put_real(t, kvt_overlap_jaccard(o));
    kvt_put_real(t, kvt_overlap_chance(o));
    kvt_put_real(t, O);
    kvt_put_real(t, mean);
    kvt_put_real(t, high);
    kvt_put_real(t, pvalue);
    kvt_put_real(t, kvt_overlap_all_jaccard(o));
    kvt_put_real(t, kvt_overlap_kappa(o));
    kvt_put_real(t, kvt_overlap_coefficient(o));
    kvt_put_int(t, o->cells);
    kvt_put_int(t, o->left_out);
    kvt_put_real(t, o->cells ? (double)o->universe / (double)o->cells : NAN);
}

#define MEASURE_COLUMNS                                                                                      \
    {.name = "jaccard", .title = "J", .kind = KVT_COL_REAL, .digits = 3},                                    \
    {.name = "chance", .title = "chance", .kind = KVT_COL_REAL, .digits = 3},                                \
    {.name = "adjusted", .title = "O", .kind = KVT_COL_REAL, .digits = 3},                                   \
    {.name = "shift_mean", .kind = KVT_COL_REAL, .digits = 3, .programs_only = true},                        \
    {.name = "shift_95", .title = "shift 95%", .kind = KVT_COL_REAL, .digits = 3},                           \
    {.name = "p", .kind = KVT_COL_REAL, .digits = 3},                                                        \
    {.name = "jaccard_all", .title = "J all", .kind = KVT_COL_REAL, .digits = 3},                            \
    {.name = "kappa", .kind = KVT_COL_REAL, .digits = 3, .programs_only = true},                             \
    {.name = "coefficient", .kind = KVT_COL_REAL, .digits = 3, .programs_only = true},                       \
    {.name = "cells", .kind = KVT_COL_INT, .programs_only = true},                                           \
    {.name = "left_out", .kind = KVT_COL_INT, .programs_only = true},                                        \
    {.name = "universe", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1, .programs_only = true}

int kvoverlap_pair_table(struct kvoverlap *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "budget", .kind = KVT_COL_TEXT}, {.name = "a", .kind = KVT_COL_TEXT}, {.name = "b", .kind = KVT_COL_TEXT},
        MEASURE_COLUMNS,
        {.name = "adjusted_other", .title = "O other", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "adjusted_low", .title = "O from", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "adjusted_high", .title = "to", .kind = KVT_COL_REAL, .digits = 3},
    };
    bool interval = r->n_prompts >= KVOVERLAP_FEWEST_PROMPTS, other = r->n_prompts > 1;
    int n_cols = (int)(sizeof col / sizeof *col) - (interval ? 0 : 2) - (other ? 0 : 1);
    struct kvt_table *t = kvt_table_new(col, n_cols);
    double work[BOOTSTRAP_ROUNDS];
    for (int i = 0; i < r->n_pairs; i++) {
        struct kvoverlap_pair *p = &r->pair[i];
        put_pair_names(r, t, p);
        put_measures(t, &p->sum, p->null, r->o.shifts);
        if (other)
            kvt_put_real(t, kvt_overlap_adjusted(&p->other));
        if (interval) {
            struct kvt_rng rng;
            double low, high;
            kvt_rng_seed(&rng, r->o.seed);
            kvt_bootstrap_ratio(p->gain, p->room, r->n_prompts, BOOTSTRAP_ROUNDS, 0.95, &rng, work, &low, &high);
            kvt_put_real(t, low);
            kvt_put_real(t, high);
        }
    }
    return kvoverlap_write(r, 0, &t, err);
}

int kvoverlap_layer_table(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "budget", .kind = KVT_COL_TEXT}, {.name = "a", .kind = KVT_COL_TEXT}, {.name = "b", .kind = KVT_COL_TEXT},
        {.name = "layer", .kind = KVT_COL_INT}, MEASURE_COLUMNS,
    };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    double *null = kvt_calloc((size_t)r->o.shifts + 1, sizeof *null);
    int rc = null ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d shifts", r->o.shifts);
    for (int i = 0; i < r->n_pairs; i++) {
        const struct kvoverlap_pair *p = &r->pair[i];
        for (int l = 0, at = 0; !rc && l < r->info->L; l++) {
            if (!r->layer[l])
                continue;
            struct kvt_overlap one;
            struct kvt_rng rng;
            kvt_rng_seed(&rng, r->o.seed);
            kvt_overlap_of(&held[p->a], &held[p->b], at, at + 1, &one);
            rc = kvt_overlap_shifts(&held[p->a], &held[p->b], at, at + 1, r->o.shifts, &rng, null, err);
            at++;
            put_pair_names(r, t, p);
            kvt_put_int(t, l);
            put_measures(t, &one, null, r->o.shifts);
        }
    }
    free(null);
    return kvoverlap_write(r, rc, &t, err);
}

/* ---- scores ---- */

/* Rankings of every branch in one layer: order (R, n) of each, NULL where it ranks nothing. */
static int order_layer(struct kvoverlap *r, int layer, int32_t **order, float *score, uint32_t *work, struct kvt_err *err)
{
    size_t n = (size_t)r->info->n_context;
    int rc = 0;
    for (int i = 0; !rc && i < r->n_branches; i++) {
        int b = r->branch[i], R = r->info->branch[b].R;
        if (!order[b])
            continue;
        rc = kvt_trace_score_layer(r->first, b, layer, score, err);
        if (rc)
            break;
#pragma omp parallel for schedule(dynamic, 1)
        for (int g = 0; g < R; g++)
            kvt_order_falling(score + (size_t)g * n, (int)n, order[b] + (size_t)g * n, work + 3 * (size_t)g * n);
    }
    return rc;
}

/* Every pair in row l of the held sets; cell (n_pairs, G), work (G, 4 n). */
static void rank_layer(const struct kvoverlap *r, const struct kvt_held *held, int l, int32_t *const *order, struct kvt_rank_cell *cell, int32_t *work)
{
    size_t n = (size_t)r->info->n_context, G = (size_t)r->info->G;
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t g = 0; g < G; g++)
        for (int i = 0; i < r->n_pairs; i++) {
            const struct kvoverlap_pair *p = &r->pair[i];
            int Ra = r->info->branch[p->a].R, Rb = r->info->branch[p->b].R;
            if (!order[p->a] || !order[p->b] || (g && Ra == 1 && Rb == 1))
                continue;
            cell[(size_t)i * G + g] = kvt_rank_cell(&held[p->a], order[p->a] + (Ra == 1 ? 0 : g) * n, &held[p->b], order[p->b] + (Rb == 1 ? 0 : g) * n,
                                                    (size_t)l * G + g, work + 4 * g * n);
        }
}

static int rank_all(struct kvoverlap *r, const struct kvt_held *held, int32_t **order, struct kvt_rank_result *sum, struct kvt_err *err)
{
    size_t n = (size_t)r->info->n_context, G = (size_t)r->info->G;
    float *score = kvt_calloc(G * n, sizeof *score);
    int32_t *work = kvt_calloc(G * 4 * n, sizeof *work);
    struct kvt_rank_cell *cell = kvt_calloc((size_t)r->n_pairs * G, sizeof *cell);
    int rc = score && work && cell ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory to rank %zu tokens of %zu heads", n, G);
    for (int l = 0; !rc && l < r->n_layers; l++) {
        rc = order_layer(r, kvoverlap_layer(r, l), order, score, (uint32_t *)work, err);
        if (rc)
            break;
        rank_layer(r, held, l, order, cell, work);
        for (int i = 0; i < r->n_pairs; i++) {
            const struct kvoverlap_pair *p = &r->pair[i];
            bool ranked = order[p->a] && order[p->b], one = r->info->branch[p->a].R == 1 && r->info->branch[p->b].R == 1;
            for (size_t g = 0; ranked && g < (one ? 1 : G); g++)
                kvt_rank_add(&sum[i], cell[(size_t)i * G + g]);
        }
    }
    free(score);
    free(work);
    free(cell);
    return rc;
}

int kvoverlap_scores(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "budget", .kind = KVT_COL_TEXT}, {.name = "a", .kind = KVT_COL_TEXT}, {.name = "b", .kind = KVT_COL_TEXT},
        {.name = "rbo", .title = "RBO", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "rbo_random", .title = "random", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "cells", .kind = KVT_COL_INT, .programs_only = true},
        {.name = "left_out", .kind = KVT_COL_INT, .programs_only = true},
    };
    int32_t **order = kvt_calloc((size_t)r->info->n_branches, sizeof *order);
    struct kvt_rank_result *sum = kvt_calloc((size_t)r->n_pairs, sizeof *sum);
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = order && sum ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d pairs", r->n_pairs);
    for (int i = 0; !rc && i < r->n_branches; i++) {
        int b = r->branch[i], R = r->info->branch[b].R;
        if (R && !(order[b] = kvt_calloc((size_t)R * (size_t)r->info->n_context, sizeof **order)))
            rc = kvt_fail(err, KVT_ENOMEM, "no memory for the scores of %d branches", r->n_branches);
    }
    rc = rc ? rc : rank_all(r, held, order, sum, err);
    for (int i = 0; !rc && i < r->n_pairs; i++) {
        const struct kvoverlap_pair *p = &r->pair[i];
        if (!order[p->a] || !order[p->b])
            sum[i] = (struct kvt_rank_result){.rbo = NAN, .random = NAN};
        else
            kvt_rank_end(&sum[i]);
        put_pair_names(r, t, p);
        kvt_put_real(t, sum[i].rbo);
        kvt_put_real(t, sum[i].random);
        kvt_put_int(t, sum[i].cells);
        kvt_put_int(t, sum[i].left_out);
    }
    for (int b = 0; order && b < r->info->n_branches; b++)
        free(order[b]);
    free(order);
    free(sum);
    return kvoverlap_write(r, rc, &t, err);
}

/* ---- who goes with whom ---- */

/* "a", or the members of a group that an earlier step made. */
static void group_text(const struct kvoverlap *r, const struct kvt_join *join, const int *branch, int n, int group, char *buf, size_t cap)
{
    size_t len = strlen(buf);
    if (group >= n) {
        group_text(r, join, branch, n, join[group - n].left, buf, cap);
        group_text(r, join, branch, n, join[group - n].right, buf, cap);
    } else {
        snprintf(buf + len, cap - len, "%s%s", len ? " + " : "", kvoverlap_name(r, branch[group]));
    }
}

int kvoverlap_clusters(struct kvoverlap *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "step", .kind = KVT_COL_INT, .programs_only = true},
        {.name = "adjusted", .title = "O", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "group", .kind = KVT_COL_TEXT}, {.name = "joins", .kind = KVT_COL_TEXT},
    };
    size_t n = 0;
    int *branch = kvt_calloc((size_t)r->n_branches, sizeof *branch), *place = kvt_calloc((size_t)r->info->n_branches, sizeof *place);
    double *like = kvt_calloc((size_t)r->n_branches * (size_t)r->n_branches, sizeof *like);
    struct kvt_join *join = kvt_calloc((size_t)r->n_branches, sizeof *join);
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = branch && place && like && join ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory to group %d branches", r->n_branches);
    for (int i = 0; !rc && i < r->n_branches; i++) { /* one budget: the one named, or the middle one */
        place[r->branch[i]] = (int)n;
        branch[n++] = r->branch[i];
    }
    for (int i = 0; !rc && i < r->n_pairs; i++) {
        size_t a = (size_t)place[r->pair[i].a], b = (size_t)place[r->pair[i].b];
        like[a * n + b] = like[b * n + a] = kvt_overlap_adjusted(&r->pair[i].sum);
    }
    if (!rc)
        rc = kvt_cluster(like, (int)n, join, NULL, err);
    for (int i = 0; !rc && i < (int)n - 1; i++) {
        char left[512] = "", right[512] = "";
        group_text(r, join, branch, (int)n, join[i].left, left, sizeof left);
        group_text(r, join, branch, (int)n, join[i].right, right, sizeof right);
        kvt_put_int(t, i + 1);
        kvt_put_real(t, join[i].at);
        kvt_put_text(t, left);
        kvt_put_text(t, right);
    }
    free(branch);
    free(place);
    free(like);
    free(join);
    return kvoverlap_write(r, rc, &t, err);
}

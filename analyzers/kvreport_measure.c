/* kvreport: the numbers, from the analyzers' library. Branches are read once each, the sets of one budget are held at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/kvreport.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/stats.h"

/* Beyond these the null of the overlap and the table of attention would take longer than everything else together. */
#define MOST_SHIFT_WORK 6e9   /* pairs x cells x tokens / 64 x shifts */
#define MOST_ROWS 60e6        /* L x H x n_prompt */

/* ---- the grid ---- */

/* The name without its budget: "snapkv[w=8]" of "snapkv[w=8] 25%". */
static void method_name(const struct kvt_trace_branch *b, char out[96])
{
    char budget[32];
    kvt_budget_text(b, budget, sizeof budget);
    size_t n = strlen(b->name), k = strlen(budget);
    bool ends = n > k + 1 && !strcmp(b->name + n - k, budget) && b->name[n - k - 1] == ' ';
    snprintf(out, 96, "%.*s", (int)(ends ? n - k - 1 : n), b->name);
}

static int by_budget(const void *a, const void *b)
{
    const struct kvt_trace_branch *x = ((const struct kvreport_branch *)a)->in, *y = ((const struct kvreport_branch *)b)->in;
    bool tx = isnan(x->asked_keep), ty = isnan(y->asked_keep);
    if (tx != ty)
        return tx ? 1 : -1;
    double p = tx ? x->asked_tok : x->asked_keep, q = tx ? y->asked_tok : y->asked_keep;
    if (!kvt_same_budget(x, y))
        return p < q ? -1 : 1;
    return ((const struct kvreport_branch *)a)->number - ((const struct kvreport_branch *)b)->number;
}

static int cell_at(const struct kvreport *r, int row, int col)
{
    for (int i = 0; i < r->n; i++)
        if (r->one[i].row == row && r->one[i].col == col)
            return i;
    return -1;
}

static int make_grid(struct kvreport *r, struct kvt_err *err)
{
    int *branch = NULL, count = 0, rc = kvt_pick_branches(r->info, NULL, &branch, &count, err);
    if (rc)
        return rc;
    r->one = kvt_calloc((size_t)count + 1, sizeof *r->one);
    r->row_name = kvt_calloc((size_t)count + 1, sizeof *r->row_name);
    r->cell = kvt_calloc((size_t)count * (size_t)count + 1, sizeof *r->cell);
    if (!r->one || !r->row_name || !r->cell)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", count);
    for (int i = 0; !rc && i < count; i++)
        r->one[i] = (struct kvreport_branch){.in = &r->info->branch[branch[i]], .number = branch[i], .row = -1, .col = -1, .lost = NAN, .lost_rest = NAN};
    r->n = rc ? 0 : count;
    for (int i = 0; i < r->n; i++) { /* rows in the order of the trace */
        char name[96];
        method_name(r->one[i].in, name);
        for (int k = 0; k < r->rows && r->one[i].row < 0; k++) {
            bool taken = false;
            for (int j = 0; j < i; j++)
                taken |= r->one[j].row == k && kvt_same_budget(r->one[j].in, r->one[i].in);
            if (!taken && !strcmp(r->row_name[k], name))
                r->one[i].row = k;
        }
        if (r->one[i].row < 0) {
            r->one[i].row = r->rows;
            memcpy(r->row_name[r->rows++], name, sizeof name);
        }
    }
    if (r->n)
        qsort(r->one, (size_t)r->n, sizeof *r->one, by_budget);
    for (int i = 0; i < r->n; i++)
        r->one[i].col = i && kvt_same_budget(r->one[i - 1].in, r->one[i].in) ? r->cols - 1 : r->cols++;
    for (int k = 0; k < r->rows * r->cols; k++)
        r->cell[k] = cell_at(r, k / r->cols, k % r->cols);
    if (!rc && (r->n || r->o.keep)) {
        rc = kvt_pick_budget(r->info, r->o.keep, branch, &count, err);
        for (int i = 0; !rc && i < r->n; i++)
            if (r->one[i].number == branch[0])
                r->middle = r->one[i].col;
    }
    free(branch);
    return rc;
}

const char *kvreport_budget(const struct kvreport *r, int col, char *buf, size_t cap)
{
    for (int i = 0; i < r->n; i++)
        if (r->one[i].col == col)
            return kvt_budget_text(r->one[i].in, buf, cap);
    return "";
}

/* ---- branches ---- */

static void mean_lost(struct kvreport *r, struct kvreport_branch *one)
{
    size_t all = (size_t)r->info->n_steps * (size_t)r->info->L * (size_t)r->info->G;
    float *v = kvt_calloc(all + 1, sizeof *v);
    static const char *const what[2] = {"lost_mass", "lost_rest"};
    for (int k = 0; v && k < 2; k++) {
        struct kvt_running m = {0};
        if (!kvt_trace_fidelity_of(r->trace, one->number, what[k], v, NULL)) /* not measured: stays NaN */
            for (size_t i = 0; i < all; i++)
                kvt_running_add(&m, v[i]);
        *(k ? &one->lost_rest : &one->lost) = kvt_running_mean(&m);
    }
    free(v);
}

static int measure_shots(struct kvreport *r, struct kvreport_branch *one, const struct kvt_held *h, struct kvt_err *err)
{
    struct kvt_rng rng;
    kvt_rng_seed(&rng, r->o.seed);
    one->shot = kvt_calloc((size_t)r->S + 1, sizeof *one->shot);
    if (!one->shot)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d shots", r->S);
    int rc = kvt_coherence_of(h, r->info, r->shot, r->S, 0, h->L, 0.5, r->o.shifts, &rng, &one->coherence, one->shot, err);
    if (!rc)
        rc = kvt_damage_of(h, r->info, r->shot, r->S, 0.5, &one->damage, err);
    return rc ? rc : kvt_agreement_of(h, r->shot, r->S, &one->agreement, err);
}

/* The history once from the file: fate and held set. */
static int read_branch(struct kvreport *r, struct kvreport_branch *one, int32_t *ev, uint8_t *reason, struct kvt_held *held, struct kvt_err *err)
{
    const struct kvt_trace_info *info = r->info;
    int rc = kvt_trace_evicted_at(r->trace, one->number, ev, err);
    if (!rc)
        rc = kvt_trace_reason(r->trace, one->number, reason, err);
    if (!rc)
        rc = kvt_fate_make(info->L, info->G, info->n_context, info->n_tok, ev, reason, &one->fate, err);
    if (!rc)
        rc = kvt_held_make(info->L, info->G, info->n_context, info->n_tok, ev, reason, 0, held, err);
    if (!rc && r->S)
        rc = measure_shots(r, one, held, err);
    if (!rc)
        mean_lost(r, one);
    return rc;
}

/* As kvoverlap does: each pair under the same shifts. null: work space, (shifts). */
static int measure_pair(const struct kvreport *r, struct kvreport_pair *p, const struct kvt_held *held, double *null, struct kvt_err *err)
{
    const struct kvt_held *a = &held[p->a], *b = &held[p->b];
    struct kvt_rng rng;
    kvt_overlap_of(a, b, 0, a->L, &p->sum);
    if (!r->shifted)
        return 0;
    kvt_rng_seed(&rng, r->o.seed);
    int rc = kvt_overlap_shifts(a, b, 0, a->L, r->o.shifts, &rng, null, err);
    if (!rc && p->sum.room > 0) {
        int reach = 1; /* the sets as they are count as one of the shifts */
        for (int s = 0; s < r->o.shifts; s++)
            reach += (null[s] /= p->sum.room) >= kvt_overlap_adjusted(&p->sum) - 1e-12;
        p->p = (double)reach / (r->o.shifts + 1);
        p->shift_high = kvt_quantile(null, r->o.shifts, 0.95);
    }
    return rc;
}

/* All pairs of the branches [from, to), of one budget; a pair's numbers don't depend on who takes it. */
static int measure_pairs(struct kvreport *r, int from, int to, const struct kvt_held *held, struct kvt_err *err)
{
    int first = r->n_pairs, rc = 0;
    for (int a = from; a < to; a++)
        for (int b = a + 1; b < to; b++)
            r->pair[r->n_pairs++] = (struct kvreport_pair){.a = a, .b = b, .shift_high = NAN, .p = NAN};
#pragma omp parallel for schedule(dynamic)
    for (int i = first; i < r->n_pairs; i++) {
        struct kvt_err why = {0};
        double *null = kvt_calloc((size_t)r->o.shifts + 1, sizeof *null);
        int one = null ? measure_pair(r, &r->pair[i], held, null, &why) : kvt_fail(&why, KVT_ENOMEM, "no memory for %d shifts", r->o.shifts);
        free(null);
        if (one) {
#pragma omp critical
            {
                rc = one;
                *err = why;
            }
        }
    }
    return rc;
}

static int measure_branches(struct kvreport *r, struct kvt_err *err)
{
    const struct kvt_trace_info *info = r->info;
    size_t cells = (size_t)info->L * (size_t)info->G;
    int32_t *ev = kvt_calloc(cells * (size_t)info->n_tok + 1, sizeof *ev);
    uint8_t *reason = kvt_calloc(cells * (size_t)info->n_context + 1, 1);
    struct kvt_held *held = kvt_calloc((size_t)r->n + 1, sizeof *held);
    r->pair = kvt_calloc((size_t)r->n * (size_t)r->n / 2 + 1, sizeof *r->pair);
    int rc = ev && reason && held && r->pair ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d branches of %d tokens", r->n, info->n_context);
    double pairs = 0;
    for (int i = 0; i < r->n; i++)
        for (int j = i + 1; j < r->n && r->one[j].col == r->one[i].col; j++)
            pairs++;
    r->shifted = r->o.shifts > 0 && pairs * (double)cells * info->n_context / 64 * r->o.shifts <= MOST_SHIFT_WORK;
    struct kvt_progress bar;
    kvt_progress_start(&bar, stderr, "measuring", "branches", r->n);
    for (int from = 0, to; !rc && from < r->n; from = to) {
        for (to = from; !rc && to < r->n && r->one[to].col == r->one[from].col; to++) {
            rc = read_branch(r, &r->one[to], ev, reason, &held[to], err);
            kvt_progress_at(&bar, to + 1);
        }
        if (!rc)
            rc = measure_pairs(r, from, to, held, err);
        for (int i = from; i < to; i++)
            kvt_held_free(&held[i]);
    }
    kvt_progress_end(&bar);
    free(ev);
    free(reason);
    free(held);
    return rc;
}

/* ---- attention ---- */

struct ranked { double mass; int token; };

static int by_mass(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->mass != y->mass)
        return x->mass < y->mass ? 1 : -1;
    return x->token - y->token;
}

static int rank_tokens(struct kvreport *r, struct kvt_err *err)
{
    size_t n = (size_t)r->info->n_prompt;
    struct ranked *by = kvt_calloc(n + 1, sizeof *by);
    r->rank = kvt_calloc(n + 1, sizeof *r->rank);
    if (!by || !r->rank) {
        free(by);
        return kvt_fail(err, KVT_ENOMEM, "no memory for %zu tokens", n);
    }
    for (size_t j = 0; j < n; j++)
        by[j] = (struct ranked){.mass = r->mass[j], .token = (int)j};
    qsort(by, n, sizeof *by, by_mass);
    for (size_t i = 0; i < n; i++)
        r->rank[by[i].token] = (int)i;
    free(by);
    return 0;
}

/* A trace may lack any of it: then the report does without and says so. */
static int measure_mass(struct kvreport *r, struct kvt_err *err)
{
    const struct kvt_trace_info *info = r->info;
    size_t n = (size_t)info->n_prompt, H = (size_t)info->H;
    if (!info->has_scores || !n)
        return 0;
    float *v = kvt_calloc(H * n, sizeof *v);
    r->mass = kvt_calloc(n, sizeof *r->mass);
    int rc = v && r->mass ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for scores of %zu tokens", n);
    bool known = !rc;
    for (int l = 0; known && l < info->L; l++) {
        known = !kvt_trace_raw(r->trace, "mass", 0, l, v, NULL);
        for (size_t i = 0; known && i < H * n; i++)
            r->mass[i % n] += v[i] / ((double)info->L * (double)H);
    }
    free(v);
    for (size_t j = 0; known && j < n; j++)
        known = isfinite(r->mass[j]); /* a run that ended within its prefill */
    if (known)
        return rank_tokens(r, err);
    free(r->mass);
    r->mass = NULL;
    return rc;
}

/* Each measure over the heads that have it. */
static struct kvt_head mean_head(const struct kvt_head *h, int n)
{
    struct kvt_head out = {0};
#define X(name, field, kind, digits)                 \
    {                                                \
        struct kvt_running m = {0};                  \
        for (int i = 0; i < n; i++)                  \
            kvt_running_add(&m, h[i].field);         \
        out.field = kvt_running_mean(&m);            \
    }
    KVREPORT_HEAD_MAP(X)
#undef X
    return out;
}

static int measure_heads(struct kvreport *r, struct kvt_err *err)
{
    const struct kvt_trace_info *info = r->info;
    r->n_sinks = -1;
    if (!r->mass || (double)info->L * info->H * info->n_prompt > MOST_ROWS)
        return 0;
    struct kvt_head *h = kvt_calloc((size_t)info->H, sizeof *h);
    r->head = kvt_calloc((size_t)info->L, sizeof *r->head);
    int rc = h && r->head ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d heads", info->H);
    bool known = !rc;
    for (int l = 0; known && l < info->L; l++) {
        known = !kvt_heads_of(r->trace, l, h, NULL);
        if (known)
            r->head[l] = mean_head(h, info->H);
    }
    free(h);
    if (!known) {
        free(r->head);
        r->head = NULL;
    } else if (info->has_visible && kvt_sinks_of(r->trace, 0.3, &r->sink, &r->n_sinks, NULL)) {
        r->n_sinks = -1;
    }
    return rc;
}

int kvreport_measure(struct kvreport *r, struct kvt_err *err)
{
    int rc = make_grid(r, err);
    if (!rc)
        rc = kvt_shots(r->info, &r->shot, &r->S, err);
    if (!rc)
        rc = measure_branches(r, err);
    if (!rc)
        rc = measure_mass(r, err);
    return rc ? rc : measure_heads(r, err);
}

void kvreport_free(struct kvreport *r)
{
    for (int i = 0; i < r->n; i++) {
        kvt_fate_free(&r->one[i].fate);
        free(r->one[i].shot);
    }
    free(r->one);
    free(r->row_name);
    free(r->cell);
    free(r->shot);
    free(r->pair);
    free(r->mass);
    free(r->rank);
    free(r->head);
    free(r->sink);
    kvt_trace_close(&r->trace);
}

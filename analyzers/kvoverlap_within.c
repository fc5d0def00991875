/* kvoverlap within methods: a branch's layers, heads and budgets against each other, itself on other prompts and in other traces, and
 * against what the uncompressed branch attended to later. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/kvoverlap.h"
#include "base/mem.h"
#include "base/stats.h"

static void put_branch(const struct kvoverlap *r, struct kvt_table *t, int b)
{
    char buf[32];
    kvt_put_text(t, kvt_budget_text(&r->info->branch[b], buf, sizeof buf));
    kvt_put_text(t, kvoverlap_name(r, b));
}

static bool for_people(const struct kvoverlap *r) { return r->o.format == KVT_FORMAT_TABLE; }

#define BRANCH_COLUMNS {.name = "budget", .kind = KVT_COL_TEXT}, {.name = "method", .kind = KVT_COL_TEXT}

/* ---- layers ---- */

/* People get means by branch, programs every pair. */
int kvoverlap_layers(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err)
{
    static const struct kvt_col people[] = {
        BRANCH_COLUMNS, {.name = "next", .title = "O, next layer", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "all", .title = "all pairs", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "jaccard_next", .title = "J, next layer", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "jaccard_all", .title = "all pairs", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "chance", .kind = KVT_COL_REAL, .digits = 3},
    }, programs[] = {
        BRANCH_COLUMNS, {.name = "layer", .kind = KVT_COL_INT}, {.name = "other_layer", .kind = KVT_COL_INT},
        {.name = "jaccard", .kind = KVT_COL_REAL}, {.name = "chance", .kind = KVT_COL_REAL}, {.name = "adjusted", .kind = KVT_COL_REAL},
        {.name = "jaccard_kept", .kind = KVT_COL_REAL}, {.name = "cells", .kind = KVT_COL_INT}, {.name = "left_out", .kind = KVT_COL_INT},
    };
    struct kvt_table *t = for_people(r) ? kvt_table_new(people, (int)(sizeof people / sizeof *people))
                                        : kvt_table_new(programs, (int)(sizeof programs / sizeof *programs));
    if (r->n_layers < 2) {
        kvt_table_free(&t);
        return kvt_fail(err, KVT_EINPUT, "one layer can't be compared with others; choose more with --layers");
    }
    struct kvt_overlap *pair = kvt_calloc((size_t)r->n_layers * (size_t)r->n_layers, sizeof *pair);
    if (!pair) {
        kvt_table_free(&t);
        return kvt_fail(err, KVT_ENOMEM, "no memory for the pairs of %d layers", r->n_layers);
    }
    for (int i = 0; i < r->n_branches; i++) {
        int b = r->branch[i];
        struct kvt_overlap next = {0}, all = {0};
#pragma omp parallel for schedule(dynamic, 1)
        for (int l = 0; l < r->n_layers; l++)
            for (int m = l + 1; m < r->n_layers; m++)
                kvt_overlap_layers(&held[b], l, m, &pair[l * r->n_layers + m]);
        for (int l = 0; l < r->n_layers; l++)
            for (int m = l + 1; m < r->n_layers; m++) {
                struct kvt_overlap one = pair[l * r->n_layers + m];
                kvt_overlap_add(&all, &one);
                if (kvoverlap_layer(r, m) == kvoverlap_layer(r, l) + 1)
                    kvt_overlap_add(&next, &one);
                if (for_people(r))
                    continue;
                put_branch(r, t, b);
                kvt_put_int(t, kvoverlap_layer(r, l));
                kvt_put_int(t, kvoverlap_layer(r, m));
                kvt_put_real(t, kvt_overlap_jaccard(&one));
                kvt_put_real(t, kvt_overlap_chance(&one));
                kvt_put_real(t, kvt_overlap_adjusted(&one));
                kvt_put_real(t, kvt_overlap_all_jaccard(&one));
                kvt_put_int(t, one.cells);
                kvt_put_int(t, one.left_out);
            }
        if (!for_people(r))
            continue;
        put_branch(r, t, b);
        kvt_put_real(t, kvt_overlap_adjusted(&next));
        kvt_put_real(t, kvt_overlap_adjusted(&all));
        kvt_put_real(t, kvt_overlap_jaccard(&next));
        kvt_put_real(t, kvt_overlap_jaccard(&all));
        kvt_put_real(t, kvt_overlap_chance(&all));
    }
    free(pair);
    return kvoverlap_write(r, 0, &t, err);
}

/* ---- heads ---- */

int kvoverlap_heads(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err)
{
    static const struct kvt_col people[] = {
        BRANCH_COLUMNS, {.name = "adjusted", .title = "O", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "jaccard", .title = "J", .kind = KVT_COL_REAL, .digits = 3}, {.name = "chance", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "shared", .title = "layers with one set", .kind = KVT_COL_INT},
    }, programs[] = {
        BRANCH_COLUMNS, {.name = "layer", .kind = KVT_COL_INT}, {.name = "adjusted", .kind = KVT_COL_REAL},
        {.name = "jaccard", .kind = KVT_COL_REAL}, {.name = "chance", .kind = KVT_COL_REAL}, {.name = "shared", .kind = KVT_COL_BOOL},
    };
    if (r->info->G < 2)
        return kvt_fail(err, KVT_EINPUT, "this model has one kv head in each layer: there is nothing to compare it with");
    struct kvt_table *t = for_people(r) ? kvt_table_new(people, (int)(sizeof people / sizeof *people))
                                        : kvt_table_new(programs, (int)(sizeof programs / sizeof *programs));
    for (int i = 0; i < r->n_branches; i++) {
        int b = r->branch[i], shared = 0;
        struct kvt_overlap all = {0}, one;
        for (int l = 0; l < held[b].L; l++) {
            kvt_overlap_heads(&held[b], l, &one);
            kvt_overlap_add(&all, &one);
            shared += held[b].shared[l];
            if (for_people(r))
                continue;
            put_branch(r, t, b);
            kvt_put_int(t, kvoverlap_layer(r, l));
            kvt_put_real(t, kvt_overlap_adjusted(&one));
            kvt_put_real(t, kvt_overlap_jaccard(&one));
            kvt_put_real(t, kvt_overlap_chance(&one));
            kvt_put_bool(t, held[b].shared[l]);
        }
        if (!for_people(r))
            continue;
        put_branch(r, t, b);
        kvt_put_real(t, kvt_overlap_adjusted(&all));
        kvt_put_real(t, kvt_overlap_jaccard(&all));
        kvt_put_real(t, kvt_overlap_chance(&all));
        kvt_put_int(t, shared);
    }
    return kvoverlap_write(r, 0, &t, err);
}

/* ---- budgets ---- */

static double size_asked(const struct kvt_trace_branch *b, int n_context)
{
    return isnan(b->asked_keep) ? b->asked_tok : b->asked_keep * n_context;
}

int kvoverlap_budgets(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "method", .kind = KVT_COL_TEXT}, {.name = "smaller", .kind = KVT_COL_TEXT}, {.name = "larger", .kind = KVT_COL_TEXT},
        {.name = "inside", .title = "inside", .kind = KVT_COL_SHARE},
        {.name = "adjusted", .title = "O", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "slots", .kind = KVT_COL_INT, .programs_only = true}, {.name = "slots_inside", .kind = KVT_COL_INT, .programs_only = true},
    };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (int i = 0; i < r->n_branches; i++)
        for (int j = 0; j < r->n_branches; j++) {
            const struct kvt_trace_branch *a = &r->info->branch[r->branch[i]], *b = &r->info->branch[r->branch[j]];
            if (strcmp(a->canonical, b->canonical) || size_asked(a, r->info->n_context) >= size_asked(b, r->info->n_context))
                continue; /* what a canonical form says is everything but the budget */
            struct kvt_overlap o;
            int64_t slots, inside;
            char buf[32];
            kvt_overlap_of(&held[r->branch[i]], &held[r->branch[j]], 0, held[r->branch[i]].L, &o);
            kvt_overlap_inside(&held[r->branch[i]], &held[r->branch[j]], &slots, &inside);
            kvt_put_text(t, a->method);
            kvt_put_text(t, kvt_budget_text(a, buf, sizeof buf));
            kvt_put_text(t, kvt_budget_text(b, buf, sizeof buf));
            kvt_put_real(t, slots ? (double)inside / (double)slots : NAN);
            kvt_put_real(t, kvt_overlap_adjusted(&o));
            kvt_put_int(t, slots);
            kvt_put_int(t, inside);
        }
    if (!kvt_table_rows(t)) {
        kvt_table_free(&t);
        return kvt_fail(err, KVT_EINPUT, "no method has two budgets in this trace; trace again with --keep 10%%,25%%,50%%");
    }
    return kvoverlap_write(r, 0, &t, err);
}

/* ---- prompts and traces ---- */

int kvoverlap_prompts(struct kvoverlap *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        BRANCH_COLUMNS, {.name = "adjusted", .title = "O by place", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "jaccard", .title = "J", .kind = KVT_COL_REAL, .digits = 3}, {.name = "chance", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "pairs", .title = "prompt pairs", .kind = KVT_COL_INT},
    };
    if (r->n_prompts < 2)
        return kvt_fail(err, KVT_EUSAGE, "--show prompts needs two traces or more: kvoverlap a.h5 b.h5 ...");
    struct kvt_overlap *sum = kvt_calloc((size_t)r->info->n_branches, sizeof *sum);
    struct kvt_held *now = kvt_calloc((size_t)r->info->n_branches, sizeof *now), *before = kvt_calloc((size_t)r->info->n_branches, sizeof *before);
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = sum && now && before ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", r->info->n_branches);
    for (int p = 0; !rc && p < r->n_prompts; p++) {
        struct kvt_held *swap = before;
        before = now;
        now = swap;
        kvoverlap_unload(r, now);
        rc = kvoverlap_load(r, p, now, err);
        for (int i = 0; !rc && p && i < r->n_branches; i++)
            kvt_overlap_by_place(&before[r->branch[i]], &now[r->branch[i]], &sum[r->branch[i]]);
    }
    for (int i = 0; !rc && i < r->n_branches; i++) {
        const struct kvt_overlap *o = &sum[r->branch[i]];
        put_branch(r, t, r->branch[i]);
        kvt_put_real(t, kvt_overlap_adjusted(o));
        kvt_put_real(t, kvt_overlap_jaccard(o));
        kvt_put_real(t, kvt_overlap_chance(o));
        kvt_put_int(t, r->n_prompts - 1);
    }
    if (now && before) {
        kvoverlap_unload(r, now);
        kvoverlap_unload(r, before);
    }
    free(now);
    free(before);
    free(sum);
    return kvoverlap_write(r, rc, &t, err);
}

static int same_prompt(const struct kvoverlap *r, const struct kvt_trace_info *b, struct kvt_err *err)
{
    const struct kvt_trace_info *a = r->info;
    int j = 0;
    while (j < a->n_prompt && j < b->n_prompt && a->token_id[j] == b->token_id[j])
        j++;
    if (a->n_context != b->n_context)
        return kvt_fail(err, KVT_EINPUT, "%s: its context has %d tokens, that of %s has %d; --show traces compares runs of one prompt (for others: --show prompts)",
                        r->path[1], b->n_context, r->path[0], a->n_context);
    if (r->o.force || (j == a->n_prompt && j == b->n_prompt))
        return 0;
    if (j == a->n_prompt || j == b->n_prompt)
        return kvt_fail(err, KVT_EINPUT, "%s: a prompt of %d tokens, that of %s has %d; --show traces compares runs of one prompt (--force: compare all the same)",
                        r->path[1], b->n_prompt, r->path[0], a->n_prompt);
    return kvt_fail(err, KVT_EINPUT, "%s: token %d is %d, in %s it is %d; --show traces compares runs of one prompt (--force: compare all the same)", r->path[1], j,
                    b->token_id[j], r->path[0], a->token_id[j]);
}

int kvoverlap_traces(struct kvoverlap *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        BRANCH_COLUMNS, {.name = "jaccard", .title = "J", .kind = KVT_COL_REAL, .digits = 4},
        {.name = "adjusted", .title = "O", .kind = KVT_COL_REAL, .digits = 4}, {.name = "jaccard_kept", .title = "J all", .kind = KVT_COL_REAL, .digits = 4},
        {.name = "differ", .title = "slots that differ", .kind = KVT_COL_INT},
    };
    if (r->n_prompts != 2)
        return kvt_fail(err, KVT_EUSAGE, "--show traces needs two traces of one prompt: kvoverlap a.h5 b.h5");
    struct kvt_trace *second;
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = kvoverlap_open(r, 1, &second, err);
    if (!rc)
        rc = same_prompt(r, kvt_trace_info(second), err);
    if (!rc)
        rc = kvt_check_step(r->info, r->o.at, err);
    for (int i = 0; !rc && i < r->n_branches; i++) {
        struct kvt_held x = {0}, y = {0};
        struct kvt_overlap o;
        int64_t slots, other, inside;
        rc = kvoverlap_load_branch(r, r->first, 0, r->branch[i], &x, err);
        if (!rc)
            rc = kvoverlap_load_branch(r, second, 1, r->branch[i], &y, err);
        if (!rc) {
            kvt_overlap_of(&x, &y, 0, x.L, &o);
            kvt_overlap_inside(&x, &y, &slots, &inside);
            kvt_overlap_inside(&y, &x, &other, &inside);
            put_branch(r, t, r->branch[i]);
            kvt_put_real(t, kvt_overlap_jaccard(&o));
            kvt_put_real(t, kvt_overlap_adjusted(&o));
            kvt_put_real(t, kvt_overlap_all_jaccard(&o));
            kvt_put_int(t, slots + other - 2 * inside);
        }
        kvt_held_free(&x);
        kvt_held_free(&y);
    }
    kvoverlap_close(r, &second);
    return kvoverlap_write(r, rc, &t, err);
}

/* ---- what came later ---- */

int kvoverlap_future(struct kvoverlap *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        BRANCH_COLUMNS, {.name = "recall", .title = "recall of future mass", .kind = KVT_COL_SHARE},
        {.name = "recall_rest", .title = "without sinks", .kind = KVT_COL_SHARE},
        {.name = "worst_layer", .title = "worst layer", .kind = KVT_COL_INT}, {.name = "worst_recall", .title = "its recall", .kind = KVT_COL_SHARE},
    };
    size_t L = (size_t)r->info->L, G = (size_t)r->info->G, steps = (size_t)r->info->n_steps;
    float *lost = kvt_calloc(steps * L * G, sizeof *lost);
    struct kvt_running *of = kvt_calloc(L, sizeof *of);
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = lost && of ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for lost mass of %d steps", r->info->n_steps);
    for (int i = 0; !rc && i < r->n_branches; i++) {
        static const char *const what[] = {"lost_mass", "lost_rest"};
        double mean[2] = {NAN, NAN}, worst = NAN;
        int at = -1;
        for (int k = 0; !rc && k < 2; k++) {
            struct kvt_running all = {0};
            rc = kvt_trace_fidelity_of(r->first, r->branch[i], what[k], lost, err);
            memset(of, 0, L * sizeof *of);
            for (size_t s = 0; !rc && s < steps; s++)
                for (size_t l = 0; l < L; l++)
                    for (size_t g = 0; r->layer[l] && g < G; g++) {
                        kvt_running_add(&all, lost[(s * L + l) * G + g]);
                        kvt_running_add(&of[l], lost[(s * L + l) * G + g]);
                    }
            mean[k] = 1 - kvt_running_mean(&all);
            for (size_t l = 0; !rc && !k && l < L; l++) {
                double v = r->layer[l] ? 1 - kvt_running_mean(&of[l]) : NAN;
                if (v < worst || (isnan(worst) && !isnan(v)))
                    worst = v, at = (int)l;
            }
        }
        put_branch(r, t, r->branch[i]);
        kvt_put_real(t, mean[0]);
        kvt_put_real(t, mean[1]);
        if (at < 0)
            kvt_put_none(t);
        else
            kvt_put_int(t, at);
        kvt_put_real(t, worst);
    }
    free(lost);
    free(of);
    return kvoverlap_write(r, rc, &t, err);
}

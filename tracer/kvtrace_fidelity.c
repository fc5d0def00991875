/* kvtrace --fidelity: what is measured against the full branch, and the oracles that regret needs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tracer/kvtrace.h"

int kvtrace_fidelity(struct kvtrace_run *run, struct kvt_err *err)
{
    static const char *const known[] = { "lost", "output", "regret" };
    bool *const to[] = { &run->lost_mass, &run->output_error, &run->regret };
    char **item = NULL;
    int count = 0, rc = run->o.fidelity ? kvt_split(run->o.fidelity, &item, &count, "--fidelity", err) : 0;
    for (int i = 0; i < count && !rc; i++) {
        int k = 0, n = (int)(sizeof known / sizeof *known);
        while (k < n && strcmp(item[i], known[k]))
            k++;
        if (k < n)
            *to[k] = true;
        else
            rc = kvt_fail(err, KVT_EUSAGE, "--fidelity: '%.40s' is nothing that is measured; there are lost, output and regret", item[i]);
    }
    free(item);
    run->lost_mass |= run->regret;
    return rc;
}

static bool is_oracle(const struct kvt_spec *spec) { return spec->policy.score == KVT_SCORE_ORACLE; }

/* Oracles rank by what the other branches' pass has seen: they come last. The order is kept otherwise. */
void kvtrace_oracles_last(struct kvtrace_run *run)
{
    for (int i = run->n_specs - 1, end = run->n_specs; i >= 0; i--) {
        if (!is_oracle(&run->spec[i]))
            continue;
        struct kvt_spec o = run->spec[i];
        memmove(&run->spec[i], &run->spec[i + 1], (size_t)(end - 1 - i) * sizeof o);
        run->spec[--end] = o;
    }
}

/* The oracle of a method: its unit, allocation and schedule, and nothing protected. */
static struct kvt_spec oracle_of(const struct kvt_spec *spec)
{
    struct kvt_spec o = { .method = kvt_method_find("oracle") };
    const struct kvt_policy *own = &o.method->defaults;
    struct kvt_policy p = spec->policy;
    p.score = own->score, p.window = own->window, p.visible_mean = own->visible_mean, p.pool = own->pool, p.pool_width = own->pool_width;
    p.group = own->group, p.group_first = own->group_first, p.ahead = own->ahead, p.sinkless = own->sinkless;
    p.critical_ppm = own->critical_ppm, p.sinks = own->sinks, p.recent = own->recent, p.keep_window = own->keep_window;
    p.spans = own->spans, p.renumber = own->renumber, p.seed = own->seed;
    if (p.leaver == KVT_LEAVES_CONTEST) /* a contest is a way of ranking: its unit in a step is the token */
        p.leaver = KVT_LEAVES_WORST, p.unit = KVT_UNIT_TOKEN;
    o.policy = p;
    kvt_spec_canonical(&o);
    return o;
}

static bool same_budget(const struct kvt_budget *a, const struct kvt_budget *b)
{
    if (a->kind != b->kind || (a->kind != KVT_BUDGET_KEEP && a->of != b->of))
        return false;
    return a->kind == KVT_BUDGET_KEEP ? a->keep_ppm == b->keep_ppm
         : a->kind == KVT_BUDGET_MATCH || a->kind == KVT_BUDGET_CELLS ? a->match == b->match : a->tokens == b->tokens && a->amount == b->amount;
}

int kvtrace_add_oracles(struct kvtrace_run *run, struct kvt_err *err)
{
    int n = run->n_branches;
    for (int b = 0; b < n; b++) {
        struct kvt_branch_opts *br = &run->branch[b];
        if (is_oracle(&br->spec) || br->spec.policy.alloc == KVT_ALLOC_CLASS) /* of given classes nothing is chosen: no regret */
            continue;
        struct kvt_spec o = oracle_of(&br->spec);
        int same = 0, k = 0;
        for (; k < run->n_branches; k++) {
            const struct kvt_branch_opts *other = &run->branch[k];
            if (!is_oracle(&other->spec) || !same_budget(&other->budget, &br->budget))
                continue;
            if (!strcmp(other->spec.canonical, o.canonical))
                break;
            same++;
        }
        br->oracle = k + 1;
        if (k < run->n_branches)
            continue;
        char number[12] = "";
        if (same)
            snprintf(number, sizeof number, "#%d", same + 1);
        snprintf(run->name[k], sizeof run->name[k], "oracle%s %s%.24s", number, br->budget.kind == KVT_BUDGET_MATCH ? "~ " : "", run->asked[b]);
        memcpy(run->asked[k], run->asked[b], sizeof run->asked[k]);
        for (int i = 0; i < k; i++)
            if (!strcmp(run->name[i], run->name[k]))
                return kvt_fail(err, KVT_EUSAGE, "--fidelity regret adds a branch '%s', and there is one of that name", run->name[k]);
        run->branch[k] = (struct kvt_branch_opts){ .name = run->name[k], .spec = o, .budget = br->budget };
        run->n_branches++;
    }
    return 0;
}

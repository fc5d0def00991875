/* kvtrace --budget-file: branches whose layers or kv heads have budgets of their own. Such a branch runs another method than the
 * one it is made from, and is called so: shotkv becomes shotkv-derived. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tracer/kvtrace.h"

struct kvtrace_file_budgets {
    struct kvt_budget_file file;
    struct kvt_budget **cell;        /* (n_cells) (L, G) each, owned */
    const char **name_in_file;       /* (n_cells) */
    int n_cells;                     /* branches that have budgets of the file */
    struct kvt_method *method;       /* (n_specs) the method under its other name; name NULL: not used */
    char (*name)[24];                /* (n_specs) */
};
/* Which of the n_cells a branch's are, and those of the oracle of its regret, is budget.match. */

int kvtrace_open_budgets(struct kvtrace_run *run, struct kvt_err *err)
{
    if (!run->o.budget_file)
        return 0;
    if (run->o.match)
        return kvt_fail(err, KVT_EUSAGE, "--match and --budget-file both say how much a method keeps; drop one of them");
    struct kvtrace_file_budgets *f = run->budgets = kvt_calloc(1, sizeof *f);
    if (!f)
        return kvt_fail(err, KVT_ENOMEM, "no memory for budgets");
    f->method = kvt_calloc((size_t)run->n_specs, sizeof *f->method);
    f->name = kvt_calloc((size_t)run->n_specs, sizeof *f->name);
    if (!f->method || !f->name)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d methods", run->n_specs);
    return kvt_budget_file_read(&f->file, run->o.budget_file, err);
}

void kvtrace_close_budgets(struct kvtrace_run *run)
{
    struct kvtrace_file_budgets *f = run->budgets;
    if (!f)
        return;
    for (int i = 0; i < f->n_cells; i++)
        free(f->cell[i]);
    free(f->cell);
    free(f->name_in_file);
    free(f->method);
    free(f->name);
    kvt_budget_file_free(&f->file);
    free(f);
    run->budgets = NULL;
}

/* The k-th name of the file that belongs to a method: its own, or with a blank and more behind it. NULL: there are no more. */
static const char *name_of(const struct kvt_budget_file *f, const char *method, int k)
{
    size_t len = strlen(method);
    for (int i = 0; i < f->n; i++) {
        const char *name = f->line[i].name;
        if (strncmp(name, method, len) || (name[len] && name[len] != ' '))
            continue;
        bool before = false;
        for (int j = 0; j < i && !before; j++)
            before = !strcmp(f->line[j].name, name);
        if (!before && k-- == 0)
            return name;
    }
    return NULL;
}

int kvtrace_count_budgets(const struct kvtrace_run *run, const char *method)
{
    int n = 0;
    while (run->budgets && name_of(&run->budgets->file, method, n))
        n++;
    return n;
}

int kvtrace_budget_branch(struct kvtrace_run *run, int spec, const char *method, int k, int b, struct kvt_err *err)
{
    struct kvtrace_file_budgets *f = run->budgets;
    struct kvt_branch_opts *to = &run->branch[b];
    struct kvt_method *m = &f->method[spec];
    size_t n = (size_t)f->n_cells + 1;
    struct kvt_budget **cell = realloc(f->cell, n * sizeof *cell);
    f->cell = cell ? cell : f->cell;
    const char **names = cell ? realloc(f->name_in_file, n * sizeof *names) : NULL;
    f->name_in_file = names ? names : f->name_in_file;
    if (!names)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %zu branches", n);
    cell[n - 1] = NULL;
    names[n - 1] = name_of(&f->file, method, k);
    if (!m->name) {
        *m = *run->spec[spec].method;
        snprintf(f->name[spec], sizeof f->name[spec], "%.15s-derived", m->name);
        m->name = f->name[spec];
    }
    *to = (struct kvt_branch_opts){ .name = run->name[b], .spec = run->spec[spec], .budget = { .kind = KVT_BUDGET_CELLS, .match = f->n_cells++ } };
    to->spec.method = m;
    kvt_spec_canonical(&to->spec);
    const char *sharp = strchr(method, '#');
    snprintf(run->name[b], sizeof run->name[b], "%.23s%.7s%.16s", m->name, sharp ? sharp : "", names[n - 1] + strlen(method));
    snprintf(run->asked[b], sizeof run->asked[b], "file: %.48s", names[n - 1]);
    for (int i = 0; i < b; i++)
        if (!strcmp(run->name[i], run->name[b]))
            return kvt_fail(err, KVT_EUSAGE, "%s: two branches would be called '%s'; give '%s' a shorter name", f->file.path, run->name[b], names[n - 1]);
    return 0;
}

int kvtrace_fill_budgets(struct kvtrace_run *run, struct kvt_err *err)
{
    struct kvtrace_file_budgets *f = run->budgets;
    const struct kvt_shape *s = kvt_model_shape(run->model);
    int rc = 0;
    for (int i = 0; f && !rc && i < f->n_cells; i++) {
        f->cell[i] = kvt_calloc((size_t)s->L * (size_t)s->G, sizeof **f->cell);
        rc = f->cell[i] ? kvt_budget_file_cells(&f->file, f->name_in_file[i], s->L, s->G, f->cell[i], err)
                        : kvt_fail(err, KVT_ENOMEM, "no memory for the budgets of %d heads", s->L * s->G);
    }
    for (int b = 0; !rc && b < run->n_branches; b++) {
        struct kvt_budget *to = &run->branch[b].budget;
        if (to->kind == KVT_BUDGET_CELLS)
            to->cell = f->cell[to->match], to->L = s->L, to->G = s->G;
    }
    return rc;
}

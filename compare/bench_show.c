/* kvbench: one cell of a result, opened; the list of tasks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare/bench.h"
#include "compare/kept.h"

/* ITEM,BRANCH: the item's id may hold commas, a branch's name doesn't. */
static int find_cell(const struct kvt_result *r, const char *cell, int *item, int *branch, struct kvt_err *err)
{
    const char *comma = strrchr(cell, ',');
    char id[128];
    *item = *branch = -1;
    snprintf(id, sizeof id, "%.*s", comma ? (int)(comma - cell) : 0, cell);
    for (int b = 0; comma && b < r->n_branches; b++)
        if (!strcmp(r->branch[b].name, comma + 1))
            *branch = b;
    *item = comma ? kvt_result_find(r, id) : -1;
    if (*item < 0 || *branch < 0)
        return kvt_fail(err, KVT_EUSAGE, "--cell '%.80s': %s; write ITEM,BRANCH, as '%s,%s'", cell, *item < 0 ? "no such item in the file" : "no such branch in the file",
                        r->n_items ? r->item[0].id : "gsm8k/0", r->n_branches ? r->branch[r->n_branches - 1].name : "full");
    return 0;
}

static void number(const char *name, double v, const char *unit)
{
    if (!isnan(v))
        printf("%-12s %g%s\n", name, v, unit);
}

/* Positions as ranges, "0-3,17". */
static void put_ranges(const struct kvt_kept *k, int l, int g)
{
    const char *comma = "";
    for (int p = 0, end; p < k->n_context; p = end) {
        bool has = kvt_kept_has(k, l, g, p);
        for (end = p + 1; end < k->n_context && kvt_kept_has(k, l, g, end) == has; end++)
            ;
        if (has) {
            printf(end > p + 1 ? "%s%d-%d" : "%s%d", comma, p, end - 1);
            comma = ",";
        }
    }
    putchar('\n');
}

/* all: each cell; else how many in all, and of the layer with the fewest and the most. */
static int show_kept(const struct kvt_result *r, int item, int branch, bool all, struct kvt_err *err)
{
    struct kvt_kept k;
    char *text = NULL;
    int rc = kvt_result_kept(r, r->item[item].id, r->branch[branch].name, &text, err);
    if (!rc && !text)
        return all ? kvt_fail(err, KVT_EINPUT, "%s: no kept set of this cell (the full branch and oracles have none; or it was made with --no-kept)", r->path) : 0;
    if (!rc)
        rc = kvt_kept_open(&k, text, err);
    free(text);
    if (rc)
        return rc;
    if (all)
        printf("# layer\tkv_head\theld (tokens)\tpositions\n");
    long sum = 0, least = -1, most = 0;
    for (int l = 0; l < k.L; l++)
        for (int g = 0; g < k.G; g++) {
            long held = 0;
            for (int p = 0; p < k.n_context; p++)
                held += kvt_kept_has(&k, l, g, p);
            sum += held, most = held > most ? held : most, least = least < 0 || held < least ? held : least;
            if (all) {
                printf("%d\t%d\t%ld\t", l, g, held);
                put_ranges(&k, l, g);
            }
        }
    if (!all)
        printf("%-12s %.1f of %d tokens, mean of %d kv heads; %ld to %ld (--kept lists them)\n", "held", (double)sum / k.L / k.G, k.n_context, k.L * k.G, least, most);
    kvt_kept_close(&k);
    return 0;
}

int kvt_bench_show(const struct kvt_result *r, const struct kvt_bench_options *o, struct kvt_err *err)
{
    const char *cell = o->cell;
    int i, b, rc = 0;
    const cJSON *line = cJSON_GetObjectItemCaseSensitive(r->run, "command_line");
    if (!cell && o->kept)
        return kvt_fail(err, KVT_EUSAGE, "--kept: of which --cell ITEM,BRANCH?");
    if (!cell) { /* what there is */
        for (i = 0; i < r->n_items; i++)
            printf("%s%s%s\n", r->item[i].id, r->item[i].failed ? "  failed: " : "", r->item[i].failed ? r->item[i].failed : "");
        return 0;
    }
    rc = find_cell(r, cell, &i, &b, err);
    if (rc)
        return rc;
    const struct kvt_result_item *item = &r->item[i];
    const struct kvt_cell *c = &item->cell[b];
    if (o->kept)
        return show_kept(r, i, b, true, err);
    printf("%-12s %s\n%-12s %s, asked %s\n%-12s %d tokens, %d of them may be evicted\n", "item", item->id, "branch", r->branch[b].canonical, r->branch[b].asked, "prompt", item->n_prompt, item->n_context);
    if (item->failed || !c->there) {
        printf("%-12s %s\n", "failed", item->failed ? item->failed : "this branch hasn't answered it");
        return 0;
    }
    for (int k = 0; k < r->n_rules; k++)
        if (!isnan(c->right[k]))
            printf("%-12s %s, %g right\n", r->rule[k], c->answer[k] ? c->answer[k] : "no answer", c->right[k]);
    if (item->gold)
        printf("%-12s %s\n", "expected", item->gold);
    if (*c->end)
        printf("%-12s %d tokens, ended by %s\n", "wrote", c->n_new, !strcmp(c->end, "stop") ? "a stop" : !strcmp(c->end, "end") ? "an end token" : "the limit");
    if (c->diverged)
        printf("%-12s from token %d on\n", "differs", c->diverged);
    number("kept", 100 * c->kept, " % of the context");
    rc = show_kept(r, i, b, false, err);
    if (rc)
        return rc;
    if (c->fallback)
        printf("%-12s the method's own allocation was impossible\n", "fallback");
    number("bytes after", c->bytes_after, "");
    number("bytes mean", c->bytes_mean, "");
    number("bytes peak", c->bytes_peak, "");
    number("KL", c->kl, " nats");
    number("nll", c->nll, " nats a token");
    if (cJSON_IsString(line))
        printf("%-12s %s\n", "made by", line->valuestring);
    printf("\n%s", item->prompt);
    if (c->text)
        printf(" >>>%s<<<\n", c->text);
    return 0;
}

static int put_task(void *arg, const struct kvt_task *t, struct kvt_err *err)
{
    struct kvt_table *table = arg;
    (void)err;
    kvt_put_text(table, t->name);
    kvt_put_text(table, t->made ? "made" : kvt_task_kinds[t->kind]);
    kvt_put_int(table, t->n_shots);
    kvt_put_text(table, t->about);
    kvt_put_text(table, t->questions ? t->questions : t->text);
    kvt_put_text(table, t->source);
    return 0;
}

int kvt_bench_list(const struct kvt_bench_options *o, struct kvt_err *err)
{
    static const struct kvt_col col[] = { { .name = "task", .kind = KVT_COL_TEXT }, { .name = "kind", .kind = KVT_COL_TEXT }, { .name = "shots", .kind = KVT_COL_INT },
                                          { .name = "about", .kind = KVT_COL_TEXT }, { .name = "data", .kind = KVT_COL_TEXT, .programs_only = true },
                                          { .name = "source", .kind = KVT_COL_TEXT, .programs_only = true } };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = t ? kvt_task_each(o->task_dir, put_task, t, err) : kvt_fail(err, KVT_ENOMEM, "no memory for the list");
    if (!rc)
        rc = kvt_table_write(t, stdout, (enum kvt_format)o->format, err);
    kvt_table_free(&t);
    return rc;
}

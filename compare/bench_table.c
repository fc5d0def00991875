/* kvbench: the tables of a result. A row is a method at a budget; branches that differ in their seed alone are one row. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/stats.h"
#include "compare/bench.h"
#include "compare/paired.h"

#define EQUAL_BYTES 0.05 /* rows whose mean bytes differ by more aren't compared at equal bytes */

/* Branches of one row. */
struct row { const char *name; int branch[64], n; bool renumbered; };

struct view {
    const struct kvt_result *r;
    const struct kvt_bench_options *o;
    struct row *row;
    int n_rows;
    int *item, n_items;            /* those that every row has: the same questions for all */
    int failed, lacking;
    bool text, several;            /* perplexity; more than one answer in an output, or more than one seed in a row */
    const char *group;             /* of the items, or NULL: all */
};

static int no_memory(struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "no memory for the tables"); }

static const char *run_text(const struct kvt_result *r, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(r->run, name);
    return cJSON_IsString(v) ? v->valuestring : "";
}

static double run_number(const struct kvt_result *r, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(r->run, name);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

static int make_rows(struct view *v, struct kvt_err *err)
{
    const struct kvt_result *r = v->r;
    if (!(v->row = kvt_calloc((size_t)r->n_branches, sizeof *v->row)))
        return no_memory(err);
    for (int b = 0; b < r->n_branches; b++) {
        int at = 0;
        while (at < v->n_rows && strcmp(r->branch[v->row[at].branch[0]].family, r->branch[b].family))
            at++;
        struct row *row = &v->row[at];
        if (at == v->n_rows) {
            v->n_rows++;
            row->name = r->branch[b].name;
            row->renumbered = r->branch[b].renumbered;
        }
        if (row->n < 64)
            row->branch[row->n++] = b;
    }
    return 0;
}

static int pick_items(struct view *v, struct kvt_err *err)
{
    const struct kvt_result *r = v->r;
    v->n_items = v->failed = v->lacking = 0;
    if (!v->item && !(v->item = kvt_calloc((size_t)r->n_items + 1, sizeof *v->item)))
        return no_memory(err);
    for (int i = 0; i < r->n_items; i++) {
        bool whole = true;
        if (v->group && strcmp(v->group, r->item[i].group))
            continue;
        if (r->item[i].failed) {
            v->failed++;
            continue;
        }
        for (int b = 0; b < r->n_branches; b++)
            whole &= r->item[i].cell[b].there;
        if (whole)
            v->item[v->n_items++] = i;
        else
            v->lacking++;
        v->several |= r->item[i].n_gold > 1;
    }
    return 0;
}

static const struct kvt_cell *cell_of(const struct view *v, int i, int b) { return &v->r->item[v->item[i]].cell[b]; }

/* What rule k gives a row on an item: its share of right answers, mean over seeds; of a text, nats per token. */
static double value(const struct view *v, int row, int i, int k)
{
    double sum = 0;
    for (int s = 0; s < v->row[row].n; s++) {
        const struct kvt_cell *c = cell_of(v, i, v->row[row].branch[s]);
        sum += v->text ? c->nll : c->right[k];
    }
    return sum / v->row[row].n;
}

static double mean_value(const struct view *v, int row, int k)
{
    double sum = 0;
    for (int i = 0; i < v->n_items; i++)
        sum += value(v, row, i, k);
    return v->n_items ? sum / v->n_items : NAN;
}

enum mean_of { KEPT, AFTER, LAST, MEAN, PEAK, LENGTH, CUT, AGREE, KL };

static bool agrees(const struct kvt_cell *a, const struct kvt_cell *full)
{
    const char *x = a->answer[0], *y = full->answer[0];
    return x && y ? !strcmp(x, y) : x == y && a->text && full->text && !strcmp(a->text, full->text);
}

static double mean(const struct view *v, int row, enum mean_of what)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < v->n_items; i++)
        for (int s = 0; s < v->row[row].n; s++) {
            const struct kvt_cell *c = cell_of(v, i, v->row[row].branch[s]);
            double x = what == KEPT ? c->kept : what == AFTER ? c->bytes_after : what == LAST ? c->bytes_last : what == MEAN ? c->bytes_mean : what == PEAK ? c->bytes_peak
                     : what == LENGTH ? c->n_new : what == CUT ? !strcmp(c->end, "limit") : what == AGREE ? agrees(c, cell_of(v, i, v->row[0].branch[0])) : c->kl;
            if (!isnan(x))
                sum += x, n++;
        }
    return n ? sum / n : NAN;
}

static bool single(const struct view *v, int row) { return !v->text && !v->several && v->row[row].n == 1; }

/* Interval of a row's mean: Wilson's where each question is right or wrong (of the mean over seeds), else over outputs by bootstrap. */
static int interval(const struct view *v, int row, double *low, double *high, struct kvt_err *err)
{
    double *d = kvt_calloc((size_t)v->n_items + 1, sizeof *d);
    if (!d)
        return no_memory(err);
    for (int i = 0; i < v->n_items; i++)
        d[i] = value(v, row, i, 0);
    if (v->text || v->several)
        kvt_mean_difference(d, v->n_items, 1, low, high);
    else
        kvt_wilson(mean_value(v, row, 0), v->n_items, KVT_Z95, low, high);
    free(d);
    return 0;
}

static void name_of(const struct row *row, char *out, size_t cap)
{
    if (row->n > 1)
        snprintf(out, cap, "%.40s x%d", row->name, row->n);
    else
        snprintf(out, cap, "%.47s", row->name);
}

static void put_bytes(struct kvt_table *t, double v)
{
    if (isnan(v))
        kvt_put_none(t);
    else
        kvt_put_int(t, (int64_t)v);
}

/* Tokens at the beginning of a prompt that were prefilled once for neighbours, mean over questions. */
static double shared_tokens(const struct view *v)
{
    double sum = 0;
    for (int i = 0; i < v->n_items; i++)
        sum += v->r->item[v->item[i]].n_shared;
    return v->n_items ? sum / v->n_items : 0;
}

/* ---- the rows ---- */

static int rows_table(const struct view *v, struct kvt_err *err)
{
    const struct kvt_result *r = v->r;
    struct kvt_col col[24 + KVT_MAX_RULES];
    int n = 0, rc = 0, rules = v->text ? 0 : r->n_rules;
    bool wrote = !v->text && strcmp(run_text(r, "kind"), "choice");
    enum kvt_col_kind kind = v->text ? KVT_COL_REAL : KVT_COL_SHARE;
    int digits = v->text ? 4 : 1;
    col[n++] = (struct kvt_col){ .name = "branch", .kind = KVT_COL_TEXT };
    col[n++] = (struct kvt_col){ .name = "kv_bytes_mean", .title = "KV mean", .unit = "bytes", .kind = KVT_COL_BYTES };
    col[n++] = (struct kvt_col){ .name = v->text ? "nll" : rules > 1 ? r->rule[0] : "right", .kind = kind, .digits = digits };
    col[n++] = (struct kvt_col){ .name = "low", .kind = kind, .digits = digits };
    col[n++] = (struct kvt_col){ .name = "high", .kind = kind, .digits = digits };
    if (v->text)
        col[n++] = (struct kvt_col){ .name = "perplexity", .kind = KVT_COL_REAL, .digits = 3 };
    for (int k = 1; k < rules; k++)
        col[n++] = (struct kvt_col){ .name = r->rule[k], .kind = KVT_COL_SHARE, .digits = 1 };
    if (!v->text)
        col[n++] = (struct kvt_col){ .name = "agrees", .kind = KVT_COL_SHARE, .digits = 1 };
    if (wrote) {
        col[n++] = (struct kvt_col){ .name = "cut", .kind = KVT_COL_SHARE, .digits = 1 };
        col[n++] = (struct kvt_col){ .name = "tokens", .kind = KVT_COL_REAL, .digits = 1 };
    }
    col[n++] = (struct kvt_col){ .name = "mean_kl", .title = "KL", .unit = "nats", .kind = KVT_COL_REAL, .digits = 4 };
    col[n++] = (struct kvt_col){ .name = "seeds", .kind = KVT_COL_INT, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "seed_low", .kind = kind, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "seed_high", .kind = kind, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "effective_keep", .kind = KVT_COL_SHARE, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "kv_bytes_after", .kind = KVT_COL_BYTES, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "kv_bytes_last", .kind = KVT_COL_BYTES, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "kv_bytes_peak", .kind = KVT_COL_BYTES, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "renumbered", .kind = KVT_COL_BOOL, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "questions", .kind = KVT_COL_INT, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "shared_tok", .unit = "tokens", .kind = KVT_COL_REAL, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "method", .kind = KVT_COL_TEXT, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "asked", .kind = KVT_COL_TEXT, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "task", .kind = KVT_COL_TEXT, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "model", .kind = KVT_COL_TEXT, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "group", .kind = KVT_COL_TEXT, .programs_only = true };
    struct kvt_table *t = kvt_table_new(col, n);
    for (int i = 0; i < v->n_rows && !rc; i++) {
        const struct row *row = &v->row[i];
        char name[64];
        double low, high, first = INFINITY, last = -INFINITY;
        rc = interval(v, i, &low, &high, err);
        for (int s = 0; s < row->n; s++) { /* seed by seed */
            double sum = 0;
            for (int q = 0; q < v->n_items; q++)
                sum += v->text ? cell_of(v, q, row->branch[s])->nll : cell_of(v, q, row->branch[s])->right[0];
            first = fmin(first, sum / v->n_items), last = fmax(last, sum / v->n_items);
        }
        name_of(row, name, sizeof name);
        kvt_put_text(t, name);
        put_bytes(t, mean(v, i, MEAN));
        kvt_put_real(t, mean_value(v, i, 0));
        kvt_put_real(t, low);
        kvt_put_real(t, high);
        if (v->text)
            kvt_put_real(t, exp(mean_value(v, i, 0)));
        for (int k = 1; k < rules; k++)
            kvt_put_real(t, mean_value(v, i, k));
        if (!v->text)
            kvt_put_real(t, mean(v, i, AGREE));
        if (wrote) {
            kvt_put_real(t, mean(v, i, CUT));
            kvt_put_real(t, mean(v, i, LENGTH));
        }
        kvt_put_real(t, mean(v, i, KL));
        kvt_put_int(t, row->n);
        kvt_put_real(t, first);
        kvt_put_real(t, last);
        kvt_put_real(t, mean(v, i, KEPT));
        put_bytes(t, mean(v, i, AFTER));
        put_bytes(t, mean(v, i, LAST));
        put_bytes(t, mean(v, i, PEAK));
        kvt_put_bool(t, row->renumbered);
        kvt_put_int(t, v->n_items);
        kvt_put_real(t, shared_tokens(v));
        kvt_put_text(t, r->branch[row->branch[0]].canonical);
        kvt_put_text(t, r->branch[row->branch[0]].asked);
        kvt_put_text(t, run_text(r, "task"));
        kvt_put_text(t, run_text(r, "model"));
        kvt_put_text(t, v->group ? v->group : "");
    }
    if (!rc)
        rc = kvt_table_write(t, stdout, (enum kvt_format)v->o->format, err);
    kvt_table_free(&t);
    return rc;
}

/* ---- pairs ---- */

struct pair { int row, against; double diff, low, high, p, bytes; struct kvt_pairs n; };

/* "shotkv 25%" among the rows. */
static int find_row(const struct view *v, const char *name, size_t n)
{
    for (int i = 0; i < v->n_rows; i++)
        if (strlen(v->row[i].name) == n && !strncmp(v->row[i].name, name, n))
            return i;
    return -1;
}

static int name_pairs(const struct view *v, struct pair **out, int *count, struct kvt_err *err)
{
    char **item = NULL;
    int extra = 0, n = 0, rc = v->o->contrasts ? kvt_split(v->o->contrasts, &item, &extra, "--contrast", err) : 0;
    struct pair *p = rc ? NULL : kvt_calloc((size_t)(2 * v->n_rows + extra), sizeof *p);
    if (!rc && !p)
        rc = no_memory(err);
    for (int i = 1; i < v->n_rows && !rc; i++)
        p[n++] = (struct pair){ .row = i, .against = 0 };
    for (int i = 1; i < v->n_rows && !rc; i++) { /* what --match made to be compared */
        const char *asked = v->r->branch[v->row[i].branch[0]].asked;
        int like = strncmp(asked, "as ", 3) ? -1 : find_row(v, asked + 3, strlen(asked + 3));
        if (like > 0)
            p[n++] = (struct pair){ .row = like, .against = i };
    }
    for (int i = 0; i < extra && !rc; i++) {
        const char *colon = strchr(item[i], ':');
        int a = colon ? find_row(v, item[i], (size_t)(colon - item[i])) : -1, b = colon ? find_row(v, colon + 1, strlen(colon + 1)) : -1;
        if (a < 0 || b < 0)
            rc = kvt_fail(err, KVT_EUSAGE, "--contrast '%.80s': two branches of the table with a colon between them, as 'shotkv 25%%:snapkv 25%%'", item[i]);
        else
            p[n++] = (struct pair){ .row = a, .against = b };
    }
    free(item);
    if (rc)
        free(p);
    else
        *out = p, *count = n;
    return rc;
}

static int measure_pair(const struct view *v, struct pair *p, struct kvt_err *err)
{
    double *d = kvt_calloc((size_t)v->n_items + 1, sizeof *d), base = mean(v, p->against, MEAN);
    if (!d)
        return no_memory(err);
    for (int i = 0; i < v->n_items; i++) {
        double x = value(v, p->against, i, 0), y = value(v, p->row, i, 0);
        d[i] = y - x;
        p->n.both += x == 1 && y == 1, p->n.first += x == 1 && y == 0, p->n.second += x == 0 && y == 1, p->n.neither += x == 0 && y == 0;
    }
    p->bytes = mean(v, p->row, MEAN) / base - 1;
    p->p = NAN;
    if (single(v, p->row) && single(v, p->against)) {
        p->diff = kvt_paired_difference(&p->n, KVT_Z95, &p->low, &p->high);
        p->p = kvt_mcnemar(p->n.first, p->n.second);
    } else {
        p->diff = kvt_mean_difference(d, v->n_items, 1, &p->low, &p->high);
    }
    free(d);
    return 0;
}

/* Whether the full cache is far enough above guessing for a loss to be seen: 15 points (measures.md 10). */
static bool testable(const struct view *v) { return v->text || mean_value(v, 0, 0) >= run_number(v->r, "chance") + 0.15; }

static int pairs_table(const struct view *v, double *discordant, struct kvt_err *err)
{
    enum kvt_col_kind kind = v->text ? KVT_COL_REAL : KVT_COL_SHARE;
    int digits = v->text ? 4 : 1, n = 0, rc;
    const struct kvt_col col[] = {
        { .name = "branch", .kind = KVT_COL_TEXT }, { .name = "against", .kind = KVT_COL_TEXT }, { .name = "difference", .title = "differs by", .kind = kind, .digits = digits },
        { .name = "low", .kind = kind, .digits = digits }, { .name = "high", .kind = kind, .digits = digits },
        { .name = "lost", .kind = KVT_COL_INT }, { .name = "won", .kind = KVT_COL_INT }, { .name = "p_holm", .title = "p (Holm)", .kind = KVT_COL_REAL, .digits = 4 },
        { .name = "verdict", .kind = KVT_COL_TEXT }, { .name = "p", .kind = KVT_COL_REAL, .programs_only = true },
        { .name = "bytes_more", .kind = KVT_COL_SHARE, .programs_only = true }, { .name = "questions", .kind = KVT_COL_INT, .programs_only = true },
        { .name = "task", .kind = KVT_COL_TEXT, .programs_only = true }, { .name = "model", .kind = KVT_COL_TEXT, .programs_only = true } };
    struct pair *p = NULL;
    rc = name_pairs(v, &p, &n, err);
    for (int i = 0; i < n && !rc; i++)
        rc = measure_pair(v, &p[i], err);
    double *holm = rc ? NULL : kvt_calloc((size_t)n + 1, sizeof *holm);
    struct kvt_table *t = holm ? kvt_table_new(col, (int)(sizeof col / sizeof *col)) : NULL;
    if (!rc && !t)
        rc = no_memory(err);
    for (int i = 0; i < n && !rc; i++)
        holm[i] = p[i].p;
    if (!rc)
        kvt_holm(holm, n);
    *discordant = 0;
    for (int i = 0, tests = 0; i < n && !rc; i++) {
        char a[64], b[64];
        name_of(&v->row[p[i].row], a, sizeof a);
        name_of(&v->row[p[i].against], b, sizeof b);
        kvt_put_text(t, a);
        kvt_put_text(t, b);
        kvt_put_real(t, p[i].diff);
        kvt_put_real(t, p[i].low);
        kvt_put_real(t, p[i].high);
        kvt_put_int(t, p[i].n.first);
        kvt_put_int(t, p[i].n.second);
        kvt_put_real(t, holm[i]);
        kvt_put_text(t, testable(v) ? kvt_verdict(p[i].low, p[i].high) : "not tested");
        kvt_put_real(t, p[i].p);
        kvt_put_real(t, p[i].bytes);
        kvt_put_int(t, v->n_items);
        kvt_put_text(t, run_text(v->r, "task"));
        kvt_put_text(t, run_text(v->r, "model"));
        if (v->n_items && !isnan(p[i].p))
            *discordant += ((double)(p[i].n.first + p[i].n.second) / v->n_items - *discordant) / ++tests;
    }
    if (!rc && n)
        rc = kvt_table_write(t, stdout, (enum kvt_format)v->o->format, err);
    bool first = true;
    for (int i = 0; i < n && !rc && v->o->format == KVT_FORMAT_TABLE; i++)
        if (p[i].against && fabs(p[i].bytes) > EQUAL_BYTES) {
            printf("%s%s %+.0f %% against %s", first ? "\nNot at equal bytes: " : ", ", v->row[p[i].row].name, 100 * p[i].bytes, v->row[p[i].against].name);
            first = false;
        }
    if (!first)
        printf(".\n");
    kvt_table_free(&t);
    free(holm);
    free(p);
    return rc;
}

/* ---- the whole ---- */

static int tables(struct view *v, struct kvt_err *err)
{
    const struct kvt_result *r = v->r;
    bool people = v->o->format == KVT_FORMAT_TABLE;
    double discordant = 0;
    int rc = pick_items(v, err);
    if (rc)
        return rc;
    if (people) {
        printf("%s%s%s, %s: %d questions, %.0f shots, protocol %s, %s products, %s KV\n", run_text(r, "task"), v->group ? ", " : "", v->group ? v->group : "", run_text(r, "model"),
               v->n_items, run_number(r, "n_shots"), run_text(r, "protocol"), run_text(r, "compute"), run_text(r, "kv_type"));
        if (v->failed || v->lacking)
            printf("left out: %d questions that failed, %d that not every branch has answered\n", v->failed, v->lacking);
        if (shared_tokens(v) > 0)
            printf("the first %.0f tokens of a prompt (mean) were prefilled once for all neighbours that share them\n", shared_tokens(v));
        putchar('\n');
    }
    if (people || !v->o->show)
        rc = rows_table(v, err);
    if (!rc && v->n_rows > 1 && !v->group && (people || v->o->show)) {
        if (people)
            putchar('\n');
        rc = pairs_table(v, &discordant, err);
    }
    if (rc || !people || v->group || v->text || v->n_rows < 2)
        return rc;
    if (!testable(v))
        printf("\nThe full cache is less than 15 points above guessing (%.0f %%): nothing can be lost that could be seen.\n", 100 * run_number(r, "chance"));
    else if (discordant > 0)
        printf("\nOf such pairs (%.0f %% of the questions differ), %d questions show a difference of %.0f points (80 %% power).\n", 100 * discordant, v->n_items,
               100 * kvt_detectable(v->n_items, discordant));
    for (int i = 0; i < v->n_rows; i++)
        if (v->row[i].renumbered)
            printf("%s counts positions inside its cache; the others keep the text's.\n", v->row[i].name);
    return 0;
}

int kvt_bench_tables(const struct kvt_bench_options *o, const struct kvt_result *r, struct kvt_err *err)
{
    struct view v = { .r = r, .o = o, .text = !strcmp(run_text(r, "kind"), "text") };
    int rc = r->n_branches ? make_rows(&v, err) : kvt_fail(err, KVT_EINPUT, "%s: no branch in it yet", r->path);
    if (!rc)
        rc = tables(&v, err);
    for (int i = 0; i < r->n_items && !rc && o->by_group; i++) {
        bool seen = !*r->item[i].group;
        for (int k = 0; k < i; k++)
            seen |= !strcmp(r->item[k].group, r->item[i].group);
        if (seen)
            continue;
        if (o->format == KVT_FORMAT_TABLE)
            putchar('\n');
        v.group = r->item[i].group;
        rc = tables(&v, err);
    }
    free(v.row);
    free(v.item);
    return rc;
}

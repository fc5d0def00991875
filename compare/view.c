/* The rows and pairs of a result, and the tables that they are. */
#include "compare/view.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/mem.h"
#include "base/stats.h"
#include "compare/paired.h"

#define EQUAL_BYTES 0.05 /* rows whose mean bytes differ by more aren't compared at equal bytes */

static int no_memory(struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "no memory for the tables"); }

const char *kvt_view_run(const struct kvt_view *v, const char *name)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(v->r->run, name);
    return cJSON_IsString(o) ? o->valuestring : "";
}

double kvt_view_number(const struct kvt_view *v, const char *name)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(v->r->run, name);
    return cJSON_IsNumber(o) ? o->valuedouble : NAN;
}

static int make_rows(struct kvt_view *v, struct kvt_err *err)
{
    const struct kvt_result *r = v->r;
    if (!(v->row = kvt_calloc((size_t)r->n_branches, sizeof *v->row)))
        return no_memory(err);
    for (int b = 0; b < r->n_branches; b++) {
        int at = 0;
        while (at < v->n_rows && strcmp(r->branch[v->row[at].branch[0]].family, r->branch[b].family))
            at++;
        struct kvt_view_row *row = &v->row[at];
        if (at == v->n_rows) {
            v->n_rows++;
            row->name = r->branch[b].name;
            row->renumbered = r->branch[b].renumbered;
        }
        if (row->n < KVT_VIEW_SEEDS)
            row->branch[row->n++] = b;
    }
    return 0;
}

static int pick_items(struct kvt_view *v, struct kvt_err *err)
{
    const struct kvt_result *r = v->r;
    v->n_items = v->failed = v->lacking = 0, v->several = false;
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

static const struct kvt_cell *cell_of(const struct kvt_view *v, int i, int b) { return &v->r->item[v->item[i]].cell[b]; }

/* What rule k gives a row on an item: its share of right answers, mean over seeds; of a text, nats per token. */
static double value(const struct kvt_view *v, int row, int i, int k)
{
    double sum = 0;
    for (int s = 0; s < v->row[row].n; s++) {
        const struct kvt_cell *c = cell_of(v, i, v->row[row].branch[s]);
        sum += v->text ? c->nll : c->right[k];
    }
    return sum / v->row[row].n;
}

static double mean_value(const struct kvt_view *v, int row, int k)
{
    double sum = 0;
    for (int i = 0; i < v->n_items; i++)
        sum += value(v, row, i, k);
    return v->n_items ? sum / v->n_items : NAN;
}

enum mean_of { KEPT, AFTER, LAST, MEAN, PEAK, LENGTH, CUT, AGREE, FALLBACK, KL };

static bool agrees(const struct kvt_cell *a, const struct kvt_cell *full)
{
    const char *x = a->answer[0], *y = full->answer[0];
    return x && y ? !strcmp(x, y) : x == y && a->text && full->text && !strcmp(a->text, full->text);
}

static double mean(const struct kvt_view *v, int row, enum mean_of what)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < v->n_items; i++)
        for (int s = 0; s < v->row[row].n; s++) {
            const struct kvt_cell *c = cell_of(v, i, v->row[row].branch[s]);
            double x = what == KEPT ? c->kept : what == AFTER ? c->bytes_after : what == LAST ? c->bytes_last : what == MEAN ? c->bytes_mean : what == PEAK ? c->bytes_peak
                     : what == LENGTH ? c->n_new : what == CUT ? !strcmp(c->end, "limit") : what == AGREE ? agrees(c, cell_of(v, i, v->row[0].branch[0])) : what == FALLBACK ? c->fallback : c->kl;
            if (!isnan(x))
                sum += x, n++;
        }
    return n ? sum / n : NAN;
}

static bool single(const struct kvt_view *v, int row) { return !v->text && !v->several && v->row[row].n == 1; }

/* Interval of a row's mean: Wilson's where each question is right or wrong (of the mean over seeds), else over outputs by bootstrap. */
static int interval(const struct kvt_view *v, int row, double *low, double *high, struct kvt_err *err)
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

const char *kvt_view_name(const struct kvt_view_row *row, bool people, char *out, size_t cap)
{
    const char *mark = people && row->fallback > 0 ? "*" : "", *more = people && row->renumbered ? "+" : "";
    if (row->n > 1)
        snprintf(out, cap, "%.40s x%d%s%s", row->name, row->n, mark, more);
    else
        snprintf(out, cap, "%.47s%s%s", row->name, mark, more);
    return out;
}

static void put_bytes(struct kvt_table *t, double v)
{
    if (isnan(v))
        kvt_put_none(t);
    else
        kvt_put_int(t, (int64_t)v);
}

/* Tokens at the beginning of a prompt that were prefilled once for neighbours, mean over questions. */
static double shared_tokens(const struct kvt_view *v)
{
    double sum = 0;
    for (int i = 0; i < v->n_items; i++)
        sum += v->r->item[v->item[i]].n_shared;
    return v->n_items ? sum / v->n_items : 0;
}

/* ---- the rows ---- */

int kvt_view_rows(struct kvt_view *v, bool people, struct kvt_table **out, struct kvt_err *err)
{
    const struct kvt_result *r = v->r;
    struct kvt_col *col = v->row_col;
    int n = 0, rules = v->text ? 0 : r->n_rules;
    bool wrote = !v->text && strcmp(kvt_view_run(v, "kind"), "choice");
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
    col[n++] = (struct kvt_col){ .name = "fallback", .kind = KVT_COL_SHARE, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "questions", .kind = KVT_COL_INT, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "shared_tok", .unit = "tokens", .kind = KVT_COL_REAL, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "method", .kind = KVT_COL_TEXT, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "asked", .kind = KVT_COL_TEXT, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "task", .kind = KVT_COL_TEXT, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "model", .kind = KVT_COL_TEXT, .programs_only = true };
    col[n++] = (struct kvt_col){ .name = "group", .kind = KVT_COL_TEXT, .programs_only = true };
    struct kvt_table *t = *out = kvt_table_new(col, n);
    for (int i = 0; i < v->n_rows; i++) {
        const struct kvt_view_row *row = &v->row[i];
        char name[64];
        double first = INFINITY, last = -INFINITY;
        for (int s = 0; s < row->n; s++) { /* seed by seed */
            double sum = 0;
            for (int q = 0; q < v->n_items; q++)
                sum += v->text ? cell_of(v, q, row->branch[s])->nll : cell_of(v, q, row->branch[s])->right[0];
            first = fmin(first, sum / v->n_items), last = fmax(last, sum / v->n_items);
        }
        kvt_put_text(t, kvt_view_name(row, people, name, sizeof name));
        put_bytes(t, row->bytes);
        kvt_put_real(t, row->value);
        kvt_put_real(t, row->low);
        kvt_put_real(t, row->high);
        if (v->text)
            kvt_put_real(t, exp(row->value));
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
        kvt_put_real(t, row->fallback);
        kvt_put_int(t, v->n_items);
        kvt_put_real(t, shared_tokens(v));
        kvt_put_text(t, r->branch[row->branch[0]].canonical);
        kvt_put_text(t, r->branch[row->branch[0]].asked);
        kvt_put_text(t, kvt_view_run(v, "task"));
        kvt_put_text(t, kvt_view_run(v, "model"));
        kvt_put_text(t, v->group ? v->group : "");
    }
    return t ? 0 : no_memory(err);
}

/* ---- pairs ---- */

/* "shotkv 25%" among the rows. */
static int find_row(const struct kvt_view *v, const char *name, size_t n)
{
    for (int i = 0; i < v->n_rows; i++)
        if (strlen(v->row[i].name) == n && !strncmp(v->row[i].name, name, n))
            return i;
    return -1;
}

static int name_pairs(struct kvt_view *v, const char *contrasts, struct kvt_err *err)
{
    char **item = NULL;
    int extra = 0, n = 0, rc = contrasts ? kvt_split(contrasts, &item, &extra, "--contrast", err) : 0;
    struct kvt_view_pair *p = rc ? NULL : kvt_calloc((size_t)(2 * v->n_rows + extra), sizeof *p);
    if (!rc && !p)
        rc = no_memory(err);
    for (int i = 1; i < v->n_rows && !rc; i++)
        p[n++] = (struct kvt_view_pair){ .row = i, .against = 0 };
    for (int i = 1; i < v->n_rows && !rc; i++) { /* what --match made to be compared */
        const char *asked = v->r->branch[v->row[i].branch[0]].asked;
        int like = strncmp(asked, "as ", 3) ? -1 : find_row(v, asked + 3, strlen(asked + 3));
        if (like > 0)
            p[n++] = (struct kvt_view_pair){ .row = like, .against = i };
    }
    for (int i = 0; i < extra && !rc; i++) {
        const char *colon = strchr(item[i], ':');
        int a = colon ? find_row(v, item[i], (size_t)(colon - item[i])) : -1, b = colon ? find_row(v, colon + 1, strlen(colon + 1)) : -1;
        if (a < 0 || b < 0)
            rc = kvt_fail(err, KVT_EUSAGE, "--contrast '%.80s': two branches of the table with a colon between them, as 'shotkv 25%%:snapkv 25%%'", item[i]);
        else
            p[n++] = (struct kvt_view_pair){ .row = a, .against = b };
    }
    free(item);
    v->pair = p, v->n_pairs = n;
    return rc;
}

static int measure_pair(const struct kvt_view *v, struct kvt_view_pair *p, struct kvt_err *err)
{
    double *d = kvt_calloc((size_t)v->n_items + 1, sizeof *d), base = v->row[p->against].bytes;
    if (!d)
        return no_memory(err);
    p->n = (struct kvt_pairs){ 0 };
    for (int i = 0; i < v->n_items; i++) {
        double x = value(v, p->against, i, 0), y = value(v, p->row, i, 0);
        d[i] = y - x;
        p->n.both += x == 1 && y == 1, p->n.first += x == 1 && y == 0, p->n.second += x == 0 && y == 1, p->n.neither += x == 0 && y == 0;
    }
    p->bytes = v->row[p->row].bytes / base - 1;
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
static bool testable(const struct kvt_view *v) { return v->text || v->row[0].value >= kvt_view_number(v, "chance") + 0.15; }

int kvt_view_pairs(struct kvt_view *v, bool people, struct kvt_table **out, struct kvt_err *err)
{
    enum kvt_col_kind kind = v->text ? KVT_COL_REAL : KVT_COL_SHARE;
    int digits = v->text ? 4 : 1;
    const struct kvt_col col[] = {
        { .name = "branch", .kind = KVT_COL_TEXT }, { .name = "against", .kind = KVT_COL_TEXT }, { .name = "difference", .title = "differs by", .kind = kind, .digits = digits },
        { .name = "low", .kind = kind, .digits = digits }, { .name = "high", .kind = kind, .digits = digits },
        { .name = "lost", .kind = KVT_COL_INT }, { .name = "won", .kind = KVT_COL_INT }, { .name = "p_holm", .title = "p (Holm)", .kind = KVT_COL_REAL, .digits = 4 },
        { .name = "verdict", .kind = KVT_COL_TEXT }, { .name = "p", .kind = KVT_COL_REAL, .programs_only = true },
        { .name = "bytes_more", .kind = KVT_COL_SHARE, .programs_only = true }, { .name = "questions", .kind = KVT_COL_INT, .programs_only = true },
        { .name = "task", .kind = KVT_COL_TEXT, .programs_only = true }, { .name = "model", .kind = KVT_COL_TEXT, .programs_only = true },
        { .name = "group", .kind = KVT_COL_TEXT, .programs_only = true } };
    memcpy(v->pair_col, col, sizeof col);
    struct kvt_table *t = *out = kvt_table_new(v->pair_col, (int)(sizeof col / sizeof *col));
    for (int i = 0; i < v->n_pairs; i++) {
        const struct kvt_view_pair *p = &v->pair[i];
        char name[64];
        kvt_put_text(t, kvt_view_name(&v->row[p->row], people, name, sizeof name));
        kvt_put_text(t, kvt_view_name(&v->row[p->against], people, name, sizeof name));
        kvt_put_real(t, p->diff);
        kvt_put_real(t, p->low);
        kvt_put_real(t, p->high);
        kvt_put_int(t, p->n.first);
        kvt_put_int(t, p->n.second);
        kvt_put_real(t, p->holm);
        kvt_put_text(t, testable(v) ? kvt_verdict(p->low, p->high) : "not tested");
        kvt_put_real(t, p->p);
        kvt_put_real(t, p->bytes);
        kvt_put_int(t, v->n_items);
        kvt_put_text(t, kvt_view_run(v, "task"));
        kvt_put_text(t, kvt_view_run(v, "model"));
        kvt_put_text(t, v->group ? v->group : "");
    }
    return t ? 0 : no_memory(err);
}

/* ---- the whole ---- */

int kvt_view_open(struct kvt_view *v, const struct kvt_result *r, const char *contrasts, struct kvt_err *err)
{
    *v = (struct kvt_view){ .r = r };
    v->text = !strcmp(kvt_view_run(v, "kind"), "text");
    int rc = r->n_branches ? make_rows(v, err) : kvt_fail(err, KVT_EINPUT, "%s: no branch in it yet", r->path);
    if (!rc)
        rc = name_pairs(v, contrasts, err);
    if (rc)
        kvt_view_close(v);
    return rc;
}

void kvt_view_close(struct kvt_view *v)
{
    free(v->row);
    free(v->item);
    free(v->pair);
    *v = (struct kvt_view){ .r = NULL };
}

int kvt_view_measure(struct kvt_view *v, const char *group, struct kvt_err *err)
{
    v->group = group;
    int rc = pick_items(v, err);
    for (int i = 0; i < v->n_rows && !rc; i++) {
        struct kvt_view_row *row = &v->row[i];
        row->bytes = mean(v, i, MEAN), row->value = mean_value(v, i, 0);
        row->fallback = mean(v, i, FALLBACK);
        rc = interval(v, i, &row->low, &row->high, err);
    }
    for (int i = 0; i < v->n_pairs && !rc; i++)
        rc = measure_pair(v, &v->pair[i], err);
    double *holm = rc ? NULL : kvt_calloc((size_t)v->n_pairs + 1, sizeof *holm);
    if (!rc && !holm)
        rc = no_memory(err);
    for (int i = 0; i < v->n_pairs && !rc; i++)
        holm[i] = v->pair[i].p;
    if (!rc)
        kvt_holm(holm, v->n_pairs);
    v->discordant = 0;
    for (int i = 0, tests = 0; i < v->n_pairs && !rc; i++) {
        v->pair[i].holm = holm[i];
        if (v->n_items && !isnan(v->pair[i].p))
            v->discordant += ((double)(v->pair[i].n.first + v->pair[i].n.second) / v->n_items - v->discordant) / ++tests;
    }
    free(holm);
    return rc;
}

void kvt_view_head(const struct kvt_view *v, FILE *out)
{
    fprintf(out, "%s%s%s, %s: %d questions, %.0f shots, protocol %s, %s products, %s KV\n", kvt_view_run(v, "task"), v->group ? ", " : "", v->group ? v->group : "",
            kvt_view_run(v, "model"), v->n_items, kvt_view_number(v, "n_shots"), kvt_view_run(v, "protocol"), kvt_view_run(v, "compute"), kvt_view_run(v, "kv_type"));
    if (v->failed || v->lacking)
        fprintf(out, "left out: %d questions that failed, %d that not every branch has answered\n", v->failed, v->lacking);
    if (shared_tokens(v) > 0)
        fprintf(out, "the first %.0f tokens of a prompt (mean) were prefilled once for all neighbours that share them\n", shared_tokens(v));
}

void kvt_view_remarks(const struct kvt_view *v, FILE *out)
{
    bool fell = false, renumbered = false, first = true;
    for (int i = 0; i < v->n_rows; i++)
        fell |= v->row[i].fallback > 0, renumbered |= v->row[i].renumbered;
    if (fell)
        fputs("* the method's own allocation was impossible for some outputs, and its fallback was used\n", out);
    if (renumbered)
        fputs("+ counts positions inside its cache; the others keep the text's\n", out);
    for (int i = 0; i < v->n_pairs; i++)
        if (v->pair[i].against && fabs(v->pair[i].bytes) > EQUAL_BYTES) {
            fprintf(out, "%s%s %+.0f %% against %s", first ? "Not at equal bytes: " : ", ", v->row[v->pair[i].row].name, 100 * v->pair[i].bytes, v->row[v->pair[i].against].name);
            first = false;
        }
    fputs(first ? "" : ".\n", out);
    if (v->text || v->n_rows < 2)
        return;
    if (!testable(v))
        fprintf(out, "The full cache is less than 15 points above guessing (%.0f %%): nothing can be lost that could be seen.\n", 100 * kvt_view_number(v, "chance"));
    else if (v->discordant > 0)
        fprintf(out, "Of such pairs (%.0f %% of the questions differ), %d questions show a difference of %.0f points (80 %% power).\n", 100 * v->discordant, v->n_items,
                100 * kvt_detectable(v->n_items, v->discordant));
}

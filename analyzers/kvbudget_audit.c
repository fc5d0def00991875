/* kvbudget --show audit, rounding: budgets as asked, as kept, and as bytes. */
#include <math.h>
#include <stdlib.h>

#include "analyzers/kvbudget.h"
#include "base/mem.h"
#include "kernels/ops.h"

enum { REASONS = 8 };

/* Of the chosen cells of a branch at prefill's end. */
struct cells {
    int count, least, most;    /* fewest and most tokens kept in a cell */
    double asked, kept;        /* means of a cell */
    double least_layer, most_layer; /* mean tokens of the layers that keep fewest and most */
};

/* Layers [from, to) of those chosen, heads [g0, g1). false: nothing was decided. */
static bool sum_up(const struct kvbudget_run *r, const int32_t *asked, const int32_t *kept, int from, int to, int g0, int g1, struct cells *c)
{
    *c = (struct cells){.least = INT32_MAX, .least_layer = INFINITY};
    for (int l = from; l < to; l++) {
        double layer = 0;
        for (int g = g0; r->layer[l] && g < g1; g++) {
            int i = l * r->info->G + g;
            if (kept[i] < 0)
                return false;
            c->count++;
            c->asked += asked[i];
            c->kept += kept[i];
            layer += kept[i];
            c->least = kept[i] < c->least ? kept[i] : c->least;
            c->most = kept[i] > c->most ? kept[i] : c->most;
        }
        if (!r->layer[l])
            continue;
        c->least_layer = fmin(c->least_layer, layer / (g1 - g0));
        c->most_layer = fmax(c->most_layer, layer / (g1 - g0));
    }
    c->asked /= c->count;
    c->kept /= c->count;
    return c->count > 0;
}

static int load(const struct kvbudget_run *r, int b, int32_t **asked, int32_t **kept, struct kvt_err *err)
{
    size_t cells = (size_t)r->info->L * (size_t)r->info->G;
    free(*asked);
    *asked = kvt_calloc(2 * cells, sizeof **asked);
    *kept = *asked + cells;
    if (!*asked)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %zu cells", cells);
    int rc = kvt_trace_cells(r->trace, b, *asked, *kept, err);
    if (!b && !r->info->no_full) /* nothing is decided about the full branch */
        for (size_t i = 0; i < 2 * cells; i++)
            (*asked)[i] = r->info->n_context;
    return rc;
}

static void put_bytes(struct kvt_table *t, double bytes)
{
    if (isnan(bytes) || bytes < 0)
        kvt_put_none(t);
    else
        kvt_put_int(t, (int64_t)bytes);
}

static void put_count(struct kvt_table *t, bool known, int64_t v)
{
    if (known)
        kvt_put_int(t, v);
    else
        kvt_put_none(t);
}

static const char *asked_text(const struct kvt_trace_branch *b, char *buf, size_t cap)
{
    return *b->asked ? b->asked : kvt_budget_text(b, buf, cap);
}

/* ---- each branch ---- */

static int branch_table(const struct kvbudget_run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "branch", .kind = KVT_COL_TEXT},
        {.name = "asked", .kind = KVT_COL_TEXT, .programs_only = true},
        {.name = "effective_keep", .title = "kept", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "asked_tok", .unit = "tokens", .kind = KVT_COL_REAL, .programs_only = true},
        {.name = "kept_tok", .unit = "tokens", .kind = KVT_COL_REAL, .programs_only = true},
        {.name = "least_tok", .title = "least", .unit = "tokens", .kind = KVT_COL_INT},
        {.name = "most_tok", .title = "most", .unit = "tokens", .kind = KVT_COL_INT},
        {.name = "least_layer_tok", .unit = "tokens", .kind = KVT_COL_REAL, .programs_only = true},
        {.name = "most_layer_tok", .unit = "tokens", .kind = KVT_COL_REAL, .programs_only = true},
        {.name = "bytes_after", .title = "after", .unit = "bytes", .kind = KVT_COL_BYTES},
        {.name = "bytes_last", .title = "last", .unit = "bytes", .kind = KVT_COL_BYTES},
        {.name = "bytes_mean", .title = "mean", .unit = "bytes", .kind = KVT_COL_BYTES},
        {.name = "bytes_peak", .title = "peak", .unit = "bytes", .kind = KVT_COL_BYTES},
        {.name = "fallback", .kind = KVT_COL_BOOL, .programs_only = true},
        {.name = "note", .kind = KVT_COL_TEXT, .programs_only = true},
        {.name = "method", .kind = KVT_COL_TEXT, .programs_only = true},
    };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int32_t *asked = NULL, *kept;
    int rc = 0;
    for (int i = 0; !rc && i < r->n_branches; i++) {
        const struct kvt_trace_branch *b = &r->info->branch[r->branch[i]];
        struct cells c;
        char text[48];
        rc = load(r, r->branch[i], &asked, &kept, err);
        if (rc)
            break;
        bool known = sum_up(r, asked, kept, 0, r->info->L, 0, r->info->G, &c);
        double n = r->info->n_context;
        kvt_put_text(t, b->name);
        kvt_put_text(t, asked_text(b, text, sizeof text));
        kvt_put_real(t, known ? c.kept / n : NAN);
        kvt_put_real(t, known ? c.asked : NAN);
        kvt_put_real(t, known ? c.kept : NAN);
        put_count(t, known, c.least);
        put_count(t, known, c.most);
        kvt_put_real(t, known ? c.least_layer : NAN);
        kvt_put_real(t, known ? c.most_layer : NAN);
        put_bytes(t, (double)b->bytes_after);
        put_bytes(t, (double)b->bytes_last);
        put_bytes(t, b->bytes_mean);
        put_bytes(t, (double)b->bytes_peak);
        kvt_put_bool(t, b->fallback);
        kvt_put_text(t, b->note);
        kvt_put_text(t, b->canonical);
    }
    free(asked);
    rc = kvbudget_end_table(r, rc, &t, err);
    bool first = true;
    for (int i = 0; !rc && r->o.format == KVT_FORMAT_TABLE && i < r->n_branches; i++) {
        const struct kvt_trace_branch *b = &r->info->branch[r->branch[i]];
        if (b->fallback || *b->note)
            printf("%s%s: %s%s%s\n", first ? "\n" : "", b->name, b->fallback ? "fell back" : "note", *b->note ? ": " : "", b->note);
        first = first && !b->fallback && !*b->note;
    }
    return rc;
}

/* ---- layers and heads ---- */

static int cell_table(const struct kvbudget_run *r, struct kvt_err *err)
{
    static const struct kvt_col layers[] = {
        {.name = "branch", .kind = KVT_COL_TEXT}, {.name = "layer", .kind = KVT_COL_INT},
        {.name = "asked_tok", .title = "asked", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "kept_tok", .title = "kept", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "least_tok", .title = "least", .unit = "tokens", .kind = KVT_COL_INT},
        {.name = "most_tok", .title = "most", .unit = "tokens", .kind = KVT_COL_INT},
        {.name = "effective_keep", .title = "share", .kind = KVT_COL_SHARE, .digits = 1},
    }, heads[] = {
        {.name = "branch", .kind = KVT_COL_TEXT}, {.name = "layer", .kind = KVT_COL_INT}, {.name = "head", .kind = KVT_COL_INT},
        {.name = "asked_tok", .title = "asked", .unit = "tokens", .kind = KVT_COL_INT},
        {.name = "kept_tok", .title = "kept", .unit = "tokens", .kind = KVT_COL_INT},
        {.name = "effective_keep", .title = "share", .kind = KVT_COL_SHARE, .digits = 1},
    };
    bool per_head = r->o.per_head;
    struct kvt_table *t = per_head ? kvt_table_new(heads, (int)(sizeof heads / sizeof *heads)) : kvt_table_new(layers, (int)(sizeof layers / sizeof *layers));
    int32_t *asked = NULL, *kept;
    int rc = 0, G = r->info->G;
    for (int i = 0; !rc && i < r->n_branches; i++) {
        rc = load(r, r->branch[i], &asked, &kept, err);
        for (int l = 0; !rc && l < r->info->L; l++)
            for (int g = 0; r->layer[l] && g < (per_head ? G : 1); g++) {
                struct cells c;
                bool known = sum_up(r, asked, kept, l, l + 1, g, per_head ? g + 1 : G, &c);
                kvt_put_text(t, r->info->branch[r->branch[i]].name);
                kvt_put_int(t, l);
                if (per_head) {
                    kvt_put_int(t, g);
                    put_count(t, known, asked[l * G + g]);
                    put_count(t, known, kept[l * G + g]);
                } else {
                    kvt_put_real(t, known ? c.asked : NAN);
                    kvt_put_real(t, known ? c.kept : NAN);
                    put_count(t, known, c.least);
                    put_count(t, known, c.most);
                }
                kvt_put_real(t, known ? c.kept / r->info->n_context : NAN);
            }
    }
    free(asked);
    return kvbudget_end_table(r, rc, &t, err);
}

/* ---- steps ---- */

/* How many tokens of the chosen cells left in step k, gone (2, n_steps + 1): of the context, of what came after it. k = 0: at
 * prefill's end, before it, or while the question was fed. */
static void count_gone(const struct kvbudget_run *r, const int32_t *ev, int64_t *gone)
{
    const struct kvt_trace_info *in = r->info;
    size_t n_tok = (size_t)in->n_tok, K = (size_t)in->n_steps + 1;
    for (int l = 0; l < in->L; l++)
        for (int g = 0; r->layer[l] && g < in->G; g++) {
            const int32_t *cell = ev + ((size_t)l * (size_t)in->G + (size_t)g) * n_tok;
            for (size_t j = 0; j < n_tok; j++)
                if (cell[j] != -1 && cell[j] != KVT_NOT_YET && cell[j] <= in->n_steps)
                    gone[(j < (size_t)in->n_context ? 0 : K) + (cell[j] > 0 ? (size_t)cell[j] : 0)]++;
        }
}

static int step_table(const struct kvbudget_run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "branch", .kind = KVT_COL_TEXT}, {.name = "step", .kind = KVT_COL_INT},
        {.name = "context_tok", .title = "context", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "later_tok", .title = "later", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "seen_tok", .title = "seen", .unit = "tokens", .kind = KVT_COL_INT},
        {.name = "share", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "kv_bytes", .title = "KV", .unit = "bytes", .kind = KVT_COL_BYTES},
        {.name = "own_bytes", .title = "own", .unit = "bytes", .kind = KVT_COL_BYTES},
    };
    const struct kvt_trace_info *in = r->info;
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    size_t K = (size_t)in->n_steps + 1, cells = 0;
    int32_t *ev = kvt_calloc((size_t)in->L * (size_t)in->G * (size_t)in->n_tok, sizeof *ev);
    int64_t *gone = kvt_calloc(2 * K, sizeof *gone), *bytes = kvt_calloc(2 * K, sizeof *bytes);
    int rc = ev && gone && bytes ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for the history of %d tokens", in->n_tok);
    for (int l = 0; l < in->L; l++)
        cells += r->layer[l] ? (size_t)in->G : 0;
    for (int i = 0; !rc && i < r->n_branches; i++) {
        int b = r->branch[i];
        rc = kvt_trace_evicted_at(r->trace, b, ev, err);
        rc = rc ? rc : kvt_trace_bytes(r->trace, b, "alone", bytes + 1, err);
        rc = rc ? rc : kvt_trace_bytes(r->trace, b, "own", bytes + K + 1, err);
        if (rc)
            break;
        bytes[0] = bytes[K] = -1; /* the trace has bytes of after the eviction, but not of after the question */
        for (size_t k = 0; k < 2 * K; k++)
            gone[k] = 0;
        count_gone(r, ev, gone);
        int64_t lost = 0, lost_later = 0;
        for (int k = 0; k <= in->n_steps; k++) {
            lost += gone[k];
            lost_later += gone[K + (size_t)k];
            if (k % r->o.every)
                continue;
            int seen = in->n_prompt + k;
            double context = in->n_context - (double)lost / (double)cells, later = seen - in->n_context - (double)lost_later / (double)cells;
            kvt_put_text(t, in->branch[b].name);
            kvt_put_int(t, k);
            kvt_put_real(t, context);
            kvt_put_real(t, later);
            kvt_put_int(t, seen);
            kvt_put_real(t, (context + later) / seen);
            put_bytes(t, (double)bytes[k]);
            put_bytes(t, (double)bytes[K + (size_t)k]);
        }
    }
    free(ev);
    free(gone);
    free(bytes);
    return kvbudget_end_table(r, rc, &t, err);
}

int kvbudget_audit(const struct kvbudget_run *r, struct kvt_err *err)
{
    if (r->o.format == KVT_FORMAT_TABLE) {
        printf("Protocol %s, %d context tokens of a prompt of %d, %d steps.\n", r->info->protocol, r->info->n_context, r->info->n_prompt, r->info->n_steps);
        puts(r->o.every ? "Tokens, mean of the cells (layer, kv head): of the context, and later ones, the\nquestion and the generated text; step 0: the question was fed. KV: bytes of the\nbranch by itself; own: what no other branch shares.\n"
             : r->o.per_layer || r->o.per_head ? "Tokens of a cell (layer, kv head) at prefill's end: asked after rounding and\nallocation, and kept.\n"
             : "kept: share of the context at prefill's end; least, most: tokens of a cell (layer,\nkv head). KV bytes of the branch by itself: after eviction, at the last step, mean\nover the steps, and the most it ever held.\n");
    }
    return r->o.every ? step_table(r, err) : r->o.per_layer || r->o.per_head ? cell_table(r, err) : branch_table(r, err);
}

/* ---- rounding ---- */

/* Share of each reason among the slots of the chosen cells, as tokens of a cell. */
static void count_reasons(const struct kvbudget_run *r, const uint8_t *reason, double *tok)
{
    const struct kvt_trace_info *in = r->info;
    size_t n = (size_t)in->n_context, cells = 0;
    for (int i = 0; i < REASONS; i++)
        tok[i] = 0;
    for (int l = 0; l < in->L; l++)
        for (int g = 0; r->layer[l] && g < in->G; g++, cells++) {
            const uint8_t *cell = reason + ((size_t)l * (size_t)in->G + (size_t)g) * n;
            for (size_t j = 0; j < n; j++)
                if (cell[j] < REASONS)
                    tok[cell[j]]++;
        }
    for (int i = 0; i < REASONS && cells; i++)
        tok[i] /= (double)cells;
}

int kvbudget_rounding(const struct kvbudget_run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "branch", .kind = KVT_COL_TEXT},
        {.name = "asked", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 2},
        {.name = "allotted", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "kept", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "protected", .title = "prot.", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "recent", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "by_score", .title = "score", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "with_unit", .title = "unit", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "nothing_had_to_go", .title = "all", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "no_room", .title = "no room", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1},
    };
    const struct kvt_trace_info *in = r->info;
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    uint8_t *reason = kvt_calloc((size_t)in->L * (size_t)in->G * (size_t)in->n_context, 1);
    int32_t *asked = NULL, *kept;
    int rc = reason ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", in->n_context);
    if (!rc && r->o.format == KVT_FORMAT_TABLE)
        puts("Tokens, mean of the cells (layer, kv head). asked: before rounding; allotted: after\n"
             "rounding and allocation; kept: really; of these, prot.: sinks and protected text,\n"
             "recent: newest tokens and the observation window, score: for their score, unit: with\n"
             "their unit, all: nothing had to go. no room: left, as their unit didn't fit.\n");
    for (int i = 0; !rc && i < r->n_branches; i++) {
        const struct kvt_trace_branch *b = &in->branch[r->branch[i]];
        struct cells c;
        double tok[REASONS];
        rc = load(r, r->branch[i], &asked, &kept, err);
        rc = rc ? rc : kvt_trace_reason(r->trace, r->branch[i], reason, err);
        if (rc)
            break;
        bool known = sum_up(r, asked, kept, 0, in->L, 0, in->G, &c);
        count_reasons(r, reason, tok);
        kvt_put_text(t, b->name);
        kvt_put_real(t, isnan(b->asked_keep) ? b->asked_tok > 0 ? b->asked_tok : NAN : b->asked_keep * in->n_context);
        kvt_put_real(t, known ? c.asked : NAN);
        kvt_put_real(t, known ? c.kept : NAN);
        kvt_put_real(t, tok[KVT_KEPT_PROTECTED]);
        kvt_put_real(t, tok[KVT_KEPT_WINDOW]);
        kvt_put_real(t, tok[KVT_KEPT_SCORE]);
        kvt_put_real(t, tok[KVT_KEPT_UNIT]);
        kvt_put_real(t, tok[KVT_KEPT_ALL]);
        kvt_put_real(t, tok[KVT_LEFT_BUDGET]);
    }
    free(asked);
    free(reason);
    return kvbudget_end_table(r, rc, &t, err);
}

/* Shares of kv heads: what each cell's best k tokens save, and the division of a total among cells that saves most. */
#include "analyzers/derive_heads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/ops.h"

enum { PPM = 1000000, STEP = 5000, STEPS = PPM / STEP };

struct token { float score; int at; uint8_t guarded; };

/* Protected ones first, then the best; of equal ones the earlier; NaN loses. */
static int by_worth(const void *a, const void *b)
{
    const struct token *x = a, *y = b;
    if (x->guarded != y->guarded)
        return x->guarded ? -1 : 1;
    bool nx = isnan(x->score), ny = isnan(y->score);
    if (nx != ny)
        return nx ? 1 : -1;
    if (!nx && x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

int kvt_heads_cell(int n, const double *mass, const float *score, const uint8_t *guarded, double *saved, struct kvt_err *err)
{
    struct token *token = kvt_calloc((size_t)n, sizeof *token);
    if (!token)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", n);
    for (int j = 0; j < n; j++)
        token[j] = (struct token){score[j], j, guarded[j]};
    qsort(token, (size_t)n, sizeof *token, by_worth);
    saved[0] = 0;
    for (int k = 0; k < n; k++)
        saved[k + 1] = saved[k] + mass[token[k].at];
    free(token);
    return 0;
}

void kvt_heads_close(struct kvt_heads *h)
{
    free(h->saved);
    *h = (struct kvt_heads){0};
}

/* Objective of a layer's rows on each context token, (G, n), added up. */
static int layer_mass(struct kvt_trace *t, int layer, int steps, int n_sink, int n_recent, float *row, double *mass, double *rows, struct kvt_err *err)
{
    const struct kvt_trace_info *in = kvt_trace_info(t);
    size_t n = (size_t)in->n_context, per = (size_t)(in->H / in->G);
    memset(mass, 0, (size_t)in->G * n * sizeof *mass);
    for (int step = 1; step <= steps; step++) {
        int rc = kvt_trace_decode_row(t, step, layer, row, err), end = in->n_prompt + step - 1 - n_recent;
        if (rc)
            return rc;
        for (size_t h = 0; h < (size_t)in->H; h++) {
            const float *x = row + h * (size_t)in->n_tok;
            double all = 0, *to = mass + h / per * n;
            for (int j = n_sink; j < end; j++)
                all += (double)x[j];
            for (int j = n_sink; all > 0 && j < end && j < in->n_context; j++)
                to[j] += (double)x[j] / all;
            *rows += all > 0;
        }
    }
    return 0;
}

/* Which tokens of the branch stay by rule, (L, G, n) of 0 and 1; EINPUT where whole units are kept. */
static int guarded_of(struct kvt_trace *t, int branch, uint8_t *reason, int *least, struct kvt_err *err)
{
    const struct kvt_trace_info *in = kvt_trace_info(t);
    const struct kvt_trace_branch *b = &in->branch[branch];
    size_t n = (size_t)in->n_context, cells = (size_t)in->L * (size_t)in->G;
    if (strcmp(b->schedule, "prefill") || b->R != in->G)
        return kvt_fail(err, KVT_EINPUT, "%s: '%s' %s; shares of heads are for methods that rank each head's tokens at prefill's end", in->path, b->name,
                        strcmp(b->schedule, "prefill") ? "acts in each step" : "has no score of its own for each kv head");
    int rc = kvt_trace_reason(t, branch, reason, err);
    *least = 1;
    for (size_t c = 0; !rc && c < cells; c++) {
        int held = 0;
        for (size_t j = c * n; j < (c + 1) * n; j++) {
            if (reason[j] == KVT_KEPT_UNIT || reason[j] == KVT_LEFT_UNIT || reason[j] == KVT_LEFT_BUDGET)
                return kvt_fail(err, KVT_EINPUT, "%s: '%s' keeps whole units; shares of heads are for methods that keep single tokens", in->path, b->name);
            reason[j] = reason[j] == KVT_KEPT_WINDOW || reason[j] == KVT_KEPT_PROTECTED;
            held += reason[j];
        }
        *least = held > *least ? held : *least;
    }
    return rc;
}

int kvt_heads_trace(struct kvt_heads *out, struct kvt_trace *t, int branch, int steps, int n_sink, int n_recent, struct kvt_err *err)
{
    const struct kvt_trace_info *in = kvt_trace_info(t);
    size_t n = (size_t)in->n_context, cells = (size_t)in->L * (size_t)in->G;
    *out = (struct kvt_heads){.L = in->L, .G = in->G, .n = in->n_context, .saved = kvt_calloc(cells * (n + 1), sizeof *out->saved)};
    uint8_t *guarded = kvt_calloc(cells * n, 1);
    float *score = kvt_calloc(cells * n, sizeof *score), *row = kvt_calloc((size_t)in->H * (size_t)in->n_tok, sizeof *row);
    double *mass = kvt_calloc((size_t)in->G * n, sizeof *mass);
    int rc = out->saved && guarded && score && row && mass ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu cells of %zu tokens", cells, n);
    rc = rc ? rc : guarded_of(t, branch, guarded, &out->least, err);
    rc = rc ? rc : kvt_trace_score(t, branch, score, NULL, err);
    for (int l = 0; !rc && l < in->L; l++) {
        rc = layer_mass(t, l, steps, n_sink, n_recent, row, mass, &out->rows, err);
        for (size_t g = 0; !rc && g < (size_t)in->G; g++) {
            size_t c = (size_t)l * (size_t)in->G + g;
            rc = kvt_heads_cell(in->n_context, mass + g * n, score + c * n, guarded + c * n, out->saved + c * (n + 1), err);
        }
    }
    void *own[] = {guarded, score, row, mass};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        free(own[i]);
    if (rc)
        kvt_heads_close(out);
    return rc;
}

/* ---- shares ---- */

static int tokens(const struct kvt_heads *h, int64_t share)
{
    int64_t tok = h->n * share / PPM;
    return tok < 1 ? 1 : (int)tok;
}

static double cell_lost(const struct kvt_heads_set *set, size_t c, int64_t share)
{
    double lost = 0;
    for (int i = 0; i < set->n; i++) {
        const struct kvt_heads *h = &set->prompt[i];
        const double *saved = h->saved + c * ((size_t)h->n + 1);
        lost += saved[h->n] - saved[tokens(h, share)];
    }
    return lost;
}

double kvt_heads_lost(const struct kvt_heads_set *set, const int64_t *share, int64_t all)
{
    size_t cells = (size_t)set->prompt[0].L * (size_t)set->prompt[0].G;
    double lost = 0, rows = 0;
    for (size_t c = 0; c < cells; c++)
        lost += cell_lost(set, c, share ? share[c] : all);
    for (int i = 0; i < set->n; i++)
        rows += set->prompt[i].rows;
    return rows > 0 ? lost / rows : NAN;
}

int kvt_heads_share(const struct kvt_heads_set *set, int64_t all, int64_t *out, struct kvt_err *err)
{
    size_t cells = (size_t)set->prompt[0].L * (size_t)set->prompt[0].G, each = (size_t)(all / STEP), width = cells * each + 1;
    int least = 1; /* steps that hold what is protected, on every prompt */
    for (int i = 0; i < set->n; i++)
        while (least < STEPS && tokens(&set->prompt[i], (int64_t)least * STEP) < set->prompt[i].least)
            least++;
    if ((size_t)least > each)
        return kvt_fail(err, KVT_EINPUT, "%.4g %% in each cell is below what is protected or below half a percent; keep more", (double)all / 1e4);
    double *cost = kvt_calloc(2 * width, sizeof *cost), *before = cost + width, curve[STEPS + 1];
    uint8_t *from = kvt_calloc(cells * width, 1); /* steps of the cell that spent the last; 1 to 200 */
    int rc = cost && from ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory to divide %zu cells' shares", cells);
    for (size_t c = 0; !rc && c < cells; c++) {
        for (int u = least; u <= STEPS; u++)
            curve[u] = cell_lost(set, c, (int64_t)u * STEP);
        for (size_t w = 0; w < width; w++)
            cost[w] = INFINITY;
        for (size_t u = (size_t)least; u <= STEPS; u++)
            for (size_t w = u; w < width; w++)
                if (before[w - u] + curve[u] < cost[w]) {
                    cost[w] = before[w - u] + curve[u];
                    from[c * width + w] = (uint8_t)u;
                }
        memcpy(before, cost, width * sizeof *cost);
    }
    for (size_t c = cells, w = width - 1; !rc && c-- > 0;) {
        out[c] = (int64_t)from[c * width + w] * STEP;
        w -= from[c * width + w];
    }
    free(cost);
    free(from);
    return rc;
}

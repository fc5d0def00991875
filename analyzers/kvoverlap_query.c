/* kvoverlap --show query-heads: published code that repeats K for every query head before it scores (SnapKV's own) keeps a set for each query head,
 * where this engine, which stores a kv head once, keeps one for the group. From the trace's window rows: the sets that code would keep, as many slots
 * as ours, and how far they lie from ours (measures.md 4). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/kvoverlap.h"
#include "base/mem.h"

/* What a canonical form says of the score: attention of the last w rows, pooled. */
struct query_score { int window, width; bool max; }; /* window: index of the trace's; width 0: not pooled */

static bool understood(const struct kvt_trace_info *info, const struct kvt_trace_branch *b, struct query_score *q)
{
    const char *at = strchr(b->canonical, '['), *w = at ? strstr(at, "w=") : NULL, *pool = at ? strstr(at, "pool=") : NULL;
    if (strcmp(b->method, "snapkv") || !w || !pool)
        return false;
    int rows = atoi(w + 2);
    *q = (struct query_score){ .window = -1 };
    for (int i = 0; i < info->n_windows; i++)
        if (info->window[i] == rows)
            q->window = i;
    q->max = !strncmp(pool + 5, "max", 3);
    q->width = q->max || !strncmp(pool + 5, "avg", 3) ? atoi(pool + 8) : 0;
    return q->window >= 0;
}

/* out (to) = in pooled over [0, to): the padding counts as zeros in the average, not at all in the maximum. */
static void pool(const struct query_score *q, const float *in, int to, float *out)
{
    for (int j = 0; j < to; j++) {
        double sum = 0;
        float most = in[j];
        for (int i = j - q->width / 2; i <= j + q->width / 2; i++)
            if (i >= 0 && i < to) {
                sum += in[i];
                most = in[i] > most ? in[i] : most;
            }
        out[j] = !q->width ? in[j] : q->max ? most : (float)(sum / q->width);
    }
}

struct ranked { float score; int at; };

static int by_score(const void *a, const void *b) /* the larger first, of equal ones the earlier */
{
    const struct ranked *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score) : (x->at > y->at) - (x->at < y->at);
}

struct query_sets {
    struct kvt_held ours, theirs;  /* (L, H, n): each query head's kv head's set; its own */
    int64_t slots, joined;         /* of all kv heads: slots that it keeps by score; slots in the union of its query heads' sets */
    double off;                    /* largest distance of the branch's recorded score from what we make of the rows, relative */
};

/* One layer l (row `at` of the sets) of a branch. wmass (H, n_prompt), score (R, n), pooled (H, n), rank (n) are scratch. */
static void layer_sets(const struct kvt_trace_info *info, const struct query_score *q, const struct kvt_held *held, int at, const float *wmass, const float *score, int R,
                       float *pooled, struct ranked *rank, struct query_sets *out)
{
    int G = info->G, H = info->H, n = info->n_context, per = H / G, to = n;
    size_t N = (size_t)n;
    while (to > 0 && held->guarded[((size_t)at * (size_t)G) * N + (size_t)to - 1]) /* the window, where it lies in the context */
        to--;
    for (int h = 0; h < H; h++)
        pool(q, wmass + (size_t)h * (size_t)info->n_prompt, to, pooled + (size_t)h * N);
    for (int g = 0; g < G; g++) {
        const uint8_t *kept = held->kept + ((size_t)at * (size_t)G + (size_t)g) * N, *guarded = held->guarded + ((size_t)at * (size_t)G + (size_t)g) * N;
        int k = 0;
        double most = 0, off = 0;
        for (int j = 0; j < n; j++)
            k += kept[j] && !guarded[j];
        for (int j = 0; j < to && R == G; j++) {
            double mean = 0;
            for (int h = g * per; h < (g + 1) * per; h++)
                mean += pooled[(size_t)h * N + (size_t)j] / per;
            most = fmax(most, mean);
            if (!guarded[j])
                off = fmax(off, fabs(mean - score[(size_t)g * N + (size_t)j]));
        }
        out->off = fmax(out->off, most > 0 ? off / most : 0);
        out->slots += k;
        for (int h = g * per; h < (g + 1) * per; h++) {
            size_t cell = ((size_t)at * (size_t)H + (size_t)h) * N;
            int m = 0;
            memcpy(out->ours.kept + cell, kept, N);
            memcpy(out->ours.guarded + cell, guarded, N);
            memcpy(out->theirs.guarded + cell, guarded, N);
            for (int j = 0; j < n; j++) {
                out->theirs.kept[cell + (size_t)j] = guarded[j];
                if (!guarded[j] && j < to)
                    rank[m++] = (struct ranked){ pooled[(size_t)h * N + (size_t)j], j };
            }
            qsort(rank, (size_t)m, sizeof *rank, by_score);
            for (int i = 0; i < k && i < m; i++)
                out->theirs.kept[cell + (size_t)rank[i].at] = 1;
        }
        for (int j = 0; j < n; j++) {
            bool any = false;
            for (int h = g * per; h < (g + 1) * per; h++)
                any |= !guarded[j] && out->theirs.kept[((size_t)at * (size_t)H + (size_t)h) * N + (size_t)j];
            out->joined += any;
        }
    }
}

static int open_held(struct kvt_held *h, int L, int H, int n)
{
    size_t size = (size_t)L * (size_t)H * (size_t)n;
    *h = (struct kvt_held){ .L = L, .G = H, .n = n, .kept = kvt_calloc(size, 1), .guarded = kvt_calloc(size, 1), .shared = kvt_calloc((size_t)L, 1) };
    return h->kept && h->guarded && h->shared ? 0 : KVT_ENOMEM;
}

static int branch_sets(struct kvoverlap *r, const struct kvt_held *held, int b, const struct query_score *q, struct query_sets *out, struct kvt_err *err)
{
    const struct kvt_trace_info *info = r->info;
    int R = info->branch[b].R, rc = 0;
    size_t N = (size_t)info->n_context, H = (size_t)info->H, L = (size_t)info->L;
    float *wmass = kvt_calloc(H * (size_t)info->n_prompt, sizeof *wmass), *pooled = kvt_calloc(H * N, sizeof *pooled);
    float *score = kvt_calloc(L * (size_t)(R ? R : 1) * N, sizeof *score), *cut = kvt_calloc(L * (size_t)(R ? R : 1), sizeof *cut);
    struct ranked *rank = kvt_calloc(N, sizeof *rank);
    if (!wmass || !pooled || !score || !cut || !rank || open_held(&out->ours, r->n_layers, info->H, info->n_context) || open_held(&out->theirs, r->n_layers, info->H, info->n_context))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for the sets of %d query heads", info->H);
    if (!rc && R)
        rc = kvt_trace_score(r->first, b, score, cut, err);
    for (int l = 0; l < r->n_layers && !rc; l++) {
        int layer = kvoverlap_layer(r, l);
        rc = kvt_trace_raw(r->first, "wmass", q->window, layer, wmass, err);
        if (!rc)
            layer_sets(info, q, &held[b], l, wmass, score + (size_t)layer * (size_t)R * N, R, pooled, rank, out);
    }
    if (!rc && out->off > 1e-3)
        rc = kvt_fail(err, KVT_EINPUT, "%s: its scores aren't means of its query heads' (off by %.1g): the sets of single query heads can't be told", info->branch[b].name, out->off);
    free(wmass);
    free(pooled);
    free(score);
    free(cut);
    free(rank);
    return rc;
}

int kvoverlap_query_heads(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "budget", .kind = KVT_COL_TEXT}, {.name = "method", .kind = KVT_COL_TEXT},
        {.name = "jaccard", .title = "J", .kind = KVT_COL_REAL, .digits = 3}, {.name = "chance", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "adjusted", .title = "O", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "differ", .title = "slots that differ", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "union", .title = "union / kept", .kind = KVT_COL_REAL, .digits = 2}, {.name = "cells", .kind = KVT_COL_INT, .programs_only = true},
    };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = 0, found = 0;
    char buf[32];
    for (int i = 0; i < r->n_branches && !rc; i++) {
        int b = r->branch[i];
        struct query_score q;
        struct query_sets s = { .slots = 0 };
        struct kvt_overlap o = { 0 };
        if (!understood(r->info, &r->info->branch[b], &q))
            continue;
        found++;
        rc = branch_sets(r, held, b, &q, &s, err);
        if (!rc) {
            kvt_overlap_of(&s.theirs, &s.ours, 0, r->n_layers, &o);
            kvt_put_text(t, kvt_budget_text(&r->info->branch[b], buf, sizeof buf));
            kvt_put_text(t, kvoverlap_name(r, b));
            kvt_put_real(t, kvt_overlap_jaccard(&o));
            kvt_put_real(t, kvt_overlap_chance(&o));
            kvt_put_real(t, kvt_overlap_adjusted(&o));
            kvt_put_real(t, o.smaller ? 1 - (double)o.both / (double)o.smaller : NAN);
            kvt_put_real(t, s.slots ? (double)s.joined / (double)s.slots : NAN);
            kvt_put_int(t, o.cells);
        }
        kvt_held_free(&s.ours);
        kvt_held_free(&s.theirs);
    }
    if (!rc && !found)
        rc = kvt_fail(err, KVT_EINPUT, "none of the branches is snapkv with its window's rows in the trace; trace again with --method snapkv --see scores");
    return kvoverlap_write(r, rc, &t, err);
}

/* Which heads are worth looking at? The strongest of each well-known kind, judged on the pooled maps.
 *
 * Scores are shares of a row's attention, averaged over rows (the first eighth left out: too few keys to tell):
 * sink: in the first key bin; local: in the row's own bin and the one before; repeat: in bins that hold a token right
 * after an earlier occurrence of one of the row's own tokens (where an induction head looks), sinks and local bins left
 * out, relative to an even spread; columns: how much of what is left goes to the few keys that all rows favour. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/progress.h"
#include "plots/plot.h"

enum { LOCAL_BINS = 2 };

struct scores { double sink, local, repeat, columns; };

/* w (R, C): how much of a row bin's tokens would point at each key bin under perfect induction. */
static int repeat_targets(const struct kvt_trace_info *info, float *w, struct kvt_err *err)
{
    int n = info->map_tok, R = info->map_r, C = info->map_c;
    int *at = kvt_calloc((size_t)n, sizeof *at);
    if (!at)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", n);
    for (int i = 1; i < n; i++) {
        int m = 0;
        for (int j = 0; j < i; j++)
            if (info->token_id[j] == info->token_id[i])
                at[m++] = j + 1;
        int r = (int)((int64_t)i * R / n);
        for (int k = 0; k < m; k++)
            w[(size_t)r * (size_t)C + (size_t)((int64_t)at[k] * C / n)] += 1.0f / (float)m;
    }
    free(at);
    return 0;
}

static struct scores score_head(const float *map, const float *w, int R, int C, int n, double *column)
{
    struct scores s = {0};
    double tok = (double)n / C, targets = 0, rest = 0, on_target = 0;
    int rows = 0;
    memset(column, 0, (size_t)C * sizeof *column);
    for (int r = R / 8; r < R; r++, rows++) {
        double row_rest = 0;
        int diag = (int)((int64_t)r * C / R), end = diag - LOCAL_BINS + 1;
        for (int c = 0; c <= diag; c++) {
            double a = isfinite(map[(size_t)r * (size_t)C + (size_t)c]) ? map[(size_t)r * (size_t)C + (size_t)c] * tok : 0;
            if (c == 0) {
                s.sink += a;
            } else if (c >= end) {
                s.local += a;
            } else {
                row_rest += a;
                column[c] += a;
                on_target += a * w[(size_t)r * (size_t)C + (size_t)c];
                targets += w[(size_t)r * (size_t)C + (size_t)c] / (end > 1 ? end - 1 : 1);
            }
        }
        rest += row_rest;
    }
    double square = 0, sum = 0;
    for (int c = 0; c < C; c++) {
        square += column[c] * column[c];
        sum += column[c];
    }
    s.sink /= rows;
    s.local /= rows;
    s.repeat = targets > 0 ? on_target / rows * (rest > 0 ? on_target / (targets * rest / rows) : 0) : 0;
    s.columns = sum > 0 ? square / (sum * sum) * sqrt(rest / rows) : 0;
    return s;
}

static bool taken(const struct kvt_pick *pick, int count, int layer, int head)
{
    for (int i = 0; i < count; i++)
        if (pick[i].layer == layer && pick[i].head == head)
            return true;
    return false;
}

static void pick_best(const struct scores *s, size_t offset, int L, int H, const char *what, struct kvt_pick *pick, int cap,
                      int *count)
{
    double best = -1;
    struct kvt_pick p = {.what = what};
    for (int i = 0; i < L * H; i++) {
        double v;
        memcpy(&v, (const char *)&s[i] + offset, sizeof v);
        if (v > best && !taken(pick, *count, i / H, i % H)) {
            best = v;
            p.layer = i / H;
            p.head = i % H;
        }
    }
    if (*count < cap && best > 0)
        pick[(*count)++] = p;
}

int kvt_pick_heads(struct kvt_trace *t, struct kvt_pick *pick, int cap, int *count, float *mean, struct kvt_err *err)
{
    const struct kvt_trace_info *info = kvt_trace_info(t);
    int L = info->L, H = info->H, R = info->map_r, C = info->map_c;
    size_t size = (size_t)R * (size_t)C;
    float *map = kvt_calloc(size, sizeof *map), *w = kvt_calloc(size, sizeof *w);
    double *column = kvt_calloc((size_t)C, sizeof *column);
    struct scores *s = kvt_calloc((size_t)L * (size_t)H, sizeof *s);
    struct kvt_progress bar;
    int rc = map && w && column && s ? repeat_targets(info, w, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %d x %d maps", R, C);
    *count = 0;
    memset(mean, 0, size * sizeof *mean);
    kvt_progress_start(&bar, stderr, "reading maps", "heads", L * H);
    for (int i = 0; !rc && i < L * H; i++) {
        rc = kvt_trace_map(t, "mean", i / H, i % H, map, err);
        if (rc)
            break;
        for (size_t k = 0; k < size; k++)
            mean[k] += map[k] / (float)(L * H); /* NaN above the diagonal stays NaN */
        s[i] = score_head(map, w, R, C, info->map_tok, column);
        kvt_progress_at(&bar, i + 1);
    }
    kvt_progress_end(&bar);
    if (!rc) {
        pick_best(s, offsetof(struct scores, repeat), L, H, "induction", pick, cap, count);
        pick_best(s, offsetof(struct scores, repeat), L, H, "induction", pick, cap, count);
        pick_best(s, offsetof(struct scores, columns), L, H, "fixed keys", pick, cap, count);
        pick_best(s, offsetof(struct scores, local), L, H, "local", pick, cap, count);
        pick_best(s, offsetof(struct scores, sink), L, H, "sink", pick, cap, count);
    }
    free(map);
    free(w);
    free(column);
    free(s);
    return rc;
}

/* Choosing branches, and the sets they held. */
#include "analyzers/analyzer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/mem.h"
#include "kernels/ops.h"

enum { MAX_BRANCHES = 256 };

void kvt_held_free(struct kvt_held *h)
{
    free(h->kept);
    free(h->guarded);
    free(h->shared);
    *h = (struct kvt_held){0};
}

static void find_shared(struct kvt_held *h)
{
    size_t n = (size_t)h->n;
    for (int l = 0; l < h->L; l++) {
        const uint8_t *first = h->kept + (size_t)l * h->G * n;
        h->shared[l] = 1;
        for (int g = 1; g < h->G; g++)
            if (memcmp(first, first + (size_t)g * n, n))
                h->shared[l] = 0;
    }
}

int kvt_held_make(int L, int G, int n, int n_tok, const int32_t *evicted_at, const uint8_t *reason, int step,
                  struct kvt_held *out, struct kvt_err *err)
{
    size_t cells = (size_t)L * (size_t)G, all = cells * (size_t)n;
    *out = (struct kvt_held){.L = L, .G = G, .n = n, .kept = kvt_calloc(all, 1), .guarded = kvt_calloc(all, 1),
                             .shared = kvt_calloc((size_t)L, 1)};
    if (!out->kept || !out->guarded || !out->shared) {
        kvt_held_free(out);
        return kvt_fail(err, KVT_ENOMEM, "no memory for the kept sets of %d layers x %d heads x %d tokens", L, G, n);
    }
    for (size_t c = 0; c < cells; c++) {
        const int32_t *ev = evicted_at + c * (size_t)n_tok;
        for (int j = 0; j < n; j++)
            /* lost in a prefill chunk (-2 and below) is lost; so is a token that never was (KVT_NOT_YET) */
            out->kept[c * (size_t)n + (size_t)j] = ev[j] == -1 || ev[j] > step;
    }
    for (size_t i = 0; reason && i < all; i++)
        out->guarded[i] = reason[i] == KVT_KEPT_WINDOW || reason[i] == KVT_KEPT_PROTECTED;
    find_shared(out);
    return 0;
}

void kvt_history_free(struct kvt_history *h)
{
    free(h->evicted_at);
    free(h->reason);
    *h = (struct kvt_history){0};
}

int kvt_history_load(struct kvt_trace *t, int branch, const uint8_t *layer, struct kvt_history *out, struct kvt_err *err)
{
    const struct kvt_trace_info *info = kvt_trace_info(t);
    size_t G = (size_t)info->G, cells = (size_t)info->L * G, n = (size_t)info->n_context, n_tok = (size_t)info->n_tok;
    *out = (struct kvt_history){.G = info->G, .n = info->n_context, .n_tok = info->n_tok, .evicted_at = kvt_calloc(cells * n_tok, sizeof *out->evicted_at),
                                .reason = kvt_calloc(cells * n, 1)};
    int rc = out->evicted_at && out->reason ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for the history of branch %d", branch);
    if (!rc)
        rc = kvt_trace_evicted_at(t, branch, out->evicted_at, err);
    if (!rc)
        rc = kvt_trace_reason(t, branch, out->reason, err);
    for (size_t l = 0; !rc && l < (size_t)info->L; l++) { /* the chosen layers move to the front */
        if (layer && !layer[l])
            continue;
        size_t from = l * G, to = (size_t)out->L * G;
        if (from != to) {
            memmove(out->evicted_at + to * n_tok, out->evicted_at + from * n_tok, G * n_tok * sizeof *out->evicted_at);
            memmove(out->reason + to * n, out->reason + from * n, G * n);
        }
        out->L++;
    }
    if (rc)
        kvt_history_free(out);
    return rc;
}

int kvt_history_at(const struct kvt_history *h, int step, struct kvt_held *out, struct kvt_err *err)
{
    return kvt_held_make(h->L, h->G, h->n, h->n_tok, h->evicted_at, h->reason, step, out, err);
}

bool kvt_history_changes(const struct kvt_history *h, int from, int to)
{
    for (size_t c = 0, cells = (size_t)h->L * (size_t)h->G; c < cells; c++) {
        const int32_t *at = h->evicted_at + c * (size_t)h->n_tok;
        int any = 0;
        for (int j = 0; j < h->n; j++)
            any |= at[j] > from && at[j] <= to;
        if (any)
            return true;
    }
    return false;
}

int kvt_held_load(struct kvt_trace *t, int branch, int step, const uint8_t *layer, struct kvt_held *out, struct kvt_err *err)
{
    struct kvt_history h;
    *out = (struct kvt_held){0};
    int rc = kvt_history_load(t, branch, layer, &h, err);
    if (rc)
        return rc;
    rc = kvt_history_at(&h, step, out, err);
    kvt_history_free(&h);
    return rc;
}

void kvt_held_share(const struct kvt_held *h, double *out)
{
    size_t cells = (size_t)h->L * (size_t)h->G, n = (size_t)h->n;
    for (size_t j = 0; j < n; j++)
        out[j] = 0;
    for (size_t c = 0; c < cells; c++)
        for (size_t j = 0; j < n; j++)
            out[j] += h->kept[c * n + j];
    for (size_t j = 0; j < n; j++)
        out[j] /= (double)cells;
}

int kvt_shots(const struct kvt_trace_info *info, struct kvt_shot **out, int *count, struct kvt_err *err)
{
    *out = NULL;
    *count = 0;
    struct kvt_shot *shot = kvt_calloc((size_t)info->n_spans + 1, sizeof *shot);
    if (!shot)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d spans", info->n_spans);
    int n = 0;
    for (int i = 0; i < info->n_spans; i++) {
        const struct kvt_trace_span *s = &info->span[i];
        if (strcmp(s->kind, "shot") || s->start < 0 || s->end > info->n_context || s->end <= s->start)
            continue;
        if (n && s->start < shot[n - 1].end)
            continue; /* shots follow each other; those of a damaged file could add up to more tokens than there are */
        shot[n] = (struct kvt_shot){.span = i, .start = s->start, .end = s->end, .question = -1, .answer = -1};
        for (int c = 0; c < info->n_spans; c++) {
            const struct kvt_trace_span *part = &info->span[c];
            if (part->parent != i || part->end <= part->start || part->start < s->start || part->end > s->end)
                continue; /* a part that lies outside its shot, perhaps outside the context: of a damaged file */
            if (!strcmp(part->kind, "question"))
                shot[n].question = c;
            else if (!strcmp(part->kind, "answer"))
                shot[n].answer = c;
        }
        n++;
    }
    *out = shot;
    *count = n;
    return 0;
}

int kvt_window_of(const struct kvt_trace_info *info, int layer)
{
    int tok = 0, at = 0;
    if (sscanf(info->windows, "%d tokens in layers%n", &tok, &at) != 1 || !at || tok < 1)
        return 0;
    for (const char *p = info->windows + at; *p && *p != ';';) {
        char *end;
        long from = strtol(p + 1, &end, 10), to = from;
        if (end == p + 1)
            return 0;
        if (*end == '-')
            to = strtol(end + 1, &end, 10);
        if (from <= layer && layer <= to)
            return tok;
        p = end;
    }
    return 0;
}

bool kvt_is_section(const struct kvt_trace_span *s)
{
    static const char *const kinds[] = {"system", "shot", "prompt", "question"};
    for (int i = 0; i < 4; i++)
        if (s->parent < 0 && s->end > s->start && !strcmp(s->kind, kinds[i]))
            return true;
    return false;
}

/* ---- branches ---- */

static bool add(int *list, int *n, int b)
{
    for (int i = 0; i < *n; i++)
        if (list[i] == b)
            return false;
    list[(*n)++] = b;
    return true;
}

static int pick_one(const struct kvt_trace_info *info, const char *item, int *list, int *n, struct kvt_err *err)
{
    bool found = false;
    for (int b = info->no_full; b < info->n_branches; b++) {
        const struct kvt_trace_branch *br = &info->branch[b];
        if (!strcmp(item, br->name) || !strcmp(item, br->canonical) || !strcmp(item, br->method)) {
            add(list, n, b);
            found = true;
        }
    }
    int number;
    if (!found && !kvt_parse_int(item, info->no_full, info->n_branches - 1, &number, "", NULL)) {
        add(list, n, number);
        found = true;
    }
    if (found)
        return 0;
    const char *names[2 * MAX_BRANCHES];
    int k = 0;
    for (int b = info->no_full; b < info->n_branches && b < MAX_BRANCHES; b++) {
        names[k++] = info->branch[b].method;
        names[k++] = info->branch[b].name;
    }
    const char *near = kvt_nearest(item, names, k);
    if (near)
        return kvt_fail(err, KVT_EINPUT, "no branch '%s' in this trace; did you mean %s?", item, near);
    return kvt_fail(err, KVT_EINPUT, "no branch '%s' in this trace; kvinfo lists its %d branches", item, info->n_branches - info->no_full);
}

int kvt_pick_branches(const struct kvt_trace_info *info, const char *list, int **out, int *count, struct kvt_err *err)
{
    *out = kvt_calloc((size_t)info->n_branches + 1, sizeof **out);
    *count = 0;
    if (!*out)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", info->n_branches);
    if (!list) {
        for (int b = 0; b < info->n_branches; b++)
            if (strcmp(info->branch[b].method, "full"))
                (*out)[(*count)++] = b;
        return 0;
    }
    char **item = NULL;
    int n = 0, rc = kvt_split(list, &item, &n, "--branches", err);
    for (int i = 0; !rc && i < n; i++)
        rc = pick_one(info, item[i], *out, count, err);
    free(item);
    if (rc) {
        free(*out);
        *out = NULL;
        *count = 0;
    }
    return rc;
}

bool kvt_same_budget(const struct kvt_trace_branch *a, const struct kvt_trace_branch *b)
{
    if (isnan(a->asked_keep) || isnan(b->asked_keep))
        return isnan(a->asked_keep) && isnan(b->asked_keep) && a->asked_tok == b->asked_tok;
    return fabs(a->asked_keep - b->asked_keep) < 5e-7; /* shares are asked in millionths */
}

const char *kvt_budget_text(const struct kvt_trace_branch *b, char *buf, size_t cap)
{
    if (isnan(b->asked_keep))
        snprintf(buf, cap, "%d tokens", b->asked_tok);
    else
        snprintf(buf, cap, "%.6g%%", 100 * b->asked_keep);
    return buf;
}

static int by_budget(const struct kvt_trace_branch *a, const struct kvt_trace_branch *b)
{
    bool ta = isnan(a->asked_keep), tb = isnan(b->asked_keep);
    if (ta != tb)
        return ta ? 1 : -1;
    double x = ta ? a->asked_tok : a->asked_keep, y = ta ? b->asked_tok : b->asked_keep;
    return (x > y) - (x < y);
}

/* The branch whose budget is the middle one among the budgets that most branches have. */
static int middle_budget(const struct kvt_trace_info *info, const int *branch, int count)
{
    int first[MAX_BRANCHES], size[MAX_BRANCHES], n = 0, most = 0;
    for (int i = 0; i < count; i++) {
        int k = 0;
        while (k < n && !kvt_same_budget(&info->branch[first[k]], &info->branch[branch[i]]))
            k++;
        if (k == n) {
            if (n == MAX_BRANCHES)
                continue;
            first[n] = branch[i];
            size[n++] = 0;
        }
        if (++size[k] > most)
            most = size[k];
    }
    int m = 0;
    for (int k = 0; k < n; k++)
        if (size[k] == most)
            first[m++] = first[k];
    for (int i = 1; i < m; i++) /* few: insertion sort */
        for (int j = i; j > 0 && by_budget(&info->branch[first[j]], &info->branch[first[j - 1]]) < 0; j--) {
            int t = first[j];
            first[j] = first[j - 1];
            first[j - 1] = t;
        }
    return first[m / 2];
}

int kvt_pick_budget(const struct kvt_trace_info *info, const char *text, int *branch, int *count, struct kvt_err *err)
{
    if (!*count)
        return kvt_fail(err, KVT_EINPUT, "this trace has no compressed branch; trace again with --method");
    struct kvt_trace_branch want = {0};
    if (!text) {
        want = info->branch[middle_budget(info, branch, *count)];
    } else {
        char *end;
        double v = strtod(text, &end);
        want.asked_keep = *end == '%' && !end[1] ? v / 100 : v <= 1 && !*end ? v : NAN;
        want.asked_tok = (int)fmin(fmax(v, 0), 1e9);
        if (end == text || !(v > 0) || (isnan(want.asked_keep) && *end && strcmp(end, " tokens")))
            return kvt_fail(err, KVT_EUSAGE, "--keep: '%s' is not a share like 25%% or a number of tokens", text);
    }
    int n = 0;
    char known[160] = "", buf[32];
    for (int i = 0; i < *count; i++) {
        const struct kvt_trace_branch *b = &info->branch[branch[i]];
        if (kvt_same_budget(&want, b)) {
            branch[n++] = branch[i];
        } else {
            size_t len = strlen(known);
            kvt_budget_text(b, buf, sizeof buf);
            if (!strstr(known, buf))
                snprintf(known + len, sizeof known - len, "%s%s", len ? ", " : "", buf);
        }
    }
    if (!n)
        return kvt_fail(err, KVT_EINPUT, "--keep: no branch was asked to keep %s; there are %s", text ? text : "that", known);
    *count = n;
    return 0;
}

bool kvt_named_by_method(const struct kvt_trace_branch *b) { return !strncmp(b->name, b->method, strlen(b->method)); }

const char *kvt_short_name(const struct kvt_trace_info *info, const int *branch, int count, int i)
{
    for (int j = 0; j < count; j++)
        if (j != i && !strcmp(info->branch[branch[i]].method, info->branch[branch[j]].method))
            return info->branch[branch[i]].name;
    return kvt_named_by_method(&info->branch[branch[i]]) ? info->branch[branch[i]].method : info->branch[branch[i]].name;
}

int kvt_check_step(const struct kvt_trace_info *info, int step, struct kvt_err *err)
{
    if (step <= info->n_steps)
        return 0;
    return kvt_fail(err, KVT_EINPUT, "--at: step %d is beyond the %d steps of this trace", step, info->n_steps);
}

void kvt_warn_partial(const struct kvt_trace_info *info, const char *tool, const char *path, FILE *err)
{
    if (strcmp(info->status, "complete"))
        fprintf(err, "%s: note: %s is %s: %d of %d steps; what it holds is shown\n", tool, path, info->status, info->n_steps,
                info->n_new);
    if (info->no_full)
        fprintf(err, "%s: note: in %s no uncompressed branch ran (--no-full)\n", tool, path);
    if (info->dropped > 0)
        fprintf(err, "%s: note: %s lacks %lld maps or rows that a full ring dropped; decisions are complete\n", tool, path,
                (long long)info->dropped);
}

/* What must hold between the values of a trace: rows of attention sum to 1, a branch's history agrees with the lengths and bytes
 * it claims, reasons with what was lost, scores with their thresholds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/ops.h"
#include "tracer/h5_own.h"
#include "tracer/trace_check_parts.h"

#define PAGE_SLOTS 16 /* slots of a page: bytes are counted in whole ones */

/* What the checks need to know of the run, and where one found something. */
struct run {
    struct kvt_check *c;
    const struct kvt_trace_info *in;
    struct kvt_trace *whole;
    size_t rows;      /* of the shared prefill */
    bool complete;
    size_t told;      /* problems of the dataset being looked at */
};

static void *get(struct run *r, enum kvt_dataset id, int branch, size_t n, size_t size)
{
    void *v = r->c->good[id] && kvt_trace_has_dataset(r->c->t, id, branch) ? kvt_calloc(n ? n : 1, size) : NULL;
    if (v && kvt_trace_get(r->c->t, id, branch, NULL, NULL, v, NULL)) {
        free(v);
        v = NULL;
    }
    return v;
}

/* ---- dimensions, tokens, spans ----------------------------------------------------------------------------------- */

static void check_scale(struct run *r, enum kvt_dim dim)
{
    size_t n = r->c->t->extent[dim];
    int32_t *v = n ? kvt_calloc(n, sizeof *v) : NULL;
    const char *wrong;
    hid_t ds = v ? kvt_h5_open_own(r->c->t->prompt, kvt_dims[dim].name, &wrong) : -1;
    bool ok = ds >= 0 && kvt_h5_read(ds, H5T_NATIVE_INT32, NULL, NULL, 1, v);
    bool free_values = dim == KVT_DIM_window || dim == KVT_DIM_query_bin || dim == KVT_DIM_key_bin || dim == KVT_DIM_full_layer || dim == KVT_DIM_vector_layer || dim == KVT_DIM_full_head || dim == KVT_DIM_distance || dim == KVT_DIM_row_distance ||
                       dim == KVT_DIM_offset || dim == KVT_DIM_late_row || dim == KVT_DIM_question || dim == KVT_DIM_query_span || dim == KVT_DIM_key_span;
    bool repeats = dim == KVT_DIM_query_bin || dim == KVT_DIM_key_bin || dim == KVT_DIM_window; /* more bins than tokens; as asked */
    size_t below = dim == KVT_DIM_full_layer || dim == KVT_DIM_vector_layer ? r->c->t->extent[KVT_DIM_layer] : dim == KVT_DIM_full_head ? r->c->t->extent[KVT_DIM_head] :
                   dim == KVT_DIM_query_span || dim == KVT_DIM_key_span ? r->c->t->extent[KVT_DIM_span] : (size_t)INT32_MAX;
    for (size_t i = 0; ok && i < n; i++) {
        int64_t want = (int64_t)i + (dim == KVT_DIM_step);
        bool fits = free_values ? v[i] >= 0 && (size_t)v[i] < below && (!i || dim == KVT_DIM_window || v[i] > v[i - 1] || (repeats && v[i] == v[i - 1]))
                                : v[i] == want;
        if (fits)
            continue;
        if (free_values)
            kvt_check_found(r->c, kvt_dims[dim].name, "[%zu] is %d: its values must ascend%s", i, v[i], below < INT32_MAX ? " and exist" : "");
        else
            kvt_check_found(r->c, kvt_dims[dim].name, "[%zu] is %d; %lld belongs there", i, v[i], (long long)want);
        break;
    }
    if (ds >= 0)
        H5Dclose(ds);
    free(v);
}

static void check_tokens(struct run *r)
{
    const struct kvt_trace_info *in = r->in;
    for (int i = 0; i < in->n_prompt; i++) {
        if (in->V > 0 && in->token_id[i] >= in->V) {
            kvt_check_found(r->c, "tokens/id", "[%d] is %d; the vocabulary ends at %d", i, in->token_id[i], in->V);
            break;
        }
        if (i && in->token_start[i] < in->token_start[i - 1]) {
            kvt_check_found(r->c, "tokens/byte_start", "[%d] is %d, before the token in front of it", i, in->token_start[i]);
            break;
        }
    }
    for (int i = 0; i < in->n_spans; i++) {
        const struct kvt_trace_span *s = &in->span[i], *p = s->parent >= 0 ? &in->span[s->parent] : NULL;
        if (p && (p == s || s->start < p->start || s->end > p->end)) {
            kvt_check_found(r->c, "spans/parent", "[%d]: tokens [%d, %d) don't lie in those of its parent %d", i, s->start, s->end, s->parent);
            break;
        }
    }
}

static void check_state(struct run *r)
{
    static const char *const words[] = {"in_progress", "complete", "interrupted", "failed"};
    bool known = false;
    for (int i = 0; i < 4; i++)
        known = known || !strcmp(words[i], r->in->status);
    if (!known)
        kvt_check_found(r->c, "status", "is '%.20s'; in_progress, complete, interrupted or failed can be", r->in->status);
    for (int b = 0; b < r->in->n_branches; b++) {
        const struct kvt_trace_branch *br = &r->in->branch[b];
        for (int a = 0; a < b; a++)
            if (!strcmp(r->in->branch[a].name, br->name))
                kvt_check_found(r->c, "branches", "%d and %d have one name, '%.60s'", a, b, br->name);
        if (strcmp(br->schedule, "prefill") && strcmp(br->schedule, "step") && strcmp(br->schedule, "every"))
            kvt_check_found(r->c, "branches", "%d has schedule '%.20s'; prefill, step or every can be", b, br->schedule);
        if (br->diverged > r->in->n_steps)
            kvt_check_found(r->c, "result/diverged", "[%d] is %d, after the last of %d steps", b, br->diverged, r->in->n_steps);
    }
}

/* ---- rows of attention ------------------------------------------------------------------------------------------- */

/* One row of n values, of which the first `rows` were prefilled: sums to `want`. Sums of f32 over tiles lose far less than 1e-4. */
static void check_sum(struct run *r, const char *path, int layer, int head, const float *v, double want)
{
    double sum = 0;
    size_t missing = 0;
    for (size_t k = 0; k < r->rows; k++) {
        missing += isnan(v[k]);
        sum += isnan(v[k]) ? 0 : (double)v[k];
    }
    if (missing == r->rows && !r->complete) /* the run didn't get there */
        return;
    if (missing && !r->told++)
        kvt_check_found(r->c, path, "[%d,%d,...] has %zu values that were never written", layer, head, missing);
    else if (fabs(sum - want) > 1e-4 * want + 1e-5 && !r->told++)
        kvt_check_found(r->c, path, "[%d,%d,...] sums to %.6g; each row of attention sums to 1, so this must be %g", layer, head, sum, want);
}

static void check_rows(struct run *r)
{
    const struct kvt_trace_info *in = r->in;
    static const struct { enum kvt_dataset id; const char *what, *path; } raw[] = {
        {KVT_DS_MASS, "mass", "score/mass"}, {KVT_DS_WMASS, "wmass", "score/wmass"}, {KVT_DS_LAST, "last", "score/last"},
        {KVT_DS_ENTROPY, "entropy", "score/entropy"}};
    size_t H = (size_t)in->H, n = (size_t)in->n_prompt;
    float *v = kvt_calloc(H * n, sizeof *v);
    double *most = kvt_calloc(n, sizeof *most); /* nats of a row that sees q + 1 keys alike */
    r->c->memory = r->c->memory || !v || !most;
    for (size_t q = 0; most && q < n; q++)
        most[q] = log((double)q + 1);
    for (size_t i = 0; v && most && i < sizeof raw / sizeof *raw; i++) {
        int windows = raw[i].id == KVT_DS_WMASS ? in->n_windows : 1;
        r->told = 0;
        if (!r->c->good[raw[i].id] || !kvt_trace_has_dataset(r->c->t, raw[i].id, 0))
            continue;
        for (int w = 0; w < windows; w++)
            for (int l = 0; l < in->L && !kvt_trace_raw(r->whole, raw[i].what, w, l, v, NULL); l++)
                for (int h = 0; h < in->H; h++) {
                    const float *row = v + (size_t)h * n;
                    double seen = raw[i].id == KVT_DS_MASS ? (double)r->rows : raw[i].id == KVT_DS_LAST ? 1
                                : fmin((double)in->window[w], (double)r->rows);
                    if (raw[i].id != KVT_DS_ENTROPY) {
                        check_sum(r, raw[i].path, l, h, row, seen);
                        continue;
                    }
                    for (size_t q = 0; q < r->rows; q++)
                        if ((double)row[q] > most[q] + 1e-3 && !r->told++)
                            kvt_check_found(r->c, raw[i].path, "[%d,%d,%zu] is %g; a row of %zu keys has at most %g nat", l, h, q, (double)row[q],
                                            q + 1, most[q]);
                }
    }
    free(v);
    free(most);
}

/* Pooled maps: NaN exactly where no causal pair lies, and no mean above its maximum. */
static void check_maps(struct run *r)
{
    const struct kvt_trace_info *in = r->in;
    size_t R = (size_t)in->map_r, C = (size_t)in->map_c, n = r->rows;
    if (!R || !C || !r->c->good[KVT_DS_MAP_MEAN] || !r->c->good[KVT_DS_MAP_MAX])
        return;
    float *mean = kvt_calloc(R * C, sizeof *mean), *max = kvt_calloc(R * C, sizeof *max);
    uint8_t *pairs = kvt_calloc(R * C, 1);
    r->c->memory = r->c->memory || !mean || !max || !pairs;
    r->told = 0;
    for (size_t j = 0; pairs && j < R * C; j++) {
        size_t q1 = ((j / C + 1) * n + R - 1) / R, k0 = (j % C * n + C - 1) / C, q0 = (j / C * n + R - 1) / R, k1 = ((j % C + 1) * n + C - 1) / C;
        pairs[j] = q1 > q0 && k1 > k0 && k0 < q1;
    }
    for (int i = 0; mean && max && pairs && i < in->L * in->H; i++) {
        int l = i / in->H, h = i % in->H;
        size_t written = 0;
        if (kvt_trace_map(r->whole, "mean", l, h, mean, NULL) || kvt_trace_map(r->whole, "max", l, h, max, NULL))
            break;
        for (size_t j = 0; j < R * C; j++)
            written += !isnan(mean[j]);
        if (!written && (!r->complete || in->dropped)) /* not there yet, or lost on its way and counted */
            continue;
        for (size_t j = 0; j < R * C; j++) {
            bool pair = pairs[j];
            if ((isnan(mean[j]) == pair || isnan(max[j]) == pair) && !r->told++)
                kvt_check_found(r->c, "map/mean", "or map/max: [%d,%d,%zu,%zu] %s", l, h, j / C, j % C, pair ? "is NaN, but the bin has causal pairs" : "has a value, but no causal pair");
            else if (mean[j] > max[j] + 1e-4f && !r->told++)
                kvt_check_found(r->c, "map/mean", "[%d,%d,%zu,%zu] is %g, above the bin's maximum %g", l, h, j / C, j % C, (double)mean[j], (double)max[j]);
        }
    }
    free(mean);
    free(max);
    free(pairs);
}

/* Whole rows: each sums to 1 over the tokens up to its own, and is 0 behind it. */
struct whole_rows { struct run *r; const char *path; size_t pos; int axis; bool may_end; }; /* position of the first row; which dimension rows are */

static bool whole_rows(void *arg, const size_t *start, const size_t *count, const void *values)
{
    const struct whole_rows *w = arg;
    struct run *r = w->r;
    const double *v = values;
    size_t n = r->c->t->extent[w->axis ? KVT_DIM_key : KVT_DIM_token], rows = count[0] * count[1] * count[2];
    for (size_t i = 0; i < rows && !r->told; i++) {
        size_t at[3] = {start[0] + i / (count[1] * count[2]), start[1] + i / count[2] % count[1], start[2] + i % count[2]};
        size_t seen = w->pos + at[w->axis] + 1;
        double sum = 0, above = 0;
        for (size_t k = 0; k < n; k++)
            *(k < seen ? &sum : &above) += v[i * n + k];
        bool none = sum == 0 && above == 0, may = !r->complete || (w->may_end && at[0] >= (size_t)r->in->n_steps) || (w->may_end && !strcmp(r->in->decode, "free"));
        if (none ? may : fabs(sum - 1) <= 1e-4 && above == 0)
            continue;
        r->told++;
        kvt_check_found(r->c, w->path, "[%zu,%zu,%zu]: %s (sum %.5g)", at[0], at[1], at[2], above != 0 ? "attention to tokens that come later" : "the row doesn't sum to 1", sum);
    }
    return !r->told;
}

static void check_whole_rows(struct run *r)
{
    const struct { enum kvt_dataset id; const char *path; int pos, axis; } of[] = {
        {KVT_DS_DECODE_ROWS, "decode/attention", r->in->n_prompt, 0}, {KVT_DS_QUESTION_ROWS, "replay/question", r->in->n_context, 0},
        {KVT_DS_LATE_ROWS, "replay/rows", r->in->late_from, 2}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        r->told = 0;
        if (r->c->good[of[i].id] && kvt_trace_has_dataset(r->c->t, of[i].id, 0))
            kvt_check_each(r->c, of[i].id, 0, whole_rows, &(struct whole_rows){r, of[i].path, (size_t)of[i].pos, of[i].axis, i == 0});
    }
}

/* Rows of generated tokens: their distances sum to 1, and no entropy is above that of a row that is even. */
static void check_decoded(struct run *r)
{
    size_t heads = (size_t)r->in->L * (size_t)r->in->H, bins = (size_t)r->in->n_row_distances, n = heads * (bins ? bins : 1);
    float *v = r->in->has_decode ? kvt_calloc(n, sizeof *v) : NULL;
    r->told = 0;
    for (int k = 1; v && k <= r->in->n_steps; k++) {
        double most = log((double)(r->in->n_prompt + k));
        if (r->c->good[KVT_DS_ROW_ENTROPY] && !kvt_trace_decode(r->whole, "entropy", k, v, NULL))
            for (size_t i = 0; i < heads; i++)
                if ((double)v[i] > most + 1e-3 && !r->told++)
                    kvt_check_found(r->c, "decode/entropy", "[%d,%zu,%zu] is %g; a row of %d keys has at most %g nat", k - 1, i / (size_t)r->in->H,
                                    i % (size_t)r->in->H, (double)v[i], r->in->n_prompt + k, most);
        if (!bins || !r->c->good[KVT_DS_ROW_DISTANCE] || kvt_trace_decode(r->whole, "distance", k, v, NULL))
            continue;
        for (size_t i = 0; i < heads; i++) {
            double sum = 0;
            for (size_t b = 0; b < bins; b++)
                sum += v[i * bins + b];
            if (fabs(sum - 1) > 1e-4 && !r->told++) /* NaN: a step that wasn't recorded */
                kvt_check_found(r->c, "decode/distance", "[%d,%zu,%zu,...] sums to %.6g, not 1", k - 1, i / (size_t)r->in->H, i % (size_t)r->in->H, sum);
        }
    }
    free(v);
}

/* ---- a branch's history ------------------------------------------------------------------------------------------ */

static size_t slot_bytes(const struct kvt_trace_info *in)
{
    size_t value = !strcmp(in->kv_type, "f32") ? 4 : !strcmp(in->kv_type, "f16") || !strcmp(in->kv_type, "bf16") ? 2 : 0;
    return 2 * (size_t)in->D * value;
}

/* A token's life: in from step `from` on; lost at `v` (evicted_at). Adds to `change` (steps + 2); says whether v can be. */
static bool live(const struct run *r, int t, int32_t v, bool steps_too, int *change)
{
    int steps = r->in->n_steps, last = r->complete ? steps : r->in->n_new;
    int from = t < r->in->n_prompt ? 0 : t - r->in->n_prompt + 1;
    if (v == KVT_NOT_YET)
        return t >= r->in->n_prompt;
    if (r->complete && from > steps)
        return false;
    if (from <= steps)
        change[from]++;
    if (v == -1)
        return true;
    if (v <= 0) { /* at prefill's end or after a chunk of it: only the context can be lost then, or what was fed of the question */
        change[from]--;
        return t < (steps_too && !v ? r->in->n_prompt : r->in->n_context);
    }
    if (v <= steps)
        change[v]--;
    return v >= from && v <= last;
}

struct bytes { double *low, *high; }; /* (steps + 1) what the branch's pages can hold; index 0: its context after eviction */

/* steps: a method that acts in each step may lose more while the question is fed, which counts as prefill's end, after reasons and
 * kept_tok were told. */
static void check_cell(struct run *r, const char *path, int l, int g, const int32_t *at, const uint8_t *reason, int32_t kept, bool steps,
                       struct bytes *b)
{
    const struct kvt_trace_info *in = r->in;
    int *change = kvt_calloc((size_t)in->n_steps + 2, sizeof *change), held = 0, now = 0;
    if (!change)
        r->c->memory = true;
    for (int t = 0; change && t < in->n_tok; t++) {
        if (!live(r, t, at[t], steps, change) && !r->told++)
            kvt_check_found(r->c, path, "evicted_at[%d,%d,%d] is %d, which can't be (%d tokens of the prompt, %d of them context, %d steps)", l, g, t,
                            at[t], in->n_prompt, in->n_context, in->n_steps);
        if (t >= in->n_context)
            continue;
        bool lost = at[t] == 0 || at[t] < -1;
        uint8_t why = reason ? reason[t] : 255;
        bool left = why == KVT_LEFT_SCORE || why == KVT_LEFT_UNIT || why == KVT_LEFT_BUDGET;
        held += !lost;
        if (why != 255 && (left ? !lost : lost && !steps) && !r->told++)
            kvt_check_found(r->c, path, "reason[%d,%d,%d] is %d (%s), but evicted_at is %d", l, g, t, why, left ? "left" : "kept", at[t]);
    }
    if (change && kept >= 0 && (steps ? kept < held : kept != held) && !r->told++)
        kvt_check_found(r->c, path, "kept_tok[%d,%d] is %d, but evicted_at says that %d tokens of the context were kept", l, g, kept, held);
    for (int k = 0; change && k <= in->n_steps; k++) {
        now += change[k];
        int n = k ? now : steps && kept >= 0 ? kept : held;
        b->low[k] += n;
        b->high[k] += (n + PAGE_SLOTS - 1) / PAGE_SLOTS * PAGE_SLOTS;
    }
    free(change);
}

static void check_bytes(struct run *r, int branch, const char *path, const struct bytes *b)
{
    const struct kvt_trace_info *in = r->in;
    double slot = (double)slot_bytes(in);
    int64_t *alone = kvt_calloc((size_t)in->n_steps + 1, sizeof *alone);
    bool own_losses = strcmp(in->windows, "none") != 0; /* a window layer drops what it can't see: no eviction */
    if (!alone || slot <= 0 || kvt_trace_bytes(r->whole, branch, "alone", alone + 1, NULL)) {
        free(alone);
        return;
    }
    alone[0] = in->branch[branch].bytes_after;
    for (int k = 0; k <= in->n_steps; k++)
        if (alone[k] >= 0 && ((!own_losses && (double)alone[k] < b->low[k] * slot) || (double)alone[k] > b->high[k] * slot)) {
            kvt_check_found(r->c, path, "%s %d says %lld bytes, but evicted_at leaves %g slots of %g bytes, which is %g to %g in whole pages",
                            k ? "steps/alone_bytes of step" : "result/bytes_after, step", k, (long long)alone[k], b->low[k], slot, b->low[k] * slot,
                            b->high[k] * slot);
            break;
        }
    free(alone);
}

static void check_history(struct run *r, int branch)
{
    const struct kvt_trace_info *in = r->in;
    size_t G = (size_t)in->G, n_tok = (size_t)in->n_tok, n_ctx = (size_t)in->n_context, steps = (size_t)in->n_steps + 1;
    char path[32];
    snprintf(path, sizeof path, "branches/%02d", branch);
    size_t L = (size_t)in->L; /* a chunk holds all layers and heads of some tokens: all at once, or each is unpacked L times */
    int32_t *all = kvt_calloc(L * G * n_tok, sizeof *all), *kept = get(r, KVT_DS_KEPT, branch, (size_t)in->L * G, sizeof *kept);
    uint8_t *reason = r->c->good[KVT_DS_REASON] && n_ctx && kvt_trace_has_dataset(r->c->t, KVT_DS_REASON, branch) ? kvt_calloc(L * G, n_ctx) : NULL;
    struct bytes b = {kvt_calloc(steps, sizeof(double)), kvt_calloc(steps, sizeof(double))};
    bool ok = all && b.low && b.high;
    r->c->memory = r->c->memory || !ok;
    r->told = 0;
    if (ok && (kvt_trace_get(r->c->t, KVT_DS_EVICTED, branch, NULL, NULL, all, NULL) ||
               (reason && kvt_trace_get(r->c->t, KVT_DS_REASON, branch, NULL, NULL, reason, NULL)))) {
        kvt_check_found(r->c, path, "can't be read: its bytes are damaged");
        ok = false;
    }
    for (size_t l = 0; ok && l < L; l++) {
        const int32_t *at = all + l * G * n_tok;
        if (at[0] == KVT_NOT_YET && !r->complete) { /* the run didn't get there */
            ok = false;
            break;
        }
        for (size_t g = 0; g < G; g++)
            check_cell(r, path, (int)l, (int)g, at + g * n_tok, reason ? reason + (l * G + g) * n_ctx : NULL, kept ? kept[l * G + g] : -1,
                       strcmp(in->branch[branch].schedule, "prefill") != 0, &b);
    }
    if (ok && !r->told)
        check_bytes(r, branch, path, &b);
    free(all);
    free(kept);
    free(reason);
    free(b.low);
    free(b.high);
}

/* What was kept for its score has at least the threshold, what left for it at most. */
static void check_thresholds(struct run *r, int branch)
{
    const struct kvt_trace_info *in = r->in;
    size_t cells = (size_t)in->L * (size_t)in->G, n = (size_t)in->n_context;
    char path[32];
    snprintf(path, sizeof path, "branches/%02d", branch);
    size_t G = (size_t)in->G;
    float *cut = get(r, KVT_DS_THRESHOLD, branch, cells, sizeof *cut), *scores = kvt_calloc(G * n + 1, sizeof *scores);
    uint8_t *reasons = kvt_calloc(G * n + 1, 1);
    bool told = !cut || !scores || !reasons || !n || !r->c->good[KVT_DS_SCORE] || !r->c->good[KVT_DS_REASON];
    for (size_t i = 0; i < cells && !told; i++) {
        const size_t start[3] = {i / G, 0, 0}, count[3] = {1, G, n}; /* all heads of a layer lie in one chunk, or in a few */
        if (i % G == 0 && (kvt_trace_get(r->c->t, KVT_DS_SCORE, branch, start, count, scores, NULL) || kvt_trace_get(r->c->t, KVT_DS_REASON, branch, start, count, reasons, NULL)))
            break;
        const float *score = scores + i % G * n;
        const uint8_t *reason = reasons + i % G * n;
        for (size_t t = 0; t < n && !told && !isnan(cut[i]); t++)
            if ((reason[t] == KVT_KEPT_SCORE && score[t] < cut[i]) || (reason[t] == KVT_LEFT_SCORE && score[t] > cut[i])) {
                told = true;
                kvt_check_found(r->c, path, "score[%zu,%zu,%zu] is %g and was %s for it, but the threshold is %g", i / G, i % G, t, (double)score[t],
                                reason[t] == KVT_KEPT_SCORE ? "kept" : "left", (double)cut[i]);
            }
    }
    free(cut);
    free(scores);
    free(reasons);
}

/* ---- steps and results ------------------------------------------------------------------------------------------- */

static void check_steps(struct run *r)
{
    const struct kvt_trace_info *in = r->in;
    size_t B = (size_t)in->n_branches, n = (size_t)in->n_new;
    int32_t *token = get(r, KVT_DS_STEP_TOKEN, 0, n * B, sizeof *token);
    bool may_end = !strcmp(in->decode, "free"); /* and then has no token for the rest */
    for (size_t i = 0; token && i < n * B; i++) {
        bool done = i / B < (size_t)in->n_steps;
        if ((done && token[i] < 0 && !may_end && r->complete) || (!done && token[i] >= 0 && r->complete)) {
            kvt_check_found(r->c, "steps/token", "[%zu,%zu] is %d, but %d steps were done", i / B, i % B, token[i], in->n_steps);
            break;
        }
        if (in->V > 0 && token[i] >= in->V) {
            kvt_check_found(r->c, "steps/token", "[%zu,%zu] is %d; the vocabulary ends at %d", i / B, i % B, token[i], in->V);
            break;
        }
    }
    free(token);
    double *keep = get(r, KVT_DS_RES_KEEP, 0, B, sizeof *keep);
    int64_t *kept = get(r, KVT_DS_RES_KEPT, 0, B, sizeof *kept), *slots = get(r, KVT_DS_RES_SLOTS, 0, B, sizeof *slots);
    int64_t *peak = get(r, KVT_DS_RES_PEAK, 0, B, sizeof *peak), *after = get(r, KVT_DS_RES_AFTER, 0, B, sizeof *after);
    for (size_t b = 0; b < B; b++) {
        if (keep && kept && slots && slots[b] > 0 && kept[b] >= 0 && fabs(keep[b] - (double)kept[b] / (double)slots[b]) > 1e-6)
            kvt_check_found(r->c, "result/effective_keep", "[%zu] is %g, but %lld of %lld slots were kept", b, keep[b], (long long)kept[b], (long long)slots[b]);
        if (peak && after && peak[b] >= 0 && peak[b] < after[b])
            kvt_check_found(r->c, "result/bytes_peak", "[%zu] is %lld, less than the %lld after eviction", b, (long long)peak[b], (long long)after[b]);
    }
    free(keep);
    free(kept);
    free(slots);
    free(peak);
    free(after);
}

static void check_timeline(struct run *r)
{
    int64_t *count = get(r, KVT_DS_TIME_COUNT, 0, 1, sizeof *count);
    size_t room = r->c->t->extent[KVT_DIM_event];
    uint8_t *part = get(r, KVT_DS_TIME_PART, 0, room, 1);
    int32_t *layer = get(r, KVT_DS_TIME_LAYER, 0, room, sizeof *layer), *branch = get(r, KVT_DS_TIME_BRANCH, 0, room, sizeof *branch);
    if (count && (*count < 0 || (uint64_t)*count > room))
        kvt_check_found(r->c, "timeline/count", "is %lld; there is room for %zu", (long long)*count, room);
    else if (count && part && layer && branch)
        for (size_t i = 0; i < (size_t)*count; i++)
            if (part[i] == 255 || layer[i] >= r->in->L || branch[i] >= r->in->n_branches) {
                kvt_check_found(r->c, "timeline", "[%zu] is part %d of layer %d, branch %d, which aren't there", i, part[i], layer[i], branch[i]);
                break;
            }
    free(count);
    free(part);
    free(layer);
    free(branch);
}

/* Indices of the first `count` entries of a column: -1 or below `below`. Nothing where the trace hasn't it. */
static void check_index(struct run *r, enum kvt_dataset counts, enum kvt_dataset id, enum kvt_dim dim, int64_t below)
{
    struct kvt_dataset_info d;
    size_t room = r->c->t->extent[dim];
    int64_t *count = room ? get(r, counts, 0, 1, sizeof *count) : NULL;
    int32_t *v = room ? get(r, id, 0, room, sizeof *v) : NULL;
    kvt_schema_get(id, &d);
    if (count && (*count < 0 || (uint64_t)*count > room))
        kvt_check_found(r->c, d.path, "has %lld entries; there is room for %zu", (long long)*count, room);
    else if (count && v)
        for (size_t i = 0; i < (size_t)*count; i++)
            if (v[i] < -1 || v[i] >= below) {
                kvt_check_found(r->c, d.path, "[%zu] is %d, which isn't there", i, v[i]);
                break;
            }
    free(count);
    free(v);
}

static void check_device(struct run *r)
{
    int64_t names = (int64_t)r->c->t->extent[KVT_DIM_name];
    int64_t *calls = names ? get(r, KVT_DS_CALL_COUNT, 0, 1, sizeof *calls) : NULL;
    check_index(r, KVT_DS_CALL_COUNT, KVT_DS_CALL_OP, KVT_DIM_call, names);
    check_index(r, KVT_DS_CALL_COUNT, KVT_DS_CALL_LAYER, KVT_DIM_call, r->in->L);
    check_index(r, KVT_DS_DEV_COUNT, KVT_DS_DEV_NAME, KVT_DIM_record, names);
    check_index(r, KVT_DS_DEV_COUNT, KVT_DS_DEV_CALL, KVT_DIM_record, calls ? *calls : 0);
    free(calls);
}

void kvt_check_invariants(struct kvt_check *c)
{
    struct kvt_err err = {0};
    struct run r = {.c = c};
    for (int dim = 0; dim < KVT_N_DIM; dim++)
        check_scale(&r, (enum kvt_dim)dim);
    int rc = kvt_trace_open(&r.whole, c->t->path, c->t->info.prompt_id, &err);
    if (rc) {
        if (rc == KVT_ENOMEM)
            c->memory = true;
        else if (!c->n) /* else it is said already */
            kvt_check_found(c, "prompt", "%s", err.text);
        return;
    }
    r.in = kvt_trace_info(r.whole);
    r.rows = (size_t)r.in->map_tok;
    r.complete = !strcmp(r.in->status, "complete");
    check_state(&r);
    check_tokens(&r);
    check_rows(&r);
    check_maps(&r);
    kvt_check_full(c, r.whole);
    check_whole_rows(&r);
    for (int b = r.in->no_full; b < r.in->n_branches && !c->memory; b++) {
        if (c->good[KVT_DS_EVICTED])
            check_history(&r, b);
        check_thresholds(&r, b);
    }
    check_decoded(&r);
    check_steps(&r);
    check_timeline(&r);
    check_device(&r);
    kvt_trace_close(&r.whole);
}

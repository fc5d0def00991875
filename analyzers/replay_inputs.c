/* A replay's inputs: from the trace to a backend's memory. */
#include "analyzers/replay_inputs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kvt/prompt.h"

#define ROWS_BYTES ((size_t)1 << 29) /* rows up to this are held in memory, larger ones are read again for each branch or window */

static size_t heads(const struct kvt_replay *r) { return (size_t)r->info->L * (size_t)r->info->H * (size_t)r->n_prefill; }

static void *device(struct kvt_replay *r, size_t count, size_t size) { return r->ops->alloc(r->dev, (count ? count : 1) * size); }

static int put(struct kvt_replay *r, float *to, const float *from, size_t count, struct kvt_err *err)
{
    int rc = r->ops->write(r->dev, to, from, count * sizeof *from);
    return rc ? kvt_fail(err, rc, "%s", kvt_dev_error(r->dev)) : 0;
}

/* Sums of attention and norms: what the evictor's operations may be given. */
static int check_values(const struct kvt_replay *r, const float *v, size_t n, const char *what, struct kvt_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (!(v[i] >= 0 && v[i] < 1e30f))
            return kvt_fail(err, KVT_EFORMAT, "%s: %s holds %g, which can't be", r->info->path, what, (double)v[i]);
    return 0;
}

/* ---- reductions of the prefill ---- */

enum what { MASS, LAST, MAX, LATER, WMASS, SQUARE };

static int read_layer(struct kvt_replay *r, enum what what, int i, int layer, float *to, struct kvt_err *err)
{
    switch (what) {
    case MASS: return kvt_trace_raw(r->trace, "mass", 0, layer, to, err);
    case LAST: return kvt_trace_raw(r->trace, "last", 0, layer, to, err);
    case MAX: return kvt_trace_raw(r->trace, "max", 0, layer, to, err);
    case LATER: return kvt_trace_later(r->trace, layer, to, err);
    case WMASS: return kvt_trace_raw(r->trace, "wmass", i, layer, to, err);
    case SQUARE: return kvt_trace_square(r->trace, i, layer, to, err);
    }
    return 0;
}

/* (L, H, n_prefill) from rows of n_prompt values, into backend memory. What the run didn't get to is NaN: nothing to decide by. */
static int load(struct kvt_replay *r, enum what what, int i, float *to, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    size_t H = (size_t)in->H, n = (size_t)r->n_prefill, ld = (size_t)in->n_prompt;
    float *one = kvt_calloc(H * ld, sizeof *one);
    int rc = one ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", in->n_prompt);
    for (int l = 0; l < in->L && !rc; l++) {
        rc = read_layer(r, what, i, l, one, err);
        for (size_t h = 0; h < H && !rc; h++) {
            memcpy(r->host + ((size_t)l * H + h) * n, one + h * ld, n * sizeof *one);
            for (size_t j = 0; j < n && !rc; j++)
                if (isnan(one[h * ld + j]))
                    rc = kvt_fail(err, KVT_EINPUT, "%s: the run ended before its prefill did; nothing can be decided from it", in->path);
        }
    }
    free(one);
    rc = rc ? rc : check_values(r, r->host, heads(r), "score/ or replay/", err);
    return rc ? rc : put(r, to, r->host, heads(r), err);
}

static int load_all(struct kvt_replay *r, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    int32_t window[KVT_MAX_WINDOWS], distance[KVT_MAX_WINDOWS];
    uint8_t by_pos[KVT_MAX_WINDOWS];
    struct { const float **to; enum what what; bool there; } one[] = {{&r->raw.mass, MASS, true}, {&r->raw.last, LAST, true}, {&r->raw.max, MAX, true},
                                                                    {&r->raw.later, LATER, in->has_later}};
    int rc = 0;
    r->raw.ld = r->n_prefill;
    for (size_t i = 0; i < sizeof one / sizeof *one && !rc; i++) {
        float *to = one[i].there ? device(r, heads(r), sizeof *to) : NULL;
        *one[i].to = to;
        if (one[i].there)
            rc = to ? load(r, one[i].what, 0, to, err) : KVT_ENOMEM;
    }
    if (!rc && in->n_squares)
        rc = kvt_trace_squares(r->trace, window, distance, by_pos, err);
    for (int i = 0; i < in->n_squares && !rc; i++) {
        float *to = device(r, heads(r), sizeof *to);
        r->raw.sqmass[i] = to;
        r->raw.square[i] = (struct kvt_square){.window = window[i], .distance = distance[i], .by_pos = by_pos[i] == 1};
        r->raw.n_squares = i + 1;
        rc = to ? load(r, SQUARE, i, to, err) : KVT_ENOMEM;
    }
    return rc == KVT_ENOMEM ? kvt_fail(err, rc, "no memory for the scores of %d tokens", r->n_prefill) : rc;
}

/* Norms: outputs' into memory for the scores, keys' as keys of a cache whose cells have nothing else. */
static int load_norms(struct kvt_replay *r, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    size_t L = (size_t)in->L, G = (size_t)in->G, C = (size_t)in->n_context, D = KVT_REPLAY_D, ld = (size_t)r->n_prefill, T = (size_t)in->n_tok;
    float *out = device(r, L * G * ld, sizeof *out), *one = kvt_calloc(G * C, sizeof *one), *key = kvt_calloc(C * G * D, sizeof *key);
    float *k = device(r, C * G * D, sizeof *k);
    int32_t *branch = kvt_calloc(C, sizeof *branch), *pos = kvt_calloc(C, sizeof *pos);
    r->raw.out_norms = out;
    r->key_norm = kvt_calloc(L * G * T, sizeof *r->key_norm);
    int rc = out && one && key && k && branch && pos && r->key_norm ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for the norms of %d tokens", in->n_tok);
    for (size_t j = 0; j < C && !rc; j++)
        pos[j] = (int32_t)j;
    for (size_t l = 0; l < L && !rc; l++) {
        float *norm = r->key_norm + l * G * T;
        rc = kvt_trace_out_norm(r->trace, (int)l, one, err);
        if (!rc)
            rc = kvt_trace_key_norm(r->trace, (int)l, norm, err);
        for (size_t i = 0; i < G * T; i++)
            norm[i] = isnan(norm[i]) ? 0 : norm[i]; /* tokens that never came */
        rc = rc ? rc : check_values(r, norm, G * T, "replay/key_norm", err);
        rc = rc ? rc : check_values(r, one, G * C, "replay/out_norm", err);
        for (size_t g = 0; g < G && !rc; g++) {
            rc = put(r, out + (l * G + g) * ld, one + g * C, C, err);
            for (size_t j = 0; j < C; j++)
                key[(j * G + g) * D] = norm[g * T + j];
        }
        if (!rc)
            rc = put(r, k, key, C * G * D, err);
        if (!rc && r->ops->cache_append(r->dev, &(struct kvt_append_args){.cache = r->cache, .layer = (int)l, .T = (int)C, .k = k, .v = k, .branch = branch, .pos = pos}))
            rc = kvt_fail(err, KVT_ENOMEM, "%s", kvt_dev_error(r->dev));
    }
    void *own[] = {one, key, branch, pos};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        free(own[i]);
    if (k)
        r->ops->free(r->dev, k);
    return rc;
}

/* ---- the last rows ---- */

static void flush(float *to, float *from, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        to[j] += from[j];
        from[j] = 0;
    }
}

/* What the last w of the rows sum up to in each column, added up as the backend does: each value itself, or its square. */
static void sum_rows(const struct kvt_replay *r, const float *rows, int w, bool square, bool fused, float *all)
{
    size_t n = (size_t)r->n_prefill, ld = (size_t)r->info->n_prompt;
    float *strip = r->sums, *part = strip + n;
    int W = r->info->n_late;
    memset(all, 0, n * sizeof *all);
    memset(strip, 0, 2 * n * sizeof *strip);
    for (int i = W - w; i < W; i++) {
        const float *p = rows + (size_t)i * ld;
        if (r->level[i] && i > W - w) {
            flush(strip, part, n);
            if (r->level[i] > 1)
                flush(all, strip, n);
        }
        if (!square)
            for (size_t j = 0; j < n; j++)
                part[j] += p[j];
        for (size_t j = 0; j < n && square; j++)
            part[j] = fused ? fmaf(p[j], p[j], part[j]) : part[j] + p[j] * p[j];
    }
    flush(strip, part, n);
    flush(all, strip, n);
}

static int read_late(struct kvt_replay *r, size_t i, float *to, struct kvt_err *err)
{
    size_t H = (size_t)r->info->H, block = (size_t)r->info->n_late * (size_t)r->info->n_prompt;
    int rc = kvt_trace_late_rows(r->trace, (int)(i / H), (int)(i % H), to, err);
    return rc ? rc : check_values(r, to, block, "replay/rows", err);
}

/* Rows of head i of L x H; NULL and err where they can't be read. */
static const float *late_of(struct kvt_replay *r, size_t i, struct kvt_err *err)
{
    size_t block = (size_t)r->info->n_late * (size_t)r->info->n_prompt;
    if (r->late_held)
        return r->late + i * block;
    return read_late(r, i, r->late, err) ? NULL : r->late;
}

/* Whether sums of late rows are bit for bit those that the run recorded, given as `what` number i. */
static bool same_sums(struct kvt_replay *r, enum what what, int i, int w, bool fused)
{
    const struct kvt_trace_info *in = r->info;
    size_t H = (size_t)in->H, n = (size_t)r->n_prefill, ld = (size_t)in->n_prompt;
    float *told = kvt_calloc(H * ld, sizeof *told), *made = kvt_calloc(n, sizeof *made);
    bool same = told && made;
    for (int l = 0; l < in->L && same; l++) {
        same = !read_layer(r, what, i, l, told, NULL);
        for (size_t h = 0; h < H && same; h++) {
            const float *rows = late_of(r, (size_t)l * H + h, NULL);
            if ((same = rows != NULL)) {
                sum_rows(r, rows, w, what == SQUARE, fused, made);
                same = !memcmp(made, told + h * ld, n * sizeof *made);
            }
        }
    }
    free(told);
    free(made);
    return same;
}

int kvt_replay_late(struct kvt_replay *r, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    size_t H = (size_t)in->H, W = (size_t)in->n_late, ld = (size_t)in->n_prompt, values;
    if (r->late)
        return 0;
    r->late_held = kvt_mul_size((size_t)in->L * H, W * ld, &values) && values <= ROWS_BYTES / sizeof *r->late;
    r->late = kvt_calloc(r->late_held ? values : W * ld, sizeof *r->late);
    r->level = kvt_calloc(W, 1);
    r->sums = kvt_calloc(2 * (size_t)r->n_prefill, sizeof *r->sums);
    int rc = r->late && r->level && r->sums ? kvt_trace_row_sums(r->trace, r->level, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %zu rows of each head", W);
    for (size_t i = 0; i < (size_t)in->L * H && r->late_held && !rc; i++)
        rc = read_late(r, i, r->late + i * W * ld, err);
    bool told = !rc && r->level[W - 1] != 255;
    for (int i = 0, seen = 0; i < in->n_windows && told; i++) {
        if (in->window[i] < 1 || in->window[i] > in->n_late)
            continue;
        bool same = same_sums(r, WMASS, i, in->window[i], false);
        r->sums_known = same && (r->sums_known || !seen);
        seen++;
    }
    for (int i = 0; i < r->raw.n_squares && told; i++) {
        const struct kvt_square *s = &r->raw.square[i];
        if (s->window < 1 || s->window > in->n_late || s->distance || s->by_pos || r->squares_known)
            continue;
        r->fused = same_sums(r, SQUARE, i, s->window, true);
        r->squares_known = r->fused || same_sums(r, SQUARE, i, s->window, false);
    }
    return rc;
}

bool kvt_replay_window_recorded(const struct kvt_replay *r, int w)
{
    for (int i = 0; i < r->info->n_windows; i++)
        if (r->info->window[i] == w)
            return true;
    return false;
}

int kvt_replay_window(struct kvt_replay *r, int w, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    size_t n = (size_t)r->n_prefill;
    int rc = 0;
    if (r->raw.n_windows && r->raw.window[0] == w)
        return 0;
    r->raw.n_windows = 0;
    if (!r->window && !(r->window = device(r, heads(r), sizeof *r->window)))
        return kvt_fail(err, KVT_ENOMEM, "no memory for a window's mass");
    for (int i = 0; i < in->n_windows; i++)
        if (in->window[i] == w) {
            rc = load(r, WMASS, i, r->window, err);
            r->raw.n_windows = !rc, r->raw.window[0] = w, r->raw.wmass[0] = r->window;
            return rc;
        }
    rc = kvt_replay_late(r, err);
    for (size_t i = 0; i < (size_t)in->L * (size_t)in->H && !rc; i++) {
        const float *rows = late_of(r, i, err);
        rc = rows ? 0 : KVT_EFORMAT;
        if (rows)
            sum_rows(r, rows, w, false, false, r->host + i * n);
    }
    if (!rc)
        rc = put(r, r->window, r->host, heads(r), err);
    r->raw.n_windows = !rc, r->raw.window[0] = w, r->raw.wmass[0] = r->window;
    return rc;
}

bool kvt_replay_squares_recorded(const struct kvt_replay *r, const struct kvt_policy *p)
{
    for (int i = 0; i < r->info->n_squares; i++)
        if (kvt_evict_same_square(&r->raw.square[i], p))
            return true;
    return false;
}

/* Behind the recorded ones: rows of a window, whose squares count from `distance` rows after the key on; or times their position. */
int kvt_replay_squares(struct kvt_replay *r, const struct kvt_policy *p, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    size_t ld = (size_t)in->n_prompt, n = (size_t)r->n_prefill, W = (size_t)in->n_late;
    if (kvt_replay_squares_recorded(r, p))
        return 0;
    bool by_pos = p->score == KVT_SCORE_FINCH;
    int rc = kvt_replay_late(r, err), at = in->n_squares;
    if (!rc && !r->squares && !(r->squares = device(r, heads(r), sizeof *r->squares)))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for a window's squares");
    for (size_t i = 0; i < (size_t)in->L * (size_t)in->H && !rc; i++) {
        const float *rows = late_of(r, i, err);
        if (!rows)
            return KVT_EFORMAT;
        if (!p->distance && !by_pos) {
            sum_rows(r, rows, p->window, true, r->fused, r->host + i * n);
            continue;
        }
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t k = W - (size_t)p->window; k < W; k++) {
                double a = rows[k * ld + j], pos = (double)in->late_from + (double)k;
                sum += by_pos ? a * pos : pos >= (double)j + p->distance ? a * a : 0;
            }
            r->host[i * n + j] = (float)sum;
        }
    }
    if (!rc)
        rc = put(r, r->squares, r->host, heads(r), err);
    if (!rc && at < KVT_MAX_WINDOWS) {
        r->raw.sqmass[at] = r->squares;
        r->raw.square[at] = (struct kvt_square){.window = p->window, .distance = p->distance, .by_pos = by_pos};
        r->raw.n_squares = at + 1;
    }
    return rc || at < KVT_MAX_WINDOWS ? rc : kvt_fail(err, KVT_EUNSUP, "%s holds %d sums of squares, which leaves no room for another", in->path, at);
}

/* ---- rows of the uncompressed branch ---- */

static int read_row(struct kvt_replay *r, int i, int layer, float *to, struct kvt_err *err)
{
    int q = r->info->n_question, rc = i < q ? kvt_trace_question_row(r->trace, i, layer, to, err) : kvt_trace_decode_row(r->trace, i - q + 1, layer, to, err);
    return rc ? rc : check_values(r, to, (size_t)r->info->H * (size_t)r->info->n_tok, i < q ? "replay/question" : "decode/attention", err);
}

const float *kvt_replay_row(struct kvt_replay *r, int i, int layer, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    size_t block = (size_t)in->H * (size_t)in->n_tok, all;
    if (!r->rows && !r->one) {
        bool fits = kvt_mul_size(block * (size_t)in->L * sizeof(float), (size_t)r->n_rows, &all) && all <= ROWS_BYTES;
        r->one = kvt_calloc(block, sizeof *r->one);
        r->rows = fits ? kvt_calloc(all / sizeof *r->rows, sizeof *r->rows) : NULL;
        int rc = r->one ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for a row");
        for (int k = 0; k < r->n_rows && r->rows && !rc; k++)
            for (int l = 0; l < in->L && !rc; l++)
                rc = read_row(r, k, l, r->rows + ((size_t)k * (size_t)in->L + (size_t)l) * block, err);
        if (rc)
            return NULL;
    }
    if (r->rows)
        return r->rows + ((size_t)i * (size_t)in->L + (size_t)layer) * block;
    return read_row(r, i, layer, r->one, err) ? NULL : r->one;
}

/* ---- the text ---- */

static int by_start(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;
    return x[1] != y[1] ? (x[1] > y[1]) - (x[1] < y[1]) : (x[0] > y[0]) - (x[0] < y[0]);
}

/* Shots and kinds of text as a session has them: what lies in the context; a sentence that is cut off there is none. */
static int load_text(struct kvt_replay *r, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    r->shot = kvt_calloc(2 * (size_t)in->n_spans + 2, sizeof *r->shot);
    r->span = kvt_calloc(3 * (size_t)in->n_spans + 3, sizeof *r->span);
    if (!r->shot || !r->span)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d spans", in->n_spans);
    for (int i = 0, last = 0; i < in->n_spans; i++) {
        const struct kvt_trace_span *s = &in->span[i];
        int kind = 0;
        while (kind < KVT_N_SPAN_KIND && strcmp(kvt_span_kind_name((enum kvt_span_kind)kind), s->kind))
            kind++;
        if (kind == KVT_SPAN_SHOT && s->end <= in->n_context && s->start < s->end && s->start >= last) {
            memcpy(r->shot + 2 * r->env.n_shots++, (int32_t[]){s->start, s->end}, 2 * sizeof *r->shot);
            last = s->end;
        }
        bool cut = s->end > in->n_context;
        if (kind < KVT_N_SPAN_KIND && s->start < in->n_context && s->start < s->end && !(cut && kind == KVT_SPAN_SENTENCE))
            memcpy(r->span + 3 * r->env.n_spans++, (int32_t[]){kind, s->start, cut ? in->n_context : s->end}, 3 * sizeof *r->span);
    }
    qsort(r->span, (size_t)r->env.n_spans, 3 * sizeof *r->span, by_start);
    r->env.shot = r->shot, r->env.span = r->span;
    return 0;
}

static const float *future(void *self, int branch, int layer)
{
    const struct kvt_replay *r = self;
    (void)branch;
    return r->future.left + (size_t)layer * (size_t)r->info->G * (size_t)r->info->n_tok;
}

static int open_backend(struct kvt_replay *r, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    r->same_backend = !kvt_ops_load(&r->ops, in->backend, NULL) && !r->ops->open(&r->dev, &(struct kvt_dev_opts){.threads = 0}, NULL);
    int rc = 0;
    if (!r->same_backend) {
        r->ops = &kvt_ops_cpu;
        rc = r->ops->open(&r->dev, &(struct kvt_dev_opts){.threads = 0}, err);
    }
    struct kvt_cache_opts co = {.L = in->L, .G = in->G, .D = KVT_REPLAY_D, .max_branch = 2, .max_slots = in->n_tok, .type = KVT_F32};
    if (!rc)
        rc = r->ops->cache_open(r->dev, &r->cache, &co, err);
    return rc;
}

int kvt_replay_open(struct kvt_replay **out, struct kvt_trace *t, struct kvt_err *err)
{
    const struct kvt_trace_info *in = kvt_trace_info(t);
    *out = NULL;
    if (!in->has_replay || !in->has_rows || !in->has_max || !in->has_scores)
        return kvt_fail(err, KVT_EINPUT, "%s doesn't hold what decisions follow from; trace again with kvtrace --for-replay", in->path);
    if (in->late_from + in->n_late != in->map_tok)
        return kvt_fail(err, KVT_EFORMAT, "%s: dimension 'late_row' doesn't end with the prefill", in->path);
    if (!in->n_context)
        return kvt_fail(err, KVT_EINPUT, "%s: the prompt has no context that could be compressed", in->path);
    struct kvt_replay *r = kvt_calloc(1, sizeof *r);
    if (!r)
        return kvt_fail(err, KVT_ENOMEM, "no memory for a replay");
    size_t L = (size_t)in->L, H = (size_t)in->H, G = (size_t)in->G, T = (size_t)in->n_tok;
    r->trace = t, r->info = in;
    r->n_prefill = in->map_tok;
    r->n_rows = in->n_question + in->n_steps;
    r->first_pos = in->n_prompt - in->n_question;
    r->acts = kvt_calloc(L, 1);
    r->layer = kvt_calloc(L, sizeof *r->layer);
    r->host = kvt_calloc(heads(r), sizeof *r->host);
    r->slot_row = kvt_calloc(H * T, sizeof *r->slot_row);
    r->h_pos = kvt_calloc(G * T, sizeof *r->h_pos);
    r->h_kv = kvt_calloc(2 * G * KVT_REPLAY_D, sizeof *r->h_kv);
    int rc = r->acts && r->layer && r->host && r->slot_row && r->h_pos && r->h_kv ? kvt_trace_acts(t, r->acts, err) : kvt_fail(err, KVT_ENOMEM, "no memory for a replay");
    if (!rc)
        rc = open_backend(r, err);
    if (!rc) {
        r->row = device(r, H * T, sizeof *r->row);
        r->pos = device(r, G * T, sizeof *r->pos);
        r->kv = device(r, 2 * G * KVT_REPLAY_D, sizeof *r->kv);
        r->given = device(r, L * G * (size_t)r->n_prefill, sizeof *r->given);
        if (!r->row || !r->pos || !r->kv || !r->given)
            rc = kvt_fail(err, KVT_ENOMEM, "no memory for a replay");
    }
    r->env = (struct kvt_evict_env){.ops = r->ops, .dev = r->dev, .cache = r->cache, .H = in->H, .G = in->G, .D = in->D, .max_slots = in->n_tok,
                                    .n_layers = in->L, .n_prompt = r->n_prefill, .n_context = in->n_context, .future = future, .future_self = r};
    r->probe = (struct kvt_probe){.self = r, .wants = kvt_replay_wants, .see = kvt_replay_see};
    r->env.probe = &r->probe;
    for (int l = 0; l < in->L; l++)
        if (r->acts[l])
            r->layer[r->env.L++] = l;
    r->env.layer = r->env.L && r->env.L < in->L ? r->layer : NULL;
    r->env.L = r->env.L ? r->env.L : in->L;
    if (!rc)
        rc = load_text(r, err);
    if (!rc)
        rc = load_all(r, err);
    if (!rc)
        rc = load_norms(r, err);
    if (rc)
        kvt_replay_close(&r);
    *out = r;
    return rc;
}

void kvt_replay_close(struct kvt_replay **rp)
{
    struct kvt_replay *r = rp ? *rp : NULL;
    if (!r)
        return;
    if (r->dev) {
        void *dev[] = {(void *)r->raw.mass, (void *)r->raw.last, (void *)r->raw.max, (void *)r->raw.later, (void *)r->raw.out_norms, r->window, r->squares,
                       r->given, r->row, r->pos, r->kv};
        for (size_t i = 0; i < sizeof dev / sizeof *dev; i++)
            if (dev[i])
                r->ops->free(r->dev, dev[i]);
        for (int i = 0; i < r->info->n_squares; i++)
            if (r->raw.sqmass[i])
                r->ops->free(r->dev, (void *)r->raw.sqmass[i]);
        if (r->cache)
            r->ops->cache_close(r->dev, &r->cache);
        r->ops->close(&r->dev);
    }
    void *own[] = {r->acts, r->layer, r->shot, r->span, r->host, r->late, r->level, r->sums, r->rows, r->one, r->slot_row, r->h_pos, r->h_kv, r->key_norm, r->future.sum,
                   r->future.left, r->mean_lost, r->mean_rest, r};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        free(own[i]);
    *rp = NULL;
}

/* KVzip (Kim et al., arXiv 2505.23416; snu-mllab/KVzip attention/score.py; kvpress KVzipPress): the model is told to repeat its
 * context, chunk by chunk, and a slot is worth the largest attention that any row of its chunk's repetition gives it, over the
 * query heads of its group. The pass runs on copies of the context's cells that are dropped, so nothing else changes.
 *
 * As in both codes, the rows run over the whole context, but the attention that scores is a softmax of its own, over the sinks,
 * the chunk and the repetition itself. So each layer attends twice: the second time on a cell that holds just those. */
#include "engine/kvzip.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/run.h"

static const char *const cue_text[2] = { "\n\nRepeat the previous context exactly.",
                                         "\n\nRepeat the part of the previous context exactly, starting with" };
static const char turn_text[] = "\n"; /* kvpress's suffix for models without a chat form */

static bool repeats(const struct kvt_session *s, int b) { return s->o.branch[b - 1].spec.policy.score == KVT_SCORE_KVZIP; }

static int index_of(const struct kvt_kvzip *z, int repeat)
{
    for (int i = 0; i < z->n; i++)
        if (z->repeat[i] == repeat)
            return i;
    return -1;
}

/* The words around a repetition, and the rows of the longest one. */
static int read_cues(struct kvt_kvzip *z, const struct kvt_tokenizer *tok, int n_context, int repeat, struct kvt_err *err)
{
    int rc = kvt_tokenize(tok, turn_text, strlen(turn_text), 0, &z->turn, err);
    for (int i = 0; i < 2 && !rc; i++)
        rc = kvt_tokenize(tok, cue_text[i], strlen(cue_text[i]), 0, &z->cue[i], err);
    int cue = z->cue[0].n > z->cue[1].n + KVT_KVZIP_TRAIL ? z->cue[0].n : z->cue[1].n + KVT_KVZIP_TRAIL;
    z->rows = (repeat < n_context ? repeat : n_context) + cue + z->turn.n;
    return rc;
}

static void free_cues(struct kvt_kvzip *z)
{
    kvt_tokens_free(&z->cue[0]);
    kvt_tokens_free(&z->cue[1]);
    kvt_tokens_free(&z->turn);
}

int kvt_kvzip_bytes(const struct kvt_model *m, int run, int n_context, int repeat, int *rows, size_t *bytes, struct kvt_err *err)
{
    struct kvt_kvzip z = { 0 };
    const struct kvt_shape *s = kvt_model_shape(m);
    int rc = read_cues(&z, kvt_model_tokenizer(m), n_context, repeat, err);
    size_t H = (size_t)s->H, n = (size_t)z.rows;
    free_cues(&z);
    *rows = z.rows;
    *bytes = (n * (size_t)s->E + (size_t)run * H * (size_t)s->D + 2 * H * ((size_t)n_context + n) + 4 * n) * sizeof(float);
    return rc;
}

int kvt_kvzip_plan(struct kvt_session *s, struct kvt_err *err)
{
    struct kvt_kvzip *z = &s->kvzip;
    int longest = 0, rc = 0;
    z->repeat = kvt_calloc((size_t)s->n, sizeof *z->repeat);
    z->score = kvt_calloc((size_t)s->n, sizeof *z->score);
    if (!z->repeat || !z->score)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", s->n);
    for (int b = 1; b < s->n; b++) {
        int repeat = s->o.branch[b - 1].spec.policy.repeat;
        if (!repeats(s, b) || index_of(z, repeat) >= 0)
            continue;
        z->repeat[z->n++] = repeat;
        longest = repeat > longest ? repeat : longest;
    }
    if (!z->n)
        return 0;
    rc = read_cues(z, kvt_model_tokenizer(s->model), s->n_context, longest, err);
    if (rc)
        return rc;
    if (s->n_context + z->rows > s->shape->context_tok)
        return kvt_fail(err, KVT_EINPUT, "kvzip repeats %d tokens after a context of %d, %d more than the model's context of %d; shorten the "
                        "prompt, or use a smaller repeat=", z->rows, s->n_context, s->n_context + z->rows - s->shape->context_tok, s->shape->context_tok);
    return 0;
}

int kvt_kvzip_open(struct kvt_session *s, struct kvt_err *err)
{
    struct kvt_kvzip *z = &s->kvzip;
    size_t rows = (size_t)z->rows, H = (size_t)s->shape->H, columns = (size_t)s->n_context + rows;
    if (!z->n)
        return 0;
    z->x = s->ops->alloc(s->dev, rows * (size_t)s->shape->E * sizeof *z->x);
    z->att = s->ops->alloc(s->dev, (size_t)s->forward->run * H * (size_t)s->shape->D * sizeof *z->att);
    z->most = s->ops->alloc(s->dev, H * columns * sizeof *z->most);
    z->host = kvt_calloc(H * columns, sizeof *z->host);
    z->token = kvt_calloc(rows, sizeof *z->token);
    z->branch = kvt_calloc(rows, sizeof *z->branch);
    z->scored = kvt_calloc(rows, sizeof *z->scored);
    z->pos = kvt_calloc(rows, sizeof *z->pos);
    bool ok = z->x && z->att && z->most && z->host && z->token && z->branch && z->scored && z->pos;
    for (int i = 0; i < z->n; i++)
        ok = (z->score[i] = kvt_calloc((size_t)s->shape->L * (size_t)s->shape->G * (size_t)s->n_context, sizeof **z->score)) != NULL && ok;
    return ok ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory to repeat %d tokens", z->rows);
}

void kvt_kvzip_close(struct kvt_session *s)
{
    struct kvt_kvzip *z = &s->kvzip;
    float *own[] = { z->x, z->att, z->most };
    for (size_t i = 0; i < sizeof own / sizeof *own && s->dev; i++)
        s->ops->free(s->dev, own[i]);
    for (int i = 0; z->score && i < z->n; i++)
        free(z->score[i]);
    void *host[] = { z->repeat, z->score, z->host, z->token, z->branch, z->scored, z->pos };
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
    free_cues(z);
    memset(z, 0, sizeof *z);
}

/* ---- one chunk ---- */

struct pass {
    struct kvt_session *s;
    float *score;              /* (L, G, n_context) */
    int from, to;              /* the chunk */
    int trail;                 /* tokens of the chunk before that its repetition starts with */
    int sinks;                 /* slots before it in the scored cell */
    int T;                     /* rows */
};

/* The rows again, on the cell that holds sinks and chunk: the largest attention of each column. One row bin and as many column
 * bins as positions make the pooled maximum the maximum of each slot. No window, whatever the layer's own: sinks and chunk lie
 * before the repetition, most of them outside it, and the softmax of both codes knows none (kvpress: _compute_cross_attention). Only
 * --compress-windows asks for such a layer's scores. */
static int look_after(void *self, int layer, int row0, int n, struct kvt_err *err)
{
    struct pass *p = self;
    struct kvt_session *s = p->s;
    struct kvt_kvzip *z = &s->kvzip;
    int H = s->shape->H, G = s->shape->G, per = H / G, columns = s->n_context + p->T;
    size_t bytes = (size_t)H * (size_t)columns * sizeof(float);
    int rc = row0 ? 0 : s->ops->zero(s->dev, z->most, bytes);
    if (!rc)
        rc = s->ops->cache_append(s->dev, &(struct kvt_append_args){ .cache = s->cache, .layer = layer, .T = n, .k = s->forward->k,
                                                                     .v = s->forward->v, .branch = z->scored + row0, .pos = z->pos + row0 });
    struct kvt_see see = { .ld = columns, .n_rows = columns, .R = 1, .C = columns, .pool_max = z->most };
    if (!rc)
        rc = s->ops->attn(s->dev, &(struct kvt_attn_args){
            .cache = s->cache, .layer = layer, .T = n, .H = H, .q = s->forward->q, .out = z->att, .branch = z->scored + row0,
            .pos = z->pos + row0, .rope = *kvt_forward_rope(s->forward, layer), .scale = s->shape->attn_scale, .cap = s->shape->attn_cap,
            .see = &see });
    if (!rc && row0 + n == p->T) {
        rc = s->ops->read(s->dev, z->host, z->most, bytes);
        for (int g = 0; !rc && g < G; g++)
            for (int j = p->from; j < p->to; j++) {
                float most = 0;
                for (int h = g * per; h < (g + 1) * per; h++) {
                    float x = z->host[(size_t)h * (size_t)columns + (size_t)(p->sinks + j - p->from)];
                    most = x > most ? x : most;
                }
                p->score[((size_t)layer * (size_t)G + (size_t)g) * (size_t)s->n_context + (size_t)j] = most;
            }
    }
    return rc ? kvt_fail(err, rc, "kvzip: layer %d: %s", layer, kvt_dev_error(s->dev)) : 0;
}

/* The scored cell: sinks and chunk of the context. */
static int keep_chunk(struct kvt_session *s, const struct pass *p)
{
    int G = s->shape->G, n = p->sinks + p->to - p->from, rc = 0;
    size_t count = (size_t)G * (size_t)n + (size_t)G;
    int32_t *list = kvt_calloc(count, sizeof *list), *dev = s->ops->alloc(s->dev, count * sizeof *dev);
    for (int g = 0; list && g < G; g++) {
        for (int j = 0; j < n; j++)
            list[(size_t)g * (size_t)n + (size_t)j] = j < p->sinks ? j : p->from + j - p->sinks;
        list[(size_t)G * (size_t)n + (size_t)g] = n;
    }
    rc = list && dev ? s->ops->write(s->dev, dev, list, count * sizeof *list) : KVT_ENOMEM;
    for (int l = 0; l < s->shape->L && !rc; l++)
        rc = s->ops->cache_keep(s->dev, &(struct kvt_keep_args){ .cache = s->cache, .branch = s->kvzip.cell + 1, .layer = l, .slot = dev,
                                                                .count = dev + (size_t)G * (size_t)n, .ld = n });
    s->ops->free(s->dev, dev);
    free(list);
    return rc;
}

static void put(struct kvt_kvzip *z, int *T, const int32_t *token, int n)
{
    memcpy(z->token + *T, token, (size_t)n * sizeof *token);
    *T += n;
}

static int run_chunk(struct kvt_session *s, struct pass *p, struct kvt_err *err)
{
    struct kvt_kvzip *z = &s->kvzip;
    int T = 0;
    put(z, &T, z->cue[p->from > 0].id, z->cue[p->from > 0].n);
    put(z, &T, s->token + p->from - p->trail, p->trail);
    put(z, &T, z->turn.id, z->turn.n);
    put(z, &T, s->token + p->from, p->to - p->from);
    for (int t = 0; t < T; t++)
        z->branch[t] = z->cell, z->scored[t] = z->cell + 1, z->pos[t] = s->n_context + t;
    p->T = T;
    p->sinks = p->from < KVT_KVZIP_SINKS ? p->from : KVT_KVZIP_SINKS;
    int rc = s->ops->cache_fork(s->dev, s->cache, 0, z->cell);
    if (!rc)
        rc = s->ops->cache_fork(s->dev, s->cache, 0, z->cell + 1);
    if (!rc)
        rc = keep_chunk(s, p);
    if (rc)
        return kvt_fail(err, rc, "kvzip: %s", kvt_dev_error(s->dev));
    struct kvt_rows rows = { .T = T, .token = z->token, .branch = z->branch, .pos = z->pos };
    struct kvt_look look = { .self = p, .after = look_after };
    rc = kvt_forward_embed(s->forward, &rows, z->x, err);
    for (int l = 0; l < s->shape->L && !rc; l++) {
        rc = kvt_forward_layer(s->forward, l, &rows, z->x, &look, err);
        rc = rc ? rc : kvt_session_times(s, err);
        kvt_session_progress(s, KVT_PHASE_REPEAT, l + 1, s->shape->L);
    }
    for (int i = 0; i < 2; i++) {
        int gone = s->ops->cache_drop(s->dev, s->cache, z->cell + i);
        rc = rc ? rc : gone;
    }
    return rc;
}

int kvt_kvzip_run(struct kvt_session *s, struct kvt_err *err)
{
    struct kvt_kvzip *z = &s->kvzip;
    int64_t t0 = kvt_now_ns();
    int rc = 0, tokens = 0;
    if (z->n)
        kvt_session_at(s, KVT_PHASE_REPEAT, 0);
    for (int i = 0; i < z->n && !rc; i++)
        for (int from = 0; from < s->n_context && !rc; from += z->repeat[i]) {
            struct pass p = { .s = s, .score = z->score[i], .from = from };
            p.trail = !from ? 0 : z->repeat[i] < KVT_KVZIP_TRAIL ? z->repeat[i] : KVT_KVZIP_TRAIL;
            p.to = s->n_context - from < z->repeat[i] ? s->n_context : from + z->repeat[i];
            rc = run_chunk(s, &p, err);
            tokens += p.T;
        }
    return rc || !z->n ? rc : kvt_session_phase(s, KVT_PHASE_REPEAT, t0, tokens, err);
}

const float *kvt_kvzip_score(const struct kvt_session *s, int repeat) { return s->kvzip.score[index_of(&s->kvzip, repeat)]; }

/* Events into datasets.
 *
 * evicted_at is the one thing that changes everywhere at every step, so its state is kept in memory in the very layout
 * of the file's chunks: [chunk][layer][kv head][64 tokens]. A step marks the chunks it touched; each is written whole,
 * unfiltered and in place by a direct chunk write, so that a step costs a copy and the file doesn't grow. Chunks that
 * no later step can touch (the prompt's, in a branch that evicts at prefill's end only) are written once, packed. */
#include "tracer/trace_store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "kernels/ops.h"
#include "kvt/trace.h"
#include "tracer/trace_device.h"
#include "tracer/trace_maps.h"
#include "tracer/trace_tiles.h"
#include "tracer/trace_times.h"

struct history {
    int32_t *at;      /* (chunks, L, G, chunk_tok) */
    uint8_t *dirty;   /* (chunks) */
    bool started;     /* the prompt's tokens are held from then on */
    bool steps;       /* may lose any token at any step */
    bool absent;      /* the uncompressed branch of a run without one: nothing was ever held */
};

struct kvt_trace_store {
    struct kvt_trace_file f;
    struct kvt_trace_shape s;
    char *path;
    int L, H, G, B, n_prompt, n_context, n_tok, n_new;
    int n_windows, window[KVT_MAX_WINDOWS];
    int chunk_tok, n_chunks;
    struct history *history; /* (B) */
    int *full_layer, *full_head; /* (L), (H): index on the recorded axis, -1: not recorded */
    int *vector_layer;           /* the same of queries, keys and values; NULL: none are */
    float *vectors;              /* (VECTOR_ROWS, D) of one head */
    struct kvt_tiles *tiles; /* full maps; NULL: none */
    struct kvt_map_blocks blocks; /* of pooled maps */
    struct kvt_timeline *timeline; /* NULL: none */
    int n_phases, steps_done;
    float *shared, *shared_threshold; /* (G, n_context), (G): a score that all heads share, repeated */
};

static hid_t ds_of(const struct kvt_trace_store *st, enum kvt_dataset id, int branch)
{
    return st->f.ds[(size_t)branch * KVT_N_DATASET + (size_t)id];
}

static int io_fail(const struct kvt_trace_store *st, struct kvt_err *err)
{
    return kvt_h5_fail(err, KVT_EIO, "cannot write %s", st->path);
}

/* A box of a dataset; nothing where the trace hasn't it or there are no values. */
static bool put(struct kvt_trace_store *st, enum kvt_dataset id, int branch, const size_t *start, const size_t *count, int rank,
                const void *v)
{
    hid_t ds = ds_of(st, id, branch);
    return ds < 0 || !v || kvt_h5_write(ds, st->f.type[id], start, count, rank, v);
}

static bool put_at(struct kvt_trace_store *st, enum kvt_dataset id, size_t i, const void *v)
{
    return put(st, id, 0, (size_t[]){i}, (size_t[]){1}, 1, v);
}

static bool put_step(struct kvt_trace_store *st, enum kvt_dataset id, const struct kvt_ev_step *e, const void *v)
{
    return put(st, id, 0, (size_t[]){(size_t)e->step - 1, (size_t)e->first}, (size_t[]){1, (size_t)e->n_branch}, 2, v);
}

/* One string of a dataset of rank 1 or 2, cut at a whole character. */
static bool put_text(struct kvt_trace_store *st, enum kvt_dataset id, const size_t *at, int rank, const char *text)
{
    if (ds_of(st, id, 0) < 0 || !text)
        return true;
    size_t len = H5Tget_size(st->f.type[id]), n = strlen(text);
    char *field = kvt_calloc(len, 1);
    if (!field)
        return false;
    if (n > len) {
        n = len;
        while (n && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--;
    }
    memcpy(field, text, n);
    bool ok = put(st, id, 0, at, (size_t[]){1, 1}, rank, field);
    free(field);
    return ok;
}

/* ---- history ----------------------------------------------------------------------------------------------------- */

static int32_t *history_at(struct kvt_trace_store *st, int branch, int layer, int g, int pos)
{
    size_t cell = (size_t)layer * (size_t)st->G + (size_t)g, cells = (size_t)st->L * (size_t)st->G;
    size_t chunk = (size_t)(pos / st->chunk_tok), in = (size_t)(pos % st->chunk_tok);
    st->history[branch].dirty[chunk] = 1;
    return st->history[branch].at + (chunk * cells + cell) * (size_t)st->chunk_tok + in;
}

static void history_start(struct kvt_trace_store *st, int branch)
{
    if (st->history[branch].started || st->history[branch].absent)
        return;
    st->history[branch].started = true;
    for (int l = 0; l < st->L; l++)
        for (int g = 0; g < st->G; g++)
            for (int pos = 0; pos < st->n_prompt; pos++)
                *history_at(st, branch, l, g, pos) = -1;
}

static bool history_write(struct kvt_trace_store *st, int branch)
{
    struct history *h = &st->history[branch];
    hid_t ds = ds_of(st, KVT_DS_EVICTED, branch);
    size_t values = (size_t)st->L * (size_t)st->G * (size_t)st->chunk_tok;
    for (int c = 0; c < st->n_chunks; c++) {
        if (!h->dirty[c])
            continue;
        h->dirty[c] = 0;
        int from = c * st->chunk_tok;
        const int32_t *v = h->at + (size_t)c * values;
        bool final = !h->steps && from + st->chunk_tok <= st->n_prompt;
        if (final) {
            size_t start[3] = {0, 0, (size_t)from}, count[3] = {(size_t)st->L, (size_t)st->G, (size_t)st->chunk_tok};
            if (!kvt_h5_write(ds, H5T_NATIVE_INT32, start, count, 3, v))
                return false;
        } else {
            hsize_t offset[3] = {0, 0, (hsize_t)from};
            /* mask 7: neither shuffle nor deflate nor checksum (a kill in the middle of a write would make it wrong) was applied */
            if (H5Dwrite_chunk(ds, H5P_DEFAULT, 7, offset, values * sizeof *v, v) < 0)
                return false;
        }
    }
    return true;
}

static bool history_write_all(struct kvt_trace_store *st)
{
    for (int b = 0; b < st->B; b++) {
        history_start(st, b);
        if (!history_write(st, b))
            return false;
    }
    return true;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static bool put_prefill(struct kvt_trace_store *st, const struct kvt_ev_prefill_layer *e)
{
    assert(e->layer >= 0 && e->layer < st->L && e->n <= st->n_prompt);
    size_t l = (size_t)e->layer, H = (size_t)st->H, n = (size_t)e->n;
    size_t at[3] = {l, 0, 0}, count[3] = {1, H, n};
    bool ok = put(st, KVT_DS_MASS, 0, at, count, 3, e->mass) && put(st, KVT_DS_LAST, 0, at, count, 3, e->last) &&
              put(st, KVT_DS_ENTROPY, 0, at, count, 3, e->entropy) && put(st, KVT_DS_SINK, 0, at, count, 3, e->sink);
    for (int w = 0; ok && w < e->n_windows; w++)
        for (int i = 0; ok && i < st->n_windows; i++)
            if (st->window[i] == e->window[w])
                ok = put(st, KVT_DS_WMASS, 0, (size_t[]){(size_t)i, l, 0, 0}, (size_t[]){1, 1, H, n}, 4, e->wmass[w]);
    ok = ok && put(st, KVT_DS_VISIBLE, 0, at, count, 3, e->visible) && put(st, KVT_DS_SQUARE, 0, at, count, 3, e->square) &&
         put(st, KVT_DS_MAX, 0, at, count, 3, e->max) && put(st, KVT_DS_KEYS, 0, at, count, 3, e->keys) &&
         put(st, KVT_DS_LOCAL_MASS, 0, at, count, 3, e->local);
    size_t bins[3] = {1, H, (size_t)e->n_distances}, offsets[3] = {1, H, (size_t)e->n_offsets};
    size_t at4[4] = {l, 0, 0, 0}, spans[4] = {1, H, (size_t)e->n_spans, (size_t)e->n_spans}, top[4] = {1, H, n, (size_t)e->top_k};
    ok = ok && put(st, KVT_DS_DISTANCE, 0, at, bins, 3, e->distance) && put(st, KVT_DS_OFFSET, 0, at, offsets, 3, e->offset) &&
         put(st, KVT_DS_SPANS, 0, at4, spans, 4, e->spans) && put(st, KVT_DS_TOP, 0, at4, top, 4, e->top) &&
         put(st, KVT_DS_TOP_AT, 0, at4, top, 4, e->top_at);
    ok = ok && put(st, KVT_DS_LATER, 0, at, count, 3, e->later);
    for (int i = 0; ok && i < e->n_squares; i++)
        ok = put(st, KVT_DS_SQMASS, 0, (size_t[]){(size_t)i, l, 0, 0}, (size_t[]){1, 1, H, n}, 4, e->sqmass[i]);
    return ok;
}

static bool put_maps(struct kvt_trace_store *st, const struct kvt_msg *m)
{
    assert(m->maps.layer >= 0 && m->maps.layer < st->L && m->maps.n <= st->n_prompt);
    return kvt_maps_put(&st->blocks, m, ds_of(st, KVT_DS_MAP_MEAN, 0), ds_of(st, KVT_DS_MAP_MAX, 0), st->f.type[KVT_DS_MAP_MEAN]);
}

static bool put_tiles(struct kvt_trace_store *st, const struct kvt_msg *m)
{
    assert(m->tiles.layer >= 0 && m->tiles.layer < st->L && m->tiles.head >= 0 && m->tiles.head < st->H);
    assert(m->tiles.row0 >= 0 && m->tiles.row0 + m->tiles.n_rows <= m->tiles.n && m->tiles.n <= st->n_prompt);
    int l = st->full_layer[m->tiles.layer], h = st->full_head[m->tiles.head];
    return l < 0 || h < 0 || kvt_tiles_put(st->tiles, m, l, h);
}

enum { VECTOR_ROWS = 128 }; /* of a chunk: runs of rows begin where chunks do */

/* (rows, heads, D) as a layer has them, into (layer, head, row, D). */
static bool put_heads(struct kvt_trace_store *st, enum kvt_dataset id, const struct kvt_ev_vectors *e, int heads, const float *from)
{
    size_t D = (size_t)e->D, layer = (size_t)st->vector_layer[e->layer];
    for (int h = 0; h < heads && from && ds_of(st, id, 0) >= 0; h++)
        for (int r = 0; r < e->n_rows; r += VECTOR_ROWS) {
            int rows = e->n_rows - r < VECTOR_ROWS ? e->n_rows - r : VECTOR_ROWS;
            for (int i = 0; i < rows; i++)
                memcpy(st->vectors + (size_t)i * D, from + ((size_t)(r + i) * (size_t)heads + (size_t)h) * D, D * sizeof *from);
            size_t at[4] = {layer, (size_t)h, (size_t)(e->row0 + r), 0}, count[4] = {1, 1, (size_t)rows, D};
            if (!put(st, id, 0, at, count, 4, st->vectors))
                return false;
        }
    return true;
}

static bool put_vectors(struct kvt_trace_store *st, const struct kvt_ev_vectors *e)
{
    assert(e->layer >= 0 && e->layer < st->L && e->row0 >= 0 && e->row0 + e->n_rows <= st->n_prompt);
    if (!st->vector_layer || st->vector_layer[e->layer] < 0)
        return true;
    return put_heads(st, e->rotated ? KVT_DS_DUMP_Q_ROTATED : KVT_DS_DUMP_Q, e, st->H, e->q) &&
           put_heads(st, e->rotated ? KVT_DS_DUMP_K_ROTATED : KVT_DS_DUMP_K, e, st->G, e->k) && put_heads(st, KVT_DS_DUMP_V, e, st->G, e->v);
}

static bool put_budget(struct kvt_trace_store *st, const struct kvt_ev_budget *e)
{
    assert(e->branch >= 0 && e->branch < st->B);
    size_t b = (size_t)e->branch;
    uint8_t fallback = e->fallback;
    size_t at[2] = {0, 0}, count[2] = {(size_t)st->L, (size_t)st->G};
    history_start(st, e->branch);
    return put_at(st, KVT_DS_RES_KEEP, b, &e->effective_keep) && put_at(st, KVT_DS_RES_KEPT, b, &e->kept_slots) &&
           put_at(st, KVT_DS_RES_SLOTS, b, &e->context_slots) && put_at(st, KVT_DS_RES_FALLBACK, b, &fallback) &&
           put_text(st, KVT_DS_RES_NOTE, &b, 1, e->note) && put_at(st, KVT_DS_RES_HOST, b, &e->host_ns) &&
           put(st, KVT_DS_BUDGET, e->branch, at, count, 2, e->budget_tok) &&
           put(st, KVT_DS_KEPT, e->branch, at, count, 2, e->kept_tok) && history_write(st, e->branch);
}

static bool left(uint8_t reason) { return reason == KVT_LEFT_SCORE || reason == KVT_LEFT_UNIT || reason == KVT_LEFT_BUDGET; }

static bool put_scores(struct kvt_trace_store *st, const struct kvt_ev_decision *e)
{
    size_t l = (size_t)e->layer, n = (size_t)e->n, G = (size_t)st->G;
    if (!e->score || !e->R)
        return true;
    assert(e->R == 1 || e->R == st->G);
    int32_t rows = e->R;
    const float *score = e->score, *threshold = e->threshold;
    if (e->R == 1) { /* a shared set is every head's */
        for (size_t g = 0; g < G; g++) {
            memcpy(st->shared + g * n, e->score, n * sizeof *st->shared);
            st->shared_threshold[g] = threshold ? threshold[0] : 0;
        }
        score = st->shared;
        threshold = threshold ? st->shared_threshold : NULL;
    }
    return put(st, KVT_DS_SCORE, e->branch, (size_t[]){l, 0, 0}, (size_t[]){1, G, n}, 3, score) &&
           put(st, KVT_DS_THRESHOLD, e->branch, (size_t[]){l, 0}, (size_t[]){1, G}, 2, threshold) &&
           (e->layer || put_at(st, KVT_DS_RES_ROWS, (size_t)e->branch, &rows));
}

static bool put_decision(struct kvt_trace_store *st, const struct kvt_ev_decision *e)
{
    assert(e->branch >= 0 && e->branch < st->B && e->layer >= 0 && e->layer < st->L && e->n <= st->n_context);
    history_start(st, e->branch);
    for (int g = 0; e->reason && g < st->G; g++)
        for (int i = 0; i < e->n; i++)
            if (left(e->reason[(size_t)g * (size_t)e->n + (size_t)i]) && *history_at(st, e->branch, e->layer, g, i) == -1)
                *history_at(st, e->branch, e->layer, g, i) = 0; /* else a prefill chunk's eviction was told before */
    return put(st, KVT_DS_REASON, e->branch, (size_t[]){(size_t)e->layer, 0, 0}, (size_t[]){1, (size_t)st->G, (size_t)e->n}, 3, e->reason) &&
           put_scores(st, e);
}

static void note_evict(struct kvt_trace_store *st, const struct kvt_ev_evict *e)
{
    assert(e->branch >= 0 && e->branch < st->B && e->layer >= 0 && e->layer < st->L && e->g >= 0 && e->g < st->G);
    history_start(st, e->branch);
    for (int i = 0; i < e->n; i++) {
        assert(e->pos[i] >= 0 && e->pos[i] < st->n_tok);
        *history_at(st, e->branch, e->layer, e->g, e->pos[i]) = e->step;
    }
}

static bool put_step_event(struct kvt_trace_store *st, const struct kvt_ev_step *e)
{
    assert(e->step >= 1 && e->step <= st->n_new && e->first >= 0 && e->first + e->n_branch <= st->B);
    int pos = st->n_prompt + e->step - 1;
    size_t row = (size_t)e->step - 1;
    int64_t held = (int64_t)e->held_bytes;
    for (int i = 0; i < e->n_branch; i++) {
        int b = e->first + i;
        history_start(st, b);
        bool ended = e->token && e->token[i] < 0; /* its free-running text: nothing was appended */
        for (int l = 0; l < st->L && !ended; l++)
            for (int g = 0; g < st->G; g++) {
                int32_t *at = history_at(st, b, l, g, pos);
                if (*at == KVT_NOT_YET) /* else lost in the step that brought it */
                    *at = -1;
            }
        if (!history_write(st, b))
            return false;
    }
    bool ok = put_step(st, KVT_DS_STEP_TOKEN, e, e->token) && put_step(st, KVT_DS_STEP_ARGMAX, e, e->argmax) &&
              put_step(st, KVT_DS_STEP_LOGPROB, e, e->logprob) && put_step(st, KVT_DS_STEP_KL, e, e->kl) &&
              put_step(st, KVT_DS_STEP_ENTROPY, e, e->entropy) && put_step(st, KVT_DS_STEP_ALONE, e, e->alone_bytes) &&
              put_step(st, KVT_DS_STEP_OWN, e, e->own_bytes);
    if (e->step > st->steps_done) /* not the oracles' pass, which comes after the others' */
        ok = ok && put_at(st, KVT_DS_STEP_HELD, row, &held) && put_at(st, KVT_DS_STEP_NS, row, &e->step_ns);
    int32_t done = e->step;
    if (e->step > st->steps_done) {
        st->steps_done = e->step;
        ok = ok && put(st, KVT_DS_STEPS_DONE, 0, NULL, NULL, 0, &done);
    }
    return ok;
}

static bool put_fidelity(struct kvt_trace_store *st, const struct kvt_ev_fidelity *e)
{
    assert(e->step >= 1 && e->step <= st->n_new && e->first >= 0 && e->first + e->n_branch <= st->B);
    size_t at[4] = {(size_t)e->step - 1, (size_t)e->first, 0, 0}, n[4] = {1, (size_t)e->n_branch, (size_t)st->L, (size_t)st->G};
    return put(st, KVT_DS_LOST_MASS, 0, at, n, 4, e->lost_mass) && put(st, KVT_DS_LOST_REST, 0, at, n, 4, e->lost_rest) &&
           put(st, KVT_DS_LOCAL, 0, at, n, 3, e->local) && put(st, KVT_DS_PROPAGATED, 0, at, n, 3, e->propagated);
}

static bool put_row(struct kvt_trace_store *st, const struct kvt_ev_decode_row *e)
{
    assert(e->pos >= st->n_context && e->pos < st->n_tok && e->layer >= 0 && e->layer < st->L && e->n <= e->ld && e->ld == st->n_tok);
    bool question = e->pos < st->n_prompt;
    return put(st, question ? KVT_DS_QUESTION_ROWS : KVT_DS_DECODE_ROWS, 0, (size_t[]){(size_t)(e->pos - (question ? st->n_context : st->n_prompt)), (size_t)e->layer, 0, 0},
               (size_t[]){1, 1, (size_t)st->H, (size_t)e->ld}, 4, e->row);
}

static bool put_late(struct kvt_trace_store *st, const struct kvt_ev_late_rows *e)
{
    size_t row0 = (size_t)e->row0, rows = (size_t)e->n_rows;
    assert(e->layer >= 0 && e->layer < st->L && e->head >= 0 && e->head < st->H && e->n <= st->n_prompt && row0 + rows <= st->s.extent[KVT_DIM_late_row]);
    bool ok = put(st, KVT_DS_LATE_ROWS, 0, (size_t[]){(size_t)e->layer, (size_t)e->head, row0, 0}, (size_t[]){1, 1, rows, (size_t)e->n}, 4, e->rows);
    return ok && (e->layer || e->head || put(st, KVT_DS_LATE_LEVEL, 0, &row0, &rows, 1, e->level));
}

static bool put_norms(struct kvt_trace_store *st, const struct kvt_ev_norms *e)
{
    assert(e->layer >= 0 && e->layer < st->L && e->n <= st->n_tok && (!e->out || e->n == st->n_context));
    size_t at[3] = {(size_t)e->layer, 0, 0}, count[3] = {1, (size_t)st->G, (size_t)e->n};
    return put(st, KVT_DS_KEY_NORM, 0, at, count, 3, e->key) && put(st, KVT_DS_OUT_NORM, 0, at, count, 3, e->out);
}

static bool put_decode(struct kvt_trace_store *st, const struct kvt_ev_decode *e)
{
    assert(e->step >= 1 && e->step <= st->n_new);
    size_t L = (size_t)st->L, H = (size_t)st->H, at[4] = {(size_t)e->step - 1, 0, 0, 0};
    const struct { enum kvt_dataset id; int each; const void *v; } part[] = {
        {KVT_DS_ROW_ENTROPY, 0, e->entropy}, {KVT_DS_ROW_KEYS, 0, e->keys}, {KVT_DS_ROW_FIRST, 0, e->first}, {KVT_DS_ROW_SINK, 0, e->sink}, {KVT_DS_ROW_LOCAL, 0, e->local},
        {KVT_DS_ROW_OWN, 0, e->own}, {KVT_DS_ROW_DISTANCE, e->n_distances, e->distance}, {KVT_DS_ROW_OFFSET, e->n_offsets, e->offset},
        {KVT_DS_ROW_SPANS, e->n_spans, e->spans}, {KVT_DS_ROW_TOP, e->top_k, e->top}, {KVT_DS_ROW_TOP_AT, e->top_k, e->top_at}};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        if (!put(st, part[i].id, 0, at, (size_t[]){1, L, H, (size_t)part[i].each}, part[i].each ? 4 : 3, part[i].v))
            return false;
    return true;
}

static bool put_phase(struct kvt_trace_store *st, const struct kvt_ev_phase *e)
{
    static const char *const name[KVT_N_PHASE] = {"prefill", "evict", "question", "decode", "repeat", "oracle"};
    if (st->n_phases == KVT_TRACE_PHASES)
        return true;
    size_t i = (size_t)st->n_phases++;
    int32_t tok = e->n_tok;
    return put_text(st, KVT_DS_PHASE_NAME, &i, 1, name[e->phase]) && put_at(st, KVT_DS_PHASE_START, i, &e->start_ns) &&
           put_at(st, KVT_DS_PHASE_DUR, i, &e->dur_ns) && put_at(st, KVT_DS_PHASE_TOK, i, &tok);
}

static bool put_event(struct kvt_trace_store *st, const struct kvt_event *ev)
{
    switch (ev->kind) {
    case KVT_EV_PREFILL_LAYER: return put_prefill(st, &ev->prefill_layer);
    case KVT_EV_ROWS:          return true; /* KVT_MSG_TILES */
    case KVT_EV_VECTORS:       return put_vectors(st, &ev->vectors);
    case KVT_EV_BUDGET:        return put_budget(st, &ev->budget);
    case KVT_EV_DECISION:      return put_decision(st, &ev->decision);
    case KVT_EV_EVICT:         note_evict(st, &ev->evict); return true;
    case KVT_EV_STEP:          return put_step_event(st, &ev->step);
    case KVT_EV_FIDELITY:      return put_fidelity(st, &ev->fidelity);
    case KVT_EV_LATE_ROWS:     return put_late(st, &ev->late_rows);
    case KVT_EV_NORMS:         return put_norms(st, &ev->norms);
    case KVT_EV_DECODE_ROW:    return put_row(st, &ev->decode_row);
    case KVT_EV_DECODE:        return put_decode(st, &ev->decode);
    case KVT_EV_PHASE:         return put_phase(st, &ev->phase);
    case KVT_EV_TIMES:
        return !st->timeline || kvt_timeline_add(st->timeline, &st->f, ev->times.time, ev->times.n, ev->times.lost);
    case KVT_EV_FREE:
        assert(ev->free.step >= 1 && ev->free.step <= st->n_new && ev->free.branch >= 0 && ev->free.branch < st->B);
        return put(st, KVT_DS_FREE_TOKEN, 0, (size_t[]){(size_t)ev->free.step - 1, (size_t)ev->free.branch}, (size_t[]){1, 1}, 2,
                   &ev->free.token) &&
               put(st, KVT_DS_FREE_LOGPROB, 0, (size_t[]){(size_t)ev->free.step - 1, (size_t)ev->free.branch}, (size_t[]){1, 1}, 2,
                   &ev->free.logprob);
    }
    return true;
}

/* What ends a unit of work that must survive a kill. Decisions wait for their branch's budget, evictions for their step. */
static bool ends_unit(const struct kvt_msg *m)
{
    if (m->kind != KVT_MSG_EVENT)
        return m->kind == KVT_MSG_MODEL;
    enum kvt_event_kind k = m->ev.kind;
    return k == KVT_EV_PREFILL_LAYER || k == KVT_EV_BUDGET || k == KVT_EV_STEP || k == KVT_EV_PHASE;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The writer's own time; what takes less than 20 us would only fill the timeline. */
static bool note_write(struct kvt_trace_store *st, const struct kvt_msg *m, int64_t start)
{
    struct kvt_time t = {.start_ns = start, .dur_ns = now_ns() - start, .layer = -1, .branch = -1, .part = KVT_PART_WRITE};
    if (!st->timeline || t.dur_ns < 20000)
        return true;
    if (m->kind == KVT_MSG_EVENT && m->ev.kind == KVT_EV_PREFILL_LAYER)
        t.layer = m->ev.prefill_layer.layer;
    else if (m->kind == KVT_MSG_EVENT && m->ev.kind == KVT_EV_STEP)
        t.step = m->ev.step.step;
    else if (m->kind == KVT_MSG_EVENT && m->ev.kind == KVT_EV_DECISION)
        t.layer = m->ev.decision.layer, t.branch = m->ev.decision.branch;
    return kvt_timeline_add(st->timeline, &st->f, &t, 1, 0);
}

int kvt_trace_store_put(struct kvt_trace_store *st, const struct kvt_msg *m, size_t *wrote, struct kvt_err *err)
{
    bool ok = true;
    int64_t start = now_ns();
    switch (m->kind) {
    case KVT_MSG_EVENT: ok = put_event(st, &m->ev); break;
    case KVT_MSG_TILES: ok = put_tiles(st, m); break;
    case KVT_MSG_MAPS: ok = put_maps(st, m); break;
    case KVT_MSG_TOKEN:
        if (m->token.step >= 1 && m->token.step <= st->n_new)
            ok = put_text(st, m->token.free ? KVT_DS_FREE_TEXT : KVT_DS_STEP_TEXT,
                          (size_t[]){(size_t)m->token.step - 1, (size_t)m->token.branch}, 2, m->token.text);
        break;
    case KVT_MSG_RESULT: {
        size_t b = (size_t)m->result.branch;
        int32_t diverged = m->result.diverged;
        ok = put_at(st, KVT_DS_RES_DIVERGED, b, &diverged) && put_at(st, KVT_DS_RES_KL, b, &m->result.mean_kl) &&
             put_at(st, KVT_DS_RES_TOP1, b, &m->result.top1) && put_text(st, KVT_DS_RES_TEXT, &b, 1, m->result.text);
        break;
    }
    case KVT_MSG_FIDELITY: {
        static const enum kvt_dataset id[5] = {KVT_DS_RES_LOST, KVT_DS_RES_LOST_REST, KVT_DS_RES_LOCAL, KVT_DS_RES_PROPAGATED,
                                             KVT_DS_RES_REGRET};
        for (int i = 0; ok && i < 5; i++)
            ok = put_at(st, id[i], (size_t)m->fidelity.branch, &m->fidelity.mean[i]);
        break;
    }
    case KVT_MSG_MODEL: ok = put_text(st, KVT_DS_MODEL_SHA256, NULL, 0, m->model.sha256); break;
    case KVT_MSG_BEYOND: ok = put(st, KVT_DS_BEYOND_F16, 0, NULL, NULL, 0, &m->beyond.sums); break;
    case KVT_MSG_PEAK:
        ok = m->peak.branch < 0 ? put(st, KVT_DS_KV_PEAK, 0, NULL, NULL, 0, &m->peak.bytes)
                                : put_at(st, KVT_DS_RES_PEAK, (size_t)m->peak.branch, &m->peak.bytes);
        break;
    case KVT_MSG_AFTER: ok = put_at(st, KVT_DS_RES_AFTER, (size_t)m->after.branch, &m->after.bytes); break;
    }
    if (ok && ends_unit(m)) /* how many rows there are is told once they can be seen */
        ok = H5Fflush(st->f.file, H5F_SCOPE_LOCAL) >= 0 && (!st->tiles || kvt_tiles_count(st->tiles));
    ok = ok && note_write(st, m, start);
    *wrote = st->tiles ? kvt_tiles_written(st->tiles) : 0;
    return ok ? KVT_OK : io_fail(st, err);
}

/* ---- open and close ---------------------------------------------------------------------------------------------- */

static int *recorded(const uint8_t *mask, int n)
{
    int *index = kvt_calloc((size_t)n, sizeof *index);
    for (int i = 0, k = 0; index && i < n; i++)
        index[i] = !mask || mask[i] ? k++ : -1;
    return index;
}

static bool make_history(struct kvt_trace_store *st, const struct kvt_trace_plan *plan)
{
    struct kvt_dataset_info d;
    size_t shape[KVT_TRACE_MAX_RANK], chunk[KVT_TRACE_MAX_RANK], len;
    kvt_schema_get(KVT_DS_EVICTED, &d);
    kvt_trace_has(&st->s, &d, shape, &len);
    kvt_schema_chunk(&d, shape, sizeof(int32_t), chunk);
    st->chunk_tok = (int)chunk[2];
    st->n_chunks = (st->n_tok + st->chunk_tok - 1) / st->chunk_tok;
    size_t values = (size_t)st->n_chunks * chunk[0] * chunk[1] * chunk[2];
    st->history = kvt_calloc((size_t)st->B, sizeof *st->history);
    for (int b = 0; st->history && b < st->B; b++) {
        struct history *h = &st->history[b];
        h->at = kvt_calloc(values, sizeof *h->at);
        h->dirty = kvt_calloc((size_t)st->n_chunks, 1);
        h->absent = plan->no_full && !b;
        h->steps = plan->branch[b].schedule && strcmp(plan->branch[b].schedule, "prefill") != 0;
        if (!h->at || !h->dirty)
            return false;
        for (size_t i = 0; i < values; i++)
            h->at[i] = KVT_NOT_YET;
    }
    return st->history;
}

static void store_free(struct kvt_trace_store *st)
{
    for (int b = 0; st->history && b < st->B; b++) {
        free(st->history[b].at);
        free(st->history[b].dirty);
    }
    free(st->history);
    free(st->full_layer);
    free(st->full_head);
    free(st->vector_layer);
    free(st->vectors);
    kvt_tiles_close(&st->tiles);
    free(st->shared);
    free(st->shared_threshold);
    free(st->path);
    kvt_timeline_close(st->timeline);
    free(st);
}

int kvt_trace_store_open(struct kvt_trace_store **out, const char *path, const char *name, const struct kvt_trace_plan *plan,
                         const struct kvt_trace_shape *s, struct kvt_err *err)
{
    *out = NULL;
    struct kvt_trace_store *st = calloc(1, sizeof *st);
    if (!st)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the trace writer");
    st->f.file = -1;
    st->s = *s;
    st->blocks = kvt_map_blocks_of(s, plan->compress);
    st->L = plan->L;
    st->H = plan->H;
    st->G = plan->G;
    st->B = plan->n_branches;
    st->n_prompt = plan->n_prompt;
    st->n_context = plan->n_context;
    st->n_new = plan->n_new;
    st->n_tok = plan->n_prompt + plan->n_new;
    st->n_windows = plan->n_windows;
    memcpy(st->window, plan->window, sizeof st->window);
    st->path = strdup(name);
    st->shared = kvt_calloc((size_t)st->G * (size_t)(st->n_context + 1), sizeof *st->shared);
    st->shared_threshold = kvt_calloc((size_t)st->G, sizeof *st->shared_threshold);
    bool full = plan->wants && plan->wants->full;
    st->full_layer = full ? recorded(plan->wants->layer, st->L) : NULL;
    st->full_head = full ? recorded(plan->wants->head, st->H) : NULL;
    bool dump = plan->wants && (plan->wants->q || plan->wants->k || plan->wants->v);
    st->vector_layer = dump ? recorded(plan->wants->layer, st->L) : NULL;
    st->vectors = dump ? kvt_calloc(VECTOR_ROWS, (size_t)plan->D * sizeof *st->vectors) : NULL;
    int rc = KVT_OK;
    if ((dump && (!st->vector_layer || !st->vectors)) || !st->path || !st->shared || !st->shared_threshold || (full && (!st->full_layer || !st->full_head)) || !make_history(st, plan))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for the trace of %d branches of %d tokens", st->B, st->n_tok);
    if (!rc)
        rc = kvt_trace_append(&st->f, path, plan->prompt_id, s, err);
    if (!rc && kvt_tiles_edge(s)) {
        st->tiles = kvt_tiles_open(s, ds_of(st, KVT_DS_FULL, 0), ds_of(st, KVT_DS_FULL_ROWS, 0), plan->compress);
        rc = st->tiles ? KVT_OK : kvt_fail(err, KVT_ENOMEM, "no memory for full maps of %d tokens", st->n_prompt);
    }
    bool timed = false;
    if (!rc && !(st->timeline = kvt_timeline_open(s, &st->f, &timed)) && timed)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for the trace's times");
    if (rc) {
        kvt_trace_append_close(&st->f);
        store_free(st);
        return rc;
    }
    *out = st;
    return KVT_OK;
}

int kvt_trace_store_device(struct kvt_trace_store *st, const struct kvt_device_times *times, struct kvt_err *err)
{
    return kvt_device_write(&st->f, times) ? KVT_OK : io_fail(st, err);
}

int kvt_trace_store_close(struct kvt_trace_store **stp, bool ok, const char *status, uint64_t logits_hash, int64_t dropped,
                          struct kvt_err *err)
{
    struct kvt_trace_store *st = *stp;
    *stp = NULL;
    int rc = KVT_OK;
    char word[16] = "";
    strncpy(word, status, sizeof word - 1);
    bool wrote = put(st, KVT_DS_DROPPED, 0, NULL, NULL, 0, &dropped) && put(st, KVT_DS_STATUS, 0, NULL, NULL, 0, word);
    if (ok)
        wrote = wrote && history_write_all(st) && (!st->tiles || kvt_tiles_end(st->tiles)) &&
                (!st->timeline || kvt_timeline_end(st->timeline, &st->f)) && put(st, KVT_DS_LOGITS_HASH, 0, NULL, NULL, 0, &logits_hash);
    if (!wrote && ok)
        rc = io_fail(st, err);
    char *path = st->path;
    if (!kvt_trace_append_close(&st->f) && ok && !rc)
        rc = kvt_h5_fail(err, KVT_EIO, "cannot write %s", path);
    store_free(st);
    return rc;
}

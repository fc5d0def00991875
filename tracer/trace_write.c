/* The trace writer's life: the file under a temporary name (trace_name.h), the ring, the thread, the renaming. */
#define _GNU_SOURCE /* sync_file_range */
#include "tracer/trace_write.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/mem.h"
#include "tracer/ring.h"
#include "tracer/trace_maps.h"
#include "tracer/trace_name.h"
#include "tracer/trace_store.h"
#include "tracer/trace_tiles.h"

struct kvt_trace_writer {
    struct kvt_probe probe;
    struct kvt_wants wants;
    uint8_t *layer, *head;         /* the lists of wants, ours */
    int32_t *offset, *span, *span_of;
    struct kvt_pack_shape shape;
    size_t edge;                   /* of full maps' tiles; 0: none are recorded */
    struct kvt_map_blocks blocks;  /* of pooled maps */
    struct kvt_ring *ring;
    struct kvt_trace_store *store; /* the thread's own until it is joined */
    pthread_t thread;
    atomic_int failed;             /* KVT_E* of the thread; its err is final once this is set */
    struct kvt_err err;
    char *path, *part;
    int lock;                      /* descriptor with a shared lock on the file: the run lives (kvinfo --repair asks) */
    bool drop;
    int64_t dropped;
    const struct kvt_device_times *device; /* borrowed; NULL: none came */
};

/* Lets the disk begin with what was written, so that the sync at the end finds little to wait for. Where that can't be
 * said, the end waits. */
static void begin_writeback(const struct kvt_trace_writer *w)
{
#ifdef SYNC_FILE_RANGE_WRITE
    if (w->lock >= 0)
        sync_file_range(w->lock, 0, 0, SYNC_FILE_RANGE_WRITE);
#else
    (void)w;
#endif
}

enum { VECTOR_RUN = 512 }; /* rows of a message with queries, keys and values: whole chunks */
#define WRITEBACK_BYTES ((size_t)32 << 20)

static void *writer_thread(void *arg)
{
    struct kvt_trace_writer *w = arg;
    struct kvt_h5_why why;
    kvt_h5_quiet(&why);
    const void *packed;
    size_t bytes, dirty = 0, wrote;
    while ((packed = kvt_ring_peek(w->ring, &bytes))) {
        struct kvt_msg m;
        kvt_unpack(packed, &w->shape, &m);
        int rc = kvt_trace_store_put(w->store, &m, &wrote, &w->err);
        if (rc) {
            atomic_store(&w->failed, rc);
            kvt_ring_give_up(w->ring);
            break;
        }
        kvt_ring_release(w->ring);
        dirty += wrote;
        if (dirty >= WRITEBACK_BYTES) {
            begin_writeback(w);
            dirty = 0;
        }
    }
    kvt_h5_quiet(NULL);
    return NULL;
}

/* Room for a message, or none (*to NULL) where it may be dropped, which is counted. */
static int room(struct kvt_trace_writer *w, size_t bytes, bool wait, void **to)
{
    *to = NULL;
    int failed = atomic_load(&w->failed);
    if (failed)
        return failed;
    *to = kvt_ring_reserve(w->ring, bytes, wait);
    if (!*to) { /* no room, or the thread has failed since; after a reserve that worked, the next message hears of it */
        failed = atomic_load(&w->failed);
        w->dropped += !failed;
    }
    return failed;
}

static int send(struct kvt_trace_writer *w, const struct kvt_msg *m, bool wait)
{
    void *to;
    int rc = room(w, kvt_pack_bytes(m, &w->shape), wait, &to);
    if (!to)
        return rc;
    kvt_pack(m, &w->shape, to);
    kvt_ring_commit(w->ring);
    return KVT_OK;
}

/* Runs of rows can be of any length: strips of tiles, head by head. */
static int send_rows(struct kvt_trace_writer *w, const struct kvt_ev_rows *e)
{
    for (int i = 0; i < e->n_heads && w->edge; i++)
        for (int r = 0; r < e->n_rows;) {
            struct kvt_msg m;
            kvt_tiles_cut(e, w->edge, i, r, &m);
            void *to;
            int rc = room(w, kvt_tiles_bytes(&m), !w->drop, &to);
            if (rc)
                return rc;
            if (to) {
                size_t at = ((size_t)i * (size_t)e->n_rows + (size_t)r) * (size_t)e->n;
                kvt_tiles_pack(&m, e->rows ? e->rows + at : NULL, e->half ? e->half + at : NULL, to);
                kvt_ring_commit(w->ring);
            }
            r += m.tiles.n_rows;
        }
    return KVT_OK;
}

/* Runs of rows can be of any length here too. */
static int send_vectors(struct kvt_trace_writer *w, const struct kvt_ev_vectors *e)
{
    int rc = 0;
    for (int r = 0; r < e->n_rows && !rc; r += VECTOR_RUN) {
        struct kvt_msg m = {.kind = KVT_MSG_EVENT, .ev = {.kind = KVT_EV_VECTORS, .vectors = *e}};
        struct kvt_ev_vectors *v = &m.ev.vectors;
        size_t q = (size_t)r * (size_t)w->shape.H * (size_t)e->D, kv = (size_t)r * (size_t)w->shape.G * (size_t)e->D;
        v->row0 = e->row0 + r, v->n_rows = e->n_rows - r < VECTOR_RUN ? e->n_rows - r : VECTOR_RUN;
        v->q = e->q ? e->q + q : NULL, v->k = e->k ? e->k + kv : NULL, v->v = e->v ? e->v + kv : NULL;
        rc = send(w, &m, true);
    }
    return rc;
}

static int see(void *self, const struct kvt_event *ev)
{
    struct kvt_trace_writer *w = self;
    if (ev->kind == KVT_EV_ROWS)
        return send_rows(w, &ev->rows);
    if (ev->kind == KVT_EV_VECTORS)
        return send_vectors(w, &ev->vectors);
    struct kvt_msg m = {.kind = KVT_MSG_EVENT, .ev = *ev};
    if (ev->kind == KVT_EV_PREFILL_LAYER) { /* scores always, the maps on their own: they may be dropped */
        m.ev.prefill_layer.map_mean = m.ev.prefill_layer.map_max = NULL;
        m.ev.prefill_layer.R = m.ev.prefill_layer.C = 0;
        if (ev->prefill_layer.map_mean && w->blocks.H) {
            void *to;
            int rc = room(w, kvt_maps_bytes(&w->blocks, ev->prefill_layer.n), !w->drop, &to);
            if (rc)
                return rc;
            if (to) {
                kvt_maps_pack(&w->blocks, &ev->prefill_layer, to);
                kvt_ring_commit(w->ring);
            }
        }
    }
    return send(w, &m, true);
}

static void wants(void *self, struct kvt_wants *out) { *out = ((struct kvt_trace_writer *)self)->wants; }

const struct kvt_probe *kvt_trace_probe(struct kvt_trace_writer *w) { return &w->probe; }

int kvt_trace_token(struct kvt_trace_writer *w, int branch, int step, bool free, int32_t id, const char *utf8)
{
    struct kvt_msg m = {.kind = KVT_MSG_TOKEN, .token = {branch, step, free, id, utf8}};
    return send(w, &m, true);
}

int kvt_trace_result(struct kvt_trace_writer *w, int branch, const char *text, int diverged, double mean_kl, double top1)
{
    struct kvt_msg m = {.kind = KVT_MSG_RESULT, .result = {branch, diverged, mean_kl, top1, text}};
    return send(w, &m, true);
}

int kvt_trace_fidelity(struct kvt_trace_writer *w, int branch, const double mean[5])
{
    struct kvt_msg m = {.kind = KVT_MSG_FIDELITY, .fidelity = {branch, {mean[0], mean[1], mean[2], mean[3], mean[4]}}};
    return send(w, &m, true);
}

int kvt_trace_bytes_after(struct kvt_trace_writer *w, int branch, uint64_t bytes)
{
    struct kvt_msg m = {.kind = KVT_MSG_AFTER, .after = {branch, (int64_t)bytes}};
    return send(w, &m, true);
}

int kvt_trace_bytes_peak(struct kvt_trace_writer *w, int branch, uint64_t bytes)
{
    struct kvt_msg m = {.kind = KVT_MSG_PEAK, .peak = {branch, (int64_t)bytes}};
    return send(w, &m, true);
}

int kvt_trace_beyond_f16(struct kvt_trace_writer *w, uint64_t sums)
{
    struct kvt_msg m = {.kind = KVT_MSG_BEYOND, .beyond = {(int64_t)sums}};
    return send(w, &m, true);
}

int kvt_trace_model_sha256(struct kvt_trace_writer *w, const char *hex)
{
    struct kvt_msg m = {.kind = KVT_MSG_MODEL, .model = {hex}};
    return send(w, &m, true);
}

/* ---- open -------------------------------------------------------------------------------------------------------- */

/* The longest message of the run, rows excepted. */
static size_t longest_message(const struct kvt_trace_plan *p, const struct kvt_trace_shape *s)
{
    size_t H = (size_t)p->H, n = (size_t)p->n_prompt;
    size_t spans = s->extent[KVT_DIM_query_span];
    size_t scores = H * sizeof(float) * (n * (10 + (size_t)p->n_windows + (size_t)p->n_squares + 2 * s->extent[KVT_DIM_rank]) + s->extent[KVT_DIM_distance] + s->extent[KVT_DIM_offset] + spans * spans);
    struct kvt_map_blocks blocks = kvt_map_blocks_of(s, p->compress);
    size_t maps = blocks.H ? kvt_maps_bytes(&blocks, (int)kvt_trace_map_tok(p)) : 0;
    size_t decision = (size_t)p->G * n * 5, budget = (size_t)p->L * (size_t)p->G * 8, step = (size_t)p->n_branches * (40 + 8 * (size_t)p->L * ((size_t)p->G + 1));
    step += (size_t)p->L * H * sizeof(float) * (s->made[KVT_WHEN_DECODE] ? 6 + s->extent[KVT_DIM_row_distance] + s->extent[KVT_DIM_offset] + spans + 2 * s->extent[KVT_DIM_rank] : 0);
    size_t heads = p->wants ? (p->wants->q ? H : 0) + ((p->wants->k ? 1 : 0) + (p->wants->v ? 1 : 0)) * (size_t)p->G : 0;
    size_t vectors = heads * (size_t)p->D * (n < VECTOR_RUN ? n : VECTOR_RUN) * sizeof(float);
    size_t tiles = kvt_tiles_message(s), longest = scores > maps ? scores : maps;
    longest = longest > tiles ? longest : tiles;
    size_t rows = s->made[KVT_WHEN_ROWS] ? H * sizeof(float) * s->extent[KVT_DIM_token] : 0, late = (s->extent[KVT_DIM_late_row]) * (n * sizeof(float) + 1);
    rows = rows > late ? rows : late;
    longest = longest > rows ? longest : rows;
    longest = longest > vectors ? longest : vectors;
    size_t other = decision + budget + step + s->output_len;
    return (longest > other ? longest : other) + 8192;
}

static size_t ring_bytes(const struct kvt_trace_plan *p, const struct kvt_trace_shape *s)
{
    size_t need = 4 * longest_message(p, s);
    return need > (16u << 20) ? need : 16u << 20;
}

static char *joined(const char *a, const char *b)
{
    size_t n = strlen(a) + strlen(b) + 1;
    char *s = malloc(n);
    if (s)
        snprintf(s, n, "%s%s", a, b);
    return s;
}

static int check_plan(const struct kvt_trace_plan *p, const char *part, struct kvt_err *err)
{
    assert(p->L > 0 && p->H > 0 && p->G > 0 && p->n_branches > 0 && p->n_prompt > 0);
    assert(p->n_context >= 0 && p->n_context <= p->n_prompt && p->n_new >= 0 && p->n_windows <= KVT_MAX_WINDOWS);
    if (!*p->prompt_id || strlen(p->prompt_id) > 64 || strchr(p->prompt_id, '/') || *p->prompt_id == '.')
        return kvt_fail(err, KVT_EINPUT, "prompt id '%s': 1 to 64 characters, without '/' and no '.' first", p->prompt_id);
    int fd = open(part, O_RDONLY);
    bool alive = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    if (alive)
        return kvt_fail(err, KVT_EINPUT, "%s is being written by another run, or read; choose another name", part);
    if (p->force)
        return KVT_OK;
    if (!access(p->path, F_OK))
        return kvt_fail(err, KVT_EINPUT, "%s exists; --force replaces it", p->path);
    if (fd >= 0)
        return kvt_fail(err, KVT_EINPUT, "%s exists: a run that didn't finish (kvinfo shows it); --force replaces it", part);
    return KVT_OK;
}

static void writer_free(struct kvt_trace_writer *w)
{
    kvt_ring_close(&w->ring);
    if (w->lock >= 0)
        close(w->lock);
    free(w->layer);
    free(w->offset);
    free(w->span);
    free(w->span_of);
    free(w->head);
    free(w->path);
    free(w->part);
    free(w);
}

static void *copy_of(const void *from, size_t bytes)
{
    void *p = malloc(bytes);
    return p ? memcpy(p, from, bytes) : NULL;
}

static bool copy_wants(struct kvt_trace_writer *w, const struct kvt_trace_plan *p)
{
    if (!p->wants)
        return true;
    w->wants = *p->wants;
    bool ok = true;
    if (p->wants->layer) {
        w->wants.layer = w->layer = malloc((size_t)p->L);
        ok = w->layer && memcpy(w->layer, p->wants->layer, (size_t)p->L);
    }
    if (p->wants->head) {
        w->wants.head = w->head = malloc((size_t)p->H);
        ok = ok && w->head && memcpy(w->head, p->wants->head, (size_t)p->H);
    }
    const struct kvt_wants *from = p->wants;
    size_t spans = (size_t)from->n_spans * sizeof *w->span, offsets = (size_t)from->n_offsets * sizeof *w->offset;
    if (from->n_offsets)
        ok = (w->wants.offset = w->offset = copy_of(from->offset, offsets)) != NULL && ok;
    if (from->n_spans)
        ok = (w->wants.span = w->span = copy_of(from->span, 2 * spans)) != NULL && ok;
    if (from->n_spans && from->span_of)
        ok = (w->wants.span_of = w->span_of = copy_of(from->span_of, spans)) != NULL && ok;
    return ok;
}

int kvt_trace_create(struct kvt_trace_writer **out, const struct kvt_trace_plan *plan, struct kvt_err *err)
{
    *out = NULL;
    H5dont_atexit(); /* a file that a full disk left half written must not be tried again, loudly, at exit */
    struct kvt_h5_why why;
    kvt_h5_quiet(&why);
    struct kvt_trace_writer *w = calloc(1, sizeof *w);
    char *fresh = kvt_trace_fresh_name(plan->path);
    if (!w || !fresh) {
        free(w);
        free(fresh);
        return kvt_fail(err, KVT_ENOMEM, "no memory for the trace writer");
    }
    struct kvt_trace_shape s;
    kvt_trace_shape_of(plan, &s);
    w->path = joined(plan->path, "");
    w->part = joined(plan->path, ".part");
    w->lock = -1;
    w->probe = (struct kvt_probe){w, wants, see};
    w->shape = (struct kvt_pack_shape){plan->L, plan->H, plan->G};
    w->drop = plan->drop_when_full;
    w->edge = kvt_tiles_edge(&s);
    w->blocks = kvt_map_blocks_of(&s, plan->compress);
    int rc = w->path && w->part && copy_wants(w, plan) ? check_plan(plan, w->part, err) : kvt_fail(err, KVT_ENOMEM, "no memory for the trace writer");
    if (!rc)
        rc = kvt_ring_open(&w->ring, ring_bytes(plan, &s), err);
    if (!rc) {
        rc = kvt_trace_make(fresh, w->path, plan, &s, err);
        if (!rc)
            rc = kvt_trace_store_open(&w->store, fresh, w->part, plan, &s, err);
        if (!rc && (w->lock = open(fresh, O_RDONLY)) >= 0)
            flock(w->lock, LOCK_SH | LOCK_NB); /* where there are no locks, a repair isn't warned, that is all */
        if (!rc && (rc = kvt_trace_claim(fresh, w->part, err)))
            kvt_trace_store_close(&w->store, false, "failed", 0, 0, NULL);
        int named = rc ? -1 : open(w->part, O_RDONLY); /* under the name that it keeps, so that it's known where that moves to */
        if (named >= 0 && w->lock >= 0) {
            flock(named, LOCK_SH | LOCK_NB);
            close(w->lock);
            w->lock = named;
        }
        if (rc)
            unlink(fresh);
    }
    if (!rc && pthread_create(&w->thread, NULL, writer_thread, w)) {
        kvt_trace_store_close(&w->store, false, "failed", 0, 0, NULL);
        rc = kvt_fail(err, KVT_ENOMEM, "cannot start the writer's thread");
    }
    kvt_h5_quiet(NULL);
    free(fresh);
    if (rc) {
        writer_free(w);
        return rc;
    }
    *out = w;
    return KVT_OK;
}

void kvt_trace_device(struct kvt_trace_writer *w, const struct kvt_device_times *times) { w->device = times; }

/* ---- end --------------------------------------------------------------------------------------------------------- */

int kvt_trace_finish(struct kvt_trace_writer **wp, int status, uint64_t logits_hash, struct kvt_err *err)
{
    struct kvt_trace_writer *w = *wp;
    if (!w)
        return KVT_OK;
    *wp = NULL;
    kvt_ring_end(w->ring);
    pthread_join(w->thread, NULL);
    int rc = atomic_load(&w->failed);
    if (rc && err)
        *err = w->err;
    struct kvt_h5_why why;
    kvt_h5_quiet(&why);
    if (!rc && w->device)
        rc = kvt_trace_store_device(w->store, w->device, err);
    bool readable = !rc && (status == KVT_OK || status == KVT_EINTR);
    const char *word = rc || !readable ? "failed" : status == KVT_OK ? "complete" : "interrupted";
    int closed = kvt_trace_store_close(&w->store, !rc, word, logits_hash, w->dropped, rc ? NULL : err);
    kvt_h5_quiet(NULL);
    rc = rc ? rc : closed;
    if (!rc && readable)
        rc = kvt_trace_publish_open(w->lock, w->part, w->path, err);
    writer_free(w);
    return rc;
}

void kvt_trace_estimate(const struct kvt_trace_plan *plan, struct kvt_trace_sizes *out)
{
    struct kvt_trace_shape s;
    kvt_trace_shape_of(plan, &s);
    *out = (struct kvt_trace_sizes){0};
    struct kvt_map_blocks blocks = kvt_map_blocks_of(&s, plan->compress);
    size_t blocks_bytes = (size_t)plan->L * kvt_maps_layer_bytes(&blocks, (int)kvt_trace_map_tok(plan));
    for (int id = 0; id < KVT_N_DATASET; id++) {
        struct kvt_dataset_info d;
        size_t shape[KVT_TRACE_MAX_RANK], len;
        kvt_schema_get((enum kvt_dataset)id, &d);
        if (!kvt_trace_has(&s, &d, shape, &len))
            continue;
        size_t bytes = kvt_h5_type_bytes(d.type, len) * (d.per_branch ? (size_t)plan->n_branches : 1);
        for (int i = 0; i < d.rank; i++)
            bytes *= shape[i];
        size_t *group = !strncmp(d.path, "score/", 6) || !strncmp(d.path, "decode/", 7) || !strncmp(d.path, "replay/", 7) ? &out->scores : !strncmp(d.path, "map/", 4) ? &out->maps : !strncmp(d.path, "full/", 5) ? &out->full : !strncmp(d.path, "dump/", 5) ? &out->vectors
                        : d.per_branch ? &out->decisions : &out->other;
        *group += id == KVT_DS_FULL ? kvt_tiles_file_bytes(&s) : d.store == KVT_STORE_BLOCKS ? blocks_bytes : bytes;
    }
    /* the ring, what is held until a chunk is whole, and HDF5 itself: 6 MB measured, with its chunks in work */
    out->writer = ring_bytes(plan, &s) + 2 * sizeof(int32_t) * (size_t)plan->n_branches * (size_t)plan->L * (size_t)plan->G * s.extent[KVT_DIM_token] + kvt_tiles_memory(&s) + (6 << 20);
    out->other += 64 * 1024 + 8192 * (size_t)plan->n_branches; /* objects and their attributes */
}

/* Packing: the struct, then each array it points to, 16-byte aligned. One list of arrays serves both directions. */
#include "tracer/trace_pack.h"

#include <assert.h>
#include <string.h>

#define MAX_PARTS (2 * KVT_MAX_WINDOWS + 20)

/* An array of a message: where its pointer lies, and its bytes. String lengths can only be known while packing. */
struct part { void *pointer; size_t bytes; bool text; };

struct parts { struct part part[MAX_PARTS]; int n; };

static void add(struct parts *p, void *pointer, size_t bytes)
{
    assert(p->n < MAX_PARTS);
    p->part[p->n++] = (struct part){pointer, bytes, false};
}

static void add_text(struct parts *p, void *pointer)
{
    add(p, pointer, 0);
    p->part[p->n - 1].text = true;
}

static void list_prefill(struct kvt_ev_prefill_layer *e, size_t H, struct parts *p)
{
    size_t row = H * (size_t)e->n * sizeof(float);
    add(p, &e->mass, row);
    for (int i = 0; i < e->n_windows; i++)
        add(p, &e->wmass[i], row);
    add(p, &e->last, row);
    add(p, &e->entropy, row);
    add(p, &e->sink, row);
    add(p, &e->visible, row);
    add(p, &e->square, row);
    add(p, &e->max, row);
    add(p, &e->keys, row);
    add(p, &e->local, row);
    add(p, &e->distance, H * (size_t)e->n_distances * sizeof(float));
    add(p, &e->offset, H * (size_t)e->n_offsets * sizeof(float));
    add(p, &e->spans, H * (size_t)e->n_spans * (size_t)e->n_spans * sizeof(float));
    add(p, &e->top, row * (size_t)e->top_k);
    add(p, &e->top_at, row * (size_t)e->top_k);
    add(p, &e->later, row);
    for (int i = 0; i < e->n_squares; i++)
        add(p, &e->sqmass[i], row);
}

static void list_step(struct kvt_ev_step *e, struct parts *p)
{
    size_t B = (size_t)e->n_branch;
    add(p, &e->token, B * sizeof *e->token);
    add(p, &e->argmax, B * sizeof *e->argmax);
    add(p, &e->logprob, B * sizeof *e->logprob);
    add(p, &e->kl, B * sizeof *e->kl);
    add(p, &e->entropy, B * sizeof *e->entropy);
    add(p, &e->alone_bytes, B * sizeof *e->alone_bytes);
    add(p, &e->own_bytes, B * sizeof *e->own_bytes);
}

static void list_fidelity(struct kvt_ev_fidelity *e, size_t L, size_t G, struct parts *p)
{
    size_t layers = (size_t)e->n_branch * L * sizeof(float);
    add(p, &e->lost_mass, layers * G);
    add(p, &e->lost_rest, layers * G);
    add(p, &e->local, layers);
    add(p, &e->propagated, layers);
}

static void list_decode(struct kvt_ev_decode *e, size_t LH, struct parts *p)
{
    const float **const one[] = {&e->entropy, &e->keys, &e->first, &e->sink, &e->local, &e->own};
    for (size_t i = 0; i < sizeof one / sizeof *one; i++)
        add(p, one[i], LH * sizeof(float));
    add(p, &e->distance, LH * (size_t)e->n_distances * sizeof(float));
    add(p, &e->offset, LH * (size_t)e->n_offsets * sizeof(float));
    add(p, &e->spans, LH * (size_t)e->n_spans * sizeof(float));
    add(p, &e->top, LH * (size_t)e->top_k * sizeof(float));
    add(p, &e->top_at, LH * (size_t)e->top_k * sizeof(int32_t));
}

static void list(struct kvt_msg *m, const struct kvt_pack_shape *s, struct parts *p)
{
    p->n = 0;
    size_t L = (size_t)s->L, H = (size_t)s->H, G = (size_t)s->G;
    if (m->kind == KVT_MSG_TOKEN)
        add_text(p, &m->token.text);
    else if (m->kind == KVT_MSG_RESULT)
        add_text(p, &m->result.text);
    else if (m->kind == KVT_MSG_MODEL)
        add_text(p, &m->model.sha256);
    else if (m->kind == KVT_MSG_TILES) {
        size_t rows = (size_t)(m->tiles.whole ? m->tiles.edge : m->tiles.n_rows);
        add(p, &m->tiles.used, (size_t)m->tiles.n_tiles);
        add(p, &m->tiles.value, (size_t)m->tiles.n_tiles * rows * (size_t)m->tiles.edge * sizeof(uint16_t));
    }
    else if (m->kind == KVT_MSG_MAPS)
        add(p, &m->maps.value, 0); /* the last: nobody asks where it ends */
    if (m->kind != KVT_MSG_EVENT)
        return;
    struct kvt_event *e = &m->ev;
    switch (e->kind) {
    case KVT_EV_PREFILL_LAYER: list_prefill(&e->prefill_layer, H, p); break;
    case KVT_EV_ROWS:
        add(p, &e->rows.head, (size_t)e->rows.n_heads * sizeof(int));
        add(p, &e->rows.rows, (size_t)e->rows.n_heads * (size_t)e->rows.n_rows * (size_t)e->rows.n * sizeof(float));
        break;
    case KVT_EV_VECTORS: {
        size_t row = (size_t)e->vectors.n_rows * (size_t)e->vectors.D * sizeof(float);
        add(p, &e->vectors.q, H * row);
        add(p, &e->vectors.k, G * row);
        add(p, &e->vectors.v, G * row);
        break;
    }
    case KVT_EV_BUDGET:
        add(p, &e->budget.budget_tok, L * G * sizeof(int32_t));
        add(p, &e->budget.kept_tok, L * G * sizeof(int32_t));
        add_text(p, &e->budget.note);
        break;
    case KVT_EV_DECISION:
        add(p, &e->decision.score, (size_t)e->decision.R * (size_t)e->decision.n * sizeof(float));
        add(p, &e->decision.threshold, (size_t)e->decision.R * sizeof(float));
        add(p, &e->decision.reason, G * (size_t)e->decision.n);
        break;
    case KVT_EV_EVICT: add(p, &e->evict.pos, (size_t)e->evict.n * sizeof(int32_t)); break;
    case KVT_EV_STEP:  list_step(&e->step, p); break;
    case KVT_EV_FIDELITY: list_fidelity(&e->fidelity, L, G, p); break;
    case KVT_EV_LATE_ROWS:
        add(p, &e->late_rows.rows, (size_t)e->late_rows.n_rows * (size_t)e->late_rows.n * sizeof(float));
        add(p, &e->late_rows.level, (size_t)e->late_rows.n_rows);
        break;
    case KVT_EV_NORMS:
        add(p, &e->norms.key, G * (size_t)e->norms.n * sizeof(float));
        add(p, &e->norms.out, G * (size_t)e->norms.n * sizeof(float));
        break;
    case KVT_EV_DECODE_ROW: add(p, &e->decode_row.row, H * (size_t)e->decode_row.ld * sizeof(float)); break;
    case KVT_EV_DECODE: list_decode(&e->decode, L * H, p); break;
    case KVT_EV_TIMES: add(p, &e->times.time, (size_t)e->times.n * sizeof *e->times.time); break;
    case KVT_EV_FREE:
    case KVT_EV_PHASE: break;
    }
}

static size_t round16(size_t n) { return (n + 15) & ~(size_t)15; }

static const void *pointer_of(const struct part *p)
{
    const void *v;
    memcpy(&v, p->pointer, sizeof v);
    return v;
}

static size_t bytes_of(const struct part *p, const void *v) { return !v ? 0 : p->text ? strlen(v) + 1 : p->bytes; }

size_t kvt_pack_bytes(const struct kvt_msg *m, const struct kvt_pack_shape *s)
{
    struct kvt_msg copy = *m;
    struct parts p;
    list(&copy, s, &p);
    size_t bytes = round16(sizeof copy);
    for (int i = 0; i < p.n; i++)
        bytes += round16(bytes_of(&p.part[i], pointer_of(&p.part[i])));
    return bytes;
}

void kvt_pack(const struct kvt_msg *m, const struct kvt_pack_shape *s, void *to)
{
    struct kvt_msg copy = *m;
    struct parts p;
    list(&copy, s, &p);
    char *at = (char *)to + round16(sizeof copy);
    for (int i = 0; i < p.n; i++) {
        const void *v = pointer_of(&p.part[i]);
        size_t n = bytes_of(&p.part[i], v);
        if (!v)
            continue;
        memcpy(at, v, n);
        at += round16(n);
    }
    memcpy(to, &copy, sizeof copy);
}

void kvt_unpack(const void *from, const struct kvt_pack_shape *s, struct kvt_msg *out)
{
    memcpy(out, from, sizeof *out);
    struct parts p;
    list(out, s, &p);
    const char *at = (const char *)from + round16(sizeof *out);
    for (int i = 0; i < p.n; i++) {
        if (!pointer_of(&p.part[i])) /* wasn't given */
            continue;
        const void *v = at;
        memcpy(p.part[i].pointer, &v, sizeof v);
        at += round16(bytes_of(&p.part[i], v));
    }
}

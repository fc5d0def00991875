/* Any method at any shape: random prompts, scores and rows (many of them equal) through the whole life of a branch, prefill's
 * end, the question, new tokens; and what a test holds against it on the way. */
#ifndef KVT_TESTS_ANY_RIG_H
#define KVT_TESTS_ANY_RIG_H

#include "evict_rig.h"
#include "kvt/prompt.h"

enum { STEPS = 9, SHOTS = 6, SPANS = 24 };

struct shape {
    int L, H, G, n_prompt, n_context, n_shots;
    int32_t shot[2 * SHOTS];
    int n_spans;
    int32_t span[3 * SPANS];   /* sentences, and some answers inside them */
    uint64_t seed;
};

static inline struct shape random_shape(uint64_t seed)
{
    struct shape s = {.seed = seed};
    uint64_t x = seed * 0x2545f4914f6cdd1du + 7;
    rig_next(&x);
    s.L = 1 + rig_below(&x, 4);
    s.G = 1 + rig_below(&x, 3);
    s.H = s.G * (1 + rig_below(&x, 3));
    s.n_prompt = 24 + rig_below(&x, 140);
    s.n_context =
        s.n_prompt - (rig_below(&x, 2) ? rig_below(&x, 12) : 0); /* the question covers some of the window, or none */
    int at = rig_below(&x, 4);
    for (; s.n_shots < SHOTS; s.n_shots++) {
        int end = at + 1 + rig_below(&x, s.n_context / 5);
        if (end > s.n_context)
            break;
        s.shot[2 * s.n_shots] = at;
        s.shot[2 * s.n_shots + 1] = end;
        at = end + rig_below(&x, 3);
    }
    for (at = rig_below(&x, 3); s.n_spans + 1 < SPANS;) {
        int end = at + 1 + rig_below(&x, 20);
        if (end > s.n_context)
            break;
        memcpy(s.span + 3 * s.n_spans++, (int32_t[]){KVT_SPAN_SENTENCE, at, end}, 3 * sizeof *s.span);
        if (!rig_below(&x, 3)) /* few enough that a small budget holds them */
            memcpy(s.span + 3 * s.n_spans++, (int32_t[]){KVT_SPAN_ANSWER, end - 1, end}, 3 * sizeof *s.span);
        at = end;
    }
    return s;
}

/* Everything that a run gives, for comparison: positions of all cells (ascending) after each step. */
struct outcome {
    int32_t *pos;
    size_t n, cap;
    bool refused;
};

static inline void note_cells(struct outcome *o, struct rig *r)
{
    int32_t *at = calloc((size_t)r->env.max_slots, sizeof *at);
    for (int l = 0; l < r->env.L; l++)
        for (int g = 0; g < r->env.G; g++) {
            int n = rig_positions(r, 1, l, g, at);
            qsort(at, (size_t)n, sizeof *at, rig_ascending);
            if (o->n + (size_t)n + 1 > o->cap) {
                o->cap = 2 * (o->n + (size_t)n + 1);
                o->pos = realloc(o->pos, o->cap * sizeof *o->pos);
            }
            o->pos[o->n++] = n;
            memcpy(o->pos + o->n, at, (size_t)n * sizeof *at);
            o->n += (size_t)n;
        }
    free(at);
}

static inline bool same(const struct outcome *a, const struct outcome *b)
{
    return a->n == b->n && (!a->n || !memcmp(a->pos, b->pos, a->n * sizeof *a->pos));
}

/* A row (H, max_slots) whose values belong to positions, wherever their slots are; the last slot is the one to come. */
static inline void random_row(struct rig *r, const struct shape *s, int layer, int pos, uint64_t seed, float *row)
{
    int n_row = r->env.max_slots;
    int32_t *at = calloc((size_t)n_row, sizeof *at);
    for (int h = 0; h < s->H; h++) {
        int n = rig_positions(r, 1, layer, h / (s->H / s->G), at);
        at[n++] = pos;
        for (int i = 0; i < n; i++) {
            uint64_t x = seed * 0x9e3779b97f4a7c15u + (uint64_t)h * 7919 + (uint64_t)at[i] * 104729 + (uint64_t)pos * 1299709 + (uint64_t)layer + 1;
            rig_next(&x);
            rig_next(&x);
            row[h * n_row + i] = (float)(rig_next(&x) >> 52) / 4096.0f;
        }
    }
    free(at);
}

/* One life. Branch 1 is the one that lives. */
struct life {
    const struct shape *shape;
    const struct kvt_ops *ops;
    int threads;
    const char *text;          /* the method */
    struct kvt_budget budget;
    const int32_t *match;      /* (L, G) what it follows, where the budget is another branch's */
    struct kvt_spec spec;      /* parsed */
    char what[192];            /* for messages */
    struct rig r;
    struct kvt_evictor *e;
    void *self;                /* of who looks on */
    /* after prefill's end; after each layer of each position behind the context. Each may be NULL. */
    void (*at_prefill)(struct life *f);
    void (*at_step)(struct life *f, int layer, int pos, int step);
};

/* Opens the rig and runs prefill's end; false where the method refuses this prompt and budget. */
static inline bool life_open(struct life *f)
{
    int window[2] = {8, 9};    /* always two, so that scores are the same whoever asks */
    static struct kvt_turn turn[8]; /* no rotation, and keys of thousands scaled down */
    const struct shape *s = f->shape;
    struct rig *r = &f->r;
    struct kvt_err err = {0};
    rig_spec(&f->spec, f->text);
    snprintf(f->what, sizeof f->what, "%s %s seed %d keep %d ppm, %d tok", f->ops->name, f->text, (int)s->seed, (int)f->budget.keep_ppm, f->budget.tokens);
    if (kvt_evict_check(&f->spec, &f->budget, s->n_prompt, s->n_context, s->n_shots, &err))
        return false;
    struct kvt_needs needs = {0};
    kvt_spec_needs(&f->spec, &needs);
    if (needs.n_windows && needs.window[0] != window[0])
        window[1] = needs.window[0];
    rig_open(r, f->ops, f->threads, s->L, s->H, s->G, s->n_prompt, s->n_context, STEPS + s->n_prompt - s->n_context, 3,
             window, 2);
    rig_random_scores(r, s->seed);
    r->match = f->match;
    /* the other reductions are as random as these */
    r->raw.n_squares = needs.n_squares;
    for (int i = 0; i < needs.n_squares; i++) {
        r->raw.square[i] = needs.square[i];
        r->raw.sqmass[i] = needs.square[i].distance ? r->raw.last : needs.square[i].window % 7 ? r->raw.wmass[0] : r->raw.mass;
    }
    r->raw.max = r->raw.last, r->raw.later = r->raw.mass;
    for (int l = 0; l < s->L; l++)
        turn[l].scale = 1e-5f;
    r->raw.query_mean = r->raw.mass, r->raw.query_scatter = r->raw.last, r->raw.query_rows = 1;
    r->env.turn = turn;
    r->env.shot = s->shot, r->env.n_shots = s->n_shots;
    r->env.span = s->span, r->env.n_spans = s->n_spans;
    if (kvt_evictor_open(&f->e, &r->env, 1, &f->spec, &f->budget, &err)) { /* protected spans, no sentences: known only here */
        rig_close(r);
        return false;
    }
    kvt_evictor_close(&f->e);
    f->e = rig_evict(r, 1, f->text, f->budget);
    if (f->at_prefill)
        f->at_prefill(f);
    return true;
}

/* The question, then new tokens, each row random; after the last, all cells are noted. */
static inline void life_steps(struct life *f, struct outcome *o)
{
    const struct shape *s = f->shape;
    struct rig *r = &f->r;
    float *row = calloc((size_t)s->H * (size_t)r->env.max_slots, sizeof *row);
    note_cells(o, r);
    for (int pos = s->n_context; pos < s->n_prompt + STEPS; pos++)
        for (int l = 0; l < s->L; l++) {
            int step = pos < s->n_prompt ? 0 : pos - s->n_prompt + 1;
            random_row(r, s, l, pos, s->seed + 99, row);
            rig_step(r, f->e, 1, l, pos, step, row, r->env.max_slots);
            if (f->at_step)
                f->at_step(f, l, pos, step);
        }
    free(row);
    note_cells(o, r);
}

static inline void life_close(struct life *f)
{
    kvt_evictor_close(&f->e);
    rig_close(&f->r);
}

#endif

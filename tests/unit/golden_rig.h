/* Kept sets of authors' codes against ours: the vectors of tests/vectors/golden.py, read and replayed.
 *
 * Keys, values and queries are made from the case's seed as the script made them; they go through the backend's own
 * attention and observation into an evictor, and what it holds afterwards is compared slot by slot. */
#ifndef KVT_TESTS_GOLDEN_RIG_H
#define KVT_TESTS_GOLDEN_RIG_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/evict.h"
#include "engine/observe.h"

enum { GOLDEN_LINE = 4096, GOLDEN_SHOTS = 16, GOLDEN_LAYERS = 40, GOLDEN_Q = 0, GOLDEN_K, GOLDEN_V, GOLDEN_WO };

struct golden {
    char name[128], spec[160], kind[16];
    struct kvt_budget budget;
    int seed, L, H, G, D, n, T; /* T tokens follow the prompt's n */
    int32_t shot[2 * GOLDEN_SHOTS];
    int n_shots;
};

struct golden_tally {
    int cases, cells;
    int64_t slots, theirs, ours, different; /* different: tied at the cut, or the case has failed */
};

static inline uint64_t golden_word(const struct golden *c, int tensor, int layer, uint64_t i)
{
    uint64_t x = (uint64_t)c->seed << 48 | (uint64_t)tensor << 44 | (uint64_t)layer << 36 | i;
    x = x * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Dimension d of head `head` at pos; exact in f32. Heads are H for queries, else G. */
static inline float golden_value(const struct golden *c, int tensor, int layer, int head, int pos, int d)
{
    uint64_t w = golden_word(c, tensor, layer, ((uint64_t)head * (uint64_t)(c->n + c->T) + (uint64_t)pos) * (uint64_t)c->D + (uint64_t)d);
    int sum = -131070;
    for (int p = 0; p < 64; p += 16)
        sum += (int)(w >> p & 0xffff);
    float x = (float)sum * 0x1p-15f;
    if (tensor == GOLDEN_Q)
        return x * 2 + 1;
    if (tensor == GOLDEN_K && !strcmp(c->kind, "coarse"))
        x = d < 2 ? truncf(x) : 0;
    return tensor == GOLDEN_K && pos < 2 ? x + 1 : x;
}

/* ---- reading ---- */

/* Positions of a bitmap in hex, lowest first, into a map of zeros. Returns what follows it. */
static inline const char *golden_bits(const char *text, uint8_t *map, int n)
{
    for (int at = 0; at < n; at += 4, text++) {
        int v = *text >= '0' && *text <= '9' ? *text - '0' : *text >= 'a' && *text <= 'f' ? *text - 'a' + 10 : -1;
        cr_assert(v >= 0, "a bitmap of %d positions ends early", n);
        for (int b = 0; b < 4 && at + b < n; b++)
            map[at + b] = v >> b & 1;
    }
    return text;
}

static inline void golden_text(char *out, size_t cap, const char *line, const char *key)
{
    cr_assert(!strncmp(line, key, strlen(key)), "expected '%s' in: %.60s", key, line);
    const char *text = line + strlen(key);
    size_t len = strcspn(text, "\n");
    cr_assert_lt(len, cap);
    memcpy(out, text, len);
    out[len] = 0;
}

/* The head of the next case; false at the file's end. */
static inline bool golden_next(FILE *f, char *line, struct golden *c)
{
    char word[16];
    long amount;
    memset(c, 0, sizeof *c);
    do {
        if (!fgets(line, GOLDEN_LINE, f))
            return false;
    } while (line[0] == '#');
    golden_text(c->name, sizeof c->name, line, "case ");
    cr_assert(fgets(line, GOLDEN_LINE, f) &&
              sscanf(line, "tensors %15s %d %d %d %d %d %d %d", c->kind, &c->seed, &c->L, &c->H, &c->G, &c->D, &c->n, &c->T) == 8);
    cr_assert(fgets(line, GOLDEN_LINE, f));
    if (!strncmp(line, "shots ", 6)) {
        char *p = line + 6, *end;
        int count = 0;
        for (long x = strtol(p, &end, 10); end != p; x = strtol(p = end, &end, 10)) {
            cr_assert_lt(count, 2 * GOLDEN_SHOTS);
            c->shot[count++] = (int32_t)x;
        }
        c->n_shots = count / 2;
        cr_assert(fgets(line, GOLDEN_LINE, f));
    }
    golden_text(c->spec, sizeof c->spec, line, "method ");
    cr_assert(fgets(line, GOLDEN_LINE, f) && sscanf(line, "budget %15s %ld", word, &amount) == 2);
    c->budget = !strcmp(word, "tokens") ? (struct kvt_budget){.kind = KVT_BUDGET_TOKENS, .tokens = (int)amount}
                                        : (struct kvt_budget){.kind = KVT_BUDGET_KEEP, .keep_ppm = amount};
    cr_assert(fgets(line, GOLDEN_LINE, f));
    return true;
}

/* ---- replaying ---- */

struct golden_rig {
    const struct golden *c;
    const struct kvt_ops *ops;
    struct kvt_dev *dev;
    struct kvt_cache *cache;
    struct kvt_evict_env env;
    struct kvt_observer seen;
    struct kvt_evictor *e;
    float *k, *v, *q, *out, *row; /* backend: (rows, G, D), (rows, H, D), (H, slots) */
    int32_t *pos;              /* (G, slots) backend */
    float *host;
    int32_t *at;               /* branch and position of each row, host */
    struct kvt_turn turn[GOLDEN_LAYERS];
    float *norms;              /* (L, G, n) backend, where a second stage asks */
    float *rope;               /* backend, where expected attention asks */
    struct kvt_mat wo[GOLDEN_LAYERS]; /* (H D, H D), where a second stage asks */
};

static inline void golden_fill(struct golden_rig *r, float *to, int tensor, int layer, int from, int T)
{
    int heads = tensor == GOLDEN_Q ? r->c->H : r->c->G, D = r->c->D;
    float *x = r->host;
    for (int t = 0; t < T; t++)
        for (int h = 0; h < heads; h++)
            for (int d = 0; d < D; d++)
                *x++ = golden_value(r->c, tensor, layer, h, from + t, d);
    cr_assert_eq(r->ops->write(r->dev, to, r->host, (size_t)(x - r->host) * sizeof *x), 0);
}

/* Appends positions [from, from + T) to a branch's layer and attends to them. */
static inline void golden_rows(struct golden_rig *r, int branch, int layer, int from, int T, const struct kvt_see *see)
{
    golden_fill(r, r->k, GOLDEN_K, layer, from, T);
    golden_fill(r, r->v, GOLDEN_V, layer, from, T);
    golden_fill(r, r->q, GOLDEN_Q, layer, from, T);
    for (int t = 0; t < T; t++) {
        r->at[t] = branch;
        r->at[T + t] = from + t;
    }
    struct kvt_append_args add = {.cache = r->cache, .layer = layer, .T = T, .k = r->k, .v = r->v, .branch = r->at, .pos = r->at + T};
    struct kvt_attn_args look = {.cache = r->cache, .layer = layer, .T = T, .H = r->c->H, .q = r->q, .out = r->out, .branch = r->at,
                                 .pos = r->at + T, .scale = 1 / sqrtf((float)r->c->D), .see = see};
    cr_assert_eq(r->ops->cache_append(r->dev, &add), 0, "%s", kvt_dev_error(r->dev));
    cr_assert_eq(r->ops->attn(r->dev, &look), 0, "%s", kvt_dev_error(r->dev));
}

/* Prefills branch 0, forks it into branch 1 and evicts there. */
static inline void golden_open(struct golden_rig *r, const struct golden *c, const struct kvt_spec *spec, const struct kvt_ops *ops)
{
    struct kvt_err err = {0};
    int slots = c->n + c->T;
    size_t n = (size_t)slots, H = (size_t)c->H, G = (size_t)c->G, D = (size_t)c->D;
    memset(r, 0, sizeof *r);
    r->c = c;
    r->ops = ops;
    cr_assert_eq(ops->open(&r->dev, &(struct kvt_dev_opts){.threads = 1}, &err), 0, "%s", err.text);
    struct kvt_cache_opts co = {.L = c->L, .G = c->G, .D = c->D, .max_branch = 2, .max_slots = slots, .type = KVT_F32};
    cr_assert_eq(ops->cache_open(r->dev, &r->cache, &co, &err), 0, "%s", err.text);
    r->k = ops->alloc(r->dev, n * G * D * sizeof(float));
    r->v = ops->alloc(r->dev, n * G * D * sizeof(float));
    r->q = ops->alloc(r->dev, n * H * D * sizeof(float));
    r->out = ops->alloc(r->dev, n * H * D * sizeof(float));
    r->row = ops->alloc(r->dev, H * n * sizeof(float));
    r->pos = ops->alloc(r->dev, G * n * sizeof(int32_t));
    r->host = calloc(n * H * D, sizeof(float));
    r->at = calloc(2 * n, sizeof *r->at);
    r->env = (struct kvt_evict_env){.ops = ops, .dev = r->dev, .cache = r->cache, .L = c->L, .H = c->H, .G = c->G,
                                    .max_slots = slots, .n_prompt = c->n, .n_context = c->n, .shot = c->shot, .n_shots = c->n_shots};
    cr_assert_leq(c->L, GOLDEN_LAYERS);
    for (int l = 0; spec->policy.critical_ppm && l < c->L; l++) {
        float *w = ops->alloc(r->dev, H * D * H * D * sizeof *w), *x = calloc(H * D * H * D, sizeof *x);
        for (uint64_t i = 0; i < H * D * H * D; i++) {
            uint64_t word = golden_word(c, GOLDEN_WO, l, i);
            int sum = -131070;
            for (int p = 0; p < 64; p += 16)
                sum += (int)(word >> p & 0xffff);
            x[i] = (float)sum * 0x1p-15f;
        }
        cr_assert_eq(ops->write(r->dev, w, x, H * D * H * D * sizeof *w), 0);
        free(x);
        r->wo[l] = (struct kvt_mat){.data = w, .type = KVT_F32, .n = (int)(H * D), .k = (int)(H * D)};
    }
    r->env.D = c->D;
    struct kvt_needs needs = {0};
    kvt_spec_needs(spec, &needs);
    cr_assert_eq(kvt_evict_check(spec, &c->budget, c->n, c->n, c->n_shots, &err), 0, "%s: %s", c->name, err.text);
    cr_assert_eq(kvt_observer_open(&r->seen, ops, r->dev, NULL, c->L, c->H, c->n, &needs, &err), 0, "%s", err.text);
    r->seen.see.unit = c->shot, r->seen.see.n_units = c->n_shots;
    if (needs.ahead) { /* rope of base 10000, halves, as the script's */
        int n_pos = c->n + needs.ahead;
        float *table = calloc((size_t)n_pos * D, sizeof *table);
        cr_assert_eq(kvt_observer_vectors(&r->seen, c->G, c->D, 1, true, &err), 0, "%s", err.text);
        for (int p = 0; p < n_pos; p++)
            for (int i = 0; i < c->D / 2; i++) {
                double angle = p * pow(10000, -2.0 * i / c->D);
                table[p * c->D + 2 * i] = (float)cos(angle);
                table[p * c->D + 2 * i + 1] = (float)sin(angle);
            }
        r->rope = ops->alloc(r->dev, (size_t)n_pos * D * sizeof *table);
        cr_assert_eq(ops->write(r->dev, r->rope, table, (size_t)n_pos * D * sizeof *table), 0);
        free(table);
        for (int l = 0; l < c->L; l++)
            r->turn[l] = (struct kvt_turn){.rope = {r->rope, n_pos, c->D, true}, .scale = 1 / sqrtf((float)c->D)};
        r->env.turn = r->turn;
    }
    for (int l = 0; l < c->L; l++) {
        golden_rows(r, 0, l, 0, c->n, r->seen.look.before(r->seen.look.self, l, 0, c->n));
        const float *const first[3] = {r->q}, *const rest[3] = {r->q + (size_t)(c->n / 3) * H * D};
        if (r->seen.look.vectors) /* in two runs */
            cr_assert_eq(r->seen.look.vectors(r->seen.look.self, l, 0, c->n / 3, false, first, &err) ||
                         r->seen.look.vectors(r->seen.look.self, l, c->n / 3, c->n - c->n / 3, false, rest, &err), 0);
    }
    r->norms = ops->alloc(r->dev, (size_t)(c->L * c->G) * (size_t)c->n * sizeof *r->norms);
    for (int l = 0; needs.out_norms && l < c->L; l++)
        cr_assert_eq(kvt_evict_out_norms(&r->env, l, r->wo[l], 0, r->norms + (size_t)(l * c->G) * (size_t)c->n, c->n), 0);
    r->seen.raw.out_norms = r->norms;
    cr_assert_eq(ops->cache_fork(r->dev, r->cache, 0, 1), 0);
    cr_assert_eq(kvt_evictor_open(&r->e, &r->env, 1, spec, &c->budget, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_evict_prefill(r->e, &r->seen.raw, &err), 0, "%s: %s", c->name, err.text);
}

static inline void golden_close(struct golden_rig *r)
{
    kvt_evictor_close(&r->e);
    kvt_observer_close(&r->seen);
    r->ops->cache_close(r->dev, &r->cache);
    void *own[] = {r->norms, r->rope, r->k, r->v, r->q, r->out, r->row, r->pos};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        r->ops->free(r->dev, own[i]);
    for (int l = 0; l < r->c->L; l++)
        r->ops->free(r->dev, (void *)r->wo[l].data);
    r->ops->close(&r->dev);
    free(r->host);
    free(r->at);
}

/* Token number `step` after the prompt: appended, attended, and the evictor may act. */
static inline void golden_step(struct golden_rig *r, int step)
{
    struct kvt_err err = {0};
    int pos = r->c->n + step - 1, slots = r->env.max_slots;
    bool wants = kvt_evictor_wants_row(r->e);
    for (int l = 0; l < r->c->L; l++) {
        struct kvt_see see = {.row_at = (const int32_t[]){0}, .row = r->row, .row_ld = slots};
        golden_rows(r, 1, l, pos, 1, wants ? &see : NULL);
        if (kvt_evictor_steps(r->e))
            cr_assert_eq(kvt_evict_step(r->e, l, wants ? r->row : NULL, slots, pos, step, &err), 0, "%s: %s", r->c->name, err.text);
    }
}

/* Which positions below n branch 1 holds in a cell, into map; returns how many. */
static inline int golden_held(struct golden_rig *r, int layer, int g, uint8_t *map, int n)
{
    int slots = r->env.max_slots, count = 0;
    int32_t *pos = calloc((size_t)slots, sizeof *pos);
    struct kvt_positions_args a = {.cache = r->cache, .branch = 1, .layer = layer, .pos = r->pos, .ld = slots};
    cr_assert_eq(r->ops->cache_positions(r->dev, &a), 0);
    cr_assert_eq(r->ops->read(r->dev, pos, r->pos + (size_t)g * (size_t)slots, (size_t)slots * sizeof *pos), 0);
    memset(map, 0, (size_t)n);
    for (; count < slots && pos[count] >= 0; count++) {
        cr_assert(pos[count] < n && !map[pos[count]], "%s: layer %d head %d holds position %d twice or too early", r->c->name, layer,
                  g, pos[count]);
        map[pos[count]] = 1;
    }
    free(pos);
    return count;
}

/* One cell against the line that tells it: equal but for tied slots, of which as many. Adds to *tally; says what differs and returns
 * false where it does otherwise. */
static inline bool golden_compare(struct golden_rig *r, int step, int layer, int g, const char *line, struct golden_tally *tally)
{
    int n = r->c->n + step, theirs = 0, different = 0, wrong = -1;
    uint8_t *map = calloc((size_t)n * 3, 1), *tie = map + n, *ours = tie + n;
    const char *rest = golden_bits(line, map, n);
    if (*rest == ' ')
        rest = golden_bits(rest + 1, tie, n);
    cr_assert(*rest == '\n', "%s: a bitmap is longer than %d positions: %s", r->c->name, n, line);
    int held = golden_held(r, layer, g, ours, n);
    for (int j = 0; j < n; j++) {
        theirs += map[j];
        different += map[j] != ours[j];
        if (map[j] != ours[j] && !tie[j] && wrong < 0)
            wrong = j;
    }
    tally->cells++;
    tally->slots += n;
    tally->theirs += theirs;
    tally->ours += held;
    tally->different += different;
    bool ok = held == theirs && wrong < 0;
    if (!ok)
        fprintf(stderr, "%s [%s] on %s: layer %d head %d after step %d: %d kept, theirs %d; %d slots differ, first %d (%s)\n", r->c->name,
                r->c->spec, r->ops->name, layer, g, step, held, theirs, different, wrong,
                wrong < 0 ? "tied" : ours[wrong] ? "only ours" : "only theirs");
    free(map);
    return ok;
}

#endif

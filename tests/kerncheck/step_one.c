/* evict_one: step after step, against ref and against the operations that it stands for. */
#include <math.h>
#include <string.h>

#include "kerncheck.h"
#include "kernels/pages.h"

enum { MOST_G = 4, STEPS = 12, D = 8 };

/* Cells of one branch and layer, and what a run of steps does to them. */
struct run {
    struct kvt_evict_one_args a; /* row, state and turn not NULL where the case has them */
    int G, n, first, steps;  /* slots before the first step; position of the first step's token */
    int32_t budget[MOST_G], recent[MOST_G];
    const int32_t *pos;      /* (n) */
    const float *rows;       /* (STEPS, H, row_ld) */
    const float *state;      /* (G, ld) at first */
    int32_t turn[MOST_G];
    int32_t *at, *slot;      /* (G, ld) host memory of a step */
    float *now, *score;
    uint8_t *protect;
};
struct result {
    int32_t left[STEPS * MOST_G], turn[MOST_G];
    float *state;            /* (G, ld) live slots at the end, the rest 0 */
    int32_t *pos;            /* (G, ld) */
};

/* Multiples of 12 / 4096: no sum of them, mean over up to 4 heads, or sum of their squares rounds, so that everybody must choose
 * alike, also where many are equal. */
static float exact(struct kc *k) { return (float)(kc_int(k, 0, 9) * 12) / 4096; }

/* What slots are worth, from sums that the row is in, on the host: (R, ld). */
static void worth(const struct run *r, const struct kvt_evict_one_args *a, const float *state, const float *row, const int32_t *at,
                  const int32_t *n, float *score)
{
    int G = r->G, m = a->H / G;
    for (int i = 0; i < (a->shared ? 1 : G); i++)
        for (int j = 0; j < n[i]; j++) {
            float *x = score + i * a->ld + j;
            int32_t p = at[i * a->ld + j];
            *x = a->row ? 0 : (float)p;
            for (int g = i; a->row && g < (a->shared ? G : i + 1); g++) {
                float sum = 0, most = 0;
                for (int h = g * m; h < (g + 1) * m; h++) {
                    float y = row[h * a->row_ld + j];
                    y = a->square ? y * y : y;
                    sum += y;
                    most = h == g * m || y > most ? y : most;
                }
                *x += a->state ? state[g * a->ld + j] : a->how == KVT_GROUP_MAX ? most : a->how == KVT_GROUP_MEAN ? sum / (float)m : sum;
            }
            *x /= a->visible_mean ? (float)(a->pos - p + 1) : 1;
        }
}

/* The step by accumulate, cache_positions, topk or contest, and cache_remove. */
static void one_by_one(struct kc *k, struct kc_cand *c, const struct run *r, const struct kvt_evict_one_args *a, const float *row, int32_t *left)
{
    int G = r->G, R = a->shared ? 1 : G, ld = a->ld;
    size_t all = (size_t)(G * ld), ints = all * 4, few = (size_t)G * 4;
    int32_t n[MOST_G], held[MOST_G], go[MOST_G], *at = r->at, *slot = r->slot;
    int32_t *where = kc_put(k, c, NULL, ints), *live = kc_put(k, c, NULL, few), *out = kc_put(k, c, NULL, ints), *count = kc_put(k, c, NULL, few);
    float *state = r->now, *score = r->score;
    uint8_t *protect = r->protect;
    kc_rc(k, c, "evict_one", c->ops->cache_positions(c->dev, &(struct kvt_positions_args){a->cache, 0, 0, where, live, ld}), "positions");
    kc_get(k, c, at, where, ints);
    kc_get(k, c, n, live, few);
    for (int g = 0; g < G; g++)
        held[g] = n[g] - a->added;
    if (a->state) {
        struct kvt_accumulate_args add = {.row = a->row, .state = a->state, .held = held, .n = n, .H = a->H, .G = G, .row_ld = a->row_ld,
                                          .ld = ld, .how = a->how, .square = a->square};
        kc_rc(k, c, "evict_one", c->ops->accumulate(c->dev, &add), "accumulate");
        kc_get(k, c, state, a->state, ints);
    }
    worth(r, a, state, row, at, n, score);
    for (int i = 0; i < R; i++)
        for (int j = 0; j < n[i]; j++)
            protect[i * ld + j] = at[i * ld + j] < a->sinks ? KVT_KEPT_PROTECTED : at[i * ld + j] > a->pos - r->recent[i] ? KVT_KEPT_WINDOW : 0;
    const float *s = kc_put(k, c, score, ints);
    const uint8_t *safe = kc_put(k, c, protect, all);
    const int32_t *budget = kc_put(k, c, r->budget, few);
    if (a->turn)
        kc_rc(k, c, "evict_one", c->ops->contest(c->dev, &(struct kvt_contest_args){.score = s, .protect = safe, .pos = where, .budget = budget,
              .n = live, .turn = a->turn, .R = R, .ld = ld, .left = out, .n_left = count}), "contest");
    else
        kc_rc(k, c, "evict_one", c->ops->topk(c->dev, &(struct kvt_topk_args){.score = s, .protect = safe, .pos = where, .budget = budget,
              .n = live, .R = R, .ld = ld, .left = out, .n_left = count}), "topk");
    kc_get(k, c, slot, out, ints);
    kc_get(k, c, go, count, few);
    for (int g = 0; g < G; g++) {
        int from = a->shared ? 0 : g;
        go[g] = go[from];
        slot[g * ld] = slot[from * ld];
        left[g] = go[g] ? at[g * ld + slot[g * ld]] : -1;
    }
    struct kvt_remove_args gone = {a->cache, 0, 0, kc_put(k, c, slot, ints), kc_put(k, c, go, few), ld, a->state, ld};
    kc_rc(k, c, "evict_one", c->ops->cache_remove(c->dev, &gone), "remove");
}

static void steps(struct kc *k, struct kc_cand *c, const struct run *r, bool in_one, struct result *out)
{
    int G = r->G, ld = r->a.ld;
    size_t row_bytes = (size_t)(r->a.H * r->a.row_ld) * 4, ints = (size_t)(G * ld) * 4, few = (size_t)G * 4;
    struct kvt_cache_opts opts = {.L = 1, .G = G, .D = D, .max_branch = 1, .max_slots = ld, .type = KVT_F16};
    struct kvt_evict_one_args a = r->a;
    kc_rc(k, c, "evict_one", c->ops->cache_open(c->dev, &a.cache, &opts, NULL), "cache_open");
    size_t kv_bytes = (size_t)(r->n * G * D) * sizeof(float);
    float *kv = kc_put(k, c, kc_host(k, kv_bytes), kv_bytes), *state = kc_put(k, c, r->state, ints);
    int32_t *branch = kc_host(k, (size_t)r->n * sizeof *branch), n[MOST_G];
    kc_rc(k, c, "evict_one", c->ops->cache_append(c->dev, &(struct kvt_append_args){a.cache, 0, r->n, kv, kv, branch, r->pos}), "append");
    int32_t *turn = kc_put(k, c, r->turn, few), *live = kc_put(k, c, NULL, few), *where = kc_put(k, c, NULL, ints);
    a.budget = r->budget;
    a.recent = r->recent;
    a.state = a.state ? state : NULL;
    a.turn = a.turn ? turn : NULL;
    a.left = kc_put(k, c, NULL, few);
    for (int s = 0; s < r->steps; s++) {
        const float *row = r->rows + (size_t)s * row_bytes / 4;
        a.pos = r->first + s;
        a.row = r->a.row ? kc_put_shifted(k, c, row, row_bytes, 4) : NULL;
        kc_rc(k, c, "evict_one", c->ops->cache_append(c->dev, &(struct kvt_append_args){a.cache, 0, 1, kv, kv, branch, &a.pos}), "append");
        if (!in_one) {
            one_by_one(k, c, r, &a, row, out->left + s * G);
            continue;
        }
        kc_rc(k, c, "evict_one", c->ops->evict_one(c->dev, &a), "step %d", s);
        kc_get(k, c, out->left + s * G, a.left, few);
    }
    kc_rc(k, c, "evict_one", c->ops->cache_positions(c->dev, &(struct kvt_positions_args){a.cache, 0, 0, where, live, ld}), "positions");
    out->state = kc_host(k, ints);
    out->pos = kc_host(k, ints);
    kc_get(k, c, out->pos, where, ints);
    kc_get(k, c, out->state, state, ints);
    kc_get(k, c, out->turn, turn, few);
    kc_get(k, c, n, live, few);
    for (int g = 0; g < G; g++) /* what lies behind the last slot means nothing */
        memset(out->state + g * ld + n[g], 0, (size_t)(ld - n[g]) * 4);
    c->ops->cache_close(c->dev, &a.cache);
    kc_end_cand(k, c, "evict_one");
}

static void same(struct kc *k, struct kc_cand *c, const struct run *r, const struct result *x, const struct result *y, const char *whose, int turn)
{
    size_t ints = (size_t)(r->G * r->a.ld) * 4;
    kc_same(k, c, "evict_one", x->left, y->left, (size_t)(r->steps * r->G) * 4, "positions that left, %s, case %d", whose, turn);
    kc_same(k, c, "evict_one", x->pos, y->pos, ints, "slots, %s, case %d", whose, turn);
    kc_same(k, c, "evict_one", x->state, y->state, ints, "sums, %s, case %d", whose, turn);
    kc_same(k, c, "evict_one", x->turn, y->turn, (size_t)(r->a.shared ? 1 : r->G) * 4, "turn, %s, case %d", whose, turn);
}

void kc_check_evict_one(struct kc *k)
{
    for (int turn = 0; turn < 96; turn++) {
        if (kc_skip(k))
            continue;
        int G = kc_int(k, 1, MOST_G), H = G * kc_int(k, 1, 4), n = turn % 12 == 11 ? 290 : kc_int(k, 1, 60), ld = n + STEPS + 2;
        struct run r = {.G = G, .n = n, .first = n + n / 3 + 4, .steps = STEPS};
        static const int32_t some_turn;
        float *rows = kc_host(k, (size_t)(STEPS * H * (ld + 3)) * 4), *state = kc_host(k, (size_t)(G * ld) * 4);
        int32_t *pos = kc_host(k, (size_t)n * 4);
        for (int i = 0; i < STEPS * H * (ld + 3); i++)
            rows[i] = turn % 16 == 5 && !kc_int(k, 0, 40) ? NAN : exact(k);
        for (int i = 0; i < G * ld; i++)
            state[i] = 100 * exact(k);
        for (int j = 0; j < n; j++)
            pos[j] = (j + n / 4) % n + ((j + n / 4) % n) / 3; /* with gaps, and not in order */
        r.rows = rows, r.state = state, r.pos = pos;
        size_t ints = (size_t)(G * ld) * 4;
        r.at = kc_host(k, ints), r.slot = kc_host(k, ints), r.now = kc_host(k, ints), r.score = kc_host(k, ints), r.protect = kc_host(k, ints / 4);
        int worth_by = turn % 4; /* sums, sums, the row, the position */
        r.a = (struct kvt_evict_one_args){
            .H = H, .row = worth_by < 3 ? rows : NULL, .state = worth_by < 2 ? state : NULL, .row_ld = ld + 3, .ld = ld, .added = 1,
            .how = turn % 16 == 5 ? KVT_GROUP_SUM : (enum kvt_group)kc_int(k, 0, 2), /* the maximum of NaN isn't defined */
             .square = kc_int(k, 0, 1), .visible_mean = worth_by < 2 && kc_int(k, 0, 1),
            .shared = turn % 3 == 1, .sinks = n > 12 && kc_int(k, 0, 1) ? 3 : 0,
            .turn = turn % 5 > 2 ? (int32_t *)&some_turn : NULL};
        if (turn % 24 == 23)
            r.steps = 1; /* all are protected, and stay */
        for (int g = 0; g < G; g++) { /* at the budget from the first step on, or after some */
            int room = r.a.shared ? turn % 7 : kc_int(k, 0, 6);
            r.recent[g] = r.steps == 1 ? 1000 : n > 12 && (turn + (r.a.shared ? 0 : g)) % 3 == 1 ? n / 2 : 1;
            r.budget[g] = room > 4 ? n + room : n;
            r.turn[g] = kc_int(k, 0, n);
        }
        struct result want, got[2];
        steps(k, &k->ref, &r, true, &want);
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            steps(k, c, &r, true, &got[0]);
            steps(k, c, &r, false, &got[1]);
            same(k, c, &r, &want, &got[0], "ref's", turn);
            same(k, c, &r, &got[1], &got[0], "one by one", turn);
        }
        kc_end_case(k, "evict_one");
        if (kc_caught(k))
            return;
    }
}

/* ---- mistakes that must be caught ---- */

static int one_sink_less(struct kvt_dev *dev, const struct kvt_evict_one_args *a)
{
    struct kvt_evict_one_args b = *a;
    b.sinks -= b.sinks > 0;
    return kvt_ops_cpu.evict_one(dev, &b);
}
static int one_recent_less(struct kvt_dev *dev, const struct kvt_evict_one_args *a)
{
    struct kvt_evict_one_args b = *a;
    int32_t recent[MOST_G];
    for (int g = 0; g < MOST_G && g < a->cache->o.G; g++)
        recent[g] = a->recent[g] - (a->recent[g] > 1);
    b.recent = recent;
    return kvt_ops_cpu.evict_one(dev, &b);
}
static int old_tenant(struct kvt_dev *dev, const struct kvt_evict_one_args *a)
{
    struct kvt_evict_one_args b = *a;
    b.added = 0;
    return kvt_ops_cpu.evict_one(dev, &b);
}
static int without_age(struct kvt_dev *dev, const struct kvt_evict_one_args *a)
{
    struct kvt_evict_one_args b = *a;
    b.visible_mean = false;
    return kvt_ops_cpu.evict_one(dev, &b);
}
static int without_turn(struct kvt_dev *dev, const struct kvt_evict_one_args *a)
{
    struct kvt_evict_one_args b = *a;
    b.turn = NULL;
    return kvt_ops_cpu.evict_one(dev, &b);
}

const char *kc_sabotage_evict_one(struct kvt_ops *ops, int i)
{
    switch (i) {
    case 0: ops->evict_one = one_sink_less; return "evict_one: a sink may leave";
    case 1: ops->evict_one = one_recent_less; return "evict_one: a recent slot may leave";
    case 2: ops->evict_one = old_tenant; return "evict_one: a new slot starts with what an earlier tenant left";
    case 3: ops->evict_one = without_age; return "evict_one: the mean over visible rows is a sum";
    case 4: ops->evict_one = without_turn; return "evict_one: no contest";
    default: return kc_sabotage_reduce_row(ops, i - 5);
    }
}

/* ---- speed ---- */

struct timed {
    struct kc_cand *c;
    struct kvt_evict_one_args a;
    int32_t branch;
    const float *kv;
};
static void run_step(void *arg)
{
    struct timed *t = arg;
    t->a.pos++;
    t->c->ops->cache_append(t->c->dev, &(struct kvt_append_args){t->a.cache, 0, 1, t->kv, t->kv, &t->branch, &t->a.pos});
    t->c->ops->evict_one(t->c->dev, &t->a);
}

void kc_bench_evict_one(struct kc *k)
{
    enum { G = 3, H = 9, N = 2048, LD = N + 16 };
    static const char *const name[] = {"sums (H2O), 3 x 2048", "sums over their rows, contest (TreeKV)", "the row, shared (TOVA)", "positions (StreamingLLM)"};
    float *rows = kc_host(k, H * LD * 4), *kv = kc_host(k, (size_t)N * G * 64 * 4);
    int32_t *pos = kc_host(k, N * 4), *branch = kc_host(k, N * 4), turn[G] = {7, 700, 1500};
    static const int32_t budget[G] = {N, N, N}, half[G] = {N / 2, N / 2, N / 2}, one[G] = {1, 1, 1};
    kc_fill(k, rows, H * LD, KC_UNIFORM);
    for (int i = 0; i < N; i++)
        pos[i] = i;
    for (int i = 0; i < k->n_cand; i++)
        for (int kind = 0; kind < 4; kind++) {
            struct kc_cand *c = &k->cand[i];
            struct kvt_cache_opts opts = {.L = 1, .G = G, .D = 64, .max_branch = 1, .max_slots = LD, .type = KVT_F16};
            struct timed t = {.c = c, .kv = kc_put(k, c, kv, (size_t)N * G * 64 * 4), .a = {.H = H, .row = kind < 3 ? kc_put(k, c, rows, H * LD * 4) : NULL,
                .state = kind < 2 ? kc_put(k, c, rows, G * LD * 4) : NULL, .row_ld = LD, .ld = LD, .added = 1, .how = KVT_GROUP_MEAN,
                .visible_mean = kind == 1, .shared = kind == 2, .pos = N - 1, .sinks = 4, .recent = kind ? one : half, .budget = budget,
                .turn = kind == 1 ? kc_put(k, c, turn, sizeof turn) : NULL, .left = kc_put(k, c, NULL, G * 4)}};
            c->ops->cache_open(c->dev, &t.a.cache, &opts, NULL);
            c->ops->cache_append(c->dev, &(struct kvt_append_args){t.a.cache, 0, N, t.kv, t.kv, branch, pos});
            kc_line(k, c, "evict_one", name[kind], kc_time(c, run_step, &t), 0, 0);
            c->ops->cache_close(c->dev, &t.a.cache);
            kc_end_cand(k, c, "evict_one");
        }
    kc_end_case(k, "evict_one");
}

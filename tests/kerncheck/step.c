/* step: sums that go on while decoding, and TreeKV's contest. */
#include <math.h>
#include <string.h>

#include "kerncheck.h"

static void check_accumulate(struct kc *k)
{
    for (int turn = 0; turn < 60; turn++) {
        if (kc_skip(k))
            continue;
        int G = kc_int(k, 1, 4), m = kc_int(k, 1, 4), H = G * m, ld = kc_int(k, 1, 90), row_ld = ld + kc_int(k, 0, 9);
        size_t rows = (size_t)(H * row_ld), cells = (size_t)(G * ld);
        float *row = kc_host(k, rows * 4), *state = kc_host(k, cells * 4), *want = kc_host(k, cells * 4), *got = kc_host(k, cells * 4);
        float *allow = kc_host(k, cells * 4);
        int32_t held[4], n[4];
        kc_fill(k, row, rows, (enum kc_fill_kind)(turn % KC_N_FILL));
        kc_fill(k, state, cells, KC_NORMAL);
        for (int g = 0; g < G; g++) {
            n[g] = kc_int(k, 0, ld);
            held[g] = kc_int(k, 0, n[g]);
        }
        struct kvt_accumulate_args a = {.held = held, .n = n, .H = H, .G = G, .row_ld = row_ld, .ld = ld,
                                        .how = (enum kvt_group)(turn % 3), .square = turn % 2};
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            a.row = kc_put_shifted(k, c, row, rows * 4, 4);
            a.state = kc_put(k, c, state, cells * 4);
            kc_rc(k, c, "accumulate", c->ops->accumulate(c->dev, &a), "ld=%d", ld);
            kc_get(k, c, i < 0 ? want : got, a.state, cells * 4);
            if (i < 0) /* each of m products, m - 1 additions, one division and the last addition rounds once */
                for (int g = 0; g < G; g++)
                    for (int j = 0; j < ld; j++) {
                        double all = fabs((double)state[g * ld + j]);
                        for (int h = g * m; h < (g + 1) * m; h++) {
                            double x = fabs((double)row[h * row_ld + j]);
                            all += a.square ? x * x : x;
                        }
                        allow[g * ld + j] = j < n[g] ? (float)((m + 2) * 2 * KC_EPS * all + 1e-44) : 0;
                    }
            else
                kc_judge(k, c, "accumulate", want, got, allow, cells, "G=%d m=%d ld=%d how=%d square=%d", G, m, ld, (int)a.how, a.square);
        }
        kc_end_case(k, "accumulate");
    }
}

static void check_contest(struct kc *k)
{
    for (int turn = 0; turn < 120; turn++) {
        if (kc_skip(k))
            continue;
        bool is_long = turn == 31 || turn == 32; /* a backend may have another way for long rows: one too many, and many */
        int R = kc_int(k, 1, 4), ld = is_long ? 5000 : turn % 9 == 8 ? 700 : kc_int(k, 1, 60), ties = turn % 4 == 1;
        size_t all = (size_t)(R * ld), ints = all * 4, rows = (size_t)R * 4;
        float *score = kc_host(k, ints), *stay[2] = {kc_host(k, ints), kc_host(k, ints)};
        uint8_t *protect = kc_host(k, all);
        int32_t *pos = kc_host(k, ints), budget[4], n[4], at[4], after[2][4], counts[2][4], *left[2] = {kc_host(k, ints), kc_host(k, ints)};
        for (size_t i = 0; i < all; i++) {
            score[i] = ties ? (float)kc_int(k, 0, 2) : kc_uniform(k, -1, 1);
            if (turn % 8 == 3 && !kc_int(k, 0, 5))
                score[i] = NAN;
            protect[i] = (uint8_t)(kc_int(k, 0, 5) ? 0 : KVT_KEPT_WINDOW);
            pos[i] = (int32_t)((i % (size_t)ld * 7919 + 13) % 7927); /* distinct, not in order */
        }
        for (int r = 0; r < R; r++) {
            n[r] = kc_int(k, 0, ld);
            budget[r] = turn % 2 ? n[r] - 1 : kc_int(k, 0, ld + 3); /* half of the cases: one too many, as in a step */
            at[r] = kc_int(k, 0, ld);
        }
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            int w = i >= 0;
            struct kvt_contest_args a = {
                .score = kc_put(k, c, score, ints), .protect = turn % 3 ? kc_put(k, c, protect, all) : NULL,
                .pos = turn % 5 ? kc_put(k, c, pos, ints) : NULL, .budget = kc_put(k, c, budget, rows), .n = kc_put(k, c, n, rows),
                .turn = kc_put(k, c, at, rows), .R = R, .ld = ld, .left = kc_put(k, c, NULL, ints),
                .n_left = kc_put(k, c, NULL, rows), .stay = kc_put(k, c, NULL, ints)};
            kc_rc(k, c, "contest", c->ops->contest(c->dev, &a), "ld=%d", ld);
            kc_get(k, c, left[w], a.left, ints);
            kc_get(k, c, counts[w], a.n_left, rows);
            kc_get(k, c, after[w], a.turn, rows);
            kc_get(k, c, stay[w], a.stay, ints);
            if (!w)
                continue;
            kc_same(k, c, "contest", left[0], left[1], ints, "left, ld=%d case %d", ld, turn);
            kc_same(k, c, "contest", counts[0], counts[1], rows, "n_left, ld=%d case %d", ld, turn);
            kc_same(k, c, "contest", after[0], after[1], rows, "turn, ld=%d case %d", ld, turn);
            kc_same(k, c, "contest", stay[0], stay[1], ints, "stay, ld=%d case %d", ld, turn);
            for (int r = 0; r < R; r++) { /* the contract itself, whatever ref says */
                int safe = 0;
                for (int j = 0; turn % 3 && j < n[r]; j++)
                    safe += protect[r * ld + j] != 0;
                int should = budget[r] > n[r] ? n[r] : budget[r] > safe ? budget[r] : safe;
                kc_that(k, c, "contest", n[r] - counts[1][r] == should, "keeps %d of %d, budget %d", n[r] - counts[1][r], n[r], budget[r]);
                for (int j = 0; j < counts[1][r]; j++)
                    kc_that(k, c, "contest", !(turn % 3 && protect[r * ld + left[1][r * ld + j]]) && (!j || left[1][r * ld + j] < left[1][r * ld + j - 1]),
                            "left descends and isn't protected");
            }
        }
        kc_end_case(k, "contest");
    }
}

/* The published example (arXiv 2501.04987, figure 3): a cache of four; equal scores, so that the left neighbour always
 * leaves: tokens 0 1 2 3, then 4 arrives and slot 1 of 1..4 leaves (token 0), then slot 2 (of 1 2 3 4 5: token 2), ... */
static void check_printed(struct kc *k)
{
    static const int32_t want[] = {0, 2, 4, 6, 1, 5, 8, 10};
    for (int i = -1; i < k->n_cand; i++) {
        struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
        enum { C = 4, STEPS = sizeof want / sizeof *want };
        int32_t held[C + 1] = {0, 1, 2, 3}, n = C + 1, budget = C, turn = 0, out;
        float score[C + 1] = {0};
        for (int s = 0; s < STEPS; s++) {
            held[C] = C + s;
            struct kvt_contest_args a = {.score = kc_put(k, c, score, sizeof score), .pos = kc_put(k, c, held, sizeof held),
                                         .budget = kc_put(k, c, &budget, 4), .n = kc_put(k, c, &n, 4), .turn = kc_put(k, c, &turn, 4),
                                         .R = 1, .ld = C + 1, .left = kc_put(k, c, NULL, sizeof held), .n_left = kc_put(k, c, NULL, 4)};
            kc_rc(k, c, "contest", c->ops->contest(c->dev, &a), "step %d", s);
            kc_get(k, c, &out, a.left, 4);
            kc_get(k, c, &turn, a.turn, 4);
            kc_that(k, c, "contest", held[out] == want[s], "step %d: token %d leaves, not %d", s, held[out], want[s]);
            memmove(held + out, held + out + 1, (size_t)(C - out) * sizeof *held);
        }
        kc_end_case(k, "contest");
    }
}

static void check_within(struct kc *k)
{
    for (int turn = 0; turn < 60; turn++) {
        if (kc_skip(k))
            continue;
        bool is_long = turn == 31; /* a backend may have another way for long stretches */
        int R = kc_int(k, 1, 4), ld = is_long ? 5000 : kc_int(k, 1, 90), from = kc_int(k, 0, 5), within = is_long ? 4500 : kc_int(k, 1, 30);
        int ppm = kc_int(k, 0, 1000000);
        size_t all = (size_t)(R * ld), ints = all * 4, rows = (size_t)R * 4;
        float *score = kc_host(k, ints);
        uint8_t *protect = kc_host(k, all), *reason[2] = {kc_host(k, all), kc_host(k, all)};
        int32_t n[4], *kept[2] = {kc_host(k, ints), kc_host(k, ints)}, counts[2][4];
        for (size_t i = 0; i < all; i++) {
            score[i] = turn % 3 ? kc_uniform(k, -1, 1) : (float)kc_int(k, 0, 3);
            protect[i] = (uint8_t)(kc_int(k, 0, 9) ? 0 : KVT_KEPT_WINDOW);
        }
        for (int r = 0; r < R; r++)
            n[r] = kc_int(k, 0, ld);
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            int w = i >= 0;
            struct kvt_topk_within_args a = {.score = kc_put(k, c, score, ints), .protect = turn % 2 ? kc_put(k, c, protect, all) : NULL,
                                             .n = kc_put(k, c, n, rows), .R = R, .ld = ld, .from = from, .within = within, .num = ppm, .den = 1000000,
                                             .kept = kc_put(k, c, NULL, ints), .n_kept = kc_put(k, c, NULL, rows),
                                             .reason = kc_put(k, c, NULL, all)};
            kc_rc(k, c, "topk_within", c->ops->topk_within(c->dev, &a), "ld=%d", ld);
            kc_get(k, c, kept[w], a.kept, ints);
            kc_get(k, c, counts[w], a.n_kept, rows);
            kc_get(k, c, reason[w], a.reason, all);
            kc_same(k, c, "topk_within", counts[0], counts[w], rows, "n_kept, ld=%d case %d", ld, turn);
            kc_same(k, c, "topk_within", reason[0], reason[w], all, "reason, ld=%d case %d", ld, turn);
            for (int r = 0; r < R; r++) { /* the contract, slot by slot: how many of its stretch are better */
                const float *x = score + r * ld;
                const uint8_t *safe = protect + r * ld;
                kc_same(k, c, "topk_within", kept[0] + r * ld, kept[w] + r * ld, (size_t)counts[0][r] * 4, "kept, ld=%d case %d", ld, turn);
                for (int j = 0, at = 0; j < n[r]; j++) {
                    int first = j < from ? 0 : from + (j - from) / within * within, last = first + within < n[r] ? first + within : n[r];
                    int room = (int)((int64_t)(last - first) * ppm / 1000000), better = 0;
                    bool stays = j < from || (turn % 2 && safe[j]);
                    room = room < 1 ? 1 : room;
                    for (int o = first; !stays && o < last; o++) {
                        room -= turn % 2 && safe[o];
                        better += !(turn % 2 && safe[o]) && o != j && (x[o] > x[j] || (x[o] == x[j] && o < j));
                    }
                    stays |= better < room;
                    bool here = at < counts[w][r] && kept[w][r * ld + at] == j;
                    at += here;
                    kc_that(k, c, "topk_within", here == stays, "slot %d of row %d %s, case %d", j, r, here ? "stays" : "leaves", turn);
                }
            }
        }
        kc_end_case(k, "topk_within");
    }
}

static void check(struct kc *k)
{
    check_within(k);
    check_accumulate(k);
    check_contest(k);
    check_printed(k);
    kc_check_evict_one(k);
    kc_check_reduce_row(k);
}

/* ---- mistakes that must be caught ---- */

static int no_square(struct kvt_dev *dev, const struct kvt_accumulate_args *a)
{
    struct kvt_accumulate_args b = *a;
    b.square = false;
    return kvt_ops_cpu.accumulate(dev, &b);
}

static int nothing_new(struct kvt_dev *dev, const struct kvt_accumulate_args *a)
{
    struct kvt_accumulate_args b = *a;
    b.held = a->n;
    return kvt_ops_cpu.accumulate(dev, &b);
}

static int by_slot(struct kvt_dev *dev, const struct kvt_contest_args *a)
{
    struct kvt_contest_args b = *a;
    b.pos = NULL;
    return kvt_ops_cpu.contest(dev, &b);
}

/* Algorithm 1's pointer as it is printed, which skips every other slot (methods.md 0.6). */
static int printed_pointer(struct kvt_dev *dev, const struct kvt_contest_args *a)
{
    int rc = kvt_ops_cpu.contest(dev, a);
    for (int r = 0; !rc && r < a->R; r++)
        a->turn[r]++;
    return rc;
}

static int one_stretch(struct kvt_dev *dev, const struct kvt_topk_within_args *a)
{
    struct kvt_topk_within_args b = *a;
    b.within = a->ld;
    return kvt_ops_cpu.topk_within(dev, &b);
}

static const char *sabotage(struct kvt_ops *ops, int i)
{
    switch (i) {
    case 0: ops->accumulate = no_square; return "accumulate: squares are forgotten";
    case 1: ops->accumulate = nothing_new; return "accumulate: new slots start with what an earlier tenant left";
    case 2: ops->contest = by_slot; return "contest: neighbours by slot, not by position";
    case 3: ops->contest = printed_pointer; return "contest: the pointer as printed";
    case 4: ops->topk_within = one_stretch; return "topk_within: one stretch for the whole row";
    default: return kc_sabotage_evict_one(ops, i - 5);
    }
}

/* ---- speed ---- */

struct timed {
    struct kc_cand *c;
    struct kvt_accumulate_args add;
    struct kvt_contest_args contest;
};
static void run_add(void *arg) { struct timed *t = arg; t->c->ops->accumulate(t->c->dev, &t->add); }
static void run_contest(void *arg) { struct timed *t = arg; t->c->ops->contest(t->c->dev, &t->contest); }

static void bench(struct kc *k)
{
    kc_bench_evict_one(k);
    kc_bench_reduce_row(k);
    enum { G = 3, H = 9, N = 2049 };
    float *row = kc_host(k, H * N * 4), *score = kc_host(k, G * N * 4);
    int32_t *pos = kc_host(k, G * N * 4);
    int32_t held[G], n[G], budget[G], turn[G] = {7, 700, 1500};
    kc_fill(k, row, H * N, KC_UNIFORM);
    kc_fill(k, score, G * N, KC_UNIFORM);
    for (int g = 0; g < G; g++) {
        held[g] = budget[g] = N - 1;
        n[g] = N;
        for (int i = 0; i < N; i++)
            pos[g * N + i] = (i * 7 + g) % 8191;
    }
    for (int i = 0; i < k->n_cand; i++) {
        struct kc_cand *c = &k->cand[i];
        struct timed t = {.c = c, .add = {.row = kc_put(k, c, row, H * N * 4), .state = kc_put(k, c, score, G * N * 4), .held = held,
                                          .n = n, .H = H, .G = G, .row_ld = N, .ld = N, .how = KVT_GROUP_MEAN},
                          .contest = {.score = kc_put(k, c, score, G * N * 4), .pos = kc_put(k, c, pos, G * N * 4),
                                      .budget = kc_put(k, c, budget, sizeof budget), .n = kc_put(k, c, n, sizeof n),
                                      .turn = kc_put(k, c, turn, sizeof turn), .R = G, .ld = N, .left = kc_put(k, c, NULL, G * N * 4),
                                      .n_left = kc_put(k, c, NULL, G * 4)}};
        kc_line(k, c, "accumulate", "9 rows of 2049 to 3", kc_time(c, run_add, &t), 0, (H + 2 * G) * N * 4.0);
        kc_line(k, c, "contest", "3 x 2049, one too many", kc_time(c, run_contest, &t), 0, 0);
        kc_end_cand(k, c, "contest");
    }
    kc_end_case(k, "contest");
}

const struct kc_subject kc_step = {"step", check, bench, sabotage};

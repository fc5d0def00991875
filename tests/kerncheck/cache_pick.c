/* The judge of `cache`, second half: budgets of rows that share a total, units that compete across rows, the knapsack. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "tests/kerncheck/kerncheck.h"

enum { MAX_ROWS = 12, MAX_UNITS = 10 };

/* ---- divide ---- */

/* Does slot j of row r beat slot i of row q? Written apart from both backends. */
static bool ahead(const float *score, int ld, int r, int j, int q, int i)
{
    float x = score[r * ld + j], y = score[q * ld + i];
    if (isnan(x) != isnan(y))
        return isnan(y);
    if (!isnan(x) && x > y)
        return true;
    if (!isnan(x) && x < y)
        return false;
    return j != i ? j < i : r < q;
}

/* The budgets are what the contract says, whatever ref says: sums, bounds, and that no loser beats a winner. */
static void contract(struct kc *k, struct kc_cand *c, const struct kvt_divide_args *a, const float *score,
                     const uint8_t *protect, const int32_t *n, const int32_t *total, const int32_t *budget)
{
    int ld = a->ld;
    for (int r0 = 0; r0 < a->R; r0 += a->per) {
        int64_t sum = 0, safe = 0, most = 0, pages = 0, held = 0, could = 0;
        for (int r = r0; r < r0 + a->per; r++) {
            int fixed = 0;
            for (int j = 0; j < n[r]; j++)
                fixed += protect && protect[r * ld + j];
            kc_that(k, c, "divide", budget[r] >= fixed && budget[r] <= n[r], "row %d: %d of %d, %d protected", r, budget[r], n[r], fixed);
            sum += budget[r];
            safe += fixed;
            most += n[r];
            pages += (budget[r] + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS;
            held += (n[r] + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS;
            int hang = n[r] ? (n[r] - 1) % KVT_PAGE_SLOTS + 1 : 0;
            could += n[r] - fixed >= hang && n[r] ? (n[r] - fixed - hang) / KVT_PAGE_SLOTS + 1 : 0;
            kc_that(k, c, "divide", a->how != KVT_DIVIDE_PAGES || budget[r] == n[r] || budget[r] % KVT_PAGE_SLOTS == 0, "row %d keeps %d of %d: no whole page", r, budget[r], n[r]);
        }
        int64_t want = total[r0 / a->per];
        if (a->how == KVT_DIVIDE_PAGES) {
            int64_t least = held - could, should = want < least ? least : want > held ? held : want;
            kc_that(k, c, "divide", pages == should, "%lld pages, asked %lld", (long long)pages, (long long)want);
        } else if (a->how == KVT_DIVIDE_BLEND || (a->how == KVT_DIVIDE_RANK && !a->alpha_ppm)) {
            int64_t should = want < safe ? safe : want > most ? most : want;
            kc_that(k, c, "divide", sum == should, "%lld slots, asked %lld", (long long)sum, (long long)want);
        }
        if (a->how != KVT_DIVIDE_RANK || a->alpha_ppm)
            continue;
        for (int r = r0; r < r0 + a->per; r++) /* by rank alone: the slots that topk would keep are the best of the set */
            for (int j = 0; j < n[r]; j++)
                if (!(protect && protect[r * ld + j])) {
                    int64_t better_own = 0, better = 0, room = want - safe;
                    for (int q = r0; q < r0 + a->per; q++)
                        for (int i = 0; i < n[q]; i++)
                            if ((q != r || i != j) && !(protect && protect[q * ld + i]) && ahead(score, ld, q, i, r, j)) {
                                better++;
                                better_own += q == r;
                            }
                    int fixed = 0;
                    for (int i = 0; i < n[r]; i++)
                        fixed += protect && protect[r * ld + i];
                    kc_that(k, c, "divide", (better_own < budget[r] - fixed) == (better < room), "row %d slot %d", r, j);
                }
    }
}

static void check_divide(struct kc *k)
{
    for (int turn = 0; turn < 160; turn++) {
        if (kc_skip(k))
            continue;
        static const int alphas[] = {0, 200000, 500000, 333333, 1000000};
        int sets = kc_int(k, 1, 3), per = kc_int(k, 1, MAX_ROWS / sets), R = sets * per, ld = kc_int(k, 1, 90);
        int how = turn % 4, kind = turn / 4 % 4, alpha = alphas[turn / 16 % 5];
        if (turn == 40 || turn == 43) { /* long rows, which a backend may cut: RANK and PAGES */
            sets = 1;
            R = per = 2;
            ld = 9000;
        }
        size_t n_all = (size_t)(R * ld);
        float *score = kc_host(k, n_all * 4);
        uint8_t *protect = kc_host(k, n_all);
        int32_t n[MAX_ROWS], total[MAX_ROWS], budget[2][MAX_ROWS];
        kc_fill_scores(k, score, n_all, kind);
        for (size_t i = 0; i < n_all; i++)
            protect[i] = kc_int(k, 0, 5) ? 0 : KVT_KEPT_WINDOW;
        for (int r = 0; r < R; r++)
            n[r] = kc_int(k, 0, ld);
        for (int s = 0; s < sets; s++)
            total[s] = kc_int(k, 0, (ld + 3) * per) / (how == KVT_DIVIDE_PAGES ? KVT_PAGE_SLOTS : 1);
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            int w = i >= 0;
            struct kvt_divide_args a = {
                .score = kc_put_shifted(k, c, score, n_all * 4, 4), .protect = turn % 3 ? kc_put(k, c, protect, n_all) : NULL,
                .n = kc_put(k, c, n, (size_t)R * 4), .total = kc_put(k, c, total, (size_t)sets * 4), .R = R, .ld = ld, .per = per,
                .how = (enum kvt_divide)how, .alpha_ppm = alpha, .budget = kc_put(k, c, NULL, (size_t)R * 4),
            };
            kc_rc(k, c, "divide", c->ops->divide(c->dev, &a), "R=%d per=%d", R, per);
            kc_get(k, c, budget[w], a.budget, (size_t)R * 4);
            if (!w)
                continue;
            kc_same(k, c, "divide", budget[0], budget[1], (size_t)R * 4, "how=%d R=%d per=%d ld=%d scores=%d alpha=%d", how, R, per, ld, kind, alpha);
            contract(k, c, &a, score, turn % 3 ? protect : NULL, n, total, budget[1]);
        }
        kc_end_case(k, "divide");
    }
    /* methods.md 0.6: four heads, 100 slots each, alpha .2, wins 250, 100, 40 and 10 -> 220, 100, 52, 28 */
    enum { N = 300 };
    static const int win[4] = {250, 100, 40, 10};
    float *score = kc_host(k, 4 * N * 4);
    int32_t n[4] = {N, N, N, N}, total[1] = {400}, want[4] = {220, 100, 52, 28}, got[4];
    for (int r = 0; r < 4; r++)
        for (int j = 0; j < N; j++)
            score[r * N + j] = j < win[r] ? 1.0f : 0.5f;
    for (int i = -1; i < k->n_cand; i++) {
        struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
        for (int how = KVT_DIVIDE_BLEND; how <= KVT_DIVIDE_ROUND; how++) {
            struct kvt_divide_args a = {.score = kc_put(k, c, score, 4 * N * 4), .n = kc_put(k, c, n, sizeof n),
                                        .total = kc_put(k, c, total, sizeof total), .R = 4, .ld = N, .per = 4,
                                        .how = (enum kvt_divide)how, .alpha_ppm = 200000,
                                        .budget = kc_put(k, c, NULL, sizeof got)};
            kc_rc(k, c, "divide", c->ops->divide(c->dev, &a), "Ada-KV's example");
            kc_get(k, c, got, a.budget, sizeof got);
            kc_same(k, c, "divide", want, got, sizeof got, "Ada-KV's example");
        }
    }
    kc_end_case(k, "divide");
}

/* ---- units across rows, and the knapsack ---- */

static double best_sum(const float *score, const int *cost, const uint8_t *may, int S, int64_t room)
{
    double best = 0;
    for (int set = 0; set < 1 << S; set++) {
        double value = 0;
        int64_t used = 0;
        bool ok = true;
        for (int s = S - 1; s >= 0; s--)
            if (set >> s & 1) {
                ok &= may[s];
                used += cost[s];
                value = value + (score[s] > 0 ? (double)score[s] : 0);
            }
        if (ok && used <= room && value > best)
            best = value;
    }
    return best;
}

static void check_shared_units(struct kc *k)
{
    for (int turn = 0; turn < 120; turn++) {
        if (kc_skip(k))
            continue;
        int sets = kc_int(k, 1, 2), per = turn % 2 ? kc_int(k, 2, 4) : 1, R = sets * per, S = kc_int(k, 1, MAX_UNITS);
        int n = kc_int(k, 20, 90), ld = n + kc_int(k, 0, 9), kind = turn / 2 % 4;
        bool knapsack = per == 1;
        size_t n_all = (size_t)(R * ld), ints = n_all * 4, units = (size_t)(R * S), rows = (size_t)R * 4;
        float *score = kc_host(k, units * 4), threshold[2][8];
        uint8_t *protect = kc_host(k, n_all), may[MAX_UNITS], *reason[2], *unit[2];
        int32_t seg[MAX_UNITS + 1], budget[8], *kept[2], counts[2][8];
        kc_fill_scores(k, score, units, knapsack && kind == 3 ? 0 : kind);
        seg[0] = kc_int(k, 0, 5);
        for (int i = 1; i <= S; i++) {
            seg[i] = seg[i - 1] + kc_int(k, 0, (n - seg[i - 1]) / 3);
            may[i - 1] = kc_int(k, 0, 3) != 0;
        }
        for (size_t i = 0; i < n_all; i++)
            protect[i] = kc_int(k, 0, 6) ? 0 : KVT_KEPT_WINDOW;
        for (int r = 0; r < R; r++)
            budget[r] = kc_int(k, 0, n + 5);
        for (int w = 0; w < 2; w++) {
            kept[w] = kc_host(k, ints);
            reason[w] = kc_host(k, n_all);
            unit[w] = kc_host(k, units);
        }
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            int w = i >= 0;
            struct kvt_pick_units_args a = {
                .score = kc_put(k, c, score, units * 4), .seg = kc_put(k, c, seg, (size_t)(S + 1) * 4),
                .candidate = kc_put(k, c, may, (size_t)S), .protect = kc_put(k, c, protect, n_all),
                .budget = kc_put(k, c, budget, rows), .max_units = -1,
                .overflow = knapsack ? KVT_OVERFLOW_KNAPSACK : (enum kvt_overflow)(turn / 4 % 2), .R = R, .S = S, .n = n, .ld = ld,
                .per = per, .kept = kc_put(k, c, NULL, ints), .n_kept = kc_put(k, c, NULL, rows),
                .unit_kept = kc_put(k, c, NULL, units), .reason = kc_put(k, c, NULL, n_all), .threshold = kc_put(k, c, NULL, rows),
            };
            kc_rc(k, c, "pick_units", c->ops->pick_units(c->dev, &a), "S=%d per=%d", S, per);
            kc_get(k, c, kept[w], a.kept, ints);
            kc_get(k, c, counts[w], a.n_kept, rows);
            kc_get(k, c, reason[w], a.reason, n_all);
            kc_get(k, c, unit[w], a.unit_kept, units);
            kc_get(k, c, threshold[w], a.threshold, rows);
            if (!w)
                continue;
            kc_same(k, c, "pick_units", kept[0], kept[1], ints, "kept, S=%d per=%d scores=%d", S, per, kind);
            kc_same(k, c, "pick_units", counts[0], counts[1], rows, "n_kept, S=%d per=%d", S, per);
            kc_same(k, c, "pick_units", reason[0], reason[1], n_all, "reason, S=%d per=%d", S, per);
            kc_same(k, c, "pick_units", unit[0], unit[1], units, "unit_kept, S=%d per=%d", S, per);
            for (int r0 = 0; r0 < R; r0 += per) {
                int64_t must = 0, held = 0, limit = 0;
                double value = 0, best = 0;
                for (int r = r0; r < r0 + per; r++) {
                    int cost[MAX_UNITS];
                    int64_t row_must = n;
                    for (int s = 0; s < S; s++) {
                        cost[s] = 0;
                        for (int j = seg[s]; j < seg[s + 1]; j++)
                            cost[s] += !protect[r * ld + j];
                        row_must -= may[s] ? cost[s] : 0;
                    }
                    for (int s = S - 1; s >= 0; s--)
                        if (may[s] && unit[1][r * S + s])
                            value = value + (score[r * S + s] > 0 ? (double)score[r * S + s] : 0);
                    best = best_sum(score + r * S, cost, may, S, budget[r] - row_must);
                    must += row_must;
                    held += counts[1][r];
                    limit += budget[r];
                }
                kc_that(k, c, "pick_units", held <= (limit > must ? limit : must), "set of %d keeps %lld of %lld", per, (long long)held, (long long)limit);
                /* sums of at most ten values of the same order of magnitude: the order of adding costs a few last bits */
                if (knapsack)
                    kc_that(k, c, "pick_units", fabs(value - best) <= 1e-14 * fabs(best), "knapsack: %.17g, all choices tried: %.17g", value, best);
            }
        }
        kc_end_case(k, "pick_units");
    }
}

/* More units than a backend may hold in one place at once. The contract is judged above; here the same as ref. */
static void check_many_units(struct kc *k)
{
    enum { S = 3000, N = 6000, R = 2 };
    for (int overflow = 0; overflow < 3; overflow++) {
        bool knapsack = overflow == KVT_OVERFLOW_KNAPSACK;
        int units = knapsack ? S / 10 : S, budget[R] = {N / 2, N / 3};
        float *score = kc_host(k, R * S * 4);
        uint8_t *protect = kc_host(k, R * N), *reason[2] = {kc_host(k, R * N), kc_host(k, R * N)}, *unit[2] = {kc_host(k, R * S), kc_host(k, R * S)};
        int32_t *seg = kc_host(k, (S + 1) * 4), *kept[2] = {kc_host(k, R * N * 4), kc_host(k, R * N * 4)}, counts[2][R];
        kc_fill_scores(k, score, (size_t)(R * units), knapsack ? 0 : 3);
        for (int s = 0; s < units; s++)
            seg[s + 1] = seg[s] + kc_int(k, 0, (N - seg[s]) / (units - s + 1) * 2);
        for (int i = 0; i < R * N; i++)
            protect[i] = kc_int(k, 0, 6) ? 0 : KVT_KEPT_WINDOW;
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            int w = i >= 0;
            struct kvt_pick_units_args a = {
                .score = kc_put(k, c, score, (size_t)(R * units) * 4), .seg = kc_put(k, c, seg, (size_t)(units + 1) * 4),
                .protect = kc_put(k, c, protect, R * N), .budget = kc_put(k, c, budget, sizeof budget), .max_units = -1,
                .overflow = (enum kvt_overflow)overflow, .R = R, .S = units, .n = N, .ld = N, .per = knapsack ? 1 : R,
                .kept = kc_put(k, c, NULL, R * N * 4), .n_kept = kc_put(k, c, NULL, R * 4), .unit_kept = kc_put(k, c, NULL, R * S),
                .reason = kc_put(k, c, NULL, R * N),
            };
            kc_rc(k, c, "pick_units", c->ops->pick_units(c->dev, &a), "S=%d", units);
            kc_get(k, c, kept[w], a.kept, R * N * 4);
            kc_get(k, c, counts[w], a.n_kept, R * 4);
            kc_get(k, c, reason[w], a.reason, R * N);
            kc_get(k, c, unit[w], a.unit_kept, R * S);
            if (!w)
                continue;
            kc_same(k, c, "pick_units", kept[0], kept[1], R * N * 4, "kept, S=%d overflow=%d", units, overflow);
            kc_same(k, c, "pick_units", counts[0], counts[1], R * 4, "n_kept, S=%d overflow=%d", units, overflow);
            kc_same(k, c, "pick_units", reason[0], reason[1], R * N, "reason, S=%d overflow=%d", units, overflow);
            kc_same(k, c, "pick_units", unit[0], unit[1], R * S, "unit_kept, S=%d overflow=%d", units, overflow);
        }
        kc_end_case(k, "pick_units");
    }
}

static void check_weigh(struct kc *k)
{
    for (int turn = 0; turn < 20; turn++) {
        if (kc_skip(k))
            continue;
        int R = kc_int(k, 1, 4), n = kc_int(k, 1, 90), ld = n + kc_int(k, 0, 9);
        size_t bytes = (size_t)(R * ld) * 4;
        float *in = kc_host(k, bytes), *by = kc_host(k, bytes), *want = kc_host(k, bytes), *got = kc_host(k, bytes);
        kc_fill(k, in, bytes / 4, (enum kc_fill_kind)(turn % KC_N_FILL));
        kc_fill(k, by, bytes / 4, KC_UNIFORM);
        for (int i = -1; i < k->n_cand; i++) {
            struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
            float *out = kc_put_shifted(k, c, by, bytes, 8);
            struct kvt_weigh_args a = {kc_put_shifted(k, c, in, bytes, 4), kc_put(k, c, by, bytes), out, R, ld, n, 1e-4f};
            kc_rc(k, c, "weigh", c->ops->weigh(c->dev, &a), "R=%d n=%d", R, n);
            kc_get(k, c, i < 0 ? want : got, out, bytes);
            if (i >= 0)
                kc_same(k, c, "weigh", want, got, bytes, "R=%d n=%d ld=%d", R, n, ld);
        }
        kc_end_case(k, "weigh");
    }
}

void kc_check_pick(struct kc *k)
{
    check_divide(k);
    check_shared_units(k);
    check_many_units(k);
    check_weigh(k);
}

/* ---- speed: rows as a prefill of 32768 tokens gives them to 8 kv heads. ---- */

struct timed {
    struct kc_cand *c;
    struct kvt_topk_args topk;
    struct kvt_divide_args divide;
    struct kvt_pick_units_args units;
    struct kvt_pool_args pool;
};

static void run_topk(void *arg) { struct timed *t = arg; t->c->ops->topk(t->c->dev, &t->topk); }
static void run_divide(void *arg) { struct timed *t = arg; t->c->ops->divide(t->c->dev, &t->divide); }
static void run_units(void *arg) { struct timed *t = arg; t->c->ops->pick_units(t->c->dev, &t->units); }
static void run_pool(void *arg) { struct timed *t = arg; t->c->ops->pool(t->c->dev, &t->pool); }

void kc_bench_pick(struct kc *k)
{
    enum { R = 8, N = 32768, S = 1024 };
    static const char *const how[] = {"8 x 32768, rank", "8 x 32768, blend", "8 x 32768, round", "8 x 32768, pages"};
    static const char *const overflow[] = {"8 x 1024 units, stop", "8 x 1024 units, skip"};
    float *score = kc_host(k, R * N * 4);
    int32_t *seg = kc_host(k, (S + 1) * 4), n[R], budget[R], total;
    kc_fill(k, score, R * N, KC_NORMAL);
    for (int s = 0; s <= S; s++)
        seg[s] = s * (N / S);
    for (int r = 0; r < R; r++) {
        n[r] = N;
        budget[r] = N / 4;
    }
    for (int i = 0; i < k->n_cand; i++) {
        struct kc_cand *c = &k->cand[i];
        const float *in = kc_put(k, c, score, R * N * 4);
        int32_t *counts = kc_put(k, c, NULL, sizeof n), *kept = kc_put(k, c, NULL, R * N * 4);
        struct timed t = {
            .c = c, .topk = {.score = in, .budget = kc_put(k, c, budget, sizeof budget), .n = kc_put(k, c, n, sizeof n), .R = R, .ld = N, .kept = kept, .n_kept = counts},
            .pool = {.in = in, .out = kc_put(k, c, NULL, R * N * 4), .R = R, .ld = N, .from = 0, .to = N, .width = 7, .how = KVT_POOL_MAX}};
        t.units = (struct kvt_pick_units_args){.score = in, .seg = kc_put(k, c, seg, (S + 1) * 4), .budget = t.topk.budget, .max_units = -1,
                                               .R = R, .S = S, .n = N, .ld = N, .kept = kept, .n_kept = counts};
        kc_line(k, c, "pool", "8 x 32768, 7 wide", kc_time(c, run_pool, &t), 0, 2.0 * R * N * 4);
        kc_line(k, c, "topk", "8 x 32768, a quarter", kc_time(c, run_topk, &t), 0, 0);
        for (int m = 0; m < 2; m++) {
            t.units.overflow = (enum kvt_overflow)m;
            kc_line(k, c, "pick_units", overflow[m], kc_time(c, run_units, &t), 0, 0);
        }
        for (int m = 0; m < 4; m++) {
            total = m == KVT_DIVIDE_PAGES ? R * N / 4 / KVT_PAGE_SLOTS : R * N / 4;
            t.divide = (struct kvt_divide_args){.score = in, .n = t.topk.n, .total = kc_put(k, c, &total, sizeof total), .R = R, .ld = N, .per = R,
                                                .how = (enum kvt_divide)m, .alpha_ppm = 200000, .budget = counts};
            kc_line(k, c, "divide", how[m], kc_time(c, run_divide, &t), 0, 0);
        }
        kc_end_cand(k, c, "topk");
    }
    kc_end_case(k, "topk");
}

/* ---- sabotage ---- */

static int wrong_divide(struct kvt_dev *dev, const struct kvt_divide_args *a)
{
    struct kvt_divide_args b = *a;
    b.protect = NULL;
    return kvt_ops_cpu.divide(dev, &b);
}

static int wrong_rounding(struct kvt_dev *dev, const struct kvt_divide_args *a)
{
    struct kvt_divide_args b = *a;
    b.how = a->how == KVT_DIVIDE_BLEND ? KVT_DIVIDE_ROUND : a->how;
    return kvt_ops_cpu.divide(dev, &b);
}

static int wrong_sets(struct kvt_dev *dev, const struct kvt_pick_units_args *a)
{
    struct kvt_pick_units_args b = *a;
    b.per = 1;
    return kvt_ops_cpu.pick_units(dev, &b);
}

static int wrong_knapsack(struct kvt_dev *dev, const struct kvt_pick_units_args *a)
{
    struct kvt_pick_units_args b = *a;
    b.overflow = a->overflow == KVT_OVERFLOW_KNAPSACK ? KVT_OVERFLOW_SKIP : a->overflow;
    return kvt_ops_cpu.pick_units(dev, &b);
}

static int wrong_weigh(struct kvt_dev *dev, const struct kvt_weigh_args *a)
{
    struct kvt_weigh_args b = *a;
    b.eps = 0;
    return kvt_ops_cpu.weigh(dev, &b);
}

/* Pages priced by the worst of the slots that must go, not by the best: each slot gets the worst score of its sixteen. */
static int wrong_price(struct kvt_dev *dev, const struct kvt_divide_args *a)
{
    struct kvt_divide_args b = *a;
    size_t ld = (size_t)a->ld, values = (size_t)a->R * ld;
    bool pages = a->how == KVT_DIVIDE_PAGES;
    float *score = pages ? malloc(values * sizeof *score) : NULL;
    int *place = pages ? malloc(ld * sizeof *place) : NULL; /* of each slot among those that may go; protected: -1 */
    if (score && place) {
        memcpy(score, a->score, values * sizeof *score);
        b.score = score;
    }
    for (int r = 0; b.score == score && r < a->R; r++) {
        const float *from = a->score + (size_t)r * ld;
        const uint8_t *safe = a->protect ? a->protect + (size_t)r * ld : NULL;
        int n = a->n[r], hang = n ? (n - 1) % KVT_PAGE_SLOTS + 1 : 0;
        for (int j = 0; j < n; j++) {
            place[j] = safe && safe[j] ? -1 : 0;
            for (int i = 0; i < n && place[j] >= 0; i++)
                place[j] += !(safe && safe[i]) && (from[i] < from[j] || (from[i] == from[j] && i > j));
        }
        for (int j = 0; j < n; j++) {
            int first = place[j] < hang ? 0 : hang + (place[j] - hang) / KVT_PAGE_SLOTS * KVT_PAGE_SLOTS;
            for (int i = 0; i < n && place[j] >= 0; i++)
                if (place[i] == first)
                    score[(size_t)r * ld + (size_t)j] = from[i];
        }
    }
    int rc = kvt_ops_cpu.divide(dev, &b);
    free(score);
    free(place);
    return rc;
}

const char *kc_sabotage_pick(struct kvt_ops *ops, int i)
{
    switch (i) {
    case 0: ops->divide = wrong_divide; return "divide: protected slots compete";
    case 1: ops->divide = wrong_rounding; return "divide: rounded row by row";
    case 2: ops->pick_units = wrong_sets; return "pick_units: each row by itself";
    case 3: ops->pick_units = wrong_knapsack; return "pick_units: greedy for the knapsack";
    case 4: ops->weigh = wrong_weigh; return "weigh: no eps";
    case 5: ops->divide = wrong_price; return "divide: a page's price is its worst slot's";
    default: return NULL;
    }
}

/* cache, by definition, second part: budgets of rows that share a total, and whole units, by plain loops. */
#include "kernels/ref/ref.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* ---- budgets of rows that share a total ---- */

static bool is_safe(const struct kvt_divide_args *a, int r, int j)
{
    return a->protect && a->protect[(size_t)r * (size_t)a->ld + (size_t)j];
}

/* Does slot j of row r beat slot i of row q? The earlier slot wins a tie, then the earlier row. */
static bool cell_beats(const struct kvt_divide_args *a, int r, int j, int q, int i)
{
    float x = a->score[(size_t)r * (size_t)a->ld + (size_t)j], y = a->score[(size_t)q * (size_t)a->ld + (size_t)i];
    if (x == y || (isnan(x) && isnan(y)))
        return j != i ? j < i : r < q;
    return kvt_ref_beats(x, 0, y, 1);
}

/* Unprotected slots of row r from the best to the worst into at; returns how many. */
static int32_t order_row(const struct kvt_divide_args *a, int r, int32_t *at)
{
    int32_t others = 0;
    for (int j = 0; j < a->n[r]; j++) {
        int better = 0;
        for (int i = 0; i < a->n[r]; i++)
            better += i != j && !is_safe(a, r, i) && cell_beats(a, r, i, r, j);
        if (is_safe(a, r, j))
            continue;
        at[better] = j;
        others++;
    }
    return others;
}

/* Wins of each row of a set among its best `room`, where each row's best own[r] don't compete. at: (per, ld). */
static void count_wins(const struct kvt_divide_args *a, int r0, const int32_t *at, const int32_t *own,
                       const int32_t *others, int64_t room, int32_t *win)
{
    size_t ld = (size_t)a->ld;
    memset(win, 0, (size_t)a->per * sizeof *win);
    for (; room > 0; room--) {
        int best = -1;
        for (int i = 0; i < a->per; i++)
            if (own[i] + win[i] < others[i] &&
                (best < 0 || cell_beats(a, r0 + i, at[(size_t)i * ld + (size_t)(own[i] + win[i])], r0 + best,
                                        at[(size_t)best * ld + (size_t)(own[best] + win[best])])))
                best = i;
        if (best < 0)
            return;
        win[best]++;
    }
}

/* Whole numbers by largest remainders: row r gets part[r] / den and, of what is left of `total`, one more in order of
 * the remainder, the earlier row first, up to most[r]; round after round, if one isn't enough. */
static void share_out(const int64_t *part, int64_t den, const int32_t *most, int per, int64_t total, int32_t *budget)
{
    int64_t rest = total;
    for (int r = 0; r < per; r++) {
        int64_t whole = part[r] / den;
        budget[r] = whole < most[r] ? (int32_t)whole : most[r];
        rest -= budget[r];
    }
    for (int64_t given = 1; rest > 0 && given;) {
        given = 0;
        for (int64_t last = den, at = -1; rest > 0;) { /* rows in order of remainder, each once */
            int64_t best = -1;
            int who = -1;
            for (int r = 0; r < per; r++) {
                int64_t left = part[r] % den;
                bool later = left < last || (left == last && r > at);
                if (later && left > best) {
                    best = left;
                    who = r;
                }
            }
            if (who < 0)
                break;
            last = best, at = who;
            if (budget[who] < most[who]) {
                budget[who]++;
                rest--;
                given++;
            }
        }
    }
}

/* Slots of row r that are gone when its k-th page (from 1) is free. */
static int must_go(const struct kvt_divide_args *a, int r, int k)
{
    return (a->n[r] - 1) % KVT_PAGE_SLOTS + 1 + KVT_PAGE_SLOTS * (k - 1);
}

/* gone[i]: pages that row r0 + i frees. */
static void free_pages(const struct kvt_divide_args *a, int r0, const int32_t *at, const int32_t *others, int32_t *gone)
{
    int64_t held = 0;
    for (int i = 0; i < a->per; i++) {
        held += (a->n[r0 + i] + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS;
        gone[i] = 0;
    }
    for (; held > a->total[r0 / a->per]; held--) {
        int cheap = -1, price = -1;
        for (int i = 0; i < a->per; i++) {
            int must = must_go(a, r0 + i, gone[i] + 1);
            if (!a->n[r0 + i] || must > others[i])
                continue;
            int j = at[(size_t)i * (size_t)a->ld + (size_t)(others[i] - must)]; /* the best of those that must go */
            if (cheap < 0 || cell_beats(a, r0 + cheap, price, r0 + i, j)) {
                cheap = i;
                price = j;
            }
        }
        if (cheap < 0)
            break;
        gone[cheap]++;
    }
    for (int i = 0; i < a->per; i++)
        a->budget[r0 + i] = a->n[r0 + i] - (gone[i] ? must_go(a, r0 + i, gone[i]) : 0);
}

/* BLEND and ROUND: what the rows of a set get beside their protected slots, from their wins, into extra. */
void kvt_ref_blend(const struct kvt_divide_args *a, int64_t room, const int32_t *win, const int32_t *most,
                   int64_t *part, int32_t *extra)
{
    int64_t alpha = a->alpha_ppm, floor_part = room / a->per * alpha / 1000000 * 1000000;
    for (int i = 0; i < a->per; i++)
        part[i] = floor_part + win[i] * (1000000 - alpha);
    if (a->how == KVT_DIVIDE_BLEND) {
        share_out(part, 1000000, most, a->per, room, extra);
        return;
    }
    for (int i = 0; i < a->per; i++) {
        int64_t whole = part[i] / 1000000, left = part[i] % 1000000;
        whole += left > 500000 || (left == 500000 && whole % 2);
        extra[i] = whole < most[i] ? (int32_t)whole : most[i];
    }
}

int kvt_ref_divide(struct kvt_dev *dev, const struct kvt_divide_args *a)
{
    size_t per = (size_t)a->per, ld = (size_t)a->ld;
    assert(a->per > 0 && a->R % a->per == 0 && (uint64_t)ld * per < UINT64_C(1) << 32);
    int64_t *part = kvt_dev_scratch(dev, per * (sizeof *part + (3 + ld) * sizeof(int32_t)));
    if (!part)
        return KVT_ENOMEM;
    int32_t *own = (int32_t *)(part + per), *win = own + per, *others = win + per, *at = others + per;
    for (int r0 = 0; r0 < a->R; r0 += a->per) {
        int64_t total = a->total[r0 / a->per], room = total, safe = total / a->per * a->alpha_ppm / 1000000;
        safe = a->alpha_ppm && safe < 1 ? 1 : safe;
        for (int i = 0; i < a->per; i++) {
            others[i] = order_row(a, r0 + i, at + (size_t)i * ld);
            int32_t protect = a->n[r0 + i] - others[i];
            own[i] = a->how != KVT_DIVIDE_RANK || safe <= protect ? 0
                   : (int32_t)(safe - protect < others[i] ? safe - protect : others[i]);
            room -= protect + own[i];
            a->budget[r0 + i] = protect + own[i];
        }
        room = room < 0 ? 0 : room;
        if (a->how == KVT_DIVIDE_PAGES) {
            free_pages(a, r0, at, others, win);
            continue;
        }
        count_wins(a, r0, at, own, others, room, win);
        if (a->how != KVT_DIVIDE_RANK)
            kvt_ref_blend(a, room, win, others, part, own);
        for (int i = 0; i < a->per; i++)
            a->budget[r0 + i] += a->how == KVT_DIVIDE_RANK ? win[i] : own[i];
    }
    return 0;
}

int kvt_ref_weigh(struct kvt_dev *dev, const struct kvt_weigh_args *a)
{
    (void)dev;
    for (int r = 0; r < a->R; r++)
        for (int j = 0; j < a->n; j++) {
            size_t at = (size_t)r * (size_t)a->ld + (size_t)j;
            a->out[at] = (a->in[at] + a->eps) * a->by[at];
        }
    return 0;
}

/* ---- units ---- */

/* A unit's place among those of a set of rows: row x S + s. Ties: the earlier unit, then the earlier row. */
static bool unit_beats(const float *score, int S, int i, int j)
{
    float x = score[i], y = score[j];
    if (x == y || (isnan(x) && isnan(y)))
        return i % S != j % S ? i % S < j % S : i < j;
    return kvt_ref_beats(x, 0, y, 1);
}

/* The unit of a set that comes after `before` (-1: the first) in order of score; -1 when there is none. */
static int next_unit(const struct kvt_pick_units_args *a, const float *score, int per, int before)
{
    int best = -1;
    for (int u = 0; u < per * a->S; u++) {
        if (a->candidate && !a->candidate[u % a->S])
            continue;
        if (before >= 0 && !unit_beats(score, a->S, before, u))
            continue;
        if (best < 0 || unit_beats(score, a->S, u, best))
            best = u;
    }
    return best;
}

/* The slots that a unit costs row r: those that wouldn't stay without it. */
static int unit_cost(const struct kvt_pick_units_args *a, int r, int s)
{
    const uint8_t *protect = a->protect ? a->protect + (size_t)r * (size_t)a->ld : NULL;
    int cost = 0;
    for (int j = a->seg[s]; j < a->seg[s + 1]; j++)
        cost += !(protect && protect[j]);
    return cost;
}

/* In order of score, while they fit. used: what stays in any case; budget: of the set. */
static void pick_greedy(const struct kvt_pick_units_args *a, int r0, int per, int64_t used, int64_t budget,
                        uint8_t *verdict)
{
    const float *score = a->score + (size_t)r0 * (size_t)a->S;
    int units = 0;
    for (int u = next_unit(a, score, per, -1); u >= 0; u = next_unit(a, score, per, u)) {
        int cost = unit_cost(a, r0 + u / a->S, u % a->S);
        bool fits = a->max_units >= 0 ? units < a->max_units : used + cost <= budget || units < a->min_units;
        if (fits) {
            verdict[u] = KVT_KEPT_UNIT;
            used += cost;
            units++;
            continue;
        }
        if (a->max_units < 0 && used < budget)
            verdict[u] = KVT_LEFT_BUDGET; /* there was room, but not for all of it */
        if (a->max_units >= 0 || a->overflow == KVT_OVERFLOW_STOP)
            break;
    }
}

/* The choice of the largest value within `room` slots. best[s][w]: the value of units s .. S - 1 in w slots. */
static void pick_knapsack(const struct kvt_pick_units_args *a, int r, int64_t room, double *best, uint8_t *verdict)
{
    const float *score = a->score + (size_t)r * (size_t)a->S;
    size_t width = (size_t)(room < 0 ? 0 : room) + 1;
    int units = 0, first = next_unit(a, score, 1, -1);
    float worst = INFINITY;
    for (size_t w = 0; w < width; w++)
        best[(size_t)a->S * width + w] = 0;
    for (int s = a->S - 1; s >= 0; s--) {
        bool may = !a->candidate || a->candidate[s];
        size_t cost = (size_t)unit_cost(a, r, s);
        double value = score[s] > 0 ? (double)score[s] : 0;
        for (size_t w = 0; w < width; w++) {
            double without = best[(size_t)(s + 1) * width + w];
            double with = may && cost <= w ? best[(size_t)(s + 1) * width + w - cost] + value : -1;
            best[(size_t)s * width + w] = with > without ? with : without;
        }
    }
    size_t w = width - 1;
    for (int s = 0; s < a->S; s++) {
        bool may = !a->candidate || a->candidate[s];
        size_t cost = (size_t)unit_cost(a, r, s);
        double value = score[s] > 0 ? (double)score[s] : 0;
        if (!may || room < 0 || cost > w ||
            best[(size_t)(s + 1) * width + w - cost] + value < best[(size_t)(s + 1) * width + w])
            continue;
        verdict[s] = KVT_KEPT_UNIT;
        w -= cost;
        units++;
        worst = score[s] < worst ? score[s] : worst;
    }
    if (!units && a->min_units && first >= 0) {
        verdict[first] = KVT_KEPT_UNIT;
        return;
    }
    for (int s = 0; s < a->S; s++) /* better than one that stays, and too long for the best sum */
        if (verdict[s] == KVT_LEFT_UNIT && score[s] > worst)
            verdict[s] = KVT_LEFT_BUDGET;
}

/* What the verdicts on a row's units mean for its slots. */
void kvt_ref_spread_units(const struct kvt_pick_units_args *a, int r, const uint8_t *verdict)
{
    size_t row = (size_t)r * (size_t)a->ld;
    const float *score = a->score + (size_t)r * (size_t)a->S;
    const uint8_t *protect = a->protect ? a->protect + row : NULL;
    int n_kept = 0, s = 0, last = -1;
    bool whole = true; /* nothing of this row leaves */
    for (int u = 0; u < a->S; u++) {
        whole &= verdict[u] == KVT_KEPT_UNIT || verdict[u] == KVT_KEPT_PROTECTED || !unit_cost(a, r, u);
        if (verdict[u] == KVT_KEPT_UNIT && (last < 0 || unit_beats(score, a->S, last, u)))
            last = u;
        if (a->unit_kept)
            a->unit_kept[(size_t)r * (size_t)a->S + (size_t)u] =
                verdict[u] == KVT_KEPT_UNIT || verdict[u] == KVT_KEPT_PROTECTED;
    }
    for (int j = 0; j < a->n; j++) {
        while (s < a->S && j >= a->seg[s + 1])
            s++;
        uint8_t v = s < a->S && j >= a->seg[s] ? verdict[s] : KVT_KEPT_PROTECTED;
        bool safe = protect && protect[j], stays = safe || v == KVT_KEPT_UNIT || v == KVT_KEPT_PROTECTED;
        if (stays)
            a->kept[row + (size_t)n_kept++] = j;
        if (a->reason)
            a->reason[row + (size_t)j] = safe ? protect[j] : whole && v == KVT_KEPT_UNIT ? KVT_KEPT_ALL : v;
    }
    for (int j = a->n; a->reason && j < a->ld; j++)
        a->reason[row + (size_t)j] = KVT_REASON_NONE;
    a->n_kept[r] = n_kept;
    if (a->threshold)
        a->threshold[r] = last < 0 ? INFINITY : score[last];
}

int kvt_ref_pick_units(struct kvt_dev *dev, const struct kvt_pick_units_args *a)
{
    int per = a->per > 1 ? a->per : 1;
    size_t units = (size_t)per * (size_t)a->S, table = 0;
    for (int r = 0; a->overflow == KVT_OVERFLOW_KNAPSACK && a->max_units < 0 && r < a->R; r++) {
        size_t width = (size_t)(a->budget[r] < 0 ? 0 : a->budget[r] < a->n ? a->budget[r] : a->n) + 1;
        table = width * (size_t)(a->S + 1) > table ? width * (size_t)(a->S + 1) : table;
    }
    /* verdict of each unit: KVT_KEPT_PROTECTED (no candidate), KVT_KEPT_UNIT, KVT_LEFT_UNIT, KVT_LEFT_BUDGET */
    double *best = kvt_dev_scratch(dev, table * sizeof *best + units + 1);
    uint8_t *verdict = (uint8_t *)(best + table);
    if (!best)
        return KVT_ENOMEM;
    assert(a->S == 0 || (a->seg[0] >= 0 && a->seg[a->S] <= a->n));
    assert(a->R % per == 0 && (per == 1 || (a->max_units < 0 && a->overflow != KVT_OVERFLOW_KNAPSACK)));
    for (int r = 0; r < a->R; r += per) {
        int64_t used = 0, budget = 0; /* used: what stays in any case, all but the unprotected slots of candidates */
        for (int i = 0; i < per; i++) {
            used += a->n;
            budget += a->budget[r + i];
            for (int s = 0; s < a->S; s++) {
                bool may_go = !a->candidate || a->candidate[s];
                verdict[i * a->S + s] = may_go ? KVT_LEFT_UNIT : KVT_KEPT_PROTECTED;
                used -= may_go ? unit_cost(a, r + i, s) : 0;
            }
        }
        if (table)
            pick_knapsack(a, r, (budget < a->n ? budget : a->n) - used, best, verdict);
        else
            pick_greedy(a, r, per, used, budget, verdict);
        for (int i = 0; i < per; i++)
            kvt_ref_spread_units(a, r + i, verdict + i * a->S);
    }
    return 0;
}

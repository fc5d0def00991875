/* Overlap of kept sets. Would catch: protected tokens counted as agreement, a set shared by all heads counted once a
 * head, a pair nested in each other below O = 1, a null that keeps the sets in place or moves them by another amount than it says, heads that
 * are paired by number, a ranking that begins at the wrong end, groups joined in another order than by likeness. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/cluster.h"
#include "analyzers/overlap.h"
#include "analyzers/rank.h"
#include "base/stats.h"
#include "kernels/ops.h"

#define NEAR(a, b) cr_assert_float_eq(a, b, 1e-12, "%s = %.15g, expected %.15g", #a, (double)(a), (double)(b))

/* One layer, G heads, from strings: '#' kept by score, '.' lost, 'W' kept by the window, 'P' protected. */
static struct kvt_held held(int G, const char *const *cell)
{
    int n = (int)strlen(cell[0]);
    int32_t *ev = calloc((size_t)(G * n), sizeof *ev);
    uint8_t *reason = calloc((size_t)(G * n), 1);
    for (int g = 0; g < G; g++)
        for (int j = 0; j < n; j++) {
            char c = cell[g][j];
            ev[g * n + j] = c == '.' ? 0 : -1;
            reason[g * n + j] = c == 'W' ? KVT_KEPT_WINDOW : c == 'P' ? KVT_KEPT_PROTECTED : c == '#' ? KVT_KEPT_SCORE : 0;
        }
    struct kvt_held h;
    cr_assert_eq(kvt_held_make(1, G, n, n, ev, reason, 0, &h, NULL), 0);
    free(ev);
    free(reason);
    return h;
}

static struct kvt_overlap overlap(struct kvt_held a, struct kvt_held b)
{
    struct kvt_overlap o;
    kvt_overlap_of(&a, &b, 0, 1, &o);
    kvt_held_free(&a);
    kvt_held_free(&b);
    return o;
}

#define ONE(s) held(1, (const char *const[]){s})

Test(overlap, identical_nested_disjoint)
{
    struct kvt_overlap o = overlap(ONE("##..##.."), ONE("##..##.."));
    NEAR(kvt_overlap_jaccard(&o), 1);
    NEAR(kvt_overlap_adjusted(&o), 1);
    o = overlap(ONE("##..##.."), ONE("#......."));
    NEAR(kvt_overlap_jaccard(&o), 0.25);
    NEAR(kvt_overlap_adjusted(&o), 1); /* nested: as much agreement as the smaller set allows */
    o = overlap(ONE("####...."), ONE("....####"));
    NEAR(kvt_overlap_jaccard(&o), 0);
    NEAR(kvt_overlap_adjusted(&o), -1); /* x - ab/n = 0 - 2, min - ab/n = 4 - 2 */
    o = overlap(ONE("##......"), ONE("#.#....."));
    /* x = 1, ab/n = 0.5: (1 - 0.5) / (2 - 0.5) */
    NEAR(kvt_overlap_adjusted(&o), 1.0 / 3);
    NEAR(kvt_overlap_jaccard(&o), 1.0 / 3);
    NEAR(kvt_overlap_chance(&o), kvt_jaccard_expected(8, 2, 2));
}

Test(overlap, protected_tokens_are_no_agreement)
{
    struct kvt_overlap o = overlap(ONE("PP##....WW"), ONE("P...##..WW"));
    cr_assert_eq(o.universe, 6); /* the second P is protected on one side: that is enough */
    NEAR(kvt_overlap_jaccard(&o), 0);
    NEAR(kvt_overlap_all_jaccard(&o), 3.0 / 8);
    cr_assert_eq(overlap(ONE("P...##..WW"), ONE("PP##....WW")).universe, 6);
    cr_assert(kvt_overlap_adjusted(&o) < 0);
}

Test(overlap, cells_without_a_say)
{
    struct kvt_held a = held(3, (const char *const[]){"....", "####", "#..."}), b = held(3, (const char *const[]){"#...", "#...", "#..."});
    struct kvt_overlap o = overlap(a, b);
    cr_assert_eq(o.cells, 3);
    cr_assert_eq(o.left_out, 2);
    NEAR(kvt_overlap_adjusted(&o), 1);
    o = overlap(ONE("...."), ONE("...."));
    cr_assert(isnan(kvt_overlap_jaccard(&o)) && isnan(kvt_overlap_adjusted(&o)) && isnan(kvt_overlap_chance(&o)));
}

Test(overlap, a_shared_set_counts_once)
{
    struct kvt_overlap o = overlap(held(2, (const char *const[]){"##..", "##.."}), held(2, (const char *const[]){"#.#.", "#.#."}));
    cr_assert_eq(o.cells, 1);
    o = overlap(held(2, (const char *const[]){"##..", "##.."}), held(2, (const char *const[]){"#.#.", "#..#"}));
    cr_assert_eq(o.cells, 2);
}

Test(overlap, steps)
{
    int32_t ev[] = {-1, 0, 3, 5, -2, KVT_NOT_YET};
    struct kvt_held h;
    uint8_t at0[] = {1, 0, 1, 1, 0, 0}, at3[] = {1, 0, 0, 1, 0, 0}, at9[] = {1, 0, 0, 0, 0, 0};
    cr_assert_eq(kvt_held_make(1, 1, 6, 6, ev, NULL, 0, &h, NULL), 0);
    cr_assert_arr_eq(h.kept, at0, 6);
    kvt_held_free(&h);
    cr_assert_eq(kvt_held_make(1, 1, 6, 6, ev, NULL, 3, &h, NULL), 0);
    cr_assert_arr_eq(h.kept, at3, 6);
    kvt_held_free(&h);
    cr_assert_eq(kvt_held_make(1, 1, 6, 6, ev, NULL, 9, &h, NULL), 0);
    cr_assert_arr_eq(h.kept, at9, 6);
    kvt_held_free(&h);
}

Test(overlap, the_null_knows_accident_from_agreement)
{
    enum { N = 600, SHIFTS = 400 };
    char a[N + 1] = "", b[N + 1] = "", near[N + 1] = "";
    struct kvt_rng rng;
    kvt_rng_seed(&rng, 11);
    for (int j = 0; j < N; j++) {
        a[j] = kvt_rng_below(&rng, 4) ? '.' : '#';
        b[j] = kvt_rng_below(&rng, 4) ? '.' : '#';
        near[j] = kvt_rng_below(&rng, 10) ? a[j] : b[j];
    }
    double gain[SHIFTS];
    struct { const char *other; bool agrees; } cases[] = {{b, false}, {near, true}};
    for (int i = 0; i < 2; i++) {
        struct kvt_held x = ONE(a), y = ONE(cases[i].other);
        struct kvt_overlap o;
        kvt_overlap_of(&x, &y, 0, 1, &o);
        cr_assert_eq(kvt_overlap_shifts(&x, &y, 0, 1, SHIFTS, &rng, gain, NULL), 0);
        struct kvt_running m = {0};
        int reach = 0;
        for (int s = 0; s < SHIFTS; s++) {
            kvt_running_add(&m, gain[s] / o.room);
            reach += gain[s] >= o.gain;
        }
        /* The mean over all shifts is exactly 0 but for the missing zero shift (O / N); SHIFTS draws leave sd / 20. */
        cr_assert_float_eq(kvt_running_mean(&m), 0, 5 * kvt_running_sd(&m) / 20 + 2.0 / N);
        cr_assert_eq(reach == 0, cases[i].agrees, "%d shifts reach it", reach);
        kvt_held_free(&x);
        kvt_held_free(&y);
    }
}

Test(overlap, kappa_and_coefficient)
{
    struct kvt_overlap o = overlap(ONE("##......"), ONE("#.#....."));
    NEAR(kvt_overlap_kappa(&o), 1.0 / 3); /* equal sizes: the same as O */
    NEAR(kvt_overlap_coefficient(&o), 0.5);
    o = overlap(ONE("####...."), ONE("##......"));
    /* x = 2, ab/n = 1: 2 (2 - 1) / (6 - 2); observed agreement 6/8, expected 1/2: (3/4 - 1/2) / (1 - 1/2) */
    NEAR(kvt_overlap_kappa(&o), 0.5);
    NEAR(kvt_overlap_coefficient(&o), 1);
    NEAR(kvt_overlap_adjusted(&o), 1);
}

/* Layers of one branch: two layers of two heads each. */
static struct kvt_held two_layers(const char *a0, const char *a1, const char *b0, const char *b1)
{
    struct kvt_held h = held(4, (const char *const[]){a0, a1, b0, b1});
    h.L = 2;
    h.G = 2;
    h.shared = realloc(h.shared, 2);
    h.shared[0] = !strcmp(a0, a1);
    h.shared[1] = !strcmp(b0, b1);
    return h;
}

Test(overlap, heads_of_two_layers_have_no_partners)
{
    struct kvt_held h = two_layers("##......", "..##....", "##......", "....##.."), swapped = two_layers("..##....", "##......", "....##..", "##......");
    struct kvt_overlap o, p;
    kvt_overlap_layers(&h, 0, 1, &o);
    cr_assert_eq(o.cells, 4);
    NEAR(kvt_overlap_jaccard(&o), 2.0 / 14); /* one pair of four agrees: 2 of 2 + 4 + 4 + 4 */
    kvt_overlap_layers(&swapped, 0, 1, &p);
    NEAR(kvt_overlap_adjusted(&p), kvt_overlap_adjusted(&o));
    kvt_overlap_heads(&h, 0, &o);
    cr_assert_eq(o.cells, 1);
    NEAR(kvt_overlap_jaccard(&o), 0);
    kvt_held_free(&h);
    kvt_held_free(&swapped);
    h = two_layers("##......", "##......", "##......", "....##..");
    kvt_overlap_layers(&h, 0, 1, &o);
    cr_assert_eq(o.cells, 2);
    kvt_overlap_heads(&h, 0, &o);
    cr_assert_eq(o.cells, 0);
    cr_assert(isnan(kvt_overlap_adjusted(&o)));
    kvt_held_free(&h);
}

Test(overlap, by_place)
{
    struct kvt_held a = ONE("##......##"), b = ONE("##....##");
    struct kvt_overlap o = {0};
    kvt_overlap_by_place(&a, &b, &o);
    /* from the start "##......" and "##....##": x = 2 of 2 and 4; from the end the same mirrored */
    cr_assert_eq(o.cells, 2);
    cr_assert_eq(o.universe, 16);
    NEAR(kvt_overlap_jaccard(&o), 0.5);
    NEAR(kvt_overlap_adjusted(&o), 1);
    int64_t slots, inside;
    struct kvt_held c = ONE("#P......#.");
    kvt_overlap_inside(&c, &a, &slots, &inside);
    cr_assert_eq(slots, 3);
    cr_assert_eq(inside, 3);
    kvt_overlap_inside(&a, &c, &slots, &inside);
    cr_assert_eq(slots, 4);
    cr_assert_eq(inside, 3);
    kvt_held_free(&a);
    kvt_held_free(&b);
    kvt_held_free(&c);
}

/* Every shift, against the definition token by token; lengths around a word of 64. */
Test(overlap, shifts_move_by_what_they_say)
{
    static const int length[] = {2, 5, 63, 64, 65, 130, 257};
    struct kvt_rng rng;
    kvt_rng_seed(&rng, 3);
    for (size_t i = 0; i < sizeof length / sizeof *length; i++) {
        int n = length[i];
        char a[300] = "", b[300] = "";
        for (int j = 0; j < n; j++) {
            a[j] = j == 0 || (j < n - 1 && kvt_rng_below(&rng, 2)) ? '#' : '.';
            b[j] = j == 1 || (j > 1 && kvt_rng_below(&rng, 3) == 0) ? '#' : '.';
        }
        struct kvt_held x = ONE(a), y = ONE(b);
        struct kvt_rng draw, again;
        kvt_rng_seed(&draw, 9);
        again = draw;
        double gain[20];
        cr_assert_eq(kvt_overlap_shifts(&x, &y, 0, 1, 20, &draw, gain, NULL), 0);
        for (int r = 0; r < 20; r++) {
            int s = 1 + (int)(kvt_rng_unit(&again) * (n - 1)), both = 0, na = 0, nb = 0;
            for (int j = 0; j < n; j++) {
                both += a[j] == '#' && b[(j + s) % n] == '#';
                na += a[j] == '#';
                nb += b[j] == '#';
            }
            NEAR(gain[r], both - (double)na * nb / n);
        }
        kvt_held_free(&x);
        kvt_held_free(&y);
    }
}

Test(rank, by_hand)
{
    uint8_t seen[4] = {0};
    NEAR(kvt_rbo((int32_t[]){0, 1}, (int32_t[]){0, 1}, 2, 0.5, seen), 1);
    NEAR(kvt_rbo((int32_t[]){0, 1}, (int32_t[]){1, 0}, 2, 0.5, seen), 0.5); /* X = 0, 2: 1/4 + 1/2 (0 + 1/2) */
    /* X/d = 1, 1/2, 2/3, 1 at p = 0.8: 0.8^4 + 0.2 (1 + 0.8/2 + 0.64 * 2/3 + 0.512) */
    NEAR(kvt_rbo((int32_t[]){0, 1, 2, 3}, (int32_t[]){0, 3, 1, 2}, 4, 0.8, seen), 0.4096 + 0.2 * (1 + 0.4 + 0.64 * 2 / 3 + 0.512));
    NEAR(kvt_rbo_random(2, 0.5), 0.25 + 0.5 * (0.5 + 0.5)); /* X/d = 1/2, 1 */
    NEAR(kvt_rbo((int32_t[]){0}, (int32_t[]){0}, 1, 0, seen), 1);
}

Test(rank, of_scores)
{
    struct kvt_held a = ONE("W##..."), b = ONE("W#.#..");
    float up[] = {9, 5, 4, 3, 2, 1}, same[] = {0, 50, 40, 30, 20, 10}, down[] = {9, 1, 2, 3, 4, 5};
    struct kvt_rank_result r;
    cr_assert_eq(kvt_rank_of(&a, up, 1, &b, same, 1, &r, NULL), 0);
    NEAR(r.rbo, 1); /* the protected token's score doesn't count */
    cr_assert_eq(r.cells, 1);
    cr_assert_eq(kvt_rank_of(&a, up, 1, &b, down, 1, &r, NULL), 0);
    /* five tokens in opposite order, p = 1/2: X = 0, 0, 1, 3, 5 */
    NEAR(r.rbo, 1.0 / 32 + 0.5 * (0.25 / 3 + 0.125 * 3 / 4 + 0.0625));
    cr_assert(r.random > r.rbo);
    kvt_held_free(&a);
    kvt_held_free(&b);
}

Test(cluster, average_linkage)
{
    /* 0 and 2 are most alike; 1 joins 3 next; then the two groups, at the mean of their four pairs. */
    static const double like[16] = {1, .1, .9, .2, .1, 1, .3, .6, .9, .3, 1, NAN, .2, .6, NAN, 1};
    struct kvt_join join[3];
    int order[4];
    cr_assert_eq(kvt_cluster(like, 4, join, order, NULL), 0);
    cr_assert(join[0].left == 0 && join[0].right == 2);
    cr_assert(join[1].left == 1 && join[1].right == 3);
    cr_assert(join[2].left == 4 && join[2].right == 5);
    NEAR(join[0].at, 0.9);
    NEAR(join[1].at, 0.6);
    NEAR(join[2].at, (0.1 + 0.2 + 0.3 + 0) / 4);
    cr_assert_arr_eq(order, ((int[]){0, 2, 1, 3}), sizeof order);
    cr_assert_eq(kvt_cluster(like, 1, join, order, NULL), 0);
    cr_assert_eq(order[0], 0);
}

/* Overlap of kept sets. Would catch: protected tokens counted as agreement, a set shared by all heads counted once a
 * head, a pair nested in each other below O = 1, a null that keeps the sets in place. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/overlap.h"
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

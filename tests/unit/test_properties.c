/* What must hold for any kept sets and any attention, on random ones: symmetry, bounds, heads in another order, tokens that everybody
 * protects, nesting, and chance. Would catch: a number that depends on which branch comes first or on the order of heads, a share above 1,
 * protected tokens that change an overlap, random keeping that looks like agreement or coherence, a null that calls independent keepers
 * different more often than it says. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/coherence.h"
#include "analyzers/damage.h"
#include "analyzers/overlap.h"
#include "analyzers/patterns.h"
#include "analyzers/rank.h"
#include "base/stats.h"
#include "handtrace.h"
#include "kernels/ops.h"

enum { L = 2, G = 3, MAX_N = 96, TRIALS = 300 };

/* Equal, or undefined on both sides. */
#define SAME(a, b) cr_assert((isnan(a) && isnan(b)) || fabs((a) - (b)) <= 1e-12, "%s = %.15g, %s = %.15g", #a, (double)(a), #b, (double)(b))
#define WITHIN(v, low, high) cr_assert(isnan(v) || ((v) >= (low) - 1e-12 && (v) <= (high) + 1e-12), "%s = %.15g", #v, (double)(v))

/* A branch as it is drawn: letters as in test_overlap.c, of L x G cells of n tokens. */
struct drawn { int n; char c[L * G][MAX_N]; };

static struct kvt_held held(const struct drawn *d)
{
    static const char letters[] = ".#WP";
    static const uint8_t reasons[] = {KVT_LEFT_SCORE, KVT_KEPT_SCORE, KVT_KEPT_WINDOW, KVT_KEPT_PROTECTED};
    int32_t ev[L * G * MAX_N];
    uint8_t reason[L * G * MAX_N];
    for (int c = 0; c < L * G; c++)
        for (int j = 0; j < d->n; j++) {
            ev[c * d->n + j] = d->c[c][j] == '.' ? 0 : -1;
            reason[c * d->n + j] = reasons[strchr(letters, d->c[c][j]) - letters];
        }
    struct kvt_held h;
    cr_assert_eq(kvt_held_make(L, G, d->n, d->n, ev, reason, 0, &h, NULL), 0);
    return h;
}

/* m of n tokens at random, in every cell anew. */
static void draw_tokens(struct drawn *d, int n, int m, struct kvt_rng *rng)
{
    d->n = n;
    for (int c = 0; c < L * G; c++) {
        memset(d->c[c], '.', MAX_N);
        for (int j = 0, left = m; j < n; j++)
            if ((int)kvt_rng_below(rng, (uint32_t)(n - j)) < left) {
                d->c[c][j] = '#';
                left--;
            }
    }
}

/* As methods keep: tokens, runs of 5, first ones protected and a window; sometimes a layer shares, sometimes it keeps all or nothing. */
static void draw_any(struct drawn *d, int n, struct kvt_rng *rng)
{
    draw_tokens(d, n, (int)kvt_rng_below(rng, (uint32_t)n + 1), rng);
    for (int c = 0; c < L * G; c++) {
        int kind = (int)kvt_rng_below(rng, 8);
        for (int j = 0; j < n; j++) {
            if (kind == 0)
                d->c[c][j] = d->c[c][j / 5 * 5];
            if (kind == 1 && j < 4)
                d->c[c][j] = 'P';
            if (kind == 2 && j >= n - 4)
                d->c[c][j] = 'W';
            if (kind == 3 && n % 5 == 0)
                d->c[c][j] = n % 2 ? '#' : '.';
        }
        if (kind == 4 && c % G)
            memcpy(d->c[c], d->c[c - 1], MAX_N);
    }
}

static int some_length(struct kvt_rng *rng) { return 12 + (int)kvt_rng_below(rng, MAX_N - 12); }

static void permute_heads(const struct drawn *d, const int *order, struct drawn *out)
{
    *out = *d;
    for (int c = 0; c < L * G; c++)
        memcpy(out->c[c], d->c[c / G * G + order[c % G]], MAX_N);
}

static struct kvt_overlap overlap(const struct drawn *a, const struct drawn *b)
{
    struct kvt_held ha = held(a), hb = held(b);
    struct kvt_overlap o;
    kvt_overlap_of(&ha, &hb, 0, L, &o);
    kvt_held_free(&ha);
    kvt_held_free(&hb);
    return o;
}

static void same_overlap(const struct kvt_overlap *a, const struct kvt_overlap *b)
{
    SAME(kvt_overlap_jaccard(a), kvt_overlap_jaccard(b));
    SAME(kvt_overlap_chance(a), kvt_overlap_chance(b));
    SAME(kvt_overlap_adjusted(a), kvt_overlap_adjusted(b));
    SAME(kvt_overlap_kappa(a), kvt_overlap_kappa(b));
    SAME(kvt_overlap_coefficient(a), kvt_overlap_coefficient(b));
    cr_assert_eq(a->cells, b->cells);
    cr_assert_eq(a->left_out, b->left_out);
}

Test(properties, overlap_is_symmetric_and_bounded)
{
    struct kvt_rng rng;
    struct drawn a, b;
    kvt_rng_seed(&rng, 1);
    for (int t = 0; t < TRIALS; t++) {
        int n = some_length(&rng);
        draw_any(&a, n, &rng);
        draw_any(&b, n, &rng);
        struct kvt_overlap ab = overlap(&a, &b), ba = overlap(&b, &a), aa = overlap(&a, &a);
        same_overlap(&ab, &ba);
        SAME(kvt_overlap_all_jaccard(&ab), kvt_overlap_all_jaccard(&ba));
        WITHIN(kvt_overlap_jaccard(&ab), 0, 1);
        WITHIN(kvt_overlap_all_jaccard(&ab), 0, 1);
        WITHIN(kvt_overlap_chance(&ab), 0, 1);
        WITHIN(kvt_overlap_coefficient(&ab), ab.cells > ab.left_out ? kvt_overlap_jaccard(&ab) : 0, 1);
        WITHIN(kvt_overlap_adjusted(&ab), -INFINITY, 1);
        WITHIN(kvt_overlap_kappa(&ab), -1, 1);
        WITHIN(fabs(kvt_overlap_kappa(&ab)), 0, fabs(kvt_overlap_adjusted(&ab))); /* the same gain over at least as much room */
        cr_assert(ab.left_out <= ab.cells && ab.cells <= L * G);
        if (aa.cells > aa.left_out) {
            SAME(kvt_overlap_jaccard(&aa), 1.0);
            SAME(kvt_overlap_adjusted(&aa), 1.0);
            SAME(kvt_overlap_kappa(&aa), 1.0);
        }
    }
}

Test(properties, the_order_of_heads_and_of_tokens_means_nothing_to_the_overlap)
{
    struct kvt_rng rng;
    struct drawn a, b, pa, pb;
    kvt_rng_seed(&rng, 2);
    static const int orders[][G] = {{1, 2, 0}, {2, 1, 0}, {0, 2, 1}};
    for (int t = 0; t < TRIALS; t++) {
        int n = some_length(&rng);
        draw_any(&a, n, &rng);
        draw_any(&b, n, &rng);
        struct kvt_overlap o = overlap(&a, &b);
        permute_heads(&a, orders[t % 3], &pa);
        permute_heads(&b, orders[t % 3], &pb);
        struct kvt_overlap p = overlap(&pa, &pb);
        same_overlap(&o, &p);
        struct kvt_held ha = held(&a), hp = held(&pa);
        struct kvt_overlap layers, layers_p, heads, heads_p;
        kvt_overlap_layers(&ha, 0, 1, &layers);
        kvt_overlap_layers(&hp, 0, 1, &layers_p);
        kvt_overlap_heads(&ha, 1, &heads);
        kvt_overlap_heads(&hp, 1, &heads_p);
        same_overlap(&layers, &layers_p);
        same_overlap(&heads, &heads_p);
        kvt_held_free(&ha);
        kvt_held_free(&hp);
        for (int c = 0; c < L * G; c++) /* the text backwards */
            for (int j = 0; j < n; j++) {
                pa.c[c][j] = a.c[c][n - 1 - j];
                pb.c[c][j] = b.c[c][n - 1 - j];
            }
        p = overlap(&pa, &pb);
        same_overlap(&o, &p);
    }
}

Test(properties, protected_tokens_change_only_what_counts_them)
{
    struct kvt_rng rng;
    struct drawn a, b;
    kvt_rng_seed(&rng, 3);
    for (int t = 0; t < TRIALS; t++) {
        int n = 12 + (int)kvt_rng_below(&rng, MAX_N - 20);
        draw_any(&a, n, &rng);
        draw_any(&b, n, &rng);
        struct kvt_overlap before = overlap(&a, &b);
        for (int c = 0; c < L * G; c++)
            for (int j = n; j < n + 8; j++) { /* by one side, by the other, by both; what the unprotecting side does there doesn't matter */
                a.c[c][j] = j % 3 == 0 ? 'W' : j % 2 ? '#' : 'P';
                b.c[c][j] = j % 3 == 0 ? '.' : 'P';
            }
        a.n = b.n = n + 8;
        struct kvt_overlap after = overlap(&a, &b);
        after.cells = before.cells; /* heads that shared a set may do so no more, or do so now */
        if (before.cells == L * G)
            same_overlap(&before, &after);
    }
}

Test(properties, a_set_inside_another_has_full_overlap)
{
    struct kvt_rng rng;
    struct drawn a, b;
    kvt_rng_seed(&rng, 4);
    for (int t = 0; t < TRIALS; t++) {
        int n = some_length(&rng);
        draw_tokens(&a, n, 2 + (int)kvt_rng_below(&rng, (uint32_t)n - 4), &rng);
        b = a;
        for (int c = 0; c < L * G; c++)
            for (int j = 0, first = 1; j < n; j++)
                if (b.c[c][j] == '#' && (!first || (first = 0)) && kvt_rng_below(&rng, 2))
                    b.c[c][j] = '.';
        struct kvt_overlap o = overlap(&a, &b);
        SAME(kvt_overlap_adjusted(&o), 1.0);
        SAME(kvt_overlap_coefficient(&o), 1.0);
        struct kvt_held ha = held(&a), hb = held(&b);
        int64_t slots, inside;
        kvt_overlap_inside(&hb, &ha, &slots, &inside);
        cr_assert_eq(slots, inside);
        kvt_held_free(&ha);
        kvt_held_free(&hb);
    }
}

/* Evictions in time: what is held later was held before. */
Test(properties, a_branch_only_loses)
{
    struct kvt_rng rng;
    int32_t ev[L * G * MAX_N];
    kvt_rng_seed(&rng, 5);
    for (int i = 0; i < L * G * MAX_N; i++)
        ev[i] = (int32_t)kvt_rng_below(&rng, 8) - 2; /* -2: in a prefill chunk, -1: never, 0: at prefill's end, 1 .. 5 */
    struct kvt_held now, next;
    cr_assert_eq(kvt_held_make(L, G, MAX_N, MAX_N, ev, NULL, 0, &now, NULL), 0);
    for (int step = 1; step <= 6; step++) {
        int64_t slots, inside;
        cr_assert_eq(kvt_held_make(L, G, MAX_N, MAX_N, ev, NULL, step, &next, NULL), 0);
        kvt_overlap_inside(&next, &now, &slots, &inside);
        cr_assert_eq(slots, inside);
        kvt_held_free(&now);
        now = next;
    }
    for (int i = 0; i < L * G * MAX_N; i++)
        cr_assert_eq(now.kept[i], ev[i] == -1);
    kvt_held_free(&now);
}

/* Two random keepers of k tokens: x is hypergeometric with variance k^2 (n-k)^2 / (n^2 (n-1)), so O has mean 0 and a deviation of
 * 1 / sqrt(cells (n - 1)). Over 400 pairs the mean lies within 4 of its standard errors of 0, and so does the sum of squares of 1. */
Test(properties, random_keepers_agree_at_chance_level)
{
    struct kvt_rng rng;
    struct drawn a, b;
    struct kvt_running z = {0};
    int pairs = 400, alarms = 0, shifts = 99;
    double gain[99];
    kvt_rng_seed(&rng, 6);
    for (int t = 0; t < pairs; t++) {
        draw_tokens(&a, 80, 20, &rng);
        draw_tokens(&b, 80, 20, &rng);
        struct kvt_overlap o = overlap(&a, &b);
        kvt_running_add(&z, kvt_overlap_adjusted(&o) * sqrt(L * G * 79.0));
        struct kvt_held ha = held(&a), hb = held(&b);
        cr_assert_eq(kvt_overlap_shifts(&ha, &hb, 0, L, shifts, &rng, gain, NULL), 0);
        int reach = 1;
        for (int r = 0; r < shifts; r++)
            reach += gain[r] >= o.gain - 1e-12;
        alarms += reach <= 5; /* p <= 0.05 */
        kvt_held_free(&ha);
        kvt_held_free(&hb);
    }
    WITHIN(kvt_running_mean(&z), -4 / sqrt(pairs), 4 / sqrt(pairs));
    WITHIN(kvt_running_sd(&z), 1 - 4 / sqrt(2.0 * pairs), 1 + 4 / sqrt(2.0 * pairs));
    /* 5 % and 4 standard errors: 9.4 %; it was 21 of 400 */
    cr_assert(alarms <= 0.094 * pairs, "%d of %d independent pairs called alike", alarms, pairs);
}

/* Independent keepers of runs of ten: what the null is for. By the hypergeometric law far more than 5 % of them would be "alike". */
Test(properties, runs_are_not_called_alike_too_often)
{
    struct kvt_rng rng;
    struct drawn a = {.n = 80}, b = {.n = 80};
    int pairs = 400, alarms = 0, naive = 0, shifts = 99;
    double gain[99];
    kvt_rng_seed(&rng, 7);
    for (int t = 0; t < pairs; t++) {
        for (int side = 0; side < 2; side++) { /* all cells hold the same runs, as layers tend to */
            struct drawn *d = side ? &b : &a;
            memset(d->c, '.', sizeof d->c);
            int first = (int)kvt_rng_below(&rng, 80), second = (first + 10 + (int)kvt_rng_below(&rng, 61)) % 80;
            for (int c = 0; c < L * G; c++)
                for (int j = 0; j < 10; j++)
                    d->c[c][(first + j) % 80] = d->c[c][(second + j) % 80] = '#';
        }
        struct kvt_overlap o = overlap(&a, &b);
        struct kvt_held ha = held(&a), hb = held(&b);
        cr_assert_eq(kvt_overlap_shifts(&ha, &hb, 0, L, shifts, &rng, gain, NULL), 0);
        int reach = 1;
        for (int r = 0; r < shifts; r++)
            reach += gain[r] >= o.gain - 1e-12;
        alarms += reach <= 5;
        naive += kvt_overlap_adjusted(&o) * sqrt(L * 79.0) > 1.645; /* heads share: L cells */
        kvt_held_free(&ha);
        kvt_held_free(&hb);
    }
    cr_assert(alarms <= 0.094 * pairs, "%d of %d", alarms, pairs); /* it was 8 of 400; the hypergeometric law alone: 151 */
    cr_assert(naive > 0.2 * pairs, "%d of %d", naive, pairs);
}

/* ---- coherence ---- */

enum { S = 4 };
static const int shot_at[S + 1] = {4, 14, 26, 40, 64};

struct world { struct kvt_trace_span span[3 * S + 2]; struct kvt_trace_info info; struct kvt_shot *shot; int n; };

static void make_world(struct world *w)
{
    memset(w, 0, sizeof *w);
    for (int i = 0; i < S; i++) {
        int at = shot_at[i], end = shot_at[i + 1], middle = (at + end) / 2;
        w->span[3 * i] = (struct kvt_trace_span){.name = "shot", .kind = "shot", .parent = -1, .start = at, .end = end};
        w->span[3 * i + 1] = (struct kvt_trace_span){.name = "q", .kind = "question", .parent = 3 * i, .start = at, .end = middle};
        w->span[3 * i + 2] = (struct kvt_trace_span){.name = "a", .kind = "answer", .parent = 3 * i, .start = middle, .end = end};
    }
    w->span[3 * S] = (struct kvt_trace_span){.name = "number", .kind = "number", .parent = 0, .start = 8, .end = 11};
    w->span[3 * S + 1] = (struct kvt_trace_span){.name = "sentence", .kind = "sentence", .parent = 3, .start = 14, .end = 20};
    w->info = (struct kvt_trace_info){.n_context = 70, .n_prompt = 70, .n_tok = 70, .n_spans = 3 * S + 2, .span = w->span};
    cr_assert_eq(kvt_shots(&w->info, &w->shot, &w->n, NULL), 0);
    cr_assert_eq(w->n, S);
}

static struct kvt_coherence_result coherence(const struct world *w, const struct drawn *d, int rounds)
{
    struct kvt_coherence_result r;
    struct kvt_rng rng;
    struct kvt_held h = held(d);
    kvt_rng_seed(&rng, 9);
    cr_assert_eq(kvt_coherence_of(&h, &w->info, w->shot, S, 0, L, 0.5, rounds, &rng, &r, NULL, NULL), 0);
    kvt_held_free(&h);
    return r;
}

Test(properties, coherence_is_bounded_and_knows_no_order_of_heads)
{
    struct kvt_rng rng;
    struct world w;
    struct drawn a, p;
    static const int order[G] = {2, 0, 1};
    make_world(&w);
    kvt_rng_seed(&rng, 10);
    for (int t = 0; t < TRIALS; t++) {
        draw_any(&a, 70, &rng);
        permute_heads(&a, order, &p);
        struct kvt_coherence_result r = coherence(&w, &a, 20), q = coherence(&w, &p, 20);
        SAME(r.adjusted, q.adjusted);
        SAME(r.null_mean, q.null_mean);
        SAME(r.null_high, q.null_high);
        SAME(r.whole_rate, q.whole_rate);
        SAME(r.fragments, q.fragments);
        SAME(r.fragments_random, q.fragments_random);
        SAME(r.gini, q.gini);
        SAME(r.answer_lost, q.answer_lost);
        SAME(r.kept, q.kept);
        cr_assert_eq(r.cells, q.cells);
        WITHIN(r.C, 0, 1);
        WITHIN(r.adjusted, -r.c0 / (1 - r.c0), 1);
        WITHIN(r.null_p, 1.0 / 21, 1);
        WITHIN(r.whole, 0, 1 - r.gone);
        WITHIN(r.whole_rate, 0, 1);
        WITHIN(r.gini, 0, (S - 1.0) / S);
        WITHIN(r.answer_lost, 0, 1);
        WITHIN(r.kept, 0, 1);
        struct kvt_held h = held(&a), hp = held(&p);
        struct kvt_damage x, y;
        struct kvt_agreement s, u;
        cr_assert_eq(kvt_damage_of(&h, &w.info, w.shot, S, 0.5, &x, NULL), 0);
        cr_assert_eq(kvt_damage_of(&hp, &w.info, w.shot, S, 0.5, &y, NULL), 0);
        cr_assert_eq(memcmp(&x, &y, sizeof x), 0);
        cr_assert(x.number.lost + x.number.cut <= x.number.parts && x.sentence.lost + x.sentence.cut <= x.sentence.parts && x.held <= x.tokens);
        cr_assert_eq(kvt_agreement_of(&h, w.shot, S, &s, NULL), 0);
        cr_assert_eq(kvt_agreement_of(&hp, w.shot, S, &u, NULL), 0);
        SAME(s.all, u.all);
        WITHIN(s.all, -1, 1);
        kvt_held_free(&h);
        kvt_held_free(&hp);
    }
    free(w.shot);
}

/* C* of random keeping has mean 0: over 400 draws within 4 standard errors. */
Test(properties, random_keeping_has_no_coherence)
{
    struct kvt_rng rng;
    struct world w;
    struct drawn a;
    struct kvt_running star = {0};
    make_world(&w);
    kvt_rng_seed(&rng, 11);
    for (int t = 0; t < 400; t++) {
        draw_tokens(&a, 70, 20, &rng);
        kvt_running_add(&star, coherence(&w, &a, 0).adjusted);
    }
    WITHIN(kvt_running_mean(&star), -4 * kvt_running_sd(&star) / 20, 4 * kvt_running_sd(&star) / 20);
    cr_assert(kvt_running_sd(&star) < 0.05);
    free(w.shot);
}

/* ---- ranks and shares ---- */

static void shuffle(int32_t *v, int n, struct kvt_rng *rng)
{
    for (int i = 0; i < n; i++)
        v[i] = i;
    for (int i = n - 1; i > 0; i--) {
        int j = (int)kvt_rng_below(rng, (uint32_t)i + 1);
        int32_t x = v[i];
        v[i] = v[j];
        v[j] = x;
    }
}

Test(properties, ranks_are_symmetric_bounded_and_random_ones_at_chance)
{
    struct kvt_rng rng;
    int32_t a[50], b[50];
    uint8_t seen[50] = {0};
    double x[50], y[50], rank[100];
    struct kvt_running rbo = {0}, rho = {0};
    kvt_rng_seed(&rng, 12);
    for (int t = 0; t < 1000; t++) {
        int n = 50;
        double p = 1 - 1.0 / 12;
        shuffle(a, n, &rng);
        shuffle(b, n, &rng);
        double v = kvt_rbo(a, b, n, p, seen);
        SAME(v, kvt_rbo(b, a, n, p, seen));
        WITHIN(v, 0, 1);
        SAME(kvt_rbo(a, a, n, p, seen), 1.0);
        kvt_running_add(&rbo, v - kvt_rbo_random(n, p));
        for (int i = 0; i < n; i++) {
            x[i] = a[i] / 4; /* with ties */
            y[i] = b[i] / 4;
        }
        double r = kvt_spearman(x, y, n, rank);
        SAME(r, kvt_spearman(y, x, n, rank));
        WITHIN(r, -1, 1);
        for (int i = 0; i < n; i++)
            x[i] = exp(x[i] / 9); /* any rising function of it ranks the same */
        SAME(r, kvt_spearman(x, y, n, rank));
        kvt_running_add(&rho, r);
    }
    WITHIN(kvt_running_mean(&rbo), -4 * kvt_running_sd(&rbo) / sqrt(1000), 4 * kvt_running_sd(&rbo) / sqrt(1000));
    WITHIN(kvt_running_mean(&rho), -4 / sqrt(49.0 * 1000), 4 / sqrt(49.0 * 1000)); /* variance 1 / (n - 1) */
}

/* Selectivity: in [0, 1], the same in any order of the shots and at any scale. */
Test(properties, selectivity_knows_no_order_and_no_scale)
{
    struct kvt_rng rng;
    kvt_rng_seed(&rng, 13);
    for (int t = 0; t < TRIALS; t++) {
        double a[6], size[6], b[6], other[6];
        for (int i = 0; i < 6; i++) {
            a[i] = kvt_rng_below(&rng, 4) ? kvt_rng_unit(&rng) : 0;
            size[i] = 1 + kvt_rng_below(&rng, 40);
        }
        for (int i = 0; i < 6; i++) {
            b[(i + 2) % 6] = 7 * a[i];
            other[(i + 2) % 6] = size[i];
        }
        WITHIN(kvt_selectivity(a, size, 6), 0, 1);
        SAME(kvt_selectivity(a, size, 6), kvt_selectivity(b, other, 6));
    }
}

/* ---- attention: query heads in another order ---- */

static void heads_of(const char *const *head, struct kvt_head *out)
{
    char text[] = "/tmp/kvt-properties-XXXXXX", trace[64];
    int fd = mkstemp(text);
    cr_assert(fd >= 0);
    FILE *f = fdopen(fd, "w");
    fprintf(f, "shape 1 4 2\ntokens");
    for (int i = 0; i < 40; i++)
        fprintf(f, " t%d", i);
    fprintf(f, "\ncontext 40\nsteps 0\nspan all prompt - 0 40\n");
    for (int h = 0; h < 4; h++)
        fprintf(f, "head 0 %d %s\n", h, head[h]);
    cr_assert_eq(fclose(f), 0);
    snprintf(trace, sizeof trace, "%s.h5", text);
    struct kvt_err err;
    struct kvt_trace *t = NULL;
    cr_assert_eq(kvt_handtrace(text, trace, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_trace_open(&t, trace, NULL, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_heads_of(t, 0, out, &err), 0, "%s", err.text);
    kvt_trace_close(&t);
    unlink(text);
    unlink(trace);
}

Test(properties, a_head_is_what_it_is_wherever_it_stands)
{
    static const char *const head[4] = {"1 uniform", "1/2 first 1/2 previous", "1/4 7 1/4 20 1/2 self", "1 previous"};
    static const int order[4] = {2, 0, 3, 1};
    const char *moved[4];
    struct kvt_head a[4], b[4];
    for (int h = 0; h < 4; h++)
        moved[h] = head[order[h]];
    heads_of(head, a);
    heads_of(moved, b);
    for (int h = 0; h < 4; h++) {
        SAME(b[h].evenness, a[order[h]].evenness);
        SAME(b[h].keys, a[order[h]].keys);
        SAME(b[h].first, a[order[h]].first);
        SAME(b[h].sinks, a[order[h]].sinks);
        SAME(b[h].local, a[order[h]].local);
        SAME(b[h].self, a[order[h]].self);
        SAME(b[h].previous, a[order[h]].previous);
        for (int k = 0; k < 3; k++) {
            SAME(b[h].hold[k], a[order[h]].hold[k]);
            SAME(b[h].hold_rest[k], a[order[h]].hold_rest[k]);
            WITHIN(b[h].hold[k], k ? b[h].hold[k - 1] : 1.0 / 40, 1);
        }
        WITHIN(b[h].evenness, 0, 1 + 1e-6); /* entropies are f32 */
        WITHIN(b[h].first, 0, 1);
    }
}

/* The evictor against small cases computed by hand: what stays, what leaves, in which order, and what is reported. */
#include "evict_rig.h"

static const struct kvt_ops *const backends[] = {&kvt_ops_ref, &kvt_ops_cpu};
#define EACH_BACKEND(ops)                                                                          \
    for (size_t b_ = 0; b_ < sizeof backends / sizeof *backends; b_++)                             \
        for (const struct kvt_ops *ops = backends[b_]; ops; ops = NULL)

static const int no_window[1];

/* Would catch: sinks lost, the window one slot off, positions instead of slots, an off-by-one in the budget. */
Test(evict, streaming_keeps_sinks_and_newest)
{
    EACH_BACKEND(ops) {
        struct rig r;
        rig_open(&r, ops, 1, 2, 2, 1, 100, 100, 8, 2, no_window, 0);
        struct kvt_evictor *e = rig_evict(&r, 1, "streaming", rig_tokens(50)); /* methods.md 0.6: 0-3 and 54-99 */
        int32_t want[50];
        for (int i = 0; i < 50; i++)
            want[i] = i < 4 ? i : 50 + i;
        for (int l = 0; l < 2; l++)
            rig_expect(&r, 1, l, 0, want, 50, "prefill");
        cr_assert_float_eq(r.effective, 0.5, 1e-12);
        /* each new token pushes the oldest one out that is no sink */
        for (int s = 1; s <= 3; s++)
            for (int l = 0; l < 2; l++)
                rig_step(&r, e, 1, l, 99 + s, s, NULL, 0);
        for (int i = 4; i < 50; i++)
            want[i] = 53 + i;
        rig_expect(&r, 1, 1, 0, want, 50, "after 3 steps");
        cr_assert_eq(r.n_lost, 6);
        cr_assert_eq(r.lost[0].pos, 54);
        cr_assert_eq(r.lost[5].pos, 56);
        cr_assert_eq(r.lost[5].step, 3);
        kvt_evictor_close(&e);
        rig_close(&r);
    }
}

/* A share grows with the tokens seen. Would catch: a share taken of the prompt for good. */
Test(evict, share_follows_tokens_seen)
{
    EACH_BACKEND(ops) {
        struct rig r;
        rig_open(&r, ops, 1, 1, 1, 1, 20, 20, 20, 2, no_window, 0);
        struct kvt_evictor *e = rig_evict(&r, 1, "streaming[sinks=1]", rig_keep(500000));
        int32_t at[40];
        for (int s = 1; s <= 20; s++) {
            rig_step(&r, e, 1, 0, 19 + s, s, NULL, 0);
            cr_assert_eq(rig_positions(&r, 1, 0, 0, at), (20 + s) / 2, "after %d steps", s);
        }
        kvt_evictor_close(&e);
        rig_close(&r);
    }
}

/* H2O by hand: H 2 over G 1, context 6, budget 4: recent 2, heavy 2. Slots are written in their order.
 * prefill  mean mass 5 1 3 2 2.5 .5: heavy are 0 and 2, recent 4 and 5.
 * step 1   slots 0 2 4 5 6 have 5.1 3.1 2.9 .6 .3; 5 and 6 are recent; 4 leaves, 6 takes its slot.
 * step 2   slots 0 2 6 5 7 have 5.1 3.1 .3 1.2 4; 5 leaves, 7 takes its slot.
 * step 3   slots 0 2 6 7 8 have 5.2 3.2 .8 4.2 .1; 6 leaves (with the sum of 4, whose slot it has, it would stay).
 * step 4   slots 0 2 8 7 9 have 5.3 3.3 .6 4.3 .1; 2 leaves.
 * step 5   slots 0 9 8 7 10 have 5.4 .2 .7 4.4 .1; 8 leaves (with what 7 left behind in its first slot it would stay).
 * Would catch: state that doesn't move with its slot, a new slot that inherits an old sum, the current row left out. */
Test(evict, h2o_by_hand)
{
    static const float mass[2][6] = {{6, 1, 2, 2, 3, 0}, {4, 1, 4, 2, 2, 1}};
    static const float row[5][2][5] = {{{.2f, 0, .4f, .1f, .3f}, {0, .2f, .4f, .1f, .3f}},
                                       {{0, 0, 0, .6f, 4}, {0, 0, 0, .6f, 4}},
                                       {{.1f, .1f, .5f, .2f, .1f}, {.1f, .1f, .5f, .2f, .1f}},
                                       {{.1f, .1f, .5f, .1f, .1f}, {.1f, .1f, .5f, .1f, .1f}},
                                       {{.1f, .1f, .1f, .1f, .1f}, {.1f, .1f, .1f, .1f, .1f}}};
    static const int lost[5] = {4, 5, 6, 2, 8};
    EACH_BACKEND(ops) {
        struct rig r;
        rig_open(&r, ops, 1, 1, 2, 1, 6, 6, 5, 3, no_window, 0);
        rig_scores(&r, 0, mass[0]);
        struct kvt_evictor *e = rig_evict(&r, 1, "h2o", rig_tokens(4)), *f = NULL;
        RIG_EXPECT(&r, 1, 0, 0, "prefill", 0, 2, 4, 5);
        cr_assert_eq(r.reason[0], KVT_KEPT_SCORE);
        cr_assert_eq(r.reason[1], KVT_LEFT_SCORE);
        cr_assert_eq(r.reason[5], KVT_KEPT_WINDOW);
        cr_assert_eq(r.threshold[0], 3.0f);
        cr_assert(isnan(r.decided[4]), "what is protected isn't ranked");
        for (int s = 1; s <= 5; s++) {
            rig_step(&r, e, 1, 0, 5 + s, s, row[s - 1][0], 5);
            cr_assert_eq(r.n_lost, s);
            cr_assert_eq(r.lost[s - 1].pos, lost[s - 1], "step %d: %d left", s, r.lost[s - 1].pos);
            struct kvt_err err;
            if (s == 1) { /* from here on a fork goes its own way */
                cr_assert_eq(ops->cache_fork(r.dev, r.cache, 1, 2), 0);
                cr_assert_eq(kvt_evictor_fork(&f, e, 2, &err), 0);
            }
        }
        RIG_EXPECT(&r, 1, 0, 0, "step 5", 0, 7, 9, 10);
        for (int s = 2; s <= 5; s++)
            rig_step(&r, f, 2, 0, 5 + s, s, row[s - 1][0], 5);
        RIG_EXPECT(&r, 2, 0, 0, "fork", 0, 7, 9, 10);
        cr_assert_eq(r.n_lost, 5, "a fork says nothing");
        kvt_evictor_close(&e);
        kvt_evictor_close(&f);
        rig_close(&r);
    }
}

/* With norm=visible the sum is divided by the rows that saw the slot. Prefill of 6: means .58 .2 .25 .33 1.5 1.1: 0, 4
 * and 5 stay. Position 6: 3.5 / 7, 3 / 3 and 1.1 / 2: 0 leaves. Would catch: rows counted one off. */
Test(evict, h2o_visible_mean)
{
    static const float mass[1][6] = {{3.5f, 1, 1, 1, 3, 1.1f}}, row[1][4] = {{0, 0, 0, 1}};
    /* 6 slots of a prefill of 8: 8 / 8 is more than 2.4 / 3; counted from the context's end it would be less */
    static const float question[1][8] = {{8, 0, 0, 0, 0, 2.4f, 9, 9}};
    EACH_BACKEND(ops) {
        struct rig r;
        rig_open(&r, ops, 1, 1, 1, 1, 6, 6, 4, 2, no_window, 0);
        rig_scores(&r, 0, mass[0]);
        struct kvt_evictor *e = rig_evict(&r, 1, "h2o[norm=visible,recent=1]", rig_tokens(3));
        RIG_EXPECT(&r, 1, 0, 0, "prefill", 0, 4, 5);
        rig_step(&r, e, 1, 0, 6, 1, row[0], 4);
        RIG_EXPECT(&r, 1, 0, 0, "step", 4, 5, 6);
        kvt_evictor_close(&e);
        rig_close(&r);
        rig_open(&r, ops, 1, 1, 1, 1, 8, 6, 0, 2, no_window, 0);
        rig_scores(&r, 0, question[0]);
        e = rig_evict(&r, 1, "h2o[norm=visible,recent=0,schedule=prefill]", rig_tokens(1));
        RIG_EXPECT(&r, 1, 0, 0, "rows of the question count", 0);
        kvt_evictor_close(&e);
        rig_close(&r);
    }
}

static const int32_t three_shots[] = {1, 3, 3, 6, 7, 9};

/* ShotKV by hand: context 10, shots [1,3) [3,6) [7,9), outside 0, 6 and 9. Two layers, mass as below (one head).
 * Layer 0 means: 2, 3, 1; layer 1: 4, 1, 2. Budget 8: 3 outside + 5. Layer 0 takes 3..5 and then 1..2: 8. Layer 1 takes
 * 1..2 (5), then 7..8 (7), and the 3 tokens of the second don't fit. Summed over layers: 6, 4, 3: first, second, full.
 * Would catch: sums instead of means, a greedy that goes on after the budget, layers mixed up. */
static void shot_rig(struct rig *r, const struct kvt_ops *ops)
{
    static const float mass[2][10] = {{9, 1, 3, 3, 3, 3, 9, 1, 1, 9}, {9, 4, 4, 1, 1, 1, 9, 2, 2, 9}};
    rig_open(r, ops, 1, 2, 1, 1, 10, 10, 8, 5, no_window, 0);
    r->env.shot = three_shots;
    r->env.n_shots = 3;
    rig_scores(r, 0, mass[0]);
}

Test(evict, shotkv_by_hand)
{
    EACH_BACKEND(ops) {
        struct rig r;
        shot_rig(&r, ops);
        struct kvt_evictor *e = rig_evict(&r, 1, "shotkv", rig_keep(800000));
        RIG_EXPECT(&r, 1, 0, 0, "layer 0", 0, 1, 2, 3, 4, 5, 6, 9);
        RIG_EXPECT(&r, 1, 1, 0, "layer 1", 0, 1, 2, 6, 7, 8, 9);
        cr_assert_eq(r.reason[1], KVT_KEPT_UNIT);
        cr_assert_eq(r.reason[7], KVT_LEFT_UNIT);
        cr_assert_eq(r.reason[0], KVT_KEPT_PROTECTED);
        cr_assert_eq(r.reason[10 + 3], KVT_LEFT_BUDGET, "it would have come next, but didn't fit");
        cr_assert_eq(r.decided[4], 3.0f, "a slot's score is its unit's");
        cr_assert(isnan(r.decided[6]), "text between shots isn't ranked");
        kvt_evictor_close(&e);
        e = rig_evict(&r, 2, "shotkv[scope=all_layers]", rig_keep(800000));
        for (int l = 0; l < 2; l++)
            RIG_EXPECT(&r, 2, l, 0, "all layers", 0, 1, 2, 3, 4, 5, 6, 9);
        kvt_evictor_close(&e);
        /* 6 tokens leave 3: the best shot of layer 0 fits; in layer 1 the best one, then nothing or the smaller */
        e = rig_evict(&r, 3, "shotkv[overflow=skip]", rig_tokens(5));
        RIG_EXPECT(&r, 3, 0, 0, "skip", 0, 1, 2, 6, 9);
        kvt_evictor_close(&e);
        e = rig_evict(&r, 4, "shotkv", rig_tokens(5));
        RIG_EXPECT(&r, 4, 0, 0, "stop: the best doesn't fit, none stays", 0, 6, 9);
        RIG_EXPECT(&r, 4, 1, 0, "stop", 0, 1, 2, 6, 9);
        kvt_evictor_close(&e);
        cr_assert_eq(ops->cache_drop(r.dev, r.cache, 4), 0);
        e = rig_evict(&r, 4, "shotkv[force=1]", rig_tokens(4));
        RIG_EXPECT(&r, 4, 0, 0, "force", 0, 3, 4, 5, 6, 9);
        kvt_evictor_close(&e);
        rig_close(&r);
    }
}

/* Decode half at 50 %: of m generated tokens max(1, floor(m / 2)) stay, the newest always, by the current row alone.
 * Prefill at 30 %: no shot fits, 0 6 9 stay. Rows over slots 0 6 9 and the generated ones.
 * Would catch: prefill slots that leave, a share of the current cache (which empties it), a row that accumulates. */
Test(evict, shotkv_decode_by_hand)
{
    EACH_BACKEND(ops) {
        struct rig r;
        shot_rig(&r, ops);
        struct kvt_evictor *e = rig_evict(&r, 1, "shotkv[decode=50%]", rig_keep(300000));
        cr_assert(kvt_evictor_wants_row(e));
        static const float row1[] = {0, 0, 0, 1}, row2[] = {0, 0, 0, .9f, .1f}, row3[] = {0, 0, 0, .9f, .1f},
                           row4[] = {0, 0, 0, .2f, .1f}, row5[] = {0, 0, 0, .2f, .3f, .1f};
        rig_step(&r, e, 1, 0, 10, 1, row1, 4);
        RIG_EXPECT(&r, 1, 0, 0, "m 1 keeps 1", 0, 6, 9, 10);
        rig_step(&r, e, 1, 0, 11, 2, row2, 5);
        RIG_EXPECT(&r, 1, 0, 0, "m 2 keeps 1, the newest", 0, 6, 9, 11);
        rig_step(&r, e, 1, 0, 12, 3, row3, 5);
        RIG_EXPECT(&r, 1, 0, 0, "m 3 keeps 1", 0, 6, 9, 12);
        rig_step(&r, e, 1, 0, 13, 4, row4, 5);
        RIG_EXPECT(&r, 1, 0, 0, "m 4 keeps 2", 0, 6, 9, 12, 13);
        rig_step(&r, e, 1, 0, 14, 5, row5, 6);
        RIG_EXPECT(&r, 1, 0, 0, "m 5 keeps 2: of 12 and 13 the one with more now", 0, 6, 9, 13, 14);
        kvt_evictor_close(&e);
        rig_close(&r);
    }
}

/* heads=each: cells of one layer hold different numbers of slots. Shots [0,2) and [2,6): head 0 keeps the first, head 1
 * the second. At 75 % of generated tokens 6 leaves at step 2; at step 5 head 0 has 7 8 9 10 in slots 2 to 5, head 1 in
 * slots 4 to 7, and each drops the one with the least. Would catch: a row reduced only as far as the first head's
 * slots. */
Test(evict, shotkv_heads_of_different_length)
{
    static const float mass[2][6] = {{9, 9, 1, 1, 1, 1}, {1, 1, 9, 9, 9, 9}}, zero[2][8] = {{0}};
    static const float row5[2][8] = {{0, 0, .1f, .5f, .3f, .2f, 0, 0}, {0, 0, 0, 0, .5f, .1f, .3f, .2f}};
    static const int32_t shot[] = {0, 2, 2, 6};
    EACH_BACKEND(ops) {
        struct rig r;
        rig_open(&r, ops, 1, 1, 2, 2, 6, 6, 5, 2, no_window, 0);
        r.env.shot = shot;
        r.env.n_shots = 2;
        rig_scores(&r, 0, mass[0]);
        struct kvt_evictor *e = rig_evict(&r, 1, "shotkv[heads=each,decode=75%]", rig_tokens(4));
        RIG_EXPECT(&r, 1, 0, 0, "head 0", 0, 1);
        RIG_EXPECT(&r, 1, 0, 1, "head 1", 2, 3, 4, 5);
        for (int s = 1; s <= 5; s++)
            rig_step(&r, e, 1, 0, 5 + s, s, s < 5 ? zero[0] : row5[0], 8);
        RIG_EXPECT(&r, 1, 0, 0, "head 0", 0, 1, 8, 9, 10);
        RIG_EXPECT(&r, 1, 0, 1, "head 1", 2, 3, 4, 5, 7, 9, 10);
        kvt_evictor_close(&e);
        rig_close(&r);
    }
}

/* The question may come in one block without calls; its tokens stay. Would catch: a count of live slots that is wrong
 * then, the question taken for generated text. */
Test(evict, shotkv_decode_after_a_block)
{
    static const float mass[12] = {0}, row1[] = {0, 0, 0, 0, 0, .9f}, row2[] = {0, 0, 0, 0, 0, .9f, .1f};
    EACH_BACKEND(ops) {
        struct rig r;
        rig_open(&r, ops, 1, 1, 1, 1, 12, 10, 8, 2, no_window, 0);
        r.env.shot = three_shots;
        r.env.n_shots = 3;
        rig_scores(&r, 0, mass);
        struct kvt_evictor *e = rig_evict(&r, 1, "shotkv[decode=40%]", rig_keep(300000));
        cr_assert(kvt_evictor_steps(e) && !kvt_evictor_slides(e));
        rig_append(&r, 1, 0, 10, 12);
        rig_step(&r, e, 1, 0, 12, 1, row1, 6);
        rig_step(&r, e, 1, 0, 13, 2, row2, 7);
        RIG_EXPECT(&r, 1, 0, 0, "one of two generated tokens", 0, 6, 9, 10, 11, 13);
        kvt_evictor_close(&e);
        rig_close(&r);
    }
}

/* Ada-KV's numbers of methods.md 0.6: 100 slots a head beside the window, 250, 100, 40 and 10 of the layer's best 400 in its four
 * heads, a fifth of each budget its own: 220, 100, 52 and 28. Would catch: the share on the wrong part, the window counted in. */
Test(evict, adakv_head_budgets)
{
    static const int won[4] = {250, 100, 40, 10}, want[4] = {220, 100, 52, 28}, w = 1;
    static const char *const rule[] = {"adakv[w=1,pool=none,alpha=20%]", "adakv[w=1,pool=none,alpha=20%,head_rule=official]"};
    enum { N = 301 };
    static float score[4][N];
    for (int h = 0; h < 4; h++)
        for (int j = 0; j < N; j++)
            score[h][j] = (float)(j < won[h] ? 2 : 1) - (float)j / (2 * N);
    EACH_BACKEND(ops) {
        struct rig r;
        rig_open(&r, ops, 1, 1, 4, 4, N, N, 0, 3, &w, 1);
        rig_scores(&r, 1, score[0]);
        for (int i = 0; i < 2; i++) {
            struct kvt_evictor *e = rig_evict(&r, 1 + i, rule[i], rig_tokens(101));
            for (int h = 0; h < 4; h++)
                cr_assert_eq(r.kept_tok[h], want[h] + 1, "%s: head %d keeps %d", rule[i], h, r.kept_tok[h]);
            kvt_evictor_close(&e);
        }
        rig_close(&r);
    }
}

/* Equal scores: the earlier position stays. Would catch: an unstable selection. */
Test(evict, ties_go_to_the_earlier_position)
{
    EACH_BACKEND(ops) {
        struct rig r;
        static const int w = 4;
        rig_open(&r, ops, 2, 1, 1, 1, 40, 40, 0, 3, &w, 1);
        struct kvt_evictor *e = rig_evict(&r, 1, "snapkv[w=4]", rig_tokens(10)); /* every score is 0 */
        RIG_EXPECT(&r, 1, 0, 0, "tokens", 0, 1, 2, 3, 4, 5, 36, 37, 38, 39);
        kvt_evictor_close(&e);
        e = rig_evict(&r, 2, "chunkkv[w=4,chunk=3]", rig_tokens(10)); /* floor(6 / 3) chunks */
        RIG_EXPECT(&r, 2, 0, 0, "chunks", 0, 1, 2, 3, 4, 5, 36, 37, 38, 39);
        kvt_evictor_close(&e);
        rig_close(&r);
    }
}

/* A share of its own is what a method gets of the context, whatever counts it, and layers get what they are allotted. Would
 * catch: the branch's budget used in some of the places. */
Test(evict, own_share_of_the_context)
{
    EACH_BACKEND(ops) {
        struct rig r;
        rig_open(&r, ops, 1, 2, 1, 1, 40, 40, 0, 6, NULL, 0);
        struct kvt_evictor *e = rig_evict(&r, 1, "my[score=mass,prefill=25%]", rig_keep(1000000)); /* every score is 0 */
        RIG_EXPECT(&r, 1, 0, 0, "of everything", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
        kvt_evictor_close(&e);
        e = rig_evict(&r, 2, "my[score=mass,unit=chunk,chunk=5,count=kvpress,prefill=25%]", rig_keep(500000));
        RIG_EXPECT(&r, 2, 0, 0, "chunks", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
        kvt_evictor_close(&e);
        e = rig_evict(&r, 3, "my[score=mass,within=20,prefill=10%]", rig_keep(500000));
        RIG_EXPECT(&r, 3, 0, 0, "stretches", 0, 1, 20, 21);
        kvt_evictor_close(&e);
        e = rig_evict(&r, 4, "my[score=mass,unit=chunk,chunk=1,count=kvpress,alloc=pyramid]", rig_keep(500000));
        RIG_EXPECT(&r, 4, 1, 0, "the last layer's chunks", 0); /* 39 and 1: 20 a layer from 2 x 20 - 1 down to 20 / 20 */
        kvt_evictor_close(&e);
        rig_close(&r);
    }
}

/* Would catch: heads' rounding that is chosen at prefill's end and forgotten every N tokens. */
Test(evict, heads_are_rounded_as_asked_every_n_tokens)
{
    static const char *const rule[] = {"blend", "official"};
    int total[2] = {0}, differ = 0;
    for (int seed = 0; seed < 8; seed++) {
        struct rig r;
        rig_open(&r, &kvt_ops_cpu, 1, 1, 3, 3, 41, 41, 1, 3, NULL, 0);
        for (int i = 0; i < 2; i++) {
            char spec[160];
            snprintf(spec, sizeof spec, "my[score=random,seed=%d,alloc=head,head_rule=%s,prefill=100%%,schedule=every,every=1]", seed, rule[i]);
            struct kvt_evictor *e = rig_evict(&r, 1 + i, spec, rig_tokens(13));
            rig_step(&r, e, 1 + i, 0, 41, 1, NULL, 0);
            total[i] = 0;
            for (int g = 0; g < 3; g++)
                total[i] += kvt_evictor_held(e)[g];
            kvt_evictor_close(&e);
        }
        cr_assert_eq(total[0], 3 * 13);
        differ += total[1] != total[0];
        rig_close(&r);
    }
    cr_assert(differ > 0);
}

/* Max pooling and the group mean don't commute. Heads 8 0 0 0 and 0 6 0 0 at width 3: pooled first, both maxima reach
 * slots 0 and 1: 7 7 3 0; averaged first, 4 3 0 0 becomes 4 4 3 0. Would catch: the order option ignored. */
Test(evict, pooling_order)
{
    static const float mass[2][8] = {{8, 0, 0, 0, 0, 0, 0, 0}, {0, 6, 0, 0, 0, 0, 0, 0}};
    static const int w = 2;
    EACH_BACKEND(ops) {
        struct rig r;
        rig_open(&r, ops, 1, 1, 2, 1, 8, 8, 0, 3, &w, 1);
        rig_scores(&r, 1, mass[0]);
        struct kvt_evictor *e = rig_evict(&r, 1, "snapkv[w=2,pool=max3]", rig_tokens(4));
        cr_assert(r.decided[0] == 7 && r.decided[1] == 7 && r.decided[2] == 3 && r.decided[3] == 0,
                  "pool first: %g %g %g", (double)r.decided[0], (double)r.decided[1], (double)r.decided[2]);
        kvt_evictor_close(&e);
        e = rig_evict(&r, 2, "snapkv[w=2,pool=max3,order=group-first]", rig_tokens(4));
        cr_assert(r.decided[0] == 4 && r.decided[1] == 4 && r.decided[2] == 3 && r.decided[3] == 0, "group first");
        kvt_evictor_close(&e);
        rig_close(&r);
    }
}

/* Pooling and chunks end where the question or the window begins: its mass must not lift the context's last slots.
 * Would catch: a pool over all columns. */
Test(evict, question_does_not_bleed)
{
    static const float mass[1][12] = {{1, 0, 2, 0, 0, 0, 0, 0, 9, 9, 9, 9}};
    static const int w = 4;
    EACH_BACKEND(ops) {
        struct rig r;
        rig_open(&r, ops, 1, 1, 1, 1, 12, 8, 0, 2, &w, 1);
        rig_scores(&r, 1, mass[0]);
        struct kvt_evictor *e = rig_evict(&r, 1, "snapkv[w=4,pool=max3]", rig_tokens(4));
        RIG_EXPECT(&r, 1, 0, 0, "kept", 0, 1, 2, 3);
        kvt_evictor_close(&e);
        rig_close(&r);
    }
}

/* What can't work is refused before anything runs, with the numbers. Would catch: a run that fails in the middle. */
Test(evict, bad_input_is_refused)
{
    static const struct {
        const char *method;
        int tokens, n_prompt, n_context, n_shots;
        const char *says;
    } c[] = {
        {"shotkv", 20, 100, 90, 0, "shots"},
        {"snapkv", 20, 30, 30, 0, "window of 32"},
        {"snapkv", 20, 100, 100, 0, "budget of 20 of 100 context tokens is below the 32"},
        {"chunkkv", 32, 100, 100, 0, "below the 33"},
        {"streaming", 4, 100, 90, 0, "below the 5"},
        {"random", 4, 100, 0, 0, "no context"},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct kvt_spec spec;
        struct kvt_err err = {0};
        rig_spec(&spec, c[i].method);
        struct kvt_budget b = rig_tokens(c[i].tokens);
        cr_assert_eq(kvt_evict_check(&spec, &b, c[i].n_prompt, c[i].n_context, c[i].n_shots, &err), KVT_EINPUT, "%s",
                     c[i].method);
        cr_assert(strstr(err.text, c[i].says), "%s", err.text);
    }
    struct kvt_spec spec;
    struct kvt_err err = {0};
    struct kvt_budget b = rig_tokens(20);
    rig_spec(&spec, "snapkv"); /* in the default protocol the window lies in the question: nothing is protected */
    cr_assert_eq(kvt_evict_check(&spec, &b, 132, 100, 0, &err), 0, "%s", err.text);
}

/* Each window is observed once, and one too many is said, not guessed. */
Test(evict, needs)
{
    struct kvt_needs needs = {0};
    struct kvt_spec spec;
    char text[32];
    rig_spec(&spec, "h2o");
    kvt_spec_needs(&spec, &needs);
    rig_spec(&spec, "snapkv");
    kvt_spec_needs(&spec, &needs);
    rig_spec(&spec, "chunkkv");
    kvt_spec_needs(&spec, &needs);
    cr_assert(needs.mass && !needs.last && needs.n_windows == 1 && needs.window[0] == 32);
    for (int w = 1; w <= 9; w++) {
        snprintf(text, sizeof text, "snapkv[w=%d]", w);
        rig_spec(&spec, text);
        kvt_spec_needs(&spec, &needs);
    }
    cr_assert_eq(needs.n_windows, KVT_MAX_WINDOWS);
    struct rig r;
    struct kvt_err err = {0};
    static const int w = 4;
    rig_open(&r, &kvt_ops_ref, 1, 1, 1, 1, 40, 40, 0, 2, &w, 1);
    struct kvt_budget b = rig_tokens(20);
    struct kvt_evictor *e = NULL;
    cr_assert_eq(kvt_evictor_open(&e, &r.env, 0, &spec, &b, &err), 0);
    cr_assert_eq(kvt_evict_prefill(e, &r.raw, &err), KVT_EUSAGE);
    cr_assert(strstr(err.text, "windows"), "%s", err.text);
    kvt_evictor_close(&e);
    rig_close(&r);
}

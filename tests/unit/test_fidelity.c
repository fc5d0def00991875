/* Fidelity to the full branch. Would catch: mass counted on slots still held or only at prefill's end, heads of another
 * group, sinks that stay in the sum, a row of the wrong token, an output that isn't renormalised, a free-running row taken
 * for the forced one. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvt/session.h"
#include "mkmodel.h"

enum { N_PROMPT = 60, N_NEW = 9, N = N_PROMPT + N_NEW, MAX_B = 9, L = 3, H = 6, G = 2 };

static const int32_t shots[] = { 4, 14, 14, 26, 26, 40 };

/* ---- the operation, by hand ---- */

/* Four positions, one head, D = 2. p = (1/2, 1/4, 1/8, 1/8), v = (8, 0), (0, 8), (8, 8), (0, 0):
 * out = (5, 3). A branch that holds positions 0 and 2: lost 3/8; without position 0 as sink (1/4 + 1/8) / (1/2) = 3/4;
 * restricted (4 + 1, 1) / (5/8) = (8, 1.6): error |(3, -1.4)| / |(5, 3)| = sqrt(10.96 / 34). */
Test(fidelity, by_hand)
{
    static const float k[4][2] = { { 0, 0 } }, v[4][2] = { { 8, 0 }, { 0, 8 }, { 8, 8 }, { 0, 0 } }, p[4] = { .5f, .25f, .125f, .125f };
    static const float out[2] = { 5, 3 }, other[2] = { 5, 4 };
    static const int32_t zero[4] = { 0 }, pos[4] = { 0, 1, 2, 3 }, one[2] = { 1, 1 }, some[2] = { 2, 0 }, branch = 1;
    const char *const backends[] = { "ref", "cpu" };
    for (int i = 0; i < 2; i++) {
        const struct kvt_ops *ops = kvt_ops_find(backends[i]);
        struct kvt_dev *dev = NULL;
        struct kvt_cache *cache = NULL;
        struct kvt_cache_opts o = { .L = 1, .G = 1, .D = 2, .max_branch = 2, .max_slots = 4, .type = KVT_F32 };
        cr_assert_eq(ops->open(&dev, NULL, NULL), 0);
        cr_assert_eq(ops->cache_open(dev, &cache, &o, NULL), 0);
        cr_assert_eq(ops->cache_append(dev, &(struct kvt_append_args){ cache, 0, 4, k[0], v[0], zero, pos }), 0);
        /* in the order 2, 0: a slot isn't a position */
        cr_assert_eq(ops->cache_append(dev, &(struct kvt_append_args){ cache, 0, 2, k[0], v[0], one, some }), 0);
        float lost, rest, local, propagated;
        const float *own = other;
        struct kvt_lost_args a = { .cache = cache, .H = 1, .row = p, .ld = 4, .out = out, .B = 1, .branch = &branch, .own = &own,
                                   .n_sink = 1, .lost = &lost, .lost_rest = &rest, .local = &local, .propagated = &propagated };
        cr_assert_eq(ops->lost(dev, &a), 0);
        cr_assert_float_eq(lost, 0.375, 1e-7);
        cr_assert_float_eq(rest, 0.75, 1e-7);
        cr_assert_float_eq(local, sqrt(10.96 / 34), 1e-6);
        cr_assert_float_eq(propagated, 1 / sqrt(34), 1e-6);
        ops->cache_close(dev, &cache);
        ops->close(&dev);
    }
}

/* ---- in a session, against full rows of a prefill ---- */

struct seen {
    int32_t token[N_NEW];
    int lost_at[MAX_B][L][G][N];  /* step of the loss; INT32_MAX: held */
    float mass[N_NEW][MAX_B][L][G], rest[N_NEW][MAX_B][L][G], local[N_NEW][MAX_B][L], propagated[N_NEW][MAX_B][L];
    float row[L][H][N][N];
    bool full;
    int late, steps;              /* first oracle; 0: none */
};

static void wants(void *self, struct kvt_wants *w)
{
    *w = (struct kvt_wants){ .n_sink = 4, .decisions = true, .full = ((struct seen *)self)->full };
}

static void see_fidelity(struct seen *s, const struct kvt_ev_fidelity *e)
{
    size_t B = (size_t)e->n_branch, i = (size_t)e->step - 1, at = (size_t)e->first;
    s->steps = at && e->step == 1 ? 0 : s->steps; /* the oracles' pass begins */
    cr_assert_eq(e->step, ++s->steps);
    cr_assert(e->first == 0 || e->first == s->late);
    memcpy(s->mass[i][at], e->lost_mass, B * L * G * sizeof(float));
    memcpy(s->rest[i][at], e->lost_rest, B * L * G * sizeof(float));
    memcpy(s->local[i][at], e->local, B * L * sizeof(float));
    memcpy(s->propagated[i][at], e->propagated, B * L * sizeof(float));
}

static int see(void *self, const struct kvt_event *ev)
{
    struct seen *s = self;
    if (ev->kind == KVT_EV_STEP) {
        if (!ev->step.first)
            s->token[ev->step.step - 1] = ev->step.token[0];
    } else if (ev->kind == KVT_EV_FIDELITY) {
        see_fidelity(s, &ev->fidelity);
    } else if (ev->kind == KVT_EV_EVICT) {
        for (int i = 0; i < ev->evict.n; i++)
            s->lost_at[ev->evict.branch][ev->evict.layer][ev->evict.g][ev->evict.pos[i]] = ev->evict.step;
    } else if (ev->kind == KVT_EV_DECISION) {
        for (int g = 0; g < G; g++)
            for (int i = 0; i < ev->decision.n; i++) {
                uint8_t why = ev->decision.reason[g * ev->decision.n + i];
                if (why == KVT_LEFT_SCORE || why == KVT_LEFT_UNIT || why == KVT_LEFT_BUDGET)
                    s->lost_at[ev->decision.branch][ev->decision.layer][g][i] = 0;
            }
    } else if (ev->kind == KVT_EV_ROWS) {
        const struct kvt_ev_rows *e = &ev->rows;
        for (int i = 0; i < e->n_heads; i++)
            for (int t = 0; t < e->n_rows; t++)
                memcpy(s->row[e->layer][e->head[i]][e->row0 + t], e->rows + ((size_t)i * e->n_rows + t) * e->n, (size_t)e->n * sizeof(float));
    }
    return 0;
}

struct tried {
    struct kvt_model *model;
    struct kvt_branch_opts branch[MAX_B];
    int n;
};

static void open_model(struct tried *t, const char *const *spec, int n, int keep_percent)
{
    char path[] = "/tmp/kvt-fidelity-XXXXXX";
    struct kvt_err err = { 0 };
    struct kvt_mkmodel_opts mo = { .seed = 11 };
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    memset(t, 0, sizeof *t);
    cr_assert_eq(kvt_mkmodel(path, &mo, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_model_open(&t->model, path, &err), 0, "%s", err.text);
    unlink(path);
    for (; t->n < n; t->n++) {
        struct kvt_branch_opts *b = &t->branch[t->n];
        b->name = spec[t->n];
        b->budget = (struct kvt_budget){ .kind = KVT_BUDGET_KEEP, .keep_ppm = keep_percent * 10000 };
        cr_assert_eq(kvt_spec_parse(&b->spec, spec[t->n], strlen(spec[t->n]), &err), 0, "%s", err.text);
    }
}

static struct kvt_session *run(const struct tried *t, const char *backend, enum kvt_protocol protocol, const int32_t *token, int n_prompt,
                               struct seen *seen)
{
    struct kvt_err err = { 0 };
    struct kvt_session *s = NULL;
    struct kvt_probe probe = { .self = seen, .wants = wants, .see = see };
    struct kvt_session_opts o = { .ops = kvt_ops_find(backend), .threads = 1, .compute = KVT_COMPUTE_F32, .kv_type = KVT_F32,
                                  .protocol = protocol, .token = token, .n_prompt = n_prompt, .question_start = 50, .window = 8,
                                  .shot = shots, .n_shots = 3, .n_new = N_NEW, .branch = t->branch, .n_branches = seen->full ? 0 : t->n,
                                  .probe = &probe, .lost_mass = !seen->full, .output_error = !seen->full };
    memset(seen->lost_at, 0x7f, sizeof seen->lost_at);
    int rc = kvt_session_open(&s, t->model, &o, &err);
    if (!rc)
        rc = kvt_session_prefill(s, &err);
    if (!rc && !seen->full)
        rc = kvt_session_decode(s, &err);
    cr_assert_eq(rc, 0, "%s", err.text);
    return s;
}

static void compare_cell(const struct seen *s, const struct seen *rows, int b, int k, int l, int g, const char *name)
{
    double lost = 0, rest = 0;
    int t = N_PROMPT + k - 1;
    for (int h = g * (H / G); h < (g + 1) * (H / G); h++) {
        double sum = 0, after = 0, gone = 0;
        for (int j = 0; j <= t; j++) {
            bool missing = s->lost_at[b][l][g][j] < k; /* what step k evicts was still there when it looked */
            sum += missing ? rows->row[l][h][t][j] : 0;
            after += j >= 4 ? rows->row[l][h][t][j] : 0;
            gone += j >= 4 && missing ? rows->row[l][h][t][j] : 0;
        }
        lost += sum / (H / G);
        rest += gone / after / (H / G);
    }
    /* f32 forward passes that add up in different tiles: some 1e-6 of a probability */
    cr_assert_float_eq(s->mass[k - 1][b][l][g], lost, 2e-5, "%s: step %d layer %d: %g, not %g", name, k, l, (double)s->mass[k - 1][b][l][g], lost);
    cr_assert_float_eq(s->rest[k - 1][b][l][g], rest, 4e-5, "%s: step %d layer %d: %g, not %g", name, k, l, (double)s->rest[k - 1][b][l][g], rest);
}

static const char *const specs[] = { "streaming[renumber=0]", "h2o", "shotkv", "snapkv[w=4]", "pyramidkv[w=4]", "chunkkv[w=4,chunk=4]", "random" };
enum { N_SPECS = sizeof specs / sizeof *specs };

/* The full branch's rows, from a second run that prefills the prompt and what it said. */
Test(fidelity, lost_mass_is_that_of_the_rows)
{
    static struct seen seen, rows;
    struct tried t;
    open_model(&t, specs, N_SPECS, 40);
    for (int p = KVT_PROTOCOL_VISIBLE; p <= KVT_PROTOCOL_LITERATURE; p++) {
        int32_t token[N];
        for (int i = 0; i < N_PROMPT; i++)
            token[i] = 3 + i * 37 % 390;
        memset(&seen, 0, sizeof seen);
        struct kvt_session *s = run(&t, "cpu", (enum kvt_protocol)p, token, N_PROMPT, &seen);
        cr_assert_eq(seen.steps, N_NEW);
        memcpy(token + N_PROMPT, seen.token, sizeof seen.token);
        rows.full = true;
        struct kvt_session *again = run(&t, "cpu", KVT_PROTOCOL_LITERATURE, token, N, &rows);
        for (int b = 0; b <= t.n; b++) {
            double mean[2] = { 0 };
            for (int k = 1; k <= N_NEW; k++)
                for (int l = 0; l < L; l++)
                    for (int g = 0; g < G; g++) {
                        compare_cell(&seen, &rows, b, k, l, g, b ? specs[b - 1] : "full");
                        mean[0] += (double)seen.mass[k - 1][b][l][g] / (N_NEW * L * G);
                        mean[1] += (double)seen.propagated[k - 1][b][l] / (N_NEW * L * G);
                    }
            struct kvt_branch_result r;
            kvt_session_result(s, b, &r);
            cr_assert_float_eq(r.lost_mass, mean[0], 1e-6);
            cr_assert_float_eq(r.output_propagated, mean[1], 1e-6);
        }
        kvt_session_close(&s);
        kvt_session_close(&again);
    }
    kvt_model_close(&t.model);
}

/* In the first layer q, K and V are the same in every branch that counts positions alike, whatever was evicted: what a
 * branch computes there is the full branch's attention restricted to its slots. Later layers differ, and a branch that
 * holds everything has no error at all. */
Test(fidelity, local_and_propagated_meet_in_the_first_layer)
{
    static struct seen seen, ref;
    struct tried t;
    int32_t token[N_PROMPT];
    for (int i = 0; i < N_PROMPT; i++)
        token[i] = 3 + i * 37 % 390;
    open_model(&t, specs, N_SPECS, 40);
    struct kvt_session *s = run(&t, "cpu", KVT_PROTOCOL_VISIBLE, token, N_PROMPT, &seen), *plain = run(&t, "ref", KVT_PROTOCOL_VISIBLE, token, N_PROMPT, &ref);
    bool apart = false;
    for (int b = 0; b <= t.n; b++)
        for (int k = 0; k < N_NEW; k++)
            for (int l = 0; l < L; l++) {
                float local = seen.local[k][b][l], own = seen.propagated[k][b][l];
                cr_assert(b ? local > 0 && own > 0 : local == 0 && own == 0, "branch %d: %g, %g", b, (double)local, (double)own);
                if (l == 0)
                    cr_assert_float_eq(local, own, 1e-5f, "%s: %g, %g", b ? specs[b - 1] : "full", (double)local, (double)own);
                apart |= fabsf(local - own) > 1e-3f;
                cr_assert_float_eq(local, ref.local[k][b][l], 1e-4f);
                cr_assert_float_eq(own, ref.propagated[k][b][l], 1e-4f);
            }
    cr_assert(apart, "no layer has an error of its input");
    kvt_session_close(&s);
    kvt_session_close(&plain);
    kvt_model_close(&t.model);
}

/* Measuring changes nothing that is measured. */
Test(fidelity, asking_changes_nothing)
{
    static struct seen seen;
    struct tried t;
    int32_t token[N_PROMPT];
    for (int i = 0; i < N_PROMPT; i++)
        token[i] = 3 + i * 37 % 390;
    open_model(&t, specs, N_SPECS, 40);
    struct kvt_session *s = run(&t, "cpu", KVT_PROTOCOL_VISIBLE, token, N_PROMPT, &seen), *bare = NULL;
    struct kvt_session_opts o = { .ops = kvt_ops_find("cpu"), .threads = 1, .kv_type = KVT_F32, .token = token, .n_prompt = N_PROMPT,
                                  .question_start = 50, .window = 8, .shot = shots, .n_shots = 3, .n_new = N_NEW, .branch = t.branch,
                                  .n_branches = t.n };
    cr_assert_eq(kvt_session_open(&bare, t.model, &o, NULL) || kvt_session_prefill(bare, NULL) || kvt_session_decode(bare, NULL), 0);
    for (int b = 0; b <= t.n; b++) {
        struct kvt_branch_result x, y;
        kvt_session_result(s, b, &x);
        kvt_session_result(bare, b, &y);
        cr_assert_eq(x.mean_kl, y.mean_kl);
        cr_assert_eq(x.n_free, y.n_free);
        cr_assert_eq(memcmp(x.free, y.free, (size_t)x.n_free * sizeof *x.free), 0);
        cr_assert(isnan(y.lost_mass) && isnan(y.output_local));
    }
    cr_assert_eq(kvt_session_logits_hash(s), kvt_session_logits_hash(bare));
    kvt_session_close(&s);
    kvt_session_close(&bare);
    kvt_model_close(&t.model);
}

/* ---- the oracle ---- */

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* What remains of a cell's future mass when its best slots stay is what the oracle loses, no less and no more: from the rows of
 * a second run. No method with as many slots in the cell loses less. */
Test(fidelity, no_set_loses_less_than_the_oracle)
{
    static const char *const with[] = { "random", "snapkv[w=4]", "streaming[renumber=0,schedule=prefill]", "h2o", "oracle", "oracle[nosinks=1]", "oracle[schedule=step]" };
    enum { N_EARLY = 4, ORACLE = 5, NOSINKS = 6, STEPS = 7 };
    static struct seen seen, rows;
    struct tried t;
    int32_t token[N];
    for (int i = 0; i < N_PROMPT; i++)
        token[i] = 3 + i * 37 % 390;
    open_model(&t, with, 7, 40);
    for (int b = 0; b < 3; b++)
        t.branch[b].oracle = ORACLE;
    t.branch[3].oracle = STEPS;
    seen.late = ORACLE;
    struct kvt_session *s = run(&t, "cpu", KVT_PROTOCOL_VISIBLE, token, N_PROMPT, &seen);
    memcpy(token + N_PROMPT, seen.token, sizeof seen.token);
    rows.full = true;
    struct kvt_session *again = run(&t, "cpu", KVT_PROTOCOL_LITERATURE, token, N, &rows);
    int n = kvt_session_n_context(s), kept = 2 * n / 5; /* 40 % */
    for (int l = 0; l < L; l++)
        for (int g = 0; g < G; g++) {
            double worth[2][N] = { { 0 } }, best[2] = { 0 }, lost[8] = { 0 }, rest[8] = { 0 };
            for (int k = 1; k <= N_NEW; k++) {
                int at = N_PROMPT + k - 1;
                for (int h = g * (H / G); h < (g + 1) * (H / G); h++) {
                    double after = 0;
                    for (int j = 4; j <= at; j++)
                        after += rows.row[l][h][at][j];
                    for (int j = 0; j < n; j++) {
                        worth[0][j] += rows.row[l][h][at][j] / (H / G);
                        worth[1][j] += j < 4 ? 0 : rows.row[l][h][at][j] / after / (H / G);
                    }
                }
                for (int b = 1; b <= 7; b++) {
                    lost[b] += seen.mass[k - 1][b][l][g];
                    rest[b] += seen.rest[k - 1][b][l][g];
                }
                compare_cell(&seen, &rows, ORACLE, k, l, g, "oracle");
                compare_cell(&seen, &rows, STEPS, k, l, g, "oracle, step by step");
            }
            for (int w = 0; w < 2; w++) {
                qsort(worth[w], (size_t)n, sizeof(double), descending);
                for (int j = kept; j < n; j++)
                    best[w] += worth[w][j];
            }
            cr_assert_float_eq(lost[ORACLE], best[0], 1e-4, "layer %d: %g, best %g", l, lost[ORACLE], best[0]);
            cr_assert_float_eq(rest[NOSINKS], best[1], 1e-4, "layer %d: %g, best %g", l, rest[NOSINKS], best[1]);
            for (int b = 1; b <= 3; b++)
                cr_assert(lost[b] > lost[ORACLE] - 1e-4, "%s: %g, oracle %g", with[b - 1], lost[b], lost[ORACLE]);
        }
    struct kvt_branch_result r, o;
    for (int b = 1; b <= N_EARLY; b++) {
        kvt_session_result(s, b, &r);
        kvt_session_result(s, b == N_EARLY ? STEPS : ORACLE, &o);
        cr_assert_float_eq(r.regret, r.lost_mass - o.lost_mass, 1e-12);
        cr_assert(r.regret > 0, "%s: %g", with[b - 1], r.regret);
    }
    kvt_session_result(s, ORACLE, &r);
    cr_assert(isnan(r.regret));
    kvt_session_close(&s);
    kvt_session_close(&again);
    kvt_model_close(&t.model);
}

/* The others don't notice that oracles follow, and the full branch is itself again beside them (asserted by the session). */
Test(fidelity, oracles_change_nothing_before_them)
{
    static const char *const with[] = { "h2o", "snapkv[w=4]", "shotkv", "oracle", "oracle[unit=shot,heads=shared]", "oracle[schedule=step]", "oracle[schedule=every,every=1]" };
    static struct seen seen[2];
    struct tried t;
    int32_t token[N_PROMPT];
    for (int i = 0; i < N_PROMPT; i++)
        token[i] = 3 + i * 37 % 390;
    open_model(&t, with, 7, 40);
    seen[0].late = 4;
    struct kvt_session *s = run(&t, "cpu", KVT_PROTOCOL_LITERATURE, token, N_PROMPT, &seen[0]);
    t.n = 3;
    struct kvt_session *bare = run(&t, "cpu", KVT_PROTOCOL_LITERATURE, token, N_PROMPT, &seen[1]);
    cr_assert_eq(kvt_session_logits_hash(s), kvt_session_logits_hash(bare));
    for (int b = 0; b <= 3; b++) {
        struct kvt_branch_result x, y;
        kvt_session_result(s, b, &x);
        kvt_session_result(bare, b, &y);
        cr_assert_eq(x.mean_kl, y.mean_kl);
        cr_assert_eq(x.lost_mass, y.lost_mass);
        cr_assert_eq(x.bytes_mean, y.bytes_mean);
        cr_assert(x.n_free == y.n_free && !memcmp(x.free, y.free, (size_t)x.n_free * sizeof *x.free));
    }
    struct kvt_branch_result step, every; /* without a question to feed, every token is each step */
    kvt_session_result(s, 6, &step);
    kvt_session_result(s, 7, &every);
    cr_assert_float_eq(step.lost_mass, every.lost_mass, 1e-7, "each step %g, every token %g", step.lost_mass, every.lost_mass);
    kvt_session_close(&s);
    kvt_session_close(&bare);
    t.n = 5;
    struct kvt_branch_opts swap = t.branch[0];
    t.branch[0] = t.branch[3], t.branch[3] = swap;
    struct kvt_err err = { 0 };
    struct kvt_session_opts o = { .ops = kvt_ops_find("cpu"), .threads = 1, .kv_type = KVT_F32, .token = token, .n_prompt = N_PROMPT,
                                  .question_start = 50, .window = 8, .shot = shots, .n_shots = 3, .n_new = 1, .branch = t.branch, .n_branches = 5 };
    cr_assert_eq(kvt_session_open(&s, t.model, &o, &err), KVT_EUSAGE);
    cr_assert(strstr(err.text, "oracles come after"), "%s", err.text);
    t.branch[3] = t.branch[0], t.branch[0] = swap;
    for (int follows = 1; follows <= 4; follows += 3) { /* itself, and an oracle */
        t.branch[0].budget = (struct kvt_budget){ .kind = KVT_BUDGET_MATCH, .match = follows };
        cr_assert_eq(kvt_session_open(&s, t.model, &o, &err), KVT_EUSAGE);
        cr_assert(strstr(err.text, "can't follow"), "%s", err.text);
    }
    kvt_model_close(&t.model);
}

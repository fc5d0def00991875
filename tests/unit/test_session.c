/* Whole sessions on a tiny random model. Would catch: a free-running text that is cut where the full one ends, a row of
 * a branch that has ended taken for its own, reported evictions that aren't the slots held, a KL that isn't the one of
 * the two branches' logits, bytes that aren't those of the slots held. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/half.h"
#include "kvt/prompt.h"
#include "kvt/session.h"
#include "mkmodel.h"

enum { N_PROMPT = 60, MAX_NEW = 48, MAX_B = 9, MAX_L = 3, MAX_G = 2 };

static const int32_t shots[] = { 4, 14, 14, 26, 26, 40 };

struct seen {                     /* what the probe was told */
    int32_t token[MAX_NEW][MAX_B];
    float kl[MAX_NEW][MAX_B];
    uint64_t alone[MAX_NEW][MAX_B];
    int steps;
    bool lost[MAX_B][MAX_L][MAX_G][N_PROMPT + MAX_NEW];
    int64_t kept[MAX_B];
};

static void wants(void *self, struct kvt_wants *w)
{
    (void)self;
    *w = (struct kvt_wants){ .n_sink = 4, .decisions = true };
}

static int see(void *self, const struct kvt_event *ev)
{
    struct seen *s = self;
    if (ev->kind == KVT_EV_STEP) {
        s->steps = ev->step.step;
        for (int b = 0; b < ev->step.n_branch; b++) {
            s->token[s->steps - 1][b] = ev->step.token[b];
            s->kl[s->steps - 1][b] = ev->step.kl[b];
            s->alone[s->steps - 1][b] = ev->step.alone_bytes[b];
        }
    } else if (ev->kind == KVT_EV_EVICT) {
        for (int i = 0; i < ev->evict.n; i++) {
            bool *lost = &s->lost[ev->evict.branch][ev->evict.layer][ev->evict.g][ev->evict.pos[i]];
            cr_assert(!*lost, "position %d lost twice", ev->evict.pos[i]);
            *lost = true;
        }
    } else if (ev->kind == KVT_EV_DECISION) {
        for (int g = 0; g < MAX_G; g++)
            for (int i = 0; i < ev->decision.n; i++) {
                uint8_t why = ev->decision.reason[g * ev->decision.n + i];
                s->lost[ev->decision.branch][ev->decision.layer][g][i] = why == KVT_LEFT_SCORE || why == KVT_LEFT_UNIT || why == KVT_LEFT_BUDGET;
            }
    } else if (ev->kind == KVT_EV_BUDGET) {
        s->kept[ev->budget.branch] = ev->budget.kept_slots;
    }
    return 0;
}

struct tried {
    struct kvt_model *model;
    struct kvt_branch_opts branch[MAX_B];
    char name[MAX_B][80];
    int n;
};

static void open_model(struct tried *t, uint64_t seed, const char *const *spec, int n, int keep_percent)
{
    char path[] = "/tmp/kvt-session-XXXXXX";
    struct kvt_err err = { 0 };
    struct kvt_mkmodel_opts mo = { .seed = seed };
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    memset(t, 0, sizeof *t);
    cr_assert_eq(kvt_mkmodel(path, &mo, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_model_open(&t->model, path, &err), 0, "%s", err.text);
    unlink(path);
    for (; t->n < n; t->n++) {
        struct kvt_branch_opts *b = &t->branch[t->n];
        snprintf(t->name[t->n], sizeof t->name[0], "%s %d", spec[t->n], t->n);
        b->name = t->name[t->n];
        b->budget = (struct kvt_budget){ .kind = KVT_BUDGET_KEEP, .keep_ppm = keep_percent * 10000 };
        cr_assert_eq(kvt_spec_parse(&b->spec, spec[t->n], strlen(spec[t->n]), &err), 0, "%s", err.text);
    }
}

static struct kvt_session *run(const struct tried *t, enum kvt_protocol protocol, enum kvt_decode decode, int n_new, bool stop,
                               const struct kvt_probe *probe)
{
    static int32_t token[N_PROMPT];
    struct kvt_err err = { 0 };
    struct kvt_session *s = NULL;
    for (int i = 0; i < N_PROMPT; i++)
        token[i] = 3 + i * 37 % 390;
    struct kvt_session_opts o = { .ops = kvt_ops_find("cpu"), .threads = 1, .compute = KVT_COMPUTE_F32, .kv_type = KVT_F32,
                                  .protocol = protocol, .decode = decode, .token = token, .n_prompt = N_PROMPT, .question_start = 50,
                                  .window = 8, .shot = shots, .n_shots = 3, .n_new = n_new, .stop_at_end = stop, .branch = t->branch,
                                  .n_branches = t->n, .probe = probe };
    int rc = kvt_session_open(&s, t->model, &o, &err);
    if (!rc)
        rc = kvt_session_prefill(s, &err);
    if (!rc)
        rc = kvt_session_decode(s, &err);
    cr_assert_eq(rc, 0, "%s", err.text);
    return s;
}

static const char *const specs[] = { "streaming", "h2o", "shotkv", "snapkv[w=4]", "pyramidkv[w=4]", "chunkkv[w=4,chunk=4]" };
enum { N_SPECS = sizeof specs / sizeof *specs };

/* A model on which the full text ends before n_new, one branch's earlier and one's later. Random models end soon
 * enough; which of them do depends on the arithmetic, so it is looked for. */
static bool ends_apart(const struct tried *t)
{
    struct kvt_session *s = run(t, KVT_PROTOCOL_VISIBLE, KVT_DECODE_BOTH, MAX_NEW, true, NULL);
    struct kvt_branch_result full, r;
    bool early = false, late = false;
    kvt_session_result(s, 0, &full);
    for (int b = 1; b <= t->n; b++) {
        kvt_session_result(s, b, &r);
        early |= r.n_free < full.n_free;
        late |= r.n_free > full.n_free;
    }
    kvt_session_close(&s);
    return full.n_free > 4 && full.n_free < MAX_NEW && early && late;
}

Test(session, each_text_ends_by_itself)
{
    struct tried t;
    uint64_t seed = 1;
    for (open_model(&t, seed, specs, N_SPECS, 50); !ends_apart(&t); open_model(&t, seed, specs, N_SPECS, 50)) {
        kvt_model_close(&t.model);
        cr_assert(++seed < 200, "no model of 200 ends at different steps");
    }
    static struct seen seen;
    struct kvt_probe probe = { .self = &seen, .wants = wants, .see = see };
    struct kvt_session *both = run(&t, KVT_PROTOCOL_VISIBLE, KVT_DECODE_BOTH, MAX_NEW, true, NULL);
    struct kvt_session *free_only = run(&t, KVT_PROTOCOL_VISIBLE, KVT_DECODE_FREE, MAX_NEW, true, &probe);
    int longest = 0;
    for (int b = 0; b <= t.n; b++) {
        struct kvt_branch_result x, y;
        kvt_session_result(both, b, &x);
        kvt_session_result(free_only, b, &y);
        cr_assert_eq(x.n_free, y.n_free, "%s: %d tokens forked, %d alone", x.name, x.n_free, y.n_free);
        cr_assert_eq(memcmp(x.free, y.free, (size_t)x.n_free * sizeof *x.free), 0, "%s", x.name);
        cr_assert_eq(x.diverged, y.diverged);
        int compared = x.diverged ? x.diverged : x.n_steps;
        cr_assert_eq(y.n_steps, compared, "%s: compared at %d steps, not %d", x.name, y.n_steps, compared);
        cr_assert_float_eq(y.top1_agree, (double)(compared - (x.diverged != 0)) / compared, 1e-12);
        longest = x.n_free > longest ? x.n_free : longest;
        for (int k = 0; k < seen.steps; k++) {
            cr_assert_eq(seen.token[k][b], k < x.n_free ? x.free[k] : -1, "%s: step %d", x.name, k + 1);
            cr_assert_eq(!isnan(seen.kl[k][b]), k < compared, "%s: KL at step %d", x.name, k + 1);
        }
    }
    cr_assert_eq(seen.steps, longest);
    kvt_session_close(&both);
    kvt_session_close(&free_only);
    kvt_model_close(&t.model);
}

/* What was said to be lost, and the bytes, against the slots held at the end. */
static void compare_held(struct kvt_session *s, const struct seen *seen, int b, const char *name, int n_context)
{
    int64_t pages = 0;
    for (int l = 0; l < MAX_L; l++)
        for (int g = 0; g < MAX_G; g++) {
            int32_t pos[N_PROMPT + MAX_NEW];
            int n = kvt_session_positions(s, b, l, g, pos, N_PROMPT + MAX_NEW, NULL), at = 0;
            for (int p = 0; p < N_PROMPT + seen->steps; p++) {
                bool held = at < n && pos[at] == p;
                cr_assert_eq(held, !seen->lost[b][l][g][p], "%s: layer %d, kv head %d: position %d is %s", name, l, g, p, held ? "held" : "gone");
                at += held;
            }
            cr_assert_eq(at, n);
            pages += (n + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS;
        }
    cr_assert_eq(seen->alone[seen->steps - 1][b], (uint64_t)pages * KVT_PAGE_SLOTS * 16 * 2 * sizeof(float), "%s", name);
    struct kvt_branch_result r;
    kvt_session_result(s, b, &r);
    cr_assert_eq(r.bytes_last, seen->alone[seen->steps - 1][b]);
    if (b)
        cr_assert_float_eq(r.effective_keep, (double)seen->kept[b] / (MAX_L * MAX_G * n_context), 1e-12);
}

Test(session, reported_losses_are_the_slots_gone)
{
    struct tried t;
    open_model(&t, 3, specs, N_SPECS, 40);
    for (int p = KVT_PROTOCOL_VISIBLE; p <= KVT_PROTOCOL_LITERATURE; p++)
        for (int d = KVT_DECODE_BOTH; d <= KVT_DECODE_FREE; d++)
            for (int n_new = 1; n_new <= 23; n_new += 11) {
                static struct seen seen;
                memset(&seen, 0, sizeof seen);
                struct kvt_probe probe = { .self = &seen, .wants = wants, .see = see };
                struct kvt_session *s = run(&t, (enum kvt_protocol)p, (enum kvt_decode)d, n_new, false, &probe);
                cr_assert_eq(seen.steps, n_new);
                for (int b = 0; b <= t.n; b++)
                    compare_held(s, &seen, b, b ? t.name[b - 1] : "full", kvt_session_n_context(s));
                kvt_session_close(&s);
            }
    kvt_model_close(&t.model);
}

/* ---- maps ---- */

enum { MAP_H = 6, MAP_R = 7, MAP_C = 5 };
static const uint8_t map_layer[] = { 1, 0, 1 }, map_head[] = { 0, 1, 0, 0, 1, 1 };

struct maps {                     /* of the wanted layers and heads */
    float full[MAX_L][MAP_H][N_PROMPT][N_PROMPT];
    float mass[MAX_L][MAP_H][N_PROMPT], last[MAX_L][MAP_H][N_PROMPT], wmass[MAX_L][MAP_H][N_PROMPT];
    float entropy[MAX_L][MAP_H][N_PROMPT], sink[MAX_L][MAP_H][N_PROMPT];
    float mean[MAX_L][MAP_H][MAP_R][MAP_C], max[MAX_L][MAP_H][MAP_R][MAP_C];
    int rows[MAX_L], n, window;
};

static void map_wants(void *self, struct kvt_wants *w)
{
    (void)self;
    *w = (struct kvt_wants){ .scores = true, .n_sink = 4, .map_r = MAP_R, .map_c = MAP_C, .full = true, .layer = map_layer, .head = map_head };
}

static int map_see(void *self, const struct kvt_event *ev)
{
    struct maps *m = self;
    if (ev->kind == KVT_EV_ROWS) {
        const struct kvt_ev_rows *e = &ev->rows;
        m->rows[e->layer] += e->n_rows;
        for (int i = 0; i < e->n_heads; i++)
            for (int t = 0; t < e->n_rows; t++)
                memcpy(m->full[e->layer][e->head[i]][e->row0 + t], e->rows + ((size_t)i * e->n_rows + t) * e->n, (size_t)e->n * sizeof(float));
    } else if (ev->kind == KVT_EV_PREFILL_LAYER) {
        const struct kvt_ev_prefill_layer *e = &ev->prefill_layer;
        m->n = e->n, m->window = e->window[0];
        for (int h = 0; h < MAP_H; h++) {
            size_t at = (size_t)h * e->n, bytes = (size_t)e->n * sizeof(float);
            memcpy(m->mass[e->layer][h], e->mass + at, bytes);
            memcpy(m->wmass[e->layer][h], e->wmass[0] + at, bytes);
            memcpy(m->last[e->layer][h], e->last + at, bytes);
            memcpy(m->entropy[e->layer][h], e->entropy + at, bytes);
            memcpy(m->sink[e->layer][h], e->sink + at, bytes);
        }
        for (size_t i = 0; i < sizeof m->mean[0] / sizeof(float); i++) {
            (&m->mean[e->layer][0][0][0])[i] = kvt_f32_from_f16(e->map_mean[i]) / KVT_HALF_SCALE;
            (&m->max[e->layer][0][0][0])[i] = kvt_f32_from_f16(e->map_max[i]) / KVT_HALF_SCALE;
        }
    }
    return 0;
}

/* Everything that is reduced from a head's rows, from those rows. */
static void compare_head(const struct maps *m, int l, int h)
{
    const double near = 2e-5; /* sums of up to 60 probabilities in f32, whose exp is good to some 1e-7 */
    double bin[MAP_R][MAP_C] = { 0 }, most[MAP_R][MAP_C] = { 0 };
    int pairs[MAP_R][MAP_C] = { 0 }, n = m->n;
    for (int j = 0; j < n; j++) {
        double mass = 0, window = 0;
        for (int i = 0; i < n; i++) {
            double a = (double)m->full[l][h][i][j];
            mass += a;
            window += i >= n - m->window ? a : 0;
            if (j > i) {
                cr_assert_eq(a, 0, "layer %d head %d: row %d sees %d", l, h, i, j);
                continue;
            }
            int r = i * MAP_R / n, c = j * MAP_C / n;
            bin[r][c] += a, pairs[r][c]++;
            most[r][c] = a > most[r][c] ? a : most[r][c];
        }
        cr_assert_float_eq(m->mass[l][h][j], mass, near);
        cr_assert_float_eq(m->wmass[l][h][j], window, near);
        cr_assert_float_eq(m->last[l][h][j], m->full[l][h][n - 1][j], near);
    }
    for (int i = 0; i < n; i++) {
        double sum = 0, entropy = 0, sink = 0;
        for (int j = 0; j <= i; j++) {
            double a = (double)m->full[l][h][i][j];
            sum += a, entropy -= a > 0 ? a * log(a) : 0, sink += j < 4 ? a : 0;
        }
        cr_assert_float_eq(sum, 1, near);
        cr_assert_float_eq(m->entropy[l][h][i], entropy, 10 * near);
        cr_assert_float_eq(m->sink[l][h][i], sink, near);
    }
    for (int r = 0; r < MAP_R; r++)
        for (int c = 0; c < MAP_C; c++) {
            float mean = m->mean[l][h][r][c], max = m->max[l][h][r][c];
            cr_assert_eq(isnan(mean) && isnan(max), !pairs[r][c], "bin %d, %d", r, c);
            if (pairs[r][c]) {
                cr_assert_float_eq(mean, bin[r][c] / pairs[r][c], near + bin[r][c] / pairs[r][c] / 2048); /* in f16 */
                cr_assert_float_eq(max, most[r][c], near + most[r][c] / 2048);
            }
        }
}

/* Full rows of some layers and heads, and everything else of all. */
Test(session, maps_and_scores_are_those_of_the_rows)
{
    struct tried t;
    open_model(&t, 7, specs, 0, 50);
    for (int p = KVT_PROTOCOL_VISIBLE; p <= KVT_PROTOCOL_LITERATURE; p++) {
        static struct maps m;
        memset(&m, 0, sizeof m);
        struct kvt_probe probe = { .self = &m, .wants = map_wants, .see = map_see };
        struct kvt_session *s = run(&t, (enum kvt_protocol)p, KVT_DECODE_BOTH, 1, false, &probe);
        cr_assert_eq(m.n, p == KVT_PROTOCOL_HIDDEN ? 50 : N_PROMPT);
        cr_assert_eq(m.window, 8);
        for (int l = 0; l < MAX_L; l++) {
            cr_assert_eq(m.rows[l], map_layer[l] ? m.n : 0);
            for (int h = 0; h < MAP_H; h++)
                if (map_layer[l] && map_head[h])
                    compare_head(&m, l, h);
        }
        kvt_session_close(&s);
    }
    kvt_model_close(&t.model);
}

/* ---- refusals ---- */

Test(session, too_many_windows_are_refused_before_anything_runs)
{
    struct tried t;
    static const char *const many[] = { "snapkv[w=2]", "snapkv[w=3]", "snapkv[w=4]", "snapkv[w=5]", "snapkv[w=6]", "snapkv[w=7]",
                                        "snapkv[w=8]", "snapkv[w=9]", "snapkv[w=10]" };
    _Static_assert(sizeof many / sizeof *many == KVT_MAX_WINDOWS + 1, "one more than fit");
    static const int32_t token[N_PROMPT];
    struct kvt_err err = { 0 };
    struct kvt_session *s = NULL;
    open_model(&t, 7, many, KVT_MAX_WINDOWS + 1, 50);
    struct kvt_session_opts o = { .ops = kvt_ops_find("cpu"), .threads = 1, .kv_type = KVT_F32, .token = token, .n_prompt = N_PROMPT,
                                  .question_start = 50, .window = 8, .n_new = 1, .branch = t.branch, .n_branches = t.n };
    cr_assert_eq(kvt_session_open(&s, t.model, &o, &err), KVT_EUSAGE);
    cr_assert(strstr(err.text, "more than 8 different windows"), "%s", err.text);
    cr_assert_null(s);
    o.n_branches--;
    cr_assert_eq(kvt_session_open(&s, t.model, &o, &err), 0, "%s", err.text);
    kvt_session_close(&s);
    kvt_model_close(&t.model);
}

/* ---- KL ---- */

/* ln of the sum of exponentials, less the largest; double throughout. */
static double log_sum(const float *x, int n, double *most)
{
    double sum = 0;
    *most = -INFINITY;
    for (int i = 0; i < n; i++)
        *most = x[i] > *most ? x[i] : *most;
    for (int i = 0; i < n; i++)
        sum += exp(x[i] - *most);
    return log(sum);
}

static double kl_of(const float *p, const float *q, int n)
{
    double mp, mq, sp = log_sum(p, n, &mp), sq = log_sum(q, n, &mq), kl = 0;
    for (int i = 0; i < n; i++)
        kl += exp(p[i] - mp - sp) * ((p[i] - mp - sp) - (q[i] - mq - sq));
    return kl;
}

/* The logits after k steps are those that step k + 1 chooses from. */
Test(session, kl_is_that_of_the_logits)
{
    enum { K = 9 };
    struct tried t;
    open_model(&t, 5, specs, N_SPECS, 40);
    static struct seen seen;
    struct kvt_probe probe = { .self = &seen, .wants = wants, .see = see };
    struct kvt_session *longer = run(&t, KVT_PROTOCOL_VISIBLE, KVT_DECODE_BOTH, K + 1, false, &probe);
    struct kvt_session *s = run(&t, KVT_PROTOCOL_VISIBLE, KVT_DECODE_BOTH, K, false, NULL);
    int V = kvt_model_shape(t.model)->V;
    float *full = malloc((size_t)V * sizeof *full), *own = malloc((size_t)V * sizeof *own);
    cr_assert(full && own);
    cr_assert_eq(kvt_session_branch_logits(s, 0, full, NULL), 0);
    for (int b = 0; b <= t.n; b++) {
        cr_assert_eq(kvt_session_branch_logits(s, b, own, NULL), 0);
        /* f32 sums over 400 words of terms up to about 10: a few 1e-6 */
        cr_assert_float_eq(seen.kl[K][b], kl_of(full, own, V), 1e-5, "branch %d: %g, and %g from the logits", b, (double)seen.kl[K][b], kl_of(full, own, V));
        double mean = 0;
        struct kvt_branch_result r;
        for (int k = 0; k <= K; k++)
            mean += (double)seen.kl[k][b] / (K + 1);
        kvt_session_result(longer, b, &r);
        cr_assert_float_eq(r.mean_kl, mean, 1e-9);
    }
    free(full);
    free(own);
    kvt_session_close(&s);
    kvt_session_close(&longer);
    kvt_model_close(&t.model);
}

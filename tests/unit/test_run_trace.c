/* A run and its file: what the session told the writer is what a reader gets. test_trace.c tells made-up events; here they are a
 * real session's. Would catch: a chunk's eviction that comes back as one of prefill's end, fidelity under another branch, layer or
 * step, a row of another step or layer, an uncompressed branch that seems to have run where none did, a peak that isn't the allocator's. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvt/session.h"
#include "kvt/trace.h"
#include "mkmodel.h"
#include "tracer/trace_write.h"

enum { L = 3, G = 2, N = 230, QUESTION = 210, NEW = 6, B = 4, TOK = N + NEW };

static char folder[64], file[96];

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/kvt_run_XXXXXX");
    cr_assert(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/run.h5", folder);
}

static void teardown(void)
{
    unlink(file);
    cr_expect(!rmdir(folder), "something else was left in %s", folder);
}

TestSuite(run_trace, .init = setup, .fini = teardown);

/* Between session and writer: keeps what passes. */
struct tee {
    struct kvt_trace_writer *to;
    bool no_full;
    int32_t at[B][L][G][TOK];            /* evicted_at as it follows from the events */
    float lost[NEW][B][L][G], rest[NEW][B][L][G], local[NEW][B][L], propagated[NEW][B][L];
    int chunks;                          /* slots that left after some chunk */
};

static void wants(void *self, struct kvt_wants *w)
{
    const struct tee *t = self;
    *w = (struct kvt_wants){.n_sink = 4, .decisions = true, .scores = !t->no_full, .rows = true};
}

static void keep_fidelity(struct tee *t, const struct kvt_ev_fidelity *e)
{
    for (int i = 0; i < e->n_branch; i++) {
        size_t k = (size_t)e->step - 1, b = (size_t)(e->first + i);
        memcpy(t->lost[k][b], e->lost_mass + (size_t)i * L * G, sizeof t->lost[k][b]);
        memcpy(t->rest[k][b], e->lost_rest + (size_t)i * L * G, sizeof t->rest[k][b]);
        memcpy(t->local[k][b], e->local + (size_t)i * L, sizeof t->local[k][b]);
        memcpy(t->propagated[k][b], e->propagated + (size_t)i * L, sizeof t->propagated[k][b]);
    }
}

static int see(void *self, const struct kvt_event *ev)
{
    struct tee *t = self;
    if (ev->kind == KVT_EV_EVICT) {
        for (int i = 0; i < ev->evict.n; i++)
            t->at[ev->evict.branch][ev->evict.layer][ev->evict.g][ev->evict.pos[i]] = ev->evict.step;
        t->chunks += ev->evict.step <= -2 ? ev->evict.n : 0;
    } else if (ev->kind == KVT_EV_DECISION) {
        const struct kvt_ev_decision *d = &ev->decision;
        for (int g = 0; g < G; g++)
            for (int j = 0; j < d->n; j++)
                if (d->reason[g * d->n + j] == KVT_LEFT_SCORE && t->at[d->branch][d->layer][g][j] == -1)
                    t->at[d->branch][d->layer][g][j] = 0;
    } else if (ev->kind == KVT_EV_STEP) {
        for (int b = ev->step.first; b < ev->step.first + ev->step.n_branch; b++)
            for (int c = 0; c < L * G; c++)
                if (t->at[b][c / G][c % G][N + ev->step.step - 1] == KVT_NOT_YET)
                    t->at[b][c / G][c % G][N + ev->step.step - 1] = -1;
    } else if (ev->kind == KVT_EV_FIDELITY) {
        keep_fidelity(t, &ev->fidelity);
    }
    const struct kvt_probe *p = kvt_trace_probe(t->to);
    return p->see(p->self, ev);
}

static const char *const spec[B] = {"full", "my[score=mass,prefill_chunk=64,protect=sink2]", "my[score=knorm,prefill_chunk=50,schedule=every,every=2]",
                                    "my[score=mass,prefill_chunk=64,schedule=step]"};

/* Runs it into `file`; branches of the specs above. */
static struct kvt_session *run(struct kvt_model *m, struct tee *t, bool no_full)
{
    static int32_t token[N], ends[N];
    static const char *text[N];
    struct kvt_err err = {0};
    struct kvt_session *s = NULL;
    struct kvt_branch_opts branch[B - 1] = {0};
    struct kvt_plan_branch plan_branch[B] = {{"full", "full", "full", 1, QUESTION, "prefill", false, "100%", NULL}};
    static const char *const schedule[B] = {"prefill", "prefill", "every", "step"}, *const name[B] = {"full", "chunks", "chunks, every 2", "chunks, each step"};
    memset(t, 0, sizeof *t);
    t->no_full = no_full;
    for (int i = 0; i < N; i++)
        token[i] = 3 + (i * 37 + i / 11 * 5) % 390, text[i] = "a";
    for (int b = 0; b < B; b++)
        for (int c = 0; c < L * G; c++)
            for (int p = 0; p < TOK; p++)
                t->at[b][c / G][c % G][p] = p < N && (b || !no_full) ? -1 : KVT_NOT_YET;
    for (int b = 1; b < B; b++) {
        branch[b - 1].name = name[b];
        branch[b - 1].budget = (struct kvt_budget){.kind = KVT_BUDGET_KEEP, .keep_ppm = 250000};
        cr_assert_eq(kvt_spec_parse(&branch[b - 1].spec, spec[b], strlen(spec[b]), &err), 0, "%s", err.text);
        plan_branch[b] = (struct kvt_plan_branch){name[b], "my", branch[b - 1].spec.canonical, .25, QUESTION / 4, schedule[b], false, "25%", NULL};
    }
    struct kvt_probe probe = {t, wants, see};
    struct kvt_session_opts o = {.ops = kvt_ops_find("cpu"), .threads = 1, .compute = KVT_COMPUTE_F32, .kv_type = KVT_F16, .decode = no_full ? KVT_DECODE_FREE : KVT_DECODE_FORCED,
                                 .token = token, .n_prompt = N, .question_start = QUESTION, .window = 8, .n_new = NEW, .branch = branch, .n_branches = B - 1,
                                 .no_full = no_full, .lost_mass = !no_full, .output_error = !no_full, .probe = &probe};
    struct kvt_wants w;
    wants(t, &w);
    struct kvt_trace_plan plan = {.path = file, .prompt_id = "0", .L = L, .H = 6, .G = G, .D = 16, .V = 400, .model_name = "m", .model_arch = "llama", .text = "a",
                                  .text_bytes = 1, .n_prompt = N, .n_context = QUESTION, .token_id = token, .token_start = ends, .token_end = ends, .token_text = text,
                                  .longest_token = 6, .branch = plan_branch, .n_branches = B, .n_new = NEW, .no_full = no_full, .wants = &w, .lost_mass = !no_full,
                                  .output_error = !no_full, .protocol = "visible", .decode = no_full ? "free" : "forced"};
    plan.n_windows = kvt_session_windows(&o, &w, plan.window);
    cr_assert_eq(kvt_session_open(&s, m, &o, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_trace_create(&t->to, &plan, &err), 0, "%s", err.text);
    int rc = kvt_session_prefill(s, &err);
    if (!rc)
        rc = kvt_session_decode(s, &err);
    cr_assert_eq(rc, 0, "%s", err.text);
    for (int b = no_full; b < B; b++) {
        struct kvt_branch_result r;
        kvt_session_result(s, b, &r);
        cr_assert_eq(kvt_trace_bytes_peak(t->to, b, r.bytes_peak), 0);
    }
    cr_assert_eq(kvt_trace_bytes_peak(t->to, -1, kvt_session_bytes_peak(s)), 0);
    cr_assert_eq(kvt_trace_finish(&t->to, 0, 1, &err), 0, "%s", err.text);
    return s;
}

static struct kvt_model *open_model(void)
{
    char path[] = "/tmp/kvt-run-XXXXXX";
    struct kvt_err err = {0};
    struct kvt_model *m = NULL;
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    cr_assert_eq(kvt_mkmodel(path, &(struct kvt_mkmodel_opts){.seed = 11}, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_model_open(&m, path, &err), 0, "%s", err.text);
    unlink(path);
    return m;
}

static void same_history(struct kvt_trace *t, const struct tee *told)
{
    static int32_t at[L][G][TOK];
    struct kvt_err err = {0};
    for (int b = 0; b < B; b++) {
        cr_assert_eq(kvt_trace_evicted_at(t, b, &at[0][0][0], &err), 0, "%s", err.text);
        for (int c = 0; c < L * G; c++)
            for (int p = 0; p < TOK; p++)
                cr_assert_eq(at[c / G][c % G][p], told->at[b][c / G][c % G][p], "branch %d layer %d head %d position %d: %d in the file, %d told", b, c / G,
                             c % G, p, at[c / G][c % G][p], told->at[b][c / G][c % G][p]);
    }
}

/* After chunk c: -2 - c. Of three chunks of 64 and one of 18 all have losses. */
static void has_codes_of_chunks(struct kvt_trace *t)
{
    static int32_t at[L][G][TOK];
    int seen[8] = {0};
    cr_assert_eq(kvt_trace_evicted_at(t, 1, &at[0][0][0], NULL), 0);
    for (int p = 0; p < TOK; p++)
        if (at[0][0][p] <= -2 && at[0][0][p] > -10) {
            int c = -2 - at[0][0][p];
            seen[c]++;
            cr_assert(p < 64 * (c + 1), "position %d can't have left after chunk %d", p, c);
        }
    cr_assert(seen[0] == 48 && seen[1] == 48 && seen[2] == 48 && !seen[4], "%d, %d, %d", seen[0], seen[1], seen[2]);
    cr_assert_eq(seen[3], 3 * 16 + 18 - QUESTION / 4);
}

/* Lost mass is what the row of a step puts on what the branch has lost before (measures.md 3): so it follows from rows and history.
 * The kernel adds up to 236 values of a row in another order than this, 1e-6 at most. */
static void rows_lose_what_was_measured(struct kvt_trace *t)
{
    enum { H = 6 };
    static int32_t at[L][G][TOK];
    static float row[H][TOK], lost[NEW][L][G];
    struct kvt_err err = {0};
    for (int b = 1; b < B; b++) {
        cr_assert_eq(kvt_trace_evicted_at(t, b, &at[0][0][0], &err), 0, "%s", err.text);
        cr_assert_eq(kvt_trace_fidelity_of(t, b, "lost_mass", &lost[0][0][0], &err), 0, "%s", err.text);
        for (int k = 1; k <= NEW; k++)
            for (int l = 0; l < L; l++) {
                cr_assert_eq(kvt_trace_decode_row(t, k, l, &row[0][0], &err), 0, "%s", err.text);
                for (int g = 0; g < G; g++) {
                    double sum = 0;
                    for (int h = g * H / G; h < (g + 1) * H / G; h++)
                        for (int j = 0; j < TOK; j++)
                            sum += j >= N + k ? (row[h][j] == 0 ? 0 : 1e9) : at[l][g][j] != -1 && at[l][g][j] < k ? row[h][j] : 0;
                    cr_expect_float_eq(sum / (H / G), lost[k - 1][l][g], 1e-6, "branch %d step %d layer %d head %d: %g, measured %g", b, k, l, g, sum / (H / G),
                                       (double)lost[k - 1][l][g]);
                }
            }
    }
}

Test(run_trace, chunks_and_fidelity_come_back)
{
    static struct tee told;
    struct kvt_model *m = open_model();
    struct kvt_err err = {0};
    struct kvt_session *s = run(m, &told, false);
    struct kvt_trace *t;
    cr_assert_eq(kvt_trace_open(&t, file, NULL, &err), 0, "%s", err.text);
    const struct kvt_trace_info *in = kvt_trace_info(t);
    cr_assert(!in->no_full && told.chunks > 0 && in->n_steps == NEW && in->has_scores);
    same_history(t, &told);
    has_codes_of_chunks(t);
    float v[NEW * L * G];
    double most = 0;
    for (int b = 0; b < B; b++) {
        static const char *const cells[] = {"lost_mass", "lost_rest"}, *const layers[] = {"output_local", "output_propagated"};
        for (int w = 0; w < 2; w++) {
            cr_assert_eq(kvt_trace_fidelity_of(t, b, cells[w], v, &err), 0, "%s", err.text);
            for (int k = 0; k < NEW; k++)
                cr_assert_eq(memcmp(v + k * L * G, w ? told.rest[k][b] : told.lost[k][b], L * G * sizeof *v), 0, "%s of branch %d, step %d", cells[w], b, k + 1);
            cr_assert_eq(kvt_trace_fidelity_of(t, b, layers[w], v, &err), 0, "%s", err.text);
            for (int k = 0; k < NEW; k++)
                cr_assert_eq(memcmp(v + k * L, w ? told.propagated[k][b] : told.local[k][b], L * sizeof *v), 0, "%s of branch %d, step %d", layers[w], b, k + 1);
            for (int i = 0; b && i < NEW * L; i++)
                most = fmax(most, (double)v[i]);
        }
    }
    cr_assert_gt(most, 0);
    cr_assert(in->has_rows);
    rows_lose_what_was_measured(t);
    for (int b = 0; b < B; b++) {
        struct kvt_branch_result r;
        kvt_session_result(s, b, &r);
        cr_assert_eq(in->branch[b].bytes_peak, (int64_t)r.bytes_peak);
    }
    cr_assert_eq(in->kv_peak, (int64_t)kvt_session_bytes_peak(s));
    kvt_trace_close(&t);
    kvt_session_close(&s);
    kvt_model_close(&m);
}

Test(run_trace, without_a_full_branch)
{
    static struct tee told;
    struct kvt_model *m = open_model();
    struct kvt_err err = {0};
    struct kvt_session *s = run(m, &told, true);
    struct kvt_trace *t;
    cr_assert_eq(kvt_trace_open(&t, file, NULL, &err), 0, "%s", err.text);
    const struct kvt_trace_info *in = kvt_trace_info(t);
    cr_assert(in->no_full && in->n_branches == B && in->n_steps == NEW && !in->has_scores && !in->has_rows && !in->map_r);
    same_history(t, &told); /* the full branch's: never there */
    has_codes_of_chunks(t);
    cr_assert(in->branch[0].bytes_peak == -1 && in->branch[0].bytes_last == -1 && isnan(in->branch[0].effective_keep));
    for (int b = 1; b < B; b++) {
        int32_t token[NEW];
        int64_t bytes[NEW];
        struct kvt_branch_result r;
        kvt_session_result(s, b, &r);
        cr_assert(isnan(in->branch[b].mean_kl) && in->branch[b].bytes_peak == (int64_t)r.bytes_peak);
        cr_assert_eq(kvt_trace_tokens(t, b, "forced", token, &err), 0);
        cr_assert_eq(memcmp(token, r.free, sizeof token), 0);
        cr_assert_eq(kvt_trace_bytes(t, b, "alone", bytes, &err), 0);
        cr_assert_eq(bytes[NEW - 1], (int64_t)r.bytes_last);
    }
    cr_assert_eq(in->kv_peak, (int64_t)kvt_session_bytes_peak(s));
    kvt_trace_close(&t);
    kvt_session_close(&s);
    kvt_model_close(&m);
}

/* The trace: what was told comes back, in a file that says how the run ended, whatever the disk does. */
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/half.h"
#include "kernels/ops.h"
#include "kvt/trace.h"
#include "mktrace.h"

enum { L = 2, H = 4, G = 2, N = 10, CTX = 8, NEW = 5, B = 3, R = 3, C = 4 };

static char folder[64], file[96], part[128];

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/kvt_trace_XXXXXX");
    cr_assert(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/run.h5", folder);
    snprintf(part, sizeof part, "%s.part", file);
}

static void teardown(void)
{
    unlink(file);
    unlink(part);
    cr_expect(!rmdir(folder), "something else was left in %s", folder);
}

TestSuite(trace, .init = setup, .fini = teardown);

/* A number that says where it belongs. */
static float f(int kind, int a, int b, int c) { return (float)(kind * 1000 + a * 100 + b * 10) + (float)c / 16; }

/* A value of a map: exact in the stored f16. */
static float map_value(int kind, int a, int b, int c) { return (float)((kind * 7 + a * 5 + b * 3 + c) % 64) / 64; }

struct fixture {
    struct kvt_trace_writer *w;
    const struct kvt_probe *probe;
    struct kvt_plan_branch branch[B];
    struct kvt_trace_plan plan;
    struct kvt_wants wants;
    uint8_t layer[L], head[H];
    int32_t id[N], start[N], end[N];
    const char *text[N];
    struct kvt_plan_span span[2];
};

static void plan_of(struct fixture *x)
{
    memset(x, 0, sizeof *x);
    for (int i = 0; i < N; i++) {
        x->id[i] = 7 * i;
        x->start[i] = i;
        x->end[i] = i + 1;
        x->text[i] = i == 3 ? "é" : "a";
    }
    x->branch[0] = (struct kvt_plan_branch){"full", "full", "full@1", 1, CTX, "prefill", false, "100%", NULL};
    x->branch[1] = (struct kvt_plan_branch){"snapkv 50%", "snapkv", "snapkv@1[w=2]", 0.5, 4, "prefill", false, "50%", NULL};
    x->branch[2] = (struct kvt_plan_branch){"h2o 4", "h2o", "h2o@1", NAN, 4, "step", true, "4 tok", NULL};
    x->span[0] = (struct kvt_plan_span){"shot 1", "shot", -1, 0, 4, 0, 4};
    x->span[1] = (struct kvt_plan_span){"answer", "answer", 0, 2, 4, 2, 4};
    x->layer[1] = 1;
    x->head[0] = x->head[3] = 1;
    x->wants = (struct kvt_wants){.scores = true, .n_sink = 4, .map_r = R, .map_c = C, .full = true, .layer = x->layer, .head = x->head,
                                  .decisions = true};
    x->plan = (struct kvt_trace_plan){
        .path = file, .prompt_id = "p-1", .L = L, .H = H, .G = G, .D = 8, .V = 77, .model_name = "m", .model_arch = "llama",
        .text = "aaaéaaaaaa", .text_bytes = sizeof "aaaéaaaaaa" - 1, .n_prompt = N, .n_context = CTX, .token_id = x->id,
        .token_start = x->start, .token_end = x->end, .token_text = x->text, .longest_token = 6, .span = x->span, .n_spans = 2,
        .branch = x->branch, .n_branches = B, .n_new = NEW, .wants = &x->wants, .n_windows = 2, .window = {2, 5}, .protocol = "visible",
        .decode = "both", .command_line = "kvtrace -m m", .seed = UINT64_MAX};
}

static void begin(struct fixture *x)
{
    struct kvt_err err = {0};
    plan_of(x);
    cr_assert_eq(kvt_trace_create(&x->w, &x->plan, &err), 0, "%s", err.text);
    x->probe = kvt_trace_probe(x->w);
}

static void tell(struct fixture *x, struct kvt_event ev) { cr_assert_eq(x->probe->see(x->probe->self, &ev), 0); }

/* Attention of query i / N % N on key i % N; 0 above the diagonal, as everywhere. */
static float causal(int i) { return i % N <= i / N % N ? (float)(i % 1024) / 1024 : 0; }

static void tell_prefill(struct fixture *x, int layer)
{
    float s[6][H * N], rows[H * N * N];
    uint16_t mean[H * R * C], max[H * R * C];
    int head[H] = {0, 1, 2, 3};
    for (int k = 0; k < 6; k++)
        for (int i = 0; i < H * N; i++)
            s[k][i] = f(k + 1, layer, i / N, i % N);
    for (int i = 0; i < H * R * C; i++) {
        mean[i] = kvt_f16_from_f32(map_value(8, layer, i / (R * C), i % (R * C)) * KVT_HALF_SCALE);
        max[i] = kvt_f16_from_f32(i % 5 ? map_value(9, layer, i / (R * C), i % (R * C)) * KVT_HALF_SCALE : NAN);
    }
    for (int i = 0; i < H * N * N; i++)
        rows[i] = causal(i); /* exact in the stored f16 */
    /* rows in two runs, as a prefill in pieces gives them */
    float piece[H * 6 * N];
    for (int r0 = 0; r0 < N; r0 += 6) {
        int n = r0 ? N - 6 : 6;
        for (int h = 0; h < H; h++)
            memcpy(piece + h * n * N, rows + (h * N + r0) * N, (size_t)(n * N) * sizeof *piece);
        tell(x, (struct kvt_event){.kind = KVT_EV_ROWS, .rows = {layer, N, r0, n, H, head, piece, NULL}});
    }
    /* the windows in another order than the plan's: they are told by their length */
    tell(x, (struct kvt_event){.kind = KVT_EV_PREFILL_LAYER,
                               .prefill_layer = {.layer = layer, .n = N, .mass = s[0], .n_windows = 2, .window = {5, 2}, .wmass = {s[1], s[2]},
                                                 .last = s[3], .entropy = s[4], .sink = s[5], .R = R, .C = C, .map_mean = mean, .map_max = max}});
}

static void tell_decision(struct fixture *x, int b, int layer, int rows)
{
    float score[G * CTX], threshold[G];
    uint8_t reason[G * CTX];
    for (int i = 0; i < G * CTX; i++) {
        score[i] = f(b, layer, i / CTX, i % CTX);
        reason[i] = i % CTX < 4 ? KVT_LEFT_SCORE : KVT_KEPT_SCORE;
    }
    for (int g = 0; g < G; g++)
        threshold[g] = f(5, b, layer, g);
    tell(x, (struct kvt_event){.kind = KVT_EV_DECISION, .decision = {b, layer, CTX, rows, score, threshold, reason}});
}

static void tell_step(struct fixture *x, int step)
{
    int32_t token[B], argmax[B];
    float lp[B], kl[B], ent[B];
    uint64_t alone[B], own[B];
    for (int b = 0; b < B; b++) {
        token[b] = 100 * step + b;
        argmax[b] = 1000 * step + b;
        lp[b] = -(float)step - (float)b / 8;
        kl[b] = (float)b * (float)step;
        ent[b] = (float)b + (float)step;
        alone[b] = (uint64_t)(1000 * step + b);
        own[b] = (uint64_t)(10 * step + b);
    }
    tell(x, (struct kvt_event){.kind = KVT_EV_STEP, .step = {step, B, token, argmax, lp, kl, ent, alone, own, 123456u + (uint64_t)step, 99 + step}});
}

static void tell_all(struct fixture *x, int steps)
{
    for (int l = 0; l < L; l++)
        tell_prefill(x, l);
    tell(x, (struct kvt_event){.kind = KVT_EV_PHASE, .phase = {KVT_PHASE_PREFILL, 5, 6, N}});
    int32_t budget[L * G] = {4, 4, 4, 4}, kept[L * G] = {4, 4, 4, 3};
    for (int b = 1; b < B; b++) {
        for (int l = 0; l < L; l++)
            tell_decision(x, b, l, b == 1 ? G : 1);
        tell(x, (struct kvt_event){.kind = KVT_EV_BUDGET, .budget = {b, 0.5, 0.4375, 14, 32, budget, kept, b == 2, b == 2 ? "why" : ""}});
        cr_assert_eq(kvt_trace_bytes_after(x->w, b, (uint64_t)(77 * b)), 0);
    }
    for (int k = 1; k <= steps; k++) {
        if (k >= 2) {
            int32_t pos[2] = {2 + k, k == 3 ? N + 2 : 2 + k}; /* step 3 also loses the token it brings */
            tell(x, (struct kvt_event){.kind = KVT_EV_EVICT, .evict = {2, 1, 0, k, k == 3 ? 2 : 1, pos}});
        }
        tell_step(x, k);
        cr_assert_eq(kvt_trace_token(x->w, 1, k, false, 9, "東京"), 0);
    }
    tell(x, (struct kvt_event){.kind = KVT_EV_FREE, .free = {1, 2, 4242, -0.5f}});
    cr_assert_eq(kvt_trace_token(x->w, 1, 2, true, 4242, "abcdefghi"), 0); /* longer than a token can be: cut */
    cr_assert_eq(kvt_trace_result(x->w, 1, " free text", 2, 0.25, 0.75), 0);
}

static struct kvt_trace *read_back(const char *path)
{
    struct kvt_trace *t;
    struct kvt_err err = {0};
    cr_assert_eq(kvt_trace_open(&t, path, NULL, &err), 0, "%s", err.text);
    return t;
}

static void finish(struct fixture *x, int status)
{
    struct kvt_err err = {0};
    cr_assert_eq(kvt_trace_finish(&x->w, status, 0xfeedu, &err), 0, "%s", err.text);
    cr_assert_null(x->w);
}

/* Catches a field stored under another's name, an index swapped, a string cut wrongly. */
Test(trace, what_is_known_before_comes_back)
{
    struct fixture x;
    begin(&x);
    finish(&x, KVT_OK);
    struct kvt_trace *t = read_back(file);
    const struct kvt_trace_info *in = kvt_trace_info(t);
    cr_expect_str_eq(in->status, "complete");
    cr_expect_str_eq(in->prompt_id, "p-1");
    cr_expect_str_eq(in->command_line, "kvtrace -m m");
    cr_expect(in->L == L && in->H == H && in->G == G && in->D == 8 && in->V == 77);
    cr_expect(in->n_prompt == N && in->n_context == CTX && in->n_new == NEW && in->n_steps == 0 && in->n_tok == N + NEW);
    cr_expect(in->n_windows == 2 && in->window[0] == 2 && in->window[1] == 5 && in->map_r == R && in->map_c == C);
    cr_expect_eq(in->logits_hash, 0xfeedu);
    cr_expect_str_eq(in->text, "aaaéaaaaaa");
    for (int i = 0; i < N; i++)
        cr_expect(in->token_id[i] == 7 * i && in->token_start[i] == i && in->token_end[i] == i + 1 && !strcmp(in->token_text[i], x.text[i]));
    cr_expect_eq(in->n_spans, 2);
    cr_expect(!strcmp(in->span[1].name, "answer") && !strcmp(in->span[1].kind, "answer") && in->span[1].parent == 0 && in->span[1].start == 2 &&
              in->span[1].end == 4);
    cr_expect_eq(in->n_branches, B);
    cr_expect(!strcmp(in->branch[1].canonical, "snapkv@1[w=2]") && in->branch[1].asked_keep == 0.5);
    cr_expect(isnan(in->branch[2].asked_keep) && in->branch[2].asked_tok == 4 && in->branch[2].renumber && !strcmp(in->branch[2].schedule, "step"));
    cr_expect(isnan(in->branch[1].effective_keep) && in->branch[1].R == 0 && in->branch[1].diverged == -1);
    bool seed = false;
    for (int i = 0; i < in->n_attrs; i++)
        seed |= !strcmp(in->attr[i].name, "seed") && !strcmp(in->attr[i].value, "18446744073709551615");
    cr_expect(seed);
    kvt_trace_close(&t);
}

Test(trace, every_event_comes_back)
{
    struct fixture x;
    begin(&x);
    tell_all(&x, NEW);
    finish(&x, KVT_OK);
    struct kvt_trace *t = read_back(file);
    const struct kvt_trace_info *in = kvt_trace_info(t);
    struct kvt_err err;
    static const char *const raw[6] = {"mass", "wmass", "wmass", "last", "entropy", "sink"};
    float v[N * N], thr[L * G];
    for (int l = 0; l < L; l++)
        for (int k = 0; k < 6; k++) {
            /* s[1] was window 5, the plan's second */
            cr_assert_eq(kvt_trace_raw(t, raw[k], k == 1 ? 1 : 0, l, v, &err), 0, "%s", err.text);
            for (int i = 0; i < H * N; i++)
                cr_expect_eq(v[i], f(k + 1, l, i / N, i % N), "%s of layer %d", raw[k], l);
        }
    for (int i = 0; i < L * H; i++) {
        cr_assert_eq(kvt_trace_map(t, "mean", i / H, i % H, v, &err), 0);
        for (int j = 0; j < R * C; j++)
            cr_expect_eq(v[j], map_value(8, i / H, i % H, j));
        cr_assert_eq(kvt_trace_map(t, "max", i / H, i % H, v, &err), 0);
        for (int j = 0; j < R * C; j++)
            cr_expect((i % H * R * C + j) % 5 ? v[j] == map_value(9, i / H, i % H, j) : isnan(v[j]));
    }
    cr_assert_eq(kvt_trace_full(t, 1, 3, v, &err), 0, "%s", err.text);
    for (int j = 0; j < N * N; j++)
        cr_expect_eq(v[j], causal(3 * N * N + j));
    cr_expect_eq(kvt_trace_full(t, 0, 3, v, &err), KVT_EINPUT); /* wasn't asked for */
    cr_expect_eq(kvt_trace_full(t, 1, 1, v, &err), KVT_EINPUT);

    cr_expect(in->branch[0].R == 0 && in->branch[1].R == G && in->branch[2].R == 1);
    cr_assert_eq(kvt_trace_score(t, 1, v, thr, &err), 0);
    for (int i = 0; i < L * G * CTX; i++)
        cr_expect_eq(v[i], f(1, i / (G * CTX), i / CTX % G, i % CTX));
    for (int i = 0; i < L * G; i++)
        cr_expect_eq(thr[i], f(5, 1, i / G, i % G));
    cr_assert_eq(kvt_trace_score(t, 2, v, thr, &err), 0);
    for (int i = 0; i < L * CTX; i++)
        cr_expect_eq(v[i], f(2, i / CTX, 0, i % CTX));
    cr_expect_eq(thr[1], f(5, 2, 1, 0));
    uint8_t reason[L * G * CTX];
    cr_assert_eq(kvt_trace_reason(t, 2, reason, &err), 0);
    cr_expect(reason[3] == KVT_LEFT_SCORE && reason[4] == KVT_KEPT_SCORE && reason[L * G * CTX - 1] == KVT_KEPT_SCORE);
    cr_assert_eq(kvt_trace_reason(t, 0, reason, &err), 0);
    cr_expect_eq(reason[0], KVT_REASON_NONE);

    const struct kvt_trace_branch *b2 = &in->branch[2];
    cr_expect(b2->effective_keep == 0.4375 && b2->fallback && !strcmp(b2->note, "why") && b2->bytes_after == 154);
    cr_expect(b2->bytes_last == 5002 && b2->bytes_mean == 3002 && b2->diverged == -1 && b2->mean_kl == 6);
    cr_expect(in->branch[1].diverged == 2 && in->branch[1].mean_kl == 0.25 && in->branch[1].top1 == 0.75);
    cr_expect_str_eq(in->branch[1].text, " free text");
    float series[NEW];
    int64_t bytes[NEW];
    int32_t tokens[NEW];
    cr_assert_eq(kvt_trace_series(t, 2, "logprob", series, &err), 0);
    cr_expect_eq(series[4], -5.25f);
    cr_assert_eq(kvt_trace_bytes(t, 1, "own", bytes, &err), 0);
    cr_expect_eq(bytes[2], 31);
    cr_assert_eq(kvt_trace_tokens(t, 2, "forced", tokens, &err), 0);
    cr_expect_eq(tokens[3], 4002);
    cr_assert_eq(kvt_trace_tokens(t, 1, "free", tokens, &err), 0);
    cr_expect(tokens[0] == -1 && tokens[1] == 4242 && tokens[2] == -1);
    char text[32];
    cr_assert_eq(kvt_trace_token_text(t, 1, "forced", 3, text, sizeof text, &err), 0);
    cr_expect_str_eq(text, "東京");
    cr_assert_eq(kvt_trace_token_text(t, 1, "free", 2, text, sizeof text, &err), 0);
    cr_expect_str_eq(text, "abcdef");
    cr_expect(in->n_phases == 1 && !strcmp(in->phase[0].name, "prefill") && in->phase[0].dur_ns == 6 && in->phase[0].n_tok == N);
    kvt_trace_close(&t);
}

/* Catches a chunk that isn't written again after a change, a token that isn't held once it exists, a late loss that hides
 * an earlier one. */
Test(trace, history_of_evictions)
{
    struct fixture x;
    begin(&x);
    tell_all(&x, NEW - 1);
    finish(&x, KVT_EINTR);
    struct kvt_trace *t = read_back(file);
    cr_expect_str_eq(kvt_trace_info(t)->status, "interrupted");
    int32_t at[B][L * G * (N + NEW)];
    struct kvt_err err;
    for (int b = 0; b < B; b++)
        cr_assert_eq(kvt_trace_evicted_at(t, b, at[b], &err), 0, "%s", err.text);
    for (int b = 0; b < B; b++)
        for (int cell = 0; cell < L * G; cell++)
            for (int p = 0; p < N + NEW; p++) {
                int32_t want = p >= N + NEW - 1 ? KVT_NOT_YET : b && p < 4 ? 0 : -1;
                if (b == 2 && cell == 2) /* layer 1, kv head 0: steps 2, 3, 4 lost 4, 5, 6, and step 3 its own token */
                    want = p >= 4 && p <= 6 ? p - 2 : p == N + 2 ? 3 : want;
                cr_expect_eq(at[b][cell * (N + NEW) + p], want, "branch %d cell %d position %d: %d, not %d", b, cell, p,
                             at[b][cell * (N + NEW) + p], want);
            }
    kvt_trace_close(&t);
}

static void wait_a_little(void) { nanosleep(&(struct timespec){0, 10000000}, NULL); }

/* Catches data that waits for the end of the run: a reader sees each step while the run goes on, and a killed run leaves
 * what was seen. */
Test(trace, a_death_leaves_all_finished_steps, .timeout = 60)
{
    pid_t child = fork();
    if (!child) {
        struct fixture x;
        begin(&x);
        tell_all(&x, 3);
        for (;;)
            pause();
    }
    int seen = -1;
    for (int i = 0; i < 2000 && seen < 3; i++) {
        struct kvt_trace *live = NULL;
        if (!access(part, F_OK) && !kvt_trace_open(&live, part, NULL, NULL))
            seen = kvt_trace_info(live)->n_steps;
        kvt_trace_close(&live);
        wait_a_little();
    }
    cr_expect_eq(seen, 3);
    cr_assert(!kill(child, SIGKILL) && waitpid(child, NULL, 0) == child);
    cr_expect(access(file, F_OK) && !access(part, F_OK));
    struct kvt_trace *t = read_back(file); /* finds the .part */
    const struct kvt_trace_info *in = kvt_trace_info(t);
    cr_expect_str_eq(in->path, part);
    cr_expect_str_eq(in->status, "in_progress");
    cr_expect_eq(in->n_steps, 3);
    float kl[NEW];
    int32_t at[L * G * (N + NEW)];
    cr_assert_eq(kvt_trace_series(t, 2, "kl", kl, NULL), 0);
    cr_expect_eq(kl[2], 6);
    cr_assert_eq(kvt_trace_evicted_at(t, 2, at, NULL), 0);
    cr_expect(at[2 * (N + NEW) + 5] == 3 && at[N + 2] == -1 && at[N + 3] == KVT_NOT_YET);
    kvt_trace_close(&t);
}

Test(trace, nothing_is_replaced_unless_forced)
{
    struct fixture x;
    struct kvt_err err;
    struct kvt_trace_writer *w;
    begin(&x);
    finish(&x, KVT_OK);
    cr_expect_eq(kvt_trace_create(&w, &x.plan, &err), KVT_EINPUT);
    cr_expect(strstr(err.text, "--force"), "%s", err.text);
    x.plan.force = true;
    cr_assert_eq(kvt_trace_create(&w, &x.plan, &err), 0, "%s", err.text);
    cr_expect(!access(file, F_OK), "the old file must stay until the new one is whole");
    cr_expect_eq(kvt_trace_finish(&w, KVT_EIO, 0, &err), 0);
    cr_expect(!access(file, F_OK) && !access(part, F_OK));
    x.plan.force = false;
    unlink(file);
    cr_expect_eq(kvt_trace_create(&w, &x.plan, &err), KVT_EINPUT, "an unfinished run's data isn't replaced either");
}

/* A disk that is full: one error, from the next event and from the end; what was written stays. */
static int write_until_full(long bytes, char *text, size_t cap)
{
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit lim = {(rlim_t)bytes, (rlim_t)bytes};
    setrlimit(RLIMIT_FSIZE, &lim);
    struct mktrace_opts o = {.path = file, .n_new = 400, .n_shots = 2};
    struct kvt_err err = {0};
    int rc = mktrace(&o, &err);
    snprintf(text, cap, "%s", err.text);
    return rc;
}

Test(trace, full_disk, .timeout = 60)
{
    static const long limit[] = {2000, 200000, 450000, 500000, 540000, 580000, 640000};
    int opened = 0;
    for (size_t i = 0; i < sizeof limit / sizeof *limit; i++) {
        pid_t child = fork();
        if (!child) {
            char text[512];
            int rc = write_until_full(limit[i], text, sizeof text);
            _exit(rc == KVT_EIO && strstr(text, "File too large") && !strchr(text, '\n') ? 0 : 1);
        }
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "limit %ld: status %d", limit[i], status);
        cr_expect(access(file, F_OK), "a cut file must not have the name of a whole one");
        if (!access(part, F_OK)) {
            struct kvt_trace *t = read_back(part);
            cr_expect_str_neq(kvt_trace_info(t)->status, "complete");
            kvt_trace_close(&t);
            opened++;
        }
        unlink(part);
    }
    cr_expect_geq(opened, 3, "the limits no longer fall into the run");
}

/* Any byte changed: a reader refuses it in one line, or reads it; it never crashes. Every 211th byte of the first 64 KB. */
Test(trace, damaged_files, .timeout = 120)
{
    struct fixture x;
    begin(&x);
    tell_all(&x, NEW);
    finish(&x, KVT_OK);
    FILE *in = fopen(file, "rb");
    cr_assert(in);
    static unsigned char data[1 << 20];
    size_t n = fread(data, 1, sizeof data, in);
    fclose(in);
    int refused = 0, tried = 0;
    for (size_t i = 8; i < n && i < 65536; i += 211, tried++) {
        FILE *out = fopen(part, "wb");
        cr_assert(out);
        data[i] ^= 0xff;
        fwrite(data, 1, i % 3 ? n : i + 1, out);
        data[i] ^= 0xff;
        fclose(out);
        struct kvt_trace *t;
        struct kvt_err err = {0};
        int rc = kvt_trace_open(&t, part, NULL, &err);
        if (rc) {
            refused++;
            cr_expect(*err.text && !strchr(err.text, '\n'), "no line for byte %zu", i);
            continue;
        }
        int32_t at[L * G * (N + NEW)];
        kvt_trace_evicted_at(t, 1, at, &err);
        kvt_trace_close(&t);
    }
    cr_expect_gt(refused, tried / 3);
}

Test(trace, what_is_no_trace_is_refused)
{
    struct kvt_trace *t;
    struct kvt_err err;
    cr_expect_eq(kvt_trace_open(&t, "/nonexistent/run.h5", NULL, &err), KVT_EINPUT);
    cr_expect_eq(kvt_trace_open(&t, "/dev/null", NULL, &err), KVT_EFORMAT);
    struct fixture x;
    begin(&x);
    finish(&x, KVT_OK);
    cr_expect_eq(kvt_trace_open(&t, file, "p-2", &err), KVT_EINPUT);
    t = read_back(file);
    float v[H * N];
    cr_expect_eq(kvt_trace_raw(t, "mass", 0, L, v, &err), KVT_EINPUT);
    cr_expect_eq(kvt_trace_raw(t, "mess", 0, 0, v, &err), KVT_EINPUT);
    cr_expect_eq(kvt_trace_raw(t, "wmass", 2, 0, v, &err), KVT_EINPUT);
    cr_expect_eq(kvt_trace_series(t, B, "kl", v, &err), KVT_EINPUT);
    cr_expect_eq(kvt_trace_score(t, 0, v, v, &err), KVT_EINPUT);
    kvt_trace_close(&t);
}

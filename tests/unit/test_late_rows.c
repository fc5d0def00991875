/* What --for-replay records of a real run: from the last rows and what row_sums says of their order the very sums that the backend made
 * follow, bit for bit, over the border of two calls too. Would catch: another order of summation, rows of another head or layer, rows
 * of the question that belong to other tokens, norms of other slots. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvt/session.h"
#include "kvt/trace.h"
#include "mkmodel.h"
#include "tracer/trace_write.h"

enum { L = 2, H = 6, G = 2, D = 16, N = 706, QUESTION = 696, LATE = 150, NEW = 2 }; /* calls of 512 rows: the last has 194, strips of two tiles */

struct seen {
    float rows[L][H][LATE][N], mass[L][H][N], last[L][H][N], square[L][H][N];
    float wmass[KVT_MAX_WINDOWS][L][H][N];
    uint8_t level[LATE];
    int n_windows, window[KVT_MAX_WINDOWS], questions, steps, norms, outs, all_square;
    float question[N - QUESTION][L][H][N + NEW], key[L][G][N + NEW];
};

static void wants(void *self, struct kvt_wants *w)
{
    (void)self;
    *w = (struct kvt_wants){.n_sink = 4, .scores = true, .max = true, .rows = true, .replay = LATE};
}

static int see(void *self, const struct kvt_event *ev)
{
    struct seen *s = self;
    if (ev->kind == KVT_EV_LATE_ROWS) {
        const struct kvt_ev_late_rows *e = &ev->late_rows;
        memcpy(s->rows[e->layer][e->head][e->row0], e->rows, (size_t)e->n_rows * N * sizeof(float));
        memcpy(s->level + e->row0, e->level, (size_t)e->n_rows);
    } else if (ev->kind == KVT_EV_PREFILL_LAYER) {
        const struct kvt_ev_prefill_layer *e = &ev->prefill_layer;
        memcpy(s->mass[e->layer], e->mass, sizeof s->mass[0]);
        memcpy(s->last[e->layer], e->last, sizeof s->last[0]);
        s->n_windows = e->n_windows;
        for (int w = 0; w < e->n_windows; w++) {
            s->window[w] = e->window[w];
            memcpy(s->wmass[w][e->layer], e->wmass[w], sizeof s->wmass[0][0]);
        }
        for (int i = 0; i < e->n_squares; i++)
            if (e->square_window[i] == 8 && !e->square_by_pos[i])
                memcpy(s->square[e->layer], e->sqmass[i], sizeof s->square[0]);
    } else if (ev->kind == KVT_EV_DECODE_ROW) {
        const struct kvt_ev_decode_row *e = &ev->decode_row;
        cr_assert_eq(e->ld, N + NEW);
        s->questions += e->pos < N, s->steps += e->pos >= N;
        if (e->pos < N)
            memcpy(s->question[e->pos - QUESTION][e->layer], e->row, sizeof s->question[0][0]);
    } else if (ev->kind == KVT_EV_NORMS) {
        s->norms++, s->outs += ev->norms.out != NULL;
        for (int g = 0; g < G; g++)
            memcpy(s->key[ev->norms.layer][g], ev->norms.key + (size_t)g * (size_t)ev->norms.n, (size_t)ev->norms.n * sizeof(float));
    }
    return 0;
}

/* The sum of the last w rows, in the order that is told. */
static float sum_of(const struct seen *s, int l, int h, int w, int j)
{
    float all = 0, strip = 0, part = 0;
    for (int r = LATE - w; r < LATE; r++) {
        if (s->level[r] && r > LATE - w) {
            strip += part, part = 0;
            if (s->level[r] == 2)
                all += strip, strip = 0;
        }
        part += s->rows[l][h][r][j];
    }
    strip += part;
    return all + strip;
}

static void check(const struct kvt_ops *ops, struct kvt_model *m)
{
    static struct seen s;
    static int32_t token[N];
    struct kvt_err err = {0};
    struct kvt_session *run = NULL;
    static const char *const spec[] = {"snapkv[w=5]", "snapkv[w=33]", "snapkv[w=140]"};
    struct kvt_branch_opts branch[3] = {{0}};
    memset(&s, 0, sizeof s);
    for (int i = 0; i < N; i++)
        token[i] = 3 + (i * 37 + i / 11 * 5) % 390;
    for (int b = 0; b < 3; b++) {
        branch[b].name = spec[b];
        branch[b].budget = (struct kvt_budget){.kind = KVT_BUDGET_KEEP, .keep_ppm = 500000};
        cr_assert_eq(kvt_spec_parse(&branch[b].spec, spec[b], strlen(spec[b]), &err), 0, "%s", err.text);
    }
    struct kvt_probe probe = {&s, wants, see};
    struct kvt_session_opts o = {.ops = ops, .threads = 2, .compute = KVT_COMPUTE_F32, .kv_type = KVT_F32, .decode = KVT_DECODE_FORCED, .token = token, .n_prompt = N,
                                 .question_start = QUESTION, .window = 8, .n_new = NEW, .branch = branch, .n_branches = 3, .probe = &probe};
    cr_assert_eq(kvt_session_open(&run, m, &o, &err), 0, "%s", err.text);
    cr_assert(!kvt_session_prefill(run, &err) && !kvt_session_decode(run, &err), "%s", err.text);
    cr_assert_eq(s.n_windows, 3);
    for (int i = 0; i < s.n_windows * L * H * N; i++) {
        int w = i / (L * H * N), l = i / (H * N) % L, h = i / N % H, j = i % N;
        cr_assert_eq(s.wmass[w][l][h][j], sum_of(&s, l, h, s.window[w], j), "%s: window %d, layer %d, head %d, key %d", ops->name, s.window[w], l, h, j);
    }
    for (int i = 0; i < L * H * N; i++) {
        int l = i / (H * N), h = i / N % H, j = i % N;
        double square = 0;
        for (int r = LATE - 8; r < LATE; r++)
            square += (double)s.rows[l][h][r][j] * (double)s.rows[l][h][r][j];
        cr_assert_eq(s.last[l][h][j], s.rows[l][h][LATE - 1][j]);
        cr_assert_float_eq(s.square[l][h][j], square, 1e-6); /* eight squares below 1 in f32 */
        /* the question fed again looks as it did in the prefill: the same numbers through other kernels */
        cr_assert_float_eq(s.question[N - QUESTION - 1][l][h][j], s.last[l][h][j], 1e-4, "%s: %g, %g", ops->name, (double)s.question[N - QUESTION - 1][l][h][j],
                           (double)s.last[l][h][j]);
    }
    cr_assert(s.questions == L * (N - QUESTION) && s.steps == L * NEW && s.norms == 2 * L && s.outs == L);
    for (int i = 0; i < L * G * (N + NEW); i++)
        cr_assert((&s.key[0][0][0])[i] > 0);
    kvt_session_close(&run);
}

Test(late_rows, sums_follow_from_them)
{
    char path[] = "/tmp/kvt-late-XXXXXX";
    struct kvt_err err = {0};
    struct kvt_model *m = NULL;
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    cr_assert_eq(kvt_mkmodel(path, &(struct kvt_mkmodel_opts){.seed = 11, .L = L, .context_tok = 1024}, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_model_open(&m, path, &err), 0, "%s", err.text);
    unlink(path);
    check(&kvt_ops_ref, m);
    check(&kvt_ops_cpu, m);
    kvt_model_close(&m);
}

/* 8 GB of rows were asked for and none came: the file opens all the same. */
Test(late_rows, a_run_that_ended_early_opens)
{
    static const int32_t none[4];
    static const char *const text[] = {"a", "b", "c", "d"};
    char path[] = "/tmp/kvt-early-XXXXXX";
    struct kvt_err err = {0};
    struct kvt_wants w = {.n_sink = 4, .scores = true, .max = true, .rows = true, .replay = 2};
    struct kvt_plan_branch full = {.name = "full", .method = "full", .canonical = "full", .asked_keep = 1, .asked_tok = 3, .schedule = "prefill"};
    struct kvt_trace_plan plan = {.path = path, .force = true, .prompt_id = "0", .L = 8, .H = 64, .G = 1, .D = 4, .V = 9, .model_name = "m", .model_arch = "llama",
                                  .model_path = "", .model_type = "", .config_sha256 = "", .tokenizer_kind = "", .text = "abcd", .text_bytes = 4, .n_prompt = 4,
                                  .n_context = 3, .token_id = none, .token_start = none, .token_end = none, .token_text = text, .longest_token = 1, .branch = &full,
                                  .n_branches = 1, .n_new = 2000, .wants = &w, .protocol = "visible", .decode = "both", .compute = "f32", .kv_type = "f32",
                                  .backend = "cpu", .device = "", .command_line = ""};
    struct kvt_trace_writer *to;
    struct kvt_trace *t;
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    cr_assert_eq(kvt_trace_create(&to, &plan, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_trace_finish(&to, KVT_EINTR, 0, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_trace_open(&t, path, NULL, &err), 0, "%s", err.text);
    cr_assert(kvt_trace_info(t)->has_rows && kvt_trace_info(t)->n_steps == 0 && kvt_trace_info(t)->n_late == 2);
    kvt_trace_close(&t);
    unlink(path);
}

/* What the full branch's rows come to while it decodes. Would catch: a row of another step, layer or head, keys of the prompt
 * counted as generated ones, a distance counted from the wrong end, steps told twice beside oracles, events of who asked for none. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/ops.h"
#include "kvt/session.h"
#include "mkmodel.h"

enum { N_PROMPT = 60, N_NEW = 9, N = N_PROMPT + N_NEW, L = 3, H = 6, K = 3, S = 2, BINS = 13 };

static const int32_t spans[2 * S] = { 4, 26, 20, 60 }, offsets[2] = { 17, 65 };

/* A row of 12 keys, 10 of them of the prompt: 1/2 on the first, 1/4 on the sixth, 1/8 each on the tenth and on the last. Entropy
 * 1/2 ln 2 + 1/4 ln 4 + 2/8 ln 8 = 1.75 ln 2. Distances 11, 6, 2, 0. */
Test(decode_rows, by_hand)
{
    const float row[12] = { .5f, 0, 0, 0, 0, .25f, 0, 0, 0, .125f, 0, .125f };
    const int32_t span[4] = { 0, 6, 5, 20 }, offset[3] = { 1, 6, 12 };
    float one[6], distance[10], at[3], on[2], top[5];
    int32_t top_at[5];
    struct kvt_reduce_row_args a = { .row = row, .H = 1, .n = 12, .ld = 12, .n_sink = 1, .n_local = 3, .n_prompt = 10, .entropy = one, .keys = one + 1, .first = one + 2,
                                     .sink = one + 3, .local = one + 4, .own = one + 5, .distance = distance, .offset = at, .spans = on, .top = top, .top_at = top_at,
                                     .offset_at = offset, .span = span, .n_distances = 10, .n_offsets = 3, .n_spans = 2, .top_k = 5 };
    kvt_ops_ref.reduce_row(NULL, &a);
    const double want[6] = { 1.75 * log(2), exp(1.75 * log(2)), .5, .5, .25, .125 };
    for (int i = 0; i < 6; i++)
        cr_expect_float_eq(one[i], want[i], 1e-6, "%d: %g, not %g", i, (double)one[i], want[i]);
    for (int b = 0; b < 10; b++)
        cr_expect_eq(distance[b], b == 0 || b == 2 ? .125f : b == 6 ? .25f : b == 9 ? .5f : 0, "bin %d: %g", b, (double)distance[b]);
    cr_expect(at[0] == 0 && at[1] == .25f && isnan(at[2]));
    cr_expect(on[0] == .75f && on[1] == .5f);
    cr_expect(top[0] == .5f && top[1] == .25f && top[2] == .125f && top[3] == .125f && top[4] == 0);
    cr_expect(top_at[0] == 0 && top_at[1] == 5 && top_at[2] == 9 && top_at[3] == 11 && top_at[4] == -1);
}

struct seen {
    bool full, ask;
    int steps, rows;
    int32_t token[N_NEW];
    float own[N_NEW][L][H], first[N_NEW][L][H], entropy[N_NEW][L][H], keys[N_NEW][L][H], sink[N_NEW][L][H], local[N_NEW][L][H], distance[N_NEW][L][H][BINS],
          offset[N_NEW][L][H][2], spans[N_NEW][L][H][S], top[N_NEW][L][H][K], raw[N_NEW][L][H][N];
    int32_t top_at[N_NEW][L][H][K];
    float p_entropy[L][H][N], p_keys[L][H][N], p_sink[L][H][N], p_local[L][H][N], p_top[L][H][N][K], row[L][H][N][N]; /* of the prefill */
    int32_t p_top_at[L][H][N][K];
};

static void wants(void *self, struct kvt_wants *w)
{
    const struct seen *s = self;
    *w = (struct kvt_wants){ .n_sink = 4 };
    if (s->full || s->ask)
        *w = (struct kvt_wants){ .scores = true, .n_sink = 4, .keys = true, .local = true, .n_local = 16, .distance = true, .offset = offsets, .n_offsets = 2,
                                 .span = spans, .n_spans = S, .top_k = K, .full = s->full, .decode = true, .rows = s->ask };
}

static void see_decode(struct seen *s, const struct kvt_ev_decode *e)
{
    int i = e->step - 1;
    cr_assert_eq(i, s->steps, "steps in order, and each once");
    s->steps++;
    cr_assert(e->n_distances == BINS && e->n_offsets == 2 && e->n_spans == S && e->top_k == K);
#define TAKE(f) memcpy(s->f[i], e->f, sizeof s->f[i])
    TAKE(own); TAKE(first); TAKE(entropy); TAKE(keys); TAKE(sink); TAKE(local); TAKE(distance); TAKE(offset); TAKE(spans); TAKE(top); TAKE(top_at);
#undef TAKE
}

static int see(void *self, const struct kvt_event *ev)
{
    struct seen *s = self;
    if (ev->kind == KVT_EV_STEP && !ev->step.first) {
        s->token[ev->step.step - 1] = ev->step.token[0];
        cr_assert(!s->ask || s->steps == ev->step.step, "before the step's own event");
    } else if (ev->kind == KVT_EV_DECODE) {
        see_decode(s, &ev->decode);
    } else if (ev->kind == KVT_EV_DECODE_ROW) {
        const struct kvt_ev_decode_row *e = &ev->decode_row;
        int step = e->pos - N_PROMPT + 1;
        cr_assert(e->n == e->pos + 1 && s->rows++ == (step - 1) * L + e->layer);
        for (int h = 0; h < H; h++)
            memcpy(s->raw[step - 1][e->layer][h], e->row + (size_t)h * (size_t)e->ld, (size_t)e->n * sizeof(float));
    } else if (ev->kind == KVT_EV_PREFILL_LAYER && s->full) {
        const struct kvt_ev_prefill_layer *e = &ev->prefill_layer;
        memcpy(s->p_entropy[e->layer], e->entropy, sizeof s->p_entropy[0]);
        memcpy(s->p_keys[e->layer], e->keys, sizeof s->p_keys[0]);
        memcpy(s->p_sink[e->layer], e->sink, sizeof s->p_sink[0]);
        memcpy(s->p_local[e->layer], e->local, sizeof s->p_local[0]);
        memcpy(s->p_top[e->layer], e->top, sizeof s->p_top[0]);
        memcpy(s->p_top_at[e->layer], e->top_at, sizeof s->p_top_at[0]);
    } else if (ev->kind == KVT_EV_ROWS) {
        const struct kvt_ev_rows *e = &ev->rows;
        for (int i = 0; i < e->n_heads; i++)
            for (int t = 0; t < e->n_rows; t++)
                memcpy(s->row[e->layer][e->head[i]][e->row0 + t], e->rows + ((size_t)i * e->n_rows + t) * e->n, (size_t)e->n * sizeof(float));
    }
    return 0;
}

static uint64_t run(const struct kvt_model *model, const struct kvt_branch_opts *branch, int n_branches, enum kvt_protocol protocol, const int32_t *token,
                    int n_prompt, struct seen *seen)
{
    struct kvt_err err = { 0 };
    struct kvt_session *s = NULL;
    struct kvt_probe probe = { .self = seen, .wants = wants, .see = see };
    struct kvt_session_opts o = { .ops = kvt_ops_find("cpu"), .threads = 1, .compute = KVT_COMPUTE_F32, .kv_type = KVT_F32, .protocol = protocol,
                                  .token = token, .n_prompt = n_prompt, .question_start = 50, .window = 8, .n_new = N_NEW, .branch = branch,
                                  .n_branches = n_branches, .probe = &probe };
    int rc = kvt_session_open(&s, model, &o, &err);
    if (!rc)
        rc = kvt_session_prefill(s, &err);
    if (!rc && !seen->full)
        rc = kvt_session_decode(s, &err);
    cr_assert_eq(rc, 0, "%s", err.text);
    uint64_t hash = kvt_session_logits_hash(s);
    kvt_session_close(&s);
    return hash;
}

/* f32 forward passes that add up in different tiles: some 1e-6 of a probability, and of a sum of them; entropies a little more. */
static void compare(const struct seen *s, const struct seen *rows, int k, int l, int h)
{
    int t = N_PROMPT + k, far = 0;
    const float *row = rows->row[l][h][t];
    double own = 0, sum = 0, span[S] = { 0 }, bin[BINS] = { 0 };
    for (int j = 0; j <= t; j++) {
        cr_assert_float_eq(s->raw[k][l][h][j], row[j], 2e-5);
        own += j >= N_PROMPT ? row[j] : 0;
        for (int i = 0; i < S; i++)
            span[i] += j >= spans[2 * i] && j < spans[2 * i + 1] ? row[j] : 0;
        for (far = 0; far + 1 < BINS && kvt_distance_start(far + 1) <= t - j;)
            far++;
        bin[far] += row[j];
    }
    cr_assert_float_eq(s->entropy[k][l][h], rows->p_entropy[l][h][t], 2e-4);
    cr_assert_float_eq(s->keys[k][l][h], rows->p_keys[l][h][t], 2e-4 * rows->p_keys[l][h][t]);
    cr_assert_float_eq(s->sink[k][l][h], rows->p_sink[l][h][t], 2e-5);
    cr_assert_float_eq(s->local[k][l][h], rows->p_local[l][h][t], 2e-5);
    cr_assert_float_eq(s->first[k][l][h], row[0], 2e-5);
    cr_assert_float_eq(s->own[k][l][h], own, 2e-5);
    for (int i = 0; i < S; i++)
        cr_assert_float_eq(s->spans[k][l][h][i], span[i], 2e-5);
    for (int b = 0; b < BINS; b++) {
        cr_assert_float_eq(s->distance[k][l][h][b], bin[b], 2e-5);
        sum += s->distance[k][l][h][b];
    }
    cr_assert_float_eq(sum, 1, 1e-5);
    cr_assert_float_eq(s->offset[k][l][h][0], row[t - 17], 2e-5);
    cr_assert(t < 65 ? isnan(s->offset[k][l][h][1]) : fabs(s->offset[k][l][h][1] - row[t - 65]) < 2e-5);
    for (int i = 0; i < K; i++) {
        cr_assert_float_eq(s->top[k][l][h][i], rows->p_top[l][h][t][i], 2e-5);
        cr_assert(s->top_at[k][l][h][i] == rows->p_top_at[l][h][t][i] || fabs(row[s->top_at[k][l][h][i]] - row[rows->p_top_at[l][h][t][i]]) < 4e-5);
    }
}

/* The rows of decoding are those that a prefill of the prompt and its answer has there, in every protocol; oracles, which run beside
 * the full branch once more, don't tell them twice; and asking changes nothing. */
Test(decode_rows, are_the_rows_of_a_prefill)
{
    static struct seen seen, rows, bare;
    static const char *const spec[] = { "snapkv[w=4]", "oracle" };
    char path[] = "/tmp/kvt-rows-XXXXXX";
    struct kvt_err err = { 0 };
    struct kvt_model *model = NULL;
    struct kvt_branch_opts branch[2];
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    cr_assert_eq(kvt_mkmodel(path, &(struct kvt_mkmodel_opts){ .seed = 11 }, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_model_open(&model, path, &err), 0, "%s", err.text);
    unlink(path);
    for (int b = 0; b < 2; b++) {
        branch[b] = (struct kvt_branch_opts){ .name = spec[b], .budget = { .kind = KVT_BUDGET_KEEP, .keep_ppm = 400000 } };
        cr_assert_eq(kvt_spec_parse(&branch[b].spec, spec[b], strlen(spec[b]), &err), 0, "%s", err.text);
    }
    for (int p = KVT_PROTOCOL_VISIBLE; p <= KVT_PROTOCOL_LITERATURE; p++) {
        int32_t token[N];
        for (int i = 0; i < N_PROMPT; i++)
            token[i] = 3 + i * 37 % 390;
        memset(&seen, 0, sizeof seen);
        memset(&bare, 0, sizeof bare);
        seen.ask = rows.full = true;
        uint64_t asked = run(model, branch, 2, (enum kvt_protocol)p, token, N_PROMPT, &seen);
        cr_assert(seen.steps == N_NEW && seen.rows == N_NEW * L);
        cr_assert_eq(asked, run(model, branch, 2, (enum kvt_protocol)p, token, N_PROMPT, &bare));
        cr_assert(!bare.steps && !bare.rows);
        memcpy(token + N_PROMPT, seen.token, sizeof seen.token);
        run(model, branch, 0, KVT_PROTOCOL_LITERATURE, token, N, &rows);
        for (int k = 0; k < N_NEW; k++)
            for (int l = 0; l < L; l++)
                for (int h = 0; h < H; h++)
                    compare(&seen, &rows, k, l, h);
    }
    kvt_model_close(&model);
}

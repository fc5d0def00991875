/* Induction and duplicate heads from repeated random tokens (Olsson et al. 2022), retrieval heads from needles (Wu et al. 2024). */
#include "analyzers/probes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/needles.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kvt/prompt.h"

int kvt_probe_sums_make(struct kvt_probe_sums *s, int L, int H, struct kvt_err *err)
{
    size_t heads = (size_t)L * (size_t)H;
    *s = (struct kvt_probe_sums){.L = L, .H = H, .induction = kvt_calloc(heads, sizeof(double)), .duplicate = kvt_calloc(heads, sizeof(double)),
                                 .copied = kvt_calloc(heads, sizeof(double))};
    return s->induction && s->duplicate && s->copied ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for the scores of %zu heads", heads);
}

void kvt_probe_sums_free(struct kvt_probe_sums *s)
{
    free(s->induction);
    free(s->duplicate);
    free(s->copied);
    memset(s, 0, sizeof *s);
}

/* One prompt through the model, uncompressed, and everything reported to probe. */
static int run_prompt(const struct kvt_probe_run *run, const int32_t *token, int n_prompt, int n_new, const struct kvt_probe *probe, struct kvt_err *err)
{
    struct kvt_session *s = NULL;
    struct kvt_session_opts o = {.ops = run->ops, .threads = run->threads, .compute = run->compute, .kv_type = run->kv_type, .protocol = KVT_PROTOCOL_LITERATURE,
                                 .decode = KVT_DECODE_FORCED, .token = token, .n_prompt = n_prompt, .question_start = -1, .window = 1,
                                 .n_new = n_new ? n_new : 1, .probe = probe, .interrupted = run->interrupted};
    int rc = kvt_session_open(&s, run->model, &o, err);
    if (!rc)
        rc = kvt_session_prefill(s, err);
    if (!rc && n_new)
        rc = kvt_session_decode(s, err);
    kvt_session_close(&s);
    return rc;
}

/* ---- repeated tokens ---- */

int kvt_probe_draw(const struct kvt_tokenizer *tok, uint64_t seed, int n, int32_t *out)
{
    struct kvt_tokens bos = {0};
    struct kvt_rng rng;
    int V = kvt_tokenizer_size(tok), tries = 0, b = 0;
    if (!kvt_tokenize(tok, "", 0, KVT_TOK_BOS, &bos, NULL) && bos.n == 1)
        out[b++] = bos.id[0];
    kvt_tokens_free(&bos);
    kvt_rng_seed(&rng, seed);
    for (int i = 0; i < n;) {
        int32_t id = (int32_t)kvt_rng_below(&rng, (uint32_t)V);
        if (kvt_token_is_special(tok, id) || kvt_token_is_end(tok, id)) {
            if (++tries > 100 * n)
                return 0;
            continue;
        }
        out[b + i] = out[b + n + i] = id;
        i++;
    }
    return b + 2 * n;
}

struct repeat { struct kvt_probe_sums *s; int n; };

static void want_rows(void *self, struct kvt_wants *w)
{
    (void)self;
    *w = (struct kvt_wants){.n_sink = 1, .full = true};
}

static int see_rows(void *self, const struct kvt_event *ev)
{
    const struct repeat *r = self;
    if (ev->kind != KVT_EV_ROWS)
        return 0;
    const struct kvt_ev_rows *e = &ev->rows;
    for (int k = 0; k < e->n_heads; k++)
        for (int t = 0; t < e->n_rows; t++) {
            int i = e->row0 + t;
            size_t cell = (size_t)e->layer * (size_t)r->s->H + (size_t)e->head[k];
            const float *row = e->rows + ((size_t)k * (size_t)e->n_rows + (size_t)t) * (size_t)e->n;
            if (i < e->n - r->n)
                continue;
            r->s->induction[cell] += row[i - r->n + 1];
            r->s->duplicate[cell] += row[i - r->n];
        }
    return 0;
}

int kvt_probe_repeat(const struct kvt_probe_run *run, const int32_t *token, int n_prompt, int n, struct kvt_probe_sums *s, struct kvt_err *err)
{
    struct repeat r = {s, n};
    struct kvt_probe probe = {.self = &r, .wants = want_rows, .see = see_rows};
    if (s->H > 64)
        return kvt_fail(err, KVT_EUNSUP, "--probe: this model has %d query heads; rows are looked at in models of up to 64", s->H);
    int rc = run_prompt(run, token, n_prompt, 0, &probe, err);
    s->rows += rc ? 0 : n;
    return rc;
}

/* ---- needles ---- */

enum { MOST_SAID = 64 };

struct needle {
    int n_prompt, heads, H, steps;
    int32_t said[MOST_SAID];
    int32_t *at;              /* (MOST_SAID + 1, heads): the first of the prompt's last row, then of generated tokens' rows */
};

static void want_top(void *self, struct kvt_wants *w)
{
    (void)self;
    *w = (struct kvt_wants){.n_sink = 1, .top_k = 1, .decode = true};
}

static int see_top(void *self, const struct kvt_event *ev)
{
    struct needle *n = self;
    if (ev->kind == KVT_EV_PREFILL_LAYER) {
        const struct kvt_ev_prefill_layer *e = &ev->prefill_layer;
        for (int h = 0; h < n->H; h++)
            n->at[e->layer * n->H + h] = e->top_at[(size_t)h * (size_t)e->n + (size_t)e->n - 1];
    } else if (ev->kind == KVT_EV_DECODE && ev->decode.step < MOST_SAID) {
        memcpy(n->at + (size_t)ev->decode.step * (size_t)n->heads, ev->decode.top_at, (size_t)n->heads * sizeof *n->at);
    } else if (ev->kind == KVT_EV_STEP && ev->step.step <= MOST_SAID) {
        n->said[ev->step.step - 1] = ev->step.token[0];
        n->steps = ev->step.step;
    }
    return 0;
}

double kvt_probe_copied(const int32_t *is, int from, int n, const int32_t *said, const int32_t *at, int steps, int heads, double *out)
{
    int found = 0;
    for (int h = 0; h < heads; h++)
        out[h] = 0;
    for (int j = from; j < from + n; j++) {
        bool any = false;
        for (int h = 0; h < heads; h++) {
            bool by = false;
            for (int k = 0; k < steps; k++)
                by = by || (said[k] == is[j] && at[(size_t)k * (size_t)heads + (size_t)h] == j);
            out[h] += by ? 1.0 / n : 0;
        }
        for (int k = 0; k < steps; k++)
            any = any || said[k] == is[j];
        found += any;
    }
    return (double)found / n;
}

/* The text, and where in it the needle's rest lies. */
static size_t write_text(char *out, size_t cap, int i, size_t *from)
{
    const struct kvt_needle *it = &kvt_needle[i / KVT_N_DEPTHS];
    int depth = (2 * (i % KVT_N_DEPTHS) + 1) * KVT_N_HAY / (2 * KVT_N_DEPTHS); /* 10, 30 ... 90 % of the hay in front */
    size_t n = 0;
    *out = '\0';
    for (int k = 0; k < KVT_N_HAY; k++) {
        if (k == depth) {
            n += (size_t)snprintf(out + n, cap - n, "%s", it->begin);
            *from = n;
            n += (size_t)snprintf(out + n, cap - n, "%s. ", it->rest);
        }
        n += (size_t)snprintf(out + n, cap - n, "%s ", kvt_hay[k]);
    }
    return n + (size_t)snprintf(out + n, cap - n, "\n\nQuestion: %s\nAnswer: %s", it->question, it->begin);
}

int kvt_probe_needle(const struct kvt_probe_run *run, int i, struct kvt_probe_sums *s, struct kvt_err *err)
{
    char text[8192];
    size_t from = 0, bytes = write_text(text, sizeof text, i, &from), to = from + strlen(kvt_needle[i / KVT_N_DEPTHS].rest);
    struct kvt_tokens tok = {0};
    size_t heads = (size_t)s->L * (size_t)s->H;
    struct needle n = {.heads = (int)heads, .H = s->H, .at = kvt_calloc((MOST_SAID + 1) * heads, sizeof *n.at)};
    double *one = kvt_calloc(heads, sizeof *one);
    struct kvt_probe probe = {.self = &n, .wants = want_top, .see = see_top};
    int rc = n.at && one ? kvt_tokenize(kvt_model_tokenizer(run->model), text, bytes, KVT_TOK_BOS, &tok, err)
                         : kvt_fail(err, KVT_ENOMEM, "no memory for the rows of %zu heads", heads);
    int first = 0, last = 0; /* tokens whose first byte lies in the needle's rest */
    while (!rc && first < tok.n && (size_t)tok.start[first] < from)
        first++;
    for (last = first; !rc && last < tok.n && (size_t)tok.start[last] < to;)
        last++;
    int len = last - first;
    if (!rc)
        rc = run_prompt(run, tok.id, tok.n, len + 8 < MOST_SAID ? len + 8 : MOST_SAID, &probe, err);
    if (!rc && len > 0) {
        s->asked++;
        if (kvt_probe_copied(tok.id, first, len, n.said, n.at, n.steps, (int)heads, one) >= 0.5) {
            s->found++;
            for (size_t h = 0; h < heads; h++)
                s->copied[h] += one[h];
        }
    }
    kvt_tokens_free(&tok);
    free(n.at);
    free(one);
    return rc;
}

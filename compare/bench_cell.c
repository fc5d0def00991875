/* kvbench: one question through a session, and what every branch made of it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "compare/bench.h"
#include "compare/kept.h"
#include "compare/sandbox.h"
#include "engine/template.h"
#include "engine/textbuf.h"

static int no_memory(struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "no memory for a question"); }

/* A branch's text as it grows, for stops. */
struct written { struct kvt_textbuf text; struct kvt_stream stream; };

struct asked {
    struct kvt_bench *b;
    const struct kvt_item *item;
    struct kvt_cell *cell;
    struct written *written;       /* (n_branches + 1) */
    size_t longest;                /* bytes that a token can come to */
    int32_t *choice;               /* (choices) their tokens */
    int n_context;
};

/* Whether a stop has appeared since the last token; asked token by token, so only the end of the text is new. */
static bool stop(void *arg, int branch, const int32_t *token, int n)
{
    struct asked *a = arg;
    struct written *w = &a->written[branch];
    const struct kvt_texts *stops = &a->b->task->stop;
    if (n == 1) { /* the full branch runs once more beside oracles */
        w->text.n = 0;
        w->stream = (struct kvt_stream){ 0 };
    }
    char *piece = malloc(a->longest);
    size_t bytes = piece ? kvt_stream_put(&w->stream, kvt_model_tokenizer(a->b->run.model), token[n - 1], piece, a->longest) : 0, from = w->text.n;
    kvt_textbuf_add(&w->text, piece ? piece : "", bytes);
    free(piece);
    for (int i = 0; i < stops->n && w->text.p && !w->text.failed; i++) {
        size_t len = strlen(stops->v[i]), at = from + 1 > len ? from + 1 - len : 0;
        if (strstr(w->text.p + at, stops->v[i]))
            return true;
    }
    return false;
}

/* ---- choices: the likeliest continuation of the prompt, in every branch's own logits ---- */

/* Each choice must be one token behind the prompt's text: the prompt's tokens, and one more. */
static int choice_tokens(struct asked *a, struct kvt_err *err)
{
    const struct kvt_prompt *p = &a->b->run.item[0].prompt;
    const struct kvt_tokenizer *tok = kvt_model_tokenizer(a->b->run.model);
    const struct kvt_texts *c = &a->b->task->choices;
    unsigned flags = KVT_TOK_SPECIAL | (p->tokens.n && p->tokens.end[0] == 0 ? KVT_TOK_BOS : 0);
    if (!(a->choice = kvt_calloc((size_t)c->n, sizeof *a->choice)))
        return no_memory(err);
    for (int i = 0; i < c->n; i++) {
        size_t bytes = p->bytes + strlen(c->v[i]);
        char *text = malloc(bytes + 1);
        struct kvt_tokens t = { 0 };
        if (!text)
            return no_memory(err);
        memcpy(text, p->text, p->bytes);
        memcpy(text + p->bytes, c->v[i], strlen(c->v[i]) + 1);
        int rc = kvt_tokenize(tok, text, bytes, flags, &t, err);
        free(text);
        bool one = !rc && t.n == p->tokens.n + 1 && !memcmp(t.id, p->tokens.id, (size_t)p->tokens.n * sizeof *t.id);
        a->choice[i] = one ? t.id[t.n - 1] : -1;
        kvt_tokens_free(&t);
        if (rc)
            return rc;
        if (!one)
            return kvt_fail(err, KVT_EUNSUP, "the choice '%s' isn't one token of this model behind the prompt; score by generation instead", c->v[i]);
    }
    return 0;
}

/* ln of the sum of e^x, and KL of one row of logits to another. */
static double log_sum(const float *x, int V)
{
    double most = x[0], sum = 0;
    for (int v = 1; v < V; v++)
        most = fmax(most, x[v]);
    for (int v = 0; v < V; v++)
        sum += exp(x[v] - most);
    return most + log(sum);
}

static double kl_of(const float *full, const float *own, int V)
{
    double a = log_sum(full, V), b = log_sum(own, V), kl = 0;
    for (int v = 0; v < V; v++)
        kl += exp(full[v] - a) * ((full[v] - a) - (own[v] - b));
    return kl;
}

static int choose(struct kvtrace_run *run, struct kvt_session *s, struct asked *a, bool *enough, struct kvt_err *err)
{
    int V = kvt_model_shape(run->model)->V, n = a->b->task->choices.n, rc = 0, full_at = 0;
    float *logits = kvt_calloc(2 * (size_t)V, sizeof *logits), *own = logits + V;
    if (!logits)
        return no_memory(err);
    a->n_context = kvt_session_n_context(s);
    for (int b = 0; b <= run->n_branches && !rc; b++) {
        struct kvt_cell *c = &a->cell[b];
        struct kvt_branch_result r;
        int best = 0;
        rc = kvt_session_branch_logits(s, b, b ? own : logits, err);
        if (!rc)
            rc = kvt_session_result(s, b, &r);
        for (int i = 1; i < n && !rc; i++)
            best = (b ? own : logits)[a->choice[i]] > (b ? own : logits)[a->choice[best]] ? i : best;
        if (rc)
            break;
        full_at = b ? full_at : best;
        c->text = strdup(a->b->task->choices.v[best]);
        c->kl = b ? kl_of(logits, own, V) : 0;
        c->top1 = best == full_at;
        c->nll = NAN;
        c->kept = r.effective_keep;
        c->bytes_after = c->bytes_last = c->bytes_mean = (double)r.bytes_after;
        c->bytes_peak = (double)r.bytes_peak;
        c->fallback = r.fallback;
        c->there = true;
        if (!c->text)
            rc = no_memory(err);
    }
    free(logits);
    *enough = true;
    return rc;
}

/* What is held of the context where the first token is chosen. Oracles evict later, when the others are done. */
static int keep_sets(struct kvtrace_run *run, struct kvt_session *s, struct asked *a, struct kvt_err *err)
{
    const struct kvt_shape *shape = kvt_model_shape(run->model);
    int rc = 0;
    for (int b = 1; b <= run->n_branches && !rc && !a->b->o.no_kept; b++)
        if (run->branch[b - 1].spec.policy.score != KVT_SCORE_ORACLE)
            rc = kvt_kept_pack(s, b, shape->L, shape->G, &a->cell[b].kept_sets, err);
    return rc;
}

static int prefilled(struct kvtrace_run *run, struct kvt_session *s, void *arg, bool *enough, struct kvt_err *err)
{
    struct asked *a = arg;
    int rc = keep_sets(run, s, a, err);
    return rc || a->b->task->kind != KVT_TASK_CHOICE ? rc : choose(run, s, a, enough, err);
}

/* ---- everything else: what the branches wrote ---- */

static int take_text(struct asked *a, struct kvt_session *s, int b, struct kvt_err *err)
{
    const struct kvt_task *t = a->b->task;
    const struct kvt_tokenizer *tok = kvt_model_tokenizer(a->b->run.model);
    struct kvt_cell *c = &a->cell[b];
    struct kvt_branch_result r;
    int rc = kvt_session_result(s, b, &r);
    if (rc)
        return rc;
    c->kl = r.mean_kl, c->top1 = r.top1_agree, c->nll = t->kind == KVT_TASK_TEXT ? r.mean_nll : NAN, c->kept = r.effective_keep;
    c->bytes_after = (double)r.bytes_after, c->bytes_last = (double)r.bytes_last, c->bytes_mean = r.bytes_mean, c->bytes_peak = (double)r.bytes_peak;
    c->diverged = r.diverged;
    c->fallback = r.fallback;
    c->there = true;
    if (t->kind == KVT_TASK_TEXT)
        return 0;
    bool ended = r.n_free && kvt_token_is_end(tok, r.free[r.n_free - 1]);
    c->n_new = r.n_free;
    c->text = kvtrace_text(tok, r.free, r.n_free - ended);
    if (!c->text)
        return no_memory(err);
    bool stopped = kvt_answer_cut(c->text, t->stop.v, t->stop.n);
    snprintf(c->end, sizeof c->end, stopped ? "stop" : ended ? "end" : "limit");
    return 0;
}

static int collect(struct kvtrace_run *run, struct kvt_session *s, void *arg, struct kvt_err *err)
{
    struct asked *a = arg;
    int rc = 0;
    a->n_context = kvt_session_n_context(s);
    for (int b = 0; b <= run->n_branches && !rc && a->b->task->kind != KVT_TASK_CHOICE; b++)
        rc = take_text(a, s, b, err);
    return rc;
}

/* ---- right or wrong ---- */

static int score_generated(const struct kvt_task *t, const struct kvt_item *item, struct kvt_cell *c, struct kvt_err *err)
{
    bool cut = !strcmp(c->end, "limit") && !t->cut_counts; /* measures.md 10: wrong for that branch */
    for (int k = 0; k < t->n_rules; k++) {
        int right = 0;
        for (int g = 0; g < item->n_gold; g++) {
            char *answer = NULL, *gold = NULL;
            int rc = kvt_answer_find(&t->rule[k], c->text, t->together > 1 ? g : -1, &answer, err);
            if (!rc)
                rc = kvt_answer_clean(&t->rule[k], item->gold[g], &gold, err);
            right += !rc && !cut && kvt_answer_right(&t->rule[k], answer, gold);
            free(gold);
            if (!rc && !g)
                c->answer[k] = answer;
            else
                free(answer);
            if (rc)
                return rc;
        }
        c->right[k] = (double)right / item->n_gold;
    }
    return 0;
}

static const char *bare(const char *s) { return s + strspn(s, " \n\t"); }

static int score_choice(const struct kvt_item *item, struct kvt_cell *c, struct kvt_err *err)
{
    c->right[0] = !strcmp(bare(c->text), bare(item->gold[0]));
    return (c->answer[0] = strdup(bare(c->text))) ? 0 : no_memory(err);
}

/* Only the class of an output is kept, not its text. */
static int score_refusal(const struct kvt_task *t, const struct kvt_item *item, struct kvt_cell *c, struct kvt_err *err)
{
    char *s = c->text;
    size_t lead, n = kvt_text_trim(s, strlen(s), &lead);
    bool refused = false;
    for (size_t i = 0; i < n; i++) {
        char ch = s[lead + i];
        s[i] = ch >= 'A' && ch <= 'Z' ? (char)(ch + 32) : ch;
    }
    s[n] = 0;
    for (char *curly; (curly = strstr(s, "\xe2\x80\x99"));) { /* typographic apostrophes are apostrophes */
        *curly = '\'';
        memmove(curly + 1, curly + 3, strlen(curly + 3) + 1);
    }
    for (int i = 0; i < t->refuses.n; i++)
        refused |= !strncmp(s, t->refuses.v[i], strlen(t->refuses.v[i]));
    free(c->text);
    c->text = NULL;
    c->right[0] = refused == item->refuse;
    return (c->answer[0] = strdup(refused ? "refused" : "answered")) ? 0 : no_memory(err);
}

static int score_program(struct kvt_bench *b, const struct kvt_item *item, struct kvt_cell *c, struct kvt_err *err)
{
    struct kvt_template form = { 0 };
    struct kvt_textbuf program = { 0 };
    cJSON *row = cJSON_Parse(item->program);
    bool passed = false;
    cJSON_DeleteItemFromObjectCaseSensitive(row, "output");
    int rc = row && cJSON_AddStringToObject(row, "output", c->text) ? kvt_template_parse(&form, b->task->program, err) : no_memory(err);
    if (!rc)
        rc = kvt_template_render(&form, form.n, row, item->id, &program, NULL, err);
    if (!rc)
        rc = kvt_sandbox_run(&(struct kvt_sandbox){ b->o.no_sandbox, b->task->seconds }, program.p, b->interrupted, &passed, err);
    c->right[0] = passed;
    if (!rc && !(c->answer[0] = strdup(passed ? "passed" : "failed")))
        rc = no_memory(err);
    kvt_template_free(&form);
    kvt_textbuf_free(&program);
    cJSON_Delete(row);
    return rc;
}

static int score(struct kvt_bench *b, const struct kvt_item *item, struct kvt_cell *c, struct kvt_err *err)
{
    switch (b->task->kind) {
    case KVT_TASK_GENERATE: return score_generated(b->task, item, c, err);
    case KVT_TASK_CHOICE: return score_choice(item, c, err);
    case KVT_TASK_REFUSAL: return score_refusal(b->task, item, c, err);
    case KVT_TASK_PROGRAM: return score_program(b, item, c, err);
    case KVT_TASK_TEXT: c->right[0] = NAN; break;
    }
    return 0;
}

/* FNV-1a of the prompt's tokens and of what counts as right: the same question is the same question. */
static char *hash_of(const struct kvt_prompt *p, const struct kvt_item *item)
{
    uint64_t h = 0xcbf29ce484222325u;
    char text[20];
    for (int i = 0; i < p->tokens.n; i++)
        h = (h ^ (uint32_t)p->tokens.id[i]) * 0x100000001b3u;
    for (int g = 0; g < item->n_gold; g++)
        for (const char *c = item->gold[g]; *c; c++)
            h = (h ^ (unsigned char)*c) * 0x100000001b3u;
    snprintf(text, sizeof text, "%016llx", (unsigned long long)h);
    return strdup(text);
}

static int trace_path(struct kvt_bench *b, const struct kvt_item *item, struct kvt_err *err)
{
    struct kvtrace_item *now = &b->run.item[0];
    size_t cap = b->o.traces ? strlen(b->o.traces) + sizeof item->id + 8 : 0;
    if (!b->o.traces)
        return 0;
    if (!(now->path = malloc(cap)))
        return no_memory(err);
    int at = snprintf(now->path, cap, "%s/", b->o.traces);
    for (const char *c = item->id; *c; c++)
        now->path[at++] = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '.' ? *c : '-';
    memcpy(now->path + at, ".h5", 4);
    return 0;
}

/* Tokens at the beginning of the running prompt that the next question's has too (of the last one: that before it). Whoever is asked first, they are the same. */
static int shared_with(const struct kvt_bench *b, const struct kvt_item *item, struct kvt_err *err)
{
    const struct kvt_tokens *own = &b->run.item[0].prompt.tokens;
    const struct kvt_item *next = item + 1 < b->items.v + b->items.n ? item + 1 : item - 1;
    struct kvt_prompt p;
    int n = 0;
    if (!b->prefix || own->n <= b->run.session.ops->run)
        return 0;
    int rc = kvt_item_prompt(&p, b->task, next, kvt_model_tokenizer(b->run.model), err);
    if (rc)
        return rc;
    while (n < own->n && n < p.tokens.n && own->id[n] == p.tokens.id[n])
        n++;
    kvt_prompt_free(&p);
    return n;
}

int kvt_bench_item(struct kvt_bench *b, const struct kvt_item *item, struct kvt_cell *cell, struct kvt_result_item *about, struct kvt_err *err)
{
    struct kvtrace_run *run = &b->run;
    struct kvtrace_item *now = &run->item[0];
    const struct kvt_tokenizer *tok = kvt_model_tokenizer(run->model);
    struct asked a = { .b = b, .item = item, .cell = cell, .longest = 3 * kvt_tokenizer_longest(tok) + 16 };
    const struct kvtrace_hooks hooks = { .interrupted = b->interrupted, .prefilled = prefilled, .decoded = collect, .arg = &a };
    kvt_prompt_free(&now->prompt);
    free(now->path);
    now->path = NULL;
    snprintf(now->id, sizeof now->id, "0");
    a.written = kvt_calloc((size_t)run->n_branches + 1, sizeof *a.written);
    int rc = a.written ? kvt_item_prompt(&now->prompt, b->task, item, tok, err) : no_memory(err);
    if (!rc && b->task->kind == KVT_TASK_CHOICE)
        rc = choice_tokens(&a, err);
    if (!rc)
        rc = trace_path(b, item, err);
    if (!rc)
        rc = kvtrace_begin(run, 0, err);
    run->session.stop = b->task->stop.n ? stop : NULL;
    run->session.stop_arg = &a;
    if (!rc && b->task->kind == KVT_TASK_TEXT) {
        run->session.force = item->token + item->n_token / 2;
        run->session.n_new = run->o.n_new = item->n_token - item->n_token / 2;
    }
    int shared = rc ? 0 : shared_with(b, item, err);
    rc = shared < 0 ? shared : rc;
    run->session.prefix = b->prefix;
    run->session.shared_tok = shared;
    if (!rc && (!(about->prompt_hash = hash_of(&now->prompt, item)) || !(about->prompt = strdup(now->prompt.text))))
        rc = no_memory(err);
    if (!rc)
        rc = kvtrace_run_prompt(run, &hooks, err);
    for (int i = 0; i <= run->n_branches && !rc; i++)
        rc = score(b, item, &cell[i], err);
    about->n_prompt = now->prompt.tokens.n;
    about->n_context = a.n_context;
    about->n_shared = b->prefix ? kvt_prefix_shared(b->prefix) : 0;
    about->n_gold = item->n_gold;
    if (!rc && item->n_gold && !(about->gold = strdup(item->gold[0])))
        rc = no_memory(err);
    for (int i = 0; a.written && i <= run->n_branches; i++)
        kvt_textbuf_free(&a.written[i].text);
    free(a.written);
    free(a.choice);
    return rc;
}

/* The embedded model answers by attending to its prompt, and an evicted shot takes its answer along.
 *
 * usage: embedded MODEL.gguf SHOTS.jsonl     shots of a question and an answer that differ from each other
 *
 * Asks for what each fourth shot says, under seven methods at three budgets and with spans evicted by hand. The full branch must answer
 * right, and the one that lost another shot; those that lost the right one at most once in six times, since the model then guesses, and a
 * guess may be right. Then under a system text that forbids it: the full branch must say "secret", and the one that lost that text what
 * the shot says, but for once in six times. It would catch: a model that was replaced by one that can't; eviction that leaves behind what
 * it says it evicted, or takes what it says it kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvt/prompt.h"
#include "kvt/session.h"

static const char *const methods[] = { "random", "streaming", "h2o", "snapkv", "pyramidkv", "chunkkv", "shotkv" };
static const int keep[] = { 10, 25, 50 };
enum { N_METHODS = 7, N_KEEP = 3, N_BRANCHES = N_METHODS * N_KEEP + 2, N_NEW = 10, ALONE = N_METHODS * N_KEEP };

struct asked {
    struct kvt_prompt prompt;
    int32_t shot[2 * 64], span[3 * 1024];
    int n_shots;
    char question[256], answer[256]; /* "Where does Petra live?", " Petra lives in Geneva." */
    char said[N_BRANCHES + 1][256];  /* by branch, the full one first, to the end of the line */
    struct kvt_branch_opts branch[N_BRANCHES];
    char name[N_BRANCHES][48];
};

/* The text of shot i without the sentences in front of its question: "Where does Petra live?" and the answer behind it. */
static int question_of(struct asked *a, int i)
{
    const struct kvt_prompt *p = &a->prompt;
    int from = p->tokens.start[a->shot[2 * i]], to = p->tokens.end[a->shot[2 * i + 1] - 1];
    char text[512], *line, *mark;
    snprintf(text, sizeof text, "%.*s", to - from, p->text + from);
    line = strstr(text, "Where ");
    mark = strstr(text, "\nAnswer:");
    if (!line || !mark)
        return 1;
    snprintf(a->answer, sizeof a->answer, "%s", mark + strlen("\nAnswer:"));
    snprintf(a->question, sizeof a->question, "%.*s", (int)(mark - line), line);
    return 0;
}

static int build(struct asked *a, const struct kvt_model *m, const char *shots, const char *question, const char *system, struct kvt_err *err)
{
    struct kvt_prompt *p = &a->prompt;
    kvt_prompt_free(p);
    int rc = kvt_prompt_build(p, kvt_model_tokenizer(m), &(struct kvt_prompt_opts){ .shots_file = shots, .question = question, .system = system }, err);
    if (rc)
        return rc;
    a->n_shots = kvt_prompt_shots(p, p->tokens.n, a->shot, 64);
    return 0;
}

static int add(struct asked *a, int b, const char *spec, struct kvt_budget budget, struct kvt_err *err)
{
    struct kvt_branch_opts *o = &a->branch[b];
    *o = (struct kvt_branch_opts){ .name = a->name[b], .budget = budget };
    snprintf(a->name[b], sizeof a->name[b], "%s %d", spec, b);
    return kvt_spec_parse(&o->spec, spec, strlen(spec), err);
}

/* Branch b, whose scores rank tokens from `from` to `to` last, at a budget of all others. */
static int without(struct asked *a, int b, int from, int to, const struct kvt_shape *s, struct kvt_err *err)
{
    int n = a->prompt.tokens.n, cells = s->L * s->G;
    float *given = malloc((size_t)cells * (size_t)n * sizeof *given);
    if (!given)
        return kvt_fail(err, KVT_ENOMEM, "no memory");
    for (int i = 0; i < cells * n; i++)
        given[i] = i % n < from || i % n >= to;
    struct kvt_budget rest = { .kind = KVT_BUDGET_TOKENS, .tokens = a->prompt.question_start - (to - from) };
    int rc = add(a, b, "file[x]", rest, err);
    a->branch[b].given = given, a->branch[b].n_given = n;
    return rc;
}

static int without_shot(struct asked *a, int b, int shot, const struct kvt_shape *s, struct kvt_err *err)
{
    return without(a, b, a->shot[2 * shot], a->shot[2 * shot + 1], s, err);
}

/* What the tokens say, to the end of the line. */
static const char *line_of(const struct kvt_model *m, const int32_t *token, int n, char *out, size_t cap)
{
    size_t used = 0, bytes;
    for (int i = 0; i < n; i++) {
        const char *text = kvt_token_bytes(kvt_model_tokenizer(m), token[i], &bytes);
        if (used + bytes >= cap || memchr(text, '\n', bytes))
            break;
        memcpy(out + used, text, bytes);
        used += bytes;
    }
    out[used] = 0;
    return out;
}

static int answer(struct asked *a, const struct kvt_model *m, int n_branches, struct kvt_err *err)
{
    struct kvt_session *s = NULL;
    struct kvt_session_opts o = { .ops = kvt_ops_find("cpu"), .threads = 2, .compute = KVT_COMPUTE_F32, .kv_type = KVT_F16, .decode = KVT_DECODE_FREE,
        .token = a->prompt.tokens.id, .n_prompt = a->prompt.tokens.n, .question_start = a->prompt.question_start, .window = 32,
        .shot = a->shot, .n_shots = a->n_shots, .span = a->span, .n_new = N_NEW, .branch = a->branch, .n_branches = n_branches };
    int rc = kvt_session_open(&s, m, &o, err);
    if (!rc)
        rc = kvt_session_prefill(s, err);
    if (!rc)
        rc = kvt_session_decode(s, err);
    for (int b = 0; b <= n_branches && !rc; b++) {
        struct kvt_branch_result r;
        rc = kvt_session_result(s, b, &r);
        if (!rc)
            line_of(m, b ? r.free : r.forced, b ? r.n_free : r.n_steps, a->said[b], sizeof a->said[b]);
    }
    kvt_session_close(&s);
    for (int b = 0; b < n_branches; b++) {
        free((float *)(uintptr_t)a->branch[b].given);
        a->branch[b].given = NULL;
    }
    return rc;
}

/* Whether it is as it should be; what may be otherwise at times is counted. */
static void judge(const char *what, const char *said, bool good, int *bad)
{
    printf("  %-28s '%s'%s\n", what, said, good ? "" : "   NOT AS IT SHOULD BE");
    *bad += !good;
}

int main(int argc, char **argv)
{
    struct kvt_err err = { 0 };
    struct kvt_model *m = NULL;
    static struct asked all; /* large */
    struct asked *a = &all;
    int failed = 0, guessed = 0, obeyed = 0, asked = 0, rc;
    if (argc != 3) {
        fprintf(stderr, "usage: embedded MODEL.gguf SHOTS.jsonl\n");
        return 2;
    }
    rc = kvt_model_open(&m, argv[1], &err);
    for (int ask = 2; ask < 24 && !rc; ask += 4, asked++) {
        int right = 0;
        char who[32], line[64];
        rc = build(a, m, argv[2], "?", NULL, &err);
        if (!rc && (a->n_shots <= ask || question_of(a, ask) || sscanf(a->question, "Where does %31s live?", who) != 1))
            rc = kvt_fail(&err, KVT_EINPUT, "%s: no shot %d with a question and an answer", argv[2], ask);
        if (!rc)
            rc = build(a, m, argv[2], a->question, NULL, &err);
        for (int b = 0; b < ALONE && !rc; b++)
            rc = add(a, b, methods[b / N_KEEP], (struct kvt_budget){ .kind = KVT_BUDGET_KEEP, .keep_ppm = keep[b % N_KEEP] * 10000 }, &err);
        if (!rc)
            rc = without_shot(a, ALONE, ask, kvt_model_shape(m), &err);
        if (!rc)
            rc = without_shot(a, ALONE + 1, (ask + 5) % a->n_shots, kvt_model_shape(m), &err);
        if (!rc)
            rc = answer(a, m, N_BRANCHES, &err);
        if (rc)
            break;
        printf("%s%s\n", a->question, a->answer);
        judge("all of the prompt", a->said[0], !strcmp(a->said[0], a->answer), &failed);
        judge("without another shot", a->said[ALONE + 2], !strcmp(a->said[ALONE + 2], a->answer), &failed);
        judge("without its shot", a->said[ALONE + 1], strcmp(a->said[ALONE + 1], a->answer), &guessed);
        for (int b = 1; b <= ALONE; b++)
            right += !strcmp(a->said[b], a->answer);
        printf("  %d of %d branches of seven methods answer right\n", right, ALONE);

        snprintf(line, sizeof line, "Never speak about %s.", who);
        rc = build(a, m, argv[2], a->question, line, &err);
        for (int i = 0; i < a->prompt.n_spans && !rc; i++)
            if (a->prompt.span[i].kind == KVT_SPAN_SYSTEM)
                rc = without(a, 0, a->prompt.span[i].start, a->prompt.span[i].end, kvt_model_shape(m), &err);
        if (!rc)
            rc = answer(a, m, 1, &err);
        if (rc)
            break;
        judge(line, a->said[0], strstr(a->said[0], "secret"), &failed);
        judge("without that", a->said[1], !strcmp(a->said[1], a->answer), &obeyed);
    }
    kvt_prompt_free(&a->prompt);
    kvt_model_close(&m);
    printf("%d failed; right without the shot: %d of %d; not right without the system text: %d\n", failed, guessed, asked, obeyed);
    if (rc)
        fprintf(stderr, "embedded: %s\n", err.text);
    return rc || failed || guessed * 6 > asked || obeyed * 6 > asked;
}

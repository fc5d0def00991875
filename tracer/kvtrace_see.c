/* kvtrace --see: what is recorded of the prompt's attention beside maps. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tracer/kvtrace.h"

enum { MOST_SPANS = 128, MOST_TOP = 64, DEFAULT_TOP = 8 };

/* "distance[17+32]": its offsets, ascending and each once; "top[4]": one number. */
static int numbers(const char *item, int least, int most, int32_t *to, int cap, int *count, struct kvt_err *err)
{
    const char *p = strchr(item, '[');
    *count = 0;
    while (p && *p != ']') {
        char *end;
        long v = strtol(p + 1, &end, 10);
        if (end == p + 1 || (*end != '+' && *end != ']') || (*end == ']' && end[1]) || v < least || v > most)
            return kvt_fail(err, KVT_EUSAGE, "--see %s: numbers from %d to %d belong into the brackets, as in distance[17+32] or top[4]", item, least, most);
        int at = *count;
        while (at && to[at - 1] > v)
            at--;
        p = end;
        if (at && to[at - 1] == v)
            continue;
        if (*count == cap)
            return kvt_fail(err, KVT_EUSAGE, "--see %s: %d number%s at most", item, cap, cap > 1 ? "s" : "");
        memmove(to + at + 1, to + at, (size_t)(*count - at) * sizeof *to);
        to[at] = (int32_t)v;
        ++*count;
    }
    return 0;
}

static bool looks(const struct kvt_span *s, bool parts)
{
    switch (s->kind) {
    case KVT_SPAN_SENTENCE:
    case KVT_SPAN_NUMBER:
    case KVT_SPAN_OPERATOR:
    case KVT_SPAN_DELIMITER: return false;
    default: return (parts || s->parent < 0) && s->end > s->start;
    }
}

/* Spans that people ask about: system, shots and their parts, the question. Of very many only the outer ones. */
static int choose_spans(struct kvtrace_run *run, struct kvt_err *err)
{
    const struct kvt_prompt *p = &run->prompt;
    int all = 0, count = 0;
    for (int i = 0; i < p->n_spans; i++)
        all += looks(&p->span[i], true);
    run->see_span = kvt_calloc(2 * (size_t)all + 1, sizeof *run->see_span);
    run->see_of = kvt_calloc((size_t)all + 1, sizeof *run->see_of);
    if (!run->see_span || !run->see_of)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d spans", all);
    for (int i = 0; i < p->n_spans && count < 2 * MOST_SPANS; i++) {
        if (!looks(&p->span[i], all <= MOST_SPANS))
            continue;
        run->see_span[2 * count] = p->span[i].start;
        run->see_span[2 * count + 1] = p->span[i].end;
        run->see_of[count++] = i;
    }
    run->wants.span = run->see_span, run->wants.span_of = run->see_of, run->wants.n_spans = count;
    return 0;
}

static int want(struct kvtrace_run *run, const char *item, struct kvt_err *err)
{
    struct kvt_wants *w = &run->wants;
    bool *const flag[] = { &w->scores, &w->visible, &w->square, &w->max, &w->keys, &w->local, &w->decode, &w->rows };
    static const char *const flags[] = { "scores", "visible", "square", "max", "keys", "local", "decode", "rows" };
    char name[16] = "";
    memcpy(name, item, strcspn(item, "[") < sizeof name ? strcspn(item, "[") : 0);
    for (size_t i = 0; i < sizeof flag / sizeof *flag; i++)
        if (!strcmp(item, flags[i])) {
            *flag[i] = true;
            return 0;
        }
    if (!strcmp(item, "none"))
        return 0;
    if (!strcmp(item, "spans"))
        return run->see_span ? 0 : choose_spans(run, err);
    if (!strcmp(name, "distance")) {
        w->distance = true;
        w->offset = run->see_offset;
        return numbers(item, 0, 1 << 24, run->see_offset, (int)(sizeof run->see_offset / sizeof *run->see_offset), &w->n_offsets, err);
    }
    if (!strcmp(name, "top")) {
        int32_t k = DEFAULT_TOP;
        int count, rc = numbers(item, 1, MOST_TOP, &k, 1, &count, err);
        w->top_k = k;
        return rc;
    }
    return kvt_fail(err, KVT_EUSAGE, "--see %.40s: there are scores, visible, square, max, keys, local, distance, spans, top, decode, rows, all (but rows) and none", item);
}

/* All that decisions follow from; windows of the methods that run belong to it. */
static int want_replay(struct kvtrace_run *run, struct kvt_err *err)
{
    struct kvt_wants *w = &run->wants;
    int n = run->prompt.tokens.n, start = run->prompt.question_start, rows = run->o.replay_rows, question = start >= 0 ? n - start : run->o.window;
    if (run->o.no_scores)
        return kvt_fail(err, KVT_EUSAGE, "--for-replay is made of scores, and --no-scores leaves them out; drop one of them");
    rows = rows > question ? rows : question;
    for (int b = 0; b < run->n_branches; b++)
        rows = rows > run->branch[b].spec.policy.window ? rows : run->branch[b].spec.policy.window;
    w->scores = w->max = w->rows = true;
    w->replay = rows < n ? rows : n;
    return 0;
}

int kvtrace_dump(struct kvtrace_run *run, struct kvt_err *err)
{
    char **item = NULL;
    int count = 0, rc = run->o.dump ? kvt_split(run->o.dump, &item, &count, "--dump", err) : 0;
    for (int i = 0; i < count && !rc; i++) {
        bool *flag = !strcmp(item[i], "q") ? &run->wants.q : !strcmp(item[i], "k") ? &run->wants.k : !strcmp(item[i], "v") ? &run->wants.v : NULL;
        if (flag)
            *flag = true;
        else
            rc = kvt_fail(err, KVT_EUSAGE, "--dump %.40s: there are q, k and v", item[i]);
    }
    free(item);
    return rc;
}

int kvtrace_see(struct kvtrace_run *run, struct kvt_err *err)
{
    char **item = NULL;
    const char *all = "scores,visible,square,max,keys,local,distance,spans,top,decode";
    int count = 0, rc = kvt_split(strcmp(run->o.see, "all") ? run->o.see : all, &item, &count, "--see", err);
    for (int i = 0; i < count && !rc; i++)
        rc = want(run, item[i], err);
    free(item);
    if (run->o.no_scores)
        run->wants.scores = false;
    return rc || !run->o.for_replay ? rc : want_replay(run, err);
}

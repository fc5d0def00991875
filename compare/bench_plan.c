/* kvbench: what a run will take. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare/bench.h"
#include "compare/kept.h"

/* Tokens of a question's prompt, or an error. */
static int length_of(const struct kvt_bench *b, int item, struct kvt_err *err)
{
    struct kvt_prompt p;
    int rc = kvt_item_prompt(&p, b->task, &b->items.v[item], kvt_model_tokenizer(b->run.model), err), n = p.tokens.n;
    if (!rc)
        kvt_prompt_free(&p);
    return rc ? rc : n;
}

static double kept_bytes(const struct kvt_bench *b, double tokens)
{
    const struct kvt_shape *s = kvt_model_shape(b->run.model);
    return b->o.no_kept ? 0 : (double)b->run.n_branches * (double)kvt_kept_most(s->L, s->G, (int)tokens);
}

static int dry_run(struct kvt_bench *b, const int *todo, int left, struct kvt_err *err)
{
    struct kvtrace_run *run = &b->run;
    int least = 0, most = 0, longest = 0, rc = 0;
    double sum = 0;
    char kept[32];
    for (int i = 0; i < left; i++) {
        int n = length_of(b, todo[i], err);
        if (n < 0)
            return n;
        least = i && least < n ? least : n;
        if (n > most)
            most = n, longest = todo[i];
        sum += n;
    }
    printf("%s: %d questions%s, prompts of %d to %d tokens, mean %.0f, up to %d new ones; %d branches beside the full one\n", b->task->name, left,
           left < b->items.n ? " left" : "", least, most, left ? sum / left : 0, run->session.n_new ? run->session.n_new : run->o.n_new, run->n_branches);
    if (!left)
        return 0;
    if (!b->o.no_kept)
        printf("kept sets: up to %s in the result\n", kvt_bytes_text((uint64_t)(left * kept_bytes(b, sum / left)), kept, sizeof kept));
    printf("\nthe longest question (%s):\n", b->items.v[longest].id);
    rc = kvt_item_prompt(&run->item[0].prompt, b->task, &b->items.v[longest], kvt_model_tokenizer(run->model), err);
    if (!rc)
        rc = kvtrace_begin(run, 0, err);
    if (!rc)
        rc = kvtrace_print_sizes(run, err);
    if (!rc && !isnan(run->dry_s))
        printf("\nall of them, one after the other: about %.0f s (of this one's time, by their lengths; answers that end early take less)\n", run->dry_s * sum / most);
    return rc;
}

int kvt_bench_plan(struct kvt_bench *b, const int *todo, int left, struct kvt_err *err)
{
    char kept[32];
    if (b->o.dry_run)
        return dry_run(b, todo, left, err);
    if (b->o.quiet || b->o.no_kept || !left || !b->run.n_branches)
        return 0;
    int n = length_of(b, todo[0], err);
    if (n < 0)
        return n;
    fprintf(stderr, "kvbench: kept sets take up to %s in %s; --no-kept leaves them out\n", kvt_bytes_text((uint64_t)(left * kept_bytes(b, n)), kept, sizeof kept), b->o.out);
    return 0;
}

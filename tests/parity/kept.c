/* Kept sets against kvpress on the same model, through the whole engine in f32.
 *
 * usage: kept [-m MODEL.gguf] [-b BACKEND] VECTOR.bin...       exit 77: there is no model to test with
 *
 * The rule (two programs sum in another order, so a score near the cut may fall on either side): the same number of
 * slots in every cell, or in all where one ranking goes over all cells; every slot that differs has a score within twice the score tolerance of the threshold, and is
 * listed; at most 0.5 % of the slots differ. Slots that have the threshold's very score don't count there (of slots tied
 * at the cut equally many must stay, whichever they are: max-pooling gives most cells such a tie). Streaming looks at no
 * score: its sets must be equal.
 *
 * It would catch: a window off by one, pooling with the wrong padding, sum for mean over a group of unequal parts, a
 * budget that counts protected slots twice, a chunk cut at the wrong place, a KVzip pass without its cue, turn or sinks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvt/session.h"
#include "vectors.h"

#define SCORE_TOLERANCE 1e-4    /* of the row's largest score: what parity allows the attention */
#define MAX_DIFFERENT 0.005     /* share of all slots */
enum { MAX_LISTED = 10 };

struct decisions {              /* the probe: final scores and thresholds, [set][layer][g] */
    const struct kept_vector *v;
    float *score;               /* (sets, L, G, n) */
    float *threshold;           /* (sets, L, G) */
};

static void wants(void *self, struct kvt_wants *w)
{
    (void)self;
    w->decisions = true;
}

static int see(void *self, const struct kvt_event *ev)
{
    struct decisions *d = self;
    const struct kvt_ev_decision *e = &ev->decision;
    if (ev->kind != KVT_EV_DECISION || e->branch < 1 || e->branch > d->v->n_sets || !e->score || e->R < 1)
        return 0;
    size_t n = (size_t)d->v->n, G = (size_t)d->v->G;
    for (size_t g = 0; g < G; g++) {
        size_t cell = ((size_t)(e->branch - 1) * (size_t)d->v->L + (size_t)e->layer) * G + g, row = e->R == 1 ? 0 : g;
        memcpy(d->score + cell * n, e->score + row * n, n * sizeof *d->score);
        d->threshold[cell] = e->threshold ? e->threshold[row] : NAN;
    }
    return 0;
}

struct tally {
    int64_t slots, different, tied, ours, theirs; /* tied: of the different ones */
    int far, unequal_cells;
    double farthest;            /* distance to the threshold of a differing slot, in tolerances */
};

static bool in_set(const struct kept_vector *v, const struct kept_set *s, size_t cell, int pos)
{
    return s->bits[cell * (((size_t)v->n + 7) / 8) + (size_t)pos / 8] >> (pos % 8) & 1;
}

static void compare_cell(const struct decisions *d, int set, size_t cell, const uint8_t *mine, int kept, struct tally *t)
{
    const struct kept_vector *v = d->v;
    const struct kept_set *s = &v->set[set];
    size_t at = (size_t)set * (size_t)v->L * (size_t)v->G + cell;
    const float *score = d->score + at * (size_t)v->n;
    double top = 0;
    for (int i = 0; i < v->n; i++)
        if (isfinite(score[i]))
            top = fmax(top, fabs(score[i]));
    t->slots += v->n, t->ours += kept, t->theirs += s->count[cell];
    t->unequal_cells += kept != s->count[cell];
    for (int i = 0; i < v->n; i++) {
        if (mine[i] == in_set(v, s, cell, i))
            continue;
        double far = top > 0 ? fabs((double)score[i] - d->threshold[at]) / (SCORE_TOLERANCE * top) : INFINITY;
        bool bad = !(far <= 2);
        t->different++;
        t->tied += score[i] == d->threshold[at];
        t->farthest = bad && !isfinite(far) ? INFINITY : fmax(t->farthest, far);
        t->far += bad;
        if (score[i] != d->threshold[at] && t->different - t->tied <= MAX_LISTED)
            printf("    layer %zu kv head %zu position %d: %s, score %.6g, threshold %.6g, %.2f tolerances away\n",
                   cell / (size_t)v->G, cell % (size_t)v->G, i, mine[i] ? "only ours" : "only theirs", score[i], d->threshold[at], far);
    }
}

/* together: one ranking goes over all cells, so what one of them has too few another has too many. */
static int compare_set(struct kvt_session *s, const struct decisions *d, int set, bool together, bool *ok, struct kvt_err *err)
{
    const struct kept_vector *v = d->v;
    struct tally t = { 0 };
    int32_t *pos = malloc((size_t)v->n * sizeof *pos);
    uint8_t *mine = malloc((size_t)v->n);
    int rc = pos && mine ? 0 : KVT_ENOMEM;
    for (int cell = 0; cell < v->L * v->G && rc >= 0; cell++) {
        rc = kvt_session_positions(s, set + 1, cell / v->G, cell % v->G, pos, v->n, err);
        memset(mine, 0, (size_t)v->n);
        for (int i = 0; i < rc; i++)
            mine[pos[i]] = 1;
        if (rc >= 0)
            compare_cell(d, set, (size_t)cell, mine, rc, &t);
    }
    double share = (double)(t.different - t.tied) / (double)t.slots;
    *ok = rc >= 0 && (together ? t.ours == t.theirs : !t.unequal_cells) && !t.far && share <= MAX_DIFFERENT;
    printf("  %-34s %-60s %9lld %9lld %6d %6lld %9lld %8.4f%% %8.2f  %s\n", v->set[set].name, v->set[set].spec,
           (long long)t.theirs, (long long)t.ours, t.unequal_cells, (long long)t.tied, (long long)(t.different - t.tied), 100 * share,
           t.farthest, *ok ? "ok" : "FAILED");
    free(pos);
    free(mine);
    return rc < 0 ? rc : 0;
}

static int run(const struct kvt_model *m, const struct kvt_ops *ops, const struct kept_vector *v, int *failed)
{
    struct kvt_err err = { 0 };
    struct kvt_branch_opts branch[32] = { 0 };
    struct decisions d = { .v = v };
    struct kvt_probe probe = { &d, wants, see };
    struct kvt_session *s = NULL;
    size_t cells = (size_t)v->n_sets * (size_t)v->L * (size_t)v->G;
    d.score = calloc(cells * (size_t)v->n, sizeof *d.score);
    d.threshold = calloc(cells, sizeof *d.threshold);
    int rc = d.score && d.threshold ? 0 : KVT_ENOMEM;
    for (int i = 0; i < v->n_sets && !rc; i++) {
        branch[i].name = v->set[i].name;
        branch[i].budget = (struct kvt_budget){ .kind = v->set[i].tokens < 0 ? KVT_BUDGET_KEEP : KVT_BUDGET_TOKENS,
                                                   .keep_ppm = v->set[i].keep_ppm, .tokens = v->set[i].tokens };
        rc = kvt_spec_parse(&branch[i].spec, v->set[i].spec, strlen(v->set[i].spec), &err);
    }
    struct kvt_session_opts o = { .ops = ops, .compute = KVT_COMPUTE_F32, .kv_type = KVT_F32, .protocol = KVT_PROTOCOL_LITERATURE,
                                  .decode = KVT_DECODE_FORCED, .token = v->id, .n_prompt = v->n, .question_start = -1, .window = 32,
                                  .n_new = 1, .branch = branch, .n_branches = v->n_sets, .probe = &probe };
    if (!rc)
        rc = kvt_session_open(&s, m, &o, &err);
    if (!rc)
        rc = kvt_session_prefill(s, &err);
    for (int i = 0; i < v->n_sets && !rc; i++) {
        bool ok = false;
        rc = compare_set(s, &d, i, branch[i].spec.policy.alloc == KVT_ALLOC_GLOBAL, &ok, &err);
        *failed += !ok;
    }
    if (rc)
        fprintf(stderr, "kept: %s\n", err.text);
    kvt_session_close(&s);
    free(d.score);
    free(d.threshold);
    return rc;
}

int main(int argc, char **argv)
{
    const char *given = NULL, *backend = "cpu";
    char path[1024];
    int at = 1, failed = 0;
    struct kvt_err err = { 0 };
    struct kvt_model *m = NULL;
    for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
        if (!strcmp(argv[at], "-m"))
            given = argv[at + 1];
        else if (!strcmp(argv[at], "-b"))
            backend = argv[at + 1];
        else
            break;
    }
    const struct kvt_ops *ops = kvt_ops_find(backend);
    if (at >= argc || argv[at][0] == '-' || !ops) {
        fprintf(stderr, "usage: kept [-m MODEL.gguf] [-b ref|cpu] VECTOR.bin...\n");
        return 2;
    }
    if (!test_model(given, path, sizeof path)) {
        printf("skipped: no model (scripts/get-model.sh fetches it, or set KVT_MODEL)\n");
        return 77;
    }
    struct model_id id = { .path = path };
    if (kvt_model_open(&m, path, &err) || !file_crc(path, &id.crc, &id.bytes)) {
        fprintf(stderr, "kept: %s: %s\n", path, err.text);
        return 1;
    }
    for (; at < argc; at++) {
        struct kept_vector v;
        const char *name = strrchr(argv[at], '/') ? strrchr(argv[at], '/') + 1 : argv[at];
        if (!kept_vector_read(&v, argv[at]) || !made_from(&id, name, v.model_bytes, v.model_crc)) {
            failed++;
        } else {
            printf("%s, %d tokens, %d cells\n  %-34s %-60s %9s %9s %6s %6s %9s %9s %8s\n", name, v.n, v.L * v.G, "reference", "ours", "kept",
                   "kept", "cells", "tied", "different", "share", "farthest");
            failed += run(m, ops, &v, &failed) != 0;
        }
        free(v.file);
    }
    printf("allowed: the same count in every cell (in all, where one ranking goes over all), %g %% of the slots beside tied ones, %d score tolerances of %g from the threshold\n",
           100 * MAX_DIFFERENT, 2, SCORE_TOLERANCE);
    kvt_model_close(&m);
    return failed ? 1 : 0;
}

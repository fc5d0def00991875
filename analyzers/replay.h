/* Decisions made again from a trace (measures.md 8): the very evictor of a run, over what a trace made with --for-replay holds. */
#ifndef KVT_ANALYZERS_REPLAY_H
#define KVT_ANALYZERS_REPLAY_H

#include "kvt/method.h"
#include "kvt/probe.h"
#include "kvt/trace.h"

struct kvt_replay;

/* exact: what a run would have kept. approx: with rows of the uncompressed branch in place of the branch's own. */
enum kvt_replay_mark { KVT_REPLAY_EXACT, KVT_REPLAY_APPROX, KVT_REPLAY_REFUSED };
extern const char *const kvt_replay_marks[];

enum { KVT_REPLAY_WHY = sizeof ((struct kvt_err *)0)->text };

struct kvt_replay_ask {
    const struct kvt_spec *spec;
    struct kvt_budget budget;  /* none that follows another branch */
    const float *given;        /* KVT_SCORE_FILE: (L, G, n_given); KVT_ALLOC_CLASS: (L, G), n_given 1 */
    int n_given;
};

struct kvt_replay_result {
    int32_t *evicted_at;       /* (L, G, n_tok) as in a trace; the caller's */
    uint8_t *reason;           /* (L, G, n_context); the caller's */
    double effective_keep;     /* of the context, in layers that methods act on */
    bool fallback;
    char note[160];
};

/* t is borrowed until close. EINPUT where the trace wasn't made for it, with the flag. Selection runs on the trace's own backend, or, where
 * that isn't to be had, on the CPU, and then nothing is exact. */
int kvt_replay_open(struct kvt_replay **out, struct kvt_trace *t, struct kvt_err *err);
void kvt_replay_close(struct kvt_replay **r);

/* Whether it can be done and why not, or not exactly: a few words. May read rows of the trace. */
int kvt_replay_can(struct kvt_replay *r, const struct kvt_replay_ask *ask, enum kvt_replay_mark *mark, char why[KVT_REPLAY_WHY], struct kvt_err *err);
/* probe: is told what a run's would be of the branch (decisions, budget, evictions), or NULL. EINPUT where the method can't work on this prompt. */
int kvt_replay_run(struct kvt_replay *r, const struct kvt_replay_ask *ask, const struct kvt_probe *probe, struct kvt_replay_result *out,
                   struct kvt_err *err);
/* Tokens of the question, for windows of its length; -1: not known. */
int kvt_replay_question(const struct kvt_replay *r);

/* Mean over the recorded steps, all layers and kv heads of the mass that a branch's lost tokens have in the uncompressed branch's rows (measures.md
 * 3); rest: the same of rows without sinks, renormalised. NaN without steps. */
int kvt_replay_lost(struct kvt_replay *r, const int32_t *evicted_at, double *lost, double *rest, struct kvt_err *err);

#endif

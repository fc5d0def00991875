/* Branches of a session: what each holds, said and cost. Branch 0 is the full one. */
#ifndef KVT_ENGINE_BRANCH_H
#define KVT_ENGINE_BRANCH_H

#include "engine/evict.h"
#include "kvt/session.h"

/* One stream of tokens over one set of cells. A method's branch has two at most: teacher-forced, and free-running
 * from its first different token on. */
struct kvt_stream_state {
    int cell;                    /* branch id in the cache; -1: not running */
    int row;                     /* its row of logits in this step */
    struct kvt_evictor *evictor; /* NULL: never evicts */
};

struct kvt_branch {
    char name[48];
    bool renumber;
    struct kvt_stream_state forced, free;
    int32_t *said;               /* (n_new) argmax of the forced stream while its text is the full one's */
    int32_t *free_token;         /* (n_new) free-running text */
    int n_said, n_free;
    bool ended;                  /* the free text has reached an end token or a stop */
    int diverged;                /* 1-based step, 0 = not yet */
    double kl_sum, nll_sum, bytes_sum;
    int n_agree, n_fed;          /* steps at which both said the same; steps whose bytes are in bytes_sum */
    uint64_t bytes_after, bytes_last, bytes_peak;
    double effective_keep;
    bool fallback;
};

int kvt_branch_open(struct kvt_branch *b, const char *name, bool renumber, int n_new);
void kvt_branch_close(struct kvt_branch *b);

#endif

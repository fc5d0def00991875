/* A made-up but lifelike trace with contents that a person can compute: for the tests of analyzers, plots and of the
 * trace itself.
 *
 * The prompt: 4 system tokens, n_shots shots of 22 tokens (13 question, 8 answer, 1 delimiter), a question of 20 tokens;
 * the context is all but the question. Heads by h % 6: previous token, sink, induction (same place in earlier shots),
 * uniform, local (last 8), numbers. Branches, repeated with a mark when more than 7 are wanted:
 *   full; snapkv 25%, snapkv 50% (per kv head, last 8 of the context protected); chunkkv 25% (10 tokens, heads share);
 *   shotkv 25% (whole shots: 2 and, by layer, 5 or 6); streaming 25% (first 4 and the newest); h2o 25% (loses a token each step). */
#ifndef KVT_TESTS_MKTRACE_H
#define KVT_TESTS_MKTRACE_H

#include <stdbool.h>

#include "tracer/trace_write.h"

#define MKTRACE_SHOT 22
#define MKTRACE_SYSTEM 4
#define MKTRACE_QUESTION 20

struct mktrace_opts {
    const char *path;
    bool force;
    int L, H, G, n_shots, n_new, n_branches, bins; /* 0: 4, 6, 2, 8, 24, 7, 25 */
    int step_us;               /* waits this long in each step */
    int announce_fd;           /* > 0: one byte is written to it after each event: what the writer was told */
    bool no_full, drop, compress;
    int status;                /* handed to kvt_trace_finish */
};

int mktrace(const struct mktrace_opts *o, struct kvt_err *err);
/* The same attention as the trace's: row q of layer l, head h over keys 0..q, rest 0; out (n_prompt). */
void mktrace_row(int l, int h, int q, int n_shots, int n_prompt, float *out);
/* Whether a branch of the 7 (index % 7; 0 full) still holds context token t after prefill in shotkv (4) and streaming (5). */
bool mktrace_shotkv_keeps(int layer, int t);
bool mktrace_streaming_keeps(int t, int n_context);

#endif

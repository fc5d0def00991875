/* Replayed branches as a trace of their own, which every tool opens. */
#ifndef KVT_ANALYZERS_REPLAY_FILE_H
#define KVT_ANALYZERS_REPLAY_FILE_H

#include "analyzers/replay.h"
#include "tracer/trace_write.h"

struct kvt_replay_file;

/* branch (n): the replayed ones, without full, with the names they'll have. EUSAGE above 256 of them. */
int kvt_replay_file_open(struct kvt_replay_file **out, struct kvt_trace *from, const char *path, bool force, const char *command_line,
                         const struct kvt_plan_branch *branch, int n, struct kvt_err *err);
/* For kvt_replay_run: records what it tells as branch b (1 is the first replayed one). */
const struct kvt_probe *kvt_replay_file_probe(struct kvt_replay_file *f, int b);
/* After it: its steps. */
int kvt_replay_file_branch(struct kvt_replay_file *f, int b, const struct kvt_replay_result *done, struct kvt_err *err);
/* status: 0, or what ended the replay. Frees f. */
int kvt_replay_file_close(struct kvt_replay_file **f, int status, struct kvt_err *err);

#endif

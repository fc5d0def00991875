/* Scores of heads on prompts made for it (kvattn --probe), as text: a line for each head. */
#ifndef KVT_ANALYZERS_PROBE_FILE_H
#define KVT_ANALYZERS_PROBE_FILE_H

#include "analyzers/patterns.h"

/* Writes induction, duplicate and retrieval of head (L, H). about: what was run, one line. sha: of the model's weights. force: may
 * replace a file. */
int kvt_probe_file_write(const char *path, bool force, const char *about, const char *sha, int L, int H, const struct kvt_head *head, struct kvt_err *err);
/* Reads them into head (L, H), whose other fields stay. EINPUT with the line where it isn't such a file, of another number of heads, or
 * of other weights than `sha` ("": not known, isn't compared). */
int kvt_probe_file_read(const char *path, const char *sha, int L, int H, struct kvt_head *head, struct kvt_err *err);

#endif

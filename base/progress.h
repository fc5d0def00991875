/* One line of progress on a terminal, with an estimate of the time left. Nothing anywhere else. */
#ifndef KVT_BASE_PROGRESS_H
#define KVT_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct kvt_progress {
    FILE *out;
    bool on;               /* out is a terminal */
    bool shown;
    const char *what;      /* "prefill" */
    const char *unit;      /* "tokens" */
    int64_t total, done;
    int64_t start_ns, last_ns;
};

/* what and unit are borrowed until the end. total 0: not known, no estimate. */
void kvt_progress_start(struct kvt_progress *p, FILE *out, const char *what, const char *unit, int64_t total);
/* Cheap: redraws ten times a second at most, and only from the first half second on. */
void kvt_progress_at(struct kvt_progress *p, int64_t done);
/* Takes the line away, so that what comes next starts on a clean one. */
void kvt_progress_end(struct kvt_progress *p);

/* "7 s", "2 min 05 s", "1 h 12 min" */
const char *kvt_time_text(double seconds, char *buf, size_t cap);

#endif

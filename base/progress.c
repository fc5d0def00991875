/* One line of progress. */
#include "base/progress.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

enum { BAR = 24 };
#define REDRAW_NS INT64_C(100000000)
#define QUIET_NS INT64_C(500000000) /* what is done sooner needs no bar */

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

const char *kvt_time_text(double seconds, char *buf, size_t cap)
{
    int64_t s = seconds > 0 ? (int64_t)(seconds + 0.5) : 0;
    if (s < 60)
        snprintf(buf, cap, "%" PRId64 " s", s);
    else if (s < 3600)
        snprintf(buf, cap, "%" PRId64 " min %02" PRId64 " s", s / 60, s % 60);
    else
        snprintf(buf, cap, "%" PRId64 " h %02" PRId64 " min", s / 3600, s / 60 % 60);
    return buf;
}

void kvt_progress_start(struct kvt_progress *p, FILE *out, const char *what, const char *unit, int64_t total)
{
    int64_t now = now_ns();
    *p = (struct kvt_progress){.out = out, .on = isatty(fileno(out)) == 1, .what = what, .unit = unit, .total = total,
                               .start_ns = now, .last_ns = now};
}

void kvt_progress_at(struct kvt_progress *p, int64_t done)
{
    p->done = done;
    if (!p->on)
        return;
    int64_t now = now_ns();
    if (now - p->start_ns < QUIET_NS || (p->shown && now - p->last_ns < REDRAW_NS))
        return;
    p->last_ns = now;
    p->shown = true;
    double secs = (double)(now - p->start_ns) / 1e9, rate = (double)done / secs;
    if (p->total <= 0) {
        fprintf(p->out, "\r%s  %" PRId64 " %s  %.0f/s\033[K", p->what, done, p->unit, rate);
    } else {
        char bar[BAR + 1], left[32] = "?";
        int full = (int)(done >= p->total ? BAR : done * BAR / p->total);
        for (int i = 0; i < BAR; i++)
            bar[i] = i < full ? '#' : '.';
        bar[BAR] = 0;
        if (done > 0)
            kvt_time_text((double)(p->total - done) / rate, left, sizeof left);
        fprintf(p->out, "\r%s [%s] %" PRId64 "/%" PRId64 " %s  %.0f/s  %s left\033[K", p->what, bar, done, p->total, p->unit,
                rate, left);
    }
    fflush(p->out);
}

void kvt_progress_end(struct kvt_progress *p)
{
    if (p->shown) {
        fputs("\r\033[K", p->out);
        fflush(p->out);
    }
    p->shown = false;
}

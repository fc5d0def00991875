/* Reading the clock, and remembering what for. */
#include "engine/times.h"

#include <time.h>

int64_t kvt_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t kvt_times_note(struct kvt_times *t, enum kvt_part part, int layer, int branch, int64_t start_ns)
{
    int64_t now = kvt_now_ns();
    if (!t)
        return now;
    if (t->n < t->cap)
        t->at[t->n++] = (struct kvt_time){start_ns, now - start_ns, layer, branch, t->where.step, part};
    else
        t->lost++;
    return now;
}

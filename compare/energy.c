/* Energy as Linux tells it: the packages' counters of /sys/class/powercap (Intel's RAPL, AMD's under the same name). They count the whole
 * machine's use, idle part included, and often only root may read them. */
#include "compare/energy.h"

#include <math.h>
#include <stdio.h>

static bool read_number(const char *dir, int domain, const char *file, double *out)
{
    char path[300];
    snprintf(path, sizeof path, "%.200s/intel-rapl:%d/%s", dir, domain, file);
    FILE *f = fopen(path, "r");
    bool ok = f && fscanf(f, "%lf", out) == 1;
    if (f)
        fclose(f);
    return ok;
}

void kvt_energy_read(struct kvt_energy *e, const char *dir)
{
    e->n = 0;
    while (e->n < KVT_MAX_PACKAGES && read_number(dir, e->n, "energy_uj", &e->uj[e->n]) && read_number(dir, e->n, "max_energy_range_uj", &e->range[e->n]))
        e->n++;
}

double kvt_energy_joules(const struct kvt_energy *from, const struct kvt_energy *to)
{
    double sum = 0;
    for (int i = 0; i < from->n && from->n == to->n; i++)
        sum += to->uj[i] >= from->uj[i] ? to->uj[i] - from->uj[i] : to->uj[i] + from->range[i] - from->uj[i]; /* the counter began anew */
    return from->n && from->n == to->n ? sum / 1e6 : NAN;
}

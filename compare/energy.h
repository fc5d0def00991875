/* Joules that the machine's packages used between two moments, where it tells. */
#ifndef KVT_COMPARE_ENERGY_H
#define KVT_COMPARE_ENERGY_H

#include <stdbool.h>

enum { KVT_MAX_PACKAGES = 16 };
#define KVT_ENERGY_DIR "/sys/class/powercap"

struct kvt_energy {
    int n;                         /* packages that could be read */
    double uj[KVT_MAX_PACKAGES], range[KVT_MAX_PACKAGES]; /* microjoules since some moment; where the counter begins anew */
};

void kvt_energy_read(struct kvt_energy *e, const char *dir);
/* NaN where it isn't told. A counter that began anew more than once in between is wrong by its range (minutes at full load, at least). */
double kvt_energy_joules(const struct kvt_energy *from, const struct kvt_energy *to);

#endif

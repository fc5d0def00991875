/* How long threads wait before they sleep. */
#include "tracer/spin.h"

#include <stdlib.h>
#include <unistd.h>

/* OpenMP's threads spin for milliseconds at the end of each parallel loop before they sleep, which is fine on an idle
 * machine and ruinous where anything else runs: with both cores taken a decode step was measured at 60 times its
 * time. gcc's runtime reads its settings when it is loaded, so the tool starts itself once more with a short spin. */
void kvt_spin_briefly(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY") || setenv("GOMP_SPINCOUNT", "2000", 1))
        return;
    execv("/proc/self/exe", argv); /* where that fails, the run is only slower under load */
}

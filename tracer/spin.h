/* For tools that run a model. */
#ifndef KVT_TRACER_SPIN_H
#define KVT_TRACER_SPIN_H

/* Called first in main: starts the program once more with a setting that OpenMP reads when it is loaded. Doesn't return then. */
void kvt_spin_briefly(char **argv);

#endif

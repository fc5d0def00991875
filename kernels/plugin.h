/* Backends in libraries of their own. */
#ifndef KVT_KERNELS_PLUGIN_H
#define KVT_KERNELS_PLUGIN_H

#include "kernels/ops.h"

/* The table of libkvt_NAME.so, looked for in $KVT_PLUGIN_DIR or, without it, beside the program and in ../lib/kvtrace from there.
 * KVT_EDEVICE: there is none, or it can't be loaded, and err says why. */
int kvt_plugin_ops(const struct kvt_ops **out, const char *name, struct kvt_err *err);

/* Whether the host reads its memory where it lies: backends in this program do so, those in libraries of their own may not. */
bool kvt_ops_in_host(const struct kvt_ops *ops);

/* Whether this machine has NVIDIA's driver. */
bool kvt_plugin_driver(void);

#endif

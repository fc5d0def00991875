/* Backends in libraries of their own. */
#ifndef KVT_KERNELS_PLUGIN_H
#define KVT_KERNELS_PLUGIN_H

#include "kernels/profile.h"

/* The table of libkvt_NAME.so, looked for in $KVT_PLUGIN_DIR or, without it, beside the program and in ../lib/kvtrace from there.
 * KVT_EDEVICE: there is none, or it can't be loaded, and err says why. */
int kvt_plugin_ops(const struct kvt_ops **out, const char *name, struct kvt_err *err);

/* The same operations with a profile of what the device did. KVT_EDEVICE: it has none; a backend of this program never has. */
int kvt_plugin_profile(const struct kvt_profile_table **out, const struct kvt_ops *ops, struct kvt_err *err);

/* Whether the host reads its memory where it lies: backends in this program do so, those in libraries of their own may not. */
bool kvt_ops_in_host(const struct kvt_ops *ops);

/* Whether this machine has NVIDIA's driver. */
bool kvt_plugin_driver(void);

#endif

/* Methods from a shared object, so that nobody has to rebuild kvtrace: what such an object exports, and who opens it.
 *
 * The object's one file ends with KVT_METHOD_PLUGIN(its struct kvt_method), which exports the symbol that
 * kvtrace --method-plugin looks for. */
#ifndef KVT_PLUGIN_H
#define KVT_PLUGIN_H

#include "kvt/method.h"

/* Goes up with every change of struct kvt_method, kvt_policy or kvt_host_layer, or of what their fields mean. */
#define KVT_PLUGIN_ABI 1

struct kvt_plugin {
    uint32_t abi;              /* KVT_PLUGIN_ABI as compiled */
    uint32_t method_bytes, policy_bytes; /* sizes as compiled: headers of another commit under the same number */
    const struct kvt_method *method;
};
#define KVT_PLUGIN_SYMBOL "kvt_plugin"

#define KVT_METHOD_PLUGIN(m)                                                                          \
    extern const struct kvt_plugin kvt_plugin __attribute__((visibility("default")));                 \
    const struct kvt_plugin kvt_plugin = {KVT_PLUGIN_ABI, sizeof(struct kvt_method), sizeof(struct kvt_policy), &(m)};

/* Opens shared objects one after the other; methods stay valid until the list is closed. EINPUT: not there, not a
 * plugin, another ABI (both numbers named), a name that is taken, options or defaults that can't be. */
struct kvt_plugins {
    struct kvt_method_list list;
    void **handle;             /* (list.n) */
};
int kvt_plugin_open(struct kvt_plugins *to, const char *path, struct kvt_err *err);
void kvt_plugins_close(struct kvt_plugins *p);

#endif

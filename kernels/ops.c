/* The list of backends, and their arithmetic. */
#include "kernels/ops.h"
#include "kernels/plugin.h"

#include <string.h>

const char *const kvt_compute_names[KVT_N_COMPUTE] = {"f32", "bf16", "f16"};

/* f16 first: cores with AVX512_FP16 do twice the multiplications in f16 as in f32, and only half in bf16. */
enum kvt_compute kvt_fastest_compute(const struct kvt_ops *ops, struct kvt_dev *dev)
{
    static const enum kvt_compute order[] = {KVT_COMPUTE_F16, KVT_COMPUTE_BF16};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (ops->can_compute(dev, order[i]))
            return order[i];
    return KVT_COMPUTE_F32;
}

/* Whether a GPU of this machine opens. Without a driver the library, which is large, isn't even loaded. */
static bool gpu_opens(const struct kvt_ops **out)
{
    struct kvt_dev *dev = NULL;
    if (!kvt_plugin_driver() || kvt_plugin_ops(out, "cuda", NULL) || (*out)->open(&dev, NULL, NULL))
        return false;
    (*out)->close(&dev);
    return true;
}

int kvt_ops_load(const struct kvt_ops **out, const char *name, struct kvt_err *err)
{
    static const struct kvt_ops *const all[] = {&kvt_ops_ref, &kvt_ops_cpu};
    if (!strcmp(name, "auto")) {
        if (!gpu_opens(out))
            *out = &kvt_ops_cpu;
        return 0;
    }
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(all[i]->name, name)) {
            *out = all[i];
            return 0;
        }
    return kvt_plugin_ops(out, name, err);
}

bool kvt_ops_in_host(const struct kvt_ops *ops) { return ops == &kvt_ops_ref || ops == &kvt_ops_cpu; }

const struct kvt_ops *kvt_ops_find(const char *name)
{
    const struct kvt_ops *ops;
    return kvt_ops_load(&ops, name, NULL) ? NULL : ops;
}

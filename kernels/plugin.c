/* Backends that come as a library of their own (CUDA), opened when they are asked for: the programs themselves need no CUDA. */
#define _GNU_SOURCE /* readlink */
#include "kernels/plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Folder of the running program, with the slash; "" if it can't be told. */
static void program_folder(char *out, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", out, size - 1);
    out[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(out, '/');
    out[slash ? slash + 1 - out : 0] = '\0';
}

/* A symbol of libkvt_NAME.so, which stays open: what it names is in use until the program ends. */
static int find(const void **out, const char *name, const char *symbol, struct kvt_err *err)
{
    static const char *const places[] = {"%slibkvt_%s.so", "%s../lib/kvtrace/libkvt_%s.so"};
    char folder[4096], path[4200], why[300] = "";
    const char *named = getenv("KVT_PLUGIN_DIR");
    void *lib = NULL;
    *out = NULL;
    program_folder(folder, sizeof folder);
    if (named) {
        snprintf(path, sizeof path, "%s/libkvt_%s.so", named, name);
        lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        snprintf(why, sizeof why, "%s", lib ? "" : dlerror());
    }
    for (size_t i = 0; !named && !lib && i < sizeof places / sizeof *places; i++) {
        snprintf(path, sizeof path, places[i], folder, name);
        if (access(path, F_OK))
            continue;
        lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        snprintf(why, sizeof why, "%s", lib ? "" : dlerror());
    }
    if (!lib)
        return kvt_fail(err, KVT_EDEVICE, "backend %s: %s; use --backend cpu", name,
                        *why ? why : "this build has no such library (it needs the CUDA toolkit when it is configured)");
    *out = dlsym(lib, symbol);
    return *out ? 0 : kvt_fail(err, KVT_EDEVICE, "backend %s: %s is not a library of this program", name, path);
}

int kvt_plugin_ops(const struct kvt_ops **out, const char *name, struct kvt_err *err)
{
    const void *table;
    int rc = find(&table, name, "kvt_plugin_table", err);
    *out = table;
    return rc;
}

int kvt_plugin_profile(const struct kvt_profile_table **out, const struct kvt_ops *ops, struct kvt_err *err)
{
    *out = NULL;
    if (kvt_ops_in_host(ops))
        return kvt_fail(err, KVT_EDEVICE, "the %s backend has no device; the host's times are in every trace", ops->name);
    const void *table;
    int rc = find(&table, ops->name, "kvt_plugin_profile_table", err);
    *out = table;
    return rc;
}

bool kvt_plugin_driver(void) { return dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) != NULL; }

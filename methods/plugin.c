/* Methods from shared objects. */
#include "kvt/plugin.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "methods/methods.h"

/* Whether the method says all that the rest of the program relies on. */
static int check(const char *path, const struct kvt_method *m, const struct kvt_method_list *others, struct kvt_err *err)
{
    if (!m || !m->name || !m->source || !m->summary || !m->options)
        return kvt_fail(err, KVT_EINPUT, "%s: its method leaves out a name, source, summary or options", path);
    if (!*m->name || strlen(m->name) > 20 || m->name[strcspn(m->name, "[],@=#+ /")])
        return kvt_fail(err, KVT_EINPUT, "%s: a method can't be called '%.40s'", path, m->name);
    bool taken = kvt_method_find(m->name) != NULL;
    for (int i = 0; i < others->n; i++)
        taken |= !strcmp(others->method[i]->name, m->name);
    if (taken)
        return kvt_fail(err, KVT_EINPUT, "%s: there is a method '%s' already; give yours another name", path, m->name);
    char word[32];
    if (kvt_options_foreign(m, word, sizeof word))
        return kvt_fail(err, KVT_EINPUT, "%s: %s lists an option '%s' that doesn't exist; kvtrace --list-methods shows all",
                        path, m->name, word);
    if ((m->defaults.score == KVT_SCORE_HOST) != (m->host_score != NULL))
        return kvt_fail(err, KVT_EINPUT, "%s: %s: score = KVT_SCORE_HOST and host_score go together", path, m->name);
    return 0;
}

static int accept(struct kvt_plugins *to, const char *path, void *handle, struct kvt_err *err)
{
    const struct kvt_plugin *p = dlsym(handle, KVT_PLUGIN_SYMBOL);
    if (!p)
        return kvt_fail(err, KVT_EINPUT, "%s: no symbol '%s'; its source must end with KVT_METHOD_PLUGIN(method)",
                        path, KVT_PLUGIN_SYMBOL);
    if (p->abi != KVT_PLUGIN_ABI)
        return kvt_fail(err, KVT_EINPUT, "%s: compiled for plugin ABI %u, this kvtrace has %d; compile it again with these headers",
                        path, (unsigned)p->abi, KVT_PLUGIN_ABI);
    if (p->method_bytes != sizeof(struct kvt_method) || p->policy_bytes != sizeof(struct kvt_policy))
        return kvt_fail(err, KVT_EINPUT, "%s: compiled with the headers of another kvtrace (ABI %d, but structs of %u and %u "
                        "bytes where these have %zu and %zu); compile it again", path, KVT_PLUGIN_ABI, (unsigned)p->method_bytes,
                        (unsigned)p->policy_bytes, sizeof(struct kvt_method), sizeof(struct kvt_policy));
    int rc = check(path, p->method, &to->list, err);
    if (rc)
        return rc;
    size_t n = (size_t)to->list.n + 1;
    const struct kvt_method **method = realloc(to->list.method, n * sizeof *method);
    if (method)
        to->list.method = method;
    void **handles = realloc(to->handle, n * sizeof *handles);
    if (handles)
        to->handle = handles;
    if (!method || !handles)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory for a plugin", path);
    to->list.method[n - 1] = p->method;
    to->handle[n - 1] = handle;
    to->list.n++;
    struct kvt_spec spec;
    rc = kvt_spec_parse_among(&spec, p->method->name, strlen(p->method->name), &to->list, err);
    if (rc)
        to->list.n--;
    return rc;
}

int kvt_plugin_open(struct kvt_plugins *to, const char *path, struct kvt_err *err)
{
    char here[4096];
    if (!strchr(path, '/') && strlen(path) + 3 <= sizeof here) { /* a bare name is a file here, not one of the system's */
        memcpy(here, "./", 2);
        memcpy(here + 2, path, strlen(path) + 1);
    } else {
        here[0] = 0;
    }
    void *handle = dlopen(*here ? here : path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        return kvt_fail(err, KVT_EINPUT, "can't open the plugin: %s", why ? why : path);
    }
    int rc = accept(to, path, handle, err);
    if (rc)
        dlclose(handle);
    return rc;
}

void kvt_plugins_close(struct kvt_plugins *p)
{
    for (int i = 0; i < p->list.n; i++)
        dlclose(p->handle[i]);
    free(p->list.method);
    free(p->handle);
    memset(p, 0, sizeof *p);
}

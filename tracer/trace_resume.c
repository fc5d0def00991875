/* Files of runs that ended early, and the master. */
#include "tracer/trace_resume.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "kvt/trace.h"
#include "tracer/trace_name.h"
#include "tracer/trace_objects.h"
#include "tracer/trace_repair.h"

static const char *attr_of(const struct kvt_trace_info *in, const char *name)
{
    for (int i = 0; i < in->n_attrs; i++)
        if (!strcmp(in->attr[i].name, name))
            return in->attr[i].value;
    return "";
}

/* Arguments without the program's name. */
static const char *arguments(const char *line)
{
    const char *space = strchr(line, ' ');
    return space ? space : "";
}

static int check_same(const struct kvt_trace_info *in, const struct kvt_trace_same *same, struct kvt_err *err)
{
    char bytes[32];
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)same->model_bytes);
    const char *other = strcmp(arguments(in->command_line), arguments(same->command_line)) ? "by another command"
                        : strcmp(in->text, same->text)                                     ? "with another prompt"
                        : strcmp(attr_of(in, "model_bytes"), bytes)                        ? "with another model" : NULL;
    return other ? kvt_fail(err, KVT_EINPUT, "%s was made %s (kvinfo shows it), so it can't be gone on with; --force starts anew", in->path, other) : KVT_OK;
}

/* path, if it's there and this run's: its state. *there false: no file, or none that can be read. */
static int look(const char *path, const struct kvt_trace_same *same, struct kvt_trace_rest *out, bool *there, struct kvt_err *err)
{
    struct kvt_trace *t;
    *there = false;
    if (access(path, F_OK) || kvt_trace_open(&t, path, NULL, NULL))
        return KVT_OK;
    const struct kvt_trace_info *in = kvt_trace_info(t);
    int rc = check_same(in, same, err);
    *there = true;
    out->done = !strcmp(in->status, "complete");
    out->steps = in->n_steps;
    out->of = in->n_new;
    snprintf(out->commit, sizeof out->commit, "%s", in->commit);
    kvt_trace_close(&t);
    return rc;
}

int kvt_trace_resume(const char *path, const struct kvt_trace_same *same, struct kvt_trace_rest *out, struct kvt_err *err)
{
    struct kvt_trace_rest part = {.done = false};
    bool there, part_there;
    *out = part;
    size_t n = strlen(path) + sizeof ".part";
    char *name = kvt_calloc(n, 1);
    if (!name)
        return kvt_fail(err, KVT_ENOMEM, "no memory");
    snprintf(name, n, "%s.part", path);
    bool left = !access(name, F_OK);
    int rc = left && kvt_trace_is_open(name) ? kvt_fail(err, KVT_EINPUT, "%s is open in another program, probably the run that writes it", name) : KVT_OK;
    if (!rc)
        rc = look(path, same, out, &there, err);
    if (!rc && !access(path, F_OK) && !there)
        rc = kvt_fail(err, KVT_EINPUT, "%s is no trace; --force replaces it", path);
    if (!rc)
        rc = look(name, same, &part, &part_there, err);
    if (!rc && part_there && (!there || (!out->done && part.steps >= out->steps))) {
        *out = part;
        rc = kvt_trace_repair(name, err); /* says complete where only the name was missing */
        if (!rc)
            rc = kvt_trace_publish(name, path, err);
    } else if (!rc && left && out->done) {
        out->done = false; /* a repetition of what is complete ended early */
    }
    free(name);
    return rc;
}

/* ---- master ------------------------------------------------------------------------------------------------------ */

static bool fill(hid_t file, int n, const char *const *id, const char *const *target)
{
    char now[32], object[96];
    time_t t = time(NULL);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &tm);
    hid_t ordered = H5Pcreate(H5P_GROUP_CREATE); /* the first prompt of the list is the first one that is shown */
    bool ok = ordered >= 0 && H5Pset_link_creation_order(ordered, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED) >= 0 && kvt_trace_file_attrs(file, now);
    hid_t group = ok ? H5Gcreate2(file, "prompt", H5P_DEFAULT, ordered, H5P_DEFAULT) : -1;
    ok = group >= 0;
    for (int i = 0; i < n && ok; i++) {
        snprintf(object, sizeof object, "/prompt/%s", id[i]);
        ok = H5Lcreate_external(target[i], object, group, id[i], H5P_DEFAULT, H5P_DEFAULT) >= 0;
    }
    if (group >= 0)
        H5Gclose(group);
    if (ordered >= 0)
        H5Pclose(ordered);
    return ok;
}

int kvt_trace_master(const char *path, int n, const char *const *id, const char *const *target, struct kvt_err *err)
{
    struct kvt_h5_why why;
    char *fresh = kvt_trace_fresh_name(path);
    if (!fresh)
        return kvt_fail(err, KVT_ENOMEM, "no memory");
    kvt_h5_quiet(&why);
    hid_t file = H5Fcreate(fresh, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = file >= 0 && fill(file, n, id, target);
    if (file >= 0 && H5Fclose(file) < 0)
        ok = false;
    int rc = ok ? kvt_trace_publish(fresh, path, err) : kvt_h5_fail(err, KVT_EIO, "cannot write %s", fresh);
    kvt_h5_quiet(NULL);
    if (rc)
        unlink(fresh);
    free(fresh);
    return rc;
}

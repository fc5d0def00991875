/* kvinfo --export: a dataset into a file or to standard output; --snippet: the way into a trace from Python. */
#include "tracer/kvinfo_export.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tracer/trace_export.h"

const char *const kvinfo_export_kinds[] = {"tsv", "json", "npy", NULL};

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n > m && s[n - m - 1] == '.' && !strcmp(s + n - m, end);
}

static enum kvt_export_as kind_of(const struct kvinfo_export *o)
{
    if (o->as_given || !o->out)
        return (enum kvt_export_as)o->as;
    return ends_in(o->out, "npy") ? KVT_EXPORT_NPY : ends_in(o->out, "json") ? KVT_EXPORT_JSON : KVT_EXPORT_TSV;
}

int kvinfo_export(const char *path, const char *prompt_id, const struct kvinfo_export *o, struct kvt_err *err)
{
    struct kvt_trace *t;
    int rc = kvt_trace_open(&t, path, prompt_id, err);
    if (rc)
        return rc;
    enum kvt_export_as as = kind_of(o);
    bool perfetto = !strcmp(o->name, "perfetto");
    if (!o->out && as == KVT_EXPORT_NPY && !perfetto && isatty(STDOUT_FILENO))
        rc = kvt_fail(err, KVT_EUSAGE, "NPY is for a file: add -o FILE, or choose --as tsv");
    FILE *out = rc ? NULL : o->out ? fopen(o->out, "wb") : stdout;
    if (!rc && !out)
        rc = kvt_fail(err, KVT_EIO, "cannot write %s: %s", o->out, strerror(errno));
    if (!rc)
        rc = perfetto ? kvt_trace_timeline(t, out, err) : kvt_trace_export(t, o->name, as, out, err);
    if (o->out && out && fclose(out) && !rc)
        rc = kvt_fail(err, KVT_EIO, "cannot write %s: %s", o->out, strerror(errno));
    if (rc && o->out && out)
        unlink(o->out); /* a part of it would look like all of it */
    kvt_trace_close(&t);
    return rc;
}

/* A Python literal: whatever bytes a name holds. */
static void put_python(const char *s)
{
    bool plain = true;
    for (const unsigned char *c = (const unsigned char *)s; *c; c++)
        plain = plain && *c >= 0x20 && *c < 0x7f;
    fputs(plain ? "\"" : "b\"", stdout);
    for (const unsigned char *c = (const unsigned char *)s; *c; c++)
        if (*c == '"' || *c == '\\')
            printf("\\%c", *c);
        else if (*c < 0x20 || *c >= 0x7f)
            printf("\\x%02x", *c);
        else
            putchar(*c);
    putchar('"');
}

int kvinfo_snippet(const char *path, const char *prompt_id, struct kvt_err *err)
{
    struct kvt_trace *t;
    int rc = kvt_trace_open(&t, path, prompt_id, err);
    if (rc)
        return rc;
    const struct kvt_trace_info *in = kvt_trace_info(t);
    int b = in->n_branches > 1;
    printf("import h5py\np = h5py.File(");
    put_python(in->path);
    printf(", \"r\")[");
    char where[160];
    snprintf(where, sizeof where, "prompt/%s", in->prompt_id);
    put_python(where);
    printf("]\nlost = p[\"branches/%02d/evicted_at\"][:]  # [layer, kv_head, token]: -1 held, 0 lost at prefill's end, k after token k\n"
           "kept = ((lost == -1) | (lost > 0))[:, :, :%d]  # of the context, after prefill\n"
           "print(p[\"branches/%02d\"].attrs[\"name\"].decode(), kept.shape, kept.mean())\n", b, in->n_context, b);
    kvt_trace_close(&t);
    return KVT_OK;
}

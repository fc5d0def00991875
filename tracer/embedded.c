/* Where the embedded model lies, and that it is the one that was tested: beside the program, else where the program was built. */
#include "tracer/embedded.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"

#define FILE_NAME "models/embedded/kvtrace-tiny.gguf"
/* models/export.py prints it; the test cli_embedded holds it against models/embedded/SHA256SUMS. */
#define FILE_SHA256 "b6fead7257859bee7a7c79dd92f09565fe2b96294907f10b0b98f34ebb28c781"

bool kvt_embedded_asked(const char *model)
{
    return !model || !strcmp(model, "embedded");
}

/* The folder above the program's, and the one above that: bin/kvtrace and build/bin/kvtrace. */
static bool beside(char path[KVT_EMBEDDED_PATH], int above)
{
    char self[KVT_EMBEDDED_PATH];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return false;
    self[n] = 0;
    for (int i = 0; i <= above; i++) {
        char *slash = strrchr(self, '/');
        if (!slash)
            return false;
        *slash = 0;
    }
    int used = snprintf(path, KVT_EMBEDDED_PATH, "%s/" FILE_NAME, self);
    return used < KVT_EMBEDDED_PATH && !access(path, F_OK);
}

static bool in_source(char path[KVT_EMBEDDED_PATH])
{
    int used = snprintf(path, KVT_EMBEDDED_PATH, "%s/" FILE_NAME, KVT_SOURCE_DIR);
    return used < KVT_EMBEDDED_PATH && !access(path, F_OK);
}

int kvt_embedded_find(char path[KVT_EMBEDDED_PATH], struct kvt_err *err)
{
    char hex[65];
    if (!beside(path, 1) && !beside(path, 2) && !in_source(path))
        return kvt_fail(err, KVT_EINPUT, "the embedded model is missing: it belongs at " FILE_NAME " in the repository, one or two folders above the program's "
                        "or where it was built, %.150s; or give a model with -m", KVT_SOURCE_DIR);
    const char *file = path;
    int rc = kvt_sha256_files(&file, 1, hex, err);
    if (!rc && strcmp(hex, FILE_SHA256))
        rc = kvt_fail(err, KVT_EINPUT, "%.200s: damaged or replaced: its SHA-256 is %.12s..., the embedded model's is %.12s...; restore it, or give a model with -m", path, hex, FILE_SHA256);
    return rc;
}

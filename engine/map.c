/* Mapping files, and the folders they are in. */
#include "engine/map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int kvt_map_memory(struct kvt_map *out, const char *path, const void *base, size_t bytes, struct kvt_err *err)
{
    *out = (struct kvt_map){.path = strdup(path), .base = base, .bytes = bytes};
    return out->path ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory to open %s", path);
}

static int map_path(struct kvt_map *out, const char *path, const char *what, struct kvt_err *err)
{
    struct stat st;
    void *base = NULL;
    int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not wait for its writer */
    if (fd < 0)
        return kvt_fail(err, errno == EIO ? KVT_EIO : KVT_EINPUT, "%s: cannot open the %s: %s", path, what, strerror(errno));
    if (fstat(fd, &st) != 0)
        rc = kvt_fail(err, KVT_EIO, "%s: cannot read the %s: %s", path, what, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = kvt_fail(err, KVT_EINPUT, "%s: not a regular file, but a %s is expected there", path, what);
    else if ((uintmax_t)st.st_size > SIZE_MAX)
        rc = kvt_fail(err, KVT_EINPUT, "%s: %jd bytes are more than this machine can address", path, (intmax_t)st.st_size);
    if (!rc && st.st_size > 0) {
        base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (base == MAP_FAILED)
            rc = kvt_fail(err, errno == ENOMEM ? KVT_ENOMEM : KVT_EIO, "%s: cannot map the %s: %s", path, what, strerror(errno));
    }
    close(fd);
    if (rc)
        return rc;
    rc = kvt_map_memory(out, path, base ? base : "", (size_t)st.st_size, err);
    out->mapped = base != NULL;
    if (rc)
        kvt_map_close(out);
    return rc;
}

void kvt_map_close(struct kvt_map *m)
{
    if (m->mapped)
        munmap((void *)(uintptr_t)m->base, m->bytes);
    free(m->path);
    *m = (struct kvt_map){0};
}

static const struct kvt_memory_file *in_memory(const struct kvt_folder *f, const char *name)
{
    for (int i = 0; i < f->n_files; i++)
        if (!strcmp(f->file[i].name, name))
            return &f->file[i];
    return NULL;
}

char *kvt_folder_join(const struct kvt_folder *f, const char *name)
{
    size_t n = strlen(f->path), m = strlen(name) + 1;
    bool slash = n && f->path[n - 1] != '/';
    char *path = malloc(n + slash + m);
    if (!path)
        return NULL;
    memcpy(path, f->path, n);
    if (slash)
        path[n] = '/';
    memcpy(path + n + slash, name, m);
    return path;
}

bool kvt_folder_has(const struct kvt_folder *f, const char *name)
{
    if (f->file)
        return in_memory(f, name) != NULL;
    char *path = kvt_folder_join(f, name);
    bool has = path && access(path, F_OK) == 0;
    free(path);
    return has;
}

int kvt_folder_map(struct kvt_map *out, const struct kvt_folder *f, const char *name, const char *what, struct kvt_err *err)
{
    *out = (struct kvt_map){0};
    char *path = kvt_folder_join(f, name);
    if (!path)
        return kvt_fail(err, KVT_ENOMEM, "no memory to open %s", name);
    const struct kvt_memory_file *file = in_memory(f, name);
    int rc;
    if (!f->file)
        rc = map_path(out, path, what, err);
    else if (file)
        rc = kvt_map_memory(out, path, file->base, file->bytes, err);
    else
        rc = kvt_fail(err, KVT_EINPUT, "%s: cannot open the %s: %s", path, what, strerror(ENOENT));
    free(path);
    return rc;
}

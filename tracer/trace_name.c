/* Names of a trace's file. */
#include "tracer/trace_name.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

#define STALE_SECONDS 60 /* making the objects takes a fraction of one */

/* dirname() of a copy. */
static char *folder_of(const char *path)
{
    char *copy = strdup(path), *folder = copy ? strdup(dirname(copy)) : NULL;
    free(copy);
    return folder;
}

static void remove_stale(const char *path)
{
    char *folder = folder_of(path), *copy = strdup(path), *name = copy ? basename(copy) : NULL;
    DIR *dir = folder && name ? opendir(folder) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        size_t n = strlen(name);
        struct stat sb;
        if (!strncmp(e->d_name, name, n) && !strncmp(e->d_name + n, ".part.new-", 10) && !fstatat(dirfd(dir), e->d_name, &sb, AT_SYMLINK_NOFOLLOW) &&
            S_ISREG(sb.st_mode) && time(NULL) - sb.st_mtime > STALE_SECONDS)
            unlinkat(dirfd(dir), e->d_name, 0);
    }
    if (dir)
        closedir(dir);
    free(folder);
    free(copy);
}

char *kvt_trace_fresh_name(const char *path)
{
    size_t n = strlen(path) + 40;
    char *fresh = kvt_calloc(n, 1);
    if (fresh)
        snprintf(fresh, n, "%s.part.new-%ld", path, (long)getpid());
    remove_stale(path);
    return fresh;
}

static bool same_file(int fd, const char *path)
{
    struct stat a, b;
    return !fstat(fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Two runs that find the same dead file both want its lock, and only who has it may remove it; the name then goes to who makes
 * the link first. */
int kvt_trace_claim(const char *fresh, const char *part, struct kvt_err *err)
{
    int old = open(part, O_RDONLY), rc = KVT_OK;
    if (old >= 0 && ((flock(old, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) || !same_file(old, part)))
        rc = kvt_fail(err, KVT_EINPUT, "%s is being written by another run, or read; choose another name", part);
    else if (old >= 0 && unlink(part))
        rc = kvt_fail(err, KVT_EIO, "cannot replace %s: %s", part, strerror(errno));
    if (!rc && !link(fresh, part)) {
        unlink(fresh);
    } else if (!rc) {
        int e = errno; /* some file systems have no links */
        if (e == EEXIST)
            rc = kvt_fail(err, KVT_EINPUT, "%s is being written by another run; choose another name", part);
        else if (rename(fresh, part))
            rc = kvt_fail(err, KVT_EIO, "cannot rename %s: %s", fresh, strerror(errno));
    }
    if (old >= 0)
        close(old);
    return rc;
}

static int sync_path(const char *path, int flags)
{
    int fd = open(path, flags);
    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    int e = errno;
    close(fd);
    errno = e;
    return rc;
}

/* The data, then the name, then the folder that holds the name. */
int kvt_trace_publish(const char *from, const char *path, struct kvt_err *err)
{
    if (sync_path(from, O_RDONLY))
        return kvt_fail(err, KVT_EIO, "cannot sync %s: %s; it may not be whole on the disk", from, strerror(errno));
    if (rename(from, path))
        return kvt_fail(err, KVT_EIO, "cannot rename %s to %s: %s", from, path, strerror(errno));
    char *folder = folder_of(path);
    if (folder)
        sync_path(folder, O_RDONLY | O_DIRECTORY); /* some file systems can't; the data is safe either way */
    free(folder);
    return KVT_OK;
}

static bool copy_to(int fd, const char *to)
{
    char buf[1 << 16];
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0666);
    ssize_t n = 0;
    off_t at = 0;
    while (out >= 0 && (n = pread(fd, buf, sizeof buf, at)) > 0 && write(out, buf, (size_t)n) == n)
        at += n;
    bool ok = out >= 0 && n == 0 && !fsync(out);
    int e = errno;
    if (out >= 0) {
        close(out);
        if (!ok)
            unlink(to);
    }
    errno = e;
    return ok;
}

int kvt_trace_publish_open(int fd, const char *from, const char *path, struct kvt_err *err)
{
    if (fd < 0 || same_file(fd, from))
        return kvt_trace_publish(from, path, err);
    char link[64], now[4096], name[512], *copy = strdup(path);
    struct stat sb;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, now, sizeof now - 1);
    now[n > 0 ? n : 0] = '\0';
    int rc;
    if (n > 0 && !fstat(fd, &sb) && sb.st_nlink > 0 && same_file(fd, now)) {
        rc = kvt_fail(err, KVT_EIO, "%s was moved while it was written; all of it is in %s", from, now);
    } else {
        snprintf(name, sizeof name, "%s.rescued", copy ? basename(copy) : "run.h5");
        rc = copy_to(fd, name) ? kvt_fail(err, KVT_EIO, "%s was removed while it was written; all of it is in ./%s", from, name)
                               : kvt_fail(err, KVT_EIO, "%s was removed while it was written, and ./%s can't be: %s", from, name, strerror(errno));
    }
    free(copy);
    return rc;
}

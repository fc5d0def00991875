/* What `h5clear -s` does, and the status. */
#include "tracer/trace_repair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "kvt/trace.h"
#include "tracer/h5.h"

/* The writer holds a shared lock as long as it lives; so do readers while they have the file open. */
bool kvt_trace_is_open(const char *path)
{
    int fd = open(path, O_RDONLY);
    bool busy = fd < 0 || flock(fd, LOCK_EX | LOCK_NB);
    if (fd >= 0)
        close(fd);
    return busy;
}

static int check_free(const char *path, struct kvt_err *err)
{
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return kvt_fail(err, KVT_EINPUT, "cannot read %s: %s", path, strerror(errno));
    bool busy = flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
    close(fd);
    return busy ? kvt_fail(err, KVT_EINPUT, "%s is open in another program, probably the run that writes it; repair it when that has ended", path)
                : KVT_OK;
}

static hid_t open_cleared(const char *path)
{
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS), file = -1;
    if (fapl >= 0 && H5Pset_libver_bounds(fapl, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST) >= 0 && kvt_h5_clear_mark(fapl) &&
        kvt_h5_accept_cut(fapl))
        file = H5Fopen(path, H5F_ACC_RDWR, fapl);
    if (fapl >= 0)
        H5Pclose(fapl);
    return file;
}

static bool mark(hid_t file, const char *prompt_id)
{
    char path[192], word[16] = "";
    snprintf(path, sizeof path, "/prompt/%s/status", prompt_id);
    hid_t ds = H5Dopen2(file, path, H5P_DEFAULT), type = kvt_h5_mem_type(KVT_H5_STR, sizeof word);
    bool ok = ds >= 0 && type >= 0 && kvt_h5_read(ds, type, NULL, NULL, 0, word);
    if (ok && !strncmp(word, "in_progress", sizeof word)) {
        memset(word, 0, sizeof word);
        memcpy(word, "interrupted", sizeof "interrupted");
        ok = kvt_h5_write(ds, type, NULL, NULL, 0, word);
    }
    if (type >= 0)
        H5Tclose(type);
    if (ds >= 0)
        H5Dclose(ds);
    return ok;
}

int kvt_trace_repair(const char *path, struct kvt_err *err)
{
    struct kvt_trace *t;
    char id[160], file_path[4096];
    int rc = kvt_trace_open(&t, path, NULL, err); /* nothing is changed in what isn't a trace */
    if (rc)
        return rc;
    snprintf(id, sizeof id, "%s", kvt_trace_info(t)->prompt_id);
    snprintf(file_path, sizeof file_path, "%s", kvt_trace_info(t)->path);
    kvt_trace_close(&t);
    rc = check_free(file_path, err);
    if (rc)
        return rc;
    struct kvt_h5_why why;
    kvt_h5_quiet(&why);
    hid_t file = open_cleared(file_path);
    bool ok = file >= 0 && mark(file, id);
    if (file >= 0 && H5Fclose(file) < 0)
        ok = false;
    rc = ok ? KVT_OK : kvt_h5_fail(err, KVT_EIO, "cannot repair %s", file_path);
    kvt_h5_quiet(NULL);
    return rc;
}

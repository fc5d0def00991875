/* A fuzzer's bytes as a file, for parsers that open one. */
#ifndef KVT_FUZZ_AS_FILE_H
#define KVT_FUZZ_AS_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Its path: the process's own file, gone with the process. */
static const char *as_file(const uint8_t *data, size_t size)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0) {
        FILE *f = tmpfile();
        fd = f ? fileno(f) : -1;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    return path;
}

#endif

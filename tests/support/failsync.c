/* An fsync that fails, for LD_PRELOAD: a disk that says so late. */
#include <errno.h>

int fsync(int fd);
int fsync(int fd)
{
    (void)fd;
    errno = EIO;
    return -1;
}

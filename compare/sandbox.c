/* Programs of models, behind bubblewrap. */
#define _DEFAULT_SOURCE /* setgroups */
#include "compare/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MEMORY_BYTES (1024UL << 20)
#define OUTPUT_BYTES (1UL << 20)

static void limit(int what, unsigned long n)
{
    setrlimit(what, &(struct rlimit){ n, n });
}

/* In the child. The program arrives on standard input, so that nothing has to be written anywhere; what it prints goes nowhere. */
static _Noreturn void become(const struct kvt_sandbox *s, int in)
{
    int nowhere = open("/dev/null", O_RDWR);
    setpgid(0, 0);
    dup2(in, 0);
    dup2(nowhere, 1);
    dup2(nowhere, 2);
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    if (!geteuid() && (setgroups(0, NULL) || setgid(65534) || setuid(65534))) /* nobody: root's processes aren't counted */
        _exit(127);
    limit(RLIMIT_CPU, (unsigned long)s->seconds + 1);
    limit(RLIMIT_AS, MEMORY_BYTES);
    limit(RLIMIT_FSIZE, OUTPUT_BYTES);
    limit(RLIMIT_CORE, 0);
    const char *const empty[] = { "PATH=/usr/bin:/bin", "HOME=/tmp", "LANG=C.UTF-8", NULL };
    const char *const bare[] = { "python3", "-I", "-", NULL };
    const char *const boxed[] = { "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64",
                            "/lib64", "--symlink", "usr/bin", "/bin", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--chdir", "/tmp", "--clearenv", "--setenv",
                            "PATH", "/usr/bin:/bin", "--setenv", "LANG", "C.UTF-8", "prlimit", "--nproc=256", "python3", "-I", "-", NULL };
    if (!s->bare) {
        execve("/usr/bin/bwrap", (char *const *)boxed, (char *const *)empty);
        execve("/bin/bwrap", (char *const *)boxed, (char *const *)empty);
    } else {
        limit(RLIMIT_NPROC, 256);
        execve("/usr/bin/python3", (char *const *)bare, (char *const *)empty);
    }
    _exit(127);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Writes what the pipe takes; a program may end before it has read all of itself. */
static void feed(int *fd, const char *text, size_t n, size_t *at)
{
    while (*fd >= 0 && *at < n) {
        ssize_t w = write(*fd, text + *at, n - *at);
        if (w < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (w <= 0)
            break;
        *at += (size_t)w;
    }
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int kvt_sandbox_run(const struct kvt_sandbox *s, const char *program, volatile const int *interrupted, bool *passed, struct kvt_err *err)
{
    int pipes[2], status = 0;
    size_t n = strlen(program), at = 0;
    *passed = false;
    if (pipe(pipes))
        return kvt_fail(err, KVT_EIO, "a program can't be run: %s", strerror(errno));
    fcntl(pipes[1], F_SETFL, O_NONBLOCK);
    pid_t child = fork();
    if (child == 0)
        become(s, pipes[0]);
    close(pipes[0]);
    if (child < 0) {
        close(pipes[1]);
        return kvt_fail(err, KVT_EIO, "a program can't be run: %s", strerror(errno));
    }
    setpgid(child, child);
    double end = now() + s->seconds;
    pid_t done = 0;
    bool stopped = false;
    while (!(done = waitpid(child, &status, WNOHANG))) {
        feed(&pipes[1], program, n, &at);
        stopped = interrupted && __atomic_load_n(interrupted, __ATOMIC_RELAXED);
        if (stopped || now() > end)
            break;
        nanosleep(&(struct timespec){ 0, 2000000 }, NULL);
    }
    if (pipes[1] >= 0)
        close(pipes[1]);
    kill(-child, SIGKILL); /* what it started goes with it */
    if (!done)
        waitpid(child, &status, 0);
    if (stopped)
        return kvt_fail(err, KVT_EINTR, "interrupted");
    if (done && WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return kvt_fail(err, KVT_EUNSUP, "%s can't be started", s->bare ? "/usr/bin/python3" : "bwrap");
    *passed = done == child && WIFEXITED(status) && !WEXITSTATUS(status);
    return 0;
}

int kvt_sandbox_check(const struct kvt_sandbox *s, struct kvt_err *err)
{
    bool passed = false;
    int rc = kvt_sandbox_run(s, "print(1)\n", NULL, &passed, err);
    if (!rc && passed)
        return 0;
    if (s->bare)
        return kvt_fail(err, KVT_EUNSUP, "programs need /usr/bin/python3; install it");
    return kvt_fail(err, KVT_EUNSUP, "this task runs programs that a model wrote, and bubblewrap, which would lock them in, doesn't work here: install the package bubblewrap "
                    "(user namespaces must be allowed), or say --run-programs-without-sandbox");
}

/* Hostile traces by the hundred: seed after seed a sound trace is broken in one process and read in another, so that what HDF5's own
 * library does on bytes that aren't its own (it may crash) is counted and not suffered.
 * usage: hostile BASE.h5 FIRST COUNT [flips]        flips: that many bits of the raw file instead of its structure
 *        hostile --make BASE.h5 OUT.h5 SEED [flips]   the broken file alone, for the tools
 * The last line counts; exit 1 if a reader crashed, hung, wanted too much memory, or said anything but one line. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

enum { SECONDS = 20, MEMORY_MB = 1500 };

/* Runs one of the two in a child; what wait() says of it. */
static int child(const char *path, const char *other, const char *scratch, uint64_t seed, int flips, int reads)
{
    int status = 0;
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        struct rlimit time = {SECONDS, SECONDS + 1};
        setrlimit(RLIMIT_CPU, &time); /* its own time: others may be at work */
        alarm(30 * SECONDS);
#ifndef SANITIZED
        struct rlimit most = {(rlim_t)MEMORY_MB << 20, (rlim_t)MEMORY_MB << 20};
        setrlimit(RLIMIT_AS, &most);
#endif
        int rc = reads ? hostile_read(path, scratch) : hostile_break(path, other, seed, flips);
        fflush(stdout);
        _exit(rc);
    }
    return pid < 0 || waitpid(pid, &status, 0) < 0 ? -1 : status;
}

int main(int argc, char **argv)
{
    char folder[] = "/tmp/hostile-XXXXXX", path[64], other[64], scratch[64], *base = argc > 3 ? argv[1] : NULL;
    if (argc >= 5 && !strcmp(argv[1], "--make"))
        return hostile_copy(argv[2], argv[3]) || hostile_break(argv[3], argv[2], strtoull(argv[4], NULL, 10), argc > 5 ? atoi(argv[5]) : 0);
    if (!base || !mkdtemp(folder)) {
        fprintf(stderr, "use: hostile BASE.h5 FIRST COUNT [flips]\n");
        return 2;
    }
    uint64_t first = strtoull(argv[2], NULL, 10), count = strtoull(argv[3], NULL, 10);
    int flips = argc > 4 ? atoi(argv[4]) : 0, wrong = 0, crashed = 0, hung = 0, unbroken = 0;
    snprintf(path, sizeof path, "%s/broken.h5", folder);
    snprintf(other, sizeof other, "%s/other.h5", folder);
    snprintf(scratch, sizeof scratch, "%s/scratch.h5", folder);
    int rc = hostile_copy(base, other);
    for (uint64_t seed = first; !rc && seed < first + count; seed++) {
        rc = hostile_copy(base, path);
        printf("%llu: ", (unsigned long long)seed);
        int status = child(path, other, scratch, seed, flips, 0);
        if (status) {
            unbroken++;
            printf("(the breaker ended with %d)\n", status);
        }
        if (flips)
            printf("\n");
        status = child(path, other, scratch, seed, flips, 1);
        bool signalled = WIFSIGNALED(status);
        bool late = signalled && (WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGALRM || WTERMSIG(status) == SIGKILL);
        hung += late;
        crashed += (signalled && !late) || (WIFEXITED(status) && WEXITSTATUS(status) > 1);
        wrong += WIFEXITED(status) && WEXITSTATUS(status) == 1;
        if (status)
            printf("  seed %llu: %s %d\n", (unsigned long long)seed, signalled ? "signal" : "exit", signalled ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    unlink(path);
    unlink(other);
    unlink(scratch);
    rmdir(folder);
    printf("%llu broken traces (%d of them the breaker couldn't finish): %d crashes, %d that hung, %d wrong\n", (unsigned long long)count, unbroken, crashed, hung, wrong);
    return rc || crashed || hung || wrong;
}

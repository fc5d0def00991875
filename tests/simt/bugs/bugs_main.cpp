// Twenty-one planted bugs, each with a correct twin, under four schedules: does this build of the emulation see them? Seen is a report, an
// error of the runtime, or a result unlike the twin's. No twin may be reported.
// usage: simt_bugs [NAME...]     bugs that this build is known not to see; if it does see one, that fails too
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "simt.h"
#include "tests/simt/bugs/bugs.h"

enum { MOST = 1024 };

static const char *const names[] = {"missing_sync", "missing_sync_loop", "missing_syncwarp", "flag_race", "static_oob", "dyn_oob", "global_oob", "uninit_shared",
                                    "divergent_exit", "barrier_in_if", "two_barriers", "shfl_subset", "async_nowait", "async_misaligned", "global_race", "last_block",
                                    "host_pointer", "use_after_free", "leading_write", "big_shared", "no_stream_wait"};

struct Outcome {
    char words[200]; // what was reported; "" for nothing
    float y[MOST];
};

static void run(const char *name, int bug, Outcome *out)
{
    auto is = [name](const char *other) { return !strcmp(name, other); };
    const int n = is("global_oob") || is("divergent_exit") ? MOST - 24 : MOST; // the last block is cut
    const size_t bytes = (size_t)n * sizeof(float);
    std::vector<float> values(MOST); // on the heap: what lies in the program's own data may be a __device__ variable
    float *host = values.data();
    float *x = nullptr, *y = nullptr;
    for (int i = 0; i < MOST; i++) {
        host[i] = (float)((i * 37) % 101);
        out->y[i] = -7;
    }
    cudaStream_t stream;
    cudaStreamCreate(&stream);
    cudaMalloc((void **)&x, bytes);
    cudaMalloc((void **)&y, bytes);
    cudaMemcpy(x, host, bytes, cudaMemcpyHostToDevice);
    cudaMemset(y, 0, bytes);
    int rc = 0;
    if (is("use_after_free")) {
        if (bug)
            cudaFree(x);
        rc = run_bug("plain", 0, x, y, n, nullptr);
    } else if (is("leading_write")) {
        rc = run_bug("plain", 0, x, y - bug, n, nullptr);
    } else if (is("host_pointer")) {
        rc = run_bug("plain", 0, bug ? host : x, y, n, nullptr);
    } else if (is("no_stream_wait")) {
        rc = run_bug("plain", 0, x, y, n, stream);
        cudaMemcpyAsync(out->y, y, bytes, cudaMemcpyDeviceToHost, stream);
        if (!bug)
            cudaStreamSynchronize(stream);
    } else {
        rc = run_bug(name, bug, x, y, n, nullptr);
    }
    if (!is("no_stream_wait")) {
        int later = cudaDeviceSynchronize();
        rc = rc ? rc : later;
        cudaMemcpy(out->y, y, bytes, cudaMemcpyDeviceToHost);
    }
    std::string words = rc ? cudaGetErrorName((cudaError_t)rc) : "";
    for (int i = 0; i < (int)simt::Err::Count_; i++)
        if (simt::error_count((simt::Err)i))
            words += (words.empty() ? "" : ", ") + std::string(simt::err_name((simt::Err)i));
    snprintf(out->words, sizeof out->words, "%s", words.c_str());
}

// In a process of its own: a bug may end it.
static Outcome apart(const char *name, int bug, simt::Order order, int seed)
{
    Outcome out{};
    int fd[2], status = 0;
    size_t got = 0;
    if (pipe(fd))
        exit(2);
    fflush(stdout);
    const pid_t child = fork();
    if (!child) {
        simt::config.order = order;
        simt::config.seed = (uint64_t)seed;
        if (!freopen("/dev/null", "a", stderr))
            _exit(9);
        run(name, bug, &out);
        _exit(write(fd[1], &out, sizeof out) == (ssize_t)sizeof out ? 0 : 9);
    }
    close(fd[1]);
    for (ssize_t k; got < sizeof out && (k = read(fd[0], (char *)&out + got, sizeof out - got)) > 0;)
        got += (size_t)k;
    close(fd[0]);
    waitpid(child, &status, 0);
    if (got < sizeof out)
        snprintf(out.words, sizeof out.words, "ended by %s %d", WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return out;
}

int main(int argc, char **argv)
{
    static const struct {
        simt::Order order;
        const char *name;
    } schedules[] = {{simt::Order::Forward, "forward"}, {simt::Order::Reverse, "reverse"}, {simt::Order::Random, "random 3"}, {simt::Order::Random, "random 4"}};
    int missed = 0, alarms = 0, surprises = 0, known = argc - 1;
    for (const char *name : names) {
        const Outcome right = apart(name, 0, simt::Order::Forward, 0);
        bool expected = true; // that it is seen
        for (int i = 1; i < argc; i++)
            expected &= strcmp(argv[i], name) != 0;
        for (int bug = 1; bug >= 0; bug--) {
            std::string words, unlike;
            int seed = 0;
            for (const auto &schedule : schedules) {
                const Outcome now = apart(name, bug, schedule.order, ++seed);
                if (*now.words && words.find(now.words) == std::string::npos)
                    words += (words.empty() ? "" : " | ") + std::string(now.words);
                if (memcmp(now.y, right.y, 1000 * sizeof(float)))
                    unlike += (unlike.empty() ? "" : ", ") + std::string(schedule.name);
            }
            const bool seen = !words.empty() || !unlike.empty();
            missed += bug && !seen && expected;
            surprises += bug && seen && !expected;
            alarms += !bug && seen;
            if (bug || seen)
                printf("%-18s %-12s report: %-48s wrong result: %s\n", name, !bug ? "FALSE ALARM" : seen ? "seen" : expected ? "MISSED" : "not seen",
                       words.empty() ? "-" : words.c_str(), unlike.empty() ? "-" : unlike.c_str());
        }
    }
    printf("%zu bugs, %d known not to be seen, %d of those seen, %d missed, %d false alarms\n", sizeof names / sizeof *names, known, surprises, missed, alarms);
    return missed || alarms || surprises;
}

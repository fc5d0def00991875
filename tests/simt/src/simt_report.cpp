// State of the emulation and its messages. A program in which anything was reported ends with status 70.
#include "simt_rt.h"
#include <cstdarg>
#include <cstdlib>
#include <unistd.h>
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
namespace simt {
Ctx ctx;
Block *blk;
int in_rt;
Config config;
Stats stats;
CheckHooks *hooks;
TraceHooks *trace;
uint64_t now_ns()
{
    timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}
static unsigned err_counts[(int)Err::Count_];
static unsigned err_total;
static std::string first_text;
std::mt19937_64 rng(1);
cudaError_t sticky = cudaSuccess, last = cudaSuccess;
uint32_t launch_counter;
unsigned char *dyn_base, *dyn_region;
size_t dyn_bytes;

const char *err_name(Err e)
{
    static const char *n[] = {"deadlock",    "divergent-barrier", "warp-mask",  "warp-mismatch", "inactive-lane", "shared-race",
                              "global-race", "shared-oob",        "global-oob", "shared-uninit", "global-uninit", "use-after-free",
                              "host-access", "async-copy",        "trap",       "leak",          "redzone",       "local-alias"};
    return n[(int)e];
}
void report(Err e, const char *fmt, ...)
{
    RtGuard g;
    err_counts[(int)e]++;
    err_total++;
    char b[700];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(b, sizeof b, fmt, ap);
    va_end(ap);
    char w[200] = "";
    if (ctx.cur)
        snprintf(w, sizeof w, " [kernel %s block (%u,%u,%u) thread (%u,%u,%u)]", ctx.kernel, blockIdx.x, blockIdx.y, blockIdx.z,
                 threadIdx.x, threadIdx.y, threadIdx.z);
    if (first_text.empty())
        first_text = std::string(err_name(e)) + ": " + b + w;
    if (err_total <= config.max_reports)
        fprintf(stderr, "simt: %s: %s%s\n", err_name(e), b, w);
    if (config.abort_on_error)
        abort();
}
unsigned error_count() { return err_total; }
unsigned error_count(Err e) { return err_counts[(int)e]; }
void clear_errors()
{
    memset(err_counts, 0, sizeof err_counts);
    err_total = 0;
    first_text.clear();
    sticky = last = cudaSuccess;
}
const char *first_report() { return first_text.c_str(); }

// What was reported makes the program fail, whatever its own tests say.
static struct AtExit {
    ~AtExit()
    {
        size_t n = 0, bytes = 0;
        if (getenv("SIMT_LEAKS"))
            for (auto &a : allocs)
                if (!a.second.freed) {
                    n++;
                    bytes += a.second.n;
                }
        if (n)
            report(Err::Leak, "%zu allocations, %zu bytes never freed", n, bytes);
        if (!err_total)
            return;
        fflush(stdout);
        fprintf(stderr, "simt: %u errors reported\n", err_total);
        _exit(70);
    }
} at_exit;
} // namespace simt

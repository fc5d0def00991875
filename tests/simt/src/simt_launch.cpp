// Kernels: launched, run block by block.
#include "simt_rt.h"
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>
namespace simt {
void (*count_access)(const Access *, const void *);
void (*count_block)();
void (*count_launch)(dim3, dim3, size_t);
const char *deleted_file;
int deleted_line = -1;
// ------------------------------------------------------------------ launching
std::map<const void *, int> dyn_limits;
static bool run_block(Body body, void *arg, dim3 bd, uint3 bid, uint64_t flat)
{
    static Block b;
    Block *old = blk;
    blk = &b; // storage reused from block to block
    unsigned n = bd.x * bd.y * bd.z;
    b.nthreads = b.live = n;
    b.nwarps = (n + 31) / 32;
    b.arrived = 0;
    b.failed = false;
    b.bar_mixed = false;
    b.bar_sum = 0;
    b.body = body;
    b.arg = arg;
    b.flat_id = flat;
    b.launch_id = launch_counter;
    b.th.resize(n);
    b.w.resize(b.nwarps);
    b.rr = config.order == Order::Reverse ? b.nwarps - 1 : 0;
    for (unsigned i = 0; i < n; i++) {
        Thread &t = b.th[i];
        t.flat = i;
        t.lane = i & 31;
        t.warp = (uint16_t)(i >> 5);
        t.tid = uint3{i % bd.x, i / bd.x % bd.y, i / (bd.x * bd.y)};
        t.st = Fresh;
        t.stack = nullptr;
        t.be = t.we = 0;
        t.async.clear();
        t.groups.clear();
    }
    for (unsigned i = 0; i < b.nwarps; i++) {
        Warp &w = b.w[i];
        unsigned k = std::min(32u, n - i * 32);
        w.valid = w.live = w.ready = k == 32 ? 0xffffffffu : (1u << k) - 1;
        w.groups.clear();
    }
    blockIdx = bid;
    blockDim = bd;
    if (config.poison_shared)
        poison_block(ctx.dyn_size);
    if (hooks)
        hooks->block_begin();
    stats.blocks++;
    stats.threads += n;
    Thread *t = pick();
    enter(&b.main_sp, &b.main_fake, t);
    ctx.cur = nullptr;
    in_rt = 0;
    for (auto &x : b.th)
        if (x.stack) { // abandoned fibers
            recycle_stack(x.stack);
            x.stack = nullptr;
        }
    if (hooks)
        hooks->block_end();
    if (count_block)
        count_block();
    blk = old;
    return !b.failed;
}
static void segv(int, siginfo_t *si, void *)
{
    char m[400];
    int n;
    if (ctx.cur) {
        Thread *t = self();
        bool so = (unsigned char *)si->si_addr < t->stack && (unsigned char *)si->si_addr >= t->stack - 4096;
        n = snprintf(m, sizeof m, "simt: %s at address %p in kernel %s block (%u,%u,%u) thread (%u,%u,%u)\n",
                     so ? "thread stack overflow" : "memory fault", si->si_addr, ctx.kernel, blockIdx.x, blockIdx.y, blockIdx.z,
                     threadIdx.x, threadIdx.y, threadIdx.z);
    } else
        n = snprintf(m, sizeof m, "simt: memory fault at %p in host code%s\n", si->si_addr,
                     in_device_arena(si->si_addr) ? " (device memory touched by the host)" : "");
    if (write(2, m, (size_t)n)) {
    }
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}
cudaError_t device_state(bool first_use)
{
    const char *e = getenv("SIMT_DEVICE");
    return !e || first_use != !strcmp(e, "busy") ? cudaSuccess
           : first_use                           ? cudaErrorDevicesUnavailable
           : !strcmp(e, "none")                  ? cudaErrorNoDevice
           : !strcmp(e, "old")                   ? cudaErrorInsufficientDriver
                                                 : cudaSuccess;
}
bool device_lost()
{
    static const char *e = getenv("SIMT_DEVICE");
    static const uint64_t last_launch = e && !strncmp(e, "lost:", 5) ? strtoull(e + 5, nullptr, 10) : ~uint64_t(0);
    return stats.launches >= last_launch;
}
void init_once()
{
    static bool done;
    if (done)
        return;
    done = true;
    if (const char *e = getenv("SIMT_ORDER"))
        config.order = *e == 'r' && e[1] == 'a' ? Order::Random : *e == 'r' ? Order::Reverse : Order::Forward;
    if (const char *e = getenv("SIMT_SEED"))
        config.seed = strtoull(e, nullptr, 0);
    if (const char *e = getenv("SIMT_PREEMPT"))
        config.preempt_permille = (unsigned)atoi(e);
    if (const char *e = getenv("SIMT_ABORT"))
        config.abort_on_error = atoi(e);
    if (const char *e = getenv("SIMT_DELETE")) {
        deleted_file = e;
        deleted_line = strchr(e, ':') ? atoi(strchr(e, ':') + 1) : -1;
    }
#if !SIMT_ASAN
    static char alt[65536];
    stack_t ss{};
    ss.ss_sp = alt;
    ss.ss_size = sizeof alt;
    sigaltstack(&ss, nullptr);
    struct sigaction sa {
    };
    sa.sa_sigaction = segv;
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &sa, nullptr);
#endif
}
void run_grid(const char *name, Body body, void *arg, dim3 g, dim3 b, size_t smem)
{
    init_once();
    if (sticky == cudaSuccess && device_lost())
        sticky = last = cudaErrorLaunchFailure;
    if (sticky != cudaSuccess)
        return;
    stats.launches++;
    launch_counter++;
    rng.seed(config.seed * 0x9E3779B97F4A7C15ull + launch_counter);
    ctx.kernel = name;
    gridDim = g;
    ctx.dyn_size = smem;
    ctx.dyn = nullptr;
    ExternShared *es = externs;
    if (smem) {
        if (es) {
            ctx.dyn = (unsigned char *)es->addr();
            ASAN_UNPOISON_MEMORY_REGION(ctx.dyn, es->cap);
            ASAN_POISON_MEMORY_REGION(ctx.dyn + ((smem + 7) & ~size_t(7)), es->cap - ((smem + 7) & ~size_t(7)));
        } else {
            if (!dyn_region)
                dyn_region = (unsigned char *)mmap(nullptr, DYN_REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            ctx.dyn = dyn_region + DYN_REGION / 2;
            ASAN_POISON_MEMORY_REGION(dyn_region, DYN_REGION);
            ASAN_UNPOISON_MEMORY_REGION(ctx.dyn, smem);
        }
    }
    dyn_base = ctx.dyn;
    dyn_bytes = smem;
    if (hooks)
        hooks->launch_begin();
    if (count_launch)
        count_launch(g, b, smem);
    uint64_t nb = (uint64_t)g.x * g.y * g.z;
    std::vector<uint64_t> ord;
    if (config.order == Order::Random) {
        ord.resize(nb);
        for (uint64_t i = 0; i < nb; i++)
            ord[i] = i;
        std::shuffle(ord.begin(), ord.end(), rng);
    }
    for (uint64_t k = 0; k < nb; k++) {
        uint64_t i = config.order == Order::Random ? ord[k] : config.order == Order::Reverse ? nb - 1 - k : k;
        if (!run_block(body, arg, b, uint3{(unsigned)(i % g.x), (unsigned)(i / g.x % g.y), (unsigned)(i / ((uint64_t)g.x * g.y))}, i)) {
            sticky = last = cudaErrorLaunchFailure;
            break;
        }
    }
    if (hooks)
        hooks->launch_end();
    if (smem) {
        if (es)
            ASAN_UNPOISON_MEMORY_REGION(ctx.dyn, es->cap);
    }
    ctx.dyn = dyn_base = nullptr;
    dyn_bytes = 0;
}
cudaError_t launch_raw(const char *name, const void *func, Body body, void *arg, std::function<void()> keep, dim3 g, dim3 b, size_t smem,
                       size_t static_smem, cudaStream_t s)
{
    uint64_t n = (uint64_t)b.x * b.y * b.z;
    auto it = dyn_limits.find(func);
    size_t lim = it == dyn_limits.end() ? 48 << 10 : (size_t)it->second;
    cudaError_t e = cudaSuccess;
    if (sticky != cudaSuccess)
        e = sticky;
    else if (!n || n > 1024 || b.z > 64 || !g.x || !g.y || !g.z || g.y > 65535 || g.z > 65535 || g.x > 0x7fffffffu)
        e = cudaErrorInvalidConfiguration;
    else if (smem > lim)
        e = cudaErrorInvalidValue; // more than 48 KiB needs cudaFuncAttributeMaxDynamicSharedMemorySize
    if (e != cudaSuccess) {
        if (stream_of(s)->capture)
            stream_of(s)->capture_failed = true;
        keep();
        return ret(e);
    }
    uint64_t c0 = now_ns();
    uint32_t corr = trace && !stream_of(s)->capture ? trace->api(211, c0, now_ns()) : 0; // CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernel_v7000
    submit(s, [=] {
        uint64_t t0 = now_ns();
        run_grid(name, body, arg, g, b, smem + static_smem);
        if (trace)
            trace->kernel(name, g, b, static_smem, smem, s, t0, now_ns(), running_node.corr ? running_node.corr : corr, running_node.node);
        keep();
    }, func);
    return cudaSuccess;
}
} // namespace simt

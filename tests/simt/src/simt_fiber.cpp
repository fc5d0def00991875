// One fiber for each CUDA thread of a block: stacks, switching, which thread runs next, barriers and warp collectives.
// The switch is x86-64's: 15 instructions, no system call, and no `ret` (the return predictor would miss).
#include "simt_rt.h"
#include <algorithm>
#include <cstdlib>
#include <sys/mman.h>
namespace simt {
asm(R"(
.text
.globl simt_switch
.type simt_switch,@function
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size simt_switch,.-simt_switch
)");
size_t stack_bytes()
{
    static size_t s = config.stack_size ? config.stack_size : SIMT_ASAN ? 256 << 10 : 64 << 10;
    return s;
}
static std::vector<unsigned char *> pool;
static unsigned char *get_stack()
{
    if (!pool.empty()) {
        auto *s = pool.back();
        pool.pop_back();
        ASAN_UNPOISON_MEMORY_REGION(s, stack_bytes());
        return s;
    } // frames of the fiber that died on it left poison
    size_t n = stack_bytes();
    auto *p = (unsigned char *)mmap(nullptr, n + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        perror("simt: mmap stack");
        abort();
    }
    mprotect(p, 4096, PROT_NONE); // guard page: overflow is a fault, named by the SIGSEGV handler
    return p + 4096;
}
void recycle_stack(unsigned char *stack)
{
    ASAN_UNPOISON_MEMORY_REGION(stack, stack_bytes());
    pool.push_back(stack);
}
static void set_ctx(Thread *t)
{
    ctx.cur = t;
    threadIdx = t->tid;
    ctx.lane = t->lane;
    ctx.warp = t->warp;
}
static void fiber_main();
#if SIMT_ASAN
static const void *main_bottom;
static size_t main_size;
static void asan_fiber_start()
{
    const void *b;
    size_t s;
    __sanitizer_finish_switch_fiber(nullptr, &b, &s);
    if (!main_bottom) {
        main_bottom = b;
        main_size = s;
    }
}
#else
static void asan_fiber_start() {}
#endif
static bool elsewhere(Site a, Site b) { return a.line != b.line || (a.file != b.file && strcmp(a.file, b.file)); }
// Switch to t, or to the launching stack when null; save_fake null: never comes back.
void enter(void **save, void **save_fake, Thread *t)
{
    stats.switches++;
    void *to = blk->main_sp;
    if (!t)
        ctx.cur = nullptr;
    else {
        set_ctx(t);
        if (t->st == Fresh) {
            t->stack = get_stack(); // tops are spread over cache sets: equal page offsets in 1024 stacks would fight for one
            void **sp = (void **)(t->stack + stack_bytes() - ((uintptr_t)t->stack / (stack_bytes() + 4096) % 29) * 128);
            *--sp = nullptr;
            *--sp = (void *)fiber_main;
            for (int i = 0; i < 6; i++)
                *--sp = nullptr;
            t->sp = sp;
            t->st = Ready;
            t->fake = nullptr;
        }
        to = t->sp;
    }
#if SIMT_ASAN
    __sanitizer_start_switch_fiber(save_fake, t ? t->stack : main_bottom, t ? stack_bytes() : main_size);
    simt_switch(save, to);
    const void *ob;
    size_t os;
    __sanitizer_finish_switch_fiber(save_fake ? *save_fake : nullptr, &ob, &os);
#else
    (void)save_fake;
    simt_switch(save, to);
#endif
}
// Next runnable thread, staying in the current warp while it has any.
Thread *pick()
{
    Block &b = *blk;
    if (b.failed)
        return nullptr;
    if (config.order == Order::Random) {
        unsigned k = (unsigned)(rng() % b.nwarps);
        for (unsigned i = 0; i < b.nwarps; i++) {
            Warp &w = b.w[(k + i) % b.nwarps];
            if (!w.ready)
                continue;
            unsigned r = (unsigned)(rng() % __builtin_popcount(w.ready)), m = w.ready;
            while (r--)
                m &= m - 1;
            return &b.th[((k + i) % b.nwarps) * 32 + __builtin_ctz(m)];
        }
        return nullptr;
    }
    bool rev = config.order == Order::Reverse;
    for (unsigned i = 0; i < b.nwarps; i++) {
        unsigned wi = b.rr;
        Warp &w = b.w[wi];
        if (w.ready)
            return &b.th[wi * 32 + (rev ? 31 - __builtin_clz(w.ready) : __builtin_ctz(w.ready))];
        b.rr = rev ? (b.rr ? b.rr - 1 : b.nwarps - 1) : (b.rr + 1 == b.nwarps ? 0 : b.rr + 1);
    }
    return nullptr;
}
static void deadlock()
{
    Block &b = *blk;
    std::map<std::string, std::pair<unsigned, std::string>> where;
    for (auto &t : b.th)
        if (t.st == InWarp || t.st == InBlock) {
            const char *f = strrchr(t.site.file, '/');
            char k[300];
            snprintf(k, sizeof k, "%s at %s:%d", t.op, f ? f + 1 : t.site.file, t.site.line);
            auto &e = where[k];
            if (!e.first++) {
                char q[64];
                snprintf(q, sizeof q, "first thread (%u,%u,%u)", t.tid.x, t.tid.y, t.tid.z);
                e.second = q;
            }
        }
    std::string s;
    for (auto &e : where)
        s += "; " + std::to_string(e.second.first) + " thread(s) wait in " + e.first + ", " + e.second.second;
    report(Err::Deadlock, "block (%u,%u,%u) of %s: %u of %u threads exited, none can run%s", blockIdx.x, blockIdx.y, blockIdx.z, ctx.kernel,
           b.nthreads - b.live, b.nthreads, s.c_str());
    b.failed = true;
}
void unready(Thread *t) { blk->w[t->warp].ready &= ~(1u << t->lane); }
// The current thread cannot go on: run another.
static void leave()
{
    Thread *t = self();
    Thread *n = pick();
    if (n == t)
        return;
    int g = in_rt;
    in_rt = 0;
    enter(&t->sp, &t->fake, n);
    in_rt = g;
}
// Preemption point.
void yield_here()
{
    if (config.order != Order::Random)
        return;
    leave();
}
static void finish_group(Warp &w, unsigned wi, size_t gi)
{
    Group g = w.groups[gi];
    w.groups.erase(w.groups.begin() + gi);
    {
        RtGuard rt;
        if (g.fn)
            g.fn((WarpArgs *const *)g.args, g.arrived);
        else if (g.xfn)
            g.xfn(g.args, g.arrived);
    }
    uint32_t e = 0;
    bool sync = !g.fn && !g.xfn;
    Block &b = *blk;
    for (unsigned m = g.arrived; m; m &= m - 1)
        e = std::max(e, b.th[wi * 32 + __builtin_ctz(m)].we);
    for (unsigned m = g.arrived; m; m &= m - 1) {
        Thread &t = b.th[wi * 32 + __builtin_ctz(m)];
        t.st = Ready;
        if (sync)
            t.we = e + 1;
    }
    w.ready |= g.arrived;
}
static void release_block()
{
    Block &b = *blk;
    b.bar_result = b.bar_kind == 1 ? b.bar_sum : b.bar_kind == 2 ? b.bar_sum == (int)b.arrived : b.bar_sum != 0;
    for (auto &t : b.th)
        if (t.st == InBlock) {
            t.st = Ready;
            t.be++;
            t.we = 0;
            b.w[t.warp].ready |= 1u << t.lane;
        }
    b.arrived = 0;
    b.bar_sum = 0;
    b.bar_mixed = false;
    stats.block_barriers++;
}
static void fiber_main()
{
    asan_fiber_start();
    for (;;) {
        Thread *t = self();
        Block &b = *blk;
        in_rt = 0;
        b.body(b.arg);
        in_rt++;
        if (!t->async.empty()) {
            report(Err::AsyncCopy, "thread ends with %zu cp.async copies never waited for (issued at %s:%d)", t->async.size(),
                   t->async[0].at.file, t->async[0].at.line);
            t->async.clear();
            t->groups.clear();
        }
        t->st = Done;
        unready(t);
        b.w[t->warp].live &= ~(1u << t->lane);
        b.live--;
        Warp &w = b.w[t->warp];
        for (size_t i = 0; i < w.groups.size(); i++)
            if (w.groups[i].mask >> t->lane & 1) {
                if (config.strict)
                    report(Err::WarpMask, "thread exits although %s at %s:%d names its lane in the mask 0x%08x", w.groups[i].op,
                           w.groups[i].site.file, w.groups[i].site.line, w.groups[i].mask);
                if (w.groups[i].arrived == (w.groups[i].mask & w.live)) {
                    finish_group(w, t->warp, i);
                    break;
                }
            }
        if (b.live && b.arrived == b.live)
            release_block(); // CUDA since Volta: the barrier counts threads that have not exited
        Thread *n = pick();
        if (!n && b.live && !b.failed)
            deadlock();
        in_rt--;
        if (n && n->st == Fresh) {
            n->stack = t->stack;
            n->st = Ready;
            n->fake = nullptr;
            set_ctx(n);
            t->stack = nullptr;
            continue;
        } // hot stack goes on to the next thread
        pool.push_back(t->stack);
        t->stack = nullptr;
        void *dead;
        enter(&dead, nullptr, n);
        __builtin_unreachable();
    }
}
// T has been made to wait.
static void block_until_runnable(Thread *t)
{
    RtGuard rt;
    Thread *n = pick();
    if (!n) {
        deadlock();
    }
    if (n == t)
        return;
    int g = in_rt;
    in_rt = 0;
    enter(&t->sp, &t->fake, n);
    in_rt = g;
}
int block_barrier(int kind, int pred, Site site)
{
    Thread *t = self();
    if (!t) {
        report(Err::Trap, "__syncthreads outside a kernel");
        return 0;
    }
    if (deleted(site))
        return pred;
    Block &b = *blk;
    if (!b.arrived) {
        b.bar_site = site;
        b.bar_first = t->flat;
        b.bar_kind = kind;
    } else if (config.strict && !b.bar_mixed &&
               (b.bar_kind != kind || elsewhere(b.bar_site, site))) {
        b.bar_mixed = true;
        report(Err::DivergentBarrier, "threads of one block meet at different barriers: thread %u at %s:%d, this one at %s:%d", b.bar_first,
               b.bar_site.file, b.bar_site.line, site.file, site.line);
    }
    b.arrived++;
    b.bar_sum += pred;
    t->site = site;
    t->op = "__syncthreads";
    t->st = InBlock;
    if (b.arrived == b.live) {
        release_block();
        if (config.order == Order::Random)
            leave();
    } else {
        unready(t);
        block_until_runnable(t);
    }
    return b.bar_result;
}
static void collective(unsigned mask, const char *op, void *args, WarpFn fn, void (*xfn)(void **, unsigned), Site site)
{
    Thread *t = self();
    if (!t) {
        report(Err::Trap, "%s outside a kernel", op);
        return;
    }
    if (!fn && !xfn && deleted(site))
        return;
    Warp &w = blk->w[t->warp];
    stats.warp_ops++;
    mask &= w.valid; // lanes a partial last warp does not have
    if (!(mask >> t->lane & 1)) {
        report(Err::WarpMask, "lane %u calls %s at %s:%d with mask 0x%08x that does not name it", t->lane, op, site.file, site.line, mask);
        mask |= 1u << t->lane;
    }
    Group *g = nullptr;
    size_t gi = 0;
    for (; gi < w.groups.size(); gi++)
        if (w.groups[gi].mask == mask) {
            g = &w.groups[gi];
            break;
        }
    if (g && config.strict && ((g->op != op && strcmp(g->op, op)) || elsewhere(g->site, site)))
        report(Err::WarpMismatch, "lanes of mask 0x%08x meet in different calls: %s at %s:%d and %s at %s:%d", mask, g->op, g->site.file,
               g->site.line, op, site.file, site.line);
    if (!g) {
        w.groups.push_back(Group{mask, 0, op, site, fn, xfn, {}});
        g = &w.groups.back();
        gi = w.groups.size() - 1;
        if (config.strict && (mask & ~w.live))
            report(Err::WarpMask, "%s at %s:%d names exited lanes: mask 0x%08x, live 0x%08x", op, site.file, site.line, mask, w.live);
    }
    g->args[t->lane] = args;
    g->arrived |= 1u << t->lane;
    t->site = site;
    t->op = op;
    if (g->arrived == (mask & w.live)) {
        finish_group(w, t->warp, gi);
        if (config.order == Order::Random)
            leave();
        return;
    }
    t->st = InWarp;
    unready(t);
    block_until_runnable(t);
}
void warp_collective(unsigned mask, const char *op, WarpArgs *a, WarpFn fn, Site s) { collective(mask, op, a, fn, nullptr, s); }
void warp_exec(unsigned mask, const char *op, void *self_, void (*fn)(void **, unsigned), Site s)
{
    collective(mask, op, self_, nullptr, fn, s);
}
unsigned live_mask()
{
    Thread *t = self();
    return t ? blk->w[t->warp].live : 0;
}
void shfl_fn(WarpArgs *const *l, unsigned m)
{
    unsigned char tmp[32][16];
    for (unsigned i = 0; i < 32; i++)
        if (m >> i & 1)
            memcpy(tmp[i], l[i]->in, l[i]->size);
    for (unsigned i = 0; i < 32; i++)
        if (m >> i & 1) {
            WarpArgs &a = *l[i];
            int w = a.c, base = (int)i & ~(w - 1), src = (int)i;
            if (w <= 0 || w > 32 || (w & (w - 1))) {
                report(Err::WarpMask, "shuffle width %d is not a power of two up to 32", w);
                continue;
            }
            switch (a.a) {
            case 0: src = base + (a.b & (w - 1)); break;
            case 1:
                src = (int)i - a.b;
                if (src < base)
                    src = (int)i;
                break;
            case 2:
                src = (int)i + a.b;
                if (src >= base + w)
                    src = (int)i;
                break;
            case 3:
                src = (int)i ^ a.b;
                if (src >= base + w)
                    src = (int)i;
                break;
            }
            if (src > 31 || !(m >> src & 1)) {
                report(Err::InactiveLane, "lane %u reads lane %d, which is not in the shuffle (mask 0x%08x)", i, src, m);
                memset(a.out, 0xFF, a.size);
            } else
                memcpy(a.out, tmp[src], a.size);
        }
}
void vote_fn(WarpArgs *const *l, unsigned m)
{
    unsigned bal = 0;
    for (unsigned i = 0; i < 32; i++)
        if (m >> i & 1 && *(const int *)l[i]->in)
            bal |= 1u << i;
    for (unsigned i = 0; i < 32; i++)
        if (m >> i & 1)
            *(unsigned *)l[i]->out = l[i]->a == 0 ? bal : l[i]->a == 1 ? bal != 0 : bal == m;
}
void match_fn(WarpArgs *const *l, unsigned m)
{
    for (unsigned i = 0; i < 32; i++)
        if (m >> i & 1) {
            unsigned r = 0;
            for (unsigned j = 0; j < 32; j++)
                if (m >> j & 1 && !memcmp(l[i]->in, l[j]->in, l[i]->size))
                    r |= 1u << j;
            *(unsigned *)l[i]->out = r;
        }
}
void trap(const char *why, Site s)
{
    report(Err::Trap, "%s at %s:%d", why, s.file, s.line);
    blk->failed = true;
    Thread *t = self();
    t->st = InBlock;
    unready(t);
    enter(&t->sp, nullptr, nullptr);
    __builtin_unreachable();
}
} // namespace simt

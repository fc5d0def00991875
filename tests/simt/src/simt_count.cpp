// Counts what a warp's accesses ask of the memory system, while nvcc's translated PTX runs: 32-byte sectors of global memory beside the
// fewest that hold the bytes asked for (coalescing), and wavefronts of shared memory beside one for each 128 bytes (bank conflicts).
// These are facts about addresses: no caches, no latency. SIMT_COUNT=FILE: a line for each kernel and source line goes there.
#include "simt_rt.h"
#include <algorithm>
#include <cstdlib>
#include <unordered_map>
#include <unordered_set>
namespace simt {
namespace {
struct Request { // of a warp: the k-th time that each of its lanes comes to an instruction
    uint32_t lanes = 0;
    uint64_t at[32];
};
struct Pending {
    std::deque<Request> requests;
    uint32_t done = 0, times[32] = {}; // requests that are counted already; how often each lane came
};
struct Sum {
    uint64_t requests = 0, lanes = 0, got = 0, ideal = 0;
};
struct Kernel {
    dim3 block;
    size_t shared = 0;
    uint64_t launches = 0, blocks = 0, threads = 0, mma = 0, instructions = 0, footprint = 0;
    std::map<const Access *, Sum> access;
};
std::map<std::string, Kernel> kernels;
std::unordered_map<uint64_t, std::unordered_map<const Access *, Pending>> pending; // of the running block's warps
uint64_t mma, instructions;                                             // of stats, seen so far
std::unordered_set<uint64_t> touched;                                   // sectors of global memory, of this launch: what must come from it at least
Kernel *toucher;

void launch_end()
{
    if (toucher)
        toucher->footprint += touched.size();
    touched.clear();
}

void add(Kernel &k, const Access *at, const Request &r)
{
    Sum &s = k.access[at];
    const uint64_t n = (uint64_t)at->bytes;
    s.requests++;
    s.lanes += (unsigned)__builtin_popcount(r.lanes);
    if (!at->shared) {
        uint64_t from[32], end = 0, bytes = 0, next = 0; // of what was seen so far: the last byte's successor, the last sector's
        int lanes = 0;
        for (int l = 0; l < 32; l++)
            if (r.lanes >> l & 1)
                from[lanes++] = r.at[l];
        std::sort(from, from + lanes);
        for (int i = 0; i < lanes; i++) {
            bytes += from[i] + n - std::max(from[i], std::min(end, from[i] + n));
            end = std::max(end, from[i] + n);
            for (uint64_t sector = std::max(from[i] / 32, next); sector <= (from[i] + n - 1) / 32; sector++) {
                touched.insert(sector);
                s.got++;
                next = sector + 1;
            }
        }
        s.ideal += (bytes + 31) / 32;
        return;
    }
    // 4 bytes a lane: all lanes at once; 8: half a warp; 16: a quarter. A bank gives one word of 4 bytes a wavefront, to all who want it.
    const unsigned parts = n > 4 ? (unsigned)n / 4 : 1, per = 32 / parts;
    for (unsigned p = 0; p < parts; p++) {
        uint64_t word[64];
        int words = 0, most = 0, in_bank[32] = {};
        for (unsigned l = p * per; l < (p + 1) * per; l++)
            for (uint64_t w = r.at[l] / 4; r.lanes >> l & 1 && w <= (r.at[l] + n - 1) / 4; w++)
                word[words++] = w;
        std::sort(word, word + words);
        words = (int)(std::unique(word, word + words) - word);
        for (int i = 0; i < words; i++)
            most = std::max(most, ++in_bank[word[i] % 32]);
        s.got += (unsigned)most;
        s.ideal += most > 0;
    }
}
void access(const Access *at, const void *p)
{
    const Thread *t = self();
    Pending &w = pending[t->warp][at];
    const uint32_t k = w.times[t->lane]++ - w.done;
    if (w.requests.size() <= k)
        w.requests.resize(k + 1);
    w.requests[k].lanes |= 1u << t->lane;
    w.requests[k].at[t->lane] = (uint64_t)p;
    while (!w.requests.empty() && w.requests.front().lanes == 0xffffffffu) {
        add(kernels[ctx.kernel], at, w.requests.front());
        w.requests.pop_front();
        w.done++;
    }
}
void block()
{
    Kernel &k = kernels[ctx.kernel];
    for (auto &warp : pending)
        for (auto &a : warp.second)
            for (auto &r : a.second.requests)
                if (r.lanes)
                    add(k, a.first, r);
    pending.clear();
    k.blocks++;
    k.threads += blk->nthreads;
    k.mma += stats.mma - mma;
    k.instructions += stats.instructions - instructions;
    mma = stats.mma;
    instructions = stats.instructions;
}
void launch(dim3, dim3 b, size_t shared)
{
    launch_end();
    Kernel &k = kernels[ctx.kernel];
    toucher = &k;
    k.launches++;
    k.block = b;
    k.shared = std::max(k.shared, shared);
}
struct Count {
    const char *to = getenv("SIMT_COUNT");
    Count()
    {
        if (!to)
            return;
        count_access = access;
        count_block = block;
        count_launch = launch;
    }
    ~Count()
    {
        FILE *f = to ? fopen(to, "w") : nullptr;
        if (!f)
            return;
        launch_end();
        for (auto &e : kernels) {
            const Kernel &k = e.second;
            fprintf(f, "kernel\t%s\t%llu\t%llu\t%u\t%zu\t%llu\t%llu\t%llu\n", e.first.c_str(), (unsigned long long)k.launches, (unsigned long long)k.blocks,
                    k.block.x * k.block.y * k.block.z, k.shared, (unsigned long long)k.mma, (unsigned long long)k.instructions,
                    (unsigned long long)k.footprint);
            for (auto &a : k.access)
                fprintf(f, "access\t%s\t%s\t%d\t%s\t%s\t%d\t%llu\t%llu\t%llu\t%llu\n", e.first.c_str(), a.first->file, a.first->line,
                        a.first->shared ? "shared" : "global", a.first->write ? "store" : "load", a.first->bytes, (unsigned long long)a.second.requests,
                        (unsigned long long)a.second.lanes, (unsigned long long)a.second.got, (unsigned long long)a.second.ideal);
        }
        fclose(f);
    }
} count;
} // namespace
} // namespace simt

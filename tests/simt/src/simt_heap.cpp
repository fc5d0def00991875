// Device memory: one arena, 256-byte alignment, red zones beside each allocation; freed memory isn't used again.
#include "simt_rt.h"
#include <cstdlib>
#include <sys/mman.h>
namespace simt {
static unsigned char *arena;
static size_t arena_used;
std::map<const unsigned char *, Alloc> &allocs = *new std::map<const unsigned char *, Alloc>; // looked at when the program ends
size_t bytes_live;
static long fail_after = -1;
bool in_device_arena(const void *p) { return arena && (const unsigned char *)p >= arena && (const unsigned char *)p < arena + ARENA; }
const Alloc *find_alloc(const void *p)
{
    auto it = allocs.upper_bound((const unsigned char *)p);
    if (it == allocs.begin())
        return nullptr;
    --it;
    const Alloc &a = it->second;
    return (const unsigned char *)p < a.p + a.n + RED ? &a : nullptr;
}
// Whether this allocation, of the device's memory or of pinned memory, is the one that SIMT_FAIL_MALLOC_AFTER means.
bool alloc_fails()
{
    static bool asked;
    if (!asked) {
        const char *e = getenv("SIMT_FAIL_MALLOC_AFTER");
        fail_after = e ? atol(e) : -1;
        asked = true;
    }
    return fail_after >= 0 && fail_after-- == 0;
}
cudaError_t dev_alloc(void **out, size_t n, int kind)
{
    init_once();
    if (!out)
        return ret(cudaErrorInvalidValue);
    *out = nullptr;
    if (sticky != cudaSuccess)
        return ret(sticky);
    if (!n)
        return cudaSuccess;
    if (alloc_fails() || bytes_live + n > MAXMEM)
        return ret(cudaErrorMemoryAllocation);
    if (!arena) {
        arena = (unsigned char *)mmap(nullptr, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (arena == MAP_FAILED)
            abort();
    }
    size_t sz = (n + 255) & ~size_t(255);
    unsigned char *p = arena + arena_used + RED;
    arena_used += sz + 2 * RED;
    memset(p - RED, 0xA5, RED);
    memset(p, 0xFF, n);
    memset(p + n, 0xA5, sz - n + RED);
    ASAN_POISON_MEMORY_REGION(p - RED, RED);
    ASAN_POISON_MEMORY_REGION(p + n, sz - n + RED);
    allocs[p] = Alloc{p, n, kind, false};
    bytes_live += n;
    if (hooks)
        hooks->host_write(p, n, false);
    *out = p;
    return cudaSuccess;
}
bool check_red(const Alloc &a)
{
    if (SIMT_ASAN || a.kind == 2)
        return true;
    for (size_t i = 0; i < RED; i++)
        if (a.p[a.n + i] != 0xA5 || a.p[-1 - (long)i] != 0xA5) {
            report(Err::Redzone, "bytes just outside the %zu-byte allocation at %p were overwritten", a.n, a.p);
            return false;
        }
    return true;
}
cudaError_t dev_free(void *p)
{
    if (!p)
        return cudaSuccess;
    auto it = allocs.find((unsigned char *)p);
    if (it == allocs.end() || it->second.freed)
        return ret(cudaErrorInvalidValue);
    check_red(it->second);
    it->second.freed = true;
    bytes_live -= it->second.kind == 2 ? 0 : it->second.n; /* the host's pinned memory isn't the device's */
    if (hooks)
        hooks->freed(p, it->second.n);
    if (it->second.kind == 2) {
        free(p);
        allocs.erase(it);
    } else {
        // Never reused: stale pointers stay visible, small blocks by their contents, whole pages by a fault.
        memset(p, 0xDD, it->second.n < 4096 ? it->second.n : 4096);
        ASAN_POISON_MEMORY_REGION(p, it->second.n);
        unsigned char *from = (unsigned char *)(((uintptr_t)p + 4096 + 4095) & ~uintptr_t(4095)),
                      *to = (unsigned char *)(((uintptr_t)p + it->second.n) & ~uintptr_t(4095));
        if (from < to) {
            madvise(from, (size_t)(to - from), MADV_DONTNEED);
            if (to - from >= 1 << 16)
                mprotect(from, (size_t)(to - from), PROT_NONE);
        }
    }
    return cudaSuccess;
}
bool dev_range(const void *p, size_t n)
{
    const Alloc *a = find_alloc(p);
    return a && !a->freed && a->kind != 2 && (const unsigned char *)p + n <= a->p + a->n;
}
cudaError_t check_copy(const void *d, const void *s, size_t n, cudaMemcpyKind k)
{
    bool dd = in_device_arena(d), sd = in_device_arena(s);
    if ((dd && !dev_range(d, n)) || (sd && !dev_range(s, n)))
        return cudaErrorInvalidValue;
    switch (k) {
    case cudaMemcpyHostToDevice: return dd && !sd ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDeviceToHost: return !dd && sd ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDeviceToDevice: return dd && sd ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyHostToHost: return !dd && !sd ? cudaSuccess : cudaErrorInvalidValue;
    default: return cudaSuccess;
    }
}
void do_copy(void *d, const void *s, size_t n)
{
    memmove(d, s, n);
    if (hooks) {
        hooks->host_read(s, n);
        hooks->host_write(d, n, true);
    }
}
void submit_host(cudaStream_t s, std::function<void()> f) { submit(s, std::move(f)); }
bool device_range(const void *p, size_t n) { return dev_range(p, n); }
void mark_written(void *p, size_t n)
{
    if (hooks)
        hooks->host_write(p, n, true);
}
} // namespace simt

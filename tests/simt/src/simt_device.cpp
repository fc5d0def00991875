// What device code calls beside barriers: asynchronous copies (data lands at the wait), atomics; and where shared memory is.
// __shared__ variables are thread_local ones of functions; they are found by name in the ELF symbol table.
#include "simt_rt.h"
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
namespace simt {
// ------------------------------------------------------------------ cp.async
static void land(const AsyncOp &o, void *pc)
{
    if (hooks) {
        if (o.n > o.zfill)
            hooks->access(o.src, o.n - o.zfill, false, pc);
        hooks->access(o.dst, o.n, true, pc);
    }
    memcpy(o.dst, o.src, o.n - o.zfill);
    memset((char *)o.dst + o.n - o.zfill, 0, o.zfill);
}
void async_copy(void *d, const void *s, size_t n, size_t zfill, Site at)
{
    RtGuard g;
    Thread *t = self();
    if ((n != 4 && n != 8 && n != 16) || (uintptr_t)d % n || (uintptr_t)s % n || zfill > n)
        report(Err::AsyncCopy,
               "cp.async of %zu bytes at %s:%d: size must be 4, 8 or 16 and both addresses aligned to it (dst %% n = %zu, src %% n = %zu)",
               n, at.file, at.line, (size_t)((uintptr_t)d % n), (size_t)((uintptr_t)s % n));
    AsyncOp o{d, s, (uint32_t)n, (uint32_t)zfill, at};
    if (!config.defer_async_copy) {
        land(o, __builtin_return_address(0));
        return;
    }
    if (hooks)
        hooks->access(d, n, true, __builtin_return_address(0)); // the copy may write from now on
    memset(d, 0xFF, n);
    if (hooks)
        hooks->host_write(d, n, false); // until the wait the destination holds NaN and counts as unwritten
    t->async.push_back(o);
}
void async_commit()
{
    Thread *t = self();
    t->groups.push_back((uint32_t)t->async.size());
}
void async_wait(unsigned prior, Site at)
{
    if (deleted(at))
        return;
    RtGuard g;
    Thread *t = self();
    if (t->groups.size() <= prior)
        return;
    size_t k = t->groups.size() - prior;
    uint32_t upto = t->groups[k - 1];
    for (uint32_t i = 0; i < upto; i++)
        land(t->async[i], __builtin_return_address(0));
    t->async.erase(t->async.begin(), t->async.begin() + upto);
    t->groups.erase(t->groups.begin(), t->groups.begin() + (long)k);
    for (auto &x : t->groups)
        x -= upto;
}
// ------------------------------------------------------------------ between blocks
void fence(Site at)
{
    if (deleted(at))
        return;
    RtGuard g;
    if (hooks && ctx.cur)
        hooks->fence();
}
// ------------------------------------------------------------------ atomics
template <class T, class F> static uint64_t rmw_loop(void *p, F f)
{
    T old = *(T *)p;
    T nv = f(old);
    *(T *)p = nv;
    uint64_t u = 0;
    memcpy(&u, &old, sizeof old);
    return u;
}
uint64_t atomic_rmw(void *p, unsigned n, int op, uint64_t v, uint64_t c)
{
    RtGuard g;
    if (hooks && ctx.cur)
        hooks->atomic(p, n, __builtin_return_address(0));
    auto F = [](uint64_t u) {
        float f;
        memcpy(&f, &u, 4);
        return f;
    };
    auto D = [](uint64_t u) {
        double f;
        memcpy(&f, &u, 8);
        return f;
    };
    if (op == A_FADD)
        return rmw_loop<float>(p, [&](float o) { return o + F(v); });
    if (op == A_DADD)
        return rmw_loop<double>(p, [&](double o) { return o + D(v); });
    auto I = [&](auto tag) {
        using U = decltype(tag);
        using S = std::make_signed_t<U>;
        return rmw_loop<U>(p, [&](U o) -> U {
            U x = (U)v;
            switch (op) {
            case A_ADD: return o + x;
            case A_MINS: return (S)x < (S)o ? x : o;
            case A_MAXS: return (S)x > (S)o ? x : o;
            case A_MINU: return x < o ? x : o;
            case A_MAXU: return x > o ? x : o;
            case A_EXCH: return x;
            case A_CAS: return o == (U)c ? x : o;
            case A_AND: return o & x;
            case A_OR: return o | x;
            case A_XOR: return o ^ x;
            case A_INC: return o >= x ? 0 : o + 1;
            case A_DEC: return o == 0 || o > x ? x : o - 1;
            }
            return o;
        });
    };
    return n == 8 ? I((uint64_t)0) : n == 4 ? I((uint32_t)0) : I((uint16_t)0);
}
// ------------------------------------------------------------------ shared memory
ExternShared *externs;
ExternShared::ExternShared(void *(*a)(), size_t c) : addr(a), cap(c), next(externs) { externs = this; }
static std::vector<std::pair<unsigned char *, size_t>> guards;
bool is_tls_guard(const void *p)
{
    for (auto &g : guards)
        if (p >= g.first && p < g.first + g.second)
            return true;
    return false;
}
// Function-local TLS variables (_ZZ...) of the program = its __shared__ variables.
const std::vector<SharedSym> &shared_symbols()
{
    static std::vector<SharedSym> v;
    static bool done;
    if (done)
        return v;
    done = true;
    static thread_local volatile char own; // a library has no block of such variables before the first of them is used
    own = 1;
    dl_iterate_phdr(
        [](dl_phdr_info *i, size_t, void *) {
            if (!i->dlpi_tls_data)
                return 0;
            const char *f = i->dlpi_name && *i->dlpi_name ? i->dlpi_name : "/proc/self/exe";
            int fd = open(f, O_RDONLY);
            if (fd < 0)
                return 0;
            struct stat st;
            fstat(fd, &st);
            auto *m = (unsigned char *)mmap(nullptr, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
            close(fd);
            if (m == MAP_FAILED)
                return 0;
            auto *eh = (Elf64_Ehdr *)m;
            auto *sh = (Elf64_Shdr *)(m + eh->e_shoff);
            for (int s = 0; s < eh->e_shnum; s++)
                if (sh[s].sh_type == SHT_SYMTAB) {
                    auto *sy = (Elf64_Sym *)(m + sh[s].sh_offset);
                    const char *str = (const char *)(m + sh[sh[s].sh_link].sh_offset);
                    for (size_t k = 0; k < sh[s].sh_size / sizeof *sy; k++) {
                        const char *n = str + sy[k].st_name;
                        if (ELF64_ST_TYPE(sy[k].st_info) == STT_TLS && !strncmp(n, "_ZZ", 3) && sy[k].st_size)
                            v.push_back({(unsigned char *)i->dlpi_tls_data + sy[k].st_value, sy[k].st_size, n});
                        if (ELF64_ST_TYPE(sy[k].st_info) == STT_TLS && !strncmp(n, "_ZGV", 4))
                            guards.push_back({(unsigned char *)i->dlpi_tls_data + sy[k].st_value, sy[k].st_size});
                    }
                }
            munmap(m, (size_t)st.st_size);
            return 0;
        },
        nullptr);
    return v;
}
void poison_block(size_t smem)
{
    for (auto &s : shared_symbols())
        memset(s.p, 0xFF, s.n);
    if (smem)
        memset(ctx.dyn, 0xFF, smem);
}
} // namespace simt

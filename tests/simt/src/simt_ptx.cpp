// Kernels that come from nvcc's PTX: found by the name and the source file of the one that was asked for. nvcc and g++ mangle alike, but
// for an L that g++ puts before the name of what is static and no template. Names are those of the ELF symbol table: static functions
// aren't in the dynamic one.
#include "simt_rt.h"
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <map>
#include <set>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
namespace simt {
namespace {
PtxKernel *list;
struct Function {
    std::string file, name;
};
using Functions = std::map<uintptr_t, Function>;

// Functions of the library that this is part of, by address.
Functions functions()
{
    Functions out;
    Dl_info me;
    if (!dladdr((const void *)&functions, &me))
        return out;
    const int fd = open(me.dli_fname && *me.dli_fname ? me.dli_fname : "/proc/self/exe", O_RDONLY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st))
        return out;
    auto *m = (unsigned char *)mmap(nullptr, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (m == MAP_FAILED)
        return out;
    auto *eh = (Elf64_Ehdr *)m;
    auto *sh = (Elf64_Shdr *)(m + eh->e_shoff);
    const uintptr_t base = eh->e_type == ET_DYN ? (uintptr_t)me.dli_fbase : 0;
    std::string file; // local symbols stand behind the name of their file
    for (int s = 0; s < eh->e_shnum; s++)
        if (sh[s].sh_type == SHT_SYMTAB) {
            auto *symbol = (Elf64_Sym *)(m + sh[s].sh_offset);
            const char *names = (const char *)(m + sh[sh[s].sh_link].sh_offset);
            for (size_t i = 0; i < sh[s].sh_size / sizeof *symbol; i++, symbol++) {
                std::string name = names + symbol->st_name;
                if (ELF64_ST_TYPE(symbol->st_info) == STT_FILE)
                    file = name;
                if (ELF64_ST_TYPE(symbol->st_info) != STT_FUNC)
                    continue;
                if (!name.compare(0, 3, "_ZL"))
                    name.erase(2, 1);
                out[base + symbol->st_value] = {file, name};
            }
        }
    munmap(m, (size_t)st.st_size);
    return out;
}

// At the end it is said which kernels weren't nvcc's.
struct Seen {
    std::map<const void *, const PtxKernel *> found;
    std::set<std::string> translated, others;
    ~Seen()
    {
        if (!list)
            return;
        fprintf(stderr, "simt ptx: %zu kernels were nvcc's, %zu were not:", translated.size(), others.size());
        for (auto &name : others)
            fprintf(stderr, " %s", name.c_str());
        fprintf(stderr, "\n");
    }
} seen;
} // namespace

PtxKernel::PtxKernel(const char *file, const char *name, void (*fn)(const void *const *), unsigned smem)
    : file(file), name(name), fn(fn), smem(smem), next(list)
{
    list = this;
}

const PtxKernel *ptx_find(const void *func)
{
    if (!list)
        return nullptr;
    static const Functions all = functions();
    auto known = seen.found.find(func);
    if (known != seen.found.end())
        return known->second;
    const PtxKernel *kernel = nullptr;
    auto it = all.find((uintptr_t)func);
    if (it != all.end())
        for (auto *k = list; k && !kernel; k = k->next)
            if (it->second.name == k->name && it->second.file == k->file)
                kernel = k;
    const std::string name = it == all.end() ? "?" : it->second.file + ":" + it->second.name;
    (kernel ? seen.translated : seen.others).insert(name);
    return seen.found[func] = kernel;
}
} // namespace simt

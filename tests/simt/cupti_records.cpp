// Records made by hand, walked by the genuine cuptiActivityGetNextRecord (which needs no driver) and joined by the code that a profile runs:
// names that are NULL, times that weren't taken, kinds that nobody knows, external records after their kernels and of two kinds, ids of 2^63,
// nodes of graphs, buffers that are empty or cut off. Skipped where there is no libcupti.
#include "kernels/cuda/cupti.h"

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

static int failures;
#define CHECK(what)                                                  \
    do {                                                             \
        if (!(what)) {                                               \
            printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
            failures++;                                              \
        }                                                            \
    } while (0)

struct Buffer {
    alignas(8) uint8_t p[4096];
    size_t used = 0;
    template <class T> void put(const T &record)
    {
        memcpy(p + used, &record, sizeof record);
        used += sizeof record;
    }
};

static CUpti_ActivityKernel10 kernel(const char *name, uint64_t start, uint64_t end, uint32_t corr, uint64_t node = 0)
{
    CUpti_ActivityKernel10 k{};
    k.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
    k.name = name;
    k.start = start;
    k.end = end;
    k.correlationId = corr;
    k.graphNodeId = node;
    k.streamId = 7;
    return k;
}

static CUpti_ActivityExternalCorrelation external(uint32_t corr, uint64_t id, CUpti_ExternalCorrelationKind kind = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0)
{
    CUpti_ActivityExternalCorrelation e{};
    e.kind = CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION;
    e.externalKind = kind;
    e.externalId = id;
    e.correlationId = corr;
    return e;
}

static CUpti_ActivityMemcpy6 copy(uint64_t start, uint32_t corr)
{
    CUpti_ActivityMemcpy6 c{};
    c.kind = CUPTI_ACTIVITY_KIND_MEMCPY;
    c.copyKind = CUPTI_ACTIVITY_MEMCPY_KIND_DTOH;
    c.bytes = 4096;
    c.start = start;
    c.end = start + 10;
    c.correlationId = corr;
    return c;
}

static std::string name_of(const kvt_records &r, size_t i) { return r.joined[i].name < 0 ? "?" : r.name[r.joined[i].name]; }

// the clock is 1000 ahead at the start, 1020 at the end
static const int64_t real[2] = {100000, 200000}, mono[2] = {99000, 198980};

static void joined(const kvt_cupti &cupti)
{
    kvt_records r;
    Buffer one, two, empty;
    kvt_records_open(&r, 100);
    one.put(kernel("_ZN12_GLOBAL__N_111norm_kernelEPKfPf", 150000, 150500, 1)); // its external record comes in another buffer
    one.put(kernel(nullptr, 150600, 150700, 2));
    one.put(external(2, uint64_t(1) << 63));
    one.put(external(2, 3, CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM1)); // another tool's
    one.put(external(2, 2));
    one.put(kernel("plain", 0, 0, 3));
    two.put(external(1, 1));
    two.put(copy(160000, 4));
    two.put(external(4, 5)); // no such call
    CUpti_ActivityAPI api{};
    api.kind = CUPTI_ACTIVITY_KIND_RUNTIME;
    api.correlationId = 4;
    two.put(api);
    kvt_records_read(&r, &cupti, one.p, one.used);
    kvt_records_read(&r, &cupti, empty.p, 0);
    kvt_records_read(&r, &cupti, nullptr, 0);
    kvt_records_read(&r, &cupti, two.p, two.used);
    kvt_records_join(&r, 4, real, mono);
    CHECK(r.n == 4 && !r.lost && !r.damaged);
    CHECK(r.joined[0].start_ns == -1 && r.joined[0].call == -1 && name_of(r, 0) == "plain");
    CHECK(r.joined[1].call == 0 && r.joined[1].start_ns == 150000 - 1010 && r.joined[1].dur_ns == 500);
    CHECK(name_of(r, 1) == "norm_kernel");
    CHECK(r.joined[2].call == 1 && name_of(r, 2) == "kernel without a name");
    CHECK(r.joined[3].kind == KVT_DEVICE_COPY && r.joined[3].bytes == 4096 && r.joined[3].call == -1 && name_of(r, 3) == "copy to the host");
    kvt_records_close(&r);
}

static void cut_off(const kvt_cupti &cupti)
{
    kvt_records r;
    Buffer b;
    kvt_records_open(&r, 2);
    b.put(kernel("a", 100000, 100001, 1));
    b.put(kernel("b", 100000, 100001, 1));
    kvt_records_read(&r, &cupti, b.p, b.used - 8); // in the middle of the second
    CHECK(r.n == 1 && !r.damaged);
    b.put(kernel("c", 100000, 100001, 1));
    kvt_records_read(&r, &cupti, b.p, b.used); // more than there is room for
    CHECK(r.n == 2 && r.lost == 2);
    memset(b.p + sizeof(CUpti_ActivityKernel10), 0x7e, 4); // a kind that nobody knows ends a buffer
    kvt_records_read(&r, &cupti, b.p, b.used);
    CHECK(r.damaged == 1 && r.lost == 3);
    kvt_records_close(&r);
}

// Two launches of a graph of two nodes, each for calls of its own; nodes of the executable graph are copies.
static void graphs(const kvt_cupti &cupti)
{
    kvt_records r;
    Buffer b;
    kvt_records_open(&r, 100);
    const int32_t first[] = {0, 1}, second[] = {4, 5};
    int32_t one = kvt_records_launch(&r, first, 2), two = kvt_records_launch(&r, second, 2);
    kvt_id_put(&r.node, uint64_t(7) << 40, 0);
    kvt_id_put(&r.node, (uint64_t(7) << 40) + 1, 1);
    b.put(external(10, (uint64_t)one + 1));
    b.put(external(11, (uint64_t)two + 1));
    for (uint32_t launch = 0; launch < 2; launch++)
        for (uint64_t node = 0; node < 3; node++) // the third isn't known
            b.put(kernel("k", 100000 + launch * 100 + node, 100050 + launch * 100 + node, 10 + launch, (uint64_t(7) << 40) + node));
    kvt_records_read(&r, &cupti, b.p, b.used);
    kvt_records_join(&r, 6, real, mono);
    const int32_t call[] = {0, 1, -1, 4, 5, -1};
    for (size_t i = 0; i < 6; i++)
        CHECK(r.joined[i].call == call[i]);
    kvt_records_close(&r);
}

static void many_ids()
{
    kvt_id_map m{};
    for (int32_t i = 0; i < 5000; i++)
        CHECK(kvt_id_put(&m, uint64_t(i) << 33, i));
    CHECK(kvt_id_put(&m, 0, 77)); // the first stays
    for (int32_t i = 0; i < 5000; i++)
        CHECK(kvt_id_get(&m, uint64_t(i) << 33) == i);
    CHECK(kvt_id_get(&m, 3) == -1);
    kvt_id_free(&m);
}

int main()
{
    kvt_cupti cupti;
    kvt_err err;
    const char *const nowhere[] = {"/nowhere/libcupti.so.13", nullptr};
    CHECK(kvt_cupti_open(&cupti, nowhere, &err) == KVT_EDEVICE && strstr(err.text, "isn't found"));
    many_ids();
    if (kvt_cupti_open(&cupti, nullptr, &err)) {
        printf("skipped: %s\n", err.text);
        return failures ? 1 : 77;
    }
    joined(cupti);
    cut_off(cupti);
    graphs(cupti);
    CHECK(kvt_cupti_refused(&cupti, CUPTI_ERROR_INSUFFICIENT_PRIVILEGES, "trying", &err) == KVT_EDEVICE && strstr(err.text, "administrators only"));
    CHECK(kvt_cupti_refused(&cupti, CUPTI_ERROR_UNKNOWN, "trying", &err) == KVT_EDEVICE && strstr(err.text, "trying: CUPTI error 999"));
    puts(failures ? "failed" : "all as they should be");
    return failures != 0;
}

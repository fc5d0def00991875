// Streams and events: work runs at the call, or, with SIMT_STREAMS=deferred, only when something waits for it, streams in random order.
#include "simt_rt.h"
#include <algorithm>
#include <cstdlib>
namespace simt {
static CUstream_st null_stream;
static std::vector<CUstream_st *> streams;
bool deferred()
{
    static int d = [] {
        const char *e = getenv("SIMT_STREAMS");
        return e && *e == 'd';
    }();
    return d;
}
CUstream_st *stream_of(cudaStream_t s) { return s ? s : &null_stream; }
void run_one(CUstream_st *s)
{
    auto f = std::move(s->q.front());
    s->q.pop_front();
    f();
}
void drain(CUstream_st *s)
{
    while (!s->q.empty())
        run_one(s);
}
void drain_all()
{
    std::vector<CUstream_st *> v = streams;
    v.push_back(&null_stream);
    for (;;) {
        std::vector<CUstream_st *> r;
        for (auto *s : v)
            if (!s->q.empty())
                r.push_back(s);
        if (r.empty())
            break;
        run_one(r[rng() % r.size()]);
    }
}
void submit(cudaStream_t st, std::function<void()> f, const void *func)
{
    if (stream_of(st)->capture) {
        capture(stream_of(st), std::move(f), func);
        return;
    }
    if (!deferred()) {
        f();
        return;
    }
    stream_of(st)->q.push_back(std::move(f));
}
} // namespace simt
using namespace simt;
SIMT_API cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned f)
{
    if (cudaError_t e = device_state(true))
        return ret(e);
    *s = new CUstream_st;
    (*s)->flags = f;
    streams.push_back(*s);
    return cudaSuccess;
}
SIMT_API cudaError_t cudaStreamCreate(cudaStream_t *s) { return cudaStreamCreateWithFlags(s, 0); }
SIMT_API cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned f, int) { return cudaStreamCreateWithFlags(s, f); }
SIMT_API cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    if (stream_of(s)->capture)
        return not_in_capture("cudaStreamDestroy");
    drain(stream_of(s));
    streams.erase(std::remove(streams.begin(), streams.end(), s), streams.end());
    delete s;
    return cudaSuccess;
}
SIMT_API cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    if (capturing())
        return not_in_capture("cudaStreamSynchronize");
    uint64_t t0 = now_ns();
    drain(stream_of(s));
    if (trace)
        trace->wait(s, t0, now_ns());
    return sticky ? ret(sticky) : cudaSuccess;
}
SIMT_API cudaError_t cudaStreamQuery(cudaStream_t s)
{
    if (capturing())
        return not_in_capture("cudaStreamQuery");
    if (stream_of(s)->q.empty())
        return sticky;
    run_one(stream_of(s));
    return cudaErrorNotReady;
}
SIMT_API cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    *e = new CUevent_st;
    return cudaSuccess;
}
SIMT_API cudaError_t cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, 0); }
SIMT_API cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    delete e;
    return cudaSuccess;
}
SIMT_API cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    e->captured = stream_of(s)->capture != nullptr;
    if (e->captured) // a place in the graph, for other streams of the same capture
        return cudaSuccess;
    uint64_t q = ++e->seq_recorded;
    submit(s, [=] {
        e->seq_done = q;
        e->t = std::chrono::steady_clock::now();
    });
    return cudaSuccess;
}
static void wait_event(cudaEvent_t e, uint64_t q)
{
    while (e->seq_done < q) {
        bool any = false;
        std::vector<CUstream_st *> v = streams;
        v.push_back(&null_stream);
        for (auto *s : v)
            if (!s->q.empty() && !s->waiting) {
                run_one(s);
                any = true;
                if (e->seq_done >= q)
                    return;
            }
        if (!any)
            return;
    }
}
SIMT_API cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    if (e->captured && !stream_of(s)->capture)
        return not_in_capture("cudaStreamWaitEvent of a second stream (captures that fork are not emulated)");
    if (e->captured) // the stream's own: it waits anyway
        return cudaSuccess;
    if (stream_of(s)->capture) {
        stream_of(s)->capture_failed = true;
        return ret(cudaErrorStreamCaptureIsolation);
    }
    uint64_t q = e->seq_recorded;
    submit(s, [=, of = stream_of(s)] {
        of->waiting = true; // what stands behind the wait doesn't run while others do
        wait_event(e, q);
        of->waiting = false;
    });
    return cudaSuccess;
}
SIMT_API cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    if (e->captured)
        return ret(cudaErrorCapturedEvent);
    if (capturing())
        return not_in_capture("cudaEventSynchronize");
    wait_event(e, e->seq_recorded);
    return sticky;
}
SIMT_API cudaError_t cudaEventQuery(cudaEvent_t e)
{
    if (e->captured)
        return ret(cudaErrorCapturedEvent);
    if (capturing())
        return not_in_capture("cudaEventQuery");
    return e->seq_done < e->seq_recorded ? cudaErrorNotReady : cudaSuccess;
}
SIMT_API cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b)
{
    if (a->seq_done < a->seq_recorded || b->seq_done < b->seq_recorded)
        return cudaErrorNotReady;
    if (!a->seq_recorded || !b->seq_recorded)
        return ret(cudaErrorInvalidResourceHandle);
    *ms = std::chrono::duration<float, std::milli>(b->t - a->t).count();
    return cudaSuccess;
}

// Graphs: what a stream is given between begin and end of a capture becomes a chain of nodes, arguments and all, which runs at each
// launch. What CUDA forbids during a capture is an error here too, and ends the capture: waits, allocation and release of memory, the
// legacy stream, launches that fail. Captures of one stream only: a second one that joins is an error.
#include "simt_rt.h"
#include <cstdlib>
#include <cstddef>
#include <memory>
struct Node {
    std::function<void()> run;
    const void *func; // a kernel's, else null
    uint64_t id;
};
struct CUgraph_st {
    std::vector<Node> node;
    uint32_t id;
};
struct CUgraphExec_st {
    std::vector<Node> node;
    uint32_t id;
};
namespace simt {
RunningNode running_node;
static std::map<const void *, Kernel> kernels;
static std::vector<CUstream_st *> under_way;
static uint64_t node_ids;
static uint32_t graph_ids;
static struct Count {
    unsigned long long launches, nodes, alone, made;
    ~Count() // for tests: how much went by graphs
    {
        if (getenv("SIMT_GRAPHS"))
            fprintf(stderr, "graphs: %llu made, %llu launched with %llu kernels, %llu kernels launched alone\n", made, launches, nodes, alone);
    }
} count;
Kernel &kernel_of(const void *func) { return kernels[func]; }
static const std::vector<void *> *running_arg;
static const std::vector<size_t> *running_bytes;
bool is_argument(const void *p, size_t n)
{
    for (size_t i = 0; running_bytes && i < running_bytes->size(); i++) {
        auto *arg = static_cast<const unsigned char *>((*running_arg)[i]), *at = static_cast<const unsigned char *>(p);
        if (at >= arg && at + n <= arg + (*running_bytes)[i])
            return true;
    }
    return false;
}
void capture(CUstream_st *s, std::function<void()> f, const void *func)
{
    s->capture->node.push_back({std::move(f), func, ++node_ids});
    if (trace)
        trace->node(node_ids, 0);
}
bool capturing() { return !under_way.empty(); }
cudaError_t not_in_capture(const char *what)
{
    if (!capturing())
        return cudaSuccess;
    for (auto *s : under_way)
        s->capture_failed = true;
    fprintf(stderr, "simt: %s is not permitted while a stream is captured\n", what);
    return ret(cudaErrorStreamCaptureUnsupported);
}
} // namespace simt
using namespace simt;
SIMT_API cudaError_t cudaLaunchKernel(const void *func, dim3 g, dim3 b, void **arg, size_t smem, cudaStream_t s)
{
    auto it = kernels.find(func);
    if (it == kernels.end())
        return ret(cudaErrorInvalidDeviceFunction);
    struct Call {
        const void *func;
        const Kernel *kernel;
        const PtxKernel *ptx;
        std::vector<std::unique_ptr<std::max_align_t[]>> value;
        std::vector<void *> arg;
    };
    auto call = std::make_shared<Call>();
    call->func = func;
    call->kernel = &it->second;
    call->ptx = ptx_find(func);
    for (size_t i = 0; i < it->second.bytes.size(); i++) { // copied at the call
        size_t n = it->second.bytes[i];
        call->value.emplace_back(new std::max_align_t[n / sizeof(std::max_align_t) + 1]);
        call->arg.push_back(call->value.back().get());
        memcpy(call->arg.back(), arg[i], n);
    }
    call->arg.push_back(nullptr);
    Body body = [](void *p) {
        Call &c = *static_cast<Call *>(p);
        running_arg = &c.arg, running_bytes = &c.kernel->bytes;
        if (c.ptx)
            c.ptx->fn(c.arg.data());
        else
            c.kernel->call(c.func, c.arg.data());
    };
    if (!stream_of(s)->capture)
        count.alone++;
    return launch_raw(
        it->second.name, func, body, call.get(), [call] {}, g, b, smem, call->ptx ? call->ptx->smem : 0, s);
}
SIMT_API cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    if (!s)
        return ret(cudaErrorStreamCaptureUnsupported); // the legacy stream can't be
    if (s->capture)
        return ret(cudaErrorIllegalState);
    s->capture = new CUgraph_st{{}, ++graph_ids};
    s->capture_failed = false;
    under_way.push_back(s);
    return cudaSuccess;
}
SIMT_API cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out)
{
    *out = nullptr;
    if (!s || !s->capture)
        return ret(cudaErrorIllegalState);
    std::erase(under_way, s);
    CUgraph_st *graph = s->capture;
    s->capture = nullptr;
    if (s->capture_failed) {
        delete graph;
        return ret(cudaErrorStreamCaptureInvalidated);
    }
    *out = graph;
    return cudaSuccess;
}
SIMT_API cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status)
{
    CUstream_st *of = stream_of(s);
    *status = !of->capture ? cudaStreamCaptureStatusNone : of->capture_failed ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}
SIMT_API cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *node, size_t *n)
{
    for (size_t i = 0; node && i < *n && i < graph->node.size(); i++)
        node[i] = reinterpret_cast<cudaGraphNode_t>(&graph->node[i]);
    if (!node || *n > graph->node.size())
        *n = graph->node.size();
    return cudaSuccess;
}
SIMT_API cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    if (capturing())
        return not_in_capture("cudaGraphInstantiate");
    *out = new CUgraphExec_st{graph->node, graph->id}; // a copy: the graph may go
    for (Node &node : (*out)->node) { // an executable graph's nodes have ids of their own
        uint64_t original = node.id;
        node.id = ++node_ids;
        if (trace)
            trace->node(node.id, original);
    }
    count.made++;
    return cudaSuccess;
}
SIMT_API cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo *info)
{
    memset(info, 0, sizeof *info);
    bool fits = exec->node.size() == graph->node.size();
    for (size_t i = 0; fits && i < graph->node.size(); i++)
        fits = exec->node[i].func == graph->node[i].func;
    info->result = fits ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
    if (!fits)
        return ret(cudaErrorGraphExecUpdateFailure);
    for (size_t i = 0; i < graph->node.size(); i++)
        exec->node[i].run = graph->node[i].run;
    return cudaSuccess;
}
SIMT_API cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
    if (sticky)
        return ret(sticky);
    if (stream_of(s)->capture)
        return not_in_capture("cudaGraphLaunch (graphs in graphs are not emulated)");
    uint32_t corr = trace ? trace->api(311, now_ns(), now_ns()) : 0; // CUPTI_RUNTIME_TRACE_CBID_cudaGraphLaunch_v10000
    count.launches++;
    for (const Node &node : exec->node) {
        count.nodes += node.func != nullptr;
        submit(s, [run = node.run, corr, graph = exec->id, id = node.id] {
            running_node = {corr, graph, id};
            run();
            running_node = {};
        });
    }
    return cudaSuccess;
}
SIMT_API cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}
SIMT_API cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    drain_all(); // CUDA puts it off until no launch of it is under way
    delete exec;
    return cudaSuccess;
}

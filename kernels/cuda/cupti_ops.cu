/* The operations once more, each of which says that it runs: to a profile, and as an NVTX range to whoever listens (nsys; without a listener a
 * range costs a nanosecond). Layers of arguments count more than where the engine says it is. */
#include "kernels/cuda/cupti.h"

#include <nvtx3/nvToolsExt.h>

#include "kernels/cuda/cache.h"
extern "C" {
#include "kernels/traffic.h"
}

extern "C" const struct kvt_ops kvt_plugin_table;

enum { AS_ENGINE = -2 };

struct mark { int64_t call; };

static struct mark begin(struct kvt_dev *dev, const char *name, int layer, int64_t bytes)
{
    nvtxRangePushA(name);
    return (struct mark){kvt_cuda_profile_enter(name, dev->where, layer, bytes)};
}

static int end(struct mark m, int rc)
{
    kvt_cuda_profile_leave(m.call);
    nvtxRangePop();
    return rc;
}

/* ---- bytes of what isn't in kernels/traffic.h ---- */

static int64_t floats(int64_t count) { return count * (int64_t)sizeof(float); }
static int live(const void *self, int branch, int layer) { return kvt_most((const struct kvt_cache *)self, branch, layer); }
static int64_t attn_bytes(const struct kvt_attn_args *a) { return kvt_traffic_attn(a, &a->cache->o, live, a->cache); }
static int64_t append_bytes(const struct kvt_append_args *a) { return kvt_traffic_append(a, &a->cache->o); }
static int64_t glu_bytes(const struct kvt_glu_args *a) { return floats(3 * (int64_t)a->T * a->F); }
static int64_t add_bytes(const struct kvt_add_args *a) { return floats(3 * (int64_t)a->count); }
static int64_t scale_bytes(const struct kvt_scale_args *a) { return floats(2 * (int64_t)a->count); }
static int64_t norms_bytes(const struct kvt_norms_args *a) { return kvt_traffic_slots(&a->at, &a->at.cache->o, !!a->key + !!a->value); }
static int64_t keydiff_bytes(const struct kvt_keydiff_args *a) { return kvt_traffic_slots(&a->at, &a->at.cache->o, 1); }
static int64_t lag_bytes(const struct kvt_lag_args *a) { return kvt_traffic_slots(&a->at, &a->at.cache->o, 2); }
static int64_t expected_bytes(const struct kvt_expected_args *a) { return kvt_traffic_slots(&a->at, &a->at.cache->o, 1); }
static int64_t group_bytes(const struct kvt_group_args *a) { return floats((int64_t)(a->H + a->G) * a->n); }
static int64_t pool_bytes(const struct kvt_pool_args *a) { return floats(2 * (int64_t)a->R * (a->to - a->from)); }
static int64_t weigh_bytes(const struct kvt_weigh_args *a) { return floats(3 * (int64_t)a->R * a->n); }
static int64_t combine_bytes(const struct kvt_combine_args *a)
{
    return floats((int64_t)a->R * a->n + (a->accumulate ? 2 : 1) * (int64_t)(a->sum_rows ? 1 : a->R) * a->n);
}

/* ---- operations ---- */

#define MARKED(op, layer, bytes)                                                                  \
    static int op(struct kvt_dev *dev, const struct kvt_##op##_args *a)                           \
    {                                                                                             \
        struct mark m = begin(dev, #op, layer, bytes);                                            \
        return end(m, kvt_cuda_##op(dev, a));                                                     \
    }
#define MARKED_CACHE(op, args, layer, bytes)                                                      \
    static int cache_##op(struct kvt_dev *dev, const struct kvt_##args##_args *a)                 \
    {                                                                                             \
        struct mark m = begin(dev, "cache_" #op, layer, bytes);                                   \
        return end(m, kvt_cuda_cache_##op(dev, a));                                               \
    }

MARKED(embed, AS_ENGINE, kvt_traffic_embed(a))
MARKED(norm, AS_ENGINE, kvt_traffic_norm(a))
MARKED(rotate, AS_ENGINE, kvt_traffic_rotate(a))
MARKED(glu, AS_ENGINE, glu_bytes(a))
MARKED(add, AS_ENGINE, add_bytes(a))
MARKED(scale, AS_ENGINE, scale_bytes(a))
MARKED(logit_stats, AS_ENGINE, kvt_traffic_logit_stats(a))
MARKED(linear, AS_ENGINE, kvt_traffic_linear(a))
MARKED(linears, AS_ENGINE, kvt_traffic_linears(a))
MARKED_CACHE(append, append, a->layer, append_bytes(a))
MARKED_CACHE(keep, keep, a->layer, -1)
MARKED_CACHE(remove, remove, a->layer, -1)
MARKED_CACHE(positions, positions, a->layer, -1)
MARKED(group, AS_ENGINE, group_bytes(a))
MARKED(pool, AS_ENGINE, pool_bytes(a))
MARKED(combine, AS_ENGINE, combine_bytes(a))
MARKED(segment_mean, AS_ENGINE, -1)
MARKED(topk, AS_ENGINE, -1)
MARKED(pick_units, AS_ENGINE, -1)
MARKED(divide, AS_ENGINE, -1)
MARKED(weigh, AS_ENGINE, weigh_bytes(a))
MARKED(norms, a->at.layer, norms_bytes(a))
MARKED(keydiff, a->at.layer, keydiff_bytes(a))
MARKED(lag, a->at.layer, lag_bytes(a))
MARKED(out_norms, a->at.layer, -1)
MARKED(query_stats, AS_ENGINE, -1)
MARKED(expected, a->at.layer, expected_bytes(a))
MARKED(accumulate, AS_ENGINE, -1)
MARKED(contest, AS_ENGINE, -1)
MARKED(evict_one, a->layer, -1)
MARKED(topk_within, AS_ENGINE, -1)
MARKED(attn, a->layer, attn_bytes(a))
MARKED(lost, a->layer, -1)

static int cache_open(struct kvt_dev *dev, struct kvt_cache **out, const struct kvt_cache_opts *o, struct kvt_err *err)
{
    struct mark m = begin(dev, "cache_open", AS_ENGINE, -1);
    return end(m, kvt_cuda_cache_open(dev, out, o, err));
}

static int cache_fork(struct kvt_dev *dev, struct kvt_cache *cache, int src, int dst)
{
    struct mark m = begin(dev, "cache_fork", AS_ENGINE, -1);
    return end(m, kvt_cuda_cache_fork(dev, cache, src, dst));
}

static int cache_drop(struct kvt_dev *dev, struct kvt_cache *cache, int branch)
{
    struct mark m = begin(dev, "cache_drop", AS_ENGINE, -1);
    return end(m, kvt_cuda_cache_drop(dev, cache, branch));
}

static int cache_lengths(struct kvt_dev *dev, struct kvt_cache *cache, int branch, int32_t *host_count)
{
    struct mark m = begin(dev, "cache_lengths", AS_ENGINE, -1);
    return end(m, kvt_cuda_cache_lengths(dev, cache, branch, host_count));
}

static int cache_bytes(struct kvt_dev *dev, struct kvt_cache *cache, int branch, struct kvt_cache_bytes *out)
{
    struct mark m = begin(dev, "cache_bytes", AS_ENGINE, -1);
    return end(m, kvt_cuda_cache_bytes(dev, cache, branch, out));
}

static int cache_peek(struct kvt_dev *dev, struct kvt_cache *cache, int branch, int layer, int g, float *k, float *v)
{
    struct mark m = begin(dev, "cache_peek", layer, -1);
    return end(m, kvt_cuda_cache_peek(dev, cache, branch, layer, g, k, v));
}

/* ---- memory: a copy on the device reads and writes ---- */

static void *alloc(struct kvt_dev *dev, size_t bytes)
{
    struct mark m = begin(dev, "alloc", AS_ENGINE, (int64_t)bytes);
    void *p = kvt_cuda_alloc(dev, bytes);
    end(m, 0);
    return p;
}

static int write(struct kvt_dev *dev, void *dst, const void *src, size_t bytes)
{
    struct mark m = begin(dev, "write", AS_ENGINE, (int64_t)bytes);
    return end(m, kvt_cuda_write(dev, dst, src, bytes));
}

static int read(struct kvt_dev *dev, void *dst, const void *src, size_t bytes)
{
    struct mark m = begin(dev, "read", AS_ENGINE, (int64_t)bytes);
    return end(m, kvt_cuda_read(dev, dst, src, bytes));
}

static int zero(struct kvt_dev *dev, void *dst, size_t bytes)
{
    struct mark m = begin(dev, "zero", AS_ENGINE, (int64_t)bytes);
    return end(m, kvt_cuda_zero(dev, dst, bytes));
}

static int copy(struct kvt_dev *dev, void *dst, const void *src, size_t bytes)
{
    struct mark m = begin(dev, "copy", AS_ENGINE, 2 * (int64_t)bytes);
    return end(m, kvt_cuda_copy(dev, dst, src, bytes));
}

static int read_later(struct kvt_dev *dev, void *dst, const void *src, size_t bytes)
{
    struct mark m = begin(dev, "read_later", AS_ENGINE, (int64_t)bytes);
    return end(m, kvt_cuda_read_later(dev, dst, src, bytes));
}

static int settle(struct kvt_dev *dev)
{
    struct mark m = begin(dev, "settle", AS_ENGINE, -1);
    return end(m, kvt_cuda_settle(dev));
}

static int step_begin(struct kvt_dev *dev, const struct kvt_step_args *a)
{
    struct mark m = begin(dev, "step_begin", AS_ENGINE, -1);
    return end(m, kvt_cuda_step_begin(dev, a));
}

static int step_end(struct kvt_dev *dev)
{
    struct mark m = begin(dev, "step_end", AS_ENGINE, -1);
    return end(m, kvt_cuda_step_end(dev));
}

static int weights(struct kvt_dev *dev, struct kvt_mat *mat)
{
    struct mark m = begin(dev, "weights", AS_ENGINE, (int64_t)kvt_row_bytes(mat->type, (size_t)mat->k) * mat->n);
    return end(m, kvt_cuda_weights(dev, mat));
}

static int open_device(struct kvt_dev **out, const struct kvt_dev_opts *opts, struct kvt_err *err)
{
    int rc = kvt_cuda_open(out, opts, err);
    if (!rc)
        (*out)->where = opts ? opts->where : NULL;
    return rc;
}

/* What isn't here runs as it does without a profile, and its work isn't joined. */
static struct kvt_ops with_marks(struct kvt_ops to)
{
    to.open = open_device, to.alloc = alloc, to.write = write, to.read = read, to.zero = zero, to.copy = copy, to.weights = weights;
    to.embed = embed, to.norm = norm, to.rotate = rotate, to.glu = glu, to.add = add, to.scale = scale, to.logit_stats = logit_stats;
    to.linear = linear, to.linears = linears, to.step_begin = step_begin, to.step_end = step_end, to.read_later = read_later, to.settle = settle;
    to.cache_open = cache_open, to.cache_append = cache_append, to.cache_keep = cache_keep, to.cache_remove = cache_remove;
    to.cache_fork = cache_fork, to.cache_drop = cache_drop, to.cache_positions = cache_positions, to.cache_lengths = cache_lengths;
    to.cache_bytes = cache_bytes, to.cache_peek = cache_peek;
    to.group = group, to.pool = pool, to.combine = combine, to.segment_mean = segment_mean, to.topk = topk, to.topk_within = topk_within;
    to.pick_units = pick_units, to.divide = divide, to.weigh = weigh, to.norms = norms, to.keydiff = keydiff, to.lag = lag;
    to.out_norms = out_norms, to.query_stats = query_stats, to.expected = expected;
    to.accumulate = accumulate, to.contest = contest, to.evict_one = evict_one, to.attn = attn, to.lost = lost;
    return to;
}
static const struct kvt_ops marked = with_marks(kvt_plugin_table);

extern "C" __attribute__((visibility("default"))) const struct kvt_profile_table kvt_plugin_profile_table = {
    .ops = &marked, .start = kvt_cuda_profile_start, .stop = kvt_cuda_profile_stop, .close = kvt_cuda_profile_close,
};

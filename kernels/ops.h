/* THE contract between the engine and a machine: letters, argument structs, struct kvt_ops.
 *
 * Letters, fixed here and used everywhere:
 *   L layers, H query heads, G kv heads (H % G == 0), D head dim, E model dim, V vocabulary,
 *   T rows (tokens) in this call, n live slots, W observation window, B branches.
 * Arrays are row-major, innermost index last. A *position* (pos) is a place in the text; a *slot* is
 * a row of the cache. They are never the same variable. Query head h reads kv head h / (H / G).
 *
 * "Backend memory" is memory from ops->alloc: host code outside kernels/ never dereferences it, but
 * moves it with ops->read and ops->write. Pointers in argument structs are backend memory unless
 * they say "host". NULL in an optional output means: not asked, and then it costs nothing.
 *
 * Exactness. In one backend, on one machine, an operation gives the same bits for any number of
 * threads. Where `exact` is said, a row's result also doesn't depend on how many rows share the call.
 *
 * Three instances live in one process: ref (the definition: plain loops, double accumulators, never
 * optimised), cpu (fast), cuda (a plugin). An operation exists only with its check in tests/kerncheck.
 *
 * Every operation returns 0 or KVT_E*; the text is in kvt_dev_error(dev). Wrong arguments are our own
 * mistake: asserted, not returned. */
#ifndef KVT_KERNELS_OPS_H
#define KVT_KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvt/kvt.h"
#include "kernels/choose.h"
#include "kvt/probe.h" /* KVT_MAX_WINDOWS */

/* ---- data types ------------------------------------------------------------------------------ */

/* name, values per block, bytes per block. Block layouts are GGUF's. */
#define KVT_DTYPE_MAP(X)  \
    X(F32,    1,   4)     \
    X(F16,    1,   2)     \
    X(BF16,   1,   2)     \
    X(Q4_0,  32,  18)     \
    X(Q4_1,  32,  20)     \
    X(Q5_0,  32,  22)     \
    X(Q5_1,  32,  24)     \
    X(Q8_0,  32,  34)     \
    X(Q4_K, 256, 144)     \
    X(Q5_K, 256, 176)     \
    X(Q6_K, 256, 210)     \
    X(Q2_K, 256,  84)     \
    X(Q3_K, 256, 110)     \
    X(IQ4_NL, 32, 18)     \
    X(IQ4_XS, 256, 136)   \
    X(MXFP4, 32,  17)

enum kvt_dtype {
#define X(name, values, bytes) KVT_##name,
    KVT_DTYPE_MAP(X)
#undef X
    KVT_N_DTYPE
};
struct kvt_dtype_info {
    const char *name;   /* "Q4_1" */
    int block_values;
    int block_bytes;
};
extern const struct kvt_dtype_info kvt_dtypes[KVT_N_DTYPE];

/* What the nibbles of IQ4_NL and IQ4_XS (unevenly spaced), and of MXFP4 (e2m1, doubled), stand for. */
extern const int8_t kvt_iq4_values[16], kvt_mxfp4_values[16];

/* Bytes of a row of `cols` values; cols must be a multiple of block_values. */
size_t kvt_row_bytes(enum kvt_dtype type, size_t cols);

/* Arithmetic of the matrix products.
 * F32: weights and activations as f32. BF16: both rounded to bf16, products exact, sums in f32. F16: both rounded to f16, each row
 * of activations after a multiplication by kvt_f16_scale of its largest (and its sums are divided by that again); products exact, up
 * to 48 of them summed in f16, such sums in f32. A cpu without AVX512_FP16 sums in f32; blocks of Q4_K and Q6_K may
 * have their runs' scales and minima rounded to f16. A factor from 65,520 on, which f16 lacks, isn't rounded, and a sum that would leave
 * f16's range is taken from unrounded factors in f64 (host backends; beyond_f16 counts them). */
enum kvt_compute { KVT_COMPUTE_F32, KVT_COMPUTE_BF16, KVT_COMPUTE_F16, KVT_N_COMPUTE };
extern const char *const kvt_compute_names[KVT_N_COMPUTE];

/* A weight matrix: N outputs (rows) of K inputs (cols), each row a run of dtype blocks. */
struct kvt_mat {
    const void *data;   /* backend memory after ops->weights */
    enum kvt_dtype type;
    int n;              /* N, rows, outputs */
    int k;              /* K, cols, inputs */
};

/* Rotary factors, fixed for a run. Pair i of position p is rotated by the angle whose cos, sin are
 * table[(p * rot / 2 + i) * 2 + {0, 1}]. */
struct kvt_rope {
    const float *table; /* (n_pos, rot / 2, 2) */
    int n_pos;          /* positions 0 .. n_pos - 1 have factors */
    int rot;            /* leading dims of a head that are rotated; 0 = no rotation */
    bool halves;        /* pairs (i, i + rot/2), Hugging Face order; else adjacent (2i, 2i + 1) */
};

/* ---- elem: one row at a time ------------------------------------------------------------------ */

struct kvt_embed_args {
    struct kvt_mat table;   /* (V, E) */
    const int32_t *token;   /* host, (T) */
    float *out;             /* (T, E) */
    int T;
};

struct kvt_norm_args {      /* RMSNorm: out = in / sqrt(mean(in^2) + eps) * weight; with `centre`, LayerNorm */
    const float *in;        /* (T, E); heads of a row are rows too: (T H, D) */
    const float *weight;    /* (E) */
    float *out;             /* (T, E); may be `in` */
    float eps;
    int T, E;
    bool centre;            /* the row's mean is taken off first */
    const float *bias;      /* (E) added at the end, or NULL; only with centre */
};

struct kvt_rotate_args {    /* rope, in place */
    float *x;               /* (T, heads, D) */
    const int32_t *pos;     /* (T) */
    struct kvt_rope rope;
    int T, heads, D;
    float scale;            /* cos and sin are multiplied by it (YaRN, longrope); 0 counts as 1 */
    float *more;            /* (T, more_heads, D), rotated likewise; or NULL */
    int more_heads;
};

/* Of a feed-forward's gate: x / (1 + e^-x); x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3); x Phi(x). */
enum kvt_act { KVT_ACT_SILU, KVT_ACT_GELU_TANH, KVT_ACT_GELU };

struct kvt_glu_args {       /* out = act(gate) * up */
    const float *gate, *up; /* (T, F) */
    float *out;             /* (T, F); may be `gate` */
    int T, F;
    enum kvt_act act;
};

struct kvt_add_args {       /* x += scale * y */
    float *x;               /* (count) */
    const float *y;         /* (count) */
    size_t count;
    float scale;            /* the product is rounded before it is added */
};

struct kvt_scale_args {     /* x = scale * x; with a cap, cap * tanh(scale * x / cap) */
    float *x;               /* (count) */
    size_t count;
    float scale;
    float cap;              /* 0 = none */
};

/* Statistics of rows of logits, each a full pass in f32 with double sums. exact. Natural logarithms. */
struct kvt_logit_stats_args {
    const float *logits;    /* (T, V) */
    int T, V;
    const int32_t *base;    /* host, (T): row to compare with for kl; -1 = no comparison; or NULL */
    const int32_t *token;   /* host, (T): token whose log-probability is asked; -1 = none; or NULL */
    /* host outputs, (T), each may be NULL */
    int32_t *argmax;        /* ties: the smaller id */
    float *logprob;         /* ln p(token[t]); NaN where token is -1 */
    float *top_logprob;     /* ln p(argmax[t]) */
    float *kl;              /* KL(base row || row t), nats; 0 exactly when the rows are equal; NaN if none */
    float *entropy;         /* nats */
};

/* ---- linear ----------------------------------------------------------------------------------- */

struct kvt_linear_args {    /* out = in * w^T (+ bias) (+ out) */
    struct kvt_mat w;       /* (N, K) */
    const float *bias;      /* (N) or NULL */
    const float *in;        /* (T, K) */
    float *out;             /* (T, N) */
    int T;
    bool accumulate;        /* out += instead of out = */
    bool exact;             /* a row's bits don't depend on T; without it a library's product may be used */
    enum kvt_compute compute;
};

/* What norm, then linear a[0] ... a[n - 1], then glu do, bit for bit, in fewer launches: products with the same rows (in, T, exact,
 * compute) into outputs of their own. What only these hand on, norm->out and with glu the products' outputs, may be left unwritten. */
struct kvt_linears_args {
    const struct kvt_norm_args *norm; /* whose out is a[i].in; or NULL */
    const struct kvt_linear_args *a;
    int n;
    const struct kvt_glu_args *glu;   /* of a[0].out, gate, and a[1].out, up; then n is 2; or NULL */
};

/* ---- cache: pages, tables, selection ----------------------------------------------------------- */

struct kvt_cache; /* pages, tables, counts and free list of all branches; backend memory */

struct kvt_cache_opts {
    int L, G, D;
    int max_branch;          /* branches 0 .. max_branch - 1 */
    int max_slots;           /* slots a cell can hold; a cell is one (branch, layer, kv head) */
    enum kvt_dtype type;     /* KVT_F32, KVT_F16 or KVT_BF16: the codec of K and V */
    uint64_t max_bytes;      /* K and V of all pages take no more: what needs another page returns KVT_ENOMEM; 0: no limit */
};

/* T rows are written to layer `layer`. Without `slot`, row t goes to the next free slot of each cell of
 * branch[t], rows in order. A page that other branches hold too is copied first (copy on write). */
struct kvt_append_args {
    struct kvt_cache *cache;
    int layer, T;
    const float *k, *v;      /* (T, G, D), k already rotated */
    const int32_t *branch;   /* host, (T) */
    const int32_t *pos;      /* host, (T) */
};

/* Compaction: each cell of (branch, layer) keeps exactly the listed slots, in the listed order
 * (ascending), in fresh pages; a new page that equals a whole old page shares it instead. The
 * rest is let go, and pages nobody holds return to the free list. */
struct kvt_keep_args {
    struct kvt_cache *cache;
    int branch, layer;
    const int32_t *slot;     /* (G, ld) slots kept, ascending, 0 <= slot < n */
    const int32_t *count;    /* (G) how many */
    int ld;
};

/* Per-step eviction: the listed slots leave each cell; for each, in the listed order (descending), the
 * cell's last live slot moves into the hole (nothing moves if it is the last) and the cell shrinks by
 * one. `state` arrays of (G, state_ld) floats move in the same way (a method's `moved`). */
struct kvt_remove_args {
    struct kvt_cache *cache;
    int branch, layer;
    const int32_t *slot;     /* (G, ld) descending */
    const int32_t *count;    /* (G) */
    int ld;
    float *state;            /* (G, state_ld) or NULL */
    int state_ld;
};

/* Positions held by each cell of (branch, layer), in slot order. */
struct kvt_positions_args {
    struct kvt_cache *cache;
    int branch, layer;
    int32_t *pos;            /* (G, ld); the rest of a row is -1 */
    int32_t *count;          /* (G) live slots, or NULL */
    int ld;
};

struct kvt_cache_bytes {     /* K and V only; positions and tables are counted apart */
    size_t held;             /* pages that anybody holds: what this run holds */
    size_t alone;            /* pages of the asked branch: what it would hold by itself */
    size_t own;              /* pages that only the asked branch holds */
    size_t peak;             /* the most that `held` ever was */
    size_t tables;           /* positions, tables and counts of the whole cache */
};

/* Reductions of scores, budgets and the choice of slots: kernels/choose.h. */

/* ---- score: what cached slots are worth without their rows of attention ------------------------- */

/* Slots [0, n) of the cells of (branch, layer), in slot order; of a shorter cell all. Outputs are (G, ld), written there. */
struct kvt_slots {
    struct kvt_cache *cache;
    int branch, layer, n;
};

struct kvt_norms_args {      /* Euclidean norms of cached keys and values */
    struct kvt_slots at;
    float *key, *value;      /* (G, ld), each may be NULL */
    int ld;
};

/* KeyDiff: minus the cosine of a key with the mean of the cell's unit keys. A zero key has cosine 0. */
struct kvt_keydiff_args {
    struct kvt_slots at;
    float *out;              /* (G, ld) */
    int ld;
};

/* LagKV: slots from `sink` on in partitions of `lag`; partition p is measured by the range, per channel, of p + 1: x = (v - min) /
 * (max - min), 0 where max = min; the deviation of x over channels (divided by D - 1), softmax over p's slots; mean of K's and V's.
 * rank: the place of a slot's score in its partition instead, ascending from 0, over lag (kvpress); equal scores in order of slots.
 * 1 where there is nothing to be measured by: sinks, the last whole partition and what follows it. A cell too short for two
 * partitions: 1 for sinks, then rising: (j - sink) / (n - sink), so that the newest stay. D > 1. */
struct kvt_lag_args {
    struct kvt_slots at;
    int sink, lag;
    bool rank;
    float *out;              /* (G, ld) */
    int ld;
};

/* CriticalKV: ||W_O v||_1, W_O's columns of a query head by the value of its kv head, mean over the heads of a group. */
struct kvt_out_norms_args {
    struct kvt_slots at;
    struct kvt_mat w;        /* W_O (E, H D) */
    int H;
    float *out;              /* (G, ld) */
    int ld;
};

/* Mean and covariance of unrotated queries, run by run: each call joins T rows to the `seen` rows of the calls before (0: the
 * first, and what the arrays hold is ignored). */
struct kvt_query_stats_args {
    const float *q;          /* (T, H, D), not rotated */
    int T, H, D;
    int seen;
    float *mean;             /* (H, D) */
    float *scatter;          /* (H, D, D) sum of (q - mean)(q - mean)'; over the rows seen it is the covariance */
};

/* Expected Attention: softmax over slots [sink, n) of m.k / sqrt(D) + k'Sk / (2 D), mean over the heads of a group; m and S are mean
 * and covariance turned by R, the mean of the rotations of positions [from, from + ahead): m = R mean, S = R cov R'. 0 for sinks. */
struct kvt_expected_args {
    struct kvt_slots at;
    int H, sink;
    const float *mean;       /* (H, D) */
    const float *scatter;    /* (H, D, D), or NULL: without the second term */
    int rows;                /* that scatter was gathered over */
    struct kvt_rope rope;    /* with factors of all those positions */
    int from, ahead;
    float scale;             /* 1 / sqrt(D); the second term takes its square, halved */
    float *out;              /* (G, ld) */
    int ld;
};

/* ---- attn ------------------------------------------------------------------------------------- */

/* Rows whose squares are summed: of the last `window` rows (0: of all) those with position >= j + distance (KV-Compress).
 * by_pos: not A^2 but A times the row's position (FINCH); then distance is 0. */
struct kvt_square {
    int window, distance;
    bool by_pos;
};

/* What an attention call returns beside its output. All arrays are ADDED TO or, for `last`, `rows`, `half`, `row`,
 * entropy, keys, sink, local and top, written (a maximum is the larger of the two); zero them before the first call of a pass. The prefill set (mass .. half)
 * is for calls whose rows all belong to one branch whose slots are in order of position, slot j holding
 * position j (a prefill, whole or in consecutive runs of rows). mass, wmass, last, and sqmass at distance 0 may also be asked of
 * cells with gaps between positions (a prefill in chunks): then j is the slot, and kv heads may differ in their number; `row` is for decode; one call asks for one of
 * the two. All from P, the softmax rows of this call; A[h][t][j] below. Written columns: `last` [0, n) with 0
 * where not seen, `rows` [0, ld), `row` [0, n) of each kv head's own n. A row that sees no slot has out = 0. */
struct kvt_see {
    int ld;                  /* leading dimension of mass, wmass, last: n of the whole prefill */
    int n_rows;              /* rows of the whole prefill (== its last position + 1) */
    float *mass;             /* (H, ld)          sum over rows of A */
    int n_windows;
    int window[KVT_MAX_WINDOWS];      /* W: rows with position >= n_rows - W */
    float *wmass[KVT_MAX_WINDOWS];    /* (H, ld) sum over those rows */
    int n_squares;
    struct kvt_square square[KVT_MAX_WINDOWS];
    float *sqmass[KVT_MAX_WINDOWS];   /* (H, ld) sum of A^2, or of A times the position, over those rows */
    float *max;              /* (H, ld)          maximum of A over rows with position >= max_from */
    int max_from;
    float *later;            /* (H, ld)          sum of A over rows from the end of column j's unit on; 0 where j is in none */
    const int32_t *unit;     /* host, (n_units, 2) [start, end) in columns, ascending, none overlaps another */
    int n_units;
    float *last;             /* (H, ld)          A of row n_rows - 1 */
    float *entropy;          /* (H, n_rows)      -sum A ln A of each row, nats, at [h][pos[t]] */
    float *keys;             /* (H, n_rows)      effective number of keys of each row, e to its entropy */
    float *sink;             /* (H, n_rows)      mass of row on positions < n_sink */
    int n_sink;
    float *local;            /* (H, n_rows)      mass of row on distances (position of the row less that of the key) < n_local */
    int n_local;
    /* by distance, over rows with position >= far_from: bins of kvt_distance_start, and single distances of rows that reach so far */
    float *distance;         /* (H, n_distance)  sum over rows of the mass in each bin; n_distance = kvt_distance_bins(n_rows) */
    float *offset;           /* (H, n_offsets)   sum over rows of A at distance offset_at[i] */
    const int32_t *offset_at; /* host, (n_offsets) */
    int n_offsets, far_from;
    /* who looks at whom: segment s holds positions [segment[s], segment[s + 1]); segment[0] = 0, the last ends at or after n_rows */
    float *spans;            /* (H, n_segments, n_segments) sum of A over rows of one segment and columns of another */
    const int32_t *segment;  /* host, (n_segments + 1), ascending strictly */
    int n_segments;
    /* the top_k largest A of each row, descending, equal ones by column; where a row sees fewer, 0 and -1 */
    int top_k;
    float *top;              /* (H, n_rows, top_k) */
    int32_t *top_at;         /* (H, n_rows, top_k) columns */
    /* pooled map: row bin = pos * R / n_rows, column bin = j * C / n_rows. pool_mean gets the sum of A over
     * the bin (the engine divides by the number of causal pairs in it); pool_max the maximum. */
    int R, C;
    float *pool_mean;        /* (H, R, C) sums */
    float *pool_max;         /* (H, R, C) */
    /* Finished maps, by the call that holds row n_rows - 1: f16 of a bin's mean and maximum times KVT_HALF_SCALE, NaN where no causal
     * pair lies in it. pool_mean and pool_max are zero again afterwards. */
    const float *weight;     /* (R, C) 1 / causal pairs of a bin, NaN where it has none; NULL: no finished maps */
    uint16_t *map_mean, *map_max; /* (H, R, C) */
    /* full rows of chosen heads: rows[i][t][j], i-th set bit of row_heads */
    uint64_t row_heads;      /* bit h: head h wanted (H <= 64 asserted where asked) */
    float *rows;             /* (popcount, T, ld); columns that the row can't see are 0; or NULL */
    uint16_t *half;          /* the same as f16 of A times KVT_HALF_SCALE, rounded to nearest even; or NULL */
    /* decode: the whole row of probabilities, in slot order, of rows that want it */
    const int32_t *row_at;   /* host, (T): block index in `row`, -1 = not wanted; NULL = none */
    float *row;              /* (blocks, H, row_ld) */
    int row_ld;
};

/* Row t attends to every live slot of the cells of branch[t] in this layer whose position <= pos[t] and, in a layer
 * with a window, > pos[t] - window. A score is scale * q k, then capped: cap * tanh(score / cap). */
struct kvt_attn_args {
    struct kvt_cache *cache;
    int layer, T, H;
    const float *q;          /* (T, H, D) rotated at pos[t] */
    float *out;              /* (T, H, D) */
    const int32_t *branch;   /* host, (T) */
    const int32_t *pos;      /* host, (T) */
    /* Renumbered positions: for row t with renumber[t] the keys of a cell count 0, 1, 2 ... in order of their
     * position among the slots it sees, and the query counts as the last of them; keys are rotated by the
     * difference while they are read. `q` comes rotated at pos[t] all the same. host, (T), or NULL: nobody. */
    const uint8_t *renumber;
    struct kvt_rope rope;    /* used where renumber is */
    float scale;
    float cap;               /* 0 = none */
    int window;              /* 0 = none */
    bool exact;              /* as in linear; always true for calls with more than one branch */
    const struct kvt_see *see; /* or NULL */
};

/* What branches lost of one row of attention (measures.md 3): the row is that of branch `from`, slot j of whose cells holds
 * position j; the others' cells hold some of those positions, in any order. All outputs are host memory, NULL = not asked.
 * Between step_begin and step_end they may come later: when settle has returned.
 * The restricted output of a head is the sum of p v over the positions held, divided by the sum of p over them, with p and v
 * those of `from`; 0 where nothing is held. Errors are relative L2 norms over the H D values of a layer: |x - out| / |out|;
 * exactly 0 where nothing is missing and where the outputs are equal; NaN where out is 0 and x isn't. */
struct kvt_lost_args {
    struct kvt_cache *cache;
    int layer, H;
    int from;
    const float *row;        /* (H, ld) probabilities in slot order */
    int ld;
    const float *out;        /* (H, D) what the row's attention gave */
    int B;
    const int32_t *branch;   /* host, (B) */
    const float *const *own; /* host, (B): what each branch's own attention gave, (H, D); or NULL */
    int n_sink;
    float *lost;             /* (B, H) sum of p over the positions that the branch doesn't hold */
    float *lost_rest;        /* (B, H) the same over positions >= n_sink, of a row renormalised to them; 0 where it has none */
    float *local;            /* (B) error of the restricted output */
    float *propagated;       /* (B) error of own[b] */
};

#include "kernels/step.h"

/* ---- the table -------------------------------------------------------------------------------- */

struct kvt_dev; /* one opened backend: threads or a stream, scratch, error text. One thread at a time. */

struct kvt_where;            /* kernels/profile.h */

struct kvt_step_args {
    struct kvt_cache *cache;
    int T;                   /* rows, each of which may be appended to its cells, and one slot of which evicted */
};

struct kvt_dev_opts {
    int threads;             /* 0 = one for each core */
    bool no_graphs;          /* each launch of a step by itself: the same bits, more slowly */
    const struct kvt_where *where; /* where the run is, kept true by who opens; for a profile; or NULL */
};

struct kvt_ops {
    const char *name;        /* "ref", "cpu", "cuda" */
    int run;                 /* rows of one call that it does well with: a longer prefill comes in pieces */

    int (*open)(struct kvt_dev **out, const struct kvt_dev_opts *opts, struct kvt_err *err);
    void (*close)(struct kvt_dev **dev);                 /* accepts NULL and *dev == NULL; writes NULL back */
    const char *(*describe)(struct kvt_dev *dev);        /* "cpu, 2 threads, avx512+bf16"; owned by dev */
    bool (*can_compute)(struct kvt_dev *dev, enum kvt_compute compute); /* at full speed here */
    uint64_t (*beyond_f16)(struct kvt_dev *dev);         /* sums so far that f16 was too small for; NULL: such a backend has none */

    /* memory */
    void *(*alloc)(struct kvt_dev *dev, size_t bytes);   /* zeroed, 64-byte aligned; NULL: no memory */
    void (*free)(struct kvt_dev *dev, void *p);
    int (*write)(struct kvt_dev *dev, void *dst, const void *host_src, size_t bytes);
    int (*read)(struct kvt_dev *dev, void *host_dst, const void *src, size_t bytes); /* waits for what came before */
    int (*zero)(struct kvt_dev *dev, void *dst, size_t bytes);
    int (*copy)(struct kvt_dev *dev, void *dst, const void *src, size_t bytes);
    /* Makes a weight matrix usable in place: *mat has host data (a mapped file) and leaves with backend data.
     * A CPU returns it unchanged. Released with the device. */
    int (*weights)(struct kvt_dev *dev, struct kvt_mat *mat);
    /* A step of decoding, from its first operation to its last: the same operations as in the step before, mostly, which a GPU then gets as
     * one graph. Any operation may be called within, and gives what it gives outside. Both NULL where it makes no difference. */
    int (*step_begin)(struct kvt_dev *dev, const struct kvt_step_args *a);
    int (*step_end)(struct kvt_dev *dev);
    /* Results that leave while the device works (engine/later.h): read_later is as `read`, but what it reads is there only when `settle`
     * returns; until then its source isn't written again. It writes to memory of alloc_host alone. NULL, all four, where `read` is as good. */
    void *(*alloc_host)(struct kvt_dev *dev, size_t bytes);
    void (*free_host)(struct kvt_dev *dev, void *p);
    int (*read_later)(struct kvt_dev *dev, void *host_dst, const void *src, size_t bytes);
    int (*settle)(struct kvt_dev *dev);

    /* elem */
    int (*embed)(struct kvt_dev *dev, const struct kvt_embed_args *a);
    int (*norm)(struct kvt_dev *dev, const struct kvt_norm_args *a);
    int (*rotate)(struct kvt_dev *dev, const struct kvt_rotate_args *a);
    int (*glu)(struct kvt_dev *dev, const struct kvt_glu_args *a);
    int (*add)(struct kvt_dev *dev, const struct kvt_add_args *a);
    int (*scale)(struct kvt_dev *dev, const struct kvt_scale_args *a);
    int (*logit_stats)(struct kvt_dev *dev, const struct kvt_logit_stats_args *a);

    /* linear */
    int (*linear)(struct kvt_dev *dev, const struct kvt_linear_args *a);
    int (*linears)(struct kvt_dev *dev, const struct kvt_linears_args *a); /* or NULL: one by one */

    /* cache */
    int (*cache_open)(struct kvt_dev *dev, struct kvt_cache **out, const struct kvt_cache_opts *o, struct kvt_err *err);
    void (*cache_close)(struct kvt_dev *dev, struct kvt_cache **cache);
    int (*cache_append)(struct kvt_dev *dev, const struct kvt_append_args *a);
    int (*cache_keep)(struct kvt_dev *dev, const struct kvt_keep_args *a);
    int (*cache_remove)(struct kvt_dev *dev, const struct kvt_remove_args *a);
    int (*cache_fork)(struct kvt_dev *dev, struct kvt_cache *cache, int src, int dst); /* dst must be empty; shares every page */
    int (*cache_drop)(struct kvt_dev *dev, struct kvt_cache *cache, int branch);       /* lets go of everything */
    int (*cache_positions)(struct kvt_dev *dev, const struct kvt_positions_args *a);
    int (*cache_lengths)(struct kvt_dev *dev, struct kvt_cache *cache, int branch, int32_t *host_count); /* host, (L, G) */
    int (*cache_bytes)(struct kvt_dev *dev, struct kvt_cache *cache, int branch, struct kvt_cache_bytes *out);
    /* K and V of a cell, in slot order, decoded to f32: for checks and tools, not for a step. host (n, D). */
    int (*cache_peek)(struct kvt_dev *dev, struct kvt_cache *cache, int branch, int layer, int g, float *k, float *v);
    int (*group)(struct kvt_dev *dev, const struct kvt_group_args *a);
    int (*pool)(struct kvt_dev *dev, const struct kvt_pool_args *a);
    int (*combine)(struct kvt_dev *dev, const struct kvt_combine_args *a);
    int (*segment_mean)(struct kvt_dev *dev, const struct kvt_segment_mean_args *a);
    int (*topk)(struct kvt_dev *dev, const struct kvt_topk_args *a);
    int (*pick_units)(struct kvt_dev *dev, const struct kvt_pick_units_args *a);
    int (*divide)(struct kvt_dev *dev, const struct kvt_divide_args *a);
    int (*weigh)(struct kvt_dev *dev, const struct kvt_weigh_args *a);

    /* score */
    int (*norms)(struct kvt_dev *dev, const struct kvt_norms_args *a);
    int (*keydiff)(struct kvt_dev *dev, const struct kvt_keydiff_args *a);
    int (*lag)(struct kvt_dev *dev, const struct kvt_lag_args *a);
    int (*out_norms)(struct kvt_dev *dev, const struct kvt_out_norms_args *a);
    int (*query_stats)(struct kvt_dev *dev, const struct kvt_query_stats_args *a);
    int (*expected)(struct kvt_dev *dev, const struct kvt_expected_args *a);

    /* step */
    int (*accumulate)(struct kvt_dev *dev, const struct kvt_accumulate_args *a);
    int (*contest)(struct kvt_dev *dev, const struct kvt_contest_args *a);
    int (*evict_one)(struct kvt_dev *dev, const struct kvt_evict_one_args *a);
    int (*topk_within)(struct kvt_dev *dev, const struct kvt_topk_within_args *a);
    int (*reduce_row)(struct kvt_dev *dev, const struct kvt_reduce_row_args *a); /* host memory; NULL: take ref's */

    /* attn */
    int (*attn)(struct kvt_dev *dev, const struct kvt_attn_args *a);
    /* In what order a call of T rows adds them up into mass and wmass, so that the very same f32 sums can be made from rows: level[t]
     * is 0 where row t joins the partial sum of the row before, 1 where it begins one, 2 where it begins a strip's first. A strip's
     * partial sums are added up from 0, then strips one by one to the caller's array. host (T). NULL: not told. */
    void (*row_sums)(int T, uint8_t *level);
    int (*lost)(struct kvt_dev *dev, const struct kvt_lost_args *a);
};

/* "ref" and "cpu" are part of the program, "cuda" (and "simt", the same sources on a CPU, for tests) a library that is looked for:
 * KVT_EDEVICE and err where it can't be had. "auto" is cuda where a GPU opens, else cpu. kvt_ops_find: the same without the words, NULL then. */
int kvt_ops_load(const struct kvt_ops **out, const char *name, struct kvt_err *err);
const struct kvt_ops *kvt_ops_find(const char *name);

/* The fastest arithmetic here of those that stay within 5e-4 nats of f32 (tests/parity). */
enum kvt_compute kvt_fastest_compute(const struct kvt_ops *ops, struct kvt_dev *dev);
extern const struct kvt_ops kvt_ops_ref, kvt_ops_cpu;

/* Text of the last failure on this device; "" if none. Owned by dev. */
const char *kvt_dev_error(const struct kvt_dev *dev);

/* Each dtype's definition: dst[count] = values of count / block_values blocks. Plain C, used by ref and by tools. */
void kvt_dequantize(enum kvt_dtype type, const void *src, float *dst, size_t count);

#endif

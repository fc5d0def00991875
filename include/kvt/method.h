/* A compression method: a row of choices along the dimensions that the literature varies.
 *
 * A method never touches the cache. It says what a slot is worth (by composing the backend's operations over
 * backend memory) and which choices hold; engine/evict.c alone protects, selects, breaks ties (the earlier
 * position wins) and compacts. One definition therefore serves CPU and GPU. */
#ifndef KVT_METHOD_H
#define KVT_METHOD_H

#include "kernels/ops.h"
#include "kvt/kvt.h"

enum kvt_score {
    KVT_SCORE_NONE,      /* keeps everything (full) */
    KVT_SCORE_RANDOM,    /* seeded, by (seed, layer, kv head, position) */
    KVT_SCORE_RECENCY,   /* the position itself */
    KVT_SCORE_MASS,      /* sum of attention received over all rows */
    KVT_SCORE_WMASS,     /* ... over the last `window` rows */
    KVT_SCORE_LAST,      /* ... in the last row */
    KVT_SCORE_SQMASS,    /* squared attention over all rows at least `distance` after the slot (KV-Compress) */
    KVT_SCORE_SQWMASS,   /* ... over the last `window` rows */
    KVT_SCORE_FINCH,     /* attention of the last `window` rows, each as often as it has tokens before it */
    KVT_SCORE_MAX,       /* the largest attention any row gave */
    KVT_SCORE_LATER,     /* mass from the rows after the end of the slot's unit */
    KVT_SCORE_KNORM,     /* minus the norm of the key */
    KVT_SCORE_KEYDIFF,   /* minus the cosine of the key with the mean of the head's unit keys */
    KVT_SCORE_LAGKV,     /* spread of K and V under the range of the next partition of `lag` tokens */
    KVT_SCORE_EXPECTED,  /* attention expected of the next `ahead` queries, from their mean and covariance */
    KVT_SCORE_KVZIP,     /* largest attention while the context is repeated */
    KVT_SCORE_FILE,      /* read from `path`, (L, G, T) */
    KVT_SCORE_ORACLE,    /* mass from the rows that the full branch really generates */
    KVT_SCORE_HOST,      /* the method's own host_score */
};
/* What competes: slots, `chunk_tok` slots, the 16-slot block of one head's cache, shots, sentences. */
enum kvt_unit { KVT_UNIT_TOKEN, KVT_UNIT_CHUNK, KVT_UNIT_PAGE, KVT_UNIT_SHOT, KVT_UNIT_SENTENCE };
/* Who shares one total: nobody (all cells alike); layers on a line (PyramidKV); the heads of a layer by their scores
 * (Ada-KV); both; all layers and heads by their scores (KV-Compress); two classes of heads (DuoAttention). */
enum kvt_alloc { KVT_ALLOC_UNIFORM, KVT_ALLOC_PYRAMID, KVT_ALLOC_HEAD, KVT_ALLOC_PYRAMID_HEAD, KVT_ALLOC_GLOBAL,
                 KVT_ALLOC_CLASS };
/* FFY0/AdaKV's with an exact total; the same with their rounding; kvpress's AdaKVPress */
enum kvt_head_rule { KVT_HEAD_BLEND, KVT_HEAD_OFFICIAL, KVT_HEAD_SAFEGUARD };
enum kvt_heads { KVT_HEADS_EACH, KVT_HEADS_SHARED };      /* each kv head its own set, or one set a layer (scores summed) */
enum kvt_scope { KVT_SCOPE_PER_LAYER, KVT_SCOPE_ALL_LAYERS };
enum kvt_schedule { KVT_SCHEDULE_PREFILL, KVT_SCHEDULE_STEP, KVT_SCHEDULE_EVERY }; /* every: each `every` tokens */
enum kvt_after { KVT_AFTER_DROP, KVT_AFTER_MERGE, KVT_AFTER_QUANTISE, KVT_AFTER_CHANNELS };
enum kvt_leaver { KVT_LEAVES_WORST, KVT_LEAVES_CONTEST };  /* in a step: the lowest score, or TreeKV's pairwise contest */
enum kvt_count { KVT_COUNT_PAPER, KVT_COUNT_KVPRESS };     /* ChunkKV: floor(budget / c), or max(1, int(chunks x keep)) */
enum kvt_rule { KVT_RULE_EXACT, KVT_RULE_OFFICIAL, KVT_RULE_KVPRESS }; /* PyramidKV: whose rounding and fallback */

enum { KVT_WINDOW_QUESTION = -1 }; /* as many rows as the question has tokens */

/* The choices. Every field has a named option (methods/options.c) and is recorded in canonical form. */
struct kvt_policy {
    /* score */
    enum kvt_score score;
    int window;                /* KVT_WINDOW_QUESTION until the prompt is known; W: rows observed; those of them in the context are protected where keep_window */
    bool visible_mean;         /* divide a column by the rows that could see it */
    enum kvt_pool pool;
    int pool_width;
    enum kvt_group group;      /* reduction over a query group */
    bool group_first;          /* group before pooling (Ada-KV) or after (kvpress) */
    int distance;              /* squared scores: rows fewer than this many after the slot don't count */
    int lag;                   /* LagKV: tokens of a partition */
    int ahead;                 /* expected attention: future positions averaged over; oracle: generated tokens whose
                                * rows count, 0 for all */
    bool sinkless;             /* oracle: rows without their sinks, renormalised */
    bool vnorm;                /* expected attention: times the norm of the value */
    int repeat;                /* KVzip: tokens repeated at a time */
    int critical_ppm;          /* CriticalKV: share of the budget chosen by the score alone; the rest is chosen by
                                * (score + 1e-4) ||W_O v||_1. 0: off */
    char path[256];            /* KVT_SCORE_FILE: its file; KVT_ALLOC_CLASS: the heads' gates */
    /* unit */
    enum kvt_heads heads;
    enum kvt_unit unit;
    enum kvt_reduce unit_reduce; /* tokens of a unit to its score */
    int chunk_tok;
    enum kvt_count chunk_count;
    enum kvt_overflow overflow;
    bool force;                /* at least one unit, even over budget */
    enum kvt_scope scope;
    int within;                /* the share holds in each stretch of so many tokens (FINCH, LagKV); 0: in the whole */
    /* allocation */
    enum kvt_alloc alloc;
    int beta;                  /* PyramidKV */
    enum kvt_rule rule;        /* PyramidKV */
    enum kvt_head_rule head_rule; /* Ada-KV */
    int alpha_ppm;             /* Ada-KV: share of a head's budget that is its own in any case */
    int class_ppm;             /* DuoAttention: share of the heads that keep everything */
    int skip;                  /* first layers that keep everything */
    int reuse;                 /* layers that share the choice of the first of them (ChunkKV algorithm 2); 1: none */
    /* schedule */
    enum kvt_schedule schedule;
    int every;                 /* KVT_SCHEDULE_EVERY: tokens between two evictions */
    int prefill_chunk;         /* evict after each so many tokens of the prefill; 0: at its end */
    enum kvt_leaver leaver;
    double prefill_share;      /* r_p, own share of the context; 0 or less: the budget's */
    bool decode_share_set;     /* own share for generated tokens (ShotKV) */
    double decode_share;       /* r_d; < 0: the prefill share */
    int decode_floor;          /* generated tokens that stay at least */
    int decode_recent;         /* newest generated tokens that stay */
    /* protect */
    int sinks;                 /* first positions protected */
    int recent;                /* newest positions protected, tokens; -1: half of the budget (H2O) */
    bool keep_window;          /* the observed rows' own slots */
    int spans;                 /* bits 1 << kind of span (kvt/prompt.h): text of these kinds */
    /* positions, after */
    bool renumber;             /* positions counted inside the cache (StreamingLLM) */
    enum kvt_after after;
    uint64_t seed;
};

/* What an allocation over layers is asked. */
struct kvt_layer_ask {
    int L;
    int n;                     /* slots of the context */
    int total_tok;             /* mean tokens of a layer, protected ones included */
    double total_real;         /* the same before the floor: share x n */
    int protect_tok;           /* protected slots of a layer: never given away */
};

/* What a method written as a C loop is shown of one layer at prefill's end: host copies, borrowed for the call. */
struct kvt_host_layer {
    int layer, H, G, D;
    int n;                     /* slots of the context; slot j holds position j */
    int n_rows;                /* rows that looked at them: the whole prefill */
    int ld;                    /* leading dimension of the three arrays below, >= n */
    const float *mass;         /* (H, ld) attention received over all rows; each array is NULL unless host_needs asks */
    const float *wmass;        /* (H, ld) ... in the last policy->window rows */
    const float *last;         /* (H, ld) ... in the last row */
    const float *k, *v;        /* (G, n, D) as cached, keys rotated */
    const struct kvt_policy *policy;
};
enum { KVT_HOST_MASS = 1, KVT_HOST_WMASS = 2, KVT_HOST_LAST = 4, KVT_HOST_KV = 8 };

struct kvt_method {
    const char *name;          /* "snapkv" */
    int version;               /* of our definition; part of the canonical form: snapkv@1[...] */
    const char *source;        /* paper, equation or repository */
    const char *summary;       /* one line */
    struct kvt_policy defaults;
    /* space-separated names of the options that mean something here; "*": all, for compositions by hand */
    const char *options;
    /* layer_tok (L): tokens of each layer, protected ones included, each in [protect_tok, n]; they sum to exactly
     * total_tok x L where the rule is exact. NULL: uniform. Returns 1 where it fell back to uniform (note, of
     * note_len, says why), else 0. */
    int (*layer_budget)(const struct kvt_policy *p, const struct kvt_layer_ask *ask, int32_t *layer_tok, char *note, size_t note_len);
    /* score = KVT_SCORE_HOST: what each slot is worth to each kv head, out (G, n); the larger stays. 0, or KVT_E* to stop
     * the run. Acts at prefill's end. It gets copies, so on a GPU each layer waits for it; the wait is recorded. */
    int (*host_score)(const struct kvt_host_layer *at, float *out);
    unsigned host_needs;       /* KVT_HOST_* */
};

enum { KVT_CANONICAL = 1024 };

/* Another tool's method with that tool's own settings (methods/presets.c). */
struct kvt_preset {
    const char *name;          /* "kvpress/SnapKVPress"; a name, not a path; up to 30 bytes */
    const char *spec;          /* ours, as typed: "snapkv[w=64,pool=avg5]" */
    const char *budget;        /* their budget's word, and what it is here */
    const char *option, *value; /* its own budget where none is given: "--tokens", "512"; NULL: it has none */
    const char *asks;          /* what the tool leaves to its user, as options of ours: "path class"; NULL: nothing */
    const char *differs;       /* what is known to differ */
};

/* A method with its parameters as the user gave them. */
struct kvt_spec {
    const struct kvt_method *method;
    struct kvt_policy policy;
    char canonical[KVT_CANONICAL]; /* "snapkv@1[w=32,pool=max7,group=mean]" */
    const struct kvt_preset *preset; /* that it was made from, or NULL */
};

/* A budget as asked: a share of the context, tokens or bytes of each kv head, of each layer or in all, what another
 * branch really kept in each layer, or for each kv head its own. */
enum kvt_budget_kind { KVT_BUDGET_KEEP, KVT_BUDGET_TOKENS, KVT_BUDGET_BYTES, KVT_BUDGET_MATCH, KVT_BUDGET_CELLS };
enum kvt_budget_of { KVT_OF_HEAD, KVT_OF_LAYER, KVT_OF_ALL };
struct kvt_budget {
    enum kvt_budget_kind kind;
    int64_t keep_ppm;          /* KEEP: share kept in millionths: exact for what people type (12.5% = 125000) */
    int tokens;                /* TOKENS: of each kv head */
    enum kvt_budget_of of;     /* whose `amount` it is */
    int64_t amount;            /* TOKENS of a layer or in all, BYTES: as asked */
    int spare;                 /* slots of each layer, or in all, that kvt_budget_resolve couldn't give to all heads alike */
    int match;                 /* MATCH: the branch, 1 for the first beside full */
    const struct kvt_budget *cell; /* CELLS: (L, G) of the model, each KEEP or TOKENS; borrowed */
    int L, G;                  /* CELLS */
};

/* KVT_ALLOC_CLASS: mean tokens of a head, rounded up, of n. */
static inline int kvt_class_tokens(const struct kvt_policy *p, int n)
{
    int64_t held = (int64_t)p->sinks + p->recent < n ? p->sinks + p->recent : n;
    return (int)(((int64_t)p->class_ppm * n + (int64_t)(1000000 - p->class_ppm) * held + 999999) / 1000000);
}

/* The registry: methods in the order of the documentation. */
const struct kvt_method *const *kvt_methods(int *count);
const struct kvt_method *kvt_method_find(const char *name);

/* Methods beside the registry's, from plugins. NULL where a function takes one: none. */
struct kvt_method_list {
    const struct kvt_method **method;
    int n;
};

/* Parses one "name" or "name[opt=value,...]"; EUSAGE with the nearest name when unknown. */
int kvt_spec_parse(struct kvt_spec *out, const char *text, size_t bytes, struct kvt_err *err);
int kvt_spec_parse_among(struct kvt_spec *out, const char *text, size_t bytes, const struct kvt_method_list *more, struct kvt_err *err);
/* Writes the canonical form again, after a change of the policy. */
void kvt_spec_canonical(struct kvt_spec *spec);
/* Splits a list at commas outside brackets and parses each; *out is malloc'ed, the caller frees it. */
int kvt_spec_parse_list(struct kvt_spec **out, int *count, const char *text, const struct kvt_method_list *more, struct kvt_err *err);

/* Presets: all; by name or NULL; and a list of names appended to the specs that are there (EUSAGE with the nearest name). What a
 * preset `asks` follows its name: "kvpress/DuoAttentionPress[path=gates.tsv,class=0.5]". */
const struct kvt_preset *kvt_presets(int *count);
const struct kvt_preset *kvt_preset_find(const char *name);
int kvt_preset_parse_list(struct kvt_spec **spec, int *count, const char *text, struct kvt_err *err);

/* "25%", "0.25", "12.5%" (share kept; remove: share removed) -> ppm. EUSAGE outside (0, 100 %]. */
int kvt_budget_parse(struct kvt_budget *out, const char *text, bool remove, struct kvt_err *err);
/* "256", "768/layer", "46080/all" (tokens of each kv head, of a layer, in all); with bytes "4MB", "100kB/layer", "2MiB/all",
 * K and V together, in all where nothing is said. EUSAGE. */
int kvt_budget_parse_amount(struct kvt_budget *out, const char *text, bool bytes, struct kvt_err *err);

/* Tokens and bytes of layers or in all become tokens of each kv head and a few spare slots: EUSAGE below one each.
 * slot_bytes: K and V of a slot. Inline, as the next one: the engine doesn't link the methods. */
static inline int kvt_budget_resolve(struct kvt_budget *b, int L, int G, int64_t slot_bytes, struct kvt_err *err)
{
    if ((b->kind != KVT_BUDGET_TOKENS && b->kind != KVT_BUDGET_BYTES) || (b->kind == KVT_BUDGET_TOKENS && b->of == KVT_OF_HEAD))
        return 0;
    int64_t cells = b->of == KVT_OF_HEAD ? 1 : b->of == KVT_OF_LAYER ? G : (int64_t)L * G;
    int64_t unit = b->kind == KVT_BUDGET_BYTES ? slot_bytes : 1, slots = b->amount / unit;
    if (slots < cells)
        return kvt_fail(err, KVT_EUSAGE, "a budget of %lld %s is below one token of each kv head; ask for %lld or more", (long long)b->amount,
                        b->kind == KVT_BUDGET_BYTES ? "bytes" : "tokens", (long long)(cells * unit));
    b->kind = KVT_BUDGET_TOKENS;
    b->tokens = slots / cells > 1 << 30 ? 1 << 30 : (int)(slots / cells);
    b->spare = (int)(slots % cells);
    return 0;
}

/* Tokens of n under a budget: floor of the share in integer arithmetic, at least 1, at most n. Of one that follows
 * another branch, or differs from head to head, nothing is known but that. */
static inline int kvt_budget_tokens(const struct kvt_budget *b, int n)
{
    int64_t tok = b->kind == KVT_BUDGET_TOKENS ? b->tokens : b->kind == KVT_BUDGET_KEEP ? (int64_t)n * b->keep_ppm / 1000000 : n;
    return tok < 1 ? 1 : tok > n ? n : (int)tok;
}

/* The same of a mean kv head, rounded up where heads differ. */
static inline int kvt_budget_mean_tokens(const struct kvt_budget *b, int n)
{
    int64_t sum = 0, cells = b->kind == KVT_BUDGET_CELLS ? (int64_t)b->L * b->G : 0;
    for (int64_t i = 0; i < cells; i++)
        sum += kvt_budget_tokens(&b->cell[i], n);
    return cells ? (int)((sum + cells - 1) / cells) : kvt_budget_tokens(b, n);
}

#endif

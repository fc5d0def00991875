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
};
enum kvt_unit { KVT_UNIT_TOKEN, KVT_UNIT_CHUNK, KVT_UNIT_SHOT };
enum kvt_alloc { KVT_ALLOC_UNIFORM, KVT_ALLOC_PYRAMID };
enum kvt_heads { KVT_HEADS_EACH, KVT_HEADS_SHARED };      /* each kv head its own set, or one set a layer (scores summed) */
enum kvt_scope { KVT_SCOPE_PER_LAYER, KVT_SCOPE_ALL_LAYERS };
enum kvt_schedule { KVT_SCHEDULE_PREFILL, KVT_SCHEDULE_STEP };
enum kvt_count { KVT_COUNT_PAPER, KVT_COUNT_KVPRESS };     /* ChunkKV: floor(budget / c), or max(1, int(chunks x keep)) */
enum kvt_rule { KVT_RULE_EXACT, KVT_RULE_OFFICIAL, KVT_RULE_KVPRESS }; /* PyramidKV: whose rounding and fallback */

/* The choices. Every field has a named option (methods/options.c) and is recorded in canonical form. */
struct kvt_policy {
    enum kvt_score score;
    int window;                /* W: rows observed; those of them in the context are protected where keep_window */
    bool keep_window;
    bool visible_mean;         /* divide a column by the rows that could see it */
    enum kvt_pool pool;
    int pool_width;
    enum kvt_group group;      /* reduction over a query group */
    bool group_first;          /* group before pooling (Ada-KV) or after (kvpress) */
    enum kvt_heads heads;
    enum kvt_unit unit;
    int chunk_tok;
    enum kvt_count chunk_count;
    enum kvt_overflow overflow;
    bool force;                /* at least one unit, even over budget */
    enum kvt_scope scope;
    enum kvt_alloc alloc;
    int beta;                  /* PyramidKV */
    enum kvt_rule rule;        /* PyramidKV */
    enum kvt_schedule schedule;
    int sinks;                 /* first positions protected */
    int recent;                /* newest positions protected, tokens; -1: half of the budget (H2O) */
    bool decode_share_set;     /* own share for generated tokens (ShotKV) */
    double decode_share;       /* r_d; < 0: the prefill share */
    int decode_recent;         /* newest generated tokens that stay */
    bool renumber;             /* positions counted inside the cache (StreamingLLM) */
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

struct kvt_method {
    const char *name;          /* "snapkv" */
    int version;               /* of our definition; part of the canonical form: snapkv@1[...] */
    const char *source;        /* paper, equation or repository */
    const char *summary;       /* one line */
    struct kvt_policy defaults;
    const char *options;       /* space-separated names of the options that mean something here */
    /* layer_tok (L): tokens of each layer, protected ones included, each in [protect_tok, n]; they sum to exactly
     * total_tok x L where the rule is exact. NULL: uniform. Returns 1 where it fell back to uniform (note, of
     * note_len, says why), else 0. */
    int (*layer_budget)(const struct kvt_policy *p, const struct kvt_layer_ask *ask, int32_t *layer_tok, char *note, size_t note_len);
};

/* A method with its parameters as the user gave them. */
struct kvt_spec {
    const struct kvt_method *method;
    struct kvt_policy policy;
    char canonical[192];       /* "snapkv@1[w=32,pool=max7,group=mean]" */
};

/* A budget as asked. */
enum kvt_budget_kind { KVT_BUDGET_KEEP, KVT_BUDGET_TOKENS };
struct kvt_budget {
    enum kvt_budget_kind kind;
    int64_t keep_ppm;          /* share kept in millionths: exact for what people type (12.5% = 125000) */
    int tokens;
};

/* The registry: methods in the order of the documentation. */
const struct kvt_method *const *kvt_methods(int *count);
const struct kvt_method *kvt_method_find(const char *name);

/* Parses one "name" or "name[opt=value,...]"; EUSAGE with the nearest name when unknown. */
int kvt_spec_parse(struct kvt_spec *out, const char *text, size_t bytes, struct kvt_err *err);
/* Writes the canonical form again, after a change of the policy. */
void kvt_spec_canonical(struct kvt_spec *spec);
/* Splits a list at commas outside brackets and parses each; *out is malloc'ed, the caller frees it. */
int kvt_spec_parse_list(struct kvt_spec **out, int *count, const char *text, struct kvt_err *err);

/* "25%", "0.25", "12.5%" (share kept; remove: share removed) -> ppm. EUSAGE outside (0, 100 %]. */
int kvt_budget_parse(struct kvt_budget *out, const char *text, bool remove, struct kvt_err *err);
/* Tokens of n under a budget: floor of the share in integer arithmetic, at least 1, at most n. Inline: the engine
 * doesn't link the methods. */
static inline int kvt_budget_tokens(const struct kvt_budget *b, int n)
{
    int64_t tok = b->kind == KVT_BUDGET_TOKENS ? b->tokens : (int64_t)n * b->keep_ppm / 1000000;
    return tok < 1 ? 1 : tok > n ? n : (int)tok;
}

#endif

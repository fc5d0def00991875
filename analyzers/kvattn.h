/* kvattn's tables, a file for each kind of question. */
#ifndef KVT_ANALYZERS_KVATTN_H
#define KVT_ANALYZERS_KVATTN_H

#include "analyzers/analyzer.h"
#include "analyzers/patterns.h"
#include "base/table.h"

/* Name, and whether it needs the numbers of heads: of the prefill, of generated tokens. */
#define KVATTN_SHOW_MAP(X)                                                                                                    \
    X(LAYERS, "layers", 1, 0) X(HEADS, "heads", 1, 0) X(LABELS, "labels", 1, 0) X(GATES, "gates", 1, 0) X(SINKS, "sinks", 0, 0) \
    X(DISTANCES, "distances", 0, 0) X(SPANS, "spans", 0, 0) X(SHOTS, "shots", 0, 0) X(DECODE, "decode", 1, 1) X(CHANGE, "change", 1, 1)
enum kvattn_show {
#define X(id, name, prefill, decode) KVATTN_##id,
    KVATTN_SHOW_MAP(X)
#undef X
    KVATTN_N_SHOW
};

struct kvattn_options {
    const char *layers, *prompt, *probes;
    const char *model, *out;     /* --probe */
    int show, format, backend, compute, threads, needles;
    double label[KVT_N_LABELS], sink;
    bool compare, force, probe;
};

struct kvattn {
    struct kvattn_options o;
    struct kvt_trace *trace;
    const struct kvt_trace_info *info;
    const char *path;
    uint8_t *layer;              /* (L) 1 = asked for */
    struct kvt_head *head;       /* (L, H) of the layers asked for; the others unknown */
    struct kvt_head *decoded;    /* (L, H) of generated tokens' rows; NULL where the question needs none, or there are none */
};

/* name, what people read, the field, share or number */
#define KVATTN_MEASURE_MAP(X)                                                                            \
    X("evenness", "even", evenness, KVT_COL_REAL, 2) X("effective_keys", "keys", keys, KVT_COL_REAL, 1)  \
    X("sink_first", "token 0", first, KVT_COL_SHARE, 1) X("sinks", "sinks", sinks, KVT_COL_SHARE, 1)     \
    X("local", "local", local, KVT_COL_SHARE, 1) X("self", "self", self, KVT_COL_SHARE, 1)               \
    X("previous", "prev.", previous, KVT_COL_SHARE, 1) X("hold_90", "90% on", hold[1], KVT_COL_SHARE, 1) \
    X("hold_90_rest", "no sinks", hold_rest[1], KVT_COL_SHARE, 1)
#define KVATTN_MORE_MAP(X)                                                                               \
    X("hold_60", NULL, hold[0], KVT_COL_SHARE, 1) X("hold_99", NULL, hold[2], KVT_COL_SHARE, 1)          \
    X("hold_60_rest", NULL, hold_rest[0], KVT_COL_SHARE, 1) X("hold_99_rest", NULL, hold_rest[2], KVT_COL_SHARE, 1) \
    X("participation", NULL, part, KVT_COL_SHARE, 1) X("participation_rest", NULL, part_rest, KVT_COL_SHARE, 1)

int kvattn_end(const struct kvattn *r, int rc, struct kvt_table **t, struct kvt_err *err);
static inline bool kvattn_for_people(const struct kvattn *r) { return r->o.format == KVT_FORMAT_TABLE || r->o.format == KVT_FORMAT_BOOKTABS; }
/* Labels that hold, joined by commas. */
void kvattn_labels(const struct kvattn *r, const struct kvt_head *h, char *buf, size_t cap);
static inline const struct kvt_trace_span *kvattn_span(const struct kvattn *r, int i) { return &r->info->span[r->info->map_span[i]]; }

/* kvattn_heads.c */
int kvattn_layer_table(struct kvattn *r, struct kvt_err *err);
int kvattn_head_table(struct kvattn *r, struct kvt_err *err);
int kvattn_label_table(struct kvattn *r, struct kvt_err *err);
int kvattn_gates(const struct kvattn *r, struct kvt_err *err);
/* kvattn_where.c: tokens, distances, spans */
int kvattn_sink_table(struct kvattn *r, struct kvt_err *err);
int kvattn_distance_table(struct kvattn *r, struct kvt_err *err);
int kvattn_span_table(struct kvattn *r, struct kvt_err *err);
int kvattn_shot_table(struct kvattn *r, struct kvt_err *err);
/* kvattn_change.c: prefill against decode, one trace against another */
int kvattn_decode_table(struct kvattn *r, struct kvt_err *err);
int kvattn_change_table(struct kvattn *r, struct kvt_err *err);
int kvattn_compare_table(struct kvattn *a, struct kvattn *b, struct kvt_err *err);
/* kvattn_probe.c */
extern const char *const kvattn_backends[], *const kvattn_computes[];
int kvattn_probe(struct kvattn *r, struct kvt_err *err);

#endif

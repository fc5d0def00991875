/* A synthetic trace of any size: the parts of bin/bigtrace. */
#ifndef KVT_BENCH_BIGTRACE_H
#define KVT_BENCH_BIGTRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "tracer/trace_write.h"

enum { BIG_SINK = 4, BIG_LOCAL = 32, BIG_WINDOW = 32 };

struct big_shape { int tok, L, H, G, steps, shots, bins, D; };

/* Uniform in [0, 1) from three numbers: the same on every machine and for any number of threads. */
double big_noise(uint32_t a, uint32_t b, uint32_t c);

/* ---- bigtrace_prompt.c: a text of worked examples, exactly so many tokens ---- */

struct big_prompt {
    char *text;
    size_t bytes, room;
    int n, n_context, n_spans, cap_spans, n_sections;
    char (*token)[16];
    const char **token_text;
    int32_t *id, *start, *end;
    uint8_t *kind;             /* (n) enum big_token */
    int32_t *shot;             /* (n) which one it lies in; -1: none */
    struct kvt_plan_span *span;
    int32_t *section, *section_span; /* (n_sections, 2), (n_sections): system, shots, the question asked */
};
enum big_token { BIG_WORD, BIG_NUMBER, BIG_OPERATOR };
int big_prompt_make(struct big_prompt *p, const struct big_shape *s, struct kvt_err *err);
void big_prompt_free(struct big_prompt *p);

/* ---- bigtrace_attention.c: what is recorded of a head's attention, in closed form ---- */

/* Row q of a head: `sink` on token 0, `local` even over the newest BIG_LOCAL keys, the rest over keys j <= q by their weight c_j. */
struct big_head {
    float *mass, *wmass, *last, *visible, *square, *max; /* (n) by key */
    float *entropy, *sink, *keys, *local;                /* (n) by row */
    float *distance;           /* (bins of distance) */
    float *spans;              /* (n_sections, n_sections) */
    uint16_t *mean, *most;     /* (bins, bins) pooled maps */
};
/* work: (4 n + 4) doubles. */
void big_attend(const struct big_shape *s, const struct big_prompt *p, int layer, int head, const struct big_head *out, double *work);

#endif

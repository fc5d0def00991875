/* The made-up trace. */
#include "base/half.h"
#include "mktrace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "kernels/ops.h"

enum { B_FULL, B_SNAPKV25, B_SNAPKV50, B_CHUNKKV, B_SHOTKV, B_STREAMING, B_H2O, N_KIND };

static const struct { const char *name, *method, *canonical; double keep; const char *schedule; bool renumber; } kinds[N_KIND] = {
    {"full", "full", "full@1", 1.0, "prefill", false},
    {"snapkv 25%", "snapkv", "snapkv@1[w=8,pool=max7,group=mean]", 0.25, "prefill", false},
    {"snapkv 50%", "snapkv", "snapkv@1[w=8,pool=max7,group=mean]", 0.50, "prefill", false},
    {"chunkkv 25%", "chunkkv", "chunkkv@1[chunk=10,w=8]", 0.25, "prefill", false},
    {"shotkv 25%", "shotkv", "shotkv@1[scope=per_layer]", 0.25, "prefill", false},
    {"streaming 25%", "streaming", "streaming@1[sinks=4,positions=renumbered]", 0.25, "prefill", true},
    {"h2o 25%", "h2o", "h2o@1[recent=-1]", 0.25, "step", false},
};

static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}
static float noise(int a, int b, int c) { return (float)(mix((uint32_t)(a * 7919 + b * 104729 + c * 1299709 + 17)) >> 8) * 0x1p-24f; }

static bool is_number(int t)
{
    if (t < MKTRACE_SYSTEM)
        return false;
    int in = (t - MKTRACE_SYSTEM) % MKTRACE_SHOT;
    return in == 4 || in == 8 || in == 15 || in == 17 || in == 19;
}

void mktrace_row(int l, int h, int q, int n_shots, int n_prompt, float *out)
{
    (void)n_shots;
    double sum = 0;
    for (int k = 0; k <= q; k++) {
        double a = 0.02 + 0.03 * (double)noise(l * 64 + h, q, k);
        int back = q - k;
        switch (h % 6) {
        case 0: a += back == 1 ? 40 : back == 0 ? 4 : 0; break;
        case 1: a += k == 0 ? 60 : 0; break;
        case 2: a += back > 0 && (back + 1) % MKTRACE_SHOT == 0 ? 6 : 0; break;
        case 3: break;
        case 4: a += back < 8 ? 4 : 0; break;
        default: a += is_number(k) ? 2.0 + (double)noise(l, h, k) : 0; break;
        }
        a += k == 0 ? 2.0 * (l + 1) : 0; /* sinks grow with depth */
        out[k] = (float)a;
        sum += a;
    }
    for (int k = 0; k < n_prompt; k++)
        out[k] = k <= q ? (float)((double)out[k] / sum) : 0;
}

bool mktrace_shotkv_keeps(int layer, int t)
{
    int shot = t < MKTRACE_SYSTEM ? -1 : (t - MKTRACE_SYSTEM) / MKTRACE_SHOT;
    return shot == 2 || shot == (layer % 2 ? 6 : 5);
}

bool mktrace_streaming_keeps(int t, int n_context) { return t < 4 || t >= n_context - (n_context / 4 - 4); }

/* ---- the prompt ---------------------------------------------------------------------------------------------------- */

struct prompt {
    char *text;
    size_t bytes;
    int n, n_context, n_spans;
    char (*tok)[24];
    const char **tok_ptr;
    int32_t *id, *start, *end;
    char (*span_name)[24];
    struct kvt_plan_span *span;
};

static void add_token(struct prompt *p, const char *s)
{
    snprintf(p->tok[p->n], sizeof *p->tok, "%s", s);
    p->tok_ptr[p->n] = p->tok[p->n];
    p->id[p->n] = (int32_t)(mix((uint32_t)strlen(s) * 31u + (unsigned char)s[0] + 7u * (unsigned char)s[strlen(s) / 2]) % 1000);
    p->start[p->n] = (int32_t)p->bytes;
    p->bytes += strlen(s);
    p->end[p->n] = (int32_t)p->bytes;
    strcat(p->text + p->start[p->n], s);
    p->n++;
}

static int add_span(struct prompt *p, const char *name, const char *kind, int parent, int start, int end)
{
    snprintf(p->span_name[p->n_spans], sizeof *p->span_name, "%s", name);
    p->span[p->n_spans] = (struct kvt_plan_span){p->span_name[p->n_spans], kind, parent, start, end, p->start[start], p->end[end - 1]};
    return p->n_spans++;
}

static void add_question(struct prompt *p, int i)
{
    static const char *const who[] = {" Tom", " Ana", " José", " 小明"}, *const what[] = {" apples", " 🍎", " pens", " 本"};
    char a[16], b[16];
    snprintf(a, sizeof a, " %d", 3 + i * 5 % 7);
    snprintf(b, sizeof b, " %d", 2 + i * 3 % 8);
    const char *const w[13] = {"Question", ":", who[i % 4], " has", a, what[i / 2 % 4], " and", " gets", b, " more", ",", " total", "?\n"};
    for (int k = 0; k < 13; k++)
        add_token(p, w[k]);
}

static void add_shot(struct prompt *p, int i)
{
    char a[16], b[16], c[16], name[24];
    int x = 3 + i * 5 % 7, y = 2 + i * 3 % 8, from = p->n;
    snprintf(a, sizeof a, " %d", x);
    snprintf(b, sizeof b, " %d", y);
    snprintf(c, sizeof c, " %d", x + y);
    add_question(p, i);
    const char *const w[9] = {"Answer", ":", a, " +", b, " =", c, ".", "\n\n"};
    for (int k = 0; k < 9; k++)
        add_token(p, w[k]);
    snprintf(name, sizeof name, "shot %d", i + 1);
    int shot = add_span(p, name, "shot", -1, from, from + MKTRACE_SHOT);
    add_span(p, "question", "question", shot, from, from + 13);
    add_span(p, "answer", "answer", shot, from + 13, from + 21);
    add_span(p, "number", "number", shot, from + 19, from + 20);
    add_span(p, "delimiter", "delimiter", shot, from + 21, from + 22);
}

static void prompt_free(struct prompt *p)
{
    free(p->text);
    free(p->tok);
    free(p->tok_ptr);
    free(p->id);
    free(p->start);
    free(p->end);
    free(p->span_name);
    free(p->span);
}

static bool prompt_make(struct prompt *p, int n_shots)
{
    size_t n = (size_t)(MKTRACE_SYSTEM + n_shots * MKTRACE_SHOT + MKTRACE_QUESTION), spans = (size_t)n_shots * 5 + 2;
    *p = (struct prompt){.text = kvt_calloc(n, 24), .tok = kvt_calloc(n, sizeof *p->tok), .tok_ptr = kvt_calloc(n, sizeof *p->tok_ptr),
                         .id = kvt_calloc(n, 4), .start = kvt_calloc(n, 4), .end = kvt_calloc(n, 4),
                         .span_name = kvt_calloc(spans, sizeof *p->span_name), .span = kvt_calloc(spans, sizeof *p->span)};
    if (!p->text || !p->tok || !p->tok_ptr || !p->id || !p->start || !p->end || !p->span_name || !p->span)
        return false;
    static const char *const system[MKTRACE_SYSTEM] = {"Add", " the", " numbers", ".\n\n"};
    for (int i = 0; i < MKTRACE_SYSTEM; i++)
        add_token(p, system[i]);
    add_span(p, "system", "system", -1, 0, MKTRACE_SYSTEM);
    for (int i = 0; i < n_shots; i++)
        add_shot(p, i);
    p->n_context = p->n;
    static const char *const now[5] = {"Now", " answer", " this", " one", ":\n"};
    for (int i = 0; i < 5; i++)
        add_token(p, now[i]);
    add_question(p, n_shots);
    add_token(p, "Answer");
    add_token(p, ":");
    add_span(p, "question", "prompt", -1, p->n_context, p->n);
    return true;
}

/* ---- the events ---------------------------------------------------------------------------------------------------- */

struct run {
    const struct mktrace_opts *o;
    struct kvt_trace_writer *w;
    const struct kvt_probe *probe;
    struct prompt prompt;
    int L, H, G, B, n, n_context, n_new, bins, fd;
    float *rows;     /* (H, n, n) attention of one layer */
    float *mass, *wmass, *last, *entropy, *sink; /* (H, n) */
    float *mean, *max;                           /* (H, bins, bins) */
    uint16_t *half;                              /* (2, H, bins, bins) the same as events have them */
    float *wmass_all; /* (L, H, n) */
    uint8_t *held;    /* (B, L, G, n + n_new): for h2o's later losses */
    float *score, *threshold;
    uint8_t *reason;
    int32_t *budget, *kept;
    int64_t clock_ns;
};

static int tell(struct run *r, const struct kvt_event *ev)
{
    int rc = r->probe->see(r->probe->self, ev);
    char byte = (char)ev->kind;
    if (!rc && r->fd > 0 && write(r->fd, &byte, 1) != 1)
        return KVT_EIO;
    return rc;
}

/* Times of n parts, each `ns` long, one after the other from r->clock_ns + after on. Said without a byte: no unit of work ends here. */
static int tell_times(struct run *r, int64_t after, int64_t ns, int layer, int branch, int step, const int *part, int n)
{
    struct kvt_time t[8];
    for (int i = 0; i < n; i++)
        t[i] = (struct kvt_time){r->clock_ns + after + i * ns, ns, layer, branch, step, part[i]};
    struct kvt_event ev = {.kind = KVT_EV_TIMES, .times = {n, t, 0}};
    return r->probe->see(r->probe->self, &ev);
}

static int tell_phase(struct run *r, enum kvt_phase phase, int64_t ns, int n_tok)
{
    struct kvt_event ev = {.kind = KVT_EV_PHASE, .phase = {phase, r->clock_ns, ns, n_tok}};
    r->clock_ns += ns;
    return tell(r, &ev);
}

static void reduce_head(struct run *r, int l, int h)
{
    int n = r->n, bins = r->bins;
    float *P = r->rows + (size_t)h * (size_t)n * (size_t)n;
    size_t at = (size_t)h * (size_t)n;
    memset(r->mass + at, 0, (size_t)n * sizeof(float));
    memset(r->wmass + at, 0, (size_t)n * sizeof(float));
    size_t map = (size_t)h * (size_t)(bins * bins);
    int *pairs = calloc((size_t)(bins * bins), sizeof *pairs);
    for (int i = 0; i < bins * bins; i++)
        r->mean[map + (size_t)i] = r->max[map + (size_t)i] = 0;
    for (int q = 0; q < n; q++) {
        float *row = P + (size_t)q * (size_t)n;
        mktrace_row(l, h, q, r->o->n_shots, n, row);
        double ent = 0, sink = 0;
        for (int k = 0; k <= q; k++) {
            r->mass[at + (size_t)k] += row[k];
            if (q >= n - 32)
                r->wmass[at + (size_t)k] += row[k];
            ent -= row[k] > 0 ? (double)row[k] * log((double)row[k]) : 0;
            sink += k < 4 ? (double)row[k] : 0;
            size_t bin = (size_t)(q * bins / n * bins + k * bins / n);
            r->mean[map + bin] += row[k];
            r->max[map + bin] = fmaxf(r->max[map + bin], row[k]);
            if (pairs)
                pairs[bin]++;
        }
        r->entropy[at + (size_t)q] = (float)ent;
        r->sink[at + (size_t)q] = (float)sink;
    }
    for (int i = 0; pairs && i < bins * bins; i++) {
        r->mean[map + (size_t)i] = pairs[i] ? r->mean[map + (size_t)i] / (float)pairs[i] : NAN;
        r->max[map + (size_t)i] = pairs[i] ? r->max[map + (size_t)i] : NAN;
    }
    free(pairs);
    memcpy(r->last + at, P + (size_t)(n - 1) * (size_t)n, (size_t)n * sizeof(float));
}

static int prefill(struct run *r)
{
    int head[64];
    for (int h = 0; h < r->H; h++)
        head[h] = h;
    for (int l = 0; l < r->L; l++) {
        for (int h = 0; h < r->H; h++)
            reduce_head(r, l, h);
        memcpy(r->wmass_all + (size_t)l * (size_t)(r->H * r->n), r->wmass, (size_t)(r->H * r->n) * sizeof(float));
        int rc = KVT_OK;
        if (!r->o->no_full && l % 2) {
            struct kvt_event ev = {.kind = KVT_EV_ROWS, .rows = {l, r->n, 0, r->n, r->H, head, r->rows, NULL}};
            rc = tell(r, &ev);
        }
        size_t maps = (size_t)r->H * (size_t)(r->bins * r->bins);
        for (size_t i = 0; i < maps; i++) {
            r->half[i] = kvt_f16_from_f32(r->mean[i] * KVT_HALF_SCALE);
            r->half[maps + i] = kvt_f16_from_f32(r->max[i] * KVT_HALF_SCALE);
        }
        struct kvt_event ev = {.kind = KVT_EV_PREFILL_LAYER, .prefill_layer = {
            .layer = l, .n = r->n, .mass = r->mass, .n_windows = 1, .window = {32}, .wmass = {r->wmass}, .last = r->last,
            .entropy = r->entropy, .sink = r->sink, .R = r->bins, .C = r->bins, .map_mean = r->half, .map_max = r->half + maps}};
        rc = rc ? rc : tell(r, &ev);
        static const int part[5] = {KVT_PART_QKV, KVT_PART_ATTENTION, KVT_PART_LOOK, KVT_PART_OUTPUT, KVT_PART_FFN};
        int64_t each = 180000000 / r->L;
        rc = rc ? rc : tell_times(r, l * each, each / 5, l, -1, 0, part, 5);
        if (rc)
            return rc;
    }
    return tell_phase(r, KVT_PHASE_PREFILL, 180000000, r->n);
}

static int by_score(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The k-th largest of v (n). */
static float kth(const float *v, int n, int k)
{
    float *s = malloc((size_t)n * sizeof *s);
    if (!s || k < 1) {
        free(s);
        return INFINITY;
    }
    memcpy(s, v, (size_t)n * sizeof *s);
    qsort(s, (size_t)n, sizeof *s, by_score);
    float t = s[k - 1];
    free(s);
    return t;
}

/* Scores of one cell's context: the group's mean window mass. */
static void cell_score(const struct run *r, int l, int g, float *out)
{
    int group = r->H / r->G;
    for (int t = 0; t < r->n_context; t++) {
        float sum = 0;
        for (int j = 0; j < group; j++)
            sum += r->wmass_all[((size_t)l * (size_t)r->H + (size_t)(g * group + j)) * (size_t)r->n + (size_t)t];
        out[t] = sum / (float)group;
    }
}

static void decide_tokens(struct run *r, int g, int budget, int recent)
{
    int n = r->n_context;
    float *s = r->score + (size_t)g * (size_t)n, cut = kth(s, n - recent, budget - recent);
    int kept = recent;
    r->threshold[g] = cut;
    for (int t = 0; t < n; t++) {
        bool wins = t >= n - recent || (s[t] >= cut && kept < budget);
        r->reason[(size_t)g * (size_t)n + (size_t)t] = t >= n - recent ? KVT_KEPT_WINDOW : wins ? KVT_KEPT_SCORE : KVT_LEFT_SCORE;
        kept += wins && t < n - recent;
    }
}

/* Heads share: the first head's row is everybody's. */
static void decide_chunks(struct run *r, int budget)
{
    int n = r->n_context, n_chunks = (n + 9) / 10;
    float chunk[512];
    for (int c = 0; c < n_chunks; c++) {
        chunk[c] = 0;
        int end = c * 10 + 10 < n ? c * 10 + 10 : n;
        for (int t = c * 10; t < end; t++)
            for (int g = 0; g < r->G; g++)
                chunk[c] += r->score[(size_t)g * (size_t)n + (size_t)t] / (float)(end - c * 10);
    }
    float cut = kth(chunk, n_chunks, budget / 10);
    r->threshold[0] = cut;
    for (int g = 0; g < r->G; g++)
        for (int t = 0; t < n; t++)
            r->reason[(size_t)g * (size_t)n + (size_t)t] = chunk[t / 10] >= cut ? KVT_KEPT_UNIT : KVT_LEFT_UNIT;
    for (int t = 0; t < n; t++)
        r->score[t] = chunk[t / 10];
}

static int decide(struct run *r, int b, int l)
{
    int n = r->n_context, kind = b % N_KIND, budget = (int)(kinds[kind].keep * n), R = r->G;
    for (int g = 0; g < r->G; g++)
        cell_score(r, l, g, r->score + (size_t)g * (size_t)n);
    for (int g = 0; g < r->G; g++) {
        uint8_t *why = r->reason + (size_t)g * (size_t)n;
        if (kind == B_SNAPKV25 || kind == B_SNAPKV50)
            decide_tokens(r, g, budget, 8);
        else if (kind == B_H2O)
            decide_tokens(r, g, budget, budget / 2);
        for (int t = 0; t < n && kind == B_SHOTKV; t++)
            why[t] = mktrace_shotkv_keeps(l, t) ? KVT_KEPT_UNIT : KVT_LEFT_UNIT;
        for (int t = 0; t < n && kind == B_STREAMING; t++)
            why[t] = t < 4 ? KVT_KEPT_PROTECTED : mktrace_streaming_keeps(t, n) ? KVT_KEPT_WINDOW : KVT_LEFT_SCORE;
        if (kind == B_FULL)
            memset(why, KVT_KEPT_ALL, (size_t)n);
    }
    if (kind == B_CHUNKKV)
        decide_chunks(r, budget);
    if (kind == B_SHOTKV || kind == B_CHUNKKV)
        R = 1;
    if (kind == B_SHOTKV)
        r->threshold[0] = 0.5f;
    if (kind == B_FULL || kind == B_STREAMING)
        R = 0;
    for (int g = 0; g < r->G; g++) {
        size_t cell = (size_t)(l * r->G + g), stride = (size_t)(r->n + r->n_new);
        uint8_t *held = r->held + ((size_t)b * (size_t)(r->L * r->G) + cell) * stride;
        r->budget[cell] = kind == B_FULL ? n : budget;
        r->kept[cell] = 0;
        for (int t = 0; t < r->n; t++) {
            uint8_t why = t < n ? r->reason[(size_t)g * (size_t)n + (size_t)t] : KVT_KEPT_ALL;
            held[t] = why != KVT_LEFT_SCORE && why != KVT_LEFT_UNIT && why != KVT_LEFT_BUDGET;
            r->kept[cell] += t < n && held[t];
        }
    }
    struct kvt_event ev = {.kind = KVT_EV_DECISION, .decision = {b, l, n, R, R ? r->score : NULL, R ? r->threshold : NULL, r->reason}};
    return tell(r, &ev);
}

static int evict(struct run *r, int b)
{
    for (int l = 0; l < r->L; l++) {
        int rc = decide(r, b, l);
        if (rc)
            return rc;
    }
    int64_t kept = 0, slots = (int64_t)r->L * r->G * r->n_context;
    for (int i = 0; i < r->L * r->G; i++)
        kept += r->kept[i];
    int kind = b % N_KIND;
    struct kvt_event ev = {.kind = KVT_EV_BUDGET, .budget = {b, kinds[kind].keep, (double)kept / (double)slots, kept, slots, r->budget,
                                                             r->kept, kind == B_SHOTKV, kind == B_SHOTKV ? "one shot would not fit" : "", 0}};
    static const int part[3] = {KVT_PART_SCORE, KVT_PART_SELECT, KVT_PART_COMPACT};
    int rc = tell_times(r, b * (12000000 / r->B), 12000000 / r->B / 3, -1, b, 0, part, 3);
    rc = rc ? rc : tell(r, &ev);
    return rc ? rc : kvt_trace_bytes_after(r->w, b, (uint64_t)kept * 64);
}

static int lose(struct run *r, int b, int step)
{
    size_t stride = (size_t)(r->n + r->n_new);
    for (int cell = 0; cell < r->L * r->G; cell++) {
        uint8_t *held = r->held + ((size_t)b * (size_t)(r->L * r->G) + (size_t)cell) * stride;
        int from = (int)(mix((uint32_t)(cell * 131 + step)) % (uint32_t)r->n_context);
        for (int j = 0; j < r->n_context; j++) {
            int32_t pos = (from + j) % r->n_context;
            if (!held[pos])
                continue;
            held[pos] = 0;
            struct kvt_event ev = {.kind = KVT_EV_EVICT, .evict = {b, cell / r->G, cell % r->G, step, 1, &pos}};
            int rc = tell(r, &ev);
            if (rc)
                return rc;
            break;
        }
    }
    return KVT_OK;
}

/* Of the slots that a branch holds after a step: 64 each (D = 16, f16). */
static uint64_t held_bytes(const struct run *r, int b, int step)
{
    size_t cells = (size_t)(r->L * r->G), stride = (size_t)(r->n + r->n_new), slots = cells * (size_t)step;
    for (size_t c = 0; c < cells; c++)
        for (int t = 0; t < r->n; t++)
            slots += r->held[((size_t)b * cells + c) * stride + (size_t)t];
    return slots * 64;
}

/* First step at which a branch leaves the full one when free; 0: never. */
static int diverges(int b) { return b % N_KIND == B_FULL || b % N_KIND == B_SNAPKV50 ? 0 : 3 + b % N_KIND * 2; }

static int step(struct run *r, int step)
{
    static const char *const words[8] = {" 5", " +", " 7", " =", " 12", ".", " So", " 十二"};
    int B = r->B, rc = KVT_OK;
    int32_t *ids = calloc((size_t)B * 2, sizeof *ids);
    float *f = calloc((size_t)B * 3, sizeof *f);
    uint64_t *bytes = calloc((size_t)B * 2, sizeof *bytes);
    if (!ids || !f || !bytes)
        rc = KVT_ENOMEM;
    for (int b = 0; !rc && b < B; b++) {
        int d = diverges(b);
        ids[b] = 100 + step % 8;
        ids[B + b] = d && step % 5 == d % 5 ? 100 + (step + 1) % 8 : ids[b];
        f[b] = -0.1f - noise(b, step, 1);
        f[B + b] = b % N_KIND == B_FULL ? 0 : (float)(1.1 - kinds[b % N_KIND].keep) * 0.2f * (1 + 0.1f * (float)step) * (0.5f + noise(b, step, 2));
        f[2 * B + b] = 1 + noise(b, step, 3);
        if (b % N_KIND == B_H2O)
            rc = lose(r, b, step);
        bytes[b] = held_bytes(r, b, step);
        bytes[B + b] = b % N_KIND == B_FULL ? (uint64_t)step * 64 : bytes[b];
    }
    struct kvt_event ev = {.kind = KVT_EV_STEP, .step = {step, B, ids, ids + B, f, f + B, f + 2 * B, bytes, bytes + B,
                                                         5000000 + (uint64_t)step * 6400, 20000000 + step * 1000, 0}};
    static const int part[2] = {KVT_PART_HEAD, KVT_PART_STEP};
    rc = rc ? rc : tell_times(r, (step - 1) * 20000000LL, 500000, -1, -1, step, part, 1);
    rc = rc ? rc : tell_times(r, (step - 1) * 20000000LL, 20000000, -1, -1, step, part + 1, 1);
    for (int b = 0; !rc && b < B; b++)
        rc = kvt_trace_token(r->w, b, step, false, ids[b], words[ids[b] % 8]);
    rc = rc ? rc : tell(r, &ev);
    for (int b = 0; !rc && b < B; b++) {
        int d = diverges(b);
        if (!d || step < d)
            continue;
        int32_t token = 100 + (step + 1) % 8;
        struct kvt_event fr = {.kind = KVT_EV_FREE, .free = {b, step, token, -0.5f}};
        rc = tell(r, &fr);
        rc = rc ? rc : kvt_trace_token(r->w, b, step, true, token, words[token % 8]);
    }
    free(ids);
    free(f);
    free(bytes);
    if (r->o->step_us) {
        struct timespec ts = {0, r->o->step_us * 1000L};
        nanosleep(&ts, NULL);
    }
    return rc;
}

static int play(struct run *r)
{
    int rc = prefill(r);
    for (int b = 0; !rc && b < r->B; b++)
        rc = evict(r, b);
    rc = rc ? rc : tell_phase(r, KVT_PHASE_EVICT, 12000000, r->n_context);
    rc = rc ? rc : tell_phase(r, KVT_PHASE_QUESTION, 30000000, MKTRACE_QUESTION);
    for (int k = 1; !rc && k <= r->n_new; k++)
        rc = step(r, k);
    rc = rc ? rc : tell_phase(r, KVT_PHASE_DECODE, (int64_t)r->n_new * 20000000, r->n_new);
    for (int b = 0; !rc && b < r->B; b++)
        rc = kvt_trace_result(r->w, b, b % 2 ? " 5 + 7 = 12. So 十二" : " 5 + 7 = 12.", diverges(b), b ? 0.01 * b : 0, b ? 1 - 0.02 * (b % N_KIND) : 1);
    return rc;
}

static bool run_alloc(struct run *r)
{
    size_t L = (size_t)r->L, H = (size_t)r->H, G = (size_t)r->G, n = (size_t)r->n, bins = (size_t)r->bins;
    r->rows = kvt_calloc(H * n * n, 4);
    r->mass = kvt_calloc(H * n, 4);
    r->wmass = kvt_calloc(H * n, 4);
    r->last = kvt_calloc(H * n, 4);
    r->entropy = kvt_calloc(H * n, 4);
    r->sink = kvt_calloc(H * n, 4);
    r->mean = kvt_calloc(H * bins * bins, 4);
    r->half = kvt_calloc(2 * H * bins * bins, 2);
    r->max = kvt_calloc(H * bins * bins, 4);
    r->wmass_all = kvt_calloc(L * H * n, 4);
    r->held = kvt_calloc((size_t)r->B * L * G * (n + (size_t)r->n_new), 1);
    r->score = kvt_calloc(G * n, 4);
    r->threshold = kvt_calloc(G, 4);
    r->reason = kvt_calloc(G, n);
    r->budget = kvt_calloc(L * G, 4);
    r->kept = kvt_calloc(L * G, 4);
    return r->rows && r->mass && r->wmass && r->last && r->entropy && r->sink && r->mean && r->max && r->half && r->wmass_all && r->held &&
           r->score && r->threshold && r->reason && r->budget && r->kept;
}

static void run_free(struct run *r)
{
    void *all[] = {r->rows, r->mass, r->wmass, r->last, r->entropy, r->sink, r->mean, r->max, r->half, r->wmass_all, r->held, r->score,
                   r->threshold, r->reason, r->budget, r->kept};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    prompt_free(&r->prompt);
}

static int begin(struct run *r, const struct mktrace_opts *o, struct kvt_err *err)
{
    struct kvt_plan_branch *branch = kvt_calloc((size_t)r->B, sizeof *branch);
    char (*name)[40] = kvt_calloc((size_t)r->B, sizeof *name);
    uint8_t *odd = kvt_calloc((size_t)r->L, 1);
    int rc = branch && name && odd ? KVT_OK : kvt_fail(err, KVT_ENOMEM, "no memory");
    for (int b = 0; !rc && b < r->B; b++) {
        int k = b % N_KIND;
        snprintf(name[b], sizeof *name, b < N_KIND ? "%s" : "%s #%d", kinds[k].name, b / N_KIND + 1);
        branch[b] = (struct kvt_plan_branch){name[b], kinds[k].method, kinds[k].canonical, kinds[k].keep,
                                             (int)(kinds[k].keep * r->n_context), kinds[k].schedule, kinds[k].renumber, "", NULL};
    }
    for (int l = 1; !rc && l < r->L; l += 2)
        odd[l] = 1;
    struct kvt_wants wants = {.scores = true, .n_sink = 4, .map_r = r->bins, .map_c = r->bins, .full = !o->no_full && r->L > 1,
                              .layer = odd, .decisions = true};
    const struct prompt *p = &r->prompt;
    struct kvt_trace_plan plan = {
        .path = o->path, .force = o->force, .prompt_id = "0", .L = r->L, .H = r->H, .G = r->G, .D = 16, .V = 1000,
        .model_name = "made up", .model_arch = "llama", .model_path = "none.gguf", .model_type = "F32", .config_sha256 = "",
        .tokenizer_kind = "words", .model_bytes = 123456, .text = p->text, .text_bytes = p->bytes, .n_prompt = p->n,
        .n_context = p->n_context, .token_id = p->id, .token_start = p->start, .token_end = p->end, .token_text = p->tok_ptr,
        .longest_token = 24, .span = p->span, .n_spans = p->n_spans, .branch = branch, .n_branches = r->B, .n_new = r->n_new,
        .wants = &wants, .n_windows = 1, .window = {32}, .protocol = "visible", .decode = "both", .compute = "f32", .kv_type = "f16", .rope = "plain", .windows = "none",
        .backend = "none", .device = "none", .command_line = "mktrace", .threads = 1, .seed = 42, .drop_when_full = o->drop, .compress = o->compress};
    rc = rc ? rc : kvt_trace_create(&r->w, &plan, err);
    free(branch);
    free(name);
    free(odd);
    return rc;
}

int mktrace(const struct mktrace_opts *o, struct kvt_err *err)
{
    struct run r = {.o = o, .L = o->L ? o->L : 4, .H = o->H ? o->H : 6, .G = o->G ? o->G : 2, .B = o->n_branches ? o->n_branches : N_KIND,
                    .n_new = o->n_new ? o->n_new : 24, .bins = o->bins ? o->bins : 25, .fd = o->announce_fd};
    bool ok = prompt_make(&r.prompt, o->n_shots ? o->n_shots : 8);
    r.n = r.prompt.n;
    r.n_context = r.prompt.n_context;
    int rc = ok && run_alloc(&r) ? begin(&r, o, err) : kvt_fail(err, KVT_ENOMEM, "no memory");
    if (!rc) {
        r.probe = kvt_trace_probe(r.w);
        int played = play(&r);
        if (!played)
            played = kvt_trace_model_sha256(r.w, "00");
        rc = kvt_trace_finish(&r.w, played ? played : o->status, 0x1234abcdu, err);
        rc = rc ? rc : played;
    }
    run_free(&r);
    return rc;
}

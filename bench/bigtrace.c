/* A synthetic trace as large as wanted, through the tracer's own writer: what the analyzers are timed on.
 * By default 32,768 tokens x 32 layers x 8 kv heads (32 query heads) x 24 branches (6 methods at 4 budgets) beside the full one, 40
 * shots, 64 steps, everything that --see and --fidelity know but top. bigtrace_attention.c says what is made up and how.
 * usage: bigtrace out.h5 [tok=N L=N H=N G=N steps=N shots=N bins=N dry=1] */
#include "bigtrace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "kernels/ops.h"

enum method { SNAPKV, PYRAMIDKV, CHUNKKV, SHOTKV, H2O, STREAMING, N_METHODS };
enum { N_BUDGETS = 4, B = 1 + N_METHODS * N_BUDGETS, CHUNK = 10 };
static const double budgets[N_BUDGETS] = {0.1, 0.2, 0.4, 0.6};
static const struct { const char *name, *canonical, *schedule; bool shared, ranks, renumber; } methods[N_METHODS] = {
    {"snapkv", "snapkv@1[w=32,pool=max7,group=mean]", "prefill", false, true, false},
    {"pyramidkv", "pyramidkv@1[w=32,pool=max7,beta=4]", "prefill", false, true, false},
    {"chunkkv", "chunkkv@1[chunk=10,w=32]", "prefill", true, true, false},
    {"shotkv", "shotkv@1[scope=per_layer,decode=0.9]", "step", true, true, false},
    {"h2o", "h2o@1[recent=-1]", "step", false, true, false},
    {"streaming", "streaming@1[sinks=4,positions=renumbered]", "step", false, false, true},
};
static enum method method_of(int b) { return (enum method)((b - 1) / N_BUDGETS); }
static double keep_of(int b) { return b ? budgets[(b - 1) % N_BUDGETS] : 1; }

struct run {
    struct big_shape s;
    struct big_prompt p;
    struct kvt_trace_writer *w;
    const struct kvt_probe *probe;
    int64_t clock_ns;
    float *mass, *wmass;       /* (L, G, n_context) mean over the query group */
    float *score, *threshold, *sorted;  /* (G, n), (G), (G, n): of the layer at hand */
    uint8_t *reason;           /* (L, G, n) of the branch at hand */
    uint8_t *held[N_BUDGETS];  /* (L, G, n) of h2o at each budget */
    int32_t *budget, *kept;    /* (L, G) */
    int64_t slots[B];          /* held */
};

static int tell(struct run *r, const struct kvt_event *ev) { return r->probe->see(r->probe->self, ev); }

static int tell_phase(struct run *r, enum kvt_phase phase, int64_t ns, int n_tok)
{
    struct kvt_event ev = {.kind = KVT_EV_PHASE, .phase = {phase, r->clock_ns, ns, n_tok}};
    r->clock_ns += ns;
    return tell(r, &ev);
}

/* ---- the prefill ------------------------------------------------------------------------------------------------- */

/* Mean of a layer's rows (H, n) over each query group, of the context. */
static void group_mean(const struct run *r, int l, const float *rows, float *to)
{
    int group = r->s.H / r->s.G, n = r->p.n_context;
    for (int g = 0; g < r->s.G; g++)
        for (int t = 0; t < n; t++) {
            float sum = 0;
            for (int h = g * group; h < (g + 1) * group; h++)
                sum += rows[(size_t)h * (size_t)r->s.tok + (size_t)t];
            to[((size_t)(l * r->s.G + g)) * (size_t)n + (size_t)t] = sum / (float)group;
        }
}

static int prefill(struct run *r)
{
    size_t H = (size_t)r->s.H, n = (size_t)r->s.tok, map = (size_t)r->s.bins * (size_t)r->s.bins, S = (size_t)r->p.n_sections;
    size_t bins = (size_t)kvt_distance_bins(r->s.tok);
    float *rows = kvt_calloc(10 * H * n, sizeof *rows), *distance = kvt_calloc(H * bins, sizeof *distance), *spans = kvt_calloc(H * S * S, sizeof *spans);
    uint16_t *maps = kvt_calloc(2 * H * map, sizeof *maps);
    double *work = kvt_calloc(H * (4 * n + 4), sizeof *work);
    int rc = rows && distance && spans && maps && work ? KVT_OK : KVT_ENOMEM;
    float *by[10];
    for (size_t i = 0; !rc && i < 10; i++)
        by[i] = rows + i * H * n;
    for (int l = 0; !rc && l < r->s.L; l++) {
#pragma omp parallel for schedule(dynamic, 1)
        for (size_t h = 0; h < H; h++) {
            size_t at = h * n;
            struct big_head out = {by[0] + at, by[1] + at, by[2] + at, by[3] + at, by[4] + at, by[5] + at, by[6] + at, by[7] + at, by[8] + at, by[9] + at,
                                   distance + h * bins, spans + h * S * S, maps + h * map, maps + (H + h) * map};
            big_attend(&r->s, &r->p, l, (int)h, &out, work + h * (4 * n + 4));
        }
        struct kvt_event ev = {.kind = KVT_EV_PREFILL_LAYER, .prefill_layer = {
            .layer = l, .n = r->s.tok, .mass = by[0], .n_windows = 1, .window = {BIG_WINDOW}, .wmass = {by[1]}, .last = by[2], .visible = by[3],
            .square = by[4], .max = by[5], .entropy = by[6], .sink = by[7], .keys = by[8], .local = by[9], .n_distances = (int)bins, .distance = distance,
            .n_spans = (int)S, .spans = spans, .R = r->s.bins, .C = r->s.bins, .map_mean = maps, .map_max = maps + H * map}};
        rc = tell(r, &ev);
        group_mean(r, l, by[0], r->mass);
        group_mean(r, l, by[1], r->wmass);
    }
    free(rows);
    free(distance);
    free(spans);
    free(maps);
    free(work);
    return rc ? rc : tell_phase(r, KVT_PHASE_PREFILL, 180000000000, r->s.tok);
}

/* ---- decisions --------------------------------------------------------------------------------------------------- */

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* The k-th largest of v (n). */
static float kth(const float *v, int n, int k, float *sorted)
{
    memcpy(sorted, v, (size_t)n * sizeof *v);
    qsort(sorted, (size_t)n, sizeof *v, descending);
    return k < 1 ? INFINITY : sorted[k < n ? k - 1 : n - 1];
}

/* The largest stay up to the budget, the newest `recent` in any case. */
static void decide_tokens(struct run *r, int g, int budget, int recent, uint8_t *why)
{
    int n = r->p.n_context, equal = budget - recent; /* of those at the threshold, pooled ones are many, so many stay */
    const float *s = r->score + (size_t)g * (size_t)n;
    float cut = r->threshold[g] = kth(s, n - recent, budget - recent, r->sorted + (size_t)g * (size_t)n);
    for (int t = 0; t < n - recent; t++)
        equal -= s[t] > cut;
    for (int t = 0; t < n; t++)
        why[t] = t >= n - recent ? KVT_KEPT_WINDOW : s[t] > cut || (s[t] == cut && equal-- > 0) ? KVT_KEPT_SCORE : KVT_LEFT_SCORE;
}

/* Units: `of[t]` says which one token t lies in (-1: none, kept by rule); whole ones stay, best first, while they fit. */
static void decide_units(struct run *r, const float *score, const int32_t *size, const int32_t *of, int units, int budget, uint8_t *why)
{
    uint8_t *stays = kvt_calloc((size_t)units, 1);
    int n = r->p.n_context;
    for (bool more = stays; more;) {
        int best = -1;
        for (int u = 0; u < units; u++)
            if (!stays[u] && (best < 0 || score[u] > score[best]))
                best = u;
        more = best >= 0 && size[best] <= budget;
        if (more)
            stays[best] = 1, budget -= size[best], r->threshold[0] = score[best];
    }
    for (int t = 0; t < n; t++) {
        why[t] = of[t] < 0 ? KVT_KEPT_PROTECTED : stays && stays[of[t]] ? KVT_KEPT_UNIT : KVT_LEFT_UNIT;
        r->score[t] = of[t] < 0 ? 0 : score[of[t]];
    }
    free(stays);
}

/* Heads share: a unit's score is the mean over heads and tokens of the layer's window mass (chunks) or mass (shots). */
static int decide_shared(struct run *r, int l, int budget, bool chunks)
{
    int n = r->p.n_context, units = chunks ? (n - BIG_WINDOW + CHUNK - 1) / CHUNK : r->s.shots;
    float *score = kvt_calloc((size_t)units, sizeof *score);
    int32_t *size = kvt_calloc((size_t)units, sizeof *size), *of = kvt_calloc((size_t)n, sizeof *of);
    bool ok = score && size && of;
    for (int t = 0; ok && t < n; t++) {
        of[t] = chunks ? (t < n - BIG_WINDOW ? t / CHUNK : -1) : r->p.shot[t];
        if (of[t] < 0) {
            budget--;
            continue;
        }
        size[of[t]]++;
        for (int g = 0; g < r->s.G; g++)
            score[of[t]] += (chunks ? r->wmass : r->mass)[(size_t)(l * r->s.G + g) * (size_t)n + (size_t)t];
    }
    for (int u = 0; ok && u < units; u++)
        score[u] /= (float)(size[u] * r->s.G);
    uint8_t *why = r->reason + (size_t)l * (size_t)r->s.G * (size_t)n;
    if (ok)
        decide_units(r, score, size, of, units, budget, why);
    for (int g = 1; g < r->s.G; g++)
        memcpy(why + (size_t)g * (size_t)n, why, (size_t)n);
    free(score);
    free(size);
    free(of);
    return ok ? KVT_OK : KVT_ENOMEM;
}

static void decide_head(struct run *r, int b, int l, int g, int budget)
{
    int n = r->p.n_context;
    size_t cell = (size_t)(l * r->s.G + g) * (size_t)n;
    uint8_t *why = r->reason + cell;
    float *s = r->score + (size_t)g * (size_t)n;
    switch (method_of(b)) {
    case STREAMING:
        for (int t = 0; t < n; t++)
            why[t] = t < BIG_SINK ? KVT_KEPT_PROTECTED : t >= n - budget + BIG_SINK ? KVT_KEPT_WINDOW : KVT_LEFT_SCORE;
        break;
    case H2O:
        memcpy(s, r->mass + cell, (size_t)n * sizeof *s);
        decide_tokens(r, g, budget, budget / 2, why);
        break;
    default: /* the largest of the seven around, as its pooling has it */
        for (int t = 0; t < n; t++) {
            s[t] = 0;
            for (int j = t < 3 ? 0 : t - 3; j <= t + 3 && j < n; j++)
                s[t] = r->wmass[cell + (size_t)j] > s[t] ? r->wmass[cell + (size_t)j] : s[t];
        }
        decide_tokens(r, g, budget, BIG_WINDOW, why);
    }
}

/* PyramidKV: from 1.5 budgets in the first layer down to half of one. */
static int layer_budget(const struct run *r, int b, int l)
{
    double keep = keep_of(b), slope = method_of(b) == PYRAMIDKV && r->s.L > 1 ? 1.5 - (double)l / (r->s.L - 1) : 1;
    return (int)(keep * slope * r->p.n_context);
}

static int decide(struct run *r, int b, int l)
{
    int n = r->p.n_context, G = r->s.G, rc = KVT_OK;
    enum method m = method_of(b);
    int budget = b ? layer_budget(r, b, l) : n;
    uint8_t *why = r->reason + (size_t)(l * G) * (size_t)n;
    if (!b)
        memset(why, KVT_KEPT_ALL, (size_t)G * (size_t)n);
    else if (methods[m].shared)
        rc = decide_shared(r, l, budget, m == CHUNKKV);
    else {
#pragma omp parallel for schedule(dynamic, 1)
        for (int g = 0; g < G; g++)
            decide_head(r, b, l, g, budget);
    }
    for (int g = 0; !rc && g < G; g++) {
        int kept = 0;
        for (int t = 0; t < n; t++) {
            uint8_t v = why[(size_t)g * (size_t)n + (size_t)t];
            kept += v != KVT_LEFT_SCORE && v != KVT_LEFT_UNIT;
        }
        r->budget[l * G + g] = budget;
        r->kept[l * G + g] = kept;
    }
    bool ranks = b && methods[m].ranks;
    struct kvt_event ev = {.kind = KVT_EV_DECISION, .decision = {b, l, n, !ranks ? 0 : methods[m].shared ? 1 : G, ranks ? r->score : NULL,
                                                                 ranks ? r->threshold : NULL, why}};
    return rc ? rc : tell(r, &ev);
}

static int evict(struct run *r, int b)
{
    int rc = KVT_OK, cells = r->s.L * r->s.G;
    size_t n = (size_t)r->p.n_context;
    for (int l = 0; !rc && l < r->s.L; l++)
        rc = decide(r, b, l);
    int64_t kept = 0, slots = (int64_t)cells * r->p.n_context;
    for (int i = 0; i < cells; i++)
        kept += r->kept[i];
    r->slots[b] = kept + (int64_t)cells * (r->s.tok - r->p.n_context);
    if (b && method_of(b) == H2O)
        for (size_t i = 0; i < (size_t)cells * n; i++)
            r->held[(b - 1) % N_BUDGETS][i] = r->reason[i] == KVT_KEPT_SCORE;
    struct kvt_event ev = {.kind = KVT_EV_BUDGET, .budget = {b, keep_of(b), (double)kept / (double)slots, kept, slots, r->budget, r->kept, false, "", 0}};
    rc = rc ? rc : tell(r, &ev);
    uint64_t slot = 4 * (uint64_t)r->s.D;
    rc = rc ? rc : kvt_trace_bytes_after(r->w, b, (uint64_t)kept * slot);
    return rc ? rc : kvt_trace_bytes_peak(r->w, b, (uint64_t)cells * (uint64_t)(r->s.tok + r->s.steps) * slot);
}

/* ---- decoding ---------------------------------------------------------------------------------------------------- */

/* A slot of each cell goes: of h2o some token, of streaming the oldest in its window, of shotkv now and then a generated one. */
static int lose(struct run *r, int b, int step)
{
    int cells = r->s.L * r->s.G, n = r->p.n_context, rc = KVT_OK;
    enum method m = method_of(b);
    for (int cell = 0; !rc && cell < cells; cell++) {
        int32_t pos = -1;
        if (m == STREAMING) {
            pos = n - (int)(keep_of(b) * n) + BIG_SINK + step - 1;
        } else if (m == SHOTKV) {
            pos = step % 10 ? -1 : r->s.tok + step - 10 + (int)(big_noise((uint32_t)cell, (uint32_t)step, 21) * 9);
        } else {
            uint8_t *held = r->held[(b - 1) % N_BUDGETS] + (size_t)cell * (size_t)n;
            int from = (int)(big_noise((uint32_t)cell, (uint32_t)step, 20) * n);
            for (int j = 0; pos < 0 && j < n; j++)
                pos = held[(from + j) % n] ? (from + j) % n : -1;
            if (pos >= 0)
                held[pos] = 0;
        }
        if (pos < 0 || (m == STREAMING && pos >= n))
            continue;
        struct kvt_event ev = {.kind = KVT_EV_EVICT, .evict = {b, cell / r->s.G, cell % r->s.G, step, 1, &pos}};
        r->slots[b]--;
        rc = tell(r, &ev);
    }
    return rc;
}

struct lockstep { int32_t token[B], argmax[B]; float logprob[B], kl[B], entropy[B]; uint64_t alone[B], own[B]; };

static int one_step(struct run *r, int step, float *lost)
{
    static const char *const words[8] = {" 5", " +", " 7", " =", " 12", ".", " So", " 十二"};
    struct lockstep k;
    size_t L = (size_t)r->s.L, G = (size_t)r->s.G, cells = L * G;
    uint64_t slot = 4 * (uint64_t)r->s.D, all = 0;
    int rc = KVT_OK;
    for (int b = 0; !rc && b < B; b++) {
        uint32_t u = (uint32_t)b, v = (uint32_t)step;
        double gone = b ? (1 - keep_of(b)) * (0.3 + 0.1 * method_of(b)) : 0;
        r->slots[b] += (int64_t)cells;
        rc = b && !strcmp(methods[method_of(b)].schedule, "step") ? lose(r, b, step) : KVT_OK;
        k.token[b] = 100 + step % 8;
        k.argmax[b] = b && big_noise(u, v, 30) < 0.3 * gone ? 100 + (step + 1) % 8 : k.token[b];
        k.logprob[b] = -0.1f - (float)big_noise(u, v, 31);
        k.kl[b] = (float)(gone * gone * (0.2 + big_noise(u, v, 32)));
        k.entropy[b] = 1 + (float)big_noise(u, v, 33);
        k.alone[b] = (uint64_t)r->slots[b] * slot;
        k.own[b] = b ? k.alone[b] : (uint64_t)step * cells * slot;
        all += k.own[b];
        for (size_t i = 0; i < cells; i++) { /* lost_mass, lost_rest (B, cells), then local, propagated (B, L) */
            double x = gone * (0.5 + 0.5 * big_noise(u * 64 + v, 34, (uint32_t)i));
            lost[(size_t)b * cells + i] = (float)(0.6 * x);
            lost[(B + (size_t)b) * cells + i] = (float)x;
        }
        for (size_t l = 0; l < L; l++) {
            double x = gone * (0.3 + 0.7 * big_noise(u * 64 + v, 35, (uint32_t)l));
            lost[2 * B * cells + (size_t)b * L + l] = (float)x;
            lost[2 * B * cells + (B + (size_t)b) * L + l] = (float)(x * (1 + 0.05 * (double)l));
        }
        rc = rc ? rc : kvt_trace_token(r->w, b, step, false, k.token[b], words[step % 8]);
    }
    struct kvt_event fid = {.kind = KVT_EV_FIDELITY, .fidelity = {step, 0, B, lost, lost + B * cells, lost + 2 * B * cells, lost + 2 * B * cells + B * L}};
    rc = rc ? rc : tell(r, &fid);
    struct kvt_event ev = {.kind = KVT_EV_STEP, .step = {step, B, k.token, k.argmax, k.logprob, k.kl, k.entropy, k.alone, k.own, all, 20000000, 0}};
    return rc ? rc : tell(r, &ev);
}

static int decode(struct run *r)
{
    size_t floats = 2 * B * (size_t)r->s.L * (size_t)(r->s.G + 1);
    float *lost = kvt_calloc(floats, sizeof *lost);
    int rc = lost ? KVT_OK : KVT_ENOMEM;
    for (int k = 1; !rc && k <= r->s.steps; k++)
        rc = one_step(r, k, lost);
    free(lost);
    rc = rc ? rc : tell_phase(r, KVT_PHASE_DECODE, (int64_t)r->s.steps * 20000000, r->s.steps);
    for (int b = 0; !rc && b < B; b++) {
        double gone = b ? (1 - keep_of(b)) * (0.3 + 0.1 * method_of(b)) : 0;
        rc = kvt_trace_result(r->w, b, " So 5 + 7 = 12.", 0, 0.7 * gone * gone, 1 - 0.3 * gone);
        rc = rc ? rc : kvt_trace_fidelity(r->w, b, (double[5]){0.45 * gone, 0.75 * gone, 0.65 * gone, gone, NAN});
    }
    return rc;
}

/* ---- the run ----------------------------------------------------------------------------------------------------- */

static bool run_alloc(struct run *r)
{
    size_t cells = (size_t)r->s.L * (size_t)r->s.G, n = (size_t)r->s.tok, G = (size_t)r->s.G;
    r->mass = kvt_calloc(cells * n, sizeof *r->mass);
    r->wmass = kvt_calloc(cells * n, sizeof *r->wmass);
    r->score = kvt_calloc(G * n, sizeof *r->score);
    r->sorted = kvt_calloc(G * n, sizeof *r->sorted);
    r->threshold = kvt_calloc(G, sizeof *r->threshold);
    r->reason = kvt_calloc(cells * n, 1);
    r->budget = kvt_calloc(cells, sizeof *r->budget);
    r->kept = kvt_calloc(cells, sizeof *r->kept);
    bool ok = r->mass && r->wmass && r->score && r->sorted && r->threshold && r->reason && r->budget && r->kept;
    for (int i = 0; i < N_BUDGETS; i++)
        ok = (r->held[i] = kvt_calloc(cells * n, 1)) != NULL && ok;
    return ok;
}

static void run_free(struct run *r)
{
    void *all[] = {r->mass, r->wmass, r->score, r->sorted, r->threshold, r->reason, r->budget, r->kept, r->held[0], r->held[1], r->held[2], r->held[3]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    big_prompt_free(&r->p);
}

static int make(struct run *r, const char *path, bool dry, struct kvt_err *err)
{
    const struct big_prompt *p = &r->p;
    struct kvt_plan_branch branch[B];
    char name[B][48], asked[B][16];
    for (int b = 0; b < B; b++) {
        enum method m = b ? method_of(b) : SNAPKV;
        int percent = (int)(100 * keep_of(b) + 0.5);
        snprintf(asked[b], sizeof asked[b], "%d%%", percent);
        snprintf(name[b], sizeof name[b], "%s %d%%", methods[m].name, percent);
        branch[b] = (struct kvt_plan_branch){b ? name[b] : "full", b ? methods[m].name : "full", b ? methods[m].canonical : "full@1", keep_of(b),
                                             (int)(keep_of(b) * p->n_context), b ? methods[m].schedule : "prefill", b && methods[m].renumber, asked[b], NULL};
    }
    struct kvt_wants wants = {.scores = true, .n_sink = BIG_SINK, .visible = true, .square = true, .max = true, .keys = true, .local = true,
                              .n_local = BIG_LOCAL, .distance = true, .span = p->section, .span_of = p->section_span, .n_spans = p->n_sections,
                              .map_r = r->s.bins, .map_c = r->s.bins, .decisions = true};
    struct kvt_trace_plan plan = {
        .path = path, .force = true, .prompt_id = "0", .L = r->s.L, .H = r->s.H, .G = r->s.G, .D = r->s.D, .V = 32000,
        .model_name = "synthetic", .model_arch = "llama", .model_path = "none.gguf", .model_type = "F16", .config_sha256 = "",
        .tokenizer_kind = "words", .model_bytes = 1, .text = p->text, .text_bytes = p->bytes, .n_prompt = p->n,
        .n_context = p->n_context, .token_id = p->id, .token_start = p->start, .token_end = p->end, .token_text = p->token_text,
        .longest_token = 16, .span = p->span, .n_spans = p->n_spans, .branch = branch, .n_branches = B, .n_new = r->s.steps,
        .wants = &wants, .lost_mass = true, .output_error = true, .n_windows = 1, .window = {BIG_WINDOW}, .protocol = "visible", .decode = "both",
        .compute = "f32", .kv_type = "f16", .rope = "plain", .windows = "none", .backend = "none", .device = "none", .command_line = "bigtrace",
        .threads = 1, .seed = 1};
    struct kvt_trace_sizes z;
    kvt_trace_estimate(&plan, &z);
    printf("%d tokens x %d layers x %d kv heads (%d query heads) x %d branches, %d steps, %d spans: %.2f GB before compression\n"
           "(scores %.2f, maps %.2f, decisions %.2f), %.2f GB of memory\n", r->s.tok, r->s.L, r->s.G, r->s.H, B, r->s.steps, p->n_spans,
           (double)(z.scores + z.maps + z.decisions + z.other) / 1e9, (double)z.scores / 1e9, (double)z.maps / 1e9, (double)z.decisions / 1e9,
           ((double)z.writer + (double)r->s.L * r->s.G * r->s.tok * 13) / 1e9);
    fflush(stdout);
    if (dry)
        return KVT_OK;
    int rc = run_alloc(r) ? kvt_trace_create(&r->w, &plan, err) : kvt_fail(err, KVT_ENOMEM, "no memory");
    if (rc)
        return rc;
    r->probe = kvt_trace_probe(r->w);
    int played = prefill(r);
    for (int b = 0; !played && b < B; b++)
        played = evict(r, b);
    played = played ? played : tell_phase(r, KVT_PHASE_EVICT, 12000000, p->n_context);
    played = played ? played : decode(r);
    played = played ? played : kvt_trace_model_sha256(r->w, "00");
    rc = kvt_trace_finish(&r->w, played, 0x1234abcdu, err);
    return rc ? rc : played ? kvt_fail(err, played, "the run failed") : KVT_OK;
}

int main(int argc, char **argv)
{
    struct run r = {.s = {.tok = 32768, .L = 32, .H = 32, .G = 8, .steps = 64, .shots = 40, .bins = 256, .D = 128}};
    struct kvt_err err = {0};
    const char *path = NULL;
    int dry = 0, rc = KVT_OK;
    const struct { const char *name; int *to; } opt[] = {{"tok=", &r.s.tok}, {"L=", &r.s.L}, {"H=", &r.s.H}, {"G=", &r.s.G}, {"steps=", &r.s.steps},
                                                         {"shots=", &r.s.shots}, {"bins=", &r.s.bins}, {"dry=", &dry}};
    for (int i = 1; i < argc && !rc; i++) {
        size_t k = 0, n = sizeof opt / sizeof *opt;
        while (k < n && strncmp(opt[k].name, argv[i], strlen(opt[k].name)))
            k++;
        if (k < n)
            *opt[k].to = atoi(argv[i] + strlen(opt[k].name));
        else if (strchr(argv[i], '='))
            rc = kvt_fail(&err, KVT_EUSAGE, "no option %s", argv[i]);
        else
            path = argv[i];
    }
    if (!rc && (!path || r.s.L < 1 || r.s.G < 1 || r.s.H < r.s.G || r.s.H % r.s.G || r.s.steps < 1 || r.s.shots < 1 || r.s.bins < 1))
        rc = kvt_fail(&err, KVT_EUSAGE, "use: bigtrace out.h5 [tok=N L=N H=N G=N steps=N shots=N bins=N dry=1]");
    struct timespec t0, t1;
    clock_gettime(CLOCK_MONOTONIC, &t0);
    rc = rc ? rc : big_prompt_make(&r.p, &r.s, &err);
    rc = rc ? rc : make(&r, path, dry, &err);
    clock_gettime(CLOCK_MONOTONIC, &t1);
    if (!rc && !dry)
        printf("made in %.0f s\n", (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec));
    if (rc)
        fprintf(stderr, "bigtrace: %s\n", err.text);
    run_free(&r);
    return kvt_exit_code(rc);
}

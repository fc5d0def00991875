/* The hand-drawn trace: read the lines, then tell the writer what a run would have told it. */
#include "handtrace.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/ops.h"
#include "tracer/trace_write.h"

enum { MAX_TOK = 96, MAX_SPAN = 32, MAX_BRANCH = 8, MAX_L = 4, MAX_G = 4, MAX_H = 8, MAX_STEP = 9, MAX_TERM = 4, NAME = 40,
       N_SINK = 4, N_LOCAL = 32, FIRST = -1, PREVIOUS = -2, SELF = -3, UNIFORM = -4 };

struct term { double weight; int place; };
struct branch {
    char name[NAME], method[NAME], schedule[NAME];
    double keep;
    char map[MAX_L][MAX_G][MAX_TOK];
    float score[MAX_L][MAX_G][MAX_TOK], kl[MAX_STEP], lost[MAX_STEP][MAX_L][MAX_G], rest[MAX_STEP][MAX_L][MAX_G];
    uint64_t bytes[MAX_STEP];
    bool ranks;
    int diverged;
};
struct hand {
    int L, H, G, n, n_context, n_steps, n_spans, n_branches;
    bool has_heads, has_lost;
    char text[MAX_TOK * 16], word[MAX_TOK][16];
    int32_t id[MAX_TOK], start[MAX_TOK], end[MAX_TOK];
    char span_name[MAX_SPAN][NAME], span_kind[MAX_SPAN][NAME];
    struct kvt_plan_span span[MAX_SPAN];
    struct term term[MAX_L][MAX_H][MAX_TERM];
    struct branch branch[MAX_BRANCH]; /* 0 is full */
};

/* ---- reading ---- */

static char *word(char **at) { return strtok_r(NULL, " \t\n", at); }

static void name_of(char *out, const char *w)
{
    snprintf(out, NAME, "%s", w ? w : "");
    for (char *c = out; *c; c++)
        *c = *c == '_' ? ' ' : *c;
}

/* 0.5 or 3/8; NaN where it is neither. */
static double number(const char *w)
{
    char *end;
    double v = w ? strtod(w, &end) : NAN;
    if (w && *end == '/')
        v /= strtod(end + 1, &end);
    return w && end > w && !*end ? v : (double)NAN;
}

/* An integer in [0, below); -1 where it is none. */
static int index_of(const char *w, int below)
{
    double v = number(w);
    return v >= 0 && v < below && v == floor(v) ? (int)v : -1;
}

static bool read_tokens(struct hand *t, char **at)
{
    for (char *w; (w = word(at));) {
        size_t bytes = strlen(t->text);
        if (t->n == MAX_TOK || strlen(w) > sizeof t->word[0] - 2)
            return false;
        snprintf(t->word[t->n], sizeof t->word[0], "%s ", w);
        memcpy(t->text + bytes, t->word[t->n], strlen(w) + 2);
        t->id[t->n] = t->n;
        t->start[t->n] = (int32_t)bytes;
        t->end[t->n] = (int32_t)(bytes + strlen(w) + 1);
        t->n++;
    }
    return true;
}

static bool read_span(struct hand *t, char **at)
{
    int i = t->n_spans;
    if (i == MAX_SPAN)
        return false;
    name_of(t->span_name[i], word(at));
    name_of(t->span_kind[i], word(at));
    char *parent = word(at);
    int up = parent && strcmp(parent, "-") ? index_of(parent, i) : -1, from = index_of(word(at), t->n), to = index_of(word(at), t->n + 1);
    if (from < 0 || to <= from)
        return false;
    t->span[i] = (struct kvt_plan_span){t->span_name[i], t->span_kind[i], up, from, to, t->start[from], t->end[to - 1]};
    t->n_spans++;
    return true;
}

static bool read_head(struct hand *t, char **at)
{
    int l = index_of(word(at), t->L), h = index_of(word(at), t->H), n = 0;
    if (l < 0 || h < 0)
        return false;
    double sum = 0;
    for (char *w; (w = word(at)); n++) {
        char *place = word(at);
        if (n == MAX_TERM || !place)
            return false;
        struct term *e = &t->term[l][h][n];
        e->weight = number(w);
        e->place = !strcmp(place, "first") ? FIRST : !strcmp(place, "previous") ? PREVIOUS : !strcmp(place, "self") ? SELF :
                   !strcmp(place, "uniform") ? UNIFORM : index_of(place, t->n);
        sum += e->weight;
        if (e->place == -1 && strcmp(place, "first"))
            return false;
    }
    t->has_heads = true;
    return fabs(sum - 1) < 1e-12;
}

static bool read_branch(struct hand *t, char **at)
{
    if (t->n_branches == MAX_BRANCH)
        return false;
    struct branch *b = &t->branch[t->n_branches++];
    name_of(b->name, word(at));
    name_of(b->method, word(at));
    b->keep = number(word(at));
    name_of(b->schedule, word(at));
    for (int l = 0; l < MAX_L; l++)
        for (int g = 0; g < MAX_G; g++)
            memset(b->map[l][g], '#', MAX_TOK);
    return b->keep > 0 && *b->schedule;
}

static bool read_cell(struct hand *t, struct branch *b, bool map, char **at)
{
    int l = index_of(word(at), t->L), n = 0;
    char *w = word(at);
    bool all = w && !strcmp(w, "*");
    int g = all ? 0 : index_of(w, t->G);
    if (l < 0 || g < 0)
        return false;
    while ((w = word(at))) {
        if (!map) {
            if (n == t->n_context)
                return false;
            b->score[l][g][n++] = (float)number(w);
            b->ranks = true;
            continue;
        }
        for (; *w; w++)
            if (*w != '|') {
                if (n == t->n_context || !strchr("#.PW123456789", *w))
                    return false;
                b->map[l][g][n++] = *w;
            }
    }
    for (int k = 0; all && k < t->G; k++) {
        memcpy(b->map[l][k], b->map[l][0], MAX_TOK);
        memcpy(b->score[l][k], b->score[l][0], sizeof b->score[l][0]);
    }
    return n == t->n_context;
}

static bool read_series(struct hand *t, struct branch *b, bool kl, char **at)
{
    for (int k = 0; k < t->n_steps; k++) {
        double v = number(word(at));
        if (isnan(v))
            return false;
        if (kl)
            b->kl[k] = (float)v;
        else
            b->bytes[k] = (uint64_t)v;
    }
    return !word(at);
}

static bool read_lost(struct hand *t, struct branch *b, char **at)
{
    int k = index_of(word(at), t->n_steps + 1) - 1, l = index_of(word(at), t->L), g = index_of(word(at), t->G);
    if (k < 0 || l < 0 || g < 0)
        return false;
    b->lost[k][l][g] = (float)number(word(at));
    b->rest[k][l][g] = (float)number(word(at));
    t->has_lost = true;
    return !isnan(b->rest[k][l][g]);
}

static bool read_line(struct hand *t, char *line)
{
    char *at, *what = strtok_r(line, " \t\n", &at);
    struct branch *b = &t->branch[t->n_branches ? t->n_branches - 1 : 0];
    if (!what || *what == '#')
        return true;
    if (!strcmp(what, "shape")) {
        t->L = index_of(word(&at), MAX_L + 1);
        t->H = index_of(word(&at), MAX_H + 1);
        t->G = index_of(word(&at), MAX_G + 1);
        return t->L > 0 && t->H > 0 && t->G > 0 && t->H % t->G == 0;
    }
    return !strcmp(what, "tokens") ? read_tokens(t, &at) :
           !strcmp(what, "context") ? (t->n_context = index_of(word(&at), t->n + 1)) > 0 :
           !strcmp(what, "steps") ? (t->n_steps = index_of(word(&at), MAX_STEP + 1)) >= 0 :
           !strcmp(what, "span") ? read_span(t, &at) :
           !strcmp(what, "head") ? read_head(t, &at) :
           !strcmp(what, "branch") ? read_branch(t, &at) :
           !strcmp(what, "kept") ? read_cell(t, b, true, &at) :
           !strcmp(what, "score") ? read_cell(t, b, false, &at) :
           !strcmp(what, "kl") ? read_series(t, b, true, &at) :
           !strcmp(what, "bytes") ? read_series(t, b, false, &at) :
           !strcmp(what, "lost") ? read_lost(t, b, &at) :
           !strcmp(what, "diverged") ? (b->diverged = index_of(word(&at), t->n_steps + 1)) >= 0 : false;
}

static int read_hand(struct hand *t, const char *path, struct kvt_err *err)
{
    char line[2048], full[] = "branch full full 1 prefill";
    FILE *f = fopen(path, "r");
    if (!f)
        return kvt_fail(err, KVT_EIO, "%s: cannot be read", path);
    int rc = 0;
    read_line(t, full);
    for (int i = 1; !rc && fgets(line, sizeof line, f); i++)
        if (!read_line(t, line))
            rc = kvt_fail(err, KVT_EINPUT, "%s:%d: not a line of a hand-drawn trace (tests/support/handtrace.h)", path, i);
    fclose(f);
    return rc || t->n_context ? rc : kvt_fail(err, KVT_EINPUT, "%s: shape, tokens and context are missing", path);
}

/* ---- telling ---- */

static void row_of(const struct term *e, int i, double *a)
{
    memset(a, 0, MAX_TOK * sizeof *a);
    for (int k = 0; k < MAX_TERM && e[k].weight > 0; k++) {
        int j = e[k].place == FIRST ? 0 : e[k].place == PREVIOUS ? i - 1 : e[k].place;
        if (e[k].place == UNIFORM)
            for (j = 0; j <= i; j++)
                a[j] += e[k].weight / (i + 1);
        else
            a[j >= 0 && j <= i ? j : i] += e[k].weight;
    }
}

/* All that one layer's rows add up to (include/kvt/probe.h), for query head h, at each array's place of that head. */
struct sums {
    float mass[MAX_H * MAX_TOK], wmass[MAX_H * MAX_TOK], last[MAX_H * MAX_TOK], entropy[MAX_H * MAX_TOK], sink[MAX_H * MAX_TOK],
        visible[MAX_H * MAX_TOK], square[MAX_H * MAX_TOK], max[MAX_H * MAX_TOK], keys[MAX_H * MAX_TOK], local[MAX_H * MAX_TOK],
        distance[MAX_H * MAX_TOK], spans[MAX_H * MAX_SPAN * MAX_SPAN];
};

static void add_head(const struct hand *t, int l, int h, struct sums *s)
{
    double mass[MAX_TOK] = {0}, wmass[MAX_TOK] = {0}, square[MAX_TOK] = {0}, max[MAX_TOK] = {0}, far[MAX_TOK] = {0}, spans[MAX_SPAN][MAX_SPAN] = {{0}}, a[MAX_TOK];
    int n = t->n, bins = kvt_distance_bins(n), rows = 0;
    float *entropy = s->entropy + h * n, *sink = s->sink + h * n, *keys = s->keys + h * n, *local = s->local + h * n;
    for (int i = 0; i < n; i++) {
        double e = 0, first = 0, near = 0;
        bool enough = i + 1 >= KVT_FEW_KEYS;
        row_of(t->term[l][h], i, a);
        for (int j = 0; j <= i; j++) {
            mass[j] += a[j];
            wmass[j] += i >= n - 8 ? a[j] : 0;
            square[j] += a[j] * a[j];
            max[j] = a[j] > max[j] ? a[j] : max[j];
            e -= a[j] > 0 ? a[j] * log(a[j]) : 0;
            first += j < N_SINK ? a[j] : 0;
            near += i - j < N_LOCAL ? a[j] : 0;
            for (int d = bins - 1; enough && d >= 0; d--)
                if (i - j >= kvt_distance_start(d)) {
                    far[d] += a[j];
                    break;
                }
        }
        rows += enough;
        entropy[i] = (float)e;
        keys[i] = (float)exp(e);
        sink[i] = (float)first;
        local[i] = (float)near;
        for (int q = 0; q < t->n_spans; q++)
            for (int k = 0; k < t->n_spans && i >= t->span[q].start && i < t->span[q].end; k++)
                for (int j = t->span[k].start; j < t->span[k].end; j++)
                    spans[q][k] += a[j] / (t->span[q].end - t->span[q].start);
    }
    for (int j = 0; j < n; j++) {
        s->mass[h * n + j] = (float)mass[j];
        s->wmass[h * n + j] = (float)wmass[j];
        s->visible[h * n + j] = (float)(mass[j] / (n - j));
        s->square[h * n + j] = (float)square[j];
        s->max[h * n + j] = (float)max[j];
        s->last[h * n + j] = (float)a[j];
    }
    for (int d = 0; d < bins; d++)
        s->distance[h * bins + d] = (float)(far[d] / rows);
    for (int q = 0; q < t->n_spans; q++)
        for (int k = 0; k < t->n_spans; k++)
            s->spans[(h * t->n_spans + q) * t->n_spans + k] = (float)spans[q][k];
}

static int tell_heads(const struct hand *t, const struct kvt_probe *probe)
{
    struct sums *s = calloc(1, sizeof *s);
    int rc = s ? 0 : KVT_ENOMEM;
    for (int l = 0; !rc && l < t->L; l++) {
        for (int h = 0; h < t->H; h++)
            add_head(t, l, h, s);
        struct kvt_event ev = {.kind = KVT_EV_PREFILL_LAYER, .prefill_layer = {
            .layer = l, .n = t->n, .mass = s->mass, .n_windows = 1, .window = {8}, .wmass = {s->wmass}, .last = s->last, .entropy = s->entropy,
            .sink = s->sink, .visible = s->visible, .square = s->square, .max = s->max, .keys = s->keys, .local = s->local,
            .n_distances = kvt_distance_bins(t->n), .n_spans = t->n_spans, .distance = s->distance, .spans = s->spans}};
        rc = probe->see(probe->self, &ev);
    }
    free(s);
    return rc;
}

static int tell_kept(const struct hand *t, int b, struct kvt_trace_writer *w)
{
    const struct kvt_probe *probe = kvt_trace_probe(w);
    const struct branch *br = &t->branch[b];
    int32_t budget[MAX_L * MAX_G], kept[MAX_L * MAX_G];
    int64_t slots = (int64_t)t->L * t->G * t->n_context, sum = 0;
    int rc = 0;
    for (int l = 0; !rc && l < t->L; l++) {
        uint8_t reason[MAX_G * MAX_TOK];
        float score[MAX_G * MAX_TOK], threshold[MAX_G];
        for (int g = 0; g < t->G; g++) {
            int *k = &kept[l * t->G + g];
            budget[l * t->G + g] = (int)(br->keep * t->n_context);
            threshold[g] = INFINITY;
            *k = 0;
            for (int j = 0; j < t->n_context; j++) {
                char c = br->map[l][g][j];
                bool held = c != '.';
                reason[g * t->n_context + j] = b == 0 ? KVT_KEPT_ALL : c == 'P' ? KVT_KEPT_PROTECTED : c == 'W' ? KVT_KEPT_WINDOW :
                                               held ? KVT_KEPT_SCORE : KVT_LEFT_SCORE;
                score[g * t->n_context + j] = br->score[l][g][j];
                if (held && c != 'P' && c != 'W' && br->score[l][g][j] < threshold[g])
                    threshold[g] = br->score[l][g][j];
                *k += held;
            }
            sum += *k;
        }
        int R = br->ranks ? t->G : 0;
        struct kvt_event ev = {.kind = KVT_EV_DECISION, .decision = {b, l, t->n_context, R, R ? score : NULL, R ? threshold : NULL, reason}};
        rc = probe->see(probe->self, &ev);
    }
    struct kvt_event ev = {.kind = KVT_EV_BUDGET, .budget = {b, br->keep, (double)sum / (double)slots, sum, slots, budget, kept, false, "", 0}};
    rc = rc ? rc : probe->see(probe->self, &ev);
    return rc ? rc : kvt_trace_bytes_after(w, b, (uint64_t)sum * 64);
}

static int tell_step(const struct hand *t, int step, struct kvt_trace_writer *w)
{
    const struct kvt_probe *probe = kvt_trace_probe(w);
    int32_t id[MAX_BRANCH];
    float ln[MAX_BRANCH], kl[MAX_BRANCH], e[MAX_BRANCH], lost[MAX_BRANCH * MAX_L * MAX_G], rest[MAX_BRANCH * MAX_L * MAX_G];
    uint64_t bytes[MAX_BRANCH];
    int rc = 0, cells = t->L * t->G;
    for (int b = 0; b < t->n_branches && !rc; b++) {
        const struct branch *br = &t->branch[b];
        id[b] = step;
        ln[b] = -1;
        e[b] = 1;
        kl[b] = br->kl[step - 1];
        bytes[b] = br->bytes[step - 1];
        for (int c = 0; c < cells && !rc; c++) {
            lost[b * cells + c] = br->lost[step - 1][c / t->G][c % t->G];
            rest[b * cells + c] = br->rest[step - 1][c / t->G][c % t->G];
            for (int32_t j = 0; j < t->n_context && !rc; j++)
                if (br->map[c / t->G][c % t->G][j] == '0' + step) {
                    struct kvt_event ev = {.kind = KVT_EV_EVICT, .evict = {b, c / t->G, c % t->G, step, 1, &j}};
                    rc = probe->see(probe->self, &ev);
                }
        }
        rc = rc ? rc : kvt_trace_token(w, b, step, false, step, "x");
    }
    struct kvt_event far = {.kind = KVT_EV_FIDELITY, .fidelity = {.step = step, .n_branch = t->n_branches, .lost_mass = lost, .lost_rest = rest}};
    if (!rc && t->has_lost)
        rc = probe->see(probe->self, &far);
    struct kvt_event ev = {.kind = KVT_EV_STEP, .step = {step, t->n_branches, id, id, ln, kl, e, bytes, bytes, bytes[0], 1000, 0}};
    return rc ? rc : probe->see(probe->self, &ev);
}

static int tell(const struct hand *t, struct kvt_trace_writer *w)
{
    const struct kvt_probe *probe = kvt_trace_probe(w);
    int rc = t->has_heads ? tell_heads(t, probe) : 0;
    for (int b = 0; !rc && b < t->n_branches; b++)
        rc = tell_kept(t, b, w);
    static const enum kvt_phase phases[] = {KVT_PHASE_PREFILL, KVT_PHASE_EVICT, KVT_PHASE_QUESTION};
    for (int i = 0; !rc && i < 3; i++) {
        struct kvt_event ev = {.kind = KVT_EV_PHASE, .phase = {phases[i], i, 1, t->n}};
        rc = probe->see(probe->self, &ev);
    }
    for (int k = 1; !rc && k <= t->n_steps; k++)
        rc = tell_step(t, k, w);
    struct kvt_event ev = {.kind = KVT_EV_PHASE, .phase = {KVT_PHASE_DECODE, 3, 1, t->n_steps}};
    rc = rc ? rc : probe->see(probe->self, &ev);
    for (int b = 0; !rc && b < t->n_branches; b++) {
        double sum = 0, lost[5] = {0, 0, NAN, NAN, NAN};
        int all = t->n_steps * t->L * t->G;
        for (int k = 0; k < t->n_steps; k++) {
            sum += (double)t->branch[b].kl[k] / t->n_steps;
            for (int c = 0; c < t->L * t->G; c++) {
                lost[0] += (double)t->branch[b].lost[k][c / t->G][c % t->G] / all;
                lost[1] += (double)t->branch[b].rest[k][c / t->G][c % t->G] / all;
            }
        }
        rc = kvt_trace_result(w, b, "", t->branch[b].diverged, sum, 1);
        if (!rc && t->has_lost)
            rc = kvt_trace_fidelity(w, b, lost);
    }
    return rc ? rc : kvt_trace_model_sha256(w, "0000000000000000000000000000000000000000000000000000000000000000");
}

static int write_trace(const struct hand *t, const char *path, struct kvt_err *err)
{
    struct kvt_plan_branch plan_of[MAX_BRANCH];
    const char *tokens[MAX_TOK];
    int32_t ranges[MAX_SPAN * 2];
    struct kvt_trace_writer *w = NULL;
    for (int b = 0; b < t->n_branches; b++) {
        const struct branch *br = &t->branch[b];
        plan_of[b] = (struct kvt_plan_branch){br->name, br->method, br->method, br->keep, (int)(br->keep * t->n_context), br->schedule, false, "", NULL};
    }
    for (int i = 0; i < t->n; i++)
        tokens[i] = t->word[i];
    for (int i = 0; i < t->n_spans; i++) {
        ranges[2 * i] = t->span[i].start;
        ranges[2 * i + 1] = t->span[i].end;
    }
    bool see = t->has_heads;
    struct kvt_wants wants = {.scores = see, .n_sink = N_SINK, .visible = see, .square = see, .max = see, .keys = see, .local = see, .n_local = N_LOCAL,
                              .distance = see, .span = ranges, .n_spans = see ? t->n_spans : 0, .decisions = true};
    struct kvt_trace_plan plan = {
        .path = path, .force = true, .prompt_id = "0", .L = t->L, .H = t->H, .G = t->G, .D = 16, .V = 100, .model_name = "by hand",
        .model_arch = "llama", .model_path = "none", .model_type = "F32", .config_sha256 = "", .tokenizer_kind = "words", .model_bytes = 1,
        .text = t->text, .text_bytes = strlen(t->text), .n_prompt = t->n, .n_context = t->n_context, .token_id = t->id, .token_start = t->start,
        .token_end = t->end, .token_text = tokens, .longest_token = 16, .span = t->span, .n_spans = t->n_spans, .branch = plan_of,
        .n_branches = t->n_branches, .n_new = t->n_steps, .wants = &wants, .lost_mass = t->has_lost, .n_windows = see, .window = {8},
        .protocol = "visible", .decode = "forced", .compute = "f32", .kv_type = "f16", .rope = "plain", .windows = "none", .backend = "none",
        .device = "none", .command_line = "handtrace", .threads = 1};
    int rc = kvt_trace_create(&w, &plan, err);
    if (rc)
        return rc;
    int told = tell(t, w);
    rc = kvt_trace_finish(&w, told, 0, err);
    return rc ? rc : told;
}

int kvt_handtrace(const char *text_path, const char *trace_path, struct kvt_err *err)
{
    struct hand *t = kvt_calloc(1, sizeof *t);
    if (!t)
        return kvt_fail(err, KVT_ENOMEM, "no memory for a trace drawn by hand");
    int rc = read_hand(t, text_path, err);
    rc = rc ? rc : write_trace(t, trace_path, err);
    free(t);
    return rc;
}

/* Every reader over one file. Each must come back with 0 or with one line that says why not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/analyzer.h"
#include "analyzers/coherence.h"
#include "analyzers/damage.h"
#include "analyzers/overlap.h"
#include "analyzers/patterns.h"
#include "analyzers/rank.h"
#include "analyzers/tokenview.h"
#include "base/mem.h"
#include "hostile.h"
#include "tracer/score_file.h"
#include "tracer/trace_check.h"
#include "tracer/trace_export.h"
#include "tracer/trace_repair.h"

struct judge { int wrong; FILE *nowhere; };

/* What a reader said. No memory is wrong too: no file of a few hundred kilobytes needs more than there is. */
static int hear(struct judge *j, const char *what, int rc, const struct kvt_err *err)
{
    const char *why = !rc ? NULL : rc == KVT_ENOMEM ? "no memory" : rc != err->code ? "its code isn't the message's" : !*err->text ? "no word" :
                      strchr(err->text, '\n') ? "more than a line" : NULL;
    for (const unsigned char *c = (const unsigned char *)err->text; rc && !why && *c; c++)
        if (*c < 0x20 || *c == 0x7f)
            why = "control characters";
    if (why) {
        j->wrong = 1;
        printf("  %s: %d, %s: %.200s\n", what, rc, why, rc ? err->text : "");
    }
    return rc;
}

static void heard(void *arg, const char *where, const char *what)
{
    struct judge *j = arg;
    if (!*where || !*what || strchr(where, '\n') || strchr(what, '\n')) {
        j->wrong = 1;
        printf("  --check said nothing, or more than a line\n");
    }
}

static void walked(void *arg, const char *path, uint64_t stored, uint64_t logical, const char *unit, const char *meaning)
{
    fprintf(arg, "%s %llu %llu %s %s", path, (unsigned long long)stored, (unsigned long long)logical, unit, meaning);
}

static void read_arrays(struct judge *j, struct kvt_trace *t)
{
    static const char *const raw[] = {"mass", "wmass", "last", "entropy", "sink", "visible", "square", "max", "keys", "local"};
    static const char *const series[] = {"kl", "logprob", "entropy"}, *const fidelity[] = {"lost_mass", "lost_rest", "output_local", "output_propagated"};
    const struct kvt_trace_info *in = kvt_trace_info(t);
    size_t H = (size_t)in->H, n = (size_t)in->n_prompt, S = (size_t)in->n_map_spans, steps = (size_t)in->n_steps, bins = (size_t)in->n_distances + (size_t)in->n_offsets;
    size_t most = H * n * (1 + (size_t)in->top_k) + H * (bins + S * S) + (size_t)in->map_r * (size_t)in->map_c + n * n + H * ((size_t)in->n_tok + 1) +
                  steps * (size_t)in->L * (1 + (size_t)in->G) + (size_t)in->G * (size_t)in->n_context + 1;
    if (most > (size_t)1 << 28) /* more than such a file should lead to; the readers themselves are judged by the limit on memory */
        return;
    float *v = kvt_calloc(most, sizeof *v);
    int32_t *at = kvt_calloc(most, sizeof *at);
    int64_t *bytes = kvt_calloc(steps + 1, sizeof *bytes);
    char text[64];
    struct kvt_err err = {0};
    for (size_t i = 0; v && at && bytes && i < sizeof raw / sizeof *raw; i++)
        hear(j, raw[i], kvt_trace_raw(t, raw[i], 0, in->L - 1, v, &err), &err);
    hear(j, "distance", kvt_trace_distance(t, 0, v, &err), &err);
    hear(j, "offset", kvt_trace_offset(t, 0, v, &err), &err);
    hear(j, "spans", kvt_trace_spans(t, 0, v, &err), &err);
    hear(j, "top", kvt_trace_top(t, 0, v, at, &err), &err);
    hear(j, "map", kvt_trace_map(t, "mean", 0, in->H - 1, v, &err), &err);
    hear(j, "map", kvt_trace_map(t, "max", 0, 0, v, &err), &err);
    for (int l = 0; l < in->L; l++)
        hear(j, "full", kvt_trace_full(t, l, 0, v, &err), &err);
    hear(j, "decode row", kvt_trace_decode_row(t, 1, 0, v, &err), &err);
    for (int b = 0; b < in->n_branches && b < 5; b++) {
        for (size_t i = 0; i < 3; i++)
            hear(j, series[i], kvt_trace_series(t, b, series[i], v, &err), &err);
        for (size_t i = 0; i < 4; i++)
            hear(j, fidelity[i], kvt_trace_fidelity_of(t, b, fidelity[i], v, &err), &err);
        hear(j, "alone", kvt_trace_bytes(t, b, "alone", bytes, &err), &err);
        hear(j, "forced", kvt_trace_tokens(t, b, "forced", at, &err), &err);
        hear(j, "text", kvt_trace_token_text(t, b, "free", 1, text, sizeof text, &err), &err);
        hear(j, "score of a layer", kvt_trace_score_layer(t, b, in->L - 1, v, &err), &err);
    }
    free(v);
    free(at);
    free(bytes);
}

static void analyze(struct judge *j, struct kvt_trace *t)
{
    const struct kvt_trace_info *in = kvt_trace_info(t);
    struct kvt_err err = {0};
    struct kvt_shot *shot = NULL;
    struct kvt_sink *sink = NULL;
    struct kvt_held held[3] = {{0}};
    int S = 0, count = 0, *branch = NULL, n = 0;
    struct kvt_head *head = kvt_calloc((size_t)in->H, sizeof *head);
    if (head)
        hear(j, "heads", kvt_heads_of(t, 0, head, &err), &err);
    hear(j, "sinks", kvt_sinks_of(t, 0.3, &sink, &count, &err), &err);
    hear(j, "shots", kvt_shots(in, &shot, &S, &err), &err);
    hear(j, "branches", kvt_pick_branches(in, NULL, &branch, &n, &err), &err);
    hear(j, "budgets", kvt_pick_budget(in, NULL, branch, &n, &err), &err);
    n = n < 3 ? n : 3;
    int rc = 0;
    for (int i = 0; i < n && !rc; i++)
        rc = hear(j, "held", kvt_held_load(t, branch[i], i ? in->n_steps : 0, NULL, &held[i], &err), &err);
    for (int i = 0; i < n && !rc; i++) {
        struct kvt_coherence_result c;
        struct kvt_damage d;
        struct kvt_agreement a;
        struct kvt_overlap o;
        struct kvt_rng rng;
        double gain[8];
        kvt_rng_seed(&rng, 1);
        if (S) {
            hear(j, "coherence", kvt_coherence_of(&held[i], in, shot, S, 0, held[i].L, 0.5, 8, &rng, &c, NULL, &err), &err);
            hear(j, "damage", kvt_damage_of(&held[i], in, shot, S, 0.5, &d, &err), &err);
            hear(j, "agreement", kvt_agreement_of(&held[i], shot, S, &a, &err), &err);
        }
        kvt_overlap_of(&held[0], &held[i], 0, held[0].L, &o);
        hear(j, "shifts", kvt_overlap_shifts(&held[0], &held[i], 0, held[0].L, 8, &rng, gain, &err), &err);
    }
    if (n && !rc && in->n_context) {
        uint8_t *keeps = kvt_calloc((size_t)in->n_context, 1);
        struct kvt_tokenview v = {.info = in, .n_methods = 1, .name = (const char *const[]){"a"}, .letter = "a", .keeps = keeps, .width = 80, .tracks = true};
        if (keeps)
            hear(j, "the prompt", kvt_tokenview_print(&v, j->nowhere, &err), &err);
        free(keeps);
    }
    for (int i = 0; i < 3; i++)
        kvt_held_free(&held[i]);
    free(branch);
    free(shot);
    free(sink);
    free(head);
}

int hostile_copy(const char *from, const char *to)
{
    char buf[1 << 14];
    size_t n;
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    while (in && out && (n = fread(buf, 1, sizeof buf, in)) > 0)
        fwrite(buf, 1, n, out);
    int rc = !in || !out;
    if (in)
        fclose(in);
    return (out && fclose(out)) || rc;
}

int hostile_read(const char *path, const char *scratch)
{
    struct judge j = {.nowhere = fopen("/dev/null", "w")};
    struct kvt_err err = {0};
    struct kvt_trace *t;
    int problems = 0;
    if (!j.nowhere)
        return 1;
    hear(&j, "check", kvt_trace_check(path, NULL, heard, &j, &problems, &err), &err);
    if (!hear(&j, "open", kvt_trace_open(&t, path, NULL, &err), &err)) {
        static const char *const names[] = {"tokens/text", "score/mass", "branches/01/evicted_at", "full/attention", "spans/kind", "steps/kl", "layer"};
        read_arrays(&j, t);
        analyze(&j, t);
        hear(&j, "walk", kvt_trace_walk(t, walked, j.nowhere, &err), &err);
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            hear(&j, names[i], kvt_trace_export(t, names[i], (enum kvt_export_as)(i % 3), j.nowhere, &err), &err);
        hear(&j, "timeline", kvt_trace_timeline(t, j.nowhere, &err), &err);
        kvt_trace_close(&t);
    }
    float *scores = NULL;
    int T;
    hear(&j, "a file of scores", kvt_score_file_read(&scores, &T, path, 2, 2, 64, &err), &err);
    free(scores);
    if (!hostile_copy(path, scratch))
        hear(&j, "repair", kvt_trace_repair(scratch, &err), &err);
    fclose(j.nowhere);
    return j.wrong;
}

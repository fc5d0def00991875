/* The path from a trace to an analyzer's numbers, on a made-up trace with known sets. Would catch: branches picked by the
 * wrong name or budget, layers mixed up, a history read at the wrong step, protected tokens lost on the way. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/analyzer.h"
#include "analyzers/coherence.h"
#include "analyzers/overlap.h"
#include "analyzers/tokenview.h"
#include "mktrace.h"

static char path[64];
static struct kvt_trace *trace;
static const struct kvt_trace_info *info;

static void open_trace(void)
{
    snprintf(path, sizeof path, "/tmp/kvt_analyzer_%d.h5", (int)getpid());
    struct kvt_err err = {0};
    cr_assert_eq(mktrace(&(struct mktrace_opts){.path = path, .force = true}, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_trace_open(&trace, path, NULL, &err), 0, "%s", err.text);
    info = kvt_trace_info(trace);
}

static void close_trace(void)
{
    kvt_trace_close(&trace);
    unlink(path);
}

TestSuite(analyzer, .init = open_trace, .fini = close_trace);

static int branch(const char *name)
{
    for (int b = 0; b < info->n_branches; b++)
        if (!strcmp(info->branch[b].name, name))
            return b;
    return -1;
}

Test(analyzer, branches_by_name_method_and_number)
{
    int *list, n;
    struct kvt_err err = {0};
    cr_assert_eq(kvt_pick_branches(info, NULL, &list, &n, &err), 0);
    cr_assert_eq(n, info->n_branches - 1); /* all but full */
    free(list);
    cr_assert_eq(kvt_pick_branches(info, "shotkv 25%,snapkv,0,snapkv 25%", &list, &n, &err), 0, "%s", err.text);
    cr_assert_eq(n, 4); /* snapkv 25% once */
    cr_assert_eq(list[0], branch("shotkv 25%"));
    cr_assert_eq(list[3], 0);
    free(list);
    cr_assert_eq(kvt_pick_branches(info, "snapvk", &list, &n, &err), KVT_EINPUT);
    cr_assert(strstr(err.text, "did you mean snapkv"), "%s", err.text);
    cr_assert_eq(kvt_pick_branches(info, "99", &list, &n, &err), KVT_EINPUT);
}

Test(analyzer, budgets)
{
    int *list, n;
    struct kvt_err err = {0};
    cr_assert_eq(kvt_pick_branches(info, NULL, &list, &n, &err), 0);
    cr_assert_eq(kvt_pick_budget(info, "50%", list, &n, &err), 0);
    cr_assert_eq(n, 1);
    cr_assert_eq(kvt_pick_budget(info, "33%", list, &n, &err), KVT_EINPUT);
    cr_assert(strstr(err.text, "50%"), "%s", err.text);
    cr_assert_eq(kvt_pick_budget(info, "abc", list, &n, &err), KVT_EUSAGE);
    cr_assert_eq(kvt_pick_budget(info, "0", list, &n, &err), KVT_EUSAGE);
    free(list);
    cr_assert_eq(kvt_pick_branches(info, NULL, &list, &n, &err), 0);
    cr_assert_eq(kvt_pick_budget(info, NULL, list, &n, &err), 0);
    cr_assert_eq(n, 5); /* the budget that most branches have */
    char buf[32];
    cr_assert_str_eq(kvt_budget_text(&info->branch[list[0]], buf, sizeof buf), "25%");
    free(list);
    cr_assert_eq(kvt_check_step(info, info->n_steps, &err), 0);
    cr_assert_eq(kvt_check_step(info, info->n_steps + 1, &err), KVT_EINPUT);
}

Test(analyzer, sets_of_chosen_layers_and_steps)
{
    struct kvt_held h;
    uint8_t layer[4] = {0, 1, 0, 1};
    struct kvt_err err = {0};
    cr_assert_eq(kvt_held_load(trace, branch("shotkv 25%"), 0, layer, &h, &err), 0, "%s", err.text);
    cr_assert_eq(h.L, 2);
    for (int k = 0; k < 2; k++)
        for (int g = 0; g < h.G; g++)
            for (int t = 0; t < h.n; t++)
                cr_assert_eq(h.kept[(k * h.G + g) * h.n + t], mktrace_shotkv_keeps(2 * k + 1, t));
    cr_assert(h.shared[0] && h.shared[1]);
    kvt_held_free(&h);
    int kept[2] = {0};
    for (int i = 0; i < 2; i++) { /* h2o loses one token a step in each cell */
        cr_assert_eq(kvt_held_load(trace, branch("h2o 25%"), i ? info->n_steps : 0, NULL, &h, &err), 0);
        for (int k = 0; k < h.L * h.G * h.n; k++)
            kept[i] += h.kept[k];
        kvt_held_free(&h);
    }
    cr_assert_lt(kept[1], kept[0]);
}

Test(analyzer, whole_shots_are_coherent_and_streaming_has_no_say)
{
    struct kvt_held shot, stream, snap;
    struct kvt_coherence_result c;
    struct kvt_overlap o;
    struct kvt_shot *shots;
    struct kvt_rng rng;
    int S;
    kvt_rng_seed(&rng, 1);
    cr_assert_eq(kvt_held_load(trace, branch("shotkv 25%"), 0, NULL, &shot, NULL), 0);
    cr_assert_eq(kvt_held_load(trace, branch("streaming 25%"), 0, NULL, &stream, NULL), 0);
    cr_assert_eq(kvt_held_load(trace, branch("snapkv 25%"), 0, NULL, &snap, NULL), 0);
    cr_assert_eq(kvt_shots(info, &shots, &S, NULL), 0);
    cr_assert_eq(S, 8);
    cr_assert_eq(kvt_coherence_of(&shot, info, shots, S, 0, shot.L, 0.5, 100, &rng, &c, NULL, NULL), 0);
    cr_assert_float_eq(c.adjusted, 1, 1e-12);
    cr_assert_float_eq(c.whole_rate, 1, 1e-12);
    kvt_overlap_of(&snap, &stream, 0, snap.L, &o);
    cr_assert_eq(o.left_out, o.cells); /* it keeps nothing but what it protects */
    cr_assert(isnan(kvt_overlap_jaccard(&o)) && !isnan(kvt_overlap_all_jaccard(&o)));
    kvt_overlap_of(&snap, &snap, 0, snap.L, &o);
    cr_assert_float_eq(kvt_overlap_jaccard(&o), 1, 1e-12);
    kvt_held_free(&shot);
    kvt_held_free(&stream);
    kvt_held_free(&snap);
    free(shots);
}

static char *shown(const struct kvt_tokenview *v)
{
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    cr_assert_eq(kvt_tokenview_print(v, f, NULL), 0);
    fclose(f);
    return text;
}

Test(analyzer, the_prompt_is_shown_whole)
{
    uint8_t *keeps = calloc((size_t)info->n_context, 2);
    for (int t = 0; t < info->n_context; t++) {
        keeps[t] = mktrace_streaming_keeps(t, info->n_context);
        keeps[info->n_context + t] = 1;
    }
    const char *name[] = {"streaming", "snapkv"};
    char letter[2];
    kvt_tokenview_letters(name, 2, letter);
    cr_assert(letter[0] == 'S' && letter[1] == 'N');
    struct kvt_tokenview v = {.info = info, .n_methods = 2, .name = name, .letter = letter, .keeps = keeps, .width = 60};
    char *plain = shown(&v);
    cr_assert(strstr(plain, "Add the numbers.") && strstr(plain, "\n22222222"), "%s", plain);
    cr_assert(strstr(plain, "shot 8") && strstr(plain, "fed again"));
    cr_assert_null(strchr(plain, '\033'));
    v.colour = KVT_COLOUR_256;
    char *colour = shown(&v);
    /* without its escapes the coloured text has every character of the prompt */
    char *w = colour;
    for (char *p = colour; *p; p++) {
        if (*p == '\033')
            p += strcspn(p, "m");
        else if ((unsigned char)*p != 0xe2 || strncmp(p, "\xe2\x86\xb5\n", 4))
            *w++ = *p;
        else
            p += 2; /* the sign before a line end */
    }
    *w = 0;
    char line[64];
    snprintf(line, sizeof line, "%.*s", (int)strcspn(strstr(info->text, "Question"), "\n"), strstr(info->text, "Question"));
    cr_assert(strstr(colour, line), "%s", colour);
    free(plain);
    free(colour);
    free(keeps);
}

/* What a damaged file may say: a part of a shot beyond the context would be looked up outside the kept sets, and a token's
 * text would send its control codes to the terminal. */
Test(analyzer, odd_spans_and_token_texts_do_no_harm)
{
    struct kvt_trace_span *span = calloc((size_t)info->n_spans, sizeof *span);
    const char **text = calloc((size_t)info->n_prompt, sizeof *text);
    int32_t *start = calloc((size_t)info->n_prompt, sizeof *start), *end = calloc((size_t)info->n_prompt, sizeof *end);
    memcpy(span, info->span, (size_t)info->n_spans * sizeof *span);
    int moved = 0;
    for (int i = 0; i < info->n_spans; i++)
        if (span[i].parent >= 0 && !strcmp(span[i].kind, "answer")) {
            span[i].end = info->n_prompt; /* inside the prompt, so the reader lets it pass */
            moved++;
        }
    for (int t = 0; t < info->n_prompt; t++) {
        text[t] = t ? info->token_text[t] : "<\x1b[31m\xc2\x9bs>";
        start[t] = t ? info->token_start[t] : 0;
        end[t] = t ? info->token_end[t] : 0;
    }
    struct kvt_trace_info odd = *info;
    odd.span = span;
    odd.token_text = text;
    odd.token_start = start;
    odd.token_end = end;
    struct kvt_err err = {0};
    struct kvt_shot *shot;
    int n;
    cr_assert_eq(kvt_shots(&odd, &shot, &n, &err), 0);
    cr_assert(n == 8 && moved == 8, "%d shots, %d answers", n, moved);
    for (int i = 0; i < n; i++)
        cr_assert(shot[i].question >= 0 && shot[i].answer < 0);
    uint8_t *keeps = calloc((size_t)info->n_context, 1);
    struct kvt_tokenview v = {.info = &odd, .n_methods = 1, .name = (const char *const[]){"h2o"}, .letter = (char[]){'H'}, .keeps = keeps, .width = 60};
    char *plain = shown(&v);
    cr_assert(strstr(plain, "[31m"), "%s", plain);
    cr_assert(!strchr(plain, '\033') && !strstr(plain, "\xc2\x9b"), "%s", plain);
    free(plain);
    free(keeps);
    free(shot);
    free(span);
    free(text);
    free(start);
    free(end);
}

/* Would catch: a layer outside of the list that gets its window, an end of a range that doesn't. */
Test(analyzer, windows_of_layers)
{
    static const struct { const char *text; int layer, tok; } c[] = {
        {"none", 0, 0}, {"17 tokens in layers 0-4,6; left alone", 0, 17}, {"17 tokens in layers 0-4,6; left alone", 4, 17}, {"17 tokens in layers 0-4,6; left alone", 5, 0},
        {"17 tokens in layers 0-4,6; left alone", 6, 17}, {"4096 tokens in layers 1; longer than the run", 1, 4096}, {"4096 tokens in layers 1; longer than the run", 0, 0},
        {"5 tokens in layers", 0, 0}, {"x", 0, 0}, {"5 tokens in layers -", 0, 0}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct kvt_trace_info with = *info;
        with.windows = c[i].text;
        cr_expect_eq(kvt_window_of(&with, c[i].layer), c[i].tok, "'%s', layer %d: %d", c[i].text, c[i].layer, kvt_window_of(&with, c[i].layer));
    }
}

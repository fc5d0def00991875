/* kvreport: tables. Their columns are those of the tools that print them alone, so that numbers can be compared word for word. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/kvreport.h"
#include "base/html.h"
#include "kvt/probe.h" /* KVT_FEW_KEYS */

#define COLS(c) c, (int)(sizeof c / sizeof *c)

static int end_table(struct kvreport *r, struct kvt_table **t, const char *caption, struct kvt_err *err)
{
    fputs("<div class=\"wide\">", r->html);
    int rc = kvt_table_html(*t, r->html, caption, err);
    fputs("</div>\n", r->html);
    kvt_table_free(t);
    return rc;
}

static void put_bytes(struct kvt_table *t, double v)
{
    if (isnan(v) || v < 0)
        kvt_put_none(t);
    else
        kvt_put_int(t, (int64_t)v);
}

/* ---- methods ---- */

/* Of the slots held at prefill's end, the share that a rule keeps. */
static double by_rule(const struct kvreport_branch *one)
{
    int64_t held = 0, guarded = 0;
    for (int j = 0; j < one->fate.n; j++) {
        held += one->fate.cells[j];
        guarded += one->fate.guarded[j];
    }
    return held ? (double)guarded / (double)held : NAN;
}

static void put_method(struct kvt_table *t, const struct kvt_trace_branch *b, const char *name, const struct kvreport_branch *one, bool lost)
{
    char budget[32];
    kvt_put_text(t, name);
    kvt_put_text(t, one ? kvt_budget_text(b, budget, sizeof budget) : NULL);
    kvt_put_real(t, b->effective_keep);
    kvt_put_real(t, one ? by_rule(one) : (double)NAN);
    put_bytes(t, (double)b->bytes_after);
    put_bytes(t, (double)b->bytes_last);
    put_bytes(t, b->bytes_mean);
    put_bytes(t, (double)b->bytes_peak);
    kvt_put_real(t, b->mean_kl);
    kvt_put_real(t, b->top1);
    if (b->diverged > 0)
        kvt_put_int(t, b->diverged);
    else
        kvt_put_none(t);
    if (!lost)
        return;
    kvt_put_real(t, one ? one->lost : (double)NAN);
    kvt_put_real(t, one ? one->lost_rest : (double)NAN);
}

int kvreport_methods(struct kvreport *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "method", .kind = KVT_COL_TEXT}, {.name = "asked", .kind = KVT_COL_TEXT},
        {.name = "effective_keep", .title = "kept", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "by_rule", .title = "by rule", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "kv_bytes_after", .title = "KV after", .unit = "bytes", .kind = KVT_COL_BYTES},
        {.name = "kv_bytes_last", .title = "KV last", .unit = "bytes", .kind = KVT_COL_BYTES},
        {.name = "kv_bytes_mean", .title = "KV mean", .unit = "bytes", .kind = KVT_COL_BYTES},
        {.name = "kv_bytes_peak", .title = "KV peak", .unit = "bytes", .kind = KVT_COL_BYTES},
        {.name = "mean_kl", .title = "KL", .unit = "nats", .kind = KVT_COL_REAL, .digits = 4},
        {.name = "top1", .title = "top-1", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "diverged_step", .title = "differs at", .unit = "step", .kind = KVT_COL_INT},
        {.name = "lost_mass", .title = "lost", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "lost_rest", .title = "no sinks", .kind = KVT_COL_SHARE, .digits = 1},
    };
    bool lost = false;
    for (int i = 0; i < r->n; i++)
        lost |= !isnan(r->one[i].lost);
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col) - (lost ? 0 : 2));
    fputs("<section id=\"methods\">\n<h2>What each method kept, cost and changed</h2>\n", r->html);
    if (!r->info->no_full && r->info->n_branches)
        put_method(t, &r->info->branch[0], r->info->branch[0].name, NULL, lost);
    for (int i = 0; i < r->n; i++)
        put_method(t, r->one[i].in, r->row_name[r->one[i].row], &r->one[i], lost);
    int rc = end_table(r, &t, NULL, err);
    kvreport_say(r->html, "<p class=\"key\"><b>kept</b>: slots really held, of the context; <b>by rule</b>: of these, the share that stays whatever its score "
                          "(sinks, window, protected spans). <b>KV</b>: bytes of keys and values of the branch by itself, after eviction, at the last step, mean over steps, at most. <b>KL</b>: of the branch\xe2\x80\x99s next token from the full cache\xe2\x80\x99s, both having read the same text, mean over steps. "
                          "<b>top-1</b>: steps at which both would say the same. ");
    if (lost)
        kvreport_say(r->html, "<b>lost</b>: the full cache\xe2\x80\x99s attention on slots that the branch has lost; <b>no sinks</b>: without the first %d tokens.</p>\n", r->info->n_sink);
    else
        fputs("Lost attention was not measured; trace with --fidelity lost.</p>\n", r->html);
    return rc;
}

/* ---- overlap ---- */

int kvreport_overlap(struct kvreport *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "a", .kind = KVT_COL_TEXT}, {.name = "b", .kind = KVT_COL_TEXT}, {.name = "budget", .kind = KVT_COL_TEXT},
        {.name = "jaccard", .title = "J", .kind = KVT_COL_REAL, .digits = 3}, {.name = "chance", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "adjusted", .title = "O", .kind = KVT_COL_REAL, .digits = 3}, {.name = "shift_95", .title = "shift 95%", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "p", .kind = KVT_COL_REAL, .digits = 3}, {.name = "jaccard_all", .title = "J all", .kind = KVT_COL_REAL, .digits = 3},
    };
    FILE *f = r->html;
    char budget[32];
    fputs("<section id=\"overlap\">\n<h2>Which tokens the methods agree on</h2>\n", f);
    if (!r->n_pairs) {
        fputs("<p class=\"note\">There are no two methods at one budget; trace again with two (--method snapkv,h2o).</p>\n", f);
        return 0;
    }
    struct kvt_table *t = kvt_table_new(COLS(col));
    for (int i = 0; i < r->n_pairs; i++) {
        const struct kvreport_pair *p = &r->pair[i];
        kvt_put_text(t, r->row_name[r->one[p->a].row]);
        kvt_put_text(t, r->row_name[r->one[p->b].row]);
        kvt_put_text(t, kvreport_budget(r, r->one[p->a].col, budget, sizeof budget));
        kvt_put_real(t, kvt_overlap_jaccard(&p->sum));
        kvt_put_real(t, kvt_overlap_chance(&p->sum));
        kvt_put_real(t, kvt_overlap_adjusted(&p->sum));
        kvt_put_real(t, p->shift_high);
        kvt_put_real(t, p->p);
        kvt_put_real(t, kvt_overlap_all_jaccard(&p->sum));
    }
    int rc = end_table(r, &t, NULL, err);
    fputs("<p class=\"key\">Sets of tokens held at prefill\xe2\x80\x99s end, cell by cell, without what either method protects by rule. <b>J</b>: Jaccard, beside its value by "
          "<b>chance</b>. <b>O</b>: agreement beyond chance, as a share of the most that the sizes allow: 0 is chance, 1 is nested, below 0 they avoid each other. "
          "<b>shift 95%</b>, <b>p</b>: O when one set is moved in a circle. <b>J all</b>: protected tokens too. One prompt: descriptive.</p>\n", f);
    if (!r->shifted && r->o.shifts)
        kvreport_say(f, "<p class=\"note\">The null by shifts is left out: %d tokens x %d layers x %d kv heads x %d pairs would take longer than all else. "
                        "kvoverlap draws it.</p>\n", r->info->n_context, r->info->L, r->info->G, r->n_pairs);
    return rc;
}

/* ---- coherence ---- */

static int put_coherence(struct kvreport *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "method", .kind = KVT_COL_TEXT}, {.name = "budget", .kind = KVT_COL_TEXT}, {.name = "adjusted", .title = "C*", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "shift_mean", .title = "shifted", .kind = KVT_COL_REAL, .digits = 3}, {.name = "shift_95", .title = "95%", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "whole_rate", .title = "whole", .kind = KVT_COL_SHARE, .digits = 1}, {.name = "fragments", .title = "frag", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "fragments_random", .title = "rand.", .kind = KVT_COL_REAL, .digits = 1}, {.name = "gini", .title = "Gini", .kind = KVT_COL_REAL, .digits = 2},
        {.name = "answers_lost", .title = "ans-", .kind = KVT_COL_SHARE, .digits = 1}, {.name = "number_tokens_lost", .title = "num. tok-", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "numbers_cut", .title = "numbers cut", .kind = KVT_COL_SHARE, .digits = 1}, {.name = "sentences_cut", .title = "sent. cut", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "agreement_next", .title = "next layer", .kind = KVT_COL_REAL, .digits = 3}, {.name = "shots_kept", .title = "kept", .kind = KVT_COL_SHARE, .digits = 1},
    };
    struct kvt_table *t = kvt_table_new(COLS(col));
    char budget[32];
    for (int i = 0; i < r->n; i++) {
        const struct kvreport_branch *one = &r->one[i];
        const struct kvt_coherence_result *c = &one->coherence;
        const struct kvt_damage *d = &one->damage;
        kvt_put_text(t, r->row_name[one->row]);
        kvt_put_text(t, kvreport_budget(r, one->col, budget, sizeof budget));
        const double v[] = {c->adjusted, c->null_mean, c->null_high, c->whole_rate, c->fragments, c->fragments_random, c->gini, c->answer_lost,
                            d->number_tokens ? 1 - (double)d->number_held / (double)d->number_tokens : NAN,
                            d->number.parts ? (double)d->number.cut / (double)d->number.parts : NAN,
                            d->sentence.parts ? (double)d->sentence.cut / (double)d->sentence.parts : NAN, one->agreement.next, c->kept};
        for (size_t k = 0; k < sizeof v / sizeof *v; k++)
            kvt_put_real(t, v[k]);
    }
    return end_table(r, &t, NULL, err);
}

static void put_shots(struct kvreport *r)
{
    FILE *f = r->html;
    char budget[32];
    int S = r->S < KVREPORT_MOST_SHOTS ? r->S : KVREPORT_MOST_SHOTS;
    fputs("<h3>Share of each shot that was kept</h3>\n<div class=\"wide\"><table class=\"heat\"><thead><tr><th scope=\"col\">method</th><th scope=\"col\">budget</th>", f);
    for (int s = 0; s < S; s++) {
        const char *name = r->info->span[r->shot[s].span].name;
        kvreport_say(f, "<th scope=\"col\" class=\"n\" title=\"%s, %d tokens\">%s</th>", name, r->shot[s].end - r->shot[s].start, strncmp(name, "shot ", 5) ? name : name + 5);
    }
    fputs("</tr></thead>\n<tbody>\n", f);
    for (int i = 0; i < r->n; i++) {
        kvreport_say(f, "<tr><th scope=\"row\">%s</th><td>%s</td>", r->row_name[r->one[i].row], kvreport_budget(r, r->one[i].col, budget, sizeof budget));
        for (int s = 0; s < S; s++) {
            double share = r->one[i].shot[s];
            int step = share > 0 ? (int)fmin(fmax(ceil(share * KVREPORT_STEPS - 1e-9), 1), KVREPORT_STEPS) : 0;
            kvreport_say(f, "<td class=\"n s%d\">%.0f%%</td>", step, 100 * share);
        }
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
    if (S < r->S)
        kvreport_say(f, "<p class=\"note\">%d more shots are left out; kvcoherence --shots has all.</p>\n", r->S - S);
}

int kvreport_coherence(struct kvreport *r, struct kvt_err *err)
{
    fputs("<section id=\"coherence\">\n<h2>How whole the shots are</h2>\n", r->html);
    if (!r->S || !r->n) {
        kvreport_say(r->html, "<p class=\"note\">%s</p>\n", r->n ? "The context has no shots; trace a prompt that has some (--shots, --shot-sep)." : "Nothing was compressed.");
        return 0;
    }
    int rc = put_coherence(r, err);
    fputs("<p class=\"key\">Means over cells, at prefill\xe2\x80\x99s end. <b>C*</b>: 1 when every shot is whole or gone, 0 as by chance; <b>shifted</b>, <b>95%</b>: the same mask moved in a "
          "circle, its mean and its 95th percentile: respecting shots means above these. <b>whole</b>: of shots it kept something of, kept in full. <b>frag</b>: runs of "
          "kept tokens in such a shot, beside <b>rand.</b>om ones. <b>Gini</b>: 0 when all shots fare alike. <b>ans-</b>: the question is kept and the answer isn\xe2\x80\x99t. "
          "<b>num. tok-</b>: tokens of numbers lost. <b>cut</b>: some of its tokens are held and some aren\xe2\x80\x99t. <b>next layer</b>: rank correlation of neighbouring "
          "layers over shots.</p>\n", r->html);
    if (!rc)
        put_shots(r);
    return rc;
}

/* ---- attention ---- */

int kvreport_attention(struct kvreport *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "layer", .kind = KVT_COL_INT},
#define X(head, field, kind_, digits_) {.name = head, .kind = kind_, .digits = digits_},
        KVREPORT_HEAD_MAP(X)
#undef X
    };
    const struct kvt_trace_info *info = r->info;
    FILE *f = r->html;
    int rc = 0;
    fputs("<section id=\"attention\">\n<h2>Where attention goes</h2>\n", f);
    if (r->head) {
        struct kvt_table *t = kvt_table_new(COLS(col));
        for (int l = 0; l < info->L; l++) {
            kvt_put_int(t, l);
#define X(head_, field, kind, digits) kvt_put_real(t, r->head[l].field);
            KVREPORT_HEAD_MAP(X)
#undef X
        }
        rc = end_table(r, &t, NULL, err);
        kvreport_say(f, "<p class=\"key\">Prefill, means over a layer\xe2\x80\x99s query heads and the rows that see %d keys or more. <b>even</b>: entropy / ln(visible keys). <b>keys</b>: "
                        "e to the entropy. Mass on <b>token 0</b>, on the first %d tokens (<b>sinks</b>), on the newest %d (<b>local</b>), on the row\xe2\x80\x99s own (<b>self</b>), on "
                        "the one before (<b>prev.</b>). <b>90%% on</b>: the share of tokens that hold 90%% of the mass; <b>no sinks</b>: without the first %d.</p>\n",
                     KVT_FEW_KEYS, info->n_sink, info->n_local ? info->n_local : 32, info->n_sink);
    } else {
        kvreport_say(f, "<p class=\"note\">%s</p>\n", r->mass ? "The table by layer is left out for a prompt of this length; kvattn prints it." : info->has_scores ? "The run ended before the prompt\xe2\x80\x99s attention was known." : "The trace holds no scores of the prompt\xe2\x80\x99s attention; trace with --see scores,local,distance,visible.");
    }
    if (r->n_sinks > 0) {
        fputs("<p>Tokens that act as sinks in some head (mean weight above 0.3): ", f);
        for (int i = 0; i < r->n_sinks && i < 12; i++) {
            int token = r->sink[i].token;
            kvreport_say(f, "%s<code>%s</code> at %d (%d of %d heads)", i ? ", " : "", info->token_text[token], token, r->sink[i].heads, info->L * info->H);
        }
        kvreport_say(f, "%s.</p>\n", r->n_sinks > 12 ? " and more" : "");
    }
    return rc;
}

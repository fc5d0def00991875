/* kvreport: what is read before and after the numbers: the summary, what each branch wrote, how the trace was made. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/kvreport.h"
#include "base/html.h"
#include "base/mem.h"

enum { MOST_ANSWER_BYTES = 6000, MOST_SPANS = 200, MOST_ATTR_BYTES = 2000 };

void kvreport_say(FILE *html, const char *format, ...)
{
    va_list a;
    va_start(a, format);
    for (const char *p = format; *p; p++) {
        if (*p != '%') {
            fputc(*p, html);
        } else if (p[1] == 's') {
            kvt_html_text(html, va_arg(a, const char *));
            p++;
        } else if (p[1] == 'd') {
            fprintf(html, "%d", va_arg(a, int));
            p++;
        } else if (!strncmp(p, "%lld", 4)) {
            fprintf(html, "%lld", va_arg(a, long long));
            p += 3;
        } else if (p[1] == '.' && p[2] >= '0' && p[2] <= '9' && p[3] == 'f') {
            fprintf(html, "%.*f", p[2] - '0', va_arg(a, double));
            p += 3;
        } else if (p[1] == '%') {
            fputc('%', html);
            p++;
        }
    }
    va_end(a);
}

/* ---- summary ---- */

static void put_fact(FILE *f, const char *name, const char *value)
{
    if (value && *value)
        kvreport_say(f, "<div><dt>%s</dt><dd>%s</dd></div>\n", name, value);
}

static void put_facts(const struct kvreport *r)
{
    const struct kvt_trace_info *info = r->info;
    FILE *f = r->html;
    char text[256], bytes[32];
    fputs("<dl class=\"facts\">\n", f);
    snprintf(text, sizeof text, "%s%s%s%s: %d layers, %d query heads over %d kv heads of %d", info->model_name, *info->model_arch ? " (" : "", info->model_arch,
             *info->model_arch ? ")" : "", info->L, info->H, info->G, info->D);
    put_fact(f, "Model", text);
    snprintf(text, sizeof text, "%d tokens, %d of them context%s", info->n_prompt, info->n_context, r->S ? "" : "; no shots");
    if (r->S)
        snprintf(text, sizeof text, "%d tokens, %d of them context; %d shots", info->n_prompt, info->n_context, r->S);
    put_fact(f, "Prompt", text);
    put_fact(f, "Protocol", info->protocol);
    const char *how = !strcmp(info->decode, "both") ? "on the full cache's text and on each branch's own" : !strcmp(info->decode, "forced") ? "on the full cache's text" : "on each branch's own text";
    snprintf(text, sizeof text, "%d of %d tokens, %s", info->n_steps, info->n_new, how);
    put_fact(f, "Decoding", text);
    snprintf(text, sizeof text, "%d branch%s: %d method%s, %d budget%s", r->n, r->n == 1 ? "" : "es", r->rows, r->rows == 1 ? "" : "s", r->cols, r->cols == 1 ? "" : "s");
    put_fact(f, "Compared", r->n ? text : "nothing: only the full cache was traced");
    snprintf(text, sizeof text, "%s%s%s, products in %s, keys and values in %s", info->backend, *info->device && strcmp(info->device, info->backend) ? ": " : "",
             strcmp(info->device, info->backend) ? info->device : "", info->compute, info->kv_type);
    put_fact(f, "Arithmetic", text);
    if (!info->no_full && info->n_branches && info->branch[0].bytes_after >= 0) {
        snprintf(text, sizeof text, "%s of keys and values after the prefill", kvt_bytes_text((uint64_t)info->branch[0].bytes_after, bytes, sizeof bytes));
        put_fact(f, "Full cache", text);
    }
    put_fact(f, "Made", info->created);
    fputs("</dl>\n", f);
}

static void put_notes(const struct kvreport *r)
{
    const struct kvt_trace_info *info = r->info;
    FILE *f = r->html;
    if (strcmp(info->status, "complete"))
        kvreport_say(f, "<p class=\"warning\">This trace is not complete (%s): %d of %d steps were done. What it holds is shown.</p>\n", info->status, info->n_steps, info->n_new);
    if (info->no_full)
        fputs("<p class=\"warning\">No uncompressed branch ran (--no-full): nothing is compared with a full cache.</p>\n", f);
    if (info->dropped > 0)
        kvreport_say(f, "<p class=\"warning\">A full ring dropped %lld maps or rows. Decisions and scores are complete.</p>\n", (long long)info->dropped);
    int early = 0;
    for (int i = 0; i < r->n; i++)
        early += isnan(r->one[i].in->effective_keep);
    if (early)
        kvreport_say(f, "<p class=\"warning\">The run ended before %d of %d branches were compressed: they still hold everything.</p>\n", early, r->n);
    for (int i = 0; i < r->n; i++) {
        const struct kvt_trace_branch *b = r->one[i].in;
        if (b->fallback)
            kvreport_say(f, "<p class=\"warning\">%s fell back to a simpler rule%s%s.</p>\n", b->name, b->note && *b->note ? ": " : "", b->note ? b->note : "");
    }
}

/* The branch of the middle budget whose value is the least (sign 1) or the most (-1); -1: none has it. */
static int best(const struct kvreport *r, double (*of)(const struct kvreport_branch *), int sign)
{
    int at = -1;
    for (int i = 0; i < r->n; i++)
        if (r->one[i].col == r->middle && !isnan(of(&r->one[i])) && (at < 0 || sign * (of(&r->one[i]) - of(&r->one[at])) < 0))
            at = i;
    return at;
}

static double kl_of(const struct kvreport_branch *b) { return b->in->mean_kl; }
static double coherence_of(const struct kvreport_branch *b) { return b->shot ? b->coherence.adjusted : (double)NAN; }

static void put_in_short(const struct kvreport *r)
{
    FILE *f = r->html;
    char budget[32];
    kvreport_budget(r, r->middle, budget, sizeof budget);
    int near = best(r, kl_of, 1), far = best(r, kl_of, -1), whole = best(r, coherence_of, -1), same = 0, known = 0, pair = -1;
    fputs("<ul class=\"short\">\n", f);
    if (near >= 0 && !r->info->no_full)
        kvreport_say(f, "<li>At %s, <b>%s</b> stays closest to the full cache: mean KL %.4f nats, the same next token in %.1f%% of steps.", budget,
                     r->row_name[r->one[near].row], kl_of(&r->one[near]), 100 * r->one[near].in->top1);
    if (near >= 0 && far >= 0 && far != near && !r->info->no_full)
        kvreport_say(f, " Farthest is %s with %.4f.", r->row_name[r->one[far].row], kl_of(&r->one[far]));
    if (near >= 0 && !r->info->no_full)
        fputs("</li>\n", f);
    for (int i = 0; i < r->n; i++) {
        known += r->one[i].in->diverged >= 0;
        same += r->one[i].in->diverged == 0;
    }
    if (known && !r->info->no_full)
        kvreport_say(f, "<li>%d of %d branches wrote the same %d tokens as the full cache.</li>\n", same, known, r->info->n_steps);
    for (int i = 0; i < r->n_pairs; i++)
        if (r->one[r->pair[i].a].col == r->middle && r->pair[i].sum.room > 0 && (pair < 0 || kvt_overlap_adjusted(&r->pair[i].sum) > kvt_overlap_adjusted(&r->pair[pair].sum)))
            pair = i;
    if (pair >= 0)
        kvreport_say(f, "<li>At %s, <b>%s</b> and <b>%s</b> agree most on which tokens to keep: adjusted overlap %.3f (0 is chance, 1 is nested).</li>\n", budget,
                     r->row_name[r->one[r->pair[pair].a].row], r->row_name[r->one[r->pair[pair].b].row], kvt_overlap_adjusted(&r->pair[pair].sum));
    if (whole >= 0)
        kvreport_say(f, "<li>At %s, <b>%s</b> keeps shots most whole: C* %.3f (1: every shot whole or gone); its own mask moved along the shots gives %.3f.</li>\n", budget,
                     r->row_name[r->one[whole].row], coherence_of(&r->one[whole]), r->one[whole].coherence.null_mean);
    fputs("</ul>\n", f);
}

void kvreport_summary(struct kvreport *r)
{
    fputs("<section id=\"summary\">\n<h2>Summary</h2>\n", r->html);
    put_notes(r);
    put_facts(r);
    if (r->n)
        put_in_short(r);
    fputs("</section>\n", r->html);
}

/* ---- what each branch wrote ---- */

/* Where the text of each step of the full cache ends, out (steps + 1): until a branch parts from it, they are its own as well. */
static int text_ends(struct kvreport *r, int steps, size_t *out, struct kvt_err *err)
{
    char token[512];
    for (int step = 1; step <= steps; step++) {
        int rc = kvt_trace_token_text(r->trace, 0, "forced", step, token, sizeof token, err);
        if (!rc && !token[0])
            rc = kvt_trace_token_text(r->trace, 0, "free", step, token, sizeof token, err);
        if (rc)
            return rc;
        out[step] = out[step - 1] + strlen(token);
    }
    return 0;
}

/* Bytes of a branch's text before the first token that differs, and of that token. */
static void part_text(struct kvreport *r, int branch, const size_t *ends, size_t *same, size_t *differing)
{
    const struct kvt_trace_branch *b = &r->info->branch[branch];
    const char *full = r->info->branch[0].text;
    char token[512] = "";
    size_t common = 0, end = ends[b->diverged - 1];
    while (b->text[common] && b->text[common] == full[common])
        common++;
    *same = end < common ? end : common;
    kvt_trace_token_text(r->trace, branch, "free", b->diverged, token, sizeof token, NULL);
    *differing = strncmp(b->text + *same, token, strlen(token)) ? 0 : strlen(token);
}

static void put_bytes(FILE *f, const char *s, size_t n, size_t *left)
{
    const char *end = s + (n < *left ? n : *left);
    *left -= n < *left ? n : *left;
    while (s < end)
        s += kvt_html_char(f, s);
}

static void put_answer(FILE *f, const char *text, size_t same, size_t differing, bool diverged)
{
    size_t all = strlen(text), left = MOST_ANSWER_BYTES;
    fputs("<p class=\"answer\">", f);
    put_bytes(f, text, diverged ? same : all, &left);
    if (diverged) {
        fputs("<mark>", f);
        put_bytes(f, text + same, differing, &left);
        fputs("</mark><span class=\"own\">", f);
        put_bytes(f, text + same + differing, all - same - differing, &left);
        fputs("</span>", f);
    }
    if (all > MOST_ANSWER_BYTES)
        kvreport_say(f, " <span class=\"more\">(%lld more bytes are left out)</span>", (long long)(all - MOST_ANSWER_BYTES));
    fputs("</p>\n", f);
}

int kvreport_answers(struct kvreport *r, struct kvt_err *err)
{
    const struct kvt_trace_info *info = r->info;
    FILE *f = r->html;
    fputs("<section id=\"answers\">\n<h2>What each branch wrote</h2>\n", f);
    if (!info->no_full && info->n_branches)
        fputs("<p>Left to itself. The first token that the full cache would not have written is <mark>marked</mark>, "
              "<span class=\"own\">what follows</span> is the branch\xe2\x80\x99s own.</p>\n", f);
    fputs("<dl class=\"answers\">\n", f);
    int last = 0, rc = 0;
    for (int k = 0; k < r->n && !info->no_full; k++)
        if (r->one[k].in->diverged > last && r->one[k].in->diverged <= info->n_steps)
            last = r->one[k].in->diverged;
    size_t *ends = kvt_calloc((size_t)last + 1, sizeof *ends);
    if (!ends)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d steps", last);
    if (!rc)
        rc = text_ends(r, last, ends, err);
    for (int k = info->no_full ? 0 : -1; !rc && k < r->n; k++) {
        int number = k < 0 ? 0 : r->one[k].number;
        const struct kvt_trace_branch *b = &info->branch[number];
        kvreport_say(f, "<div><dt>%s", b->name);
        if (k >= 0 && b->diverged == 0)
            fputs(" <small>as the full cache</small></dt>\n<dd>", f);
        else if (k >= 0 && b->diverged > 0)
            kvreport_say(f, " <small>differs at step %d</small></dt>\n<dd>", b->diverged);
        else
            fputs("</dt>\n<dd>", f);
        if (!b->text[0]) {
            kvreport_say(f, "<p class=\"more\">%s</p>\n", !strcmp(info->decode, "forced") ? "no text of its own: traced with --decode forced" : "no text");
        } else if (k >= 0 && b->diverged == 0 && !info->no_full) {
            fputs("<p class=\"more\">the same text</p>\n", f);
        } else {
            size_t same = 0, differing = 0;
            bool diverged = k >= 0 && b->diverged > 0 && b->diverged <= last;
            if (diverged)
                part_text(r, number, ends, &same, &differing);
            put_answer(f, b->text, same, differing, diverged);
        }
        fputs("</dd></div>\n", f);
    }
    fputs("</dl>\n</section>\n", f);
    free(ends);
    return rc;
}

/* ---- how it was made ---- */

void kvreport_origin(struct kvreport *r)
{
    const struct kvt_trace_info *info = r->info;
    FILE *f = r->html;
    fputs("<section id=\"origin\">\n<h2>How the trace was made</h2>\n", f);
    if (*info->command_line)
        kvreport_say(f, "<pre class=\"command\">%s</pre>\n", info->command_line);
    fputs("<h3>Methods, with all their options</h3>\n<dl class=\"canonical\">\n", f);
    for (int i = 0; i < r->n; i++) {
        const struct kvt_trace_branch *b = r->one[i].in;
        kvreport_say(f, "<dt>%s</dt><dd><code>%s</code>%s%s</dd>\n", b->name, b->canonical, b->note && *b->note ? " " : "", b->note ? b->note : "");
    }
    fputs("</dl>\n<details><summary>Every attribute of the trace</summary>\n<table><tbody>\n", f);
    for (int i = 0; i < info->n_attrs; i++) {
        const char *v = info->attr[i].value;
        size_t left = MOST_ATTR_BYTES;
        kvreport_say(f, "<tr><th scope=\"row\">%s</th><td>", info->attr[i].name);
        put_bytes(f, v, strlen(v), &left);
        kvreport_say(f, "%s</td></tr>\n", strlen(v) > MOST_ATTR_BYTES ? " ..." : "");
    }
    kvreport_say(f, "</tbody></table>\n</details>\n<details><summary>Spans of the prompt (%d)</summary>\n<table><thead><tr><th scope=\"col\">span</th>"
                    "<th scope=\"col\">kind</th><th scope=\"col\" class=\"n\">from token</th><th scope=\"col\" class=\"n\">tokens</th></tr></thead>\n<tbody>\n", info->n_spans);
    for (int i = 0; i < info->n_spans && i < MOST_SPANS; i++) {
        const struct kvt_trace_span *s = &info->span[i];
        kvreport_say(f, "<tr><th scope=\"row\">%s</th><td>%s</td><td class=\"n\">%d</td><td class=\"n\">%d</td></tr>\n", s->name, s->kind, s->start, s->end - s->start);
    }
    fputs("</tbody></table>\n", f);
    if (info->n_spans > MOST_SPANS)
        kvreport_say(f, "<p class=\"note\">%d more are left out; kvattn --show spans and the trace itself have all.</p>\n", info->n_spans - MOST_SPANS);
    fputs("</details>\n</section>\n", f);
}

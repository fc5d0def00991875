/* kvreport: the prompt in colour. Every token is an element; for each view (how many methods keep it at a budget, how many cells of a
 * branch, how much attention it got) it has a class, a letter and a step of colour, and a radio button chooses which letter's rules hold.
 * So the choice needs no script. What a token shows when it is pointed at is an attribute, shown by the style sheet; scripts show
 * more, from numbers at the end of the page. Where a prompt is too long for all that, views and words are left to the scripts. */
#include <libdeflate.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/kvreport.h"
#include "base/html.h"
#include "base/mem.h"

enum {
    MOST_CLASS_BYTES = 600000, MOST_WORD_BYTES = 900000, /* of the views' classes, of what tokens say */
    MOST_STOPS = 4000                                     /* tokens that the Tab key stops at where no script runs */
};

/* ---- views ---- */

/* a .. z, A .. Z, then pairs: "a3" is step 3 of the first view. */
static void put_code(FILE *out, int v)
{
    if (v >= 52)
        put_code(out, v / 52 - 1);
    v %= 52;
    fputc(v < 26 ? 'a' + v : 'A' + v - 26, out);
}

static int methods_at(const struct kvreport *r, int col)
{
    int n = 0;
    for (int i = 0; i < r->n; i++)
        n += r->one[i].col == col;
    return n;
}

int kvreport_make_views(const struct kvreport *r, struct kvreport_views *out, struct kvt_err *err)
{
    *out = (struct kvreport_views){.v = kvt_calloc((size_t)(r->cols + r->n) + 1, sizeof *out->v)};
    if (!out->v)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d views", r->n);
    int64_t bytes = 0, each = 3 * (int64_t)r->info->n_prompt;
    for (int c = 0; c < r->cols; c++)
        if (methods_at(r, c) > 1) {
            if (c == r->middle)
                out->shown = out->n;
            out->v[out->n++] = (struct kvreport_view){.one = -1, .col = c};
        }
    if (r->mass)
        out->v[out->n++] = (struct kvreport_view){.one = -1, .col = -1};
    for (int i = 0; i < r->n; i++) {
        if (r->one[i].col == r->middle && methods_at(r, r->middle) == 1)
            out->shown = out->n;
        out->v[out->n++] = (struct kvreport_view){.one = i, .col = -1};
    }
    for (int v = 0; v < out->n; v++) {
        out->v[v].late = v != out->shown && bytes + each > MOST_CLASS_BYTES;
        bytes += out->v[v].late ? 0 : each;
    }
    return 0;
}

static int step_of(double share)
{
    return share > 0 ? (int)fmin(fmax(ceil(share * KVREPORT_STEPS - 1e-9), 1), KVREPORT_STEPS) : 0;
}

static double share_of(const struct kvreport *r, const struct kvreport_branch *one, int token)
{
    return (double)one->fate.cells[token] / ((double)r->info->L * r->info->G);
}

/* Methods that keep a token: in more than half of their cells. */
static int keepers(const struct kvreport *r, int col, int token)
{
    int n = 0;
    for (int i = 0; i < r->n; i++)
        n += r->one[i].col == col && share_of(r, &r->one[i], token) > 0.5;
    return n;
}

static int view_step(const struct kvreport *r, const struct kvreport_view *v, int token)
{
    if (v->one < 0 && v->col < 0)
        return step_of(1 - (double)r->rank[token] / r->info->n_prompt);
    if (token >= r->info->n_context)
        return 0;
    return step_of(v->one >= 0 ? share_of(r, &r->one[v->one], token) : (double)keepers(r, v->col, token) / methods_at(r, v->col));
}

void kvreport_view_rules(const struct kvreport_views *views, FILE *css)
{
    for (int s = 1; s <= KVREPORT_STEPS && views->n; s++) {
        for (int v = 0; v < views->n; v++) {
            if (views->v[v].late)
                continue;
            fprintf(css, "%s#prompt:has(#v%d:checked) .", v ? ",\n" : "", v);
            put_code(css, v);
            fprintf(css, "%d", s);
        }
        fprintf(css, " { background: var(--step-%d); color: var(--ink-%d); }\n", s, s);
        fputs("@supports not selector(:has(*)) { .", css); /* older browsers: the first view, without a choice */
        put_code(css, views->shown);
        fprintf(css, "%d { background: var(--step-%d); color: var(--ink-%d); } }\n", s, s, s);
    }
}

/* ---- the choice ---- */

static void put_radio(FILE *f, const struct kvreport_views *views, int v, const char *label)
{
    fprintf(f, "<label%s><input type=\"radio\" name=\"view\" id=\"v%d\"", views->v[v].late ? " class=\"late\"" : "", v);
    fputs(v == views->shown ? " checked" : "", f);
    fprintf(f, "><span>%s</span></label>", label);
}

static int view_of(const struct kvreport_views *views, int one, int col)
{
    for (int v = 0; v < views->n; v++)
        if (views->v[v].one == one && views->v[v].col == col)
            return v;
    return -1;
}

static void put_choice(const struct kvreport *r, const struct kvreport_views *views)
{
    FILE *f = r->html;
    char text[64];
    fputs("<table class=\"choice\"><caption>Colour by</caption>\n<thead><tr><td></td>", f);
    for (int c = 0; c < r->cols; c++)
        kvreport_say(f, "<th scope=\"col\">%s</th>", kvreport_budget(r, c, text, sizeof text));
    fputs("</tr></thead>\n<tbody>\n", f);
    bool counted = false;
    for (int c = 0; c < r->cols; c++)
        counted |= view_of(views, -1, c) >= 0;
    if (counted) {
        fputs("<tr><th scope=\"row\">methods that keep it</th>", f);
        for (int c = 0; c < r->cols; c++) {
            int v = view_of(views, -1, c);
            fputs("<td>", f);
            snprintf(text, sizeof text, "of %d", methods_at(r, c));
            if (v >= 0)
                put_radio(f, views, v, text);
            fputs("</td>", f);
        }
        fputs("</tr>\n", f);
    }
    for (int row = 0; row < r->rows; row++) {
        kvreport_say(f, "<tr><th scope=\"row\">%s</th>", r->row_name[row]);
        for (int c = 0; c < r->cols; c++) {
            int i = r->cell[row * r->cols + c];
            fputs("<td>", f);
            if (i >= 0) {
                if (isnan(r->one[i].in->effective_keep))
                    snprintf(text, sizeof text, "-");
                else
                    snprintf(text, sizeof text, "%.1f%%", 100 * r->one[i].in->effective_keep);
                put_radio(f, views, view_of(views, i, -1), text);
            }
            fputs("</td>", f);
        }
        fputs("</tr>\n", f);
    }
    int v = r->mass ? view_of(views, -1, -1) : -1;
    if (v >= 0) {
        fprintf(f, "<tr><th scope=\"row\">attention received</th><td colspan=\"%d\">", r->cols ? r->cols : 1);
        put_radio(f, views, v, "by rank");
        fputs("</td></tr>\n", f);
    }
    fputs("</tbody></table>\n<p class=\"legend\"><span>none</span>", f);
    for (int s = 0; s <= KVREPORT_STEPS; s++)
        fprintf(f, "<span class=\"s%d\"></span>", s);
    fputs("<span>all</span></p>\n<div id=\"token\" aria-live=\"polite\"></div>\n", f);
}

/* ---- what a token says ---- */

enum words { WORDS_ALL, WORDS_MIDDLE, WORDS_COUNT, WORDS_NONE };

static void put_branch_words(const struct kvreport *r, const struct kvreport_branch *one, int token, bool first, FILE *f)
{
    const struct kvt_fate *t = &one->fate;
    int all = r->info->L * r->info->G;
    char budget[32], from[32], to[32];
    fprintf(f, first ? " %s: %d cells in %d layers" : "; %s: %d in %d", kvt_budget_text(one->in, budget, sizeof budget), (int)t->cells[token], (int)t->layers[token]);
    if (t->last[token] != t->cells[token])
        fprintf(f, ", %d at the end", (int)t->last[token]);
    if (t->cells[token] < all && t->to[token] != 0 && t->to[token] != KVT_NOT_YET) { /* not simply at prefill's end */
        bool same = t->from[token] == t->to[token];
        fprintf(f, ", left %s%s%s", kvt_moment_text(t->from[token], from, sizeof from), same ? "" : " to ", same ? "" : kvt_moment_text(t->to[token], to, sizeof to));
    }
}

static void put_words(const struct kvreport *r, int token, const char *span, enum words how, FILE *f)
{
    const struct kvt_trace_info *info = r->info;
    if (how == WORDS_COUNT) { /* a few words */
        for (int c = 0; token < info->n_context && c < r->cols; c++)
            kvreport_say(f, c ? ", %d of %d" : "kept by %d of %d", keepers(r, c, token), methods_at(r, c));
        return;
    }
    kvreport_say(f, "token %d, id %d%s%s", token, (int)info->token_id[token], span ? ", " : "", span ? span : "");
    if (r->mass)
        kvreport_say(f, "; attention %.3f rows, rank %d of %d", r->mass[token], r->rank[token] + 1, info->n_prompt);
    if (token >= info->n_context) {
        fputs("; not of the context: fed again after eviction", f);
        return;
    }
    for (int row = 0; row < r->rows; row++) {
        bool any = false;
        for (int c = 0; c < r->cols; c++) {
            int i = r->cell[row * r->cols + c];
            if (i < 0 || (how == WORDS_MIDDLE && c != r->middle))
                continue;
            if (!any)
                kvreport_say(f, "\n%s", r->row_name[row]);
            put_branch_words(r, &r->one[i], token, !any, f);
            any = true;
        }
    }
}

/* The fullest words that fit. */
static int choose_words(const struct kvreport *r, enum words *out, struct kvt_err *err)
{
    *out = WORDS_NONE;
    for (int how = WORDS_ALL; *out == WORDS_NONE && how < WORDS_NONE; how++) {
        char *text = NULL;
        size_t bytes = 0;
        FILE *f = open_memstream(&text, &bytes);
        if (!f)
            return kvt_fail(err, KVT_ENOMEM, "no memory for the prompt");
        int n = r->info->n_prompt, every = n / 1000 + 1, seen = 0; /* a sample decides */
        for (int t = 0; t < n; t += every, seen++)
            put_words(r, t, "shot 1", (enum words)how, f);
        bool bad = fclose(f) || !text;
        free(text);
        if (bad)
            return kvt_fail(err, KVT_ENOMEM, "no memory for the prompt");
        if (!seen || (double)bytes / seen * n <= MOST_WORD_BYTES)
            *out = (enum words)how;
    }
    return 0;
}

/* ---- the text ---- */

struct writing {
    const struct kvreport_views *views;
    enum words words;
    size_t at, bytes;        /* of the text: the next character that no token has yet */
    const char *span;
};

static void put_token(struct kvreport *r, struct writing *w, int token)
{
    const struct kvt_trace_info *info = r->info;
    FILE *f = r->html;
    size_t end = token + 1 == info->n_prompt ? w->bytes : (size_t)(info->token_end[token] < 0 ? 0 : info->token_end[token]);
    const char *from = info->text + w->at;
    bool special = info->token_start[token] == info->token_end[token], newline = false;
    if (end > w->bytes)
        end = w->bytes;
    for (size_t i = w->at; i < end; i++)
        newline |= info->text[i] == '\n';
    fputs("<i class=\"", f);
    bool any = false;
    for (int v = 0; v < w->views->n; v++) {
        int step = w->views->v[v].late ? 0 : view_step(r, &w->views->v[v], token);
        if (!step)
            continue;
        fputs(any ? " " : "", f);
        put_code(f, v);
        fprintf(f, "%d", step);
        any = true;
    }
    fprintf(f, "%s%s%s\"", newline ? " nl" : "", token >= info->n_context ? " q" : "", special && info->token_text[token][0] ? " sp" : "");
    if (info->n_prompt <= MOST_STOPS)
        fputs(" tabindex=\"0\"", f);
    if (w->words != WORDS_NONE) {
        fputs(" data-t=\"", f);
        put_words(r, token, w->span, w->words, f);
        fputc('"', f);
    }
    fputc('>', f);
    if (special)
        kvt_html_text(f, info->token_text[token]); /* BOS and the like: no text of the prompt */
    size_t at = w->at;
    while (w->at < end)
        w->at += (size_t)kvt_html_char(f, info->text + w->at);
    if (!special && at == w->at && from)
        fputs("\xc2\xb7", f); /* the rest of a character that began in the token before */
    fputs("</i>", f);
}

static const struct kvt_trace_span *section_at(const struct kvt_trace_info *info, int token)
{
    for (int i = 0; i < info->n_spans; i++)
        if (info->span[i].start == token && kvt_is_section(&info->span[i]))
            return &info->span[i];
    return NULL;
}

static void put_heading(struct kvreport *r, const struct kvt_trace_span *s)
{
    const struct kvt_trace_info *info = r->info;
    double sum = 0;
    int n = 0;
    for (int t = s->start; r->n && t < s->end && t < info->n_context; t++, n++)
        sum += keepers(r, r->middle, t);
    kvreport_say(r->html, "<h3>%s <small>tokens %d to %d", s->name, s->start, s->end - 1);
    if (n)
        kvreport_say(r->html, ", kept by %.1f of %d on average", sum / n, methods_at(r, r->middle));
    else if (r->n)
        fputs(", fed again after eviction", r->html);
    fputs("</small></h3>\n", r->html);
}

int kvreport_prompt(struct kvreport *r, const struct kvreport_views *views, struct kvt_err *err)
{
    const struct kvt_trace_info *info = r->info;
    FILE *f = r->html;
    struct writing w = {.views = views, .bytes = strlen(info->text)};
    char budget[32];
    int rc = choose_words(r, &w.words, err);
    if (rc)
        return rc;
    fputs("<section id=\"prompt\">\n<h2>The prompt, by who keeps each token</h2>\n", f);
    if (r->n)
        kvreport_say(f, "<p>A branch holds a token in some of its %d cells, one for each layer and kv head; the stronger the colour, the more of them. "
                        "In the first row a method counts as keeping a token that more than half of its cells hold. "
                        "Shown first: %s. A token that is pointed at or has the focus says how many cells in how many layers of each branch held it at "
                        "prefill\xe2\x80\x99s end; the others let go of it then, unless it says when.</p>\n",
                     info->L * info->G, kvreport_budget(r, r->middle, budget, sizeof budget));
    bool late = false;
    for (int v = 0; v < views->n; v++)
        late |= views->v[v].late;
    if (late || w.words != WORDS_ALL)
        kvreport_say(f, "<p class=\"note\">The prompt is long. Without scripts %s, and a token says %s.</p>\n", late ? "only some of the choices of colour are offered" : "all choices of colour are offered",
                     w.words == WORDS_ALL ? "everything" : w.words == WORDS_MIDDLE ? "only what became of it at the middle budget" : w.words == WORDS_COUNT ? "only how many methods keep it, budget by budget" : "nothing");
    fputs("<p class=\"skip\"><a href=\"#answers\">Skip the tokens</a></p>\n<div class=\"beside\">\n<div class=\"side\">\n", f);
    put_choice(r, views);
    fputs("</div>\n<div id=\"tokens\" role=\"group\" aria-label=\"The tokens of the prompt\">\n", f);
    bool open = false;
    for (int t = 0; t < info->n_prompt; t++) {
        const struct kvt_trace_span *s = section_at(info, t);
        if (s || !open) {
            fputs(open ? "</p>\n" : "", f);
            if (s) {
                put_heading(r, s);
                w.span = s->name;
            }
            fputs("<p>", f);
            open = true;
        }
        put_token(r, &w, t);
    }
    fputs(open ? "</p>\n" : "", f);
    fputs("</div>\n</div>\n</section>\n", f);
    return 0;
}

/* ---- numbers for scripts ---- */

/* LEB128 of a number, and of one with a sign (its zigzag). */
static void put_number(FILE *f, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        fputc((int)(0x80 | (v & 0x7f)), f);
    fputc((int)v, f);
}

static void put_signed(FILE *f, int64_t v) { put_number(f, v < 0 ? 2 * (uint64_t)(-(v + 1)) + 1 : 2 * (uint64_t)v); }

static void write_numbers(const struct kvreport *r, const struct kvreport_views *views, FILE *f)
{
    const struct kvt_trace_info *info = r->info;
    size_t n = (size_t)info->n_context;
    put_number(f, (uint64_t)info->n_prompt);
    put_number(f, n);
    put_number(f, (uint64_t)info->L);
    put_number(f, (uint64_t)info->G);
    put_number(f, (uint64_t)r->n);
    put_number(f, (uint64_t)views->n);
    put_number(f, r->mass != NULL);
    for (int v = 0; v < views->n; v++) {
        put_signed(f, views->v[v].one);
        put_signed(f, views->v[v].col);
    }
    for (int i = 0; i < r->n; i++) {
        const struct kvt_fate *t = &r->one[i].fate;
        put_number(f, (uint64_t)r->one[i].row);
        put_number(f, (uint64_t)r->one[i].col);
        const int32_t *counts[4] = {t->cells, t->layers, t->guarded, t->last};
        for (int k = 0; k < 4; k++)
            for (size_t j = 0; j < n; j++)
                put_number(f, (uint64_t)counts[k][j]);
        for (int k = 0; k < 2; k++)
            for (size_t j = 0; j < n; j++)
                put_signed(f, (k ? t->to : t->from)[j] == KVT_NOT_YET ? -1 : (k ? t->to : t->from)[j]); /* -1 is "held", no moment */
    }
    for (int j = 0; j < info->n_prompt; j++) {
        put_signed(f, info->token_id[j]);
        put_number(f, r->mass ? (uint64_t)llround(fmax(r->mass[j], 0) * 1e4) : 0);
        put_number(f, r->mass ? (uint64_t)r->rank[j] : 0);
    }
}

int kvreport_numbers(struct kvreport *r, const struct kvreport_views *views, struct kvt_err *err)
{
    char *raw = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&raw, &bytes);
    if (!f)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the numbers of %d tokens", r->info->n_prompt);
    write_numbers(r, views, f);
    bool bad = ferror(f);
    bad |= fclose(f) != 0;
    struct libdeflate_compressor *packer = bad ? NULL : libdeflate_alloc_compressor(6);
    size_t cap = packer ? libdeflate_zlib_compress_bound(packer, bytes) : 0, packed = 0;
    uint8_t *out = packer ? kvt_calloc(cap, 1) : NULL;
    if (out)
        packed = libdeflate_zlib_compress(packer, raw, bytes, out, cap);
    if (packer)
        libdeflate_free_compressor(packer);
    if (!packed) {
        free(raw);
        free(out);
        return kvt_fail(err, KVT_ENOMEM, "no memory for the numbers of %d tokens", r->info->n_prompt);
    }
    fputs("<script type=\"text/plain\" id=\"numbers\">", r->html);
    kvt_base64(r->html, out, packed);
    fputs("</script>\n", r->html);
    free(raw);
    free(out);
    return 0;
}

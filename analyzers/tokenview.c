/* The prompt, marked by who keeps what. */
#include "analyzers/tokenview.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/analyzer.h"
#include "base/mem.h"
#include "base/utf8.h"

#define RETURN_SIGN "\xe2\x86\xb5" /* a line end is a token like any other, and often a kept one */

struct glyph {
    const char *s;     /* bytes of the text, or of a sign that stands for them */
    uint8_t len, width;
    bool newline, blank;
    int token;
};

struct glyphs { struct glyph *g; int n; };

void kvt_tokenview_letters(const char *const *name, int n, char *out)
{
    for (int i = 0; i < n; i++) {
        char pick = 0;
        for (const char *p = name[i]; *p && !pick; p++) {
            char c = (char)toupper((unsigned char)*p);
            if (isalpha((unsigned char)c) && !memchr(out, c, (size_t)i))
                pick = c;
        }
        for (char c = '0'; !pick && c <= '9'; c++)
            if (!memchr(out, c, (size_t)i))
                pick = c;
        out[i] = pick ? pick : '*';
    }
}

static struct glyph glyph_at(const char *s, int token)
{
    uint32_t c;
    int len = kvt_utf8_next(s, &c);
    struct glyph g = {.s = s, .len = (uint8_t)len, .width = (uint8_t)kvt_utf8_width(c), .token = token};
    if (c == '\n') {
        g = (struct glyph){.s = RETURN_SIGN, .len = 3, .width = 1, .newline = true, .token = token};
    } else if (c == '\t' || c == ' ') {
        g.s = " ";
        g.blank = true;
    } else if (c == KVT_UTF8_BAD || c < 0x20 || (c >= 0x7f && c < 0xa0)) {
        g.s = c == '\r' ? "\xe2\x86\x90" : "\xef\xbf\xbd"; /* never a control code to the terminal */
        g.len = 3;
        g.width = 1;
    }
    return g;
}

/* The text's characters, each with the token in which its first byte lies; tokens without text (BOS) by their own. */
static int glyphs_of(const struct kvt_trace_info *info, struct glyphs *out, struct kvt_err *err)
{
    size_t bytes = strlen(info->text), cap = bytes + 1;
    for (int t = 0; t < info->n_prompt; t++)
        if (info->token_start[t] == info->token_end[t])
            cap += strlen(info->token_text[t]);
    out->g = kvt_calloc(cap, sizeof *out->g);
    out->n = 0;
    if (!out->g)
        return kvt_fail(err, KVT_ENOMEM, "no memory to show the prompt");
    int t = 0;
    for (size_t at = 0; at < bytes;) {
        for (; t < info->n_prompt && (size_t)info->token_end[t] <= at; t++)
            if (info->token_start[t] == info->token_end[t])
                for (const char *p = info->token_text[t]; *p;) {
                    uint32_t c;
                    out->g[out->n++] = glyph_at(p, t);
                    p += kvt_utf8_next(p, &c);
                }
        uint32_t c;
        int len = kvt_utf8_next(info->text + at, &c);
        out->g[out->n++] = glyph_at(info->text + at, t < info->n_prompt ? t : info->n_prompt - 1);
        at += (size_t)len;
    }
    return 0;
}

static int count_of(const struct kvt_tokenview *v, int token)
{
    int n = 0;
    if (token >= v->info->n_context)
        return -1; /* fed again after eviction: nothing decides about it */
    for (int m = 0; m < v->n_methods; m++)
        n += v->keeps[(size_t)m * (size_t)v->info->n_context + (size_t)token];
    return n;
}

static char count_sign(int n) { return n < 0 ? ' ' : n == 0 ? '.' : n < 10 ? (char)('0' + n) : n < 36 ? (char)('a' + n - 10) : '+'; }

/* A row of one sign for each column of glyphs [from, to), without the blanks at its end; false if it is all blank. */
static bool put_row(FILE *out, const struct glyphs *gs, int from, int to, const char *sign)
{
    int last = from - 1;
    for (int i = from; i < to; i++)
        if (sign[i - from] != ' ')
            last = i;
    for (int i = from; i <= last; i++)
        for (int w = 0; w < gs->g[i].width; w++)
            fputc(sign[i - from], out);
    return last >= from;
}

static void put_line(const struct kvt_tokenview *v, FILE *out, const struct glyphs *gs, int from, int to, char *sign)
{
    char esc[48];
    int now = -2;
    for (int i = from; i < to; i++) {
        const struct glyph *g = &gs->g[i];
        int count = count_of(v, g->token);
        if (count != now && v->colour) {
            fputs(kvt_colour_reset(v->colour), out);
            if (count >= 0)
                fputs(kvt_colour_step(v->colour, count, v->n_methods, esc, sizeof esc), out);
            now = count;
        }
        fwrite(g->s, 1, g->len, out);
        sign[i - from] = count_sign(count);
    }
    fputs(kvt_colour_reset(v->colour), out);
    fputc('\n', out);
    if (!v->colour && !v->tracks && put_row(out, gs, from, to, sign))
        fputc('\n', out);
    for (int m = 0; v->tracks && m < v->n_methods; m++) {
        for (int i = from; i < to; i++) {
            int t = gs->g[i].token;
            bool kept = t < v->info->n_context && v->keeps[(size_t)m * (size_t)v->info->n_context + (size_t)t];
            sign[i - from] = kept ? v->letter[m] : ' ';
        }
        fputs(kvt_colour_dim(v->colour), out);
        bool any = put_row(out, gs, from, to, sign);
        fputs(kvt_colour_reset(v->colour), out);
        if (any)
            fputc('\n', out);
    }
}

/* "shot 3  tokens 280 to 411, kept by 2.1 of 6 on average" above the span's first line */
static void put_heading(const struct kvt_tokenview *v, FILE *out, const struct kvt_trace_span *s)
{
    double sum = 0;
    int n = 0;
    for (int t = s->start; t < s->end && t < v->info->n_context; t++, n++)
        sum += count_of(v, t);
    fprintf(out, "%s%s%s%s  tokens %d to %d", kvt_colour_bold(v->colour), s->name, kvt_colour_reset(v->colour),
            kvt_colour_dim(v->colour), s->start, s->end - 1);
    if (n)
        fprintf(out, ", kept by %.1f of %d on average", sum / n, v->n_methods);
    else
        fputs(", fed again after eviction", out);
    fprintf(out, "%s\n", kvt_colour_reset(v->colour));
}

static const struct kvt_trace_span *span_starting_at(const struct kvt_trace_info *info, int token)
{
    for (int i = 0; i < info->n_spans; i++)
        if (info->span[i].start == token && kvt_is_section(&info->span[i]))
            return &info->span[i];
    return NULL;
}

static void put_legend(const struct kvt_tokenview *v, FILE *out)
{
    char esc[48];
    if (v->colour) {
        fputs("kept by ", out);
        for (int n = 0; n <= v->n_methods; n++)
            fprintf(out, "%s %d %s", kvt_colour_step(v->colour, n, v->n_methods, esc, sizeof esc), n,
                    kvt_colour_reset(v->colour));
        fprintf(out, " of %d methods", v->n_methods);
    } else if (!v->tracks) {
        fprintf(out, "Under each line: how many of the %d methods keep the token (. = none)", v->n_methods);
    } else {
        fputs("Under each line: the methods that keep the token", out);
    }
    int at = v->width; /* names start on a line of their own */
    for (int m = 0; m < v->n_methods; m++) {
        int len = (int)strlen(v->name[m]) + 4;
        if (at + len > v->width) {
            fputs("\n ", out);
            at = 1;
        }
        if (v->tracks)
            fprintf(out, " %c %s ", v->letter[m], v->name[m]);
        else
            fprintf(out, " %s%s", v->name[m], m + 1 < v->n_methods ? "," : "");
        at += len;
    }
    fputs("\n\n", out);
}

int kvt_tokenview_print(const struct kvt_tokenview *v, FILE *out, struct kvt_err *err)
{
    struct glyphs gs;
    int rc = glyphs_of(v->info, &gs, err);
    char *sign = rc ? NULL : kvt_calloc((size_t)gs.n + 1, 1);
    if (!rc && !sign)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory to show the prompt");
    if (!rc)
        put_legend(v, out);
    int headed = -1; /* the last token whose span's heading was printed */
    for (int from = 0; !rc && from < gs.n;) {
        const struct kvt_trace_span *s = gs.g[from].token != headed ? span_starting_at(v->info, gs.g[from].token) : NULL;
        if (s) {
            put_heading(v, out, s);
            headed = s->start;
        }
        int to = from, used = 0, after_blank = -1;
        while (to < gs.n && used + gs.g[to].width <= v->width) {
            const struct glyph *g = &gs.g[to];
            if (to > from && g->token != gs.g[to - 1].token && g->token != headed && span_starting_at(v->info, g->token))
                break; /* a span starts a line */
            used += g->width;
            to++;
            if (g->blank)
                after_blank = to;
            if (g->newline)
                break;
        }
        bool full = to < gs.n && used + gs.g[to].width > v->width;
        if (full && !gs.g[to - 1].newline && after_blank > from)
            to = after_blank;
        else if (to == from)
            to = from + 1; /* narrower than one character */
        put_line(v, out, &gs, from, to, sign);
        from = to;
    }
    free(gs.g);
    free(sign);
    return rc;
}

/* kvreport: a trace as one page of HTML that needs nothing else: for reading, and for sending to a colleague.
 *
 * The page is put together in memory (numbers: kvreport_measure.c; sections: kvreport_prompt.c, _text.c, _tables.c; pictures:
 * kvreport_pictures.c; a result of kvbench: kvreport_bench.c), so that it can be held below its size, and reaches its name only when it is whole. Its content security policy
 * lets in the style sheets and the script of this program, by their hashes, and nothing else. */
#include "analyzers/kvreport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/args.h"
#include "base/hash.h"
#include "base/html.h"

struct part { char *text; size_t bytes; };

static FILE *part_open(struct part *p, struct kvt_err *err)
{
    FILE *f = open_memstream(&p->text, &p->bytes);
    if (!f)
        kvt_fail(err, KVT_ENOMEM, "no memory for the page");
    return f;
}

static int part_close(FILE **f, int rc, struct kvt_err *err)
{
    bool bad = *f && ferror(*f);
    if (*f)
        bad |= fclose(*f) != 0;
    *f = NULL;
    return rc || !bad ? rc : kvt_fail(err, KVT_ENOMEM, "no memory for the page");
}

/* ---- the page ---- */

static const struct kvreport_section sections[] = {
    {"summary", "Summary"}, {"prompt", "Prompt"}, {"answers", "Answers"}, {"methods", "Methods"}, {"overlap", "Overlap"},
    {"coherence", "Coherence"}, {"attention", "Attention"}, {"origin", "Origin"},
};

/* ' 'sha256-...'' of what stands between the tags. */
static int put_hash(FILE *f, const void *data, size_t bytes, struct kvt_err *err)
{
    uint8_t hash[32];
    int rc = kvt_sha256(data, bytes, hash, err);
    fputs(" &#39;sha256-", f);
    kvt_base64(f, hash, sizeof hash);
    fputs("&#39;", f);
    return rc;
}

int kvreport_begin_page(FILE *f, const char *css, size_t css_bytes, const char *title, struct kvt_err *err)
{
    fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src &#39;none&#39;; base-uri &#39;none&#39;; form-action &#39;none&#39;; img-src data:; style-src", f);
    int rc = put_hash(f, css, css_bytes, err);
    if (!rc)
        rc = put_hash(f, kvreport_dark_css, kvreport_dark_css_bytes, err);
    fputs("; script-src", f);
    if (!rc)
        rc = put_hash(f, kvreport_js, kvreport_js_bytes, err);
    kvreport_say(f, "\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n"
                    "<meta name=\"generator\" content=\"kvreport %s\">\n<title>%s</title>\n<style>", kvt_version(), title);
    fwrite(css, 1, css_bytes, f);
    fputs("</style>\n<style id=\"dark\" media=\"screen and (prefers-color-scheme: dark)\">", f);
    fwrite(kvreport_dark_css, 1, kvreport_dark_css_bytes, f);
    fputs("</style>\n</head>\n<body>\n", f);
    return rc;
}

void kvreport_nav(FILE *f, const struct kvreport_section *section, int n)
{
    fputs("<button type=\"button\" id=\"theme\" hidden>Theme: automatic</button>\n</header>\n<nav aria-label=\"Sections\"><ul>\n", f);
    for (int i = 0; i < n; i++)
        fprintf(f, "<li><a href=\"#%s\">%s</a></li>\n", section[i].id, section[i].title);
    fputs("</ul></nav>\n<main>\n", f);
}

void kvreport_end_page(FILE *f)
{
    kvreport_say(f, "</main>\n<footer><p>Made by kvreport %s. Each number is defined in docs/measures.md of kvtrace.</p></footer>\n<script>", kvt_version());
    fwrite(kvreport_js, 1, kvreport_js_bytes, f);
    fputs("</script>\n</body>\n</html>\n", f);
}

static int put_head(struct kvreport *r, const struct part *css, FILE *f, struct kvt_err *err)
{
    char title[400];
    snprintf(title, sizeof title, "%.300s: what %d compressed caches kept", r->info->model_name, r->n);
    int rc = kvreport_begin_page(f, css->text, css->bytes, title, err);
    kvreport_say(f, "<header>\n<h1>%s</h1>\n<p>%d branches of one prefill of %d tokens, protocol %s. Trace: <code>%s</code></p>\n",
                 r->info->model_name, r->n, r->info->n_prompt, r->info->protocol, r->path);
    kvreport_nav(f, sections, (int)(sizeof sections / sizeof *sections));
    return rc;
}

/* Puts the pictures of a section into it, before its end: sections are written without pictures first, to know the room. */
static void put_with_pictures(const struct part *body, struct kvreport_pictures *pictures, int64_t *room, FILE *f)
{
    const char *at = body->text;
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        char start[48];
        snprintf(start, sizeof start, "<section id=\"%s\">", sections[i].id);
        const char *from = strstr(at, start), *end = from ? strstr(from, "</section>") : NULL; /* user's text has no '<' */
        if (!end)
            continue;
        fwrite(at, 1, (size_t)(end - at), f);
        kvreport_pictures_put(pictures, sections[i].id, room, f);
        at = end;
    }
    fputs(at, f);
}

static int make_body(struct kvreport *r, const struct kvreport_views *views, struct kvt_err *err)
{
    kvreport_summary(r);
    int rc = kvreport_prompt(r, views, err);
    if (!rc)
        rc = kvreport_answers(r, err);
    if (!rc)
        rc = kvreport_methods(r, err);
    fputs("</section>\n", r->html);
    if (!rc)
        rc = kvreport_overlap(r, err);
    fputs("</section>\n", r->html);
    if (!rc)
        rc = kvreport_coherence(r, err);
    fputs("</section>\n", r->html);
    if (!rc)
        rc = kvreport_attention(r, err);
    fputs("</section>\n", r->html);
    kvreport_origin(r);
    return rc ? rc : kvreport_numbers(r, views, err);
}

static int write_page(struct kvreport *r, struct kvreport_pictures *pictures, FILE *f, struct kvt_err *err)
{
    struct part css = {0}, body = {0};
    struct kvreport_views views = {0};
    FILE *css_file = NULL;
    int rc = kvreport_make_views(r, &views, err);
    if (!rc && !(css_file = part_open(&css, err)))
        rc = KVT_ENOMEM;
    if (!rc) {
        fwrite(kvreport_css, 1, kvreport_css_bytes, css_file);
        kvreport_view_rules(&views, css_file);
        rc = part_close(&css_file, rc, err);
    }
    if (!rc && !(r->html = part_open(&body, err)))
        rc = KVT_ENOMEM;
    if (!rc)
        rc = part_close(&r->html, make_body(r, &views, err), err);
    if (!rc && pictures)
        rc = kvreport_pictures_wait(pictures, err);
    int64_t fixed = (int64_t)(css.bytes + body.bytes + kvreport_dark_css_bytes + kvreport_js_bytes) + 20000, room = KVREPORT_MOST_BYTES - fixed;
    if (!rc && room < 0)
        rc = kvt_fail(err, KVT_EINPUT, "%s: the page would take %.1f MB without a picture, above %d MB; trace fewer branches, or a shorter prompt", r->path,
                      (double)fixed / 1e6, KVREPORT_MOST_BYTES / 1000000);
    if (!rc)
        rc = put_head(r, &css, f, err);
    if (!rc) {
        put_with_pictures(&body, pictures, &room, f);
        kvreport_end_page(f);
    }
    free(css.text);
    free(body.text);
    free(views.v);
    return rc;
}

/* ---- the tool ---- */

static int write_file(struct kvreport *r, struct kvreport_pictures *pictures, struct kvt_err *err)
{
    char part[1100];
    if (snprintf(part, sizeof part, "%s.part", r->o.out) >= (int)sizeof part)
        return kvt_fail(err, KVT_EUSAGE, "the path of the page is too long");
    FILE *f = fopen(part, "w");
    if (!f)
        return kvt_fail(err, KVT_EIO, "%s: %s", part, strerror(errno));
    int rc = kvreport_is_result(r->path) ? kvreport_of_result(r->path, f, err) : write_page(r, pictures, f, err);
    bool bad = ferror(f);
    if ((fclose(f) || bad) && !rc)
        rc = kvt_fail(err, KVT_EIO, "%s: writing failed (disk full?)", part);
    if (!rc && rename(part, r->o.out))
        rc = kvt_fail(err, KVT_EIO, "%s: %s", r->o.out, strerror(errno));
    if (rc)
        unlink(part);
    return rc;
}

int main(int argc, char **argv)
{
    struct kvreport r = {0};
    struct kvreport_options *o = &r.o;
    const struct kvt_opt opt[] = {
        {.name = "out", .letter = 'o', .type = KVT_OPT_STRING, .to = &o->out, .value = "FILE", .help = "the page to write, report.html"},
        {.name = "prompt", .type = KVT_OPT_STRING, .to = &o->prompt, .value = "ID", .help = "of a trace with several (default: the first)"},
        {.name = "keep", .letter = 'k', .type = KVT_OPT_STRING, .to = &o->keep, .value = "25%", .help = "the budget shown first (default: the middle one)"},
        {.name = "shifts", .type = KVT_OPT_INT, .to = &o->shifts, .value = "N", .def = "200", .max = 100000, .help = "circular shifts for the nulls; 0: none"},
        {.name = "seed", .type = KVT_OPT_U64, .to = &o->seed, .value = "N", .def = "1", .help = "seed of the shifts"},
        {.name = "no-pictures", .type = KVT_OPT_FLAG, .to = &o->no_pictures, .help = "only text and tables"},
    };
    const struct kvt_cli cli = {
        .tool = "kvreport", .operands = "run.h5 | result.jsonl", .min_operands = 1, .max_operands = 1,
        .about = "A trace as one page of HTML: summary, the prompt in colour by who keeps each token, what each branch wrote, tables, pictures. Or a result of kvbench: tables, accuracy against memory, every text.",
        .example = "kvreport run.h5 -o report.html", .opt = opt, .n_opts = (int)(sizeof opt / sizeof *opt),
    };
    struct kvt_err err = {0};
    struct kvt_args args;
    struct kvreport_pictures *pictures = NULL;
    bool result = false;
    int rc = kvt_args_parse(&cli, argc, argv, &args, &err);
    if (!rc && !o->out)
        rc = kvt_fail(&err, KVT_EUSAGE, "missing -o; for example: %s", cli.example);
    if (!rc) {
        r.path = args.operand[0];
        result = kvreport_is_result(r.path);
        rc = result ? 0 : kvt_trace_open(&r.trace, r.path, o->prompt, &err);
    }
    if (!rc && !result) {
        r.info = kvt_trace_info(r.trace);
        kvt_warn_partial(r.info, "kvreport", r.path, stderr);
    }
    if (!rc && !result && !o->no_pictures)
        rc = kvreport_pictures_start(&pictures, &r, &err);
    if (!rc && !result)
        rc = kvreport_measure(&r, &err);
    if (!rc)
        rc = write_file(&r, pictures, &err);
    kvreport_pictures_free(&pictures);
    kvreport_free(&r);
    return kvt_args_end(&cli, rc, &err);
}

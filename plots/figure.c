/* Running gnuplot on a folder of script and data. */
#include "plots/figure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/utf8.h"

#ifndef KVT_PLOTS_DIR
#define KVT_PLOTS_DIR ""
#endif

const char *const kvt_paper_names[4] = {"screen", "column", "page", NULL};

/* The same figure in each: a gnuplot terminal without size and fonts; pixels of a point on screens and on paper (0: sizes are in
 * inches); and, measured, what a font's size, a line's width and a mark's size are multiplied by to be what they are in a PDF. */
static const struct { const char *extension, *terminal; double pixels, paper_pixels, font, line, mark; bool bold, frames; } kinds[] = {
    {".png", "pngcairo noenhanced background '#ffffff'", 2, 300 / 72.0, 0.75, 1, 1, true, false},
    {".svg", "svg noenhanced dynamic background '#ffffff'", 1, 1, 1, 0.55, 0.78, false, false},
    {".pdf", "pdfcairo noenhanced background '#ffffff'", 0, 0, 0.75, 1, 1, true, false},
    {".tex", "cairolatex pdf", 0, 0, 1, 1, 1, true, false},
    {".gif", "gif noenhanced background '#ffffff'", 1.5, 300 / 72.0, 0.75, 1, 1, false, true},
};
enum { KINDS = sizeof kinds / sizeof *kinds };
#define LINE_WIDTH 0.8

/* ---- texts ---- */

/* TeX's own characters; a minus and quotes are left as they are. */
static const char *latex_for(uint32_t c, char *buf)
{
    switch (c) {
    case '\\': return "\\textbackslash{}";
    case '~': return "\\textasciitilde{}";
    case '^': return "\\textasciicircum{}";
    case '<': return "\\textless{}";
    case '>': return "\\textgreater{}";
    case '|': return "\\textbar{}";
    case '"': return "''";
    }
    if (c >= 0x80 || !strchr("#$%&_{}", (int)c))
        return NULL;
    buf[0] = '\\';
    buf[1] = (char)c;
    buf[2] = 0;
    return buf;
}

/* quote: the one that is doubled (a literal's), 0 in a field. */
static void put_inside(FILE *out, const char *s, bool latex, char quote, bool format)
{
    while (*s) {
        uint32_t c;
        char buf[3];
        int len = kvt_utf8_next(s, &c);
        const char *tex = latex ? latex_for(c, buf) : NULL;
        if (c == KVT_UTF8_BAD)
            fputc('?', out); /* cairo would leave the whole text out */
        else if (c < 0x20 || (c >= 0x7f && c < 0xa0))
            fputc(' ', out);
        else if (!quote && !tex && (c == '"' || c == '\\'))
            fputc('\'', out);
        else if (tex)
            for (; *tex; tex++) {
                fputc(*tex, out);
                if (quote && *tex == quote)
                    fputc(quote, out);
            }
        else
            fwrite(s, 1, (size_t)len, out);
        if ((quote && c == (unsigned char)quote) || (format && c == '%'))
            fputc((int)c, out); /* a quote's only escape inside single quotes; a format's */
        s += len;
    }
}

void kvt_gp_text(const struct kvt_figure *f, const char *s)
{
    fputc('\'', f->gp);
    put_inside(f->gp, s, f->latex, '\'', false);
    fputc('\'', f->gp);
}

void kvt_gp_tic(const struct kvt_figure *f, const char *s)
{
    fputc('\'', f->gp);
    put_inside(f->gp, s, f->latex, '\'', true);
    fputc('\'', f->gp);
}

void kvt_gp_sized(const struct kvt_figure *f, const char *s, double size, bool bold)
{
    if (f->latex)
        fprintf(f->gp, "'\\fontsize{%.3g}{%.3g}%s\\selectfont ", size, 1.2 * size, bold ? "\\bfseries" : "");
    else
        fputc('\'', f->gp);
    put_inside(f->gp, s, f->latex, '\'', false);
    fputc('\'', f->gp);
    if (!f->latex) /* which places a text in braces by itself */
        fprintf(f->gp, " font '%s,%.3g'", bold && kinds[f->kind].bold ? "DejaVu Sans:Bold" : "", size);
}

void kvt_gp_comment(FILE *data, const char *s) { put_inside(data, s, false, 0, false); }

void kvt_gp_field(const struct kvt_figure *f, FILE *data, const char *s)
{
    fputc('"', data);
    put_inside(data, s, f->latex, 0, false);
    fputc('"', data);
}

/* ---- kinds ---- */

static int find_kind(const char *out)
{
    const char *dot = strrchr(out, '.');
    for (int k = 0; dot && k < KINDS; k++)
        if (!strcmp(dot, kinds[k].extension))
            return k;
    return -1;
}

int kvt_figure_check(const char *out, bool frames, struct kvt_err *err)
{
    int kind = find_kind(out);
    if (kind < 0)
        return kvt_fail(err, KVT_EUSAGE, "%s: unknown kind of picture; end it in .png, .svg, .pdf or .tex%s", out, frames ? ", or in .gif" : "");
    if (kinds[kind].frames && !frames)
        return kvt_fail(err, KVT_EUSAGE, "%s: this figure has no frames to animate; only kept --steps N has (.png, .svg, .pdf or .tex)", out);
    return 0;
}

void kvt_figure_terminal(struct kvt_figure *f, double width, double height, double em)
{
    int k = f->kind;
    double pixels = f->o.paper ? kinds[k].paper_pixels : kinds[k].pixels, scale = pixels > 0 ? pixels : 1;
    bool scales = !f->latex && strcmp(kinds[k].extension, ".svg");
    fprintf(f->gp, "# Made by kvplot; the look is in %s.gp. Change what you like, then: gnuplot plot.gp\n", f->o.style);
    fprintf(f->gp, "set terminal %s", kinds[k].terminal);
    if (f->latex)
        fprintf(f->gp, " font ',%g' header '\\fontsize{%g}{%g}\\selectfont'", em, em, 1.2 * em);
    else
        fprintf(f->gp, " font 'DejaVu Sans,%g'", em);
    if (scales)
        fprintf(f->gp, " fontscale %g", kinds[k].font * scale);
    if (kinds[k].frames)
        fprintf(f->gp, " animate delay %d loop 0 optimize", f->o.delay_ms / 10);
    fprintf(f->gp, " linewidth %g", LINE_WIDTH * kinds[k].line * scale);
    if (pixels > 0)
        fprintf(f->gp, " size %.0f,%.0f\n", width * pixels, height * pixels);
    else
        fprintf(f->gp, " size %.5fin,%.5fin\n", width / 72, height / 72);
    fprintf(f->gp, "set output 'figure%s'\nmark = %g # of a mark's size\n", kinds[k].extension, kinds[k].mark * scale);
}

static bool readable(const char *path) { return access(path, R_OK) == 0; }

/* --style-dir; else the sources' plots/; else ../share/kvtrace/plots or ../plots from the program's folder. */
static int find_style(struct kvt_figure *f, struct kvt_err *err)
{
    const struct kvt_figure_opts *o = &f->o;
    if (o->style_dir) {
        snprintf(f->style_path, sizeof f->style_path, "%s/%s.gp", o->style_dir, o->style);
        if (readable(f->style_path))
            return 0;
        return kvt_fail(err, KVT_EIO, "%s: %s; --style-dir takes a folder with %s.gp", f->style_path, strerror(errno), o->style);
    }
    char self[512];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    self[len > 0 ? len : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    const char *near[] = {"/../share/kvtrace/plots", "/../plots", "/../../plots"};
    snprintf(f->style_path, sizeof f->style_path, "%s/%s.gp", KVT_PLOTS_DIR, o->style);
    for (int i = 0; !readable(f->style_path) && i < 3; i++)
        snprintf(f->style_path, sizeof f->style_path, "%s%s/%s.gp", self, near[i], o->style);
    if (readable(f->style_path))
        return 0;
    return kvt_fail(err, KVT_EIO, "%s.gp is neither in %s nor near the program; name its folder with --style-dir", o->style,
                    KVT_PLOTS_DIR);
}

/* gnuplot runs inside the folder, so the style's path must not depend on where we are. */
static int make_absolute(char *path, size_t cap, struct kvt_err *err)
{
    char full[1600];
    if (path[0] == '/')
        return 0;
    if (!getcwd(full, sizeof full - cap))
        return kvt_fail(err, KVT_EIO, "this folder's path: %s", strerror(errno));
    size_t len = strlen(full);
    int need = snprintf(full + len, sizeof full - len, "/%s", path);
    if (len + (size_t)need >= cap)
        return kvt_fail(err, KVT_EIO, "%s: path too long", path);
    memcpy(path, full, len + (size_t)need + 1);
    return 0;
}

static int make_folder(struct kvt_figure *f, struct kvt_err *err)
{
    if (f->o.data) {
        snprintf(f->dir, sizeof f->dir, "%s", f->o.data);
        if (mkdir(f->dir, 0777) && errno != EEXIST)
            return kvt_fail(err, KVT_EIO, "%s: %s", f->dir, strerror(errno));
        return 0;
    }
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%s/kvplot.XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
    if (!mkdtemp(f->dir)) {
        int rc = kvt_fail(err, KVT_EIO, "%s: %s; set TMPDIR to a folder with room", f->dir, strerror(errno));
        f->dir[0] = 0;
        return rc;
    }
    return 0;
}

/* A kept folder stands by itself: its style can be edited and the picture drawn again. One that is there already stays,
 * so that edits survive the next run. */
static int copy_style(struct kvt_figure *f, struct kvt_err *err)
{
    char path[600], block[4096];
    snprintf(path, sizeof path, "%s/%s.gp", f->dir, f->o.style);
    if (readable(path))
        return 0;
    FILE *from = fopen(f->style_path, "r"), *to = from ? fopen(path, "w") : NULL;
    size_t n;
    bool bad = !to;
    while (!bad && (n = fread(block, 1, sizeof block, from)) > 0)
        bad = fwrite(block, 1, n, to) != n;
    if (to && fclose(to))
        bad = true;
    if (from)
        fclose(from);
    return bad ? kvt_fail(err, KVT_EIO, "%s: %s", path, strerror(errno)) : 0;
}

FILE *kvt_figure_data(struct kvt_figure *f, const char *name, struct kvt_err *err)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    FILE *file = fopen(path, "wb");
    if (!file)
        kvt_fail(err, KVT_EIO, "%s: %s", path, strerror(errno));
    return file;
}

int kvt_figure_close(FILE *data, const char *name, int rc, struct kvt_err *err)
{
    bool bad = data && ferror(data);
    if (data && (fclose(data) || bad) && !rc)
        rc = kvt_fail(err, KVT_EIO, "%s: writing failed (disk full?)", name);
    return rc;
}

int kvt_figure_begin(struct kvt_figure *f, const struct kvt_figure_opts *o, struct kvt_err *err)
{
    *f = (struct kvt_figure){.o = *o, .kind = find_kind(o->out)};
    int rc = kvt_figure_check(o->out, true, err);
    f->latex = !rc && !strcmp(kinds[f->kind].extension, ".tex");
    if (!rc)
        rc = find_style(f, err);
    if (!rc)
        rc = make_absolute(f->style_path, sizeof f->style_path, err);
    if (!rc)
        rc = make_folder(f, err);
    if (!rc && o->data)
        rc = copy_style(f, err);
    if (!rc && !(f->gp = kvt_figure_data(f, "plot.gp", err)))
        rc = KVT_EIO;
    return rc;
}

void kvt_figure_style(struct kvt_figure *f)
{
    char name[64];
    struct kvt_figure plain = *f; /* a file's name isn't LaTeX's */
    plain.latex = false;
    snprintf(name, sizeof name, "%s.gp", f->o.style);
    fputs("load ", f->gp);
    kvt_gp_text(&plain, f->o.data ? name : f->style_path);
    fputc('\n', f->gp);
}

/* ---- gnuplot ---- */

/* In the child: complaints into gnuplot.err, no user settings (-d). */
static void become_gnuplot(const struct kvt_figure *f)
{
    char gnuplot[] = "gnuplot", no_settings[] = "-d", script[] = "plot.gp";
    char *argv[] = {gnuplot, no_settings, script, NULL};
    if (chdir(f->dir))
        _exit(126);
    int complaints = open("gnuplot.err", O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (complaints < 0 || dup2(complaints, STDERR_FILENO) < 0 || dup2(complaints, STDOUT_FILENO) < 0)
        _exit(126);
    execvp("gnuplot", argv);
    _exit(errno == ENOENT ? 127 : 126);
}

static void first_complaint(const struct kvt_figure *f, char *line, size_t cap)
{
    char path[600];
    snprintf(path, sizeof path, "%s/gnuplot.err", f->dir);
    FILE *file = fopen(path, "r");
    line[0] = 0;
    while (file && fgets(line, (int)cap, file)) {
        line[strcspn(line, "\n")] = 0;
        if (strstr(line, "line ")) /* "plot.gp" line 12: what */
            break;
    }
    if (file)
        fclose(file);
}

static int run_gnuplot(struct kvt_figure *f, struct kvt_err *err)
{
    char line[256];
    fflush(stdout);
    pid_t pid = fork();
    if (!pid)
        become_gnuplot(f);
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid < 0)
        return kvt_fail(err, KVT_EIO, "cannot start gnuplot: %s", strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return kvt_fail(err, KVT_EIO, "gnuplot is not installed; on Debian: apt-get install gnuplot-nox");
    if (WIFEXITED(status) && !WEXITSTATUS(status))
        return 0;
    first_complaint(f, line, sizeof line);
    return kvt_fail(err, KVT_EIO, "gnuplot failed: %s", line[0] ? line : "no picture came out (disk full?)");
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A line of a text, with what gnuplot can't say: the graphic that a .tex includes is named as the target is, and an SVG's images
 * have cells, which viewers would blur. */
static bool put_line(FILE *to, const char *line, const char *old, const char *new)
{
    const char *at = strstr(line, old);
    if (!at)
        return fputs(line, to) >= 0;
    return fprintf(to, "%.*s%s%s", (int)(at - line), line, new, at + strlen(old)) >= 0;
}

/* Writes a file of the folder to the target, whole or not at all. */
static int deliver(const struct kvt_figure *f, const char *extension, const char *out, struct kvt_err *err)
{
    char from_path[600], part[1100], block[65536], name[600];
    bool tex = !strcmp(extension, ".tex"), svg = !strcmp(extension, ".svg");
    snprintf(from_path, sizeof from_path, "%s/figure%s", f->dir, extension);
    snprintf(name, sizeof name, "]{%.*s}", (int)strlen(base_name(out)) - 4, base_name(out));
    if (snprintf(part, sizeof part, "%s.part", out) >= (int)sizeof part)
        return kvt_fail(err, KVT_EUSAGE, "the path of the picture is too long");
    FILE *from = fopen(from_path, "rb");
    if (!from)
        return kvt_fail(err, KVT_EIO, "gnuplot failed: no picture came out (disk full?)");
    FILE *to = fopen(part, "wb");
    bool bad = !to;
    size_t n, all = 0;
    while (!bad && (tex || svg) && fgets(block, sizeof block, from)) {
        bad = !put_line(to, block, tex ? "]{figure}" : "<image x", tex ? name : "<image style='image-rendering:optimizeSpeed;image-rendering:pixelated' x");
        all++;
    }
    while (!bad && !tex && !svg && (n = fread(block, 1, sizeof block, from)) > 0) {
        bad = fwrite(block, 1, n, to) != n;
        all += n;
    }
    fclose(from);
    if (to && fclose(to))
        bad = true;
    if (!bad && all && !rename(part, out))
        return 0;
    int rc = bad ? kvt_fail(err, KVT_EIO, "%s: %s", to ? out : part, strerror(errno))
                 : kvt_fail(err, KVT_EIO, all ? "%s: cannot be replaced" : "%s: gnuplot drew nothing (disk full?)", out);
    unlink(part);
    return rc;
}

static int deliver_all(const struct kvt_figure *f, struct kvt_err *err)
{
    char graphic[1100];
    int rc = deliver(f, kinds[f->kind].extension, f->o.out, err);
    if (rc || !f->latex)
        return rc;
    snprintf(graphic, sizeof graphic, "%.*s.pdf", (int)strlen(f->o.out) - 4, f->o.out);
    return deliver(f, ".pdf", graphic, err);
}

/* Names that a figure can have written; nothing else in the folder is ours. */
static void remove_folder(const struct kvt_figure *f)
{
    char path[600];
    const char *fixed[] = {"plot.gp", "gnuplot.err", "matrix.tsv", "chart.tsv", "tree.tsv", "figure.pdf"};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        snprintf(path, sizeof path, "%s/%s", f->dir, fixed[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/figure%s", f->dir, kinds[f->kind].extension);
    unlink(path);
    for (int i = 0; i < 256; i++) {
        snprintf(path, sizeof path, "%s/panel%d.tsv", f->dir, i);
        if (unlink(path))
            break;
    }
    rmdir(f->dir);
}

int kvt_figure_end(struct kvt_figure *f, int rc, struct kvt_err *err)
{
    if (f->gp) {
        bool bad = ferror(f->gp);
        if ((fclose(f->gp) || bad) && !rc)
            rc = kvt_fail(err, KVT_EIO, "%s/plot.gp: writing failed (disk full?)", f->dir);
    }
    if (!rc)
        rc = run_gnuplot(f, err);
    if (!rc)
        rc = deliver_all(f, err);
    if (f->dir[0] && !f->o.data)
        remove_folder(f);
    return rc;
}

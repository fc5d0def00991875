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

/* The same figure in each: sizes in points; a PNG has two pixels a point, so that it's sharp on paper and screens. */
static const struct { const char *extension, *terminal; double per_point; const char *unit; } kinds[] = {
    {".png", "pngcairo noenhanced background '#ffffff' font 'DejaVu Sans,10' fontscale 1.55 linewidth 1.6", 2, ""},
    {".svg", "svg noenhanced dynamic background '#ffffff' font 'DejaVu Sans,11'", 1, ""},
    {".pdf", "pdfcairo noenhanced background '#ffffff' font 'DejaVu Sans,11' fontscale 0.8 linewidth 0.8", 1 / 72.0, "in"},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void put_literal(FILE *gp, const char *s, bool format)
{
    fputc('\'', gp);
    while (*s) {
        uint32_t c;
        int len = kvt_utf8_next(s, &c);
        if (c == KVT_UTF8_BAD)
            fputc('?', gp); /* cairo would leave the whole text out */
        else if (c < 0x20 || (c >= 0x7f && c < 0xa0))
            fputc(' ', gp);
        else
            fwrite(s, 1, (size_t)len, gp);
        if (c == '\'' || (format && c == '%'))
            fputc((int)c, gp); /* a quote's only escape inside single quotes; a format's */
        s += len;
    }
    fputc('\'', gp);
}

void kvt_gp_text(FILE *gp, const char *s) { put_literal(gp, s, false); }
void kvt_gp_tic(FILE *gp, const char *s) { put_literal(gp, s, true); }

static int find_kind(const char *out)
{
    const char *dot = strrchr(out, '.');
    for (int k = 0; dot && k < KINDS; k++)
        if (!strcmp(dot, kinds[k].extension))
            return k;
    return -1;
}

int kvt_figure_check(const char *out, struct kvt_err *err)
{
    if (find_kind(out) >= 0)
        return 0;
    return kvt_fail(err, KVT_EUSAGE, "%s: unknown kind of picture; end it in .png, .svg or .pdf", out);
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
    if (f->o.keep_data) {
        snprintf(f->dir, sizeof f->dir, "%s", f->o.keep_data);
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

int kvt_figure_begin(struct kvt_figure *f, const struct kvt_figure_opts *o, int width, int height, struct kvt_err *err)
{
    *f = (struct kvt_figure){.o = *o, .kind = find_kind(o->out)};
    int rc = kvt_figure_check(o->out, err);
    if (!rc)
        rc = find_style(f, err);
    if (!rc)
        rc = make_absolute(f->style_path, sizeof f->style_path, err);
    if (!rc)
        rc = make_folder(f, err);
    if (!rc && o->keep_data)
        rc = copy_style(f, err);
    if (!rc && !(f->gp = kvt_figure_data(f, "plot.gp", err)))
        rc = KVT_EIO;
    if (rc)
        return rc;
    fprintf(f->gp, "# Made by kvplot. The look is in the style loaded below. To draw again: gnuplot plot.gp > picture%s\n",
            kinds[f->kind].extension);
    fprintf(f->gp, "set terminal %s size %g%s,%g%s\n", kinds[f->kind].terminal, width * kinds[f->kind].per_point,
            kinds[f->kind].unit, height * kinds[f->kind].per_point, kinds[f->kind].unit);
    return 0;
}

void kvt_figure_style(struct kvt_figure *f)
{
    char name[64];
    snprintf(name, sizeof name, "%s.gp", f->o.style);
    fputs("load ", f->gp);
    kvt_gp_text(f->gp, f->o.keep_data ? name : f->style_path);
    fputc('\n', f->gp);
}

/* In the child: picture on stdout, complaints into gnuplot.err, no user settings (-d). */
static void become_gnuplot(const struct kvt_figure *f, int out)
{
    char gnuplot[] = "gnuplot", no_settings[] = "-d", script[] = "plot.gp";
    char *argv[] = {gnuplot, no_settings, script, NULL};
    if (chdir(f->dir))
        _exit(126);
    int complaints = open("gnuplot.err", O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (dup2(out, STDOUT_FILENO) < 0 || complaints < 0 || dup2(complaints, STDERR_FILENO) < 0)
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
    char part[1100], line[256];
    if (snprintf(part, sizeof part, "%s.part", f->o.out) >= (int)sizeof part)
        return kvt_fail(err, KVT_EUSAGE, "the path of the picture is too long");
    int out = open(part, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (out < 0)
        return kvt_fail(err, KVT_EIO, "%s: %s", part, strerror(errno));
    fflush(stdout);
    pid_t pid = fork();
    if (!pid)
        become_gnuplot(f, out);
    int status = 0, rc = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    struct stat st = {0};
    if (pid < 0) {
        rc = kvt_fail(err, KVT_EIO, "cannot start gnuplot: %s", strerror(errno));
    } else if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        rc = kvt_fail(err, KVT_EIO, "gnuplot is not installed; on Debian: apt-get install gnuplot-nox");
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) || fstat(out, &st) || !st.st_size) {
        first_complaint(f, line, sizeof line);
        rc = kvt_fail(err, KVT_EIO, "gnuplot failed: %s", line[0] ? line : "no picture came out (disk full?)");
    }
    if (close(out) && !rc)
        rc = kvt_fail(err, KVT_EIO, "%s: %s", part, strerror(errno));
    if (!rc && rename(part, f->o.out))
        rc = kvt_fail(err, KVT_EIO, "%s: %s", f->o.out, strerror(errno));
    if (rc)
        unlink(part);
    return rc;
}

/* Names that a figure can have written; nothing else in the folder is ours. */
static void remove_folder(const struct kvt_figure *f)
{
    char path[600];
    const char *fixed[] = {"plot.gp", "gnuplot.err", "matrix.txt", "chart.tsv"};
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", f->dir, fixed[i]);
        unlink(path);
    }
    for (int i = 0; i < 64; i++) {
        snprintf(path, sizeof path, "%s/panel%d.bin", f->dir, i);
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
    if (f->dir[0] && !f->o.keep_data)
        remove_folder(f);
    return rc;
}

/* kvreport: pictures. kvplot draws them, two at a time, in a folder of their own, while the report measures; each is then put into the page
 * as an image of its own (an SVG inside an image can run nothing and load nothing). What can't be drawn says why. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzers/kvreport.h"
#include "base/html.h"
#include "base/mem.h"

enum { AT_ONCE = 2, MOST_SVG_BYTES = 150000 };

/* Rows of attention (L x H x n_prompt) beyond which pictures that read all of them, a second or more each, are left to kvplot. */
#define PICTURES_MOST_ROWS 16e6

/* Which, in which section, as what; what it shows. */
static const struct figure { const char *name, *section, *kind, *caption; } figures[] = {
    {"kept", "methods", "png", "What each method keeps: tokens of the context across, layers down; the darker, the more kv heads hold it."},
    {"budget", "methods", "svg", "Distance from the full cache (KL of the next token) against the share of slots held."},
    {"bytes", "methods", "svg", "Distance from the full cache against bytes of keys and values, mean over steps."},
    {"kl", "methods", "svg", "Distance from the full cache at each generated token."},
    {"lost", "methods", "png", "Attention of the full cache on slots that a branch has lost, by layer and budget."},
    {"depth", "methods", "svg", "Which part of the context is kept: share of its tokens that are held, by place."},
    {"survival", "methods", "svg", "How much of the context is still held at each step, by kind of span."},
    {"asked", "methods", "svg", "The budget asked for against what was really held."},
    {"overlap", "overlap", "png", "Adjusted overlap of every two methods: 1 nested, 0 chance; the tree joins those that go together."},
    {"sets", "overlap", "svg", "How many slots are kept by exactly which methods together."},
    {"coherence", "coherence", "svg", "How whole the shots are (C*), beside the same mask moved in a circle."},
    {"heatmap", "attention", "png", "Attention of the prefill, pooled: the mean of all heads, then a few telling ones."},
    {"spans", "attention", "png", "Attention from each span to each other."},
    {"layers", "attention", "svg", "Entropy and mass on sinks, by layer."},
    {"lorenz", "attention", "svg", "How few tokens hold how much of the attention."},
    {"heads", "attention", "png", "What each head does, and how many slots the methods keep in it."},
    {"timeline", "origin", "svg", "Where the time of the run went."},
};
enum { FIGURES = sizeof figures / sizeof *figures };

struct one {
    pid_t pid;
    bool drawn;
    const char *kind;          /* "svg" or "png" */
    char why[400];             /* why there is none */
    unsigned char *data;
    size_t bytes;
};

struct kvreport_pictures {
    char dir[512], program[1024];
    const char *path, *prompt, *keep, *model;
    struct one one[FIGURES];
    bool many_rows;
    int next;                  /* the first that wasn't started */
};

/* kvplot beside this program, else the one in PATH. */
static void find_program(char *out, size_t cap)
{
    char self[900];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    snprintf(out, cap, "%s/kvplot", self);
    if (access(out, X_OK))
        snprintf(out, cap, "kvplot");
}

static void name_of(const struct kvreport_pictures *p, int i, const char *ending, char *out, size_t cap)
{
    snprintf(out, cap, "%s/%s.%s", p->dir, figures[i].name, ending);
}

static void become_kvplot(const struct kvreport_pictures *p, int i)
{
    char out[700], said[700];
    const char *argv[12] = {"kvplot", figures[i].name, "-o", out};
    int n = 4;
    name_of(p, i, p->one[i].kind, out, sizeof out);
    name_of(p, i, "said", said, sizeof said);
    if (p->prompt) {
        argv[n++] = "--prompt";
        argv[n++] = p->prompt;
    }
    if (p->keep && (!strcmp(figures[i].section, "overlap") || !strcmp(figures[i].name, "kept"))) {
        argv[n++] = "--keep";
        argv[n++] = p->keep;
    }
    argv[n++] = "--";
    argv[n++] = p->path;
    argv[n] = NULL;
    int err = open(said, O_WRONLY | O_CREAT | O_TRUNC, 0600), null = open("/dev/null", O_RDWR);
    if (err < 0 || null < 0 || dup2(err, STDERR_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(null, STDIN_FILENO) < 0)
        _exit(126);
    execvp(p->program, (char **)argv);
    _exit(errno == ENOENT ? 127 : 126);
}

static void start(struct kvreport_pictures *p, int i)
{
    const char *name = figures[i].name;
    if (p->many_rows && (!strcmp(name, "heads") || !strcmp(name, "layers") || !strcmp(name, "lorenz"))) {
        snprintf(p->one[i].why, sizeof p->one[i].why, "it takes long for a prompt of this length; kvplot %s draws it", name);
        return;
    }
    fflush(NULL); /* nothing half-written into two processes */
    pid_t pid = fork();
    if (!pid)
        become_kvplot(p, i);
    p->one[i].pid = pid > 0 ? pid : 0;
    if (pid < 0)
        snprintf(p->one[i].why, sizeof p->one[i].why, "cannot start kvplot: %s", strerror(errno));
}

int kvreport_pictures_start(struct kvreport_pictures **out, const struct kvreport *r, struct kvt_err *err)
{
    struct kvreport_pictures *p = *out = kvt_calloc(1, sizeof *p);
    if (!p)
        return kvt_fail(err, KVT_ENOMEM, "no memory for pictures");
    const char *tmp = getenv("TMPDIR");
    snprintf(p->dir, sizeof p->dir, "%s/kvreport.XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
    if (!mkdtemp(p->dir)) {
        int rc = kvt_fail(err, KVT_EIO, "%s: %s; set TMPDIR to a folder with room", p->dir, strerror(errno));
        p->dir[0] = 0;
        return rc;
    }
    find_program(p->program, sizeof p->program);
    p->path = r->path;
    p->prompt = r->o.prompt;
    p->keep = r->o.keep;
    p->model = r->info->model_name;
    for (int i = 0; i < FIGURES; i++)
        p->one[i].kind = figures[i].kind;
    p->many_rows = (double)r->info->L * r->info->H * r->info->n_prompt > PICTURES_MOST_ROWS;
    while (p->next < AT_ONCE)
        start(p, p->next++);
    return 0;
}

/* The last line it said, without its own name. */
static void why_not(const struct kvreport_pictures *p, int i, int status, char *out, size_t cap)
{
    char said[700], line[400];
    name_of(p, i, "said", said, sizeof said);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        snprintf(out, cap, "there is no kvplot beside kvreport or in PATH");
    else
        snprintf(out, cap, "kvplot failed");
    FILE *f = fopen(said, "r");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] && !strstr(line, ": note: "))
            snprintf(out, cap, "%s", strncmp(line, "kvplot: ", 8) ? line : line + 8);
    }
    if (f)
        fclose(f);
}

static int load(struct kvreport_pictures *p, int i, struct kvt_err *err)
{
    char path[700];
    struct stat st;
    struct one *one = &p->one[i];
    name_of(p, i, one->kind, path, sizeof path);
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &st) || st.st_size <= 0) {
        if (f)
            fclose(f);
        snprintf(one->why, sizeof one->why, "kvplot left no picture");
        return 0;
    }
    one->bytes = (size_t)st.st_size;
    one->data = kvt_calloc(one->bytes + 1, 1);
    one->drawn = one->data && fread(one->data, 1, one->bytes, f) == one->bytes;
    fclose(f);
    return one->data ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for a picture of %zu bytes", one->bytes);
}

static int ended(struct kvreport_pictures *p, int i, int status, struct kvt_err *err)
{
    struct one *one = &p->one[i];
    one->pid = 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        why_not(p, i, status, one->why, sizeof one->why);
        return 0;
    }
    int rc = load(p, i, err);
    if (!rc && one->drawn && !strcmp(one->kind, "svg") && one->bytes > MOST_SVG_BYTES) { /* many points: as pixels */
        free(one->data);
        one->data = NULL;
        one->drawn = false;
        one->kind = "png";
        start(p, i);
    }
    return rc;
}

int kvreport_pictures_wait(struct kvreport_pictures *p, struct kvt_err *err)
{
    int rc = 0;
    for (;;) {
        int running = 0, i = 0;
        for (int k = 0; k < FIGURES; k++)
            running += p->one[k].pid > 0;
        while (!rc && running < AT_ONCE && p->next < FIGURES) {
            start(p, p->next);
            running += p->one[p->next++].pid > 0;
        }
        if (!running)
            return rc;
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid < 0)
            return kvt_fail(err, KVT_EIO, "waiting for kvplot: %s", strerror(errno));
        while (i < FIGURES && p->one[i].pid != pid)
            i++;
        if (i < FIGURES) {
            int one = ended(p, i, status, err);
            rc = rc ? rc : one;
        }
    }
}

/* Its size on the page: a PNG has two pixels a point, an SVG says. */
static void size_of(const struct one *one, int *w, int *h)
{
    const unsigned char *d = one->data;
    *w = *h = 0;
    if (!strcmp(one->kind, "png") && one->bytes > 24) {
        *w = (int)(((unsigned)d[16] << 24 | (unsigned)d[17] << 16 | (unsigned)d[18] << 8 | d[19]) / 2);
        *h = (int)(((unsigned)d[20] << 24 | (unsigned)d[21] << 16 | (unsigned)d[22] << 8 | d[23]) / 2);
    } else {
        const char *box = strstr((const char *)d, "viewBox=\"0 0 ");
        if (!box || sscanf(box + 13, "%d %d", w, h) != 2)
            *w = *h = 0;
    }
}

/* A word of a command line: in quotes where a shell would take it apart. */
static void put_word(FILE *f, const char *s)
{
    if (*s && !s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./%+=@:-")]) {
        kvt_html_text(f, s);
        return;
    }
    fputs("&#39;", f);
    while (*s) {
        bool quote = *s == '\'';
        fputs(quote ? "&#39;\\&#39;" : "", f);
        s += kvt_html_char(f, s);
    }
    fputs("&#39;", f);
}

static void put_figure(const struct kvreport_pictures *p, int i, FILE *f)
{
    const struct one *one = &p->one[i];
    int w, h;
    size_of(one, &w, &h);
    fprintf(f, "<figure%s><img alt=\"", w > 720 ? " class=\"broad\"" : "");
    kvreport_say(f, "%s %s", figures[i].caption, p->model);
    fputc('"', f);
    if (w > 0 && h > 0)
        fprintf(f, " width=\"%d\" height=\"%d\"", w, h);
    fprintf(f, " src=\"data:image/%s;base64,", strcmp(one->kind, "png") ? "svg+xml" : "png");
    kvt_base64(f, one->data, one->bytes);
    kvreport_say(f, "\">\n<figcaption>%s <code>kvplot %s ", figures[i].caption, figures[i].name);
    put_word(f, p->path);
    if (p->prompt) {
        fputs(" --prompt ", f);
        put_word(f, p->prompt);
    }
    kvreport_say(f, " -o %s.%s</code></figcaption></figure>\n", figures[i].name, one->kind);
}

void kvreport_pictures_put(struct kvreport_pictures *p, const char *section, int64_t *room, FILE *f)
{
    if (!p)
        return;
    bool open = false, shown[FIGURES] = {false};
    for (int i = 0; i < FIGURES; i++) {
        const struct one *one = &p->one[i];
        if (strcmp(figures[i].section, section))
            continue;
        int64_t need = (int64_t)(one->bytes + 2) / 3 * 4 + 1000;
        if (one->drawn && need <= *room) {
            fputs(open ? "" : "<div class=\"figures\">\n", f);
            open = shown[i] = true;
            put_figure(p, i, f);
            *room -= need;
        }
    }
    fputs(open ? "</div>\n" : "", f);
    bool any = false;
    for (int i = 0; i < FIGURES; i++) {
        const struct one *one = &p->one[i];
        if (strcmp(figures[i].section, section) || shown[i])
            continue;
        fputs(any ? "" : "<ul class=\"missing\">\n", f);
        any = true;
        if (one->drawn)
            kvreport_say(f, "<li>%s: left out, the page would pass %d MB; kvplot %s draws it.</li>\n", figures[i].name, KVREPORT_MOST_BYTES / 1000000, figures[i].name);
        else
            kvreport_say(f, "<li>No picture \xe2\x80\x9c%s\xe2\x80\x9d: %s.</li>\n", figures[i].name, one->why);
    }
    fputs(any ? "</ul>\n" : "", f);
}

void kvreport_pictures_free(struct kvreport_pictures **out)
{
    struct kvreport_pictures *p = *out;
    static const char *const endings[] = {"svg", "png", "said", "svg.part", "png.part"};
    if (!p)
        return;
    char path[700];
    for (int i = 0; i < FIGURES; i++) {
        if (p->one[i].pid > 0) { /* the report failed before its pictures were ready */
            kill(p->one[i].pid, SIGTERM);
            waitpid(p->one[i].pid, NULL, 0);
        }
        free(p->one[i].data);
        for (size_t e = 0; p->dir[0] && e < sizeof endings / sizeof *endings; e++) {
            name_of(p, i, endings[e], path, sizeof path);
            unlink(path);
        }
    }
    if (p->dir[0])
        rmdir(p->dir);
    free(p);
    *out = NULL;
}

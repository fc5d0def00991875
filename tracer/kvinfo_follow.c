/* Opens the trace again and again: what a reader holds open it would see grow as well, but not be renamed. */
#include "tracer/kvinfo_follow.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "kvt/trace.h"
#include "tracer/trace_repair.h"

#define PATIENCE 20 /* looks, of a tenth of a second, that find nothing new before the run is asked for */

struct seen {
    bool begun;
    int layers, phases, steps;
};

/* Layers of the prefill that are in the file: those whose scores aren't the fill value any more. */
static int layers_done(struct kvt_trace *t, int from)
{
    const struct kvt_trace_info *in = kvt_trace_info(t);
    float *v = kvt_calloc((size_t)in->H * (size_t)in->n_prompt, sizeof *v);
    while (v && from < in->L && !kvt_trace_raw(t, "mass", 0, from, v, NULL) && !isnan(v[0]))
        from++;
    free(v);
    return from;
}

/* The branch that is furthest from the uncompressed one at the step. */
static void print_step(struct kvt_trace *t, int step, float *kl)
{
    const struct kvt_trace_info *in = kvt_trace_info(t);
    char text[64];
    int worst = -1;
    float most = 0;
    for (int b = 1; b < in->n_branches; b++)
        if (!kvt_trace_series(t, b, "kl", kl, NULL) && (worst < 0 || kl[step - 1] > most)) {
            worst = b;
            most = kl[step - 1];
        }
    if (kvt_trace_token_text(t, 0, "forced", step, text, sizeof text, NULL))
        *text = '\0';
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20)
            *c = ' ';
    printf("step %d of %d", step, in->n_new);
    if (*text)
        printf("  \"%s\"", text);
    if (worst > 0 && !isnan(most))
        printf("  KL up to %.4f (%s)", (double)most, in->branch[worst].name);
    printf("\n");
}

/* Whether anything was new. */
static bool look(struct kvt_trace *t, struct seen *s)
{
    const struct kvt_trace_info *in = kvt_trace_info(t);
    struct seen before = *s;
    if (!s->begun)
        printf("%s: %s, %d layers, prompt of %d tokens, %d branches, %d new tokens asked\n", in->path, in->model_name, in->L, in->n_prompt,
               in->n_branches, in->n_new);
    s->begun = true;
    if (!in->n_phases && in->has_scores) {
        s->layers = layers_done(t, s->layers);
        if (s->layers > before.layers)
            printf("prefill, %d of %d layers\n", s->layers, in->L);
    }
    for (; s->phases < in->n_phases; s->phases++) {
        const struct kvt_trace_phase *p = &in->phase[s->phases];
        printf("%s %.3f s, %d tokens\n", p->name, (double)p->dur_ns * 1e-9, p->n_tok);
    }
    float *kl = kvt_calloc((size_t)in->n_steps + 1, sizeof *kl);
    while (kl && s->steps < in->n_steps)
        print_step(t, ++s->steps, kl);
    free(kl);
    fflush(stdout);
    return memcmp(&before, s, sizeof before) != 0;
}

/* 1: the run goes on. Else the run's end, as the file tells it. */
static int ended(const struct kvt_trace_info *in, struct kvt_err *err)
{
    if (!strcmp(in->status, "complete"))
        return 0;
    if (!strcmp(in->status, "interrupted"))
        return kvt_fail(err, KVT_EINTR, "%s: the run was interrupted after %d of %d tokens", in->path, in->n_steps, in->n_new);
    if (!strcmp(in->status, "failed"))
        return kvt_fail(err, KVT_EIO, "%s: the run failed after %d of %d tokens", in->path, in->n_steps, in->n_new);
    return 1;
}

/* The .part where there is one, even beside an older trace that it will replace. */
static const char *current(const char *path, char *part)
{
    return access(part, F_OK) ? path : part;
}

int kvinfo_follow(const char *path, const char *prompt_id, struct kvt_err *err)
{
    size_t n = strlen(path) + sizeof ".part";
    char *part = kvt_calloc(n, 1);
    if (!part)
        return kvt_fail(err, KVT_ENOMEM, "no memory");
    snprintf(part, n, "%s.part", path);
    struct seen seen = {.begun = false};
    int rc = 1, quiet = 0;
    bool said = false;
    while (rc > 0) {
        struct kvt_trace *t;
        bool news = false;
        const char *now = current(path, part);
        int e = access(now, F_OK) ? errno : 0;
        if (e && (e != ENOENT || seen.begun)) {
            rc = access(now, F_OK) ? kvt_fail(err, KVT_EIO, "%s is gone: %s", now, strerror(e)) : 1; /* renamed meanwhile */
        } else if (e) {
            if (!said)
                fprintf(stderr, "kvinfo: %s doesn't exist yet; waiting for it\n", path);
            said = true;
        } else if (!kvt_trace_open(&t, now, prompt_id, err)) {
            news = look(t, &seen);
            rc = ended(kvt_trace_info(t), err);
            kvt_trace_close(&t);
        } else if (quiet > PATIENCE) {
            rc = err->code;
        }
        quiet = news || e ? 0 : quiet + 1;
        if (rc > 0 && quiet > PATIENCE && !kvt_trace_is_open(now) && !access(now, F_OK))
            rc = kvt_fail(err, KVT_EIO, "%s: its run has died after %d tokens; kvinfo --repair makes it an ordinary file, kvtrace --resume does what is left", now, seen.steps);
        if (rc > 0)
            nanosleep(&(struct timespec){0, 100000000}, NULL);
    }
    free(part);
    return rc;
}

/* kvtrace: one prompt through a session, and its trace beside it where one is kept. */
#include <stdio.h>

#include "base/progress.h"
#include "tracer/kvtrace.h"

struct shown {
    struct kvt_progress progress;
    int phase; /* being shown; -1 none */
};

static void show(void *arg, enum kvt_phase phase, int done, int of)
{
    static const char *const what[] = { "prefill", "evict", "question", "decode", "repeat", "oracle" };
    static const char *const unit[] = { "layers", "branches", "tokens", "steps", "layers", "steps" };
    struct shown *s = arg;
    if (s->phase != (int)phase) {
        if (s->phase >= 0)
            kvt_progress_end(&s->progress);
        kvt_progress_start(&s->progress, stderr, what[phase], unit[phase], of);
        s->phase = (int)phase;
    }
    kvt_progress_at(&s->progress, done);
}

/* What stands between session and trace: the session asks what is wanted when it opens, and only a session that opened
 * (so that nothing is wrong with its input) is worth a file. */
struct relay {
    struct kvtrace_run *run;
    struct kvt_trace_writer *to; /* NULL until there is a trace */
};

static void relay_wants(void *self, struct kvt_wants *w)
{
    *w = ((struct relay *)self)->run->wants;
}

static int relay_see(void *self, const struct kvt_event *ev)
{
    struct relay *r = self;
    if (!r->to)
        return 0;
    const struct kvt_probe *trace = kvt_trace_probe(r->to);
    int rc = ev->kind == KVT_EV_STEP ? kvtrace_record_step(r->to, r->run, &ev->step) : 0; /* in front of the step's flush */
    return rc ? rc : trace->see(trace->self, ev);
}

/* What the device does, from before it is opened on. Where it can't be had the run goes on without, and says so. */
static struct kvt_profile *start_profile(struct kvtrace_run *run)
{
    struct kvt_profile *p = NULL;
    struct kvt_err why;
    if (!run->profile || !run->now->path)
        return NULL;
    if (run->profile->start(&p, kvtrace_profile_room(run), &why)) {
        if (!run->o.quiet)
            fprintf(stderr, "kvtrace: --profile: %s\n", why.text);
        p = NULL;
    }
    run->profiled = p;
    run->session.ops = run->profile->ops; /* refused: still names for who else listens */
    return p;
}

int kvtrace_run_prompt(struct kvtrace_run *run, const struct kvtrace_hooks *hooks, struct kvt_err *err)
{
    struct kvt_session *s = NULL;
    struct kvt_trace_writer *w = NULL;
    struct shown shown = { .phase = -1 };
    struct relay relay = { .run = run };
    struct kvt_probe probe = { .self = &relay, .wants = relay_wants, .see = relay_see };
    if (!run->o.quiet)
        run->session.progress = show, run->session.progress_arg = &shown;
    run->session.interrupted = hooks->interrupted;
    run->session.probe = run->now->path ? &probe : NULL;
    struct kvt_profile *profile = start_profile(run);
    struct kvt_device_times device;
    int rc = kvt_session_open(&s, run->model, &run->session, err);
    if (!rc && run->now->path)
        rc = kvtrace_open_trace(&w, run, s, err);
    relay.to = w;
    if (!rc)
        rc = kvt_session_prefill(s, err);
    if (!rc)
        rc = kvtrace_record_prefill(w, run, s, err);
    bool enough = false;
    if (!rc && hooks->prefilled)
        rc = hooks->prefilled(run, s, hooks->arg, &enough, err);
    if (!rc && !enough)
        rc = kvt_session_decode(s, err);
    if (shown.phase >= 0)
        kvt_progress_end(&shown.progress);
    if (profile) {
        run->profile->stop(profile, &device);
        if (w)
            kvt_trace_device(w, &device);
    }
    struct kvt_err end = { 0 };
    int closed = kvtrace_close_trace(&w, run, s, rc, &end);
    if (profile)
        run->profile->close(&profile);
    if (closed && (!rc || rc == closed)) { /* the writer knows what stopped the session: a full disk, say */
        rc = closed;
        *err = end;
    }
    if (rc == KVT_EINTR && run->now->path)
        kvt_fail(err, rc, "interrupted after %d steps; what was done is in %s", s ? kvt_session_steps(s) : 0, run->now->path);
    if (!rc && hooks->decoded)
        rc = hooks->decoded(run, s, hooks->arg, err);
    kvt_session_close(&s);
    return rc;
}

int kvtrace_of_prompt(const struct kvtrace_run *run, int rc, struct kvt_err *err)
{
    struct kvt_err why = *err;
    return rc && run->many ? kvt_fail(err, rc, "prompt %s: %s", run->now->id, why.text) : rc;
}

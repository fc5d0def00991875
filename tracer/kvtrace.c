/* kvtrace: model + prompt + methods and budgets -> run.h5 and the generated text of each branch. */
#include "tracer/kvtrace.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tracer/spin.h"

static volatile int interrupted; /* the one place where a signal can leave its word; atomically, because two may come in two threads */
static volatile time_t interrupted_at;

/* The first one ends the run in order; one more, seconds later, ends it at once (timeout(1) sends two together). */
static void on_interrupt(int signal_number)
{
    time_t now = time(NULL), none = 0;
    if (!__atomic_compare_exchange_n(&interrupted_at, &none, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED) && now - none >= 2)
        _exit(128 + signal_number); /* none: when the first one came */
    __atomic_store_n(&interrupted, 1, __ATOMIC_RELAXED);
}

static char *join(int argc, char **argv)
{
    size_t bytes = 1;
    for (int i = 0; i < argc; i++)
        bytes += 4 * strlen(argv[i]) + 3;
    char *line = malloc(bytes), *p = line;
    for (int i = 0; line && i < argc; i++) {
        if (!strcmp(argv[i], "--resume")) /* a resumed run's trace is the same as an undisturbed one's */
            continue;
        bool plain = *argv[i] && !argv[i][strspn(argv[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+./:,%@")];
        if (i)
            *p++ = ' ';
        if (!plain)
            *p++ = '\'';
        for (const char *c = argv[i]; *c; c++) {
            if (*c == '\'') {
                memcpy(p, "'\\''", 4);
                p += 4;
            } else {
                *p++ = *c;
            }
        }
        if (!plain)
            *p++ = '\'';
    }
    if (line)
        *p = 0;
    return line;
}

static void speed(const struct kvtrace_run *run, const struct kvt_session *s)
{
    double prefill = (double)kvt_session_phase_ns(s, KVT_PHASE_PREFILL) / 1e9, evict = (double)kvt_session_phase_ns(s, KVT_PHASE_EVICT) / 1e9;
    double question = (double)kvt_session_phase_ns(s, KVT_PHASE_QUESTION) / 1e9, decode = (double)kvt_session_phase_ns(s, KVT_PHASE_DECODE) / 1e9;
    int steps = kvt_session_steps(s), hidden = run->session.protocol == KVT_PROTOCOL_HIDDEN;
    int prefilled = run->session.no_full ? 0 : hidden ? kvt_session_n_context(s) : run->session.n_prompt;
    for (int b = 0; b < run->n_branches; b++) /* those that prefilled alone */
        prefilled += run->branch[b].spec.policy.prefill_chunk ? kvt_session_n_context(s) : 0;
    fprintf(stderr, "prefill %.3f s (%.0f tokens/s), evict %.3f s, question %.3f s, decode %.3f s (%.1f steps/s, %d branches), KV peak %.1f MB; %s, %s products, logits %016llx\n",
            prefill, prefill > 0 ? prefilled / prefill : 0, evict, question, decode, decode > 0 ? steps / decode : 0,
            run->n_branches + !run->session.no_full, (double)kvt_session_bytes_peak(s) / 1e6, kvt_session_device(s), kvt_compute_names[run->session.compute],
            (unsigned long long)kvt_session_logits_hash(s));
    if (kvt_session_beyond_f16(s))
        fprintf(stderr, "kvtrace: %llu sums of products were too large for f16 and were taken in f64, slowly; --compute bf16 holds them all\n",
                (unsigned long long)kvt_session_beyond_f16(s));
}

static int finished(struct kvtrace_run *run, struct kvt_session *s, void *arg, struct kvt_err *err)
{
    (void)arg;
    int rc = kvtrace_print_results(run, s, err);
    if (!rc && !run->o.quiet)
        speed(run, s);
    return rc;
}

static int run_prompts(struct kvtrace_run *run, struct kvt_err *err)
{
    /* Many ranks' tables would come out mixed: then the traces alone tell. */
    bool first = !kvt_deal_rank(run->deal), alone = kvt_deal_size(run->deal) == 1;
    const struct kvtrace_hooks hooks = { .interrupted = &interrupted, .decoded = alone ? finished : NULL };
    int rc = run->o.dry_run ? 0 : kvtrace_confirm(run, err); /* also says what is wrong with the last one before the first */
    int n = 0, *todo = calloc((size_t)run->n_items, sizeof *todo);
    if (!todo)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the prompts");
    for (int i = 0; i < run->n_items && first; i++)
        if (!run->item[i].done)
            todo[n++] = i;
    if (!rc)
        rc = kvt_deal_start(run->deal, todo, n, NULL, NULL, err);
    for (int i; !rc && (i = kvt_deal_next(run->deal)) >= 0;) {
        rc = kvtrace_begin(run, i, err);
        if (!rc)
            rc = run->o.dry_run ? kvtrace_print_sizes(run, err) : kvtrace_run_prompt(run, &hooks, err);
        rc = kvtrace_of_prompt(run, rc, err);
    }
    if (!rc)
        rc = kvt_deal_finish(run->deal, err);
    free(todo);
    if (!run->many || !first)
        return rc;
    if (run->o.out && !run->o.dry_run && (!rc || rc == KVT_EINTR)) {
        struct kvt_err end;
        int joined = kvtrace_write_master(run, &end);
        if (joined && !rc) {
            rc = joined;
            *err = end;
        }
    }
    return rc || !alone ? rc : kvtrace_print_end(run, err);
}

int main(int argc, char **argv)
{
    kvt_spin_briefly(argv);
    static const struct kvt_cli cli = { .tool = "kvtrace" };
    struct kvtrace_run run = { 0 };
    struct kvt_err err = { 0 };
    char *line = join(argc, argv);
    int rc = kvtrace_parse(argc, argv, &run.o, &err);
    if (rc > 0) {
        free(line);
        return 0;
    }
    run.command_line = line ? line : "";
    struct sigaction sa = { .sa_handler = on_interrupt };
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file at its limit is a write that fails, and says so */
    if (!rc)
        rc = kvt_deal_open(&run.deal, &err);
    if (!rc && kvt_deal_size(run.deal) > 1)
        run.o.quiet = true;
    if (!rc)
        rc = kvtrace_open_plugins(&run, &err);
    if (!rc && run.o.list_methods)
        rc = kvtrace_print_methods(&run.plugins.list, run.o.format, &err);
    else if (!rc && run.o.list_presets)
        rc = kvtrace_print_presets(run.o.format, &err);
    else if (!rc) {
        rc = kvtrace_setup(&run, &err);
        if (!rc && *run.embedded && !run.o.quiet)
            fprintf(stderr, "kvtrace: the embedded model, %s (models/README.md); -m takes another\n", run.embedded);
        if (!rc && run.item[0].prompt.given_bos && !run.o.quiet)
            fprintf(stderr, run.item[0].prompt.chat ? "kvtrace: the text begins with the model's BOS token, which now stands inside the user's turn; leave it out\n"
                                            : "kvtrace: the prompt begins with the model's BOS token itself; no second one is put in front\n");
        if (!rc)
            rc = run_prompts(&run, &err);
    }
    kvtrace_teardown(&run);
    free(line);
    int code = rc ? kvt_args_end(&cli, rc, &err) : 0;
    kvt_deal_close(&run.deal, code);
    return code;
}

/* kvtrace: what is printed: methods, sizes, texts and the table of branches. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tracer/kvtrace.h"

char *kvtrace_text(const struct kvt_tokenizer *tok, const int32_t *token, int n)
{
    size_t cap = kvt_tokenizer_longest(tok) * 3 + 16, used = 0;
    struct kvt_stream stream = { 0 };
    char *out = malloc(((size_t)n + 1) * cap);
    for (int i = 0; out && i < n; i++)
        used += kvt_stream_put(&stream, tok, token[i], out + used, cap);
    if (out) {
        used += kvt_stream_end(&stream, out + used, cap);
        out[used] = 0;
    }
    return out;
}

static const char *when(const struct kvt_policy *p)
{
    if (p->score == KVT_SCORE_NONE)
        return "never";
    if (p->schedule == KVT_SCHEDULE_STEP)
        return "at each step";
    return p->decode_share_set ? "at prefill's end and at each step" : "at prefill's end";
}

/* What of the cache a method gives back, and the memory it takes for itself. Pages hold 16 slots of one kv head. */
static const char *frees(const struct kvt_policy *p, char text[160])
{
    static const char *const units[] = { "", "; whole chunks: somewhat less than the budget stays", "; whole pages",
                                         "; whole shots: often less than the budget stays", "; whole sentences: somewhat less stays" };
    if (p->score == KVT_SCORE_NONE)
        return p->every ? "as composed" : "nothing"; /* only `my` has defaults for all */
    if (p->alloc == KVT_ALLOC_CLASS)
        return "K and V of streaming heads but sinks and the newest tokens; the other heads keep all";
    bool state = p->schedule != KVT_SCHEDULE_PREFILL && (p->score == KVT_SCORE_MASS || p->score == KVT_SCORE_SQMASS);
    snprintf(text, 160, "K and V over the budget, %s%s%s", p->schedule != KVT_SCHEDULE_PREFILL ? "of all tokens seen so far"
             : p->decode_share_set ? "of the context, and of the generated tokens by their own share" : "of the context; generated tokens stay",
             units[p->unit], state ? "; 4 bytes a slot for its sums" : "");
    return text;
}

static const char *options_of(const struct kvt_method *m)
{
    return !strcmp(m->options, "*") ? "all of them" : *m->options ? m->options : "none";
}

/* Method i of the registry's `count` and then of the plugins'. */
static const struct kvt_method *nth(const struct kvt_method *const *all, int count, const struct kvt_method_list *more, int i)
{
    return i < count ? all[i] : more->method[i - count];
}

int kvtrace_print_methods(const struct kvt_method_list *more, int format, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        { "method", NULL, NULL, KVT_COL_TEXT, 0, false }, { "acts", NULL, NULL, KVT_COL_TEXT, 0, false },
        { "defaults", NULL, NULL, KVT_COL_TEXT, 0, false }, { "frees", NULL, NULL, KVT_COL_TEXT, 0, true }, { "summary", NULL, NULL, KVT_COL_TEXT, 0, true },
        { "options", NULL, NULL, KVT_COL_TEXT, 0, true }, { "source", NULL, NULL, KVT_COL_TEXT, 0, true } };
    int count;
    char text[160];
    const struct kvt_method *const *all = kvt_methods(&count);
    if (format == KVT_FORMAT_TABLE) {
        for (int i = 0; i < count + more->n; i++) {
            const struct kvt_method *m = nth(all, count, more, i);
            struct kvt_spec spec = { .method = m, .policy = m->defaults };
            kvt_spec_canonical(&spec);
            printf("%s  %s\n  acts      %s\n  frees     %s\n  written   %s\n  options   %s\n  source    %s\n", m->name, m->summary,
                   when(&m->defaults), frees(&m->defaults, text), spec.canonical, options_of(m), m->source);
        }
        return 0;
    }
    struct kvt_table *t = kvt_table_new(col, 7);
    for (int i = 0; i < count + more->n; i++) {
        const struct kvt_method *m = nth(all, count, more, i);
        struct kvt_spec spec = { .method = m, .policy = m->defaults };
        kvt_spec_canonical(&spec);
        kvt_put_text(t, m->name);
        kvt_put_text(t, when(&m->defaults));
        kvt_put_text(t, spec.canonical);
        kvt_put_text(t, frees(&m->defaults, text));
        kvt_put_text(t, m->summary);
        kvt_put_text(t, options_of(m));
        kvt_put_text(t, m->source);
    }
    int rc = kvt_table_write(t, stdout, (enum kvt_format)format, err);
    kvt_table_free(&t);
    return rc;
}

int kvtrace_print_presets(int format, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        { "preset", NULL, NULL, KVT_COL_TEXT, 0, false }, { "method", NULL, NULL, KVT_COL_TEXT, 0, false }, { "default", NULL, NULL, KVT_COL_TEXT, 0, false },
        { "budget", NULL, NULL, KVT_COL_TEXT, 0, true }, { "canonical", NULL, NULL, KVT_COL_TEXT, 0, true }, { "asks", NULL, NULL, KVT_COL_TEXT, 0, true },
        { "differs", NULL, NULL, KVT_COL_TEXT, 0, true } };
    int count, rc = 0;
    const struct kvt_preset *all = kvt_presets(&count);
    struct kvt_table *t = kvt_table_new(col, 7);
    for (int i = 0; i < count && !rc; i++) {
        const struct kvt_preset *p = &all[i];
        struct kvt_spec spec;
        char budget[40] = "none";
        rc = kvt_spec_parse(&spec, p->spec, strlen(p->spec), err);
        if (rc)
            break;
        if (p->option)
            snprintf(budget, sizeof budget, "%s %s", p->option, p->value);
        if (format == KVT_FORMAT_TABLE)
            printf("%s  %s\n  budget    %s; default %s\n%s%s%s  differs   %s\n", p->name, p->spec, p->budget, budget, p->asks ? "  asks      " : "",
                   p->asks ? p->asks : "", p->asks ? "\n" : "", p->differs);
        kvt_put_text(t, p->name);
        kvt_put_text(t, p->spec);
        kvt_put_text(t, budget);
        kvt_put_text(t, p->budget);
        kvt_put_text(t, spec.canonical);
        kvt_put_text(t, p->asks ? p->asks : "");
        kvt_put_text(t, p->differs);
    }
    if (!rc && format != KVT_FORMAT_TABLE)
        rc = kvt_table_write(t, stdout, (enum kvt_format)format, err);
    kvt_table_free(&t);
    return rc;
}

/* One line: line ends shown as such. */
static void print_text(const char *name, const char *text, int limit)
{
    printf("%-18s ", name);
    int shown = 0;
    for (const char *p = text; *p; p++) {
        if (((unsigned char)*p & 0xc0) != 0x80 && ++shown > limit && limit) {
            printf("...");
            break;
        }
        if (*p == '\n')
            printf("\\n");
        else if ((unsigned char)*p >= 0x20)
            putchar(*p);
    }
    putchar('\n');
}

static int print_texts(const struct kvtrace_run *run, struct kvt_session *s, struct kvt_err *err)
{
    const struct kvt_tokenizer *tok = kvt_model_tokenizer(run->model);
    for (int b = run->session.no_full; b <= run->n_branches; b++) {
        struct kvt_branch_result r;
        int rc = kvt_session_result(s, b, &r);
        if (rc)
            return rc;
        if (b && !r.diverged && !run->o.texts && !run->session.no_full)
            continue;
        char *text = kvtrace_text(tok, r.free, r.n_free);
        if (!text)
            return kvt_fail(err, KVT_ENOMEM, "no memory for a branch's text");
        print_text(r.name, text, run->o.texts || !b ? 0 : 58);
        free(text);
    }
    putchar('\n');
    return 0;
}


/* The table's columns: those of every run, and of the fidelity that was asked for. */
static int columns(const struct kvtrace_run *run, struct kvt_col col[KVTRACE_COLS])
{
    static const struct kvt_col first[] = {
        { "branch", NULL, NULL, KVT_COL_TEXT, 0, false }, { "effective_keep", "kept", NULL, KVT_COL_SHARE, 0, false },
        { "kept_tok", "tokens", "mean of kv heads", KVT_COL_REAL, 1, false }, { "kv_bytes_after", "KV after", "bytes", KVT_COL_BYTES, 0, false },
        { "kv_bytes_last", "KV last", "bytes", KVT_COL_BYTES, 0, false }, { "kv_bytes_mean", "KV mean", "bytes", KVT_COL_BYTES, 0, false },
        { "mean_kl", "KL", "nats", KVT_COL_REAL, 4, false }, { "top1_agree", "top-1", NULL, KVT_COL_SHARE, 0, false },
        { "diverged_step", "differs at", "step", KVT_COL_INT, 0, false } };
    static const struct kvt_col lost[] = {
        { "lost_mass", "lost", NULL, KVT_COL_SHARE, 0, false }, { "lost_rest", "no sinks", NULL, KVT_COL_SHARE, 0, false } };
    static const struct kvt_col regret[] = { { "regret", NULL, NULL, KVT_COL_SHARE, 0, false } };
    static const struct kvt_col output[] = {
        { "output_local", "local", NULL, KVT_COL_REAL, 4, false }, { "output_propagated", "output", NULL, KVT_COL_REAL, 4, false } };
    static const struct kvt_col last[] = {
        { "last_tok", "at last", "mean of kv heads", KVT_COL_REAL, 1, true },
        { "asked", NULL, NULL, KVT_COL_TEXT, 0, true }, { "method", NULL, NULL, KVT_COL_TEXT, 0, true }, { "protocol", NULL, NULL, KVT_COL_TEXT, 0, true },
        { "text", NULL, NULL, KVT_COL_TEXT, 0, true } };
    static const struct kvt_col prompt[] = { { "prompt", NULL, NULL, KVT_COL_TEXT, 0, true } };
    int n = 0;
#define ADD(part) do { memcpy(col + n, part, sizeof part); n += (int)(sizeof part / sizeof *part); } while (0)
    if (run->many)
        ADD(prompt);
    ADD(first);
    if (run->session.lost_mass)
        ADD(lost);
    if (run->regret)
        ADD(regret);
    if (run->session.output_error)
        ADD(output);
    ADD(last);
#undef ADD
    return n;
}

/* A number, or "-" where it isn't known. */
static void put_known(struct kvt_table *t, double x)
{
    if (isnan(x))
        kvt_put_none(t);
    else
        kvt_put_real(t, x);
}

int kvtrace_print_end(struct kvtrace_run *run, struct kvt_err *err)
{
    return run->table ? kvt_table_write(run->table, stdout, (enum kvt_format)run->o.format, err) : 0;
}

int kvtrace_print_results(struct kvtrace_run *run, struct kvt_session *s, struct kvt_err *err)
{
    struct kvt_col *col = run->col;
    const struct kvt_tokenizer *tok = kvt_model_tokenizer(run->model);
    bool people = run->o.format == KVT_FORMAT_TABLE;
    if (people && run->many)
        printf("%sprompt %s\n", run->now > run->item ? "\n" : "", run->now->id);
    int rc = people ? print_texts(run, s, err) : 0;
    struct kvt_table *t = run->table ? run->table : kvt_table_new(col, columns(run, col));
    for (int b = run->session.no_full; b <= run->n_branches && !rc; b++) {
        struct kvt_branch_result r;
        rc = kvt_session_result(s, b, &r);
        char *text = rc ? NULL : kvtrace_text(tok, r.free, r.n_free);
        if (run->many)
            kvt_put_text(t, run->now->id);
        kvt_put_text(t, r.name);
        kvt_put_real(t, r.effective_keep);
        kvt_put_real(t, r.effective_keep * kvt_session_n_context(s));
        kvt_put_int(t, (int64_t)r.bytes_after);
        kvt_put_int(t, (int64_t)r.bytes_last);
        kvt_put_int(t, (int64_t)r.bytes_mean);
        put_known(t, r.mean_kl);
        put_known(t, r.top1_agree);
        if (r.diverged)
            kvt_put_int(t, r.diverged);
        else
            kvt_put_none(t);
        if (run->session.lost_mass) {
            put_known(t, r.lost_mass);
            put_known(t, r.lost_rest);
        }
        if (run->regret)
            put_known(t, r.regret);
        if (run->session.output_error) {
            put_known(t, r.output_local);
            put_known(t, r.output_propagated);
        }
        put_known(t, r.last_tok);
        kvt_put_text(t, b ? run->asked[b - 1] : "100%");
        kvt_put_text(t, b ? run->branch[b - 1].spec.canonical : "full");
        kvt_put_text(t, kvtrace_protocols[run->o.protocol]);
        kvt_put_text(t, text);
        free(text);
    }
    run->table = NULL;
    if (run->many && !people && !rc) { /* one table for all of them, at the end */
        run->table = t;
        return 0;
    }
    if (!rc)
        rc = kvt_table_write(t, stdout, (enum kvt_format)run->o.format, err);
    kvt_table_free(&t);
    return rc;
}

/* Inside of the kvtrace tool: what the command line decided, and the steps of a run. */
#ifndef KVT_TRACER_KVTRACE_H
#define KVT_TRACER_KVTRACE_H

#include "base/args.h"
#include "base/hash.h"
#include "base/table.h"
#include "kernels/plugin.h"
#include "kvt/plugin.h"
#include "kvt/prompt.h"
#include "kvt/session.h"
#include "tracer/budget_file.h"
#include "tracer/embedded.h"
#include "tracer/kvtrace_deal.h"
#include "tracer/trace_write.h"

enum { KVTRACE_COLS = 24 };
enum kvtrace_maps { KVTRACE_MAPS_POOLED, KVTRACE_MAPS_FULL, KVTRACE_MAPS_NONE };
enum kvtrace_compute { KVTRACE_COMPUTE_AUTO, KVTRACE_COMPUTE_F32, KVTRACE_COMPUTE_BF16, KVTRACE_COMPUTE_F16 };

/* Options as typed. */
struct kvtrace_options {
    const char *model, *out;
    struct kvt_prompt_opts prompt;
    const char *methods, *presets, *plugins, *keep, *remove, *tokens, *bytes, *match, *budget_file, *layers, *heads, *fidelity, *see, *dump;
    bool keep_given, remove_given, tokens_given, bytes_given;
    int replay_rows, n_new, protocol, decode, window, maps, map_size, kv_type, compute, backend, threads, format, ring;
    uint64_t seed;
    bool force, dry_run, ignore_end, no_scores, texts, quiet, list_methods, list_presets, compress_windows, no_full, compress, resume, yes, for_replay, profile;
};

/* A prompt of the run and its trace. */
struct kvtrace_item {
    char id[65];
    char *path;                      /* NULL: none is recorded */
    struct kvt_prompt prompt;
    bool done;                       /* --resume: the trace is complete */
};

/* Everything decided: options, model, prompts, branches. */
struct kvtrace_run {
    struct kvtrace_options o;
    const char *command_line;
    char embedded[KVT_EMBEDDED_PATH]; /* the embedded model's, where no other was given; else "" */
    struct kvt_model *model;
    struct kvtrace_item *item;       /* (n_items) */
    int n_items;
    bool many;                       /* from a list of prompts: a file for each, and a master */
    struct kvt_deal *deal;           /* who does which prompt */
    bool fed;                        /* prompts come one by one, from kvbench: item[0] is the one at hand */
    const struct kvtrace_item *now;  /* the one that runs */
    struct kvt_prompt prompt;        /* its prompt, borrowed */
    struct kvt_table *table;         /* many prompts' results, for programs */
    double dry_s;                  /* --dry-run: how long it will take; NaN: not known */
    struct kvt_col col[KVTRACE_COLS];
    char model_sha[65];              /* "" until it is known */
    struct kvt_plugins plugins;
    struct kvt_spec *spec;           /* methods as parsed */
    int n_specs;
    struct kvt_budget *budget;
    int n_budgets;
    struct kvt_budget *own;          /* (n_specs) presets' own budgets, where none was given; else NULL */
    struct kvt_branch_opts *branch;  /* (n_branches) methods x budgets, without full */
    uint8_t *by_question;            /* (n_branches) 1: its window is as long as each prompt's question */
    char (*name)[48];                /* (n_branches) */
    char (*asked)[56];               /* (n_branches) the budget in words */
    int n_branches;
    struct kvtrace_file_budgets *budgets; /* --budget-file; or NULL */
    int32_t *shot;                   /* (n_shots, 2) */
    int32_t *span;             /* (prompt.n_spans, 3) kind, first token, end */
    int n_shots;
    uint8_t *layer_mask, *head_mask; /* for full maps */
    bool lost_mass, output_error, regret; /* --fidelity */
    float **given;                   /* (n_branches) scores that were read for the method `file`, owned; or NULL */
    int32_t *see_span, *see_of;      /* spans whose looking at each other is traced, and which of the prompt's they are */
    int32_t see_offset[32];
    uint8_t *acts;                   /* (L) layers that methods act on, for a replay */
    const struct kvt_profile_table *profile; /* of the device; NULL: not asked, or there is none */
    bool profiled;                   /* it runs: it wasn't refused */
    struct kvt_wants wants;
    struct kvt_session_opts session;
    struct kvt_hasher *hasher;       /* of the weights, beside the run; NULL once the trace knows */
};

/* kvtrace_options.c: the option table. 0; KVT_ARGS_* after printing help or version; or EUSAGE. */
int kvtrace_parse(int argc, char **argv, struct kvtrace_options *o, struct kvt_err *err);
extern const char *const kvtrace_protocols[], *const kvtrace_decodes[], *const kvtrace_kv_types[], *const kvtrace_backends[];

/* kvtrace_setup.c: plugins, then model, prompt, branches, session options. */
int kvtrace_open_plugins(struct kvtrace_run *run, struct kvt_err *err);
int kvtrace_setup(struct kvtrace_run *run, struct kvt_err *err);
int kvtrace_begin(struct kvtrace_run *run, int i, struct kvt_err *err); /* everything for prompt i */
/* "25%", "256 tok", "4000000 B": a budget as asked. */
const char *kvtrace_budget_text(const struct kvt_budget *b, char text[24]);
void kvtrace_teardown(struct kvtrace_run *run);

/* kvtrace_prompts.c: the prompts, what --resume finds of them; the file that joins them. */
int kvtrace_open_prompts(struct kvtrace_run *run, struct kvt_err *err);
void kvtrace_close_prompts(struct kvtrace_run *run);
int kvtrace_write_master(const struct kvtrace_run *run, struct kvt_err *err);

/* kvtrace_budgets.c: --budget-file: reads it; how many budgets it has for a method (its name, or name#2); the k-th of them as
 * branch b; after the model is known, what they are. */
int kvtrace_open_budgets(struct kvtrace_run *run, struct kvt_err *err);
void kvtrace_close_budgets(struct kvtrace_run *run);
int kvtrace_count_budgets(const struct kvtrace_run *run, const char *method);
int kvtrace_budget_branch(struct kvtrace_run *run, int spec, const char *method, int k, int b, struct kvt_err *err);
int kvtrace_fill_budgets(struct kvtrace_run *run, struct kvt_err *err);

/* kvtrace_see.c: --see and --dump, into run->wants. */
int kvtrace_see(struct kvtrace_run *run, struct kvt_err *err);
int kvtrace_dump(struct kvtrace_run *run, struct kvt_err *err);

/* kvtrace_fidelity.c: --fidelity; oracles behind all other methods; one for every branch, for its regret. */
int kvtrace_fidelity(struct kvtrace_run *run, struct kvt_err *err);
void kvtrace_oracles_last(struct kvtrace_run *run);
int kvtrace_add_oracles(struct kvtrace_run *run, struct kvt_err *err);

/* kvtrace_run.c: the prompt that kvtrace_begin chose, from its prefill to its last token; its trace goes to run->now->path, or nowhere where that
 * is NULL. */
struct kvtrace_hooks {
    volatile const int *interrupted;
    /* After the prefill, *enough = true: nothing is decoded; after the end, before anything is let go. Either may be NULL. */
    int (*prefilled)(struct kvtrace_run *run, struct kvt_session *s, void *arg, bool *enough, struct kvt_err *err);
    int (*decoded)(struct kvtrace_run *run, struct kvt_session *s, void *arg, struct kvt_err *err);
    void *arg;
};
int kvtrace_run_prompt(struct kvtrace_run *run, const struct kvtrace_hooks *hooks, struct kvt_err *err);

/* The error of a prompt among many says whose it is. */
int kvtrace_of_prompt(const struct kvtrace_run *run, int rc, struct kvt_err *err);

/* kvtrace_record.c: the trace's plan from a run; sizes. */
int kvtrace_open_trace(struct kvt_trace_writer **out, struct kvtrace_run *run, struct kvt_session *s, struct kvt_err *err);
size_t kvtrace_profile_room(struct kvtrace_run *run); /* calls of a profile that the trace has room for */
int kvtrace_record_prefill(struct kvt_trace_writer *w, struct kvtrace_run *run, struct kvt_session *s, struct kvt_err *err);
/* The words of the step's tokens: the token axis of a branch holds what was fed to it. */
int kvtrace_record_step(struct kvt_trace_writer *w, struct kvtrace_run *run, const struct kvt_ev_step *step);
int kvtrace_close_trace(struct kvt_trace_writer **w, struct kvtrace_run *run, struct kvt_session *s, int status, struct kvt_err *err);
void kvtrace_estimate(struct kvtrace_run *run, struct kvt_trace_sizes *sizes);

/* kvtrace_sizes.c: --dry-run; whether a run that takes more than 2 GB is wanted. Seconds; known false: a method needs more tokens
 * than are tried. */
struct kvtrace_times { bool known; double prefill, traced, evict, question, decode, write, all; };
int kvtrace_print_sizes(struct kvtrace_run *run, struct kvt_err *err);
int kvtrace_confirm(struct kvtrace_run *run, struct kvt_err *err);

/* kvtrace_report.c: what is printed. */
int kvtrace_print_methods(const struct kvt_method_list *more, int format, struct kvt_err *err);
int kvtrace_print_presets(int format, struct kvt_err *err);
int kvtrace_print_results(struct kvtrace_run *run, struct kvt_session *s, struct kvt_err *err);
int kvtrace_print_end(struct kvtrace_run *run, struct kvt_err *err); /* what many prompts' results wait for */
/* The text of n tokens as valid UTF-8, malloc'ed; NULL without memory. */
char *kvtrace_text(const struct kvt_tokenizer *tok, const int32_t *token, int n);

#endif

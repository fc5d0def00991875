/* kvbench: the option table. */
#include <string.h>

#include "compare/bench.h"

int kvt_bench_parse(int argc, char **argv, struct kvt_bench *b, struct kvt_args *args, struct kvt_err *err)
{
    static const char *const computes[] = { "auto", "f32", "bf16", "f16", NULL };
    static const char *const decodes[] = { "both", "forced", "free", NULL };
    static const char *const shows[] = { "rows", "pairs", "largest", NULL };
    struct kvt_bench_options *o = &b->o;
    struct kvtrace_options *r = &b->run.o;
    memset(o, 0, sizeof *o);
    memset(r, 0, sizeof *r);
    const struct kvt_opt opt[] = {
        { .help = "what is asked" },
        { .name = "data", .type = KVT_OPT_STRING, .to = &o->data, .value = "DIR", .help = "folder that the task's files are below; made tasks need none" },
        { .name = "n-shots", .type = KVT_OPT_INT, .to = &o->n_shots, .value = "N", .def = "-1", .min = -1, .max = 10000, .help = "worked examples in front of each question; -1: as many as the task says" },
        { .name = "limit", .type = KVT_OPT_INT, .to = &o->limit, .value = "N", .def = "0", .min = 0, .max = 10000000, .help = "the first N questions (of each part, where a task has parts); 0: all" },
        { .name = "only", .type = KVT_OPT_STRING, .to = &o->only, .value = "PART", .help = "one part of the task, as a subject" },
        { .name = "max-new", .type = KVT_OPT_INT, .to = &o->max_new, .value = "N", .def = "0", .min = 0, .max = 100000, .help = "tokens that an answer may have; 0: as many as the task says" },
        { .name = "task-dir", .type = KVT_OPT_STRING, .to = &o->task_dir, .value = "DIR", .help = "where tasks are looked for by name" },
        { .name = "list-tasks", .type = KVT_OPT_FLAG, .to = &o->list_tasks, .help = "show every task" },
        { .help = "model and methods, as in kvtrace" },
        { .name = "model", .letter = 'm', .type = KVT_OPT_STRING, .to = &r->model, .value = "FILE", .def = "embedded", .help = "model: a GGUF file or a Hugging Face folder; embedded: the one that comes with kvtrace" },
        { .name = "method", .type = KVT_OPT_STRING, .to = &r->methods, .value = "LIST", .help = "methods, as 'snapkv[w=32],chunkkv'" },
        { .name = "preset", .type = KVT_OPT_STRING, .to = &r->presets, .value = "LIST", .help = "other tools' methods with their settings" },
        { .name = "method-plugin", .type = KVT_OPT_STRING, .to = &r->plugins, .value = "LIST", .help = "shared objects with methods of your own" },
        { .name = "keep", .type = KVT_OPT_STRING, .to = &r->keep, .given = &r->keep_given, .value = "LIST", .help = "shares kept, as 10%,25%; default 25%" },
        { .name = "tokens", .type = KVT_OPT_STRING, .to = &r->tokens, .given = &r->tokens_given, .value = "LIST", .help = "tokens kept in each kv head" },
        { .name = "bytes", .type = KVT_OPT_STRING, .to = &r->bytes, .given = &r->bytes_given, .value = "LIST", .help = "bytes of keys and values kept" },
        { .name = "match", .type = KVT_OPT_STRING, .to = &r->match, .value = "METHOD", .help = "each other method keeps as many tokens, layer by layer, as METHOD really did" },
        { .name = "protocol", .type = KVT_OPT_CHOICE, .to = &r->protocol, .choices = kvtrace_protocols, .def = "visible", .help = "whether scores see the question; literature: the first token comes from the full cache" },
        { .name = "window", .letter = 'w', .type = KVT_OPT_INT, .to = &r->window, .value = "N", .def = "32", .min = 1, .max = 4096, .help = "without a question, the last N tokens stand for it" },
        { .name = "seeds", .type = KVT_OPT_INT, .to = &o->seeds, .value = "N", .def = "8", .min = 1, .max = 64, .help = "random and randomshot run with N seeds, and are one row of the table" },
        { .name = "decode", .type = KVT_OPT_CHOICE, .to = &r->decode, .choices = decodes, .def = "both", .help = "both: KL and answers; free: answers alone, faster" },
        { .name = "compute", .type = KVT_OPT_CHOICE, .to = &r->compute, .choices = computes, .def = "bf16", .help = "arithmetic of matrix products" },
        { .name = "kv-type", .type = KVT_OPT_CHOICE, .to = &r->kv_type, .choices = kvtrace_kv_types, .def = "f16", .help = "how keys and values are kept" },
        { .name = "backend", .type = KVT_OPT_CHOICE, .to = &r->backend, .choices = kvtrace_backends, .def = "auto", .help = "where the model runs" },
        { .name = "threads", .letter = 't', .type = KVT_OPT_INT, .to = &r->threads, .value = "N", .def = "0", .min = 0, .max = 1024, .help = "0 = one for each core" },
        { .name = "no-prefix", .type = KVT_OPT_FLAG, .to = &o->no_prefix, .help = "prefill every prompt from its first token: what neighbours share (their shots) is else prefilled once, with the same results" },
        { .name = "seed", .type = KVT_OPT_U64, .to = &r->seed, .value = "N", .def = "0", .help = "of random choices and made questions" },
        { .help = "speed" },
        { .name = "time", .type = KVT_OPT_FLAG, .to = &o->time, .help = "no task: one method alone at a time, on made-up prompts, in batches of independent sequences" },
        { .name = "batch", .type = KVT_OPT_STRING, .to = &o->batches, .value = "LIST", .def = "1,8,32", .help = "sequences of a batch" },
        { .name = "prompt-tokens", .type = KVT_OPT_INT, .to = &o->n_prompt, .value = "N", .def = "512", .min = 2, .max = 10000000, .help = "of each sequence" },
        { .name = "new", .type = KVT_OPT_INT, .to = &o->n_new, .value = "N", .def = "64", .min = 1, .max = 1000000, .help = "tokens decoded behind it" },
        { .name = "repeat", .type = KVT_OPT_INT, .to = &o->repeats, .value = "N", .def = "5", .min = 1, .max = 1000, .help = "times that each is run, in turns" },
        { .name = "memory", .type = KVT_OPT_STRING, .to = &o->memory, .value = "SIZE", .help = "as 2GB: also the largest batch of each method that fits, reckoned and run" },
        { .help = "results" },
        { .name = "out", .letter = 'o', .type = KVT_OPT_STRING, .to = &o->out, .value = "FILE", .help = "results, a line for each question; the same command goes on with what is missing, more methods are added to it" },
        { .name = "no-kept", .type = KVT_OPT_FLAG, .to = &o->no_kept, .help = "leave out which tokens each branch kept, which else stands in the result" },
        { .name = "dry-run", .type = KVT_OPT_FLAG, .to = &o->dry_run, .help = "print what the run would take (questions, lengths, memory, time); ask nothing, write nothing" },
        { .name = "traces", .type = KVT_OPT_STRING, .to = &o->traces, .value = "DIR", .help = "and a trace of each question, with every kept set" },
        { .name = "contrast", .type = KVT_OPT_STRING, .to = &o->contrasts, .value = "LIST", .help = "pairs to compare beside each branch with full, as 'shotkv 25%:snapkv 25%'" },
        { .name = "show", .type = KVT_OPT_CHOICE, .to = &o->show, .choices = shows, .def = "rows", .help = "which table programs get: the branches, the pairs, or with --time the largest batches; people see all" },
        { .name = "by-group", .type = KVT_OPT_FLAG, .to = &o->by_group, .help = "a table for each part of the task as well" },
        { .name = "cell", .type = KVT_OPT_STRING, .to = &o->cell, .value = "ITEM,BRANCH", .help = "with show: which one" },
        { .name = "kept", .type = KVT_OPT_FLAG, .to = &o->kept, .help = "with show: the tokens of the context that it held, by layer and kv head" },
        { .name = "run-programs-without-sandbox", .type = KVT_OPT_FLAG, .to = &o->no_sandbox, .help = "programs that a model wrote run as you, without bubblewrap around them" },
        { .name = "format", .type = KVT_OPT_CHOICE, .to = &o->format, .choices = kvt_format_names, .def = "table", .help = "of the tables" },
        { .name = "quiet", .letter = 'q', .type = KVT_OPT_FLAG, .to = &o->quiet, .help = "no progress, no remarks" },
    };
    const struct kvt_cli cli = { .tool = "kvbench", .operands = "TASK | --time | table FILE... | show FILE", .max_operands = -1,
        .about = "Asks a model a task's questions with every compression method beside the full cache, and compares the answers.",
        .example = "kvbench gsm8k --data data -m model.gguf --method snapkv,shotkv --keep 10%,25% -o gsm8k.jsonl", .opt = opt, .n_opts = (int)(sizeof opt / sizeof *opt) };
    int rc = kvt_args_parse(&cli, argc, argv, args, err);
    if (rc > 0)
        kvt_args_end(&cli, rc, err);
    /* what kvtrace would record, and kvbench doesn't */
    r->maps = KVTRACE_MAPS_NONE, r->see = "none", r->layers = r->heads = "all", r->quiet = true, r->force = true;
    return rc;
}

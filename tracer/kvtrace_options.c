/* kvtrace: the option table. */
#include <string.h>

#include "tracer/kvtrace.h"

const char *const kvtrace_protocols[] = { "visible", "hidden", "literature", NULL };
const char *const kvtrace_decodes[] = { "both", "forced", "free", NULL };
const char *const kvtrace_kv_types[] = { "f16", "bf16", "f32", NULL };
const char *const kvtrace_backends[] = { "auto", "cpu", "cuda", "ref", "simt", NULL };
static const char *const maps[] = { "pooled", "full", "none", NULL };
static const char *const computes[] = { "auto", "f32", "bf16", "f16", NULL };
static const char *const thinkings[] = { "model", "on", "off", NULL }; /* enum kvt_thinking */
static const char *const rings[] = { "block", "drop", NULL };

int kvtrace_parse(int argc, char **argv, struct kvtrace_options *o, struct kvt_err *err)
{
    struct kvt_prompt_opts *p = &o->prompt;
    const struct kvt_opt opt[] = {
        { .help = "model and prompt" },
        { .name = "model", .letter = 'm', .type = KVT_OPT_STRING, .to = &o->model, .value = "FILE", .def = "embedded", .help = "model: a GGUF file or a Hugging Face folder; embedded: the one that comes with kvtrace" },
        { .name = "file", .letter = 'f', .type = KVT_OPT_STRING, .to = &p->text_file, .value = "FILE", .help = "prompt, plain text (- reads standard input), or many of them, one JSON object a line, in FILE.jsonl" },
        { .name = "prompt", .letter = 'p', .type = KVT_OPT_STRING, .to = &p->text, .value = "TEXT", .help = "prompt as given here" },
        { .name = "shots", .type = KVT_OPT_STRING, .to = &p->shots_file, .value = "FILE", .help = "worked examples, one JSON object a line" },
        { .name = "n-shots", .type = KVT_OPT_INT, .to = &p->n_shots, .value = "N", .help = "use the first N of them; 0 = all", .def = "0", .min = 0, .max = 100000 },
        { .name = "shot-order", .type = KVT_OPT_STRING, .to = &p->shot_order, .value = "ORDER", .def = "file", .help = "order of those shots: file, reverse, seed:N, or places as 3,1,2" },
        { .name = "template", .type = KVT_OPT_STRING, .to = &p->template_text, .value = "TEXT", .help = "how a shot is written; default 'Question: {question}\\nAnswer: {answer}'" },
        { .name = "shot-sep", .type = KVT_OPT_STRING, .to = &p->shot_sep, .value = "TEXT", .help = "what separates shots; with -f, marks them in a plain text" },
        { .name = "question", .type = KVT_OPT_STRING, .to = &p->question, .value = "TEXT", .help = "the question that is asked" },
        { .name = "question-file", .type = KVT_OPT_STRING, .to = &p->question_file, .value = "FILE", .help = "the same from the first object of a JSONL file" },
        { .name = "system", .type = KVT_OPT_STRING, .to = &p->system, .value = "TEXT", .help = "system text" },
        { .name = "chat", .type = KVT_OPT_FLAG, .to = &p->chat, .help = "one user turn in the model's chat form, the answer's opened" },
        { .name = "thinking", .type = KVT_OPT_CHOICE, .to = &p->thinking, .choices = thinkings, .def = "model",
          .help = "with --chat, where the form has a switch: thinking before the answer (on, off)" },
        { .name = "no-bos", .type = KVT_OPT_FLAG, .to = &p->no_bos, .help = "don't put a BOS token in front, even where the model has one" },
        { .help = "methods" },
        { .name = "method", .type = KVT_OPT_STRING, .to = &o->methods, .value = "LIST", .help = "methods, as 'snapkv[w=32,pool=max7],chunkkv'; none: only trace the full cache" },
        { .name = "preset", .type = KVT_OPT_STRING, .to = &o->presets, .value = "LIST", .help = "other tools' methods with their settings, as kvpress/SnapKVPress; beside --method's" },
        { .name = "method-plugin", .type = KVT_OPT_STRING, .to = &o->plugins, .value = "LIST", .help = "shared objects with methods of your own (docs/add-a-method.md)" },
        { .name = "keep", .type = KVT_OPT_STRING, .to = &o->keep, .given = &o->keep_given, .value = "LIST", .help = "shares kept, as 10%,25%,50%; default 25%" },
        { .name = "remove", .type = KVT_OPT_STRING, .to = &o->remove, .given = &o->remove_given, .value = "LIST", .help = "shares removed, as 75%" },
        { .name = "tokens", .type = KVT_OPT_STRING, .to = &o->tokens, .given = &o->tokens_given, .value = "LIST", .help = "tokens kept in each kv head, as 128,256; of a layer 768/layer, in all 46080/all" },
        { .name = "bytes", .type = KVT_OPT_STRING, .to = &o->bytes, .given = &o->bytes_given, .value = "LIST", .help = "bytes of keys and values kept, as 4MB in all, 100kB/layer, 20kB/head" },
        { .name = "match", .type = KVT_OPT_STRING, .to = &o->match, .value = "METHOD", .help = "each other method keeps as many tokens, layer by layer, as METHOD of the list really did" },
        { .name = "budget-file", .type = KVT_OPT_STRING, .to = &o->budget_file, .value = "FILE",
          .help = "budgets of single layers and kv heads, as kvbudget writes them: another branch for each method that the file names" },
        { .name = "protocol", .type = KVT_OPT_CHOICE, .to = &o->protocol, .choices = kvtrace_protocols, .def = "visible",
          .help = "whether scores see the question (visible, hidden); literature: the first token comes from the full cache" },
        { .name = "window", .letter = 'w', .type = KVT_OPT_INT, .to = &o->window, .value = "N", .def = "32", .min = 1, .max = 4096,
          .help = "without a question, the last N tokens stand for it" },
        { .name = "compress-windows", .type = KVT_OPT_FLAG, .to = &o->compress_windows, .help = "compress layers with a short sliding window too; they are left alone otherwise" },
        { .name = "list-methods", .type = KVT_OPT_FLAG, .to = &o->list_methods, .help = "show every method, its options and its source" },
        { .name = "list-presets", .type = KVT_OPT_FLAG, .to = &o->list_presets, .help = "show every preset, its method here and what differs" },
        { .help = "run" },
        { .name = "new", .letter = 'n', .type = KVT_OPT_INT, .to = &o->n_new, .value = "N", .def = "64", .min = 1, .max = 1000000, .help = "tokens to decode" },
        { .name = "decode", .type = KVT_OPT_CHOICE, .to = &o->decode, .choices = kvtrace_decodes, .def = "both",
          .help = "branches follow the full branch's tokens (forced), their own (free), or both" },
        { .name = "no-full", .type = KVT_OPT_FLAG, .to = &o->no_full,
          .help = "no uncompressed branch, nothing compared with it: methods with prefill_chunk=N and --decode free alone, and the KV peak is theirs" },
        { .name = "fidelity", .type = KVT_OPT_STRING, .to = &o->fidelity, .value = "LIST",
          .help = "measure at every step, as lost,output,regret: attention lost with what was evicted; errors of the layers' outputs; what was lost beyond an oracle" },
        { .name = "ignore-end", .type = KVT_OPT_FLAG, .to = &o->ignore_end, .help = "go on after an end token" },
        { .name = "compute", .type = KVT_OPT_CHOICE, .to = &o->compute, .choices = computes, .def = "auto",
          .help = "arithmetic of matrix products; auto: bf16 where the CPU has it" },
        { .name = "kv-type", .type = KVT_OPT_CHOICE, .to = &o->kv_type, .choices = kvtrace_kv_types, .def = "f16", .help = "how keys and values are kept" },
        { .name = "backend", .type = KVT_OPT_CHOICE, .to = &o->backend, .choices = kvtrace_backends, .def = "auto", .help = "auto: cuda where a GPU opens, else cpu; ref is the definition, simt cuda's kernels run on the CPU (slow)" },
        { .name = "threads", .letter = 't', .type = KVT_OPT_INT, .to = &o->threads, .value = "N", .def = "0", .min = 0, .max = 1024, .help = "0 = one for each core" },
        { .name = "seed", .type = KVT_OPT_U64, .to = &o->seed, .value = "N", .def = "0", .help = "of random choices" },
        { .help = "trace and output" },
        { .name = "out", .letter = 'o', .type = KVT_OPT_STRING, .to = &o->out, .value = "FILE", .help = "trace to write, run.h5; without it nothing is recorded" },
        { .name = "force", .type = KVT_OPT_FLAG, .to = &o->force, .help = "replace an existing trace" },
        { .name = "resume", .type = KVT_OPT_FLAG, .to = &o->resume, .help = "with the command of a run that ended early: do what is left of it" },
        { .name = "maps", .type = KVT_OPT_CHOICE, .to = &o->maps, .choices = maps, .def = "pooled", .help = "attention maps of the prompt" },
        { .name = "map-size", .type = KVT_OPT_INT, .to = &o->map_size, .value = "N", .def = "64", .min = 1, .max = 1024, .help = "pooled maps are N x N bins" },
        { .name = "layers", .type = KVT_OPT_STRING, .to = &o->layers, .value = "LIST", .def = "all", .help = "layers of full maps and of --dump, as 0-3,31" },
        { .name = "heads", .type = KVT_OPT_STRING, .to = &o->heads, .value = "LIST", .def = "all", .help = "query heads of full maps" },
        { .name = "compress", .type = KVT_OPT_FLAG, .to = &o->compress, .help = "compress maps, scores and vectors as well, as all else is in any case: a smaller file, much slower" },
        { .name = "see", .type = KVT_OPT_STRING, .to = &o->see, .value = "LIST", .def = "scores,local,distance,spans",
          .help = "what is recorded of the prompt's attention: scores (mass, wmass, last, entropy, sink), visible, square, max, keys, local, distance[OFFSETS], spans, top[K]; decode: the same of each generated token's row in the uncompressed branch, rows: that row itself; all (but rows), none" },
        { .name = "for-replay", .type = KVT_OPT_FLAG, .to = &o->for_replay,
          .help = "record what decisions follow from, so that kvbudget --replay makes other methods' from the file: last rows, sums, norms, rows of every step" },
        { .name = "replay-rows", .type = KVT_OPT_INT, .to = &o->replay_rows, .value = "N", .def = "64", .min = 1, .max = 65536,
          .help = "with it: last rows of the prompt that are recorded, the longest window of a replay; at least the question's" },
        { .name = "dump", .type = KVT_OPT_STRING, .to = &o->dump, .value = "LIST", .help = "record the prompt's queries, keys and values of --layers, as q,k,v: q and k before and after rotation, f32" },
        { .name = "profile", .type = KVT_OPT_FLAG, .to = &o->profile, .help = "record what the GPU did: kernels, copies and waits, by phase, step, layer and operation (kvinfo --time); the cpu's times are always there" },
        { .name = "no-scores", .type = KVT_OPT_FLAG, .to = &o->no_scores, .help = "leave raw scores out of the trace" },
        { .name = "ring", .type = KVT_OPT_CHOICE, .to = &o->ring, .choices = rings, .def = "block",
          .help = "when the writer is behind: wait, or drop maps (counted); decisions and scores are never dropped" },
        { .name = "dry-run", .type = KVT_OPT_FLAG, .to = &o->dry_run, .help = "print what the run would take: memory, bytes of the trace, time (from its first tokens); record nothing" },
        { .name = "yes", .type = KVT_OPT_FLAG, .to = &o->yes, .help = "go on where that is more than 2 GB of memory beside the weights, or of disk" },
        { .name = "texts", .type = KVT_OPT_FLAG, .to = &o->texts, .help = "print the whole text of every branch" },
        { .name = "format", .type = KVT_OPT_CHOICE, .to = &o->format, .choices = kvt_format_names, .def = "table", .help = "of the table on standard output" },
        { .name = "quiet", .letter = 'q', .type = KVT_OPT_FLAG, .to = &o->quiet, .help = "no progress, no remarks" },
    };
    const struct kvt_cli cli = { .tool = "kvtrace", .operands = "", .about = "Runs a model on a prompt, compresses its KV cache with every method "
        "side by side beside an uncompressed branch, and records what was scored, kept and lost.",
        .example = "kvtrace -m model.gguf --shots shots.jsonl --question 'How many?' --method snapkv,chunkkv --keep 10%,25% -o run.h5",
        .opt = opt, .n_opts = (int)(sizeof opt / sizeof *opt) };
    struct kvt_args args;
    memset(o, 0, sizeof *o);
    int rc = kvt_args_parse(&cli, argc, argv, &args, err);
    if (rc > 0)
        kvt_args_end(&cli, rc, err);
    return rc;
}

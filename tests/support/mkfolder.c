/* From GGUF to a folder: names, the order of q's and k's rows, the vocabulary as tokenizer.json. */
#include "mkfolder.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"

static int fail(struct kvt_err *err, const char *dir, const char *name)
{
    return kvt_fail(err, KVT_EIO, "%s: cannot write %s", dir, name);
}

static FILE *create(const char *dir, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return fopen(path, "wb");
}

/* Writes and deletes v. */
static int write_json(const char *dir, const char *name, cJSON *v, struct kvt_err *err)
{
    char *s = cJSON_Print(v);
    FILE *f = s ? create(dir, name) : NULL;
    int bad = !f || fputs(s, f) < 0;
    bad |= f && fclose(f) != 0;
    cJSON_free(s);
    cJSON_Delete(v);
    return bad ? fail(err, dir, name) : 0;
}

/* ---- config.json ---- */

static double number(const struct kvt_gguf *g, const char *arch, const char *suffix)
{
    char key[96];
    int64_t i = 0;
    double d = 0;
    snprintf(key, sizeof key, "%s.%s", arch, suffix);
    if (kvt_gguf_int(g, key, true, 0, INT32_MAX, &i, NULL))
        kvt_gguf_float(g, key, false, &d, NULL);
    return i ? (double)i : d;
}

static int write_config(const char *dir, const struct kvt_gguf *g, const char *arch, struct kvt_err *err)
{
    static const char *const keys[][2] = {
        {"num_hidden_layers", "block_count"}, {"hidden_size", "embedding_length"}, {"intermediate_size", "feed_forward_length"},
        {"num_attention_heads", "attention.head_count"}, {"num_key_value_heads", "attention.head_count_kv"},
        {"head_dim", "attention.key_length"}, {"max_position_embeddings", "context_length"},
        {"rms_norm_eps", "attention.layer_norm_rms_epsilon"}, {"rope_theta", "rope.freq_base"},
    };
    cJSON *c = cJSON_CreateObject();
    cJSON_AddStringToObject(c, "model_type", arch);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        double v = number(g, arch, keys[i][1]);
        if (v != 0)
            cJSON_AddNumberToObject(c, keys[i][0], v);
    }
    const struct kvt_tensor *embed = kvt_tensors_find(&g->tensors, "token_embd.weight");
    cJSON_AddNumberToObject(c, "vocab_size", embed ? (double)embed->ne[1] : 0);
    cJSON_AddBoolToObject(c, "tie_word_embeddings", !kvt_tensors_find(&g->tensors, "output.weight"));
    cJSON_AddStringToObject(c, "hidden_act", "silu");
    return write_json(dir, "config.json", c, err);
}

/* ---- tokenizer ---- */

static char *str(struct kvt_bytes b) { return b.p ? strndup(b.p, b.n) : NULL; }

static int64_t id_of(const struct kvt_gguf *g, const char *key)
{
    int64_t id = -1;
    kvt_gguf_int(g, key, false, 0, INT32_MAX, &id, NULL);
    return id;
}

static cJSON *byte_level(bool regex)
{
    cJSON *v = cJSON_CreateObject();
    cJSON_AddStringToObject(v, "type", "ByteLevel");
    cJSON_AddBoolToObject(v, "add_prefix_space", 0);
    cJSON_AddBoolToObject(v, "trim_offsets", 1);
    cJSON_AddBoolToObject(v, "use_regex", regex);
    return v;
}

/* As the SmolLM2 and Qwen2 folders have it. */
static cJSON *pre_tokenizer(bool qwen2)
{
    cJSON *v = cJSON_CreateObject(), *list, *first = cJSON_CreateObject();
    cJSON_AddStringToObject(v, "type", "Sequence");
    list = cJSON_AddArrayToObject(v, "pretokenizers");
    if (qwen2) {
        cJSON_AddStringToObject(first, "type", "Split");
        cJSON_AddStringToObject(cJSON_AddObjectToObject(first, "pattern"), "Regex",
            "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+");
        cJSON_AddStringToObject(first, "behavior", "Isolated");
        cJSON_AddBoolToObject(first, "invert", 0);
    } else {
        cJSON_AddStringToObject(first, "type", "Digits");
        cJSON_AddBoolToObject(first, "individual_digits", 1);
    }
    cJSON_AddItemToArray(list, first);
    cJSON_AddItemToArray(list, byte_level(!qwen2));
    return v;
}

static int write_tokenizer(const char *dir, const struct kvt_gguf *g, struct kvt_err *err)
{
    const struct kvt_gguf_kv *tokens, *types, *merges;
    struct kvt_bytes pre = {0}, chat = {0};
    int rc = kvt_gguf_array(g, "tokenizer.ggml.tokens", KVT_GGUF_STR, true, &tokens, err);
    if (!rc)
        rc = kvt_gguf_array(g, "tokenizer.ggml.token_type", KVT_GGUF_I32, true, &types, err);
    if (!rc)
        rc = kvt_gguf_array(g, "tokenizer.ggml.merges", KVT_GGUF_STR, true, &merges, err);
    if (!rc)
        rc = kvt_gguf_str(g, "tokenizer.ggml.pre", true, &pre, err);
    if (rc)
        return rc;
    cJSON *t = cJSON_CreateObject(), *added = cJSON_CreateArray(), *model = cJSON_CreateObject(), *vocab = cJSON_CreateObject();
    cJSON *list = cJSON_CreateArray(), *config = cJSON_CreateObject(), *generation = cJSON_CreateObject();
    const uint8_t *p = tokens->data;
    int64_t bos = id_of(g, "tokenizer.ggml.bos_token_id"), eos = id_of(g, "tokenizer.ggml.eos_token_id");
    for (uint64_t i = 0; i < tokens->count; i++) {
        int32_t type;
        char *s = str(kvt_gguf_next_str(&p));
        memcpy(&type, types->data + 4 * i, 4);
        cJSON_AddNumberToObject(vocab, s, (double)i);
        if (type == 3 || type == 4) { /* control, user-defined */
            cJSON *a = cJSON_CreateObject();
            cJSON_AddNumberToObject(a, "id", (double)i);
            cJSON_AddStringToObject(a, "content", s);
            static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
            for (int f = 0; f < 4; f++)
                cJSON_AddBoolToObject(a, flags[f], 0);
            cJSON_AddBoolToObject(a, "special", type == 3);
            cJSON_AddItemToArray(added, a);
        }
        if ((int64_t)i == bos)
            cJSON_AddStringToObject(config, "bos_token", s);
        if ((int64_t)i == eos)
            cJSON_AddStringToObject(config, "eos_token", s);
        free(s);
    }
    p = merges->data;
    for (uint64_t i = 0; i < merges->count; i++) {
        char *s = str(kvt_gguf_next_str(&p));
        cJSON_AddItemToArray(list, cJSON_CreateString(s));
        free(s);
    }
    cJSON_AddStringToObject(t, "version", "1.0");
    cJSON_AddItemToObject(t, "added_tokens", added);
    cJSON_AddNullToObject(t, "normalizer");
    cJSON_AddItemToObject(t, "pre_tokenizer", pre_tokenizer(kvt_bytes_equal(pre, "qwen2")));
    cJSON_AddItemToObject(t, "decoder", byte_level(true));
    cJSON_AddStringToObject(model, "type", "BPE");
    cJSON_AddItemToObject(model, "vocab", vocab);
    cJSON_AddItemToObject(model, "merges", list);
    cJSON_AddItemToObject(t, "model", model);
    bool add_bos = false;
    kvt_gguf_bool(g, "tokenizer.ggml.add_bos_token", &add_bos, NULL);
    cJSON_AddBoolToObject(config, "add_bos_token", add_bos);
    cJSON_AddStringToObject(config, "tokenizer_class", "PreTrainedTokenizerFast");
    kvt_gguf_str(g, "tokenizer.chat_template", false, &chat, NULL);
    char *s = str(chat);
    if (s)
        cJSON_AddStringToObject(config, "chat_template", s);
    free(s);
    if (eos >= 0)
        cJSON_AddNumberToObject(generation, "eos_token_id", (double)eos);
    rc = write_json(dir, "tokenizer.json", t, err);
    int rc2 = write_json(dir, "tokenizer_config.json", config, err), rc3 = write_json(dir, "generation_config.json", generation, err);
    return rc ? rc : rc2 ? rc2 : rc3;
}

/* ---- tensors ---- */

static bool hf_name(char out[128], struct kvt_bytes name)
{
    static const char *const ends[][2] = {
        {"attn_norm", "input_layernorm"}, {"ffn_norm", "post_attention_layernorm"}, {"attn_q", "self_attn.q_proj"},
        {"attn_k", "self_attn.k_proj"}, {"attn_v", "self_attn.v_proj"}, {"attn_output", "self_attn.o_proj"},
        {"ffn_gate", "mlp.gate_proj"}, {"ffn_up", "mlp.up_proj"}, {"ffn_down", "mlp.down_proj"},
    };
    char gguf[64], base[32], suffix[8];
    int layer;
    snprintf(gguf, sizeof gguf, "%.*s", (int)name.n, name.p);
    if (sscanf(gguf, "blk.%d.%31[^.].%7s", &layer, base, suffix) == 3)
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
            if (!strcmp(base, ends[i][0]))
                return snprintf(out, 128, "model.layers.%d.%s.%s", layer, ends[i][1], suffix) > 0;
    const char *other = !strcmp(gguf, "token_embd.weight") ? "model.embed_tokens.weight" : !strcmp(gguf, "output_norm.weight") ? "model.norm.weight"
                        : !strcmp(gguf, "output.weight") ? "lm_head.weight" : "";
    snprintf(out, 128, "%s", other);
    return *other != 0;
}

/* GGUF's llama has the rotated pairs of q and k side by side, a folder has halves: row of the folder -> row of the GGUF. */
static size_t row_from(size_t row, int heads, size_t rows)
{
    if (!heads)
        return row;
    size_t D = rows / (size_t)heads, in = row % D;
    return row - in + 2 * (in % (D / 2)) + in / (D / 2);
}

static size_t bytes_of(const struct kvt_tensor *t, enum kvt_dtype type)
{
    size_t count = (size_t)(t->ne[0] * t->ne[1]);
    return count * (size_t)kvt_dtypes[t->n_dims > 1 ? type : KVT_F32].block_bytes;
}

static bool write_tensor(FILE *f, const struct kvt_tensor *t, enum kvt_dtype type, int heads)
{
    size_t k = (size_t)t->ne[0], rows = (size_t)t->ne[1], bytes = kvt_row_bytes(t->type, k);
    bool vector = t->n_dims < 2, ok = true;
    if (vector) { /* a bias of q or k: its values are permuted like rows */
        rows = k;
        k = 1;
        bytes = (size_t)kvt_dtypes[t->type].block_bytes;
    }
    float *row = malloc(k * sizeof *row);
    uint16_t *half = malloc(k * sizeof *half);
    for (size_t r = 0; row && half && ok && r < rows; r++) {
        const char *src = (const char *)t->data + row_from(r, heads, rows) * bytes;
        kvt_dequantize(t->type, src, row, k);
        for (size_t i = 0; i < k; i++)
            half[i] = type == KVT_F16 ? kvt_f16_from_f32(row[i]) : kvt_bf16_from_f32(row[i]);
        ok = vector || type == KVT_F32 ? fwrite(row, sizeof *row, k, f) == k : fwrite(half, sizeof *half, k, f) == k;
    }
    ok = ok && row && half;
    free(row);
    free(half);
    return ok;
}

/* Tensors [from, to) as one file; adds them to the index. */
static int write_file(const char *dir, const char *name, const struct kvt_gguf *g, const char *arch, const struct kvt_mkfolder_opts *o,
                      int from, int to, cJSON *index, struct kvt_err *err)
{
    cJSON *header = cJSON_CreateObject();
    size_t at = 0;
    char hf[128];
    cJSON_AddStringToObject(cJSON_AddObjectToObject(header, "__metadata__"), "format", "pt");
    for (int i = from; i < to; i++) {
        const struct kvt_tensor *t = &g->tensors.tensor[i];
        if (!hf_name(hf, t->name)) {
            cJSON_Delete(header);
            return kvt_fail(err, KVT_EUNSUP, "%s: no name in a folder for tensor '%.*s'", g->path, (int)t->name.n, t->name.p);
        }
        cJSON *v = cJSON_AddObjectToObject(header, hf), *shape;
        cJSON_AddStringToObject(v, "dtype", kvt_dtypes[t->n_dims > 1 ? o->type : KVT_F32].name);
        shape = cJSON_AddArrayToObject(v, "shape");
        for (int d = t->n_dims - 1; d >= 0; d--)
            cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->ne[d]));
        cJSON *offsets = cJSON_AddArrayToObject(v, "data_offsets");
        cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)at));
        at += bytes_of(t, o->type);
        cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)at));
        cJSON_AddStringToObject(index, hf, name);
    }
    char *s = cJSON_PrintUnformatted(header);
    cJSON_Delete(header);
    FILE *f = s ? create(dir, name) : NULL;
    uint64_t n = s ? strlen(s) : 0, padded = ((n + 7) & ~(uint64_t)7) + o->unaligned;
    bool ok = f && fwrite(&padded, 8, 1, f) == 1 && fputs(s, f) >= 0;
    for (; ok && n < padded; n++)
        ok = fputc(' ', f) != EOF;
    for (int i = from; i < to && ok; i++) {
        const struct kvt_tensor *t = &g->tensors.tensor[i];
        char base[8] = "";
        sscanf(t->name.p, "blk.%*d.attn_%7[^.]", base);
        int heads = strcmp(arch, "llama") ? 0 : !strcmp(base, "q") ? (int)number(g, arch, "attention.head_count")
                    : !strcmp(base, "k") ? (int)number(g, arch, "attention.head_count_kv") : 0;
        ok = write_tensor(f, t, o->type, heads);
    }
    ok = f && fclose(f) == 0 && ok;
    cJSON_free(s);
    return ok ? 0 : fail(err, dir, name);
}

int kvt_mkfolder(const char *dir, const struct kvt_gguf *g, const struct kvt_mkfolder_opts *o, struct kvt_err *err)
{
    struct kvt_bytes said;
    int rc = kvt_gguf_str(g, "general.architecture", true, &said, err);
    if (rc)
        return rc;
    char *arch = str(said);
    rc = write_config(dir, g, arch, err);
    if (!rc)
        rc = write_tokenizer(dir, g, err);
    cJSON *index = cJSON_CreateObject(), *map = cJSON_CreateObject();
    int shards = o->shards > 1 ? o->shards : 1, n = g->tensors.n;
    for (int i = 0; i < shards && !rc; i++) {
        char name[64] = "model.safetensors";
        if (shards > 1)
            snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", i + 1, shards);
        rc = write_file(dir, name, g, arch, o, n * i / shards, n * (i + 1) / shards, map, err);
    }
    cJSON_AddItemToObject(index, "weight_map", map);
    if (!rc && shards > 1)
        rc = write_json(dir, "model.safetensors.index.json", index, err);
    else
        cJSON_Delete(index);
    free(arch);
    return rc;
}

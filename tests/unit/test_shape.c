/* Shapes from config.json: what published models say in theirs, in the words of older and newer transformers; and what is
 * refused by name before any weight is read. The numbers of the traits themselves are judged by tests/parity/families. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/rope.h"
#include "engine/shape.h"

#define BASE "\"hidden_size\":2048,\"intermediate_size\":8192,\"num_hidden_layers\":12,\"num_attention_heads\":16,\"vocab_size\":1000," \
             "\"max_position_embeddings\":4096"

static int read(struct kvt_shape *s, const char *model_type, const char *more, struct kvt_err *err)
{
    char text[4096];
    *err = (struct kvt_err){0};
    snprintf(text, sizeof text, "{\"model_type\":\"%s\"," BASE "%s%s}", model_type, *more ? "," : "", more);
    cJSON *json = cJSON_Parse(text);
    cr_assert(json, "%s", text);
    int rc = kvt_shape_from_config(s, json, "/models/some-model/", err);
    cJSON_Delete(json);
    return rc;
}

static struct kvt_shape good(const char *model_type, const char *more)
{
    struct kvt_shape s;
    struct kvt_err err;
    cr_assert_eq(read(&s, model_type, more, &err), 0, "%s: %s", more, err.text);
    cr_assert_str_eq(s.name, "some-model");
    return s;
}

static int windows(const struct kvt_shape *s)
{
    int n = 0;
    for (int l = 0; l < s->L; l++)
        n += kvt_layer_window(s, l) > 0;
    return n;
}

/* Would catch: a default other than transformers', a key of older files that isn't read, a window in the wrong layers. */
Test(shape, what_published_configurations_say)
{
    struct kvt_shape s = good("llama", "\"num_key_value_heads\":4,\"rope_theta\":500000.0,\"head_dim\":64,\"sliding_window\":100,\"rope_scaling\":"
        "{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"original_max_position_embeddings\":1024}");
    cr_assert(s.G == 4 && s.D == 64 && s.rope[0].base == 500000 && s.rope[0].scaling == KVT_ROPE_LLAMA3 && s.rope[0].original_tok == 1024);
    cr_assert(windows(&s) == 0 && !s.qkv_bias && s.act == KVT_ACT_SILU, "Llama has no windows, whatever its file says");
    s = good("mistral", "");
    cr_assert_eq(s.window, 4096, "transformers' own default");
    s = good("mistral", "\"sliding_window\":null");
    cr_assert_eq(windows(&s), 0);
    s = good("qwen2", "\"use_sliding_window\":false,\"sliding_window\":1024,\"max_window_layers\":4");
    cr_assert(windows(&s) == 0 && s.qkv_bias && !s.o_bias);
    s = good("qwen2", "\"use_sliding_window\":true,\"sliding_window\":1024,\"max_window_layers\":4");
    cr_assert(windows(&s) == 8 && !kvt_layer_window(&s, 3) && kvt_layer_window(&s, 4) == 1024);
    s = good("qwen3", "");
    cr_assert(s.D == 128 && s.qk_norm == KVT_QK_HEAD && s.H * s.D == s.E);
    s = good("gemma2", "");
    cr_assert(s.D == 256 && s.attn_cap == 50 && s.logit_cap == 30 && fabsf(s.attn_scale - 1 / 16.0f) < 1e-7f && windows(&s) == 6 && s.tied);
    cr_assert(kvt_layer_window(&s, 0) == 4096 && !kvt_layer_window(&s, 1) && s.post_norm && s.norm_plus_one && s.act == KVT_ACT_GELU_TANH);
    s = good("gemma2", "\"attn_logit_softcapping\":null,\"final_logit_softcapping\":null,\"query_pre_attn_scalar\":144");
    cr_assert(s.attn_cap == 0 && s.logit_cap == 0 && fabsf(s.attn_scale - 1 / 12.0f) < 1e-7f);
    s = good("gemma3_text", "\"rope_theta\":1000000,\"rope_local_base_freq\":20000,\"sliding_window\":512,\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":8}");
    cr_assert(windows(&s) == 10 && !kvt_layer_window(&s, 5) && s.layer[4] == (KVT_LAYER_WINDOW | KVT_LAYER_LOCAL_ROPE) && s.layer[11] == 0);
    cr_assert(s.rope[0].factor == 8 && s.rope[1].scaling == KVT_ROPE_PLAIN && s.rope[1].base == 20000 && s.context_tok == 4096);
    s = good("gemma3_text", "\"attn_logit_softcapping\":50.0,\"final_logit_softcapping\":30.0");
    cr_assert(s.attn_cap == 0 && s.logit_cap == 30, "transformers' Gemma 3 caps logits, not attention");
    s = good("smollm3", "");
    cr_assert(s.layer[3] == KVT_LAYER_NOPE && s.layer[4] == 0 && s.rope[0].base == 2e6 && s.tied);
    s = good("granite", "\"attention_multiplier\":0.0078125,\"embedding_multiplier\":12.0,\"logits_scaling\":8.0,\"residual_multiplier\":0.22");
    cr_assert(s.attn_scale == 0.0078125f && s.embed_scale == 12 && s.logit_scale == 0.125f && s.residual_scale == 0.22f);
    s = good("stablelm", "\"use_qkv_bias\":true");
    cr_assert(s.rope_rot == 32 && s.layer_norm && s.qkv_bias && !s.o_bias);
    s = good("qwen2", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0,\"original_max_position_embeddings\":4096}");
    cr_assert(s.context_tok == 16384 && s.rope[0].scaling == KVT_ROPE_YARN && fabs(s.rope[0].attention - (1 + 0.1 * log(4))) < 1e-12);
    s = good("qwen2", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":null,\"original_max_position_embeddings\":1024}");
    cr_assert(s.rope[0].factor == 4 && s.context_tok == 4096, "yarn's factor is what the context was stretched by");
    s = good("phi3", "\"head_dim\":4,\"original_max_position_embeddings\":1024,\"rope_scaling\":{\"type\":\"yarn\",\"short_factor\":[1,1],\"long_factor\":[2,3]}");
    cr_assert(s.rope[0].scaling == KVT_ROPE_LONG && s.rope[0].long_factor[1] == 3 && s.rope[0].factor == 4, "Phi-3's yarn is longrope");
    s = good("qwen2", "\"use_sliding_window\":true,\"sliding_window\":1024,\"max_window_layers\":1e300");
    cr_assert_eq(windows(&s), 0);
}

/* Would catch: a model answered with arithmetic that isn't its own. */
Test(shape, refused_by_name)
{
    static const struct { const char *type, *more, *says; } cases[] = {
        {"mixtral", "", "model_type 'mixtral' is not supported (llama, mistral, "},
        {"llama", "\"num_key_value_heads\":5", "16 query heads can't share 5 kv heads"},
        {"llama", "\"rope_scaling\":{\"rope_type\":\"mrope\",\"factor\":2}", "rope scaling 'mrope' is not supported"},
        {"llama", "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":0.5}", "rope scaling by 0.5"},
        {"llama", "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"original_max_position_embeddings\":1024}", "from 0 to 0 turns"},
        {"llama", "\"rope_scaling\":{\"rope_type\":\"dynamic\"}", "'factor' is missing from the rope scaling"},
        {"phi3", "\"head_dim\":2,\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1],\"long_factor\":[1]}", "'original_max_position_embeddings' is missing"},
        {"gemma2", "\"query_pre_attn_scalar\":-144", "'query_pre_attn_scalar' must be above 0"},
        {"granite", "\"attention_multiplier\":0", "'attention_multiplier' must be above 0"},
        {"llama", "\"rope_scaling\":[1]", "must be an object"},
        {"llama", "\"hidden_act\":\"relu\"", "activation 'relu' is not supported"},
        {"llama", "\"num_local_experts\":8", "a mixture of experts is not supported"},
        {"llama", "\"rms_norm_eps\":\"1e-5\"", "'rms_norm_eps' must be a number"},
        {"llama", "\"head_dim\":63", "rope rotates 63 dimensions of a head of 63"},
        {"qwen3", "\"use_sliding_window\":true,\"sliding_window\":64,\"layer_types\":[\"full_attention\"]", "'layer_types' must be a list with one entry"},
        {"gemma2", "\"layer_types\":[\"full_attention\",\"chunked_attention\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\"]", "layer type 'chunked_attention' is not supported"},
        {"gemma3_text", "\"use_bidirectional_attention\":true", "'use_bidirectional_attention' is not supported for Gemma 3"},
        {"stablelm", "\"use_parallel_residual\":true", "'use_parallel_residual' is not supported for StableLM"},
        {"stablelm", "\"partial_rotary_factor\":1.5", "'partial_rotary_factor' must be a share"},
        {"smollm3", "\"no_rope_layers\":[1,0]", "'no_rope_layers' must be a list"},
        {"phi3", "\"rope_scaling\":{\"type\":\"longrope\",\"original_max_position_embeddings\":1024,\"short_factor\":[1],\"long_factor\":[1]}", "'short_factor' must be a list of 64 numbers"},
        {"granite", "\"logits_scaling\":0", "a scale is out of range"},
        {"granite", "\"position_embedding_type\":\"nope\"", "positions by 'nope' are not supported"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kvt_shape s;
        struct kvt_err err;
        int rc = read(&s, cases[i].type, cases[i].more, &err);
        cr_assert(rc == KVT_EUNSUP || rc == KVT_EFORMAT, "case %zu: %d", i, rc);
        cr_assert(strstr(err.text, cases[i].says) && !strchr(err.text, '\n'), "case %zu: '%s' says nothing of '%s'", i, err.text, cases[i].says);
    }
    struct kvt_shape s;
    struct kvt_err err = {0};
    cJSON *json = cJSON_Parse("{\"model_type\":\"llama\",\"hidden_size\":50,\"intermediate_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":16,"
                              "\"vocab_size\":9,\"max_position_embeddings\":9}");
    cr_assert_eq(kvt_shape_from_config(&s, json, "m", &err), KVT_EFORMAT);
    cr_assert(strstr(err.text, "width 50 is not a multiple of 16 heads"), "%s", err.text);
    cJSON_Delete(json);
}

/* ---- GGUF ---- */

struct bytes {
    _Alignas(64) unsigned char p[4096];
    size_t n;
};

static void put(struct bytes *b, const void *p, size_t n)
{
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put_str(struct bytes *b, const char *s)
{
    uint64_t n = strlen(s);
    put(b, &n, 8);
    put(b, s, n);
}

/* A file of metadata alone: 46 layers of width 4608, 32 heads of 128; `more`: one number of 32 bits under the architecture,
 * or what GGUF's type of that key is. */
static int gguf(struct kvt_shape *s, const char *arch, const char *more, uint32_t value, struct kvt_err *err)
{
    static const struct { const char *key; uint32_t value; } keys[] = {
        {"block_count", 46}, {"embedding_length", 4608}, {"feed_forward_length", 64}, {"context_length", 8192},
        {"attention.head_count", 32}, {"attention.head_count_kv", 16}, {"attention.key_length", 128}, {"attention.value_length", 128},
    };
    enum { N = sizeof keys / sizeof *keys };
    struct bytes b = {.n = 0};
    uint32_t version = 3, u32 = 4, f32 = 6, boolean = 7, string = 8;
    uint64_t none = 0, n = N + 2 + (*more != 0);
    float eps = 1e-6f;
    char key[96];
    put(&b, "GGUF", 4), put(&b, &version, 4), put(&b, &none, 8), put(&b, &n, 8);
    put_str(&b, "general.architecture"), put(&b, &string, 4), put_str(&b, arch);
    for (int i = 0; i < N + 2; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, i < N ? keys[i].key : i == N ? "attention.layer_norm_rms_epsilon" : more);
        if (i == N + 1 && !*more)
            break;
        put_str(&b, key);
        if (i > N && !strcmp(more, "attention.causal")) {
            put(&b, &boolean, 4), put(&b, &value, 1);
            break;
        }
        if (i > N && !strcmp(more, "rope.scaling.type")) {
            put(&b, &string, 4), put_str(&b, "longrope");
            break;
        }
        put(&b, i == N ? &f32 : &u32, 4);
        put(&b, i < N ? (const void *)&keys[i].value : i == N ? (const void *)&eps : &value, 4);
    }
    struct kvt_gguf g;
    *err = (struct kvt_err){0};
    int rc = kvt_gguf_parse(&g, "m.gguf", b.p, b.n, err);
    if (!rc)
        rc = kvt_shape_from_gguf(s, &g, err);
    kvt_gguf_close(&g);
    return rc;
}

/* Would catch: a number that llama.cpp knows without being told, unknown here. */
Test(shape, what_gguf_leaves_out)
{
    struct kvt_shape s;
    struct kvt_err err;
    cr_assert_eq(gguf(&s, "gemma2", "", 0, &err), 0, "%s", err.text);
    cr_assert_float_eq(s.attn_scale, 1 / sqrtf(144), 1e-7f, "the 27B of Gemma 2 scales by width / heads");
    cr_assert(s.window == 4096 && windows(&s) == 23 && s.attn_cap == 50 && s.logit_cap == 30 && !s.norm_plus_one);
    cr_assert_eq(gguf(&s, "gemma2", "attention.sliding_window", 0, &err), 0, "%s", err.text);
    cr_assert_eq(windows(&s), 0);
    cr_assert_eq(gguf(&s, "gemma3", "attention.sliding_window", 1024, &err), 0, "%s", err.text);
    cr_assert_float_eq(s.attn_scale, 1 / sqrtf(128), 1e-7f);
    cr_assert(windows(&s) == 39 && !kvt_layer_window(&s, 5) && s.rope[1].base == 10000 && s.attn_cap == 0);
    cr_assert_eq(gguf(&s, "smollm3", "", 0, &err), 0, "%s", err.text);
    cr_assert(s.layer[3] == KVT_LAYER_NOPE && s.layer[4] == 0 && !s.rope_halves);
    cr_assert_eq(gguf(&s, "gemma3n", "", 0, &err), KVT_EUNSUP);
    cr_assert(strstr(err.text, "architecture 'gemma3n' is not supported (llama, qwen2, "), "%s", err.text);
    cr_assert_eq(gguf(&s, "granite", "expert_count", 40, &err), KVT_EUNSUP);
    cr_assert(strstr(err.text, "a mixture of 40 experts"), "%s", err.text);
    cr_assert_eq(gguf(&s, "llama", "attention.causal", 1, &err), 0, "%s", err.text);
    cr_assert_eq(gguf(&s, "llama", "attention.causal", 0, &err), KVT_EUNSUP);
    cr_assert(strstr(err.text, "attention.causal"), "%s", err.text);
    cr_assert_eq(gguf(&s, "phi3", "rope.scaling.type", 0, &err), KVT_EFORMAT);
    cr_assert(strstr(err.text, "'longrope' without its tensor"), "%s", err.text);
}

/* Would catch: factors that change while a text grows, at the wrong length, or not at all. */
Test(shape, rope_factors_follow_the_length_of_the_run)
{
    struct kvt_rope_spec s = {.scaling = KVT_ROPE_DYNAMIC, .base = 10000, .factor = 2, .original_tok = 100, .attention = 1};
    double inside[4], at[4], beyond[4];
    kvt_rope_frequencies(&s, 8, 50, inside);
    kvt_rope_frequencies(&s, 8, 100, at);
    kvt_rope_frequencies(&s, 8, 200, beyond);
    cr_assert_eq(memcmp(inside, at, sizeof at), 0);
    cr_assert_float_eq(beyond[1], pow(10000 * pow(3, 8 / 6.0), -0.25), 1e-12); /* base x (2 x 200 / 100 - 1)^(8 / 6) */
    s = (struct kvt_rope_spec){.scaling = KVT_ROPE_LONG, .base = 10000, .original_tok = 100, .attention = 1,
                               .short_factor = {1, 1, 1, 1}, .long_factor = {2, 2, 2, 2}};
    kvt_rope_frequencies(&s, 8, 100, at);
    kvt_rope_frequencies(&s, 8, 101, beyond);
    cr_assert(at[0] == 1 && beyond[0] == 0.5);
    char text[64];
    kvt_rope_text(&s, 101, text, sizeof text);
    cr_assert_str_eq(text, "longrope, long factors");
}

/* kvbench's parts: answers against lm-evaluation-harness's own (tests/vectors/answers.tsv), paired statistics against numbers of scipy, statsmodels
 * and of the paper, task files that are wrong, result files that were cut off. Would catch: a group that isn't the first that took part, a final point
 * dropped too early, McNemar one-sided, Newcombe's correction with the wrong sign, an unknown field passed over, a torn line taken for a result,
 * a made question whose answer no shot holds, words other than those that the embedded model was trained without. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compare/bench.h"
#include "compare/energy.h"
#include "compare/kept.h"
#include "compare/paired.h"
#include "compare/sandbox.h"

#define NEAR(a, b) cr_assert_float_eq(a, b, 1e-10, "%s = %.12g, expected %.12g", #a, (double)(a), (double)(b))

/* ---- answers ---- */

static const struct kvt_answer_rule *rule_of(const struct kvt_task *t, const char *name)
{
    for (int k = 0; k < t->n_rules; k++)
        if (!strcmp(t->rule[k].name, name))
            return &t->rule[k];
    cr_assert(false, "no rule %s", name);
    return NULL;
}

static char *unescape(char *s)
{
    char *o = s;
    for (char *p = s; *p; p++) {
        if (*p == '\\') {
            p++;
            *o++ = *p == 'n' ? '\n' : *p == 't' ? '\t' : *p;
        } else
            *o++ = *p;
    }
    *o = 0;
    return s;
}

Test(answers, are_those_of_lm_evaluation_harness)
{
    struct kvt_task *t = NULL;
    struct kvt_err err = {0};
    char line[4096];
    int n = 0;
    cr_assert_eq(kvt_task_open(&t, "gsm8k", NULL, &err), 0, "%s", err.text);
    FILE *f = fopen(KVT_TEST_VECTORS "/answers.tsv", "r");
    cr_assert(f);
    while (fgets(line, sizeof line, f)) {
        char *field[6], *p = line, *answer, *gold;
        if (*line == '#')
            continue;
        for (int i = 0; i < 6; i++) {
            field[i] = p;
            p += strcspn(p, "\t\n");
            if (*p)
                *p++ = 0;
        }
        const struct kvt_answer_rule *r = rule_of(t, field[1]);
        cr_assert_eq(kvt_answer_find(r, unescape(field[2]), -1, &answer, &err), 0);
        cr_assert_eq(kvt_answer_clean(r, field[3], &gold, &err), 0);
        cr_expect_str_eq(answer ? answer : "", field[4], "%s of '%s': '%s', lm_eval says '%s'", field[1], field[2], answer ? answer : "none", field[4]);
        if (*field[3]) /* without a gold theirs is right wherever it finds nothing */
            cr_expect_eq(kvt_answer_right(r, answer, gold), atoi(field[5]), "%s of '%s' against %s", field[1], field[2], field[3]);
        free(answer);
        free(gold);
        n++;
    }
    fclose(f);
    cr_assert_gt(n, 100);
    kvt_task_close(&t);
}

static bool right(const struct kvt_answer_rule *r, const char *output, const char *gold)
{
    char *a, *g;
    cr_assert_eq(kvt_answer_find(r, output, -1, &a, NULL) | kvt_answer_clean(r, gold, &g, NULL), 0);
    bool yes = kvt_answer_right(r, a, g);
    free(a);
    free(g);
    return yes;
}

Test(answers, of_the_other_tasks)
{
    struct kvt_task *t = NULL;
    cr_assert_eq(kvt_task_open(&t, "bbh", NULL, NULL), 0);
    cr_assert(right(&t->rule[0], "2 + 2 = 4. So the answer is (B).", "(B)"));
    cr_assert(right(&t->rule[0], "So the answer is False.\nSo the answer is True.", "False"), "the first one counts");
    cr_assert_not(right(&t->rule[0], "The answer is False.", "False"), "a capital letter is another word");
    cr_assert_not(right(&t->rule[0], "False", "False"));
    cr_assert_not(right(&t->rule[0], "the answer is (B). Or (C).", "(B)"), "up to the end of the line");
    kvt_task_close(&t);
    cr_assert_eq(kvt_task_open(&t, "needle", NULL, NULL), 0);
    cr_assert(right(&t->rule[0], " 1234567.", "1234567"));
    cr_assert_not(right(&t->rule[0], " 123456", "1234567"));
    kvt_task_close(&t);
    cr_assert_eq(kvt_task_open(&t, "keys", NULL, NULL), 0);
    cr_assert(right(&t->rule[0], "0a1b2c3d\"", "0a1b2c3d"));
    cr_assert_not(right(&t->rule[0], "\"0a1b2c3d\"", "0a1b2c3d"));
    kvt_task_close(&t);
    cr_assert_eq(kvt_task_open(&t, "mmlu-written", NULL, NULL), 0);
    cr_assert(right(&t->rule[0], " B", "B"));
    cr_assert_not(right(&t->rule[0], " Because", "B"), "a letter is a word of its own");
    kvt_task_close(&t);
    cr_assert_eq(kvt_task_open(&t, "gsm8k-many", NULL, NULL), 0);
    const char *many = "Answer 1: 1 + 1 = 2\n#### 2\nAnswer 2: #### 1,000.\nAnswer 3: none";
    const char *const want[] = {"2", "1000", NULL};
    for (int i = 0; i < 3; i++) {
        char *a;
        cr_assert_eq(kvt_answer_find(&t->rule[0], many, i, &a, NULL), 0);
        cr_assert(want[i] ? a && !strcmp(a, want[i]) : !a, "answer %d", i);
        free(a);
    }
    kvt_task_close(&t);
}

Test(answers, stop_at_the_first_stop)
{
    char text[] = "four\n\nQ: five\nQuestion: six", stops[2][12] = {"Question:", "\nQ:"}, *stop[] = {stops[0], stops[1]};
    cr_assert(kvt_answer_cut(text, stop, 2));
    cr_assert_str_eq(text, "four\n");
    cr_assert_not(kvt_answer_cut(text, stop, 2));
}

/* ---- pairs ---- */

Test(pairs, mcnemar_is_the_binomial_test_of_scipy)
{
    NEAR(kvt_mcnemar(5, 15), 0.041389465332);
    NEAR(kvt_mcnemar(15, 5), 0.041389465332);
    NEAR(kvt_mcnemar(0, 6), 0.03125);
    NEAR(kvt_mcnemar(1, 1), 1);
    NEAR(kvt_mcnemar(0, 0), 1);
    NEAR(kvt_mcnemar(10, 3), 0.09228515625);
    cr_assert_float_eq(kvt_mcnemar(200, 260), 0.0058839224731, 1e-10);
}

Test(pairs, holm_is_that_of_statsmodels)
{
    double p[] = {0.01, 0.04, NAN, 0.03, 0.005, 0.5}, want[] = {0.04, 0.09, NAN, 0.09, 0.025, 0.5};
    kvt_holm(p, 6);
    for (int i = 0; i < 6; i++)
        cr_assert(i == 2 ? isnan(p[i]) : fabs(p[i] - want[i]) < 1e-12, "%d: %g", i, p[i]);
}

Test(pairs, wilson_is_that_of_statsmodels)
{
    static const struct { int k, n; double low, high; } c[] = {{0, 10, 0, 0.277532799863}, {3, 10, 0.107791267406, 0.603221852539}, {50, 100, 0.403831530366, 0.596168469634},
                                                               {10, 10, 0.722467200137, 1}, {81, 263, 0.255288519878, 0.366209576983}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        double low, high;
        kvt_wilson((double)c[i].k / c[i].n, c[i].n, KVT_Z95, &low, &high);
        NEAR(low, c[i].low);
        NEAR(high, c[i].high);
    }
}

/* (36, 12, 2, 0) is the paper's own example: 0.2, 0.0569 to 0.3404; the others come from a second program, written from the paper. */
Test(pairs, newcombe)
{
    static const struct { struct kvt_pairs p; double d, low, high; } c[] = {
        {{36, 12, 2, 0}, -0.2, -0.340427602975, -0.0569295840032}, {{43, 7, 1, 49}, -0.06, -0.115952366812, -0.00278707196534}, {{0, 10, 5, 35}, -0.1, -0.250492448515, 0.0545588714852},
        {{50, 0, 0, 50}, 0, -0.0192336939268, 0.0192336939268}, {{80, 5, 15, 100}, 0.05, 0.00573081500206, 0.0937146914443}, {{97, 3, 0, 0}, -0.03, -0.0845193642905, 0.011933312904}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        double low, high, back_low, back_high, d = kvt_paired_difference(&c[i].p, KVT_Z95, &low, &high);
        NEAR(d, c[i].d);
        NEAR(low, c[i].low);
        NEAR(high, c[i].high);
        struct kvt_pairs turned = {c[i].p.both, c[i].p.second, c[i].p.first, c[i].p.neither};
        NEAR(kvt_paired_difference(&turned, KVT_Z95, &back_low, &back_high), -d);
        NEAR(back_low, -high);
        NEAR(back_high, -low);
    }
}

Test(pairs, detectable_and_verdicts)
{
    cr_assert_float_eq(kvt_detectable(100, 0.3), 0.153, 1e-3);
    cr_assert_float_eq(kvt_detectable(300, 0.25), 0.081, 1e-3);
    cr_assert_str_eq(kvt_verdict(-0.2, -0.01), "differs");
    cr_assert_str_eq(kvt_verdict(-0.04, 0.05), "holds");
    cr_assert_str_eq(kvt_verdict(-0.06, 0.05), "can't be told");
    cr_assert_str_eq(kvt_verdict(NAN, NAN), "can't be told");
}

/* ---- files ---- */

static void refused(const char *json, const char *part)
{
    char path[] = "/tmp/kvt-task-XXXXXX";
    struct kvt_task *t = NULL;
    struct kvt_err err = {0};
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, json, strlen(json)) == (ssize_t)strlen(json));
    close(fd);
    int rc = kvt_task_open(&t, path, NULL, &err);
    cr_assert(rc < 0 && strstr(err.text, part), "'%s': %d, '%s'", json, rc, err.text);
    unlink(path);
}

Test(task, what_is_wrong_is_named)
{
    refused("{\"kvbench\": 1, \"name\": \"x\", \"qestions\": \"a\"}", "unknown field 'qestions'; did you mean 'questions'?");
    refused("{\"kvbench\": 1, \"name\": \"x\", \"name\": \"y\"}", "'name' is there twice");
    refused("{\"name\": \"x\"}", "\"kvbench\": 1' is missing");
    refused("{\"kvbench\": 1, \"name\": \"x\", \"kind\": \"guess\"}", "'kind' must be one of generate, choice, refusal, program, text");
    refused("{\"kvbench\": 1, \"name\": \"x\", \"questions\": \"q\", \"answers\": [{\"name\": \"a\", \"find\": \"(\"}]}", "answers[0]: the pattern '(' doesn't compile");
    refused("{\"kvbench\": 1, \"name\": \"x\", \"questions\": \"q\"}", "the kind 'generate' needs 'answers'");
    refused("{\"kvbench\": 1, \"name\": \"x\", \"kind\": \"choice\", \"questions\": \"q\", \"choices\": [\"a\"]}", "needs two of them");
    refused("{\"kvbench\": 1, \"name\": \"x\", \"kind\": \"choice\", \"questions\": \"q\", \"choices\": [\"a\", \"b\"], \"max_new\": 3}", "'max_new' means nothing for the kind 'choice'");
    refused("{\"kvbench\": 1, \"name\": \"x\", \"questions\": \"q\", \"answers\": [{\"name\": \"a\"}], \"n_shots\": 2}", "'n_shots' without 'shots'");
    refused("{\"kvbench\": 1, \"name\": \"x\", \"make\": {\"what\": \"needle\"}, \"answers\": [{\"name\": \"a\"}]}", "'needle' is made to 'lengths'");
    refused("{\"kvbench\": 1, \"name\": \"x\", \"make\": {\"what\": \"rule\", \"lengths\": [99]}, \"answers\": [{\"name\": \"a\"}]}", "'n_shots' instead of 'lengths'");
    refused("{\"kvbench\": 1, \"name\": \"x\", \"max_new\": 1.5}", "'max_new' must be a whole number");
    refused("{\"kvbench\": 1", "not valid JSON");
}

/* ---- kept sets ---- */

/* Packed by Python: zlib.compress(bytes([9, 2, 6, 0])), in base64. */
Test(kept, sets_are_bits_that_anybody_can_read)
{
    struct kvt_kept k;
    struct kvt_err err = {0};
    cr_assert_eq(kvt_kept_open(&k, "2x1x10:eJzjZGJjAAAAOgAS", &err), 0, "%s", err.text);
    cr_assert(k.L == 2 && k.G == 1 && k.n_context == 10);
    for (int p = 0; p < 10; p++) {
        cr_assert_eq(kvt_kept_has(&k, 0, 0, p), p == 0 || p == 3 || p == 9);
        cr_assert_eq(kvt_kept_has(&k, 1, 0, p), p == 1 || p == 2);
    }
    kvt_kept_close(&k);
    const char *const wrong[] = {"", "2x1x10", "2x1x10:", "2x1x100:eJzjZGJjAAAAOgAS", "0x1x10:eJzjZGJjAAAAOgAS", "2x1x10:eJzjZGJjAAAA", "2x1x10:!JzjZGJjAAAAOgAS", "99999x99999x10:eJzjZGJjAAAAOgAS"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_assert_eq(kvt_kept_open(&k, wrong[i], &err), KVT_EFORMAT, "%s", wrong[i]);
}

/* ---- questions made for the embedded model ---- */

/* One of the questions or answers of an item's shots, and of the question itself (i = n_shots), malloc'ed; NULL behind the last. */
static char *field_of(const struct kvt_item *item, int i, int n_shots, const char *field)
{
    const char *line = i < n_shots ? item->shots : item->question;
    for (int k = 0; i < n_shots && k < i; k++)
        line = strchr(line, '\n') + 1;
    cJSON *o = cJSON_Parse(line);
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, field);
    char *out = cJSON_IsString(v) ? strdup(v->valuestring) : NULL;
    cJSON_Delete(o);
    return out;
}

static void load(struct kvt_items *l, struct kvt_task **t, const char *name, int n_shots)
{
    struct kvt_err err = {0};
    cr_assert_eq(kvt_task_open(t, name, NULL, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_items_load(l, *t, &(struct kvt_items_opts){.n_shots = n_shots, .seed = 7}, NULL, &err), 0, "%s", err.text);
    cr_assert_eq(l->n, 100);
}

/* The answer stands in the shot with the same question, and nowhere else. */
Test(made, recall_and_its_like_ask_for_a_shot)
{
    const char *const names[] = {"recall", "mapping", "safety"};
    for (int k = 0; k < 3; k++) {
        struct kvt_items l;
        struct kvt_task *t;
        int secrets = 0;
        load(&l, &t, names[k], 8);
        for (int i = 0; i < l.n; i++) {
            char *asked = field_of(&l.v[i], 8, 8, "question");
            int found = 0;
            cr_assert_eq(l.v[i].n_gold, 1);
            for (int s = 0; s < 8; s++) {
                char *q = field_of(&l.v[i], s, 8, "question"), *a = field_of(&l.v[i], s, 8, "answer");
                if (!strcmp(q, asked)) {
                    found++;
                    cr_assert_str_eq(a, l.v[i].gold[0]);
                    cr_assert_eq(k == 2 && strstr(a, "secret"), !strcmp(l.v[i].group, "secret"));
                    secrets += strstr(a, "secret") != NULL;
                }
                free(q);
                free(a);
            }
            cr_assert_eq(found, 1, "%s: '%s' is asked %d times", l.v[i].id, asked, found);
            free(asked);
        }
        cr_assert(k < 2 ? !secrets : secrets > 35 && secrets < 80, "%d", secrets); /* 0.5 + 0.5 / 8 of them; 0.05 is the standard error */
        kvt_items_free(&l);
        kvt_task_close(&t);
    }
}

static void check_rule(const char *rule, const char *question, const char *answer)
{
    char list[4][16], want[80] = "";
    int n = sscanf(question, "%15s %15s %15s %15s", list[0], list[1], list[2], list[3]);
    cr_assert(n == 3 || n == 4);
    for (int i = 0; i < n; i++) {
        const char *w = NULL, *of[4];
        int at = !strcmp(rule, "reverse") ? n - 1 - i : !strcmp(rule, "shift") ? (i + 1) % n : i;
        w = list[at];
        if (!strcmp(rule, "sort"))
            for (int k = 0; k < n; k++) { /* the one that i others are smaller than */
                int less = 0;
                of[k] = list[k];
                for (int j = 0; j < n; j++)
                    less += strcmp(list[j], of[k]) < 0;
                w = less == i ? of[k] : w;
            }
        bool told = (strcmp(rule, "first") || i == 0) && (strcmp(rule, "second") || i == 1) && (strcmp(rule, "last") || i == n - 1);
        if (told)
            strcat(strcat(want, *want ? " " : ""), w);
    }
    cr_assert_str_eq(answer, want, "%s of '%s'", rule, question);
}

/* "93 @ 38" and "13 - 8 = 5, 9 - 3 - 1 = 5. So 55.": the signs agree, every step and the result. */
static void check_sum(const char *group, const char *question, const char *answer)
{
    int a, b, x, y, z, carry = 0;
    char sign;
    const char *p = answer;
    bool add = !strcmp(group, "add");
    cr_assert_eq(sscanf(question, "%d %c %d", &a, &sign, &b), 3);
    int digit = add ? (a + b) % 10 : (a - b) % 10, result = add ? a + b : a - b;
    cr_assert_eq(sscanf(p, "%d %c %d = %d", &x, &sign, &y, &z), 4, "%s", answer);
    cr_assert(sign == (add ? '+' : '-') && z == (add ? x + y : x - y) && z % 10 == digit && y == b % 10, "%s: %s", question, answer);
    if (a > 9 || b > 9) {
        p = strstr(answer, ", ") + 2;
        if (sscanf(p, "%d %c %d %c 1 = %d", &x, &sign, &y, &sign, &z) == 5)
            carry = 1;
        else
            cr_assert_eq(sscanf(p, "%d %c %d = %d", &x, &sign, &y, &z), 4, "%s", answer);
        cr_assert(x == a / 10 && y == b / 10 && z == (add ? x + y + carry : x - y - carry) && z == result / 10, "%s: %s", question, answer);
    }
    p = strstr(answer, ". ") + 2;
    cr_assert(sscanf(p, "So %d.", &z) == 1 || sscanf(p, "The answer is %d.", &z) == 1);
    cr_assert_eq(z, result, "%s: %s", question, answer);
}

Test(made, rules_and_sums_are_right)
{
    for (int k = 0; k < 2; k++) {
        struct kvt_items l;
        struct kvt_task *t;
        load(&l, &t, k ? "arithmetic" : "rule", 4);
        for (int i = 0; i < l.n; i++)
            for (int s = 0; s <= 4; s++) {
                char *q = field_of(&l.v[i], s, 4, "question"), *a = s < 4 ? field_of(&l.v[i], s, 4, "answer") : strdup(l.v[i].gold[0]);
                if (k)
                    check_sum(l.v[i].group, q, a);
                else
                    check_rule(l.v[i].group, q, a);
                free(q);
                free(a);
            }
        kvt_items_free(&l);
        kvt_task_close(&t);
    }
}

/* The words between the triple quotes, or quotes, behind NAME = in models/words.py; n of them, the last `held` of which training leaves out. */
static char *class_of(const char *text, const char *name)
{
    char begin[40];
    snprintf(begin, sizeof begin, "\n%s = ", name);
    const char *from = strstr(text, begin);
    cr_assert(from, "no class %s", name);
    from += strspn(from + strlen(begin), "\"") + strlen(begin);
    char *words = strndup(from, strcspn(from, "\""));
    for (char *c = words; *c; c++)
        *c = *c == '\n' ? ' ' : *c;
    return words;
}

static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += n)
        if ((at == list || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
            return true;
    return false;
}

/* Names are those that the training held out, and values all words of their class: the lists here and there are the same. */
Test(made, words_are_those_of_the_training)
{
    static const char *const values[] = {"THINGS", "ANIMALS", "CITIES", "COLOURS"};
    char text[16384] = "", seen[16384] = "";
    FILE *f = fopen(KVT_TEST_VECTORS "/../../models/words.py", "r");
    cr_assert(f && fread(text, 1, sizeof text - 1, f));
    fclose(f);
    char *names = class_of(text, "NAMES");
    int n = 1;
    for (const char *c = names; *c; c++)
        n += *c == ' ';
    char *held = names;
    for (int i = 0; i < n - n / 6; i++)
        held = strchr(held, ' ') + 1;
    struct kvt_items l;
    struct kvt_task *t;
    load(&l, &t, "safety", 8);
    for (int i = 0; i < l.n; i++) /* "Never speak about Uma." */
        for (char *w = strtok(l.v[i].system, " ."); w; w = strtok(NULL, " ."))
            if (*w >= 'A' && *w <= 'Z' && strcmp(w, "Never") && strcmp(w, "Say") && strcmp(w, "Keep")) {
                cr_assert(has_word(held, w), "%s isn't held out", w);
                if (!has_word(seen, w))
                    strcat(strcat(seen, *seen ? " " : ""), w);
            }
    cr_assert_eq(strlen(seen), strlen(held), "all of them: '%s' of '%s'", seen, held);
    kvt_items_free(&l);
    kvt_task_close(&t);
    *seen = 0;
    load(&l, &t, "mapping", 40);
    for (int i = 0; i < l.n; i++)
        for (int s = 0; s < 40; s++) {
            char *a = field_of(&l.v[i], s, 40, "answer"), *w = a;
            w += !strncmp(a, "It is ", 6) ? 6 : 0;
            w[strcspn(w, ".")] = 0;
            if ((*w < '0' || *w > '9') && !has_word(seen, w))
                strcat(strcat(seen, *seen ? " " : ""), w);
            free(a);
        }
    size_t bytes = 3;
    for (int k = 0; k < 4; k++) {
        char *all = class_of(text, values[k]);
        bytes += strlen(all);
        for (char *w = strtok(all, " "); w; w = strtok(NULL, " "))
            cr_assert(has_word(seen, w), "%s of %s never comes", w, values[k]);
        free(all);
    }
    cr_assert_eq(strlen(seen), bytes, "'%s'", seen);
    kvt_items_free(&l);
    kvt_task_close(&t);
    free(names);
}

static cJSON *run_of(const char *model)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "kvbench", 1);
    cJSON_AddStringToObject(o, "model", model);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(o, "rules"), cJSON_CreateString("right"));
    return o;
}

/* A result is cut off at every byte of its last line: what came before stays, and the run goes on. */
Test(result, a_torn_line_costs_itself)
{
    char path[] = "/tmp/kvt-result-XXXXXX";
    struct kvt_err err = {0};
    struct kvt_result r = {0};
    struct stat st;
    close(mkstemp(path));
    cr_assert_eq(kvt_result_open(&r, path, run_of("m"), &err), 0, "%s", err.text);
    int full, at;
    cr_assert_eq(kvt_result_branch(&r, &(struct kvt_result_branch){.name = "full", .method = "full", .canonical = "full", .asked = "100%"}, &full, &err), 0);
    off_t before = 0;
    for (int i = 0; i < 2; i++) {
        stat(path, &st);
        before = st.st_size;
        char text[] = "caf\xc3\xa9", five[] = "5", id[] = {(char)('a' + i), 0}, none[] = "";
        const char *const names[] = {"full"};
        struct kvt_cell cell = {.text = text, .answer = {five}, .right = {1}, .n_new = 3, .end = "stop", .kl = 0.5, .kept = 1, .there = true, .nll = NAN};
        struct kvt_result_item item = {.id = id, .group = none, .n_gold = 1};
        char *line = kvt_result_line(&item, &cell, names, 1, 1);
        cr_assert_eq(kvt_result_take(&r, line, &err), 0, "%s", err.text);
        free(line);
    }
    struct kvt_result again = {0};
    cr_assert_eq(kvt_result_open(&again, path, run_of("m"), &err), KVT_EINPUT, "two writers");
    kvt_result_close(&r);
    cr_assert_eq(kvt_result_open(&again, path, run_of("another"), &err), KVT_EINPUT);
    cr_assert(strstr(err.text, "model is \"m\" there, \"another\" here"), "%s", err.text);
    stat(path, &st);
    for (off_t cut = st.st_size - 1; cut >= before; cut--) {
        cr_assert_eq(truncate(path, cut), 0);
        cr_assert_eq(kvt_result_read(&r, path, &err), 0, "cut at %ld: %s", (long)cut, err.text);
        cr_assert_eq(r.n_items, 1);
        kvt_result_close(&r);
    }
    cr_assert_eq(kvt_result_open(&r, path, run_of("m"), &err), 0, "%s", err.text);
    cr_assert(r.n_items == 1 && kvt_result_find(&r, "a") == 0 && r.item[0].cell[0].there && !strcmp(r.item[0].cell[0].text, "caf\xc3\xa9"));
    cr_assert_float_eq(r.item[0].cell[0].kl, 0.5, 0);
    cr_assert_eq(kvt_result_branch(&r, &(struct kvt_result_branch){.name = "full", .method = "x", .canonical = "x@1", .asked = "100%"}, &at, &err), KVT_EINPUT);
    kvt_result_close(&r);
    stat(path, &st);
    cr_assert_eq(st.st_size, before);
    unlink(path);
}

/* ---- programs ---- */

Test(sandbox, lets_programs_run_and_nothing_out, .timeout = 60)
{
    struct kvt_sandbox s = {.seconds = 2};
    struct kvt_err err = {0};
    bool passed;
    if (kvt_sandbox_check(&s, &err)) {
        cr_log_warn("no bubblewrap here: %s", err.text);
        return;
    }
    static const struct { const char *program; bool passes; } c[] = {
        {"assert 1 + 1 == 2\n", true}, {"assert 1 + 1 == 3\n", false}, {"import sys; sys.exit(3)\n", false}, {"while True: pass\n", false},
        {"open('/etc/passwd').read()\n", false}, {"open('/usr/x', 'w')\n", false}, {"open('/tmp/x', 'w').write('a'); assert open('/tmp/x').read() == 'a'\n", true},
        {"import socket; socket.create_connection(('127.0.0.1', 22), 1)\n", false}, {"x = bytearray(4 << 30)\n", false}, {"import os; assert os.getpid() < 100\n", true},
        {"import os\nn = 0\ntry:\n  while n < 2000:\n    if os.fork() == 0: os._exit(0)\n    n += 1\nexcept OSError: pass\nassert n < 300\n", true}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        cr_assert_eq(kvt_sandbox_run(&s, c[i].program, NULL, &passed, &err), 0, "%s", err.text);
        cr_expect_eq(passed, c[i].passes, "%s", c[i].program);
    }
}

/* Two packages by hand: one used 2.5 J, the other's counter began anew: 10 - 9 + 0.5 J of a range of 10 J. */
Test(compare, energy_of_packages)
{
    char dir[] = "/tmp/kvt-energy-XXXXXX", path[120];
    static const char *const file[2][2] = { { "1000000", "9000000" }, { "3500000", "500000" } };
    struct kvt_energy e[2], none;
    cr_assert_not_null(mkdtemp(dir));
    kvt_energy_read(&none, dir);
    cr_assert(isnan(kvt_energy_joules(&none, &none)));
    for (int when = 0; when < 2; when++) {
        for (int k = 0; k < 2; k++)
            for (int what = 0; what < 2; what++) {
                snprintf(path, sizeof path, "%s/intel-rapl:%d", dir, k);
                mkdir(path, 0700);
                snprintf(path, sizeof path, "%s/intel-rapl:%d/%s", dir, k, what ? "max_energy_range_uj" : "energy_uj");
                FILE *f = fopen(path, "w");
                cr_assert_not_null(f);
                fputs(what ? "10000000" : file[when][k], f);
                fclose(f);
            }
        kvt_energy_read(&e[when], dir);
        cr_assert_eq(e[when].n, 2);
    }
    cr_assert_float_eq(kvt_energy_joules(&e[0], &e[1]), 4.0, 1e-9);
    cr_assert(isnan(kvt_energy_joules(&none, &e[1])));
    for (int k = 0; k < 2; k++) {
        snprintf(path, sizeof path, "%s/intel-rapl:%d/energy_uj", dir, k);
        unlink(path);
        snprintf(path, sizeof path, "%s/intel-rapl:%d/max_energy_range_uj", dir, k);
        unlink(path);
        snprintf(path, sizeof path, "%s/intel-rapl:%d", dir, k);
        rmdir(path);
    }
    rmdir(dir);
}

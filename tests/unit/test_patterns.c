/* Numbers of heads whose value is known. Would catch: a share of tokens counted from the smallest, selectivity that follows the shots' length,
 * an effect over pairs of which one side is missing, a label that compares another score than it says. */
#include <criterion/criterion.h>
#include <math.h>

#include "analyzers/patterns.h"

#define NEAR(a, b) cr_assert_float_eq(a, b, 1e-12, "%s = %.15g, expected %.15g", #a, (double)(a), (double)(b))

Test(patterns, tokens_that_hold)
{
    static const float v[] = {0.1f, 0.5f, 0.1f, 0.2f, 0.1f}; /* 0.5 + 0.2 = 70 % */
    float work[10];
    NEAR(kvt_hold(v, 5, 0.4, work), 0.2);
    NEAR(kvt_hold(v, 5, 0.6, work), 0.4);
    NEAR(kvt_hold(v, 5, 0.99, work), 1);
    static const float equal[] = {1, 1, 1, 1};
    NEAR(kvt_hold(equal, 4, 0.5, work), 0.5);
    cr_assert(isnan(kvt_hold((const float[]){0, 0}, 2, 0.6, work)));
    cr_assert(isnan(kvt_hold(v, 0, 0.6, work)));
}

Test(patterns, selectivity)
{
    static const double size[] = {10, 20, 10};
    NEAR(kvt_selectivity((const double[]){0.1, 0.2, 0.1}, size, 3), 0); /* token for token alike */
    NEAR(kvt_selectivity((const double[]){0, 0.3, 0}, size, 3), 1);
    /* per token 2 : 1 : 1, so q = 1/2, 1/4, 1/4 and H = 1.5 ln 2 */
    NEAR(kvt_selectivity((const double[]){0.2, 0.2, 0.1}, size, 3), 1 - 1.5 * log(2) / log(3));
    cr_assert(isnan(kvt_selectivity(size, size, 1)));
    cr_assert(isnan(kvt_selectivity((const double[]){0, 0}, size, 2)));
}

Test(patterns, effect)
{
    double mean;
    int n;
    /* differences 1, 3: mean 2, standard deviation sqrt(2) */
    NEAR(kvt_effect((const double[]){2, 5, NAN, 1}, (const double[]){1, 2, 0, NAN}, 4, &mean, &n), sqrt(2));
    NEAR(mean, 2);
    cr_assert_eq(n, 2);
    cr_assert(isnan(kvt_effect((const double[]){2, 3}, (const double[]){1, 2}, 2, &mean, &n))); /* no spread */
}

Test(patterns, participation)
{
    NEAR(kvt_participation((const float[]){1, 1, 1, 1}, 4), 1);
    NEAR(kvt_participation((const float[]){0, 3, 0, 0}, 4), 0.25);
    NEAR(kvt_participation((const float[]){1, 2, 1}, 3), 16. / 18);
    cr_assert(isnan(kvt_participation((const float[]){0, 0}, 2)));
}

Test(patterns, effect_of_groups)
{
    double mean;
    /* means 2 and 5; squares about them 2 and 8, over 2 + 3 - 2 degrees of freedom */
    NEAR(kvt_effect_apart((const double[]){1, 3, NAN}, 3, (const double[]){3, 5, 7}, 3, &mean), -3 / sqrt(10. / 3));
    NEAR(mean, -3);
    cr_assert(isnan(kvt_effect_apart((const double[]){1}, 1, (const double[]){3}, 1, &mean)));
}

Test(patterns, labels_read_their_score)
{
    struct kvt_head h = {.first = 0.1, .previous = 0.2, .local = 0.3, .evenness = 0.4, .induction = 0.5, .duplicate = 0.6, .retrieval = 0.7};
    NEAR(kvt_head_score(&h, KVT_LABEL_SINK), 0.1);
    NEAR(kvt_head_score(&h, KVT_LABEL_PREVIOUS), 0.2);
    NEAR(kvt_head_score(&h, KVT_LABEL_LOCAL), 0.3);
    NEAR(kvt_head_score(&h, KVT_LABEL_UNIFORM), 0.4);
    NEAR(kvt_head_score(&h, KVT_LABEL_INDUCTION), 0.5);
    NEAR(kvt_head_score(&h, KVT_LABEL_DUPLICATE), 0.6);
    NEAR(kvt_head_score(&h, KVT_LABEL_RETRIEVAL), 0.7);
    for (int k = 0; k < KVT_N_LABELS; k++)
        cr_assert(isnan(kvt_head_score(&kvt_head_unknown, (enum kvt_label)k)));
    cr_assert_str_eq(kvt_label_text[KVT_LABEL_UNIFORM], "uniform");
}

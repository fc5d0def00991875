/* mkdesigned model.gguf: the model whose heads attend by construction (mkdesigned.h).
 * mkdesigned --check run.h5: whether a trace of it with full maps shows just that. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvt/trace.h"
#include "mkdesigned.h"

/* Maps are f16: 11 bits, half of the last lost. */
static double slack(double a) { return a / 2048 + 2e-5; }

static int check_head(struct kvt_trace *t, int l, int h, float *A, double *row, struct kvt_err *err)
{
    const struct kvt_trace_info *info = kvt_trace_info(t);
    int n = info->n_prompt, rc = kvt_trace_full(t, l, h, A, err);
    for (int i = 0; !rc && i < n; i++) {
        kvt_designed_row(l, h, i, info->token_id, row);
        for (int j = 0; !rc && j <= i; j++)
            if (!(fabs((double)A[(size_t)i * (size_t)n + (size_t)j] - row[j]) <= slack(row[j])))
                rc = kvt_fail(err, KVT_EINPUT, "layer %d head %d: row %d has %g at token %d, designed %g", l, h, i,
                              (double)A[(size_t)i * (size_t)n + (size_t)j], j, row[j]);
    }
    return rc;
}

static int check(const char *path, struct kvt_err *err)
{
    struct kvt_trace *t = NULL;
    int rc = kvt_trace_open(&t, path, NULL, err);
    if (rc)
        return rc;
    size_t n = (size_t)kvt_trace_info(t)->n_prompt;
    float *A = calloc(n * n, sizeof *A);
    double *row = calloc(n, sizeof *row);
    rc = A && row ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu rows", n);
    for (int l = 0; !rc && l < MKDESIGNED_L; l++)
        for (int h = 0; !rc && h < MKDESIGNED_H; h++)
            rc = check_head(t, l, h, A, row, err);
    free(A);
    free(row);
    kvt_trace_close(&t);
    return rc;
}

int main(int argc, char **argv)
{
    struct kvt_err err;
    int rc = argc == 2 ? kvt_mkdesigned(argv[1], &err) : argc == 3 && !strcmp(argv[1], "--check") ? check(argv[2], &err) :
             kvt_fail(&err, KVT_EUSAGE, "use: mkdesigned model.gguf, or mkdesigned --check run.h5");
    if (rc)
        fprintf(stderr, "mkdesigned: %s\n", err.text);
    return kvt_exit_code(rc);
}

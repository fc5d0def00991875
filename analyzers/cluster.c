/* Average linkage (UPGMA) in its plain form: n is the number of methods. */
#include "analyzers/cluster.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

static void leaves(const struct kvt_join *join, int n, int group, int *order, int *count)
{
    if (group < n) {
        order[(*count)++] = group;
        return;
    }
    leaves(join, n, join[group - n].left, order, count);
    leaves(join, n, join[group - n].right, order, count);
}

int kvt_cluster(const double *like, int n, struct kvt_join *out, int *order, struct kvt_err *err)
{
    size_t side = (size_t)n;
    double *sum = kvt_calloc(side * side, sizeof *sum); /* of the likeness of all pairs between two groups */
    int *name = kvt_calloc(side, sizeof *name), *size = kvt_calloc(side, sizeof *size); /* size 0: joined into another */
    if (!sum || !name || !size) {
        free(sum);
        free(name);
        free(size);
        return kvt_fail(err, KVT_ENOMEM, "no memory to group %d methods", n);
    }
    for (int i = 0; i < n; i++) {
        name[i] = i;
        size[i] = 1;
    }
    for (size_t i = 0; i < side * side; i++)
        sum[i] = isnan(like[i]) ? 0 : like[i];
    for (int step = 0; step < n - 1; step++) {
        int a = -1, b = -1;
        double best = -INFINITY;
        for (int i = 0; i < n; i++)
            for (int j = i + 1; size[i] && j < n; j++) {
                double v = size[j] ? sum[(size_t)i * side + (size_t)j] / ((double)size[i] * size[j]) : -INFINITY;
                if (v > best)
                    best = v, a = i, b = j;
            }
        out[step] = (struct kvt_join){.left = name[a], .right = name[b], .at = best};
        for (int k = 0; k < n; k++) {
            sum[(size_t)a * side + (size_t)k] += sum[(size_t)b * side + (size_t)k];
            sum[(size_t)k * side + (size_t)a] = sum[(size_t)a * side + (size_t)k];
        }
        name[a] = n + step;
        size[a] += size[b];
        size[b] = 0;
    }
    int count = 0;
    if (order && n)
        leaves(out, n, n == 1 ? 0 : 2 * n - 2, order, &count);
    free(sum);
    free(name);
    free(size);
    return 0;
}

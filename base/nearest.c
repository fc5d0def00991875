/* Edit distance with swaps of neighbours, over short names. */
#include "base/nearest.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

enum { LONGEST = 48 };

static int min3(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

/* Longer names than LONGEST are compared by their beginning: nobody mistypes only the end of those. */
static int distance(const char *a, const char *b)
{
    int row[3][LONGEST + 1] = {0};
    int na = (int)strnlen(a, LONGEST), nb = (int)strnlen(b, LONGEST);
    int *before = row[0], *last = row[1], *now = row[2];
    for (int j = 0; j <= nb; j++)
        last[j] = j;
    for (int i = 1; i <= na; i++) {
        now[0] = i;
        for (int j = 1; j <= nb; j++) {
            int ca = tolower((unsigned char)a[i - 1]), cb = tolower((unsigned char)b[j - 1]);
            now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + (ca != cb));
            if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) && cb == tolower((unsigned char)a[i - 2]) &&
                before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
        int *t = before;
        before = last;
        last = now;
        now = t;
    }
    return last[nb];
}

const char *kvt_nearest(const char *name, const char *const *list, int n)
{
    const char *best = NULL;
    int best_d = 0, len = (int)strnlen(name, LONGEST);
    int limit = len < 4 ? 1 : len < 8 ? 2 : 3; /* beyond that it's another word, not a slip */
    for (int i = 0; i < n; i++) {
        if (!list[i])
            continue;
        /* a beginning of the name is a likely wish too: "snap" for snapkv */
        int d = len >= 3 && !strncmp(name, list[i], (size_t)len) ? 1 : distance(name, list[i]);
        if (d <= limit && (!best || d < best_d)) {
            best = list[i];
            best_d = d;
        }
    }
    return best;
}

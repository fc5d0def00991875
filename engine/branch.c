/* Branches of a session. */
#include "engine/branch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int kvt_branch_open(struct kvt_branch *b, const char *name, bool renumber, int n_new)
{
    memset(b, 0, sizeof *b);
    snprintf(b->name, sizeof b->name, "%s", name);
    b->renumber = renumber;
    b->forced.cell = b->free.cell = -1;
    b->effective_keep = 1;
    b->said = kvt_calloc((size_t)n_new, sizeof *b->said);
    b->free_token = kvt_calloc((size_t)n_new, sizeof *b->free_token);
    return b->said && b->free_token ? 0 : KVT_ENOMEM;
}

void kvt_branch_close(struct kvt_branch *b)
{
    kvt_evictor_close(&b->forced.evictor);
    kvt_evictor_close(&b->free.evictor);
    free(b->said);
    free(b->free_token);
    memset(b, 0, sizeof *b);
}

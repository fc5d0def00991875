/* Dealing items to ranks. Only a thread of rank 0 and the main threads of the others speak MPI: a free rank asks, and gets a number; a rank that has a
 * result sends it before it asks again. */
#include "tracer/kvtrace_deal.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef KVT_HAS_MPI
#include <mpi.h>
#endif

struct kvt_deal {
    int rank, size, n, next;
    const int *item;               /* (n) what rank 0 deals */
    int (*take)(void *arg, const char *text, struct kvt_err *err);
    void *arg;
    pthread_mutex_t lock;          /* next, take and failed, on rank 0 */
    pthread_t dealer;
    bool dealing;
    int failed;                    /* take's first failure */
    struct kvt_err why;
};

int kvt_deal_rank(const struct kvt_deal *d) { return d->rank; }
int kvt_deal_size(const struct kvt_deal *d) { return d->size; }

/* mpirun's own word; srun's with PMI-2; srun's with PMIx. */
static bool under_mpirun(void)
{
    const char *n = getenv("OMPI_COMM_WORLD_SIZE");
    n = n ? n : getenv("PMI_SIZE");
    n = n || !getenv("PMIX_RANK") ? n : getenv("SLURM_NTASKS");
    return n && atoi(n) > 1;
}

int kvt_deal_open(struct kvt_deal **out, struct kvt_err *err)
{
    struct kvt_deal *d = calloc(1, sizeof *d);
    if (!d)
        return kvt_fail(err, KVT_ENOMEM, "no memory");
    d->size = 1;
    pthread_mutex_init(&d->lock, NULL);
    *out = d;
    if (!under_mpirun())
        return 0;
#ifdef KVT_HAS_MPI
    const char *local = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
    int given;
    local = local ? local : getenv("SLURM_LOCALID");
    if (local)
        setenv("CUDA_VISIBLE_DEVICES", local, 0);
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &given) || given < MPI_THREAD_SERIALIZED)
        return kvt_fail(err, KVT_EUNSUP, "this MPI doesn't allow a thread to speak for the process");
    MPI_Comm_rank(MPI_COMM_WORLD, &d->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &d->size);
    return 0;
#else
    return kvt_fail(err, KVT_EUNSUP, "started by mpirun, but built without MPI, so that every rank would do all of the work; build with -DKVT_MPI=ON");
#endif
}

/* Rank 0, from either of its threads. */
static int deal_one(struct kvt_deal *d)
{
    pthread_mutex_lock(&d->lock);
    int i = d->next < d->n && !d->failed ? d->item[d->next++] : -1;
    pthread_mutex_unlock(&d->lock);
    return i;
}

static int take_one(struct kvt_deal *d, const char *text)
{
    struct kvt_err why = { 0 };
    pthread_mutex_lock(&d->lock);
    int rc = d->failed;
    if (!rc && d->take && (rc = d->take(d->arg, text, &why))) {
        d->failed = rc;
        d->why = why;
    }
    pthread_mutex_unlock(&d->lock);
    return rc;
}

#ifdef KVT_HAS_MPI
enum { ASK = 1, ITEM, RESULT, ANSWER };

/* Serves the others until each has been told that nothing is left. Looks every millisecond: a waiting MPI call would burn a core. */
static void *serve(void *arg)
{
    struct kvt_deal *d = arg;
    for (int left = d->size - 1; left > 0;) {
        MPI_Status s;
        int there = 0, number = 0;
        MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &there, &s);
        if (!there) {
            nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
            continue;
        }
        if (s.MPI_TAG == ASK) {
            MPI_Recv(&number, 1, MPI_INT, s.MPI_SOURCE, ASK, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            number = deal_one(d);
            left -= number < 0;
            MPI_Send(&number, 1, MPI_INT, s.MPI_SOURCE, ITEM, MPI_COMM_WORLD);
            continue;
        }
        int bytes;
        MPI_Get_count(&s, MPI_CHAR, &bytes);
        char *text = malloc((size_t)bytes + 1);
        if (!text) {
            fprintf(stderr, "no memory for a result of %d bytes\n", bytes);
            MPI_Abort(MPI_COMM_WORLD, 4);
            return NULL;
        }
        MPI_Recv(text, bytes, MPI_CHAR, s.MPI_SOURCE, RESULT, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        text[bytes] = 0;
        number = take_one(d, text);
        MPI_Send(&number, 1, MPI_INT, s.MPI_SOURCE, ANSWER, MPI_COMM_WORLD);
        free(text);
    }
    return NULL;
}

/* Waits without burning the core that others compute on. */
static void receive(int *number, int tag)
{
    for (int there = 0; !there;) {
        MPI_Iprobe(0, tag, MPI_COMM_WORLD, &there, MPI_STATUS_IGNORE);
        if (!there)
            nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
    }
    MPI_Recv(number, 1, MPI_INT, 0, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}
#endif

int kvt_deal_start(struct kvt_deal *d, const int *item, int n, int (*take)(void *arg, const char *text, struct kvt_err *err), void *arg, struct kvt_err *err)
{
    d->item = item, d->n = n, d->next = 0, d->take = take, d->arg = arg, d->failed = 0;
#ifdef KVT_HAS_MPI
    if (d->size > 1 && d->rank == 0) {
        if (pthread_create(&d->dealer, NULL, serve, d))
            return kvt_fail(err, KVT_ENOMEM, "no thread to deal with");
        d->dealing = true;
    }
#endif
    (void)err;
    return 0;
}

int kvt_deal_next(struct kvt_deal *d)
{
    if (d->rank == 0)
        return deal_one(d);
    int number = -1;
#ifdef KVT_HAS_MPI
    MPI_Send(&number, 1, MPI_INT, 0, ASK, MPI_COMM_WORLD);
    receive(&number, ITEM);
#endif
    return number;
}

int kvt_deal_send(struct kvt_deal *d, const char *text, struct kvt_err *err)
{
    int rc = 0;
    if (d->rank == 0 && (rc = take_one(d, text)))
        return kvt_fail(err, rc, "%s", d->why.text);
#ifdef KVT_HAS_MPI
    if (d->rank) {
        MPI_Send(text, (int)strlen(text), MPI_CHAR, 0, RESULT, MPI_COMM_WORLD);
        receive(&rc, ANSWER);
    }
#endif
    return rc ? kvt_fail(err, rc, "rank 0 couldn't keep the result of rank %d", d->rank) : 0;
}

int kvt_deal_finish(struct kvt_deal *d, struct kvt_err *err)
{
    if (d->dealing) {
        pthread_join(d->dealer, NULL);
        d->dealing = false;
    }
    return d->failed ? kvt_fail(err, d->failed, "%s", d->why.text) : 0;
}

void kvt_deal_close(struct kvt_deal **deal, int exit_code)
{
    struct kvt_deal *d = *deal;
    if (!d)
        return;
#ifdef KVT_HAS_MPI
    if (d->size > 1) {
        if (exit_code) {
            fflush(NULL);
            MPI_Abort(MPI_COMM_WORLD, exit_code);
        }
        MPI_Finalize();
    }
#endif
    (void)exit_code;
    pthread_mutex_destroy(&d->lock);
    free(d);
    *deal = NULL;
}

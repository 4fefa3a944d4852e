/* The C11 threads of librdkafka by way of POSIX threads, for the tsan preset: ThreadSanitizer of
 * GCC 12 knows the latter only, and glibc's thrd_create and mtx_lock go past it. The program's
 * functions come before glibc's for its libraries. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t) && sizeof(cnd_t) == sizeof(pthread_cond_t),
               "glibc keeps one in the other");

struct start {
    thrd_start_t fn;
    void *arg;
};

static pthread_mutex_t *mutex(mtx_t *m)
{
    return (pthread_mutex_t *)m;
}

static pthread_cond_t *cond(cnd_t *c)
{
    return (pthread_cond_t *)c;
}

static int result(int error)
{
    switch (error) {
    case 0:
        return thrd_success;
    case ENOMEM:
        return thrd_nomem;
    case ETIMEDOUT:
        return thrd_timedout;
    case EBUSY:
        return thrd_busy;
    default:
        return thrd_error;
    }
}

static void *run(void *arg)
{
    struct start s = *(struct start *)arg;
    free(arg);
    return (void *)(intptr_t)s.fn(s.arg);
}

int thrd_create(thrd_t *ret, thrd_start_t fn, void *arg)
{
    struct start *s = malloc(sizeof *s);
    if (!s)
        return thrd_nomem;
    *s = (struct start){fn, arg};
    int error = pthread_create(ret, NULL, run, s);
    if (error)
        free(s);
    return result(error);
}

int thrd_join(thrd_t t, int *ret)
{
    void *value = NULL;
    int error = pthread_join(t, &value);
    if (ret)
        *ret = (int)(intptr_t)value;
    return result(error);
}

int thrd_detach(thrd_t t)
{
    return result(pthread_detach(t));
}

int mtx_init(mtx_t *m, int type)
{
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, type & mtx_recursive ? PTHREAD_MUTEX_RECURSIVE
                                                       : PTHREAD_MUTEX_NORMAL);
    int error = pthread_mutex_init(mutex(m), &a);
    pthread_mutexattr_destroy(&a);
    return result(error);
}

void mtx_destroy(mtx_t *m)
{
    pthread_mutex_destroy(mutex(m));
}

int mtx_lock(mtx_t *m)
{
    return result(pthread_mutex_lock(mutex(m)));
}

int mtx_trylock(mtx_t *m)
{
    return result(pthread_mutex_trylock(mutex(m)));
}

int mtx_timedlock(mtx_t *m, const struct timespec *until)
{
    return result(pthread_mutex_timedlock(mutex(m), until));
}

int mtx_unlock(mtx_t *m)
{
    return result(pthread_mutex_unlock(mutex(m)));
}

int cnd_init(cnd_t *c)
{
    return result(pthread_cond_init(cond(c), NULL));
}

void cnd_destroy(cnd_t *c)
{
    pthread_cond_destroy(cond(c));
}

int cnd_signal(cnd_t *c)
{
    return result(pthread_cond_signal(cond(c)));
}

int cnd_broadcast(cnd_t *c)
{
    return result(pthread_cond_broadcast(cond(c)));
}

int cnd_wait(cnd_t *c, mtx_t *m)
{
    return result(pthread_cond_wait(cond(c), mutex(m)));
}

int cnd_timedwait(cnd_t *c, mtx_t *m, const struct timespec *until)
{
    return result(pthread_cond_timedwait(cond(c), mutex(m), until));
}

/* In place of the kernel's random bytes: the same ones in each process, so that an input that
 * failed fails again, and one seed gives one run. json-c draws its own for its tables; its other
 * hash has none. */
#include <json-c/linkhash.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

ssize_t __wrap_getrandom(void *p, size_t n, unsigned flags);

ssize_t __wrap_getrandom(void *p, size_t n, unsigned flags)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static uint64_t state = 1;
    pthread_mutex_lock(&lock);
    for (size_t at = 0; at < n; at += sizeof state) { /* splitmix64 */
        uint64_t v = state += 0x9e3779b97f4a7c15u;
        v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9u;
        v = (v ^ v >> 27) * 0x94d049bb133111ebu;
        v ^= v >> 31;
        memcpy((char *)p + at, &v, n - at < sizeof v ? n - at : sizeof v);
    }
    pthread_mutex_unlock(&lock);
    return (ssize_t)n;
}

__attribute__((constructor)) static void still(void)
{
    (void)json_global_set_string_hash(JSON_C_STR_HASH_PERLLIKE);
}

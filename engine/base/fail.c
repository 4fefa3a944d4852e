/* Failpoints of test builds. Any thread. */
#include "base/fail.h"

#ifdef TIDEMARK_FAILPOINTS
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#define NAME_MAX_BYTES 64

/* Process-wide by its nature: the environment names one place at which the whole process stops. */
static struct {
    pthread_once_t once;
    char name[NAME_MAX_BYTES];
    _Atomic int64_t left; /* passings until it fires; 0: never */
} armed = {.once = PTHREAD_ONCE_INIT};

static void arm(void)
{
    struct slice text = sl_str(getenv("TIDEMARK_FAILPOINT")), name;
    int64_t nth = 1;
    if (!text.n || !sl_split(&text, ':', &name) || name.n >= sizeof armed.name)
        return;
    if (text.p && (sl_i64(text, &nth) || nth < 1))
        abort(); /* a test that arms nothing by a slip of the pen would pass for the wrong reason */
    memcpy(armed.name, name.p, name.n);
    armed.left = nth;
}

static bool is_armed(const char *name, const char *kind)
{
    size_t n = strlen(name);
    const char *rest = armed.name + n;
    if (strncmp(name, armed.name, n) != 0)
        return false;
    return !*rest || (*rest == '/' && kind && strcmp(rest + 1, kind) == 0);
}

static void tell(const char *subject)
{
    char line[2 * NAME_MAX_BYTES + 128];
    const char *path = getenv("TIDEMARK_FAILPOINT_LOG");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return;
    int n = snprintf(line, sizeof line, "failpoint %s%s%.128s\n", armed.name,
                     subject && *subject ? " " : "", subject ? subject : "");
    (void)fd_write_all(fd, sl(line, (size_t)n));
    close(fd);
}

void fail_point(const char *name, const char *kind, const char *subject)
{
    pthread_once(&armed.once, arm);
    if (!armed.left || !is_armed(name, kind) || --armed.left)
        return;
    const char *signal_name = getenv("TIDEMARK_FAILPOINT_SIGNAL");
    tell(subject);
    raise(signal_name && strcmp(signal_name, "STOP") == 0 ? SIGSTOP : SIGKILL);
}

/* Whether the faults file has a line that begins with the word; the number behind it, if wanted. */
static bool find_fault(const char *word, int64_t *ret_number)
{
    const char *path = getenv("TIDEMARK_FAULTS");
    struct slice text, line;
    struct buf b;
    bool found = false;
    if (!path)
        return false;
    buf_init(&b, 4096);
    if (file_read(path, &b, NULL) == 0) {
        text = buf_slice(&b);
        while (!found && sl_split(&text, '\n', &line)) {
            struct slice first;
            found = sl_split(&line, ' ', &first) && sl_is(first, word);
        }
    }
    if (found && ret_number && sl_i64(line, ret_number))
        abort(); /* as above: a slip of the pen must not pass */
    buf_free(&b);
    return found;
}

bool fail_now(const char *name)
{
    return find_fault(name, NULL);
}

int64_t fail_clock_ms(void)
{
    int64_t ms = 0;
    return find_fault("clock", &ms) ? ms : 0;
}
#endif

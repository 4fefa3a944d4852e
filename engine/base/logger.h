/* The sink for log lines: logfmt, one event a line, written in one write(2). Library code writes
 * only to the struct log that it was given; core/ and flow/ never do. Thread-safe. Values are
 * quoted when they need it; a field whose name is secret-like (token, password, authorization,
 * secret) is printed as ***. */
#pragma once
#include "base/slice.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
struct log;

/* fd is borrowed. `pretty`: short local time and colour for a terminal. NULL when memory ran out.
 */
struct log *log_new(int fd, enum log_level level, bool pretty);
struct log *log_free(struct log *l);
void log_set_level(struct log *l, enum log_level level);
bool log_on(const struct log *l, enum log_level level);
/* The event text and then a logfmt tail made with printf: log_info(l, "claimed", "partition=%d
 * epoch=%lld", ..). Use %s with log_q() for text that may need quoting. A NULL logger writes
 * nothing. */
void log_put(struct log *l, enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
#define log_error(l, ...) log_put(l, LOG_ERROR, __VA_ARGS__)
#define log_warn(l, ...)  log_put(l, LOG_WARN, __VA_ARGS__)
#define log_info(l, ...)  log_put(l, LOG_INFO, __VA_ARGS__)
#define log_debug(l, ...) log_put(l, LOG_DEBUG, __VA_ARGS__)
/* A quoted, escaped copy for one log line, in a small ring of buffers of the calling thread (8
 * deep, 512 bytes each, cut). */
const char *log_q(const char *s);
const char *log_qs(struct slice s);

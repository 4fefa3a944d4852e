/* A small HTTP server in a thread, for tests: each connection gets what `answer` writes, then is
 * closed. */
#pragma once
#include <pthread.h>
#include <stddef.h>

struct server {
    int fd, port, stop[2];
    pthread_t thread;
    /* In the server's thread. `request` is the whole head and body, zero-terminated. */
    void (*answer)(struct server *s, int fd, const char *request);
};
void server_start(struct server *s, void (*answer)(struct server *s, int fd, const char *request));
void server_stop(struct server *s);
/* The next request of a connection: head and, by Content-Length, body; empty when there is none. */
void server_read(int fd, char *text, size_t size);
void server_say(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Returns when the client has closed or after 20 s. */
void server_wait_close(int fd);

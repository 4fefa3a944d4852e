/* Between shadow.c (nodes, copies, losses) and shadow_calls.c (the table). */
#pragma once
#include <pthread.h>

#include "shadow.h"

#define SECTOR_BYTES 512
#define SHADOW_FDS   1024
#define FD_BASE      1000000 /* no descriptor of the system */

struct name {
    char *name;
    struct shadow_node *node;
};
struct names {
    struct name *v;
    size_t n, cap;
};
struct bytes {
    char *p;
    size_t n, cap;
};
struct change {
    enum { CHANGE_WRITE, CHANGE_SIZE, CHANGE_LINK, CHANGE_UNLINK, CHANGE_MOVE } kind;
    uint64_t seq;
    size_t at, n; /* of a write; at: the new size */
    char *bytes;
    char *name, *to; /* to: of a move */
    struct shadow_node *node;
};
struct shadow_node {
    bool folder;
    struct names live_names, disk_names; /* of a folder */
    struct bytes live, disk;             /* of a file */
    struct change *changes;              /* that are not on disk, in order */
    size_t nchanges, capchanges;
    int locked_by; /* descriptor, 0: none */
    struct shadow *copy_of;
    struct shadow_node *copy;
};
struct shadow {
    struct fileops ops; /* first */
    pthread_mutex_t lock;
    pthread_cond_t moved; /* gate, tickets, passed */
    pthread_t test;
    struct shadow_node *root;
    struct shadow_node **nodes;
    size_t nnodes, capnodes;
    struct shadow_node *fds[SHADOW_FDS];
    int nfds, fd_limit;
    uint64_t seq;
    int64_t calls, freeze_at;
    struct shadow *frozen;
    bool open_gate;
    int tickets, waiting;
    int64_t passed;
    int left_out, sync_fault, sync_code;
    int64_t fail_in;
    int fail_code;
    bool fail_forever, failed;
    char failed_call[256];
    int64_t space;
    unsigned choppy; /* 0: off */
};

struct shadow_node *node_new(struct shadow *sh, bool folder);
void node_settle(struct shadow_node *n, uint64_t seq, bool lost);
struct shadow *disk_new(void);
struct shadow *disk_copy(struct shadow *sh); /* under the lock */
struct name *names_find(struct names *v, const char *name);
void names_put(struct names *v, const char *name, struct shadow_node *node);
void names_del(struct names *v, const char *name);
void bytes_resize(struct bytes *b, size_t n);
void bytes_write(struct bytes *b, const char *p, size_t n, size_t at);
void change_add(struct shadow *sh, struct shadow_node *n, struct change c); /* takes its memory */
void change_apply(const struct change *c, struct names *names, struct bytes *bytes);
void shadow_table(struct fileops *o);

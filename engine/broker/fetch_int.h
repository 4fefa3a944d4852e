/* A fetch that waits for data. Folder-private; the broker's thread owns it. */
#pragma once
#include "broker/wire_int.h"

struct fetch {
    struct list ready; /* broker.ready, once woken */
    struct reply *r;
    struct wtimer timer; /* max_wait_ms */
    bool late;           /* the wait is over: answer with what there is */
    char *body;          /* the request, read again when woken; owned */
    size_t nbody;
    size_t header; /* length of the reply's header, to which a second try cuts back */
    size_t nlinks;
    struct fetch_link links[]; /* one a partition that is waited for */
};

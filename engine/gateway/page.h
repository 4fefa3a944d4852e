/* A page of a partition's records, for who goes on from an offset: read in a thread of the pool. */
#pragma once
#include "gateway/api_int.h"
#include "view/spans.h"

#define STREAM_PAGE_RECORDS 500
#define STREAM_PAGE_BYTES   (1u << 20)

struct page {
    struct api_read read; /* first */
    int partition;
    char run[RUN_ID_MAX]; /* "": all runs */
    int64_t from, to;     /* [from, to); from is set to where the next page begins */
    char *authorization;  /* of who asks, for another node; NULL: none */
    /* Where to read; NULL: to be found out. Set to what is left to read. */
    struct run_place *place;
    bool exists;       /* there is something of the run, in the page or above it */
    int64_t low;       /* the log begins there: what is below is gone */
    struct list items; /* struct page_item, in order: requests and valid facts */
    size_t n, bytes;
};
struct page_item {
    struct list node;
    struct rec *rec;
};
void page_read(struct api_read *r, struct kadmin *a); /* for read.work */
void page_free_items(struct list *items);
void page_drop(struct page *p); /* all that it owns */

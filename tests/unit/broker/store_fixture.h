/* What the tests of the log's storage share: a store in a folder of its own, batches as clients
 * make them. */
#pragma once
#include "broker/batch_int.h"
#include "broker/store_int.h"
#include "unit.h"

#define T0 1700000000000 /* the tests' clock: Unix time in ms */

struct fixture {
    char dir[64];
    enum store_sync sync;
    int64_t segment_bytes; /* 0: default */
    size_t clean_map_bytes;
    struct fileops *files;
    struct store *s;
};

void fixture_open(
    struct fixture *f); /* makes the folder when dir is "", opens the store, which must succeed */
void fixture_refused(struct fixture *f, struct err *e); /* opening must fail */
void fixture_close(struct fixture *f);                  /* a clean stop; the folder stays */
void fixture_end(struct fixture *f);                    /* a clean stop and the folder is removed */
void fixture_crash(struct fixture *f); /* goes on in a copy of the folder as it is now, opened anew;
                                          no clean stop is seen there */
void fixture_copy(struct fixture *f);  /* the same without opening */
struct plog *fixture_topic(struct fixture *f, const char *name,
                           const char *settings); /* "a=b c=d"; one partition */
struct plog *fixture_part(struct fixture *f, const char *name);
void fixture_path(struct fixture *f, char path[static 256], const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

struct spec {
    int n, codec;       /* n 0: 1 record */
    size_t value_bytes; /* 0: 10 */
    int64_t ms;         /* of the first record, the others 1 ms later each; 0: T0 */
    bool idempotent;    /* with pid, epoch, seq */
    int64_t pid;
    int16_t epoch;
    int32_t seq;
    bool null_key, xerial;
    uint32_t seed;
};
void make_batch(struct buf *b, const struct spec *spec); /* appended to b */
void seal_batch(char *p, size_t n);                      /* length and CRC made right */
struct append_result append(struct plog *p, const struct spec *spec);
struct append_result append_bytes(struct plog *p, struct buf *b); /* frees b */
int64_t append_ok(struct plog *p,
                  const struct spec *spec); /* and waits until it is durable; the base offset */
void wait_durable(struct plog *p);
/* A tick at that time, and until the cleaner has nothing more to do. */
void fixture_clean(struct fixture *f, int64_t now_ms);
int count_records(struct plog *p, int64_t from); /* and checks that offsets have no gap */

size_t file_bytes(const char *path);
void file_cut(const char *path, size_t n);
void file_flip(const char *path, size_t at);
void file_zero(const char *path, size_t from, size_t to);
bool file_there(const char *path);

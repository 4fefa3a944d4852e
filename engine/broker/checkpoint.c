/* The checkpoint of a partition: its log start and how far it is known to be durable. Owning
 * thread: the broker's.
 *
 * File `checkpoint` of the partition's folder: three slots, 4096 bytes apart, each big-endian:
 *      0   4  "TMCP"                    4   4  version, 1
 *      8   8  sequence number          16   8  log start
 *     24   8  durable end (offset)     32   8  base of the segment in which it lies
 *     40   8  its position there       48   4  salt of the partition (topic id and number)
 *     52   4  CRC-32C of the 52 bytes before
 * Valid is the slot with the highest sequence number whose CRC is right. Slots 0 and 1 take turns
 * for writes that are synced (the log start moved), so a torn one never harms the last promise;
 * slot 2 takes the others, which may arrive or not. No file: nothing has been promised yet. A file
 * without a valid slot is damage. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/hash.h"
#include "broker/store_int.h"

#define SLOT_BYTES   4096
#define RECORD_BYTES 56
#define SLOTS        3

static int open_file(struct plog *p, bool create)
{
    if (p->ckpt_fd >= 0)
        return 0;
    char path[4096];
    if (snprintf(path, sizeof path, "%s/checkpoint", p->dir) >= (int)sizeof path)
        return -ENAMETOOLONG;
    int fd = store_open_file(p->s, path, O_RDWR);
    if (fd == -ENOENT && create) {
        fd = store_open_file(p->s, path, O_RDWR | O_CREAT);
        p->ckpt_new = fd >= 0;
    }
    if (fd < 0)
        return fd;
    p->ckpt_fd = fd;
    return 0;
}

static void close_file(struct plog *p)
{
    if (p->ckpt_fd >= 0)
        p->s->files->close(p->s->files, p->ckpt_fd);
    p->ckpt_fd = -1;
}

/* 1: a valid one, 0: none, negative errno. *blank: nothing was ever written there (a crash may
 * leave zeros of the size it had set). */
static int read_slot(struct plog *p, int slot, struct checkpoint *ret, uint64_t *ret_seq,
                     bool *blank)
{
    char t[RECORD_BYTES] = {0};
    static const char zeros[RECORD_BYTES];
    ssize_t n = fo_read(p->s->files, p->ckpt_fd, t, sizeof t, (int64_t)slot * SLOT_BYTES);
    *blank = n >= 0 && memcmp(t, zeros, sizeof t) == 0;
    if (n < 0)
        return (int)n;
    if (n != (ssize_t)sizeof t || memcmp(t, "TMCP", 4) != 0 || load32(t + 4) != 1 ||
        (uint32_t)load32(t + 52) != crc32c(0, t, 52) || (uint32_t)load32(t + 48) != p->salt)
        return 0;
    *ret_seq = (uint64_t)load64(t + 8);
    *ret = (struct checkpoint){load64(t + 16), {load64(t + 24), load64(t + 32), load64(t + 40)}};
    return 1;
}

int checkpoint_read(struct plog *p, struct checkpoint *ret, bool *ret_found, struct err *e)
{
    *ret_found = false;
    *ret = (struct checkpoint){0};
    int rc = open_file(p, false);
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return err_set(e, rc, "check the owner and the mode of the data folder",
                       "cannot open %s/checkpoint: %s", p->dir, strerror(-rc));
    bool empty = true;
    for (int slot = 0; slot < SLOTS && rc >= 0; slot++) {
        struct checkpoint c;
        uint64_t seq = 0;
        bool blank;
        rc = read_slot(p, slot, &c, &seq, &blank);
        empty &= blank;
        if (rc <= 0 || (*ret_found && seq <= p->ckpt_seq))
            continue;
        *ret = c;
        *ret_found = true;
        p->ckpt_seq = seq;
        p->start_unsure = slot < 2; /* the third one is written when the start is durable */
        if (slot < 2)
            p->ckpt_slot = !slot;
    }
    p->ckpt_new = true; /* whoever made it may have crashed before the folder was synced */
    close_file(p);
    if (rc < 0)
        return err_set(e, rc, "check the disk", "cannot read %s/checkpoint: %s", p->dir,
                       strerror(-rc));
    if (!*ret_found && !empty)
        return err_set(
            e, -EBADMSG,
            "restore the file from a backup; or delete it to accept the log as it is (records "
            "deleted earlier may come back)",
            "%s/checkpoint is damaged", p->dir);
    p->saved = ret->durable;
    p->saved_start = ret->log_start;
    return 0;
}

int checkpoint_write(struct plog *p, int why)
{
    bool sync = why != CHECKPOINT_UNSYNCED;
    char t[RECORD_BYTES] = "TMCP";
    int rc = open_file(p, true), slot = sync ? p->ckpt_slot : 2;
    if (rc < 0)
        return rc;
    save32(t + 4, 1);
    save64(t + 8, (int64_t)(p->ckpt_seq + 1));
    save64(t + 16, p->start);
    save64(t + 24, p->synced.offset);
    save64(t + 32, p->synced.base);
    save64(t + 40, p->synced.pos);
    save32(t + 48, (int32_t)p->salt);
    save32(t + 52, (int32_t)crc32c(0, t, 52));
    FAILPOINT("log.checkpoint.before");
    struct fileops *o = p->s->files;
    rc = fo_write(o, p->ckpt_fd, sl(t, sizeof t), (int64_t)slot * SLOT_BYTES, NULL);
    bool written = rc == 0;
    if (rc == 0 && sync)
        rc = o->datasync(o, p->ckpt_fd, (enum sync_point)why);
    if (rc == 0 && sync && p->ckpt_new)
        rc = fo_sync_folder(o, p->dir, SYNC_CHECKPOINT_NAME);
    if (written && rc < 0) /* which start is on disk is not known, and no later sync tells */
        plog_fail(p, rc, "sync of the checkpoint");
    FAILPOINT("log.checkpoint.after");
    close_file(p); /* at most once a second a partition: not worth a descriptor each */
    if (rc < 0)
        return rc;
    p->ckpt_seq++;
    p->saved = p->synced;
    p->saved_start = p->start;
    if (sync) {
        p->ckpt_slot = !slot;
        p->ckpt_new = false;
    }
    return 0;
}

/* The journal as commands read and write it. */
#include "base/clock.h"
#include "cli/cli.h"

int cli_journal_partitions(struct cli *c, int *ret)
{
    return journal_partitions(c->admin, &c->names, ret, &c->e);
}

int cli_journal_send(struct cli *c, struct rec *r, int partition, int64_t *ret_offset)
{
    return journal_send(c->admin, &c->names, r, partition, ret_offset, &c->e);
}

/* A command reads one partition at a time. */
static int64_t began_ms, told_ms;

static void progress(void *arg, int partition, int64_t offset)
{
    int64_t now = clock_boot_ms();
    (void)arg;
    if (now - began_ms < 1000 || now - told_ms < 200)
        return;
    told_ms = now;
    fprintf(stderr, "\rreading partition %d, offset %lld ...", partition, (long long)offset);
}

int cli_journal_read(struct cli *c, struct journal_reader *j, int partition)
{
    began_ms = clock_boot_ms();
    told_ms = 0;
    j->progress = c->tty ? progress : NULL;
    int error = journal_read(c->admin, &c->names, j, partition, NULL, -1, &c->e);
    if (told_ms)
        fprintf(stderr, "\r\033[K");
    return error;
}

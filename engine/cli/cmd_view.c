/* view rebuild|show: the read model of a data folder. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "view/view.h"

static void set_opts(struct cli *c, struct view_opts *o)
{
    *o = (struct view_opts){.config = c->config,
                            .data_dir = cli_get(c, "data") ? cli_get(c, "data") : ".tidemark"};
}

int cmd_view_show(struct cli *c)
{
    struct view_opts o;
    struct json_object *r = NULL;
    int error = cli_config(c);
    set_opts(c, &o);
    if (!error)
        error = view_show(&o, &r, &c->e);
    if (error)
        return cli_fail(c, error);
    cli_print_one(c, r);
    json_object_put(r);
    return EXIT_DONE;
}

static void on_progress(void *arg, int64_t done, int64_t total)
{
    struct cli *c = arg;
    if (c->tty)
        fprintf(stderr, "\r%lld of %lld records ...", (long long)done, (long long)total);
}

/* A node that has the file makes it anew by itself; else it is made here. */
int cmd_view_rebuild(struct cli *c)
{
    struct view_opts o;
    int error = cli_open(c);
    set_opts(c, &o);
    if (!error)
        error = view_remove(&o, &c->e);
    if (error)
        return cli_fail(c, error);
    if (strcmp(c->config->view, "all") != 0) { /* only a node knows which partitions it owns */
        printf("removed; with `view: %s` a node makes what it keeps by itself\n", c->config->view);
        return EXIT_DONE;
    }
    error = view_build(&o, on_progress, c, &c->e);
    if (c->tty)
        fprintf(stderr, "\r\033[K");
    if (error == -EBUSY) {
        printf("a node has it, and makes it anew; `tidemark view show` tells how far it is\n");
        return EXIT_DONE;
    }
    if (error)
        return cli_fail(c, error);
    return cmd_view_show(c);
}

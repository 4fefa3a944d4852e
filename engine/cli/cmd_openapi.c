/* openapi: the description of the HTTP interface, without a node. */
#include <errno.h>

#include "cli/cli.h"
#include "gateway/openapi.h"

int cmd_openapi(struct cli *c)
{
    struct buf b;
    buf_init(&b, 8u << 20);
    int error = openapi_write(&b);
    if (error)
        err_set(&c->e, error, "give the process more memory", "no memory for the description");
    else
        fwrite(b.p, 1, b.n, stdout);
    buf_free(&b);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

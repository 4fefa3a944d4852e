/* The OpenAPI 3.1 document of the interface, from the tables of routes. Pure but for allocation. */
#pragma once
#include "base/buf.h"

/* Pretty JSON with a line feed: 0, -ENOMEM, -ENOBUFS. */
int openapi_write(struct buf *b);

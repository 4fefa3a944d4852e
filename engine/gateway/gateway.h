/* The gateway: HTTP for users of a node. One per process, in the loop's thread.
 *
 *   gateway_open -> serving -> gateway_quiesce (nothing new, what was accepted is answered) ->
 * gateway_free
 *
 * It is there before its node and outlives it: without a node everything that needs one is
 * answered with 503. It keeps no truth: a crash between any two lines loses nothing but
 * connections, since 202 is sent only after the log's acknowledgement. */
#pragma once
#include "base/logger.h"
#include "config/config.h"
#include "loop/loop.h"

struct node;
struct view;
struct gateway;
struct gateway_opts {
    struct loop *loop;
    struct log *log;
    const struct config *config; /* borrowed */
    struct view *view;           /* borrowed, for its whole life; NULL: none */
    const char *listen;          /* HOST:PORT; port 0: one is picked */
    bool insecure;               /* without API keys it may be open on any address */
};
/* -EADDRINUSE, -EINVAL with a hint. */
struct gateway *gateway_open(const struct gateway_opts *o, struct err *e);
/* Blocking, before the node is opened: -EACCES with a hint when it listens on an address that is no
 * loopback one and the group has no API key. -ETIMEDOUT and others: that is not known yet. */
int gateway_may_start(struct gateway *g, struct err *e);
/* The node to work with; NULL: there is none (any more). Requests that wait for the former one are
 * answered with 503. */
void gateway_node(struct gateway *g, struct node *n);
/* It takes and does work: what /readyz says. */
bool gateway_ready(const struct gateway *g);
int gateway_port(const struct gateway *g);
bool gateway_tls(const struct gateway *g); /* HTTPS */
/* HOST:PORT that it listens on. */
const char *gateway_address(const struct gateway *g);
/* Takes no further connection or request; fn is called when every request under way was answered,
 * at the latest timeout_ms later. */
void gateway_quiesce(struct gateway *g, int64_t timeout_ms, void (*fn)(void *arg), void *arg);
struct gateway *gateway_free(struct gateway *g); /* after its node is gone */

/* Private to this folder: what must be ended when the loop goes. The loop's thread only. */
#pragma once
#include "loop/loop.h"

/* Called once by loop_free, before the epoll set is closed; it must leave the list by loop_end_del.
 */
struct loop_end {
    struct list node;
    void (*fn)(struct loop_end *e);
};
void loop_end_add(struct loop *l, struct loop_end *e);
void loop_end_del(struct loop_end *e);

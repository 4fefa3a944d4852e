/* What the core asks for (struct part_ops), answered by the world; and the agents that it runs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "flow/flow.h"
#include "sim.h"

/* Tasks of the agents: pure, safe, world-changing, at-most-once; a loop with retries, tries inside
 * one another, a timeout. Effects inside a task named F may fail. */
static const char *const texts[] = {
    "{\"document\":{\"dsl\":\"1.0.0\",\"namespace\":\"sim\",\"name\":\"a\",\"version\":\"1.0.0\"},"
    "\"do\":["
    "{\"p\":{\"set\":{\"n\":\"${ . }\"}}},"
    "{\"s\":{\"call\":\"http\",\"with\":{\"method\":\"get\",\"endpoint\":\"http://x/s\"}}},"
    "{\"w\":{\"call\":\"http\",\"with\":{\"method\":\"post\",\"endpoint\":\"http://x/"
    "w\",\"body\":\"${ . }\"}}},"
    "{\"v\":{\"call\":\"http\",\"with\":{\"method\":\"post\",\"endpoint\":\"http://x/"
    "v\",\"body\":\"${ . }\"}}}]}",
    "{\"document\":{\"dsl\":\"1.0.0\",\"namespace\":\"sim\",\"name\":\"b\",\"version\":\"1.0.0\"},"
    "\"do\":["
    "{\"w\":{\"call\":\"http\",\"with\":{\"method\":\"post\",\"endpoint\":\"http://x/"
    "w\",\"body\":\"${ . }\"}}},"
    "{\"d\":{\"do\":[{\"s\":{\"call\":\"http\",\"with\":{\"method\":\"get\",\"endpoint\":\"http://"
    "x/s\"}}},"
    "{\"v\":{\"call\":\"http\",\"with\":{\"method\":\"post\",\"endpoint\":\"http://x/"
    "v\",\"body\":\"${ . }\"}}}]}},"
    "{\"f\":{\"raise\":{\"error\":{\"type\":\"https://x/e\",\"status\":400}}}}]}",
    "{\"document\":{\"dsl\":\"1.0.0\",\"namespace\":\"sim\",\"name\":\"c\",\"version\":\"1.0.0\"},"
    "\"do\":["
    "{\"s\":{\"call\":\"http\",\"with\":{\"method\":\"get\",\"endpoint\":\"http://x/s\"}}},"
    "{\"o\":{\"call\":\"http\",\"with\":{\"method\":\"post\",\"endpoint\":\"http://x/"
    "o\",\"body\":\"${ . "
    "}\"},\"metadata\":{\"tidemark\":{\"effect\":\"once\",\"onUnknown\":\"fail\"}}}},"
    "{\"w\":{\"call\":\"http\",\"with\":{\"method\":\"post\",\"endpoint\":\"http://x/"
    "w\",\"body\":\"${ . }\"}}}]}",
    "{\"document\":{\"dsl\":\"1.0.0\",\"namespace\":\"sim\",\"name\":\"d\",\"version\":\"1.0.0\"},"
    "\"do\":["
    "{\"F\":{\"for\":{\"in\":\"${ [7,8] }\"},\"do\":["
    "{\"t\":{\"try\":["
    "{\"s\":{\"call\":\"http\",\"with\":{\"method\":\"get\",\"endpoint\":\"http://x/s\"},"
    "\"export\":{\"as\":\"${ [$context, $item] }\"}}},"
    "{\"w\":{\"call\":\"http\",\"with\":{\"method\":\"post\",\"endpoint\":\"http://x/w\",\"body\":"
    "\"${ [$context, $index] }\"}}}],"
    "\"catch\":{\"retry\":{\"delay\":{\"milliseconds\":1500},\"limit\":{\"attempt\":{\"count\":1}}}"
    ","
    "\"do\":[{\"h\":{\"call\":\"http\",\"with\":{\"method\":\"post\",\"endpoint\":\"http://x/"
    "h\",\"body\":\"${ [$item, $error.status] }\"}}}]}}}]}},"
    "{\"F\":{\"try\":[{\"i\":{\"try\":[{\"v\":{\"call\":\"http\",\"with\":{\"method\":\"post\","
    "\"endpoint\":\"http://x/v\",\"body\":1}}}],"
    "\"catch\":{\"errors\":{\"with\":{\"status\":500}},\"retry\":{\"delay\":{\"milliseconds\":500},"
    "\"limit\":{\"attempt\":{\"count\":1}}}}}},"
    "{\"d\":{\"timeout\":{\"after\":\"PT8S\"},\"do\":[{\"x\":{\"call\":\"http\",\"with\":{"
    "\"method\":\"post\","
    "\"endpoint\":\"http://x/x\",\"body\":2}}}]}}],"
    "\"catch\":{\"retry\":{\"delay\":{\"milliseconds\":0},\"limit\":{\"attempt\":{\"count\":1}}},"
    "\"do\":[]}}}]}",
};
#define AGENTS 4
static struct flow *flows[AGENTS];

static struct flow *flow_at(int i)
{
    struct err e = {0};
    if (!flows[i] && flow_from_text(sl_str(texts[i]), &flows[i], &e) < 0) {
        fprintf(stderr, "sim: agent %d: %s\n", i, e.msg);
        exit(2);
    }
    return flows[i];
}

const char *agent_hash(const struct world *w, int source)
{
    return flow_info(flow_at((source + w->agents) % AGENTS))->hash;
}

struct flow *flow_of(const char *hash)
{
    for (int i = 0; i < AGENTS; i++)
        if (hash && !strcmp(flow_info(flow_at(i))->hash, hash))
            return flow_at(i);
    return NULL;
}

static bool op_room(void *arg, struct part *p)
{
    return true;
}

static int op_append(void *arg, struct part *p, struct rec *r)
{
    struct bound *b = arg;
    world_send(b->w, b->n, r, true, -1);
    return 0;
}

static int op_eval(void *arg, struct part *p, struct run *r, struct err *e)
{
    struct bound *b = arg;
    violate(b->w, "an agent of the simulation asked for an expression child");
    return 0;
}

static int op_effect(void *arg, struct part *p, struct run *r)
{
    struct bound *b = arg;
    for (int i = 0; i < 64; i++) {
        struct seffect *e = &b->n->effects[i];
        if (e->used)
            continue;
        *e = (struct seffect){.used = true, .work_id = r->work_id, .nonce = p->nonce};
        memcpy(e->run, r->id, sizeof e->run);
        return 0;
    }
    return -EAGAIN;
}

static void op_stop(void *arg, struct part *p, struct run *r)
{
    struct bound *b = arg;
    for (int i = 0; i < 64; i++)
        if (b->n->effects[i].used && b->n->effects[i].work_id == r->work_id &&
            !strcmp(b->n->effects[i].run, r->id))
            b->n->effects[i].used = false;
}

static void op_notify(void *arg, struct part *p, struct ended *e)
{
    struct bound *b = arg;
    if (b->n->ntells < 64)
        memcpy(b->n->tells[b->n->ntells++], e->run, RUN_ID_MAX);
}

static struct flow *op_flow(void *arg, const char *hash)
{
    return flow_of(hash);
}

static bool op_admit(void *arg, struct part *p, bool force)
{
    struct bound *b = arg;
    if (!force && b->n->active >= 3)
        return false;
    b->n->active++;
    return true;
}

static void op_release(void *arg, struct part *p)
{
    ((struct bound *)arg)->n->active--;
}

static struct json_object *op_secrets(void *arg, struct flow *f)
{
    return NULL;
}

static void op_floors(void *arg, struct part *p)
{
    ((struct bound *)arg)->n->asked_floors = true;
}

const struct part_ops world_ops = {.room = op_room,
                                   .append = op_append,
                                   .eval = op_eval,
                                   .effect = op_effect,
                                   .stop = op_stop,
                                   .notify = op_notify,
                                   .flow = op_flow,
                                   .admit = op_admit,
                                   .release = op_release,
                                   .secrets = op_secrets,
                                   .floors = op_floors};

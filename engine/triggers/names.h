/* Names of tidemark's own topics and consumer groups, from the group's name. */
#pragma once
#include <stdio.h>

#define NAME_MAX_BYTES 249
struct names {
    char runs[NAME_MAX_BYTES + 1];   /* tidemark.<group>.runs: the journal */
    char agents[NAME_MAX_BYTES + 1]; /* tidemark.<group>.agents: definitions and which are active;
                                        compacted, 1 partition */
    char marks[NAME_MAX_BYTES +
               1]; /* tidemark.<group>.marks: marks and replays; compacted, 1 partition */
    char dlq[NAME_MAX_BYTES + 1];    /* tidemark.<group>.dlq: dead letters */
    char keys[NAME_MAX_BYTES + 1];   /* tidemark.<group>.keys: API keys; compacted, 1 partition */
    char owners[NAME_MAX_BYTES + 1]; /* consumer group of the nodes: tidemark.<group> */
    char
        router[NAME_MAX_BYTES + 1]; /* consumer group of the live router: tidemark.<group>.router */
};
static inline void names_make(struct names *n, const char *group)
{
    snprintf(n->runs, sizeof n->runs, "tidemark.%.200s.runs", group);
    snprintf(n->agents, sizeof n->agents, "tidemark.%.200s.agents", group);
    snprintf(n->marks, sizeof n->marks, "tidemark.%.200s.marks", group);
    snprintf(n->dlq, sizeof n->dlq, "tidemark.%.200s.dlq", group);
    snprintf(n->keys, sizeof n->keys, "tidemark.%.200s.keys", group);
    snprintf(n->owners, sizeof n->owners, "tidemark.%.200s", group);
    snprintf(n->router, sizeof n->router, "tidemark.%.200s.router", group);
}
/* The group of a feed: tidemark.<group>.<feed>, with ':' as '.', '/' as '.'. */
static inline void names_feed_group(char *out, size_t size, const char *group, const char *feed)
{
    int n = snprintf(out, size, "tidemark.%.200s.%s", group, feed);
    for (int i = 0; i < n && (size_t)i < size; i++)
        if (out[i] == ':' || out[i] == '/')
            out[i] = '.';
}

/* See shadow.h. Everything under one mutex. Nodes live as long as their disk; a copy takes along
 * only those that can still be reached. */
#include "shadow.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shadow_int.h"

static void *need(void *p)
{
    if (!p)
        abort(); /* a test without memory has nothing to say */
    return p;
}

struct shadow_node *node_new(struct shadow *sh, bool folder)
{
    struct shadow_node *n = need(calloc(1, sizeof *n));
    n->folder = folder;
    if (sh->nnodes == sh->capnodes) {
        sh->capnodes = sh->capnodes ? sh->capnodes * 2 : 16;
        sh->nodes = need(realloc(sh->nodes, sh->capnodes * sizeof *sh->nodes));
    }
    sh->nodes[sh->nnodes++] = n;
    return n;
}

static void names_free(struct names *v)
{
    for (size_t i = 0; i < v->n; i++)
        free(v->v[i].name);
    free(v->v);
    *v = (struct names){0};
}

static void change_free(struct change *c)
{
    free(c->bytes);
    free(c->name);
    free(c->to);
}

static void node_free(struct shadow_node *n)
{
    names_free(&n->live_names);
    names_free(&n->disk_names);
    for (size_t i = 0; i < n->nchanges; i++)
        change_free(&n->changes[i]);
    free(n->changes);
    free(n->live.p);
    free(n->disk.p);
    free(n);
}

struct shadow *disk_new(void)
{
    struct shadow *sh = need(calloc(1, sizeof *sh));
    pthread_mutex_init(&sh->lock, NULL);
    pthread_cond_init(&sh->moved, NULL);
    sh->test = pthread_self();
    sh->open_gate = true;
    sh->left_out = sh->sync_fault = -1;
    sh->space = -1;
    shadow_table(&sh->ops);
    return sh;
}

struct shadow *shadow_new(void)
{
    struct shadow *sh = disk_new();
    sh->root = node_new(sh, true);
    return sh;
}

struct shadow *shadow_free(struct shadow *sh)
{
    if (!sh)
        return NULL;
    shadow_free(sh->frozen);
    for (size_t i = 0; i < sh->nnodes; i++)
        node_free(sh->nodes[i]);
    free(sh->nodes);
    pthread_mutex_destroy(&sh->lock);
    pthread_cond_destroy(&sh->moved);
    free(sh);
    return NULL;
}

struct fileops *shadow_ops(struct shadow *sh)
{
    return &sh->ops;
}

/* Names of a folder. */
struct name *names_find(struct names *v, const char *name)
{
    for (size_t i = 0; i < v->n; i++)
        if (strcmp(v->v[i].name, name) == 0)
            return &v->v[i];
    return NULL;
}

void names_put(struct names *v, const char *name, struct shadow_node *node)
{
    struct name *at = names_find(v, name);
    if (at) {
        at->node = node;
        return;
    }
    if (v->n == v->cap) {
        v->cap = v->cap ? v->cap * 2 : 4;
        v->v = need(realloc(v->v, v->cap * sizeof *v->v));
    }
    v->v[v->n++] = (struct name){need(strdup(name)), node};
}

void names_del(struct names *v, const char *name)
{
    struct name *at = names_find(v, name);
    if (!at)
        return;
    free(at->name);
    *at = v->v[--v->n];
}

/* Contents of a file. */
void bytes_resize(struct bytes *b, size_t n)
{
    if (n > b->cap) {
        b->cap = n * 2;
        b->p = need(realloc(b->p, b->cap));
    }
    if (n > b->n)
        memset(b->p + b->n, 0, n - b->n);
    b->n = n;
}

void bytes_write(struct bytes *b, const char *p, size_t n, size_t at)
{
    if (at + n > b->n)
        bytes_resize(b, at + n);
    if (n)
        memcpy(b->p + at, p, n);
}

void change_add(struct shadow *sh, struct shadow_node *n, struct change c)
{
    if (n->nchanges == n->capchanges) {
        n->capchanges = n->capchanges ? n->capchanges * 2 : 8;
        n->changes = need(realloc(n->changes, n->capchanges * sizeof *n->changes));
    }
    c.seq = ++sh->seq;
    n->changes[n->nchanges++] = c;
}

/* A change of names or of a size, or a whole write. */
void change_apply(const struct change *c, struct names *names, struct bytes *bytes)
{
    switch (c->kind) {
    case CHANGE_WRITE:
        bytes_write(bytes, c->bytes, c->n, c->at);
        break;
    case CHANGE_SIZE:
        bytes_resize(bytes, c->at);
        break;
    case CHANGE_LINK:
        names_put(names, c->name, c->node);
        break;
    case CHANGE_UNLINK:
        names_del(names, c->name);
        break;
    case CHANGE_MOVE:
        names_del(names, c->name);
        names_put(names, c->to, c->node);
        break;
    }
}

/* What was changed up to seq is on disk now, or (lost) never will be. */
void node_settle(struct shadow_node *n, uint64_t seq, bool lost)
{
    size_t done = 0;
    for (; done < n->nchanges && n->changes[done].seq <= seq; done++) {
        if (!lost)
            change_apply(&n->changes[done], &n->disk_names, &n->disk);
        change_free(&n->changes[done]);
    }
    n->nchanges -= done;
    if (n->nchanges)
        memmove(n->changes, n->changes + done, n->nchanges * sizeof *n->changes);
}

/* Copies. */
static struct shadow_node *copy_node(struct shadow *to, struct shadow_node *n);

static void copy_names(struct shadow *to, struct names *dst, const struct names *src)
{
    for (size_t i = 0; i < src->n; i++)
        names_put(dst, src->v[i].name, copy_node(to, src->v[i].node));
}

static struct bytes copy_bytes(const struct bytes *b)
{
    struct bytes c = {0};
    if (b->n)
        bytes_write(&c, b->p, b->n, 0);
    return c;
}

static struct shadow_node *copy_node(struct shadow *to, struct shadow_node *n)
{
    if (!n)
        return NULL;
    if (n->copy_of == to)
        return n->copy;
    struct shadow_node *c = node_new(to, n->folder);
    n->copy_of = to;
    n->copy = c;
    c->live = copy_bytes(&n->live);
    c->disk = copy_bytes(&n->disk);
    copy_names(to, &c->live_names, &n->live_names);
    copy_names(to, &c->disk_names, &n->disk_names);
    for (size_t i = 0; i < n->nchanges; i++) {
        struct change x = n->changes[i];
        uint64_t seq = x.seq;
        x.bytes = x.n ? need(malloc(x.n)) : NULL;
        if (x.n)
            memcpy(x.bytes, n->changes[i].bytes, x.n);
        x.name = x.name ? need(strdup(x.name)) : NULL;
        x.to = x.to ? need(strdup(x.to)) : NULL;
        x.node = copy_node(to, x.node);
        change_add(to, c, x);
        c->changes[i].seq = seq;
    }
    return c;
}

struct shadow *disk_copy(struct shadow *sh)
{
    struct shadow *c = disk_new();
    for (size_t i = 0; i < sh->nnodes; i++)
        sh->nodes[i]->copy_of = NULL;
    c->root = copy_node(c, sh->root);
    c->seq = sh->seq;
    c->left_out = sh->left_out;
    return c;
}

struct shadow *shadow_kill(struct shadow *sh)
{
    pthread_mutex_lock(&sh->lock);
    struct shadow *c = disk_copy(sh);
    pthread_mutex_unlock(&sh->lock);
    return c;
}

/* Loss of power: for each node in the order of its making, each change is asked for. */
struct choice {
    enum loss how;
    bool picking; /* by mask */
    unsigned *seed;
    uint64_t cut; /* LOSE_LAST: the last change that arrived */
    uint64_t mask;
    int next; /* part */
};

static bool arrives(struct choice *c, const struct change *x)
{
    if (c->picking)
        return c->next < 64 && (c->mask >> c->next++) & 1;
    switch (c->how) {
    case LOSE_ALL:
        return false;
    case LOSE_NONE:
        return true;
    case LOSE_LAST:
        return x->seq < c->cut || (x->seq == c->cut && rand_r(c->seed) % 2);
    default:
        return rand_r(c->seed) % 2;
    }
}

static void lose_names(struct choice *c, struct shadow_node *n)
{
    bool gone = false;
    for (size_t i = 0; i < n->nchanges; i++) {
        bool here = arrives(c, &n->changes[i]);
        if (gone && c->how == LOSE_ANY)
            continue;
        gone |= !here;
        if (here)
            change_apply(&n->changes[i], &n->disk_names, &n->disk);
    }
}

static void lose_write(struct choice *c, struct shadow_node *n, const struct change *x)
{
    for (size_t at = x->at, end = x->at + x->n; at < end;) {
        size_t next = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
        if (next > end)
            next = end;
        if (arrives(c, x))
            bytes_write(&n->disk, x->bytes + (at - x->at), next - at, at);
        at = next;
    }
    /* The size may be there without the data. */
    if (x->at + x->n > n->disk.n && arrives(c, x))
        bytes_resize(&n->disk, x->at + x->n);
}

static void lose_contents(struct choice *c, struct shadow_node *n)
{
    for (size_t i = 0; i < n->nchanges; i++) {
        const struct change *x = &n->changes[i];
        if (x->kind == CHANGE_WRITE)
            lose_write(c, n, x);
        else if (arrives(c, x))
            change_apply(x, &n->disk_names, &n->disk);
    }
}

static struct shadow *lose(struct shadow *sh, struct choice *c)
{
    pthread_mutex_lock(&sh->lock);
    struct shadow *lost = disk_copy(sh);
    pthread_mutex_unlock(&sh->lock);
    if (!c->picking && c->how == LOSE_LAST) {
        uint64_t first = lost->seq + 1;
        for (size_t i = 0; i < lost->nnodes; i++)
            if (lost->nodes[i]->nchanges && lost->nodes[i]->changes[0].seq < first)
                first = lost->nodes[i]->changes[0].seq;
        c->cut = first + (uint64_t)rand_r(c->seed) % (lost->seq + 2 - first);
    }
    for (size_t i = 0; i < lost->nnodes; i++) {
        struct shadow_node *n = lost->nodes[i];
        if (n->folder)
            lose_names(c, n);
        else
            lose_contents(c, n);
        node_settle(n, UINT64_MAX, true);
        names_free(&n->live_names);
        free(n->live.p);
        n->live = copy_bytes(&n->disk);
        for (size_t k = 0; k < n->disk_names.n; k++)
            names_put(&n->live_names, n->disk_names.v[k].name, n->disk_names.v[k].node);
    }
    return lost;
}

struct shadow *shadow_lose_power(struct shadow *sh, enum loss how, unsigned *seed)
{
    struct choice c = {.how = how, .seed = seed};
    return lose(sh, &c);
}

int shadow_parts(struct shadow *sh)
{
    struct choice c = {.picking = true, .how = LOSE_ANY_NAME};
    shadow_free(lose(sh, &c));
    return c.next;
}

struct shadow *shadow_pick(struct shadow *sh, uint64_t mask)
{
    struct choice c = {.picking = true, .how = LOSE_ANY_NAME, .mask = mask};
    return lose(sh, &c);
}

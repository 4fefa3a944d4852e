/* Lists of tasks: names, references, where `then` leads, and what can't be reached (DSL reference,
 * "Task" and "Flow directive"). All tasks of a list are made before the first is read, so that
 * `then` finds those further on. */
#include <stdio.h>
#include <stdlib.h>

#include "flow/parse_int.h"

#define ITEM_EXAMPLE "- greet: {set: {text: hello}}"

/* RFC 6901: ~ and / of a name are escaped in a JSON pointer. */
static bool make_ref(struct parser *p, struct task *t, const char *way, size_t index)
{
    struct buf b;
    buf_init(&b, FLOW_REF_MAX);
    buf_addf(&b, "%s/%s/%zu/", t->parent ? t->parent->ref : "", way, index);
    for (const char *s = t->name; *s; s++)
        buf_adds(&b, *s == '~' ? "~0" : *s == '/' ? "~1" : (char[]){*s, 0});
    buf_addc(&b, 0);
    if (!buf_error(&b) && b.n + FLOW_INDEX_MAX * flow_loops(b.p) <= FLOW_REF_MAX)
        t->ref = arena_strdup(&p->f->mem, sl(b.p, b.n - 1));
    buf_free(&b);
    return t->ref && map_put(&p->f->by_ref, sl_str(t->ref), t, NULL) == 0;
}

static void add(struct parser *p, struct spot item, const char *name, struct json_object *body,
                const char *way, size_t index, struct task *owner, struct task_list *l)
{
    struct ydoc_pos at = ydoc_key_pos(p->y, item.parent, name);
    if (p->ntasks++ == FLOW_TASKS_MAX)
        parse_bad(p, item, "split the definition", "a definition may have at most %d tasks",
                  FLOW_TASKS_MAX);
    struct task *t = p->ntasks > FLOW_TASKS_MAX ? NULL : arena_alloc(&p->f->mem, sizeof *t);
    if (!t)
        return;
    *t = (struct task){.name = name,
                       .parent = owner,
                       .list = l,
                       .index = l->n,
                       .definition = body,
                       .line = at.line,
                       .col = at.col,
                       .await = true};
    if (!make_ref(p, t, way, index)) {
        parse_bad(p, item, "shorter names, or fewer tasks inside one another",
                  "the task's reference is longer than %d bytes", FLOW_REF_MAX);
        return;
    }
    l->v[l->n++] = t;
}

static const struct task *named(const struct task_list *l, const char *name, size_t from)
{
    for (size_t i = from; i < l->n; i++)
        if (!strcmp(l->v[i]->name, name))
            return l->v[i];
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    const struct task *x = *(struct task *const *)a, *y = *(struct task *const *)b;
    int c = strcmp(x->name, y->name);
    return c ? c : x->index < y->index ? -1 : 1;
}

static void check_names(struct parser *p, const struct task_list *l)
{
    static const char *const words[] = {"continue", "exit", "end"};
    struct task **v = calloc(l->n + 1, sizeof *v);
    if (!v)
        return;
    for (size_t i = 0; i < l->n; i++)
        v[i] = l->v[i];
    qsort(v, l->n, sizeof *v, by_name);
    for (size_t i = 0; i < l->n; i++) {
        for (size_t k = 0; k < sizeof words / sizeof *words; k++)
            if (!strcmp(v[i]->name, words[k]))
                diags_warn(p->d, ydoc_name(p->y), v[i]->line, v[i]->col, "give it another name",
                           "then: %s never leads to this task", words[k]);
        if (i && !strcmp(v[i]->name, v[i - 1]->name))
            diags_warn(p->d, ydoc_name(p->y), v[i]->line, v[i]->col,
                       "different names make references readable",
                       "two tasks of this list are named \"%.100s\"", v[i]->name);
    }
    free(v);
}

void parse_list(struct parser *p, struct spot at, const char *way, struct task *owner,
                struct task_list *ret)
{
    struct json_object *v = js_get(at.parent, at.key);
    if (!json_object_is_type(v, json_type_array)) {
        parse_bad(p, at, ITEM_EXAMPLE, "%s must be a list of tasks", at.key);
        return;
    }
    size_t n = json_object_array_length(v);
    ret->v = arena_alloc(&p->f->mem, (n + 1) * sizeof *ret->v);
    if (!ret->v) {
        parse_bad(p, at, "split the definition", "the definition is too large");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct json_object *item = json_object_array_get_idx(v, i);
        if (!json_object_is_type(item, json_type_object) || json_object_object_length(item) != 1) {
            parse_bad(p, ELEMENT(v, i), ITEM_EXAMPLE,
                      json_object_is_type(item, json_type_object)
                          ? "an item of a task list has exactly one key, the task's name"
                          : "an item of a task list is a mapping: its name, then the task");
            continue;
        }
        json_object_object_foreach(item, name, body)
        {
            add(p, MEMBER(item, name), name, body, way, i, owner, ret);
        }
    }
    check_names(p, ret);
    for (size_t i = 0; i < ret->n; i++)
        parse_task(p, ret->v[i]);
    parse_reach(p, ret);
}

static void then_task(struct parser *p, struct spot at, const char *name, struct task *t,
                      struct then *ret)
{
    const char *names[260] = {"continue", "exit", "end"};
    char hint[160];
    size_t n = 3;
    const struct task *found = named(t->list, name, 0);
    if (found && !named(t->list, name, found->index + 1)) {
        *ret = (struct then){THEN_TASK, t->list->v[found->index]};
        return;
    }
    if (found) {
        parse_bad(p, at, "give them different names",
                  "two tasks of this list are named \"%.100s\", so then can't lead to one of them",
                  name);
        return;
    }
    for (size_t i = 0; i < t->list->n && n < 258; i++)
        names[n++] = t->list->v[i]->name;
    names[n] = NULL;
    parse_bad(p, at,
              parse_near(hint, sizeof hint, name, names,
                         "continue, exit, end, or the name of a task of the same list"),
              "there is no task \"%.100s\" in this list", name);
}

void parse_then(struct parser *p, struct spot at, struct task *t, struct then *ret)
{
    static const char *const words[] = {"continue", "exit", "end"};
    static const enum then_kind meaning[] = {THEN_CONTINUE, THEN_EXIT, THEN_END};
    struct json_object *v = js_get(at.parent, at.key);
    if (!json_object_is_type(v, json_type_string)) {
        parse_bad(p, at, "continue, exit, end, or the name of a task of the same list",
                  "then must be a text");
        return;
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(json_object_get_string(v), words[i])) {
            *ret = (struct then){meaning[i], NULL};
            return;
        }
    then_task(p, at, json_object_get_string(v), t, ret);
}

/* ---- what can't be reached ---- */

static void go(const struct task_list *l, bool *seen, size_t *todo, size_t *n, size_t from,
               const struct then *then)
{
    size_t to = then->kind == THEN_TASK && then->target ? then->target->index
                : then->kind == THEN_CONTINUE           ? from + 1
                                                        : l->n;
    if (to < l->n && !seen[to]) {
        seen[to] = true;
        todo[(*n)++] = to;
    }
}

static void leave(const struct task_list *l, bool *seen, size_t *todo, size_t *n,
                  const struct task *t)
{
    static const struct then skipped = {THEN_CONTINUE, NULL};
    bool own = t->type != TASK_RAISE;
    for (size_t i = 0; i < t->ncases; i++) {
        go(l, seen, todo, n, t->index, &t->cases[i].then);
        own = own && t->cases[i].when;
    }
    if (t->catch_ && t->catch_->has_then)
        go(l, seen, todo, n, t->index, &t->catch_->then);
    if (own)
        go(l, seen, todo, n, t->index, &t->then);
    if (t->cond)
        go(l, seen, todo, n, t->index, &skipped);
}

void parse_reach(struct parser *p, const struct task_list *l)
{
    size_t *todo = calloc(l->n + 1, sizeof *todo), n = 0;
    bool *seen = calloc(l->n + 1, sizeof *seen);
    if (todo && seen && l->n && !p->d->errors) { /* after an error a way may be missing */
        seen[0] = true;
        todo[n++] = 0;
        while (n)
            leave(l, seen, todo, &n, l->v[todo[--n]]);
        for (size_t i = 0; i < l->n; i++)
            if (!seen[i])
                diags_warn(p->d, ydoc_name(p->y), l->v[i]->line, l->v[i]->col,
                           "nothing leads here: see the then of the tasks before it",
                           "the task \"%.100s\" can't be reached", l->v[i]->name);
    }
    free(todo);
    free(seen);
}

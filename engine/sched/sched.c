/* See sched.h. */
#include "sched/sched.h"

void sched_init(struct sched *s, size_t max_running)
{
    *s = (struct sched){.max_running = max_running};
    for (int i = 0; i < SCHED_CLASSES; i++)
        list_init(&s->classes[i]);
    list_init(&s->age);
}

void sched_add(struct sched *s, struct sched_item *it, int priority)
{
    int class = priority < 0 ? 0 : priority >= SCHED_CLASSES ? SCHED_CLASSES - 1 : priority;
    list_push(&s->classes[class], &it->node);
    list_push(&s->age, &it->age);
    it->queued = true;
    it->running = false;
    s->queued++;
}

static struct sched_item *pick(struct sched *s)
{
    if (++s->turn % SCHED_AGING == 0 && !list_empty(&s->age))
        return LIST_ENTRY(s->age.next, struct sched_item, age);
    for (int i = 0; i < SCHED_CLASSES; i++)
        if (!list_empty(&s->classes[i]))
            return LIST_ENTRY(s->classes[i].next, struct sched_item, node);
    return NULL;
}

struct sched_item *sched_next(struct sched *s)
{
    struct sched_item *it = s->running < s->max_running ? pick(s) : NULL;
    if (!it)
        return NULL;
    list_del(&it->node);
    list_del(&it->age);
    it->queued = false;
    it->running = true;
    s->queued--;
    s->running++;
    return it;
}

void sched_remove(struct sched *s, struct sched_item *it)
{
    if (it->queued) {
        list_del(&it->node);
        list_del(&it->age);
        s->queued--;
    }
    if (it->running)
        s->running--;
    it->queued = it->running = false;
}

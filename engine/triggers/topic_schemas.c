/* See topic_schemas.h. */
#include "triggers/topic_schemas.h"

#include <stdlib.h>

#include "base/map.h"
#include "flow/schema.h"

struct topic_schemas {
    struct map by_topic; /* -> struct tmpl */
};

static bool add(struct topic_schemas *s, const struct config_topic *t, bool deep, struct diags *d)
{
    struct tmpl *schema = schema_compile(t->schema.doc, t->schema.parent, t->schema.key, deep, d);
    if (!schema)
        return false;
    if (map_put(&s->by_topic, sl_str(t->name), schema, NULL) == 0)
        return true;
    tmpl_free(schema);
    diags_add(d, t->name, 0, 0, "give the process more memory", "no memory for a schema");
    return false;
}

struct topic_schemas *topic_schemas_new(const struct config *c, bool deep, struct diags *d)
{
    struct topic_schemas *s = calloc(1, sizeof *s);
    bool ok = s != NULL;
    if (!s)
        diags_add(d, "", 0, 0, "give the process more memory", "no memory for schemas");
    else
        map_init(&s->by_topic);
    for (size_t i = 0; s && i < c->ntopics; i++)
        if (c->topics[i].schema.doc)
            ok = add(s, &c->topics[i], deep, d) && ok;
    return ok ? s : topic_schemas_free(s);
}

struct topic_schemas *topic_schemas_free(struct topic_schemas *s)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    if (!s)
        return NULL;
    while (map_next(&s->by_topic, &pos, &k, &v))
        tmpl_free(v);
    map_free(&s->by_topic);
    free(s);
    return NULL;
}

const struct tmpl *topic_schema(const struct topic_schemas *s, struct slice topic)
{
    return s ? map_get(&s->by_topic, topic) : NULL;
}

/* A definition's root and document (flow.h). The objects below them: parse_use.c, parse_schedule.c,
 * parse_list.c for tasks. Whole programs: flow.c. */
#include <stdio.h>

#include "flow/parse_int.h"

#define HEAD_EXAMPLE "document: {dsl: '1.0.3', namespace: acme, name: triage, version: '1.0.0'}"
#define TOPIC_CHARS  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

static const struct prop document_props[] = {
    {"dsl", T_TEXT, PROP_NEED, NULL, "dsl: '1.0.3'"},
    {"namespace", T_TEXT, PROP_NEED, NULL, "a name such as acme"},
    {"name", T_TEXT, PROP_NEED, NULL, "a name such as triage"},
    {"version", T_TEXT, PROP_NEED, NULL, "version: '1.0.0'"},
    {"title", T_TEXT, 0, NULL, NULL},
    {"summary", T_TEXT, 0, NULL, NULL},
    {"tags", T_OBJ, 0, NULL, "tags: {team: support}"},
    {"metadata", T_OBJ, 0, NULL, "metadata: {tidemark: {key: .subject}}"},
    {0}};

static const struct prop tidemark_props[] = {{"key", T_TEXT, 0, NULL,
                                              "an expression over the event, such as .subject"},
                                             {"priority", T_INT, 0, NULL,
                                              "0 (first) to 9, 5 when absent"},
                                             {"topics", T_ARR, 0, NULL, "topics: [orders]"},
                                             {0}};

static const char *const modes[] = {"strict", "loose", NULL};
static const char *const languages[] = {"jq", NULL};
static const struct prop evaluate_props[] = {{"language", T_TEXT, 0, languages, NULL},
                                             {"mode", T_TEXT, 0, modes, NULL},
                                             {0}};

static bool is_name(const char *s)
{
    static const char inner[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
    size_t n = strlen(s);
    return n >= 1 && n < FLOW_NAME_MAX && strspn(s, inner) == n && s[0] != '-' && s[n - 1] != '-';
}

/* Identifiers between points; those of a pre-release that are numbers have no leading zero. */
static bool identifiers(const char *s, size_t n, bool numbers_strict)
{
    size_t start = 0;
    for (size_t i = 0; i <= n; i++) {
        if (i < n && s[i] != '.') {
            if (!memchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", s[i],
                        63))
                return false;
            continue;
        }
        size_t len = i - start, digits = 0;
        while (digits < len && s[start + digits] >= '0' && s[start + digits] <= '9')
            digits++;
        if (!len || (numbers_strict && digits == len && len > 1 && s[start] == '0'))
            return false;
        start = i + 1;
    }
    return true;
}

static bool is_semver(const char *s)
{
    for (int i = 0; i < 3; i++) {
        size_t n = strspn(s, "0123456789");
        if (!n || (n > 1 && s[0] == '0') || (i < 2 && s[n] != '.'))
            return false;
        s += n + (i < 2);
    }
    if (*s == '-') {
        size_t n = strcspn(++s, "+");
        if (!identifiers(s, n, true))
            return false;
        s += n;
    }
    return !*s || (*s == '+' && identifiers(s + 1, strlen(s + 1), false));
}

static void check_version(struct parser *p, struct json_object *doc, const char *key)
{
    const char *s = prop_text(doc, document_props, key);
    if (s && !is_semver(s))
        parse_bad(p, MEMBER(doc, key), "three numbers with points, in quotes: '1.0.0'",
                  "\"%.100s\" is not a semantic version", s);
    else if (s && !strcmp(key, "dsl") && strncmp(s, "1.", 2))
        parse_bad(p, MEMBER(doc, key), "this version reads the DSL 1.x",
                  "the DSL %.100s is not supported", s);
}

static const char *check_name(struct parser *p, struct json_object *doc, const char *key)
{
    const char *s = prop_text(doc, document_props, key);
    if (s && !is_name(s))
        parse_bad(p, MEMBER(doc, key), "letters, digits and - inside, at most 63",
                  "\"%.100s\" is not a %s", s, key);
    return s;
}

bool parse_texts(struct parser *p, struct spot at, const char *what, const char *const **ret)
{
    struct json_object *v = js_get(at.parent, at.key);
    size_t n = json_object_array_length(v);
    const char **out = arena_alloc(&p->f->mem, (n + 1) * sizeof *out);
    bool ok = out != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        struct json_object *o = json_object_array_get_idx(v, i);
        const char *s = json_object_is_type(o, json_type_string) ? json_object_get_string(o) : "";
        if (!*s || strspn(s, TOPIC_CHARS) != strlen(s) || strlen(s) > 249) {
            parse_bad(p, ELEMENT(v, i), "letters, digits, '.', '_' and '-'",
                      "this is not the name of a %s", what);
            ok = false;
        }
        out[i] = s;
    }
    if (ok)
        *ret = out;
    return ok;
}

static void tidemark(struct parser *p, struct json_object *doc)
{
    struct flow_info *fi = &p->f->info;
    struct json_object *metadata = prop_get(doc, document_props, "metadata"), *tm, *v;
    fi->priority = 5;
    if (!json_object_object_get_ex(metadata, "tidemark", NULL))
        return;
    tm = parse_object(p, MEMBER(metadata, "tidemark"), "metadata.tidemark", tidemark_props,
                      "tidemark: {key: .subject, priority: 3}");
    if (!tm)
        return;
    if (prop_get(tm, tidemark_props, "key"))
        fi->key = parse_tmpl(p, MEMBER(tm, "key"), TMPL_BARE, V(EVENT) | V(KAFKA));
    if ((v = prop_get(tm, tidemark_props, "priority"))) {
        int64_t n = json_object_get_int64(v);
        if (n < 0 || n > 9)
            parse_bad(p, MEMBER(tm, "priority"), "0 (first) to 9, 5 when absent",
                      "%lld is not a priority", (long long)n);
        else
            fi->priority = (int)n;
    }
    if (!(v = prop_get(tm, tidemark_props, "topics")))
        return;
    if (!json_object_array_length(v))
        parse_bad(p, MEMBER(tm, "topics"), "leave it out to read every declared topic",
                  "topics is empty");
    else
        parse_texts(p, MEMBER(tm, "topics"), "topic", &fi->topics);
}

static void document(struct parser *p, struct json_object *root)
{
    struct flow_info *fi = &p->f->info;
    struct json_object *doc =
        parse_object(p, MEMBER(root, "document"), "document", document_props, HEAD_EXAMPLE);
    if (!doc)
        return;
    check_version(p, doc, "dsl");
    check_version(p, doc, "version");
    fi->ns = check_name(p, doc, "namespace");
    fi->name = check_name(p, doc, "name");
    fi->version = prop_text(doc, document_props, "version");
    fi->title = prop_text(doc, document_props, "title");
    tidemark(p, doc);
}

struct tmpl *parse_shape(struct parser *p, struct json_object *o, const char *what, uint32_t vars)
{
    static const struct prop from[] = {{"from", T_TEXT | T_OBJ, 0, NULL, "from: .order"},
                                       {"schema", T_ANY},
                                       {0}};
    static const struct prop as[] = {{"as", T_TEXT | T_OBJ, 0, NULL, "as: .total"},
                                     {"schema", T_ANY},
                                     {0}};
    const struct prop *table = strcmp(what, "input") ? as : from;
    struct json_object *shape, *v;
    if (!json_object_object_get_ex(o, what, NULL) ||
        !(shape = parse_object(p, MEMBER(o, what), what, table, table[0].hint)) ||
        !(v = prop_get(shape, table, table[0].name)))
        return NULL;
    /* A text here is an expression with or without ${ }; in loose mode one that fails is text. */
    return parse_tmpl(p, MEMBER(shape, table[0].name),
                      p->mode == TMPL_LOOSE ? TMPL_LOOSE : TMPL_BARE, vars);
}

static void evaluate(struct parser *p, struct json_object *root)
{
    struct json_object *o = NULL;
    if (json_object_object_get_ex(root, "evaluate", NULL))
        o = parse_object(p, MEMBER(root, "evaluate"), "evaluate", evaluate_props,
                         "evaluate: {mode: strict}");
    p->f->info.loose = o && prop_choice(o, evaluate_props, "mode", 0) == 1;
    p->mode = p->f->info.loose ? TMPL_LOOSE : TMPL_STRICT;
}

/* The specification leaves the root open, so an unknown key there is only worth a warning. */
static void root_keys(struct parser *p, struct json_object *root)
{
    static const char *const ok[] = {"document", "input",    "use",      "do", "timeout",
                                     "output",   "schedule", "evaluate", NULL};
    json_object_object_foreach(root, key, v)
    {
        char hint[128];
        struct ydoc_pos at = ydoc_key_pos(p->y, root, key);
        bool known = !strncmp(key, "${", 2);
        (void)v;
        for (size_t i = 0; ok[i]; i++)
            known = known || !strcmp(ok[i], key);
        if (!known)
            diags_warn(p->d, ydoc_name(p->y), at.line, at.col,
                       parse_near(hint, sizeof hint, key, ok,
                                  "the specification gives it no meaning"),
                       "the key \"%.100s\" is not used", key);
    }
}

void parse_root(struct parser *p, struct json_object *root)
{
    struct flow_info *fi = &p->f->info;
    parse_find_traps(p, root);
    root_keys(p, root);
    evaluate(p, root); /* before anything that holds expressions */
    document(p, root);
    parse_use(p, root);
    fi->input_schema = parse_schema(p, root, "input");
    fi->output_schema = parse_schema(p, root, "output");
    fi->input_from = parse_shape(p, root, "input", VARS_BASE);
    fi->output_as = parse_shape(p, root, "output", VARS_BASE | V(CONTEXT));
    fi->timeout = parse_timeout(p, root, VARS_BASE);
    parse_schedule(p, root);
    parse_use_functions(p);
    parse_use_policies(p);
    if (json_object_is_type(js_get(root, "do"), json_type_array))
        parse_list(p, MEMBER(root, "do"), "do", NULL, &fi->tasks);
    else
        parse_bad(p, MEMBER(root, "do"), "do: [- name: {set: {a: 1}}]",
                  json_object_object_get_ex(root, "do", NULL) ? "do must be a list of tasks"
                                                              : "do is missing");
}

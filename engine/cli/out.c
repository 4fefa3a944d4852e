/* Output: tables, JSON, JSON lines, YAML. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define COLUMNS_MAX 16
#define CELL_MAX    60

static const char *cell(struct json_object *row, const char *member, char *out, size_t size)
{
    struct json_object *v = js_get(row, member);
    const char *s = !v ? ""
                    : json_object_is_type(v, json_type_string)
                        ? json_object_get_string(v)
                        : json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN |
                                                                JSON_C_TO_STRING_NOSLASHESCAPE);
    size_t n = strlen(s), cut = 0;
    while (cut < n && cut < size - 4)
        cut++;
    while (cut < n && cut > 0 && ((unsigned char)s[cut] & 0xc0) == 0x80)
        cut--;
    snprintf(out, size, "%.*s%s", (int)cut, s, cut < n ? "..." : "");
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < 0x20)
            *p = ' ';
    return out;
}

/* Columns on a terminal, not bytes. */
static int width_of(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void print_table(struct cli *c, struct json_object *list, const char *const *columns)
{
    int width[COLUMNS_MAX] = {0}, n = 0;
    char text[CELL_MAX + 8], title[COLUMNS_MAX][40];
    const char *member[COLUMNS_MAX];
    size_t rows = json_object_array_length(list);
    for (; columns[n] && n < COLUMNS_MAX; n++) {
        const char *eq = strchr(columns[n], '=');
        snprintf(title[n], sizeof title[n], "%.*s", eq ? (int)(eq - columns[n]) : 39, columns[n]);
        member[n] = eq ? eq + 1 : columns[n];
        for (char *p = title[n]; *p; p++)
            *p = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
        width[n] = width_of(title[n]);
    }
    for (size_t r = 0; r < rows; r++)
        for (int k = 0; k < n; k++) {
            int w =
                width_of(cell(json_object_array_get_idx(list, r), member[k], text, sizeof text));
            width[k] = w > width[k] ? w : width[k];
        }
    for (int k = 0; k < n; k++)
        printf("%s%s%s%*s", c->colour ? "\033[1m" : "", title[k], c->colour ? "\033[0m" : "",
               k + 1 < n ? width[k] - width_of(title[k]) + 2 : 0, "");
    printf("\n");
    for (size_t r = 0; r < rows; r++) {
        for (int k = 0; k < n; k++) {
            cell(json_object_array_get_idx(list, r), member[k], text, sizeof text);
            printf("%s%*s", text, k + 1 < n ? width[k] - width_of(text) + 2 : 0, "");
        }
        printf("\n");
    }
}

static void print_text(struct json_object *o, bool pretty)
{
    struct buf b;
    buf_init(&b, 1u << 30);
    if (pretty ? js_write_pretty(o, &b) : js_write(o, &b))
        fprintf(stderr, "tidemark: no memory to print this\n");
    else
        printf("%.*s\n", (int)b.n, b.p);
    buf_free(&b);
}

/* JSON is YAML 1.2; block style for containers, JSON style for scalars, so that every text is
 * quoted and safe. */
static void print_yaml(struct json_object *o, int indent, bool in_list)
{
    bool first = in_list;
    if (json_object_is_type(o, json_type_object) && json_object_object_length(o)) {
        json_object_object_foreach(o, key, v)
        {
            bool block =
                (json_object_is_type(v, json_type_object) && json_object_object_length(v)) ||
                (json_object_is_type(v, json_type_array) && json_object_array_length(v));
            struct json_object *k = json_object_new_string(key);
            printf("%*s%s:%s", first ? 0 : indent, "",
                   json_object_to_json_string_ext(k, JSON_C_TO_STRING_PLAIN |
                                                         JSON_C_TO_STRING_NOSLASHESCAPE),
                   block ? "\n" : " ");
            json_object_put(k);
            print_yaml(v, indent + 2, false);
            first = false;
        }
    } else if (json_object_is_type(o, json_type_array) && json_object_array_length(o)) {
        for (size_t i = 0; i < json_object_array_length(o); i++) {
            printf("%*s- ", first ? 0 : indent, "");
            print_yaml(json_object_array_get_idx(o, i), indent + 2, true);
            first = false;
        }
    } else {
        print_text(o, false);
    }
}

void cli_print_one(struct cli *c, struct json_object *o)
{
    if (c->format == OUT_YAML)
        print_yaml(o, 0, false);
    else
        print_text(o, c->format != OUT_JSONL);
}

void cli_print_line(struct cli *c, struct json_object *o)
{
    print_text(o, false);
    fflush(stdout);
}

void cli_print_list(struct cli *c, struct json_object *list, const char *const *columns)
{
    if (c->format == OUT_JSONL)
        for (size_t i = 0; i < json_object_array_length(list); i++)
            print_text(json_object_array_get_idx(list, i), false);
    else if (c->format == OUT_TABLE)
        print_table(c, list, columns);
    else
        cli_print_one(c, list);
}

const char *cli_ago(int64_t ms, char out[32])
{
    if (ms < 1000)
        snprintf(out, 32, "%lldms", (long long)ms);
    else if (ms < 60000)
        snprintf(out, 32, "%.1fs", (double)ms / 1000);
    else if (ms < 3600000)
        snprintf(out, 32, "%lldm%02llds", (long long)(ms / 60000), (long long)(ms / 1000 % 60));
    else
        snprintf(out, 32, "%lldh%02lldm", (long long)(ms / 3600000), (long long)(ms / 60000 % 60));
    return out;
}

/* completion bash|zsh: a script for the shell, which asks this program for the candidates at each
 * press of the key: `completion reply SHELL LINE`. They come from the one table of commands, so
 * they are always those of the program that is typed.
 *
 * LINE is the command line up to the cursor; its last word is the one to complete. Each candidate
 * is a line; `:files` and `:folders` ask the shell for its own. Names that the log knows (agents,
 * topics, runs, marks, dead letters) are fetched within REPLY_MS: what is there by then counts, and
 * without a log there are just none. bash: behind the last of = and : in the word, since bash takes
 * these for ends of words. zsh: WORD:MEANING with the colons of WORD escaped. */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "gateway/keys.h"
#include "triggers/defs.h"

#define WORDS_MAX 128
#define RUNS_MAX  50
#define REPLY_MS  300

static const char bash_script[] =
    "# bash completion of tidemark: source <(tidemark completion bash)\n"
    "_tidemark() {\n"
    "    local line\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r line; do\n"
    "        case $line in\n"
    "        :files) compopt -o filenames 2>/dev/null\n"
    "            COMPREPLY+=($(compgen -f -- \"${COMP_WORDS[COMP_CWORD]}\")) ;;\n"
    "        :folders) compopt -o filenames 2>/dev/null\n"
    "            COMPREPLY+=($(compgen -d -- \"${COMP_WORDS[COMP_CWORD]}\")) ;;\n"
    "        *=) compopt -o nospace 2>/dev/null\n"
    "            COMPREPLY+=(\"$line\") ;;\n"
    "        *) COMPREPLY+=(\"$line\") ;;\n"
    "        esac\n"
    "    done < <(\"${COMP_WORDS[0]}\" completion reply bash \"${COMP_LINE:0:COMP_POINT}\" "
    "2>/dev/null)\n"
    "}\n"
    "complete -F _tidemark tidemark\n";

static const char zsh_script[] =
    "#compdef tidemark\n"
    "# zsh completion of tidemark: source <(tidemark completion zsh)\n"
    "_tidemark() {\n"
    "    local -a items\n"
    "    local line\n"
    "    for line in \"${(@f)$(\"${words[1]}\" completion reply zsh \"${(j: :)words[1,CURRENT]}\" "
    "2>/dev/null)}\"; do\n"
    "        case $line in\n"
    "        :files) _files ;;\n"
    "        :folders) _files -/ ;;\n"
    "        ?*) items+=(\"$line\") ;;\n"
    "        esac\n"
    "    done\n"
    "    (( ${#items} )) && _describe -t tidemark tidemark items\n"
    "}\n"
    "if (( ${+functions[compdef]} )); then compdef _tidemark tidemark; fi\n";

struct reply {
    struct cli *c;
    bool zsh;
    const char *words[WORDS_MAX]; /* behind the program's own; the last one is completed */
    int n;
    const char *word;    /* what is typed of it, without the flag of --flag=WORD */
    struct slice before; /* that "--flag=" */
};

static void candidate(const struct reply *r, const char *text, const char *meaning)
{
    size_t typed = strlen(r->word), skip = 0;
    if (strncmp(text, r->word, typed) != 0)
        return;
    for (size_t i = 0; !r->zsh && i < typed; i++)
        if (r->word[i] == '=' || r->word[i] == ':')
            skip = i + 1;
    if (r->zsh)
        printf("%.*s", SL_ARG(r->before));
    for (const char *p = text + skip; *p; p++)
        printf("%s%c", r->zsh && *p == ':' ? "\\" : "", *p);
    printf("%s%s\n", r->zsh && meaning ? ":" : "", r->zsh && meaning ? meaning : "");
}

/* ---- names that the log knows ---- */

static void members(const struct reply *r, struct json_object *list, const char *key)
{
    for (size_t i = 0; list && i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        if (js_str(o, key))
            candidate(r, js_str(o, key), js_str(o, "title"));
    }
    json_object_put(list);
}

static void agents(const struct reply *r)
{
    struct json_object *list = NULL;
    if (agents_list(r->c->admin, &r->c->names, &list, &r->c->e) == 0)
        members(r, list, "agent");
}

static void marks(const struct reply *r)
{
    struct json_object *list = NULL;
    if (marks_list(r->c->admin, &r->c->names, "mark/", &list, &r->c->e) == 0)
        members(r, list, "name");
}

static void topics(const struct reply *r)
{
    struct ktopic_info *v = NULL;
    size_t n = 0;
    if (kadmin_topics(r->c->admin, &v, &n, REPLY_MS, &r->c->e) == 0)
        for (size_t i = 0; i < n; i++)
            candidate(r, v[i].name, NULL);
    ktopics_free(v, n);
}

/* The newest runs of each partition, by their requests. */
struct latest {
    char v[RUNS_MAX][RUN_ID_MAX];
    size_t n;
};

static int on_run(void *arg, const struct krec *k)
{
    struct latest *l = arg;
    if (k->value.p && k->key.n > RUN_ID_LEN && run_id_valid(sl(k->key.p, RUN_ID_LEN)) &&
        sl_starts(sl_from(k->key, RUN_ID_LEN), SL("/?requested/")))
        snprintf(l->v[l->n++ % RUNS_MAX], RUN_ID_MAX, "%.*s", RUN_ID_LEN, k->key.p);
    return 0;
}

static void runs(const struct reply *r)
{
    int partitions = 0;
    if (kadmin_topic(r->c->admin, r->c->names.runs, &partitions, NULL, REPLY_MS, &r->c->e) < 0)
        return;
    for (int p = 0; p < partitions; p++) {
        struct latest l = {.n = 0};
        kadmin_read(r->c->admin, r->c->names.runs, p, -2, -1, on_run, &l, REPLY_MS, &r->c->e);
        for (size_t i = 0; i < l.n && i < RUNS_MAX; i++)
            candidate(r, l.v[i], NULL);
        fflush(stdout);
    }
}

static int on_letter(void *arg, const struct krec *k)
{
    char name[48];
    snprintf(name, sizeof name, "%d/%lld", k->partition, (long long)k->offset);
    if (k->value.p)
        candidate(arg, name, NULL);
    return 0;
}

static void letters(const struct reply *r)
{
    int partitions = 0;
    kadmin_topic(r->c->admin, r->c->names.dlq, &partitions, NULL, REPLY_MS, &r->c->e);
    for (int p = 0; p < partitions; p++)
        kadmin_read(r->c->admin, r->c->names.dlq, p, -2, -1, on_letter, (void *)r, REPLY_MS,
                    &r->c->e);
}

/* Names of API keys; or the ids of the tokens of the one that stands before. */
static void keys_or_tokens(const struct reply *r, bool tokens)
{
    struct keyring *ring = NULL;
    const struct key *k;
    size_t pos = 0;
    if (keyadmin_list(r->c->admin, &r->c->names, &ring, &r->c->e) < 0)
        return;
    while (keyring_next(ring, &pos, &k)) {
        if (!tokens)
            candidate(r, k->name, NULL);
        bool asked = tokens && r->n > 1 && !strcmp(r->words[r->n - 2], k->name);
        for (size_t i = 0; asked && i < k->ntokens; i++)
            candidate(r, k->tokens[i].id, NULL);
    }
    keyring_free(ring);
}

static void keys(const struct reply *r)
{
    keys_or_tokens(r, false);
}

static void tokens(const struct reply *r)
{
    keys_or_tokens(r, true);
}

static void on_alarm(int sig)
{
    _exit(EXIT_DONE); /* what was printed was flushed before */
}

/* From here on REPLY_MS are left (TIDEMARK_COMPLETION_MS: other). */
static bool reach(const struct reply *r)
{
    const char *text = getenv("TIDEMARK_COMPLETION_MS");
    int64_t ms = REPLY_MS;
    if (text && (sl_i64(sl_str(text), &ms) || ms < 1))
        ms = REPLY_MS;
    struct itimerval t = {.it_value = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000}};
    fflush(stdout);
    signal(SIGALRM, on_alarm);
    return setitimer(ITIMER_REAL, &t, NULL) == 0 && cli_open(r->c) == 0;
}

/* ---- what may stand at a place ---- */

static void files(const struct reply *r)
{
    printf(":files\n");
}

static void folders(const struct reply *r)
{
    printf(":folders\n");
}

/* What stands for a name in the table, and where its candidates come from. */
static const struct {
    const char *text;
    void (*fn)(const struct reply *r);
    bool of_log;
} kinds[] = {
    {"FILE", files, false},
    {"PATH", files, false},
    {"DIR", folders, false},
    {"NS/NAME", agents, true},
    {"NS/NAME[:VERSION]", agents, true},
    {"RUN", runs, true},
    {"TOPIC", topics, true},
    {"MARK", marks, true},
    {"PARTITION/OFFSET", letters, true},
    {"KEY", keys, true},
    {"TOKEN", tokens, true},
};

/* "A|B..." of the table: words in small letters stand for themselves. */
static void values(const struct reply *r, const char *text)
{
    while (*text) {
        char one[64];
        size_t n = strcspn(text, "|");
        snprintf(one, sizeof one, "%.*s", (int)n, text);
        one[strcspn(one, ".")] = 0; /* RUN... */
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (!strcmp(one, kinds[i].text) && (!kinds[i].of_log || r->c->admin || reach(r)))
                kinds[i].fn(r);
        if (islower((unsigned char)one[0]))
            candidate(r, one, NULL);
        text += n + (text[n] == '|');
    }
}

static const struct cli_opt *opt_of(const struct cli_cmd *m, const char *word, size_t n)
{
    while (n && *word == '-') {
        word++;
        n--;
    }
    for (const struct cli_opt *o = m->opts; o && o->name; o++)
        if (strlen(o->name) == n && !strncmp(o->name, word, n))
            return o;
    for (const struct cli_opt *o = cli_common; o->name; o++)
        if (strlen(o->name) == n && !strncmp(o->name, word, n))
            return o;
    return NULL;
}

static void value_of(const struct reply *r, const struct cli_opt *o)
{
    if (!strcmp(o->name, "where")) /* its help lists them: "agent=, status=" */
        for (struct slice rest = sl_str(o->help), word; sl_split(&rest, ' ', &word);) {
            ptrdiff_t eq = sl_find(word, '=');
            char name[32];
            snprintf(name, sizeof name, "%.*s", eq < 0 ? 0 : (int)eq + 1, word.p);
            if (eq > 0)
                candidate(r, name, NULL);
        }
    else if (!strcmp(o->arg, "LEVEL"))
        values(r, "error|warn|info|debug");
    else
        values(r, o->arg);
}

static void flags(const struct reply *r, const struct cli_opt *o)
{
    char text[64];
    for (; o && o->name; o++) {
        snprintf(text, sizeof text, "%s%s", strlen(o->name) == 1 ? "-" : "--", o->name);
        candidate(r, text, o->help);
    }
}

/* The n-th argument of "A [B...]"; the last one repeats. */
static void argument(const struct reply *r, const char *args, int n)
{
    char one[64] = "";
    for (struct slice rest = sl_str(args), word; sl_split(&rest, ' ', &word);) {
        snprintf(one, sizeof one, "%.*s", SL_ARG(word));
        if (n-- == 0)
            break;
    }
    bool repeats = strstr(one, "...") != NULL;
    char *p = one + (*one == '[');
    if (*one == '[')
        p[strcspn(p, "]")] = 0;
    if (n < 0 || repeats)
        values(r, p);
}

/* Of the command m, whose name takes `used` words. */
static void of_command(struct reply *r, const struct cli_cmd *m, int used)
{
    const struct cli_opt *pending = NULL;
    int args = 0;
    for (int i = used; i < r->n - 1; i++) {
        const struct cli_opt *o = r->words[i][0] == '-' && !pending
                                      ? opt_of(m, r->words[i], strcspn(r->words[i], "="))
                                      : NULL;
        args += r->words[i][0] != '-' && !pending;
        pending = o && o->arg && !strchr(r->words[i], '=') ? o : NULL;
    }
    const char *eq = strchr(r->word, '=');
    if (pending) {
        value_of(r, pending);
    } else if (r->word[0] == '-' && eq) {
        const struct cli_opt *o = opt_of(m, r->word, (size_t)(eq - r->word));
        r->before = sl(r->word, (size_t)(eq - r->word) + 1);
        r->word = eq + 1;
        if (o && o->arg)
            value_of(r, o);
    } else if (r->word[0] == '-') {
        flags(r, m->opts);
        flags(r, cli_common);
    } else {
        argument(r, m->args, args);
    }
}

/* The next word of every command that begins with the words typed. */
static void command_words(const struct reply *r)
{
    char last[64] = "";
    for (const struct cli_cmd *m = cli_table; m->words; m++) {
        struct slice rest = sl_str(m->words), word = {NULL, 0};
        int i = 0;
        while (i < r->n - 1 && sl_split(&rest, ' ', &word) && sl_is(word, r->words[i]))
            i++;
        char text[64];
        if (i < r->n - 1 || !sl_split(&rest, ' ', &word))
            continue;
        snprintf(text, sizeof text, "%.*s", SL_ARG(word));
        if (strcmp(text, last) != 0) /* the table has the commands of one noun together */
            candidate(r, text, rest.n ? NULL : m->summary);
        snprintf(last, sizeof last, "%s", text);
    }
}

/* Words by blanks; quotes and backslashes are the shell's and are only taken away. */
static void split(struct reply *r, char *line)
{
    char *to = line, quote = 0;
    bool in_word = false;
    r->word = "";
    for (char *p = line; *p && r->n < WORDS_MAX - 1; p++) {
        if (!quote && (*p == ' ' || *p == '\t')) {
            if (in_word)
                *to++ = 0;
            in_word = false;
            continue;
        }
        if (!in_word)
            r->words[r->n++] = to;
        in_word = true;
        if ((*p == '"' || *p == '\'') && (!quote || quote == *p))
            quote = quote ? 0 : *p;
        else if (*p != '\\' || quote == '\'')
            *to++ = *p;
    }
    *to = 0;
    if (!in_word)
        r->words[r->n++] = to;
}

/* Where the log is may be said on the line that is completed. */
static void take_context(struct reply *r)
{
    static const char *const names[] = {"config", "brokers", "group"};
    for (int i = 0; i < r->n - 1; i++)
        for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
            struct slice w = sl_str(r->words[i]), flag = sl_str(names[k]);
            if (!sl_starts(w, SL("--")) || !sl_starts(sl_from(w, 2), flag))
                continue;
            const char *rest = w.p + 2 + flag.n;
            const char *value = *rest == '=' ? rest + 1 : !*rest ? r->words[i + 1] : NULL;
            if (value && r->c->nvalues < CLI_VALUES_MAX) {
                r->c->values[r->c->nvalues].name = names[k];
                r->c->values[r->c->nvalues++].value = value;
            }
        }
}

static void reply(struct reply *r)
{
    int used = 0;
    for (const struct cli_cmd *m = cli_table; m->words; m++)
        if ((used = cli_words_match(m, r->n - 1, r->words))) {
            of_command(r, m, used);
            return;
        }
    if (r->n == 1 && r->words[0][0] == '-')
        flags(r, (const struct cli_opt[]){{"help", NULL, "the commands"},
                                          {"version", NULL, "version"},
                                          {NULL, NULL, NULL}});
    else
        command_words(r);
}

int cmd_completion(struct cli *c)
{
    const char *shell = c->args[c->nargs > 1 ? 1 : 0];
    struct reply r = {.c = c, .zsh = !strcmp(shell, "zsh")};
    if (!r.zsh && strcmp(shell, "bash") != 0)
        return cli_usage(c, "bash or zsh", "no completion for %s", shell);
    if (c->nargs == 1) {
        printf("%s", r.zsh ? zsh_script : bash_script);
        return EXIT_DONE;
    }
    char *line = c->nargs == 3 && !strcmp(c->args[0], "reply") ? strdup(c->args[2]) : NULL;
    if (!line)
        return cli_usage(c, "`tidemark completion --help`", "completion takes bash or zsh");
    struct reply all = r;
    split(&all, line);
    r.n = all.n > 0 ? all.n - 1 : 0; /* without the program itself */
    memcpy(r.words, all.words + 1, (size_t)r.n * sizeof *r.words);
    if (r.n) {
        r.word = r.words[r.n - 1];
        take_context(&r);
        reply(&r);
    }
    fflush(stdout);
    cli_close(c);
    free(line);
    return EXIT_DONE;
}

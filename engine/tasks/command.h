/* The command line, environment and input of a process, built from the evaluated definition of run:
 * shell or run: script. One process task owns it; loop's thread. */
#pragma once
#include "tasks/tasks_int.h"

#define COMMAND_ARGS_MAX 1024
#define COMMAND_TEXT_MAX_BYTES                                                                     \
    (127 * 1024) /* of one argument or variable: the kernel takes 128 KiB each */
#define COMMAND_INPUT_MAX (1024 * 1024)

struct command {
    char **argv, **envp; /* NULL-terminated */
    size_t argc, envc, arg_cap, env_cap;
    size_t code_at; /* place of the code in argv that is still to be fetched; 0: none */
    char *source;   /* http(s) address of that code, or NULL */
    struct buf input;
};
/* 0, or -errno with the problem filled in (-ENOMEM: not filled in). */
int command_build(struct command *m, const struct task_call *c, struct problem *p);
/* Puts the fetched code in its place; as above. */
int command_set_code(struct command *m, struct slice code, struct problem *p);
void command_free(struct command *m); /* takes a zeroed one too */

/* Shared by the JSON files of this folder. Pure functions, thread-safe. */
#pragma once
#include "base/js.h"

/* Reads the JSON string whose opening quote is at p. *ret_text is its unescaped text: a slice into
 * the source when nothing was escaped, else into `room`, which is emptied first. *ret_next is
 * behind the closing quote; after an error it is where the error stands and *ret_bad and *ret_hint
 * tell it (*ret_bad NULL: no memory). 0, -EINVAL or -ENOMEM. */
int js_string(const char *p, const char *end, struct buf *room, struct slice *ret_text,
              const char **ret_next, const char **ret_bad, const char **ret_hint);

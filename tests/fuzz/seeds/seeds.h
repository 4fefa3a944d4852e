/* Shared by the files of fuzz_seeds. */
#pragma once
#include "base/slice.h"

/* Writes FOLDER/TARGET/NAME; ends the program when it can't. */
void seed_write(const char *target, const char *name, struct slice bytes);
void segment_seeds(void);

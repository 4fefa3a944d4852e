/* The frame of every unit test: a file names its suite once and registers each test where it
 * stands.
 *
 *     SUITE("base/buf")
 *     TEST(grows_up_to_its_maximum) { CU_ASSERT_EQUAL(...); }
 *
 * main.c runs all registered tests; `unit_base grows` runs those whose suite or name contains
 * "grows". */
#pragma once
#include <CUnit/CUnit.h>

void unit_register(const char *suite, const char *name, CU_TestFunc fn);

#define SUITE(text) static const char *const unit_suite_name = text;
#define TEST(name)                                                                                 \
    static void name(void);                                                                        \
    __attribute__((constructor)) static void register_##name(void)                                 \
    {                                                                                              \
        unit_register(unit_suite_name, #name, name);                                               \
    }                                                                                              \
    static void name(void)

/* Compares and, when they differ, says what was seen and what was expected. */
void unit_check_str(const char *seen, const char *want, const char *file, int line);
void unit_check_int(long long seen, long long want, const char *file, int line);
#define CHECK_STR(seen, want) unit_check_str(seen, want, __FILE__, __LINE__)
#define CHECK_INT(seen, want)                                                                      \
    unit_check_int((long long)(seen), (long long)(want), __FILE__, __LINE__)
#define CHECK(cond) CU_ASSERT(cond)
/* Ends the test when the condition does not hold. */
#define NEED(cond) CU_ASSERT_FATAL(cond)
/* Removes a test's folder with everything in it; a failure fails the test. */
void unit_remove(const char *path);
/* Makes a new folder and puts its path into `path`: in memory where the system has such a place,
 * since tests that kill processes or lose power in a simulation need no disk, and a disk is slow.
 */
void unit_folder(char *path, size_t size);

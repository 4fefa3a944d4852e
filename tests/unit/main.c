/* Runs the tests that the suites of one folder registered; exit status 1 if one failed.
 *
 *   unit_FOLDER [WANT [PART OF]]
 *
 * WANT is a piece of a suite's or a test's name; PART (0 to OF - 1) takes each OF-th test of those,
 * for programs that are run side by side. */
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <CUnit/Basic.h>

#include "base/slice.h"
#include "unit.h"

#define TESTS_MAX 4096

static struct {
    const char *suite, *name;
    CU_TestFunc fn;
} tests[TESTS_MAX];
static int ntests;

void unit_register(const char *suite, const char *name, CU_TestFunc fn)
{
    if (ntests == TESTS_MAX) {
        fprintf(stderr, "more than %d tests in one program\n", TESTS_MAX);
        exit(2);
    }
    tests[ntests].suite = suite;
    tests[ntests].name = name;
    tests[ntests++].fn = fn;
}

void unit_check_str(const char *seen, const char *want, const char *file, int line)
{
    bool same = seen && want ? strcmp(seen, want) == 0 : seen == want;
    if (!same)
        fprintf(stderr, "%s:%d: saw      %s\n%s:%d: expected %s\n", file, line,
                seen ? seen : "(null)", file, line, want ? want : "(null)");
    CU_assertImplementation(same, (unsigned)line, "strings are equal", file, "", CU_FALSE);
}

void unit_check_int(long long seen, long long want, const char *file, int line)
{
    if (seen != want)
        fprintf(stderr, "%s:%d: saw %lld, expected %lld\n", file, line, seen, want);
    CU_assertImplementation(seen == want, (unsigned)line, "numbers are equal", file, "", CU_FALSE);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

void unit_remove(const char *path)
{
    unit_check_int(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0, __FILE__, __LINE__);
}

void unit_folder(char *path, size_t size)
{
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    int n = snprintf(path, size, "%s/tm-unit-XXXXXX", base);
    if (n < 0 || (size_t)n >= size || !mkdtemp(path)) {
        perror("cannot make a folder for the test");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    const char *want = argc > 1 ? argv[1] : "";
    int64_t part = 0, of = 1, nth = 0;
    if (argc > 3 && (sl_i64(sl_str(argv[2]), &part) < 0 || sl_i64(sl_str(argv[3]), &of) < 0 ||
                     part < 0 || part >= of)) {
        fprintf(stderr, "there is no part %s of %s\n", argv[2], argv[3]);
        return 2;
    }
    if (CU_initialize_registry() != CUE_SUCCESS)
        return 2;
    for (int i = 0; i < ntests; i++) {
        if (!strstr(tests[i].suite, want) && !strstr(tests[i].name, want))
            continue;
        if (nth++ % of != part)
            continue;
        CU_pSuite s = CU_get_suite(tests[i].suite);
        if (!s)
            s = CU_add_suite(tests[i].suite, NULL, NULL);
        if (!s || !CU_add_test(s, tests[i].name, tests[i].fn)) {
            fprintf(stderr, "cannot register %s %s\n", tests[i].suite, tests[i].name);
            return 2;
        }
    }
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures(), ran = CU_get_number_of_tests_run();
    CU_cleanup_registry();
    if (!ran)
        fprintf(stderr, "no test matches \"%s\"\n", want);
    return failed || !ran ? 1 : 0;
}

/* Failpoints: places where a test may stop the process. In builds with TIDEMARK_FAILPOINTS the
 * environment variable TIDEMARK_FAILPOINT=NAME[/KIND][:N] makes the N-th passing (from 1) of
 * FAILPOINT("NAME") write "failpoint NAME[/KIND][ SUBJECT]" to the file TIDEMARK_FAILPOINT_LOG, if
 * set, and raise SIGKILL, or SIGSTOP with TIDEMARK_FAILPOINT_SIGNAL=STOP: then the process goes on
 * at this very place when it is continued. FAILPOINT_OF tells passings of one place apart by kind
 * (the type of a record, say) and names what is passing (its run); both may be NULL. Otherwise no
 * code at all.
 *
 * TIDEMARK_FAULTS names a file that a test replaces while the process runs: FAIL_NOW("NAME") is
 * true as long as it has the line NAME, and a line "clock MS" sets the process's CLOCK_REALTIME
 * ahead by so much (behind when negative). */
#pragma once
#include <stdint.h>
#ifdef TIDEMARK_FAILPOINTS
#include <stdbool.h>
bool fail_now(const char *name);
int64_t fail_clock_ms(void);
#define FAIL_NOW(name) fail_now(name)
void fail_point(const char *name, const char *kind, const char *subject);
#define FAILPOINT(name)                   fail_point(name, (const char *)0, (const char *)0)
#define FAILPOINT_OF(name, kind, subject) fail_point(name, kind, subject)
#else
#define FAIL_NOW(name)                    false
#define FAILPOINT(name)                   ((void)0)
/* The arguments are not evaluated. */
#define FAILPOINT_OF(name, kind, subject) ((void)sizeof(kind), (void)sizeof(subject))
#endif

/* Clocks and random bytes: the only place that asks the system for them; core/ and flow/ get them
 * as arguments. */
#pragma once
#include "base/slice.h"

int64_t clock_boot_ms(
    void); /* CLOCK_BOOTTIME: goes on during suspend, never back; for leases and time-outs */
int64_t clock_boot_us(void);
int64_t clock_cpu_ms(int pid); /* processor time that a process has used; -1: there is none */
int64_t clock_wall_ms(void);   /* Unix time in ms */
void random_bytes(void *p, size_t n); /* getrandom; never fails (aborts if the kernel refuses) */
uint64_t random_u64(void);
void uuid4(char out[37]);

/* RFC 3339 in UTC with milliseconds, 2026-11-25T15:04:05.123Z, and its reading (any offset, any
 * fraction). Pure. time_read: 0 or -EINVAL. */
#define TIME_TEXT_MAX 32
void time_write(char out[TIME_TEXT_MAX], int64_t unix_ms);
int time_read(struct slice text, int64_t *ret_unix_ms);

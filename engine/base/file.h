/* Small whole-file operations. Blocking: not for the loop's turn except at start. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

int file_read(const char *path, struct buf *b,
              struct err *e); /* bounded by the buffer's maximum (-EFBIG) */
int file_write_atomic(const char *path, struct slice s,
                      struct err *e); /* temporary file, fsync, rename, fsync of the folder */
int dir_make(const char *path, struct err *e); /* with parents, mode 0700 */
int fd_write_all(int fd, struct slice s);      /* 0 or negative errno */

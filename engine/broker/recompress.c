/* Compression of record batches by the four codecs of the protocol, for batches that the cleaner
 * writes again: see decompress.c for the other way.
 *
 * Threads: pure functions, any thread. What is written can be read by all clients: gzip, raw
 * snappy, LZ4 frames of independent blocks (Java's reader takes no others), zstd. */
#include <errno.h>
#include <lz4frame.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

#include "broker/batch_int.h"

#define GZIP_SLACK_BYTES 64

static int pack_gzip(struct slice in, struct buf *out)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.p, .avail_in = (uInt)in.n};
    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 16 + MAX_WBITS, 8,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    size_t n = deflateBound(&z, (uLong)in.n) + GZIP_SLACK_BYTES;
    char *to = buf_reserve(out, n);
    int rc = to ? 0 : buf_error(out);
    if (rc == 0) {
        z.next_out = (Bytef *)to;
        z.avail_out = (uInt)n;
        rc = deflate(&z, Z_FINISH) == Z_STREAM_END ? 0 : -EIO;
    }
    if (rc == 0)
        buf_commit(out, (size_t)z.total_out);
    deflateEnd(&z);
    return rc;
}

static int pack_snappy(struct slice in, struct buf *out)
{
    size_t n = snappy_max_compressed_length(in.n);
    char *to = buf_reserve(out, n);
    if (!to)
        return buf_error(out);
    if (snappy_compress(in.p, in.n, to, &n) != SNAPPY_OK)
        return -EIO;
    buf_commit(out, n);
    return 0;
}

static int pack_lz4(struct slice in, struct buf *out)
{
    LZ4F_preferences_t how = {
        .frameInfo = {.blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent}};
    size_t n = LZ4F_compressFrameBound(in.n, &how);
    char *to = buf_reserve(out, n);
    if (!to)
        return buf_error(out);
    n = LZ4F_compressFrame(to, n, in.p, in.n, &how);
    if (LZ4F_isError(n))
        return -ENOMEM; /* the room suffices, so nothing else can fail */
    buf_commit(out, n);
    return 0;
}

static int pack_zstd(struct slice in, struct buf *out)
{
    size_t n = ZSTD_compressBound(in.n);
    char *to = buf_reserve(out, n);
    if (!to)
        return buf_error(out);
    n = ZSTD_compress(to, n, in.p, in.n, ZSTD_CLEVEL_DEFAULT);
    if (ZSTD_isError(n))
        return -ENOMEM;
    buf_commit(out, n);
    return 0;
}

int recompress(int codec, struct slice in, struct buf *out)
{
    switch (codec) {
    case 1:
        return pack_gzip(in, out);
    case 2:
        return pack_snappy(in, out);
    case 3:
        return pack_lz4(in, out);
    case 4:
        return pack_zstd(in, out);
    default:
        return -EBADMSG;
    }
}

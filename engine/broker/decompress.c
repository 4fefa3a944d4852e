/* Decompression of record batches by the four codecs of the protocol.
 *
 * Threads: pure functions, any thread. Invariant: no more than the output's maximum is ever
 * produced, whatever the input claims about its size; errors are -EBADMSG (damaged), -EMSGSIZE (too
 * large), -ENOMEM. */
#include <errno.h>
#include <lz4frame.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

#include "broker/batch_int.h"

#define CHUNK_BYTES       ((size_t)64 << 10)
#define XERIAL_HEAD_BYTES 16

static const char xerial_magic[8] = {(char)0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0};

/* Room for the next piece: a chunk, or what is left below the maximum and at least one byte. */
static char *room_for(struct buf *out, size_t *ret_n, int *ret_rc)
{
    size_t left = out->max - out->n;
    *ret_n = left < CHUNK_BYTES ? left : CHUNK_BYTES;
    char *p = left ? buf_reserve(out, *ret_n) : NULL;
    *ret_rc = p ? 0 : left ? -ENOMEM : -EMSGSIZE;
    return p;
}

static int gunzip(struct slice in, struct buf *out)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.p, .avail_in = (uInt)in.n};
    int rc = inflateInit2(&z, 16 + MAX_WBITS) == Z_OK ? 0 : -ENOMEM, step = Z_OK;
    if (rc < 0)
        return rc;
    while (step != Z_STREAM_END && rc == 0) {
        size_t n;
        char *p = room_for(out, &n, &rc);
        if (!p)
            break;
        z.next_out = (Bytef *)p;
        z.avail_out = (uInt)n;
        step = inflate(&z, Z_NO_FLUSH);
        if (step == Z_MEM_ERROR)
            rc = -ENOMEM;
        else if (step != Z_OK && step != Z_STREAM_END)
            rc = -EBADMSG;
        else
            buf_commit(out, n - z.avail_out);
        if (rc == 0 && step == Z_OK && z.avail_in == 0 && z.avail_out > 0)
            rc = -EBADMSG; /* cut short */
    }
    inflateEnd(&z);
    return rc;
}

static int unlz4(struct slice in, struct buf *out)
{
    LZ4F_dctx *ctx;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&ctx, LZ4F_VERSION)))
        return -ENOMEM;
    int rc = 0;
    size_t left = 1;
    while (left > 0 && rc == 0) {
        size_t n, used = in.n;
        char *p = room_for(out, &n, &rc);
        if (!p)
            break;
        left = LZ4F_decompress(ctx, p, &n, in.p, &used, NULL);
        if (LZ4F_isError(left) || (left > 0 && used == 0 && n == 0)) {
            rc = -EBADMSG;
            break;
        }
        buf_commit(out, n);
        in = sl_from(in, used);
    }
    LZ4F_freeDecompressionContext(ctx);
    return rc;
}

static int unzstd(struct slice in, struct buf *out)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    if (!z)
        return -ENOMEM;
    ZSTD_inBuffer from = {in.p, in.n, 0};
    int rc = 0;
    size_t left = 1;
    while (left > 0 && rc == 0) {
        size_t n, before = from.pos;
        char *p = room_for(out, &n, &rc);
        if (!p)
            break;
        ZSTD_outBuffer to = {p, n, 0};
        left = ZSTD_decompressStream(z, &to, &from);
        if (ZSTD_isError(left) || (left > 0 && to.pos == 0 && from.pos == before)) {
            rc = -EBADMSG;
            break;
        }
        buf_commit(out, to.pos);
        if (left == 0 && from.pos < from.size)
            left = 1; /* another frame follows */
    }
    ZSTD_freeDStream(z);
    return rc;
}

static int unsnap_block(struct slice in, struct buf *out)
{
    size_t n;
    if (snappy_uncompressed_length(in.p, in.n, &n) != SNAPPY_OK)
        return -EBADMSG;
    if (n > out->max - out->n)
        return -EMSGSIZE;
    /* Snappy reaches at most some 22 to 1, so a small block that claims much is damaged; refuse
     * before allocating. */
    if (n > 64 * in.n + CHUNK_BYTES)
        return -EBADMSG;
    if (n == 0)
        return 0;
    char *p = buf_reserve(out, n);
    if (!p)
        return -ENOMEM;
    if (snappy_uncompress(in.p, in.n, p, &n) != SNAPPY_OK)
        return -EBADMSG;
    buf_commit(out, n);
    return 0;
}

static int unsnap(struct slice in, struct buf *out)
{
    if (in.n < XERIAL_HEAD_BYTES || memcmp(in.p, xerial_magic, sizeof xerial_magic) != 0)
        return unsnap_block(in, out);
    in = sl_from(in, XERIAL_HEAD_BYTES); /* magic and two version numbers */
    while (in.n) {
        int32_t n = in.n >= 4 ? load32(in.p) : -1;
        if (n < 0 || (size_t)n > in.n - 4)
            return -EBADMSG;
        int rc = unsnap_block(sl(in.p + 4, (size_t)n), out);
        if (rc < 0)
            return rc;
        in = sl_from(in, 4 + (size_t)n);
    }
    return 0;
}

int decompress(int codec, struct slice in, struct buf *out)
{
    switch (codec) {
    case 1:
        return gunzip(in, out);
    case 2:
        return unsnap(in, out);
    case 3:
        return unlz4(in, out);
    case 4:
        return unzstd(in, out);
    default:
        return -EBADMSG;
    }
}

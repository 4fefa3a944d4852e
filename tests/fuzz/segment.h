/* The form of an input of fuzz_broker_segment: 1 byte flags, 1 byte base offset of the second
 * segment (0: there is none), then five parts as fuzz_put writes them: first segment, second
 * segment, index of the first, snapshot of the producers at the second's base, one slot of the
 * checkpoint. */
#pragma once

#define SEGMENT_PARTS 5

#define SEGMENT_SEAL       1 /* stamp and CRC of whatever looks like a batch are made right */
#define SEGMENT_CLEAN      2 /* the log was stopped cleanly */
#define SEGMENT_CHECKPOINT 4 /* the checkpoint is there; its magic, salt and CRC are made right */
#define SEGMENT_INDEX      8 /* the index is there as it is */
#define SEGMENT_SNAPSHOT   16

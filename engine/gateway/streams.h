/* All streams of a gateway (api_stream.c). The loop's thread. */
#pragma once
#include "gateway/api_int.h"

void streams_tick(struct gateway *g); /* twice a second or so: heartbeats, keys that expire */
void streams_end(struct gateway *g);  /* each ends after what it was sent */

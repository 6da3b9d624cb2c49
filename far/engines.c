/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of engines by kind of URL. A new engine is one more row. */
#include "far/far.h"

const struct far_ops *far_engine(enum far_scheme scheme)
{
	switch (scheme) {
	case FAR_FILE: return &far_file;
	case FAR_NBD: return &far_nbd;
	default: return &far_redis;
	}
}

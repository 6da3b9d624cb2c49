#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# large_budget.sh QUIRE: a family's shared memory of more than a gigabyte lay where the C library's stubs must go, and the
# places on the library's other side were asked for at odd addresses: nothing could be hosted with --memory 2G.
set -eu
"$1" run --memory 64M --report none -- /bin/true || exit 77 # no permission here
out=$("$1" run --memory 2G --report none -- /bin/echo hosted)
[ "$out" = hosted ]

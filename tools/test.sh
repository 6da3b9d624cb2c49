#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# test.sh [--no-programs] [name...]: build, Meson's tests (or those named), then the
# small set of real programs.  Ends with "N passed, N failed" and a status to match.
set -u
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build}
export BUILD
if ! sh tools/build.sh "$BUILD"; then
	echo "test: the build failed"
	echo "0 passed, 1 failed"
	exit 1
fi
exec "$(sh tools/python.sh)" tools/test.py "$@"

#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# test.sh [--no-programs]: Meson's tests, then the small set of real programs.
# Ends with "N passed, N failed" and a status to match.
set -u
cd "$(dirname "$0")/.."
exec "$(sh tools/python.sh)" tools/test.py "$@"

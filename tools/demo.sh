#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The demonstration: see tools/demo.py.  DEMO_COUNT sets the number of objects.
set -eu
cd "$(dirname "$0")/.."
exec "$(sh tools/python.sh)" tools/demo.py "$@"

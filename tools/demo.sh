#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# demo.sh [objects COUNT]: the demonstration, see tools/demo.py.
set -eu
cd "$(dirname "$0")/.."
exec "$(sh tools/python.sh)" tools/demo.py "$@"

#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# peers.sh [options of peers.py]: Quire, the kernel's swap and the floor, side by side.
set -eu
cd "$(dirname "$0")/.."
exec "$(sh tools/python.sh)" bench/peers.py "$@"

#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# hits.sh [options of hits.py]: what Quire costs a program that fits.
set -eu
cd "$(dirname "$0")/.."
exec "$(sh tools/python.sh)" bench/hits.py "$@"

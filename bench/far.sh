#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# far.sh [--mib N] [--rounds N] [--seconds N]: far swap beside the engines' own clients, and a program that pages to each place.
set -eu
cd "$(dirname "$0")/.."
sh tools/setup.sh libnbd-bin
exec "$(sh tools/python.sh)" bench/far.py "$@"

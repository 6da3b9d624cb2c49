#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Reformat every tracked C file in place.
set -eu
cd "$(dirname "$0")/.."
command -v clang-format >/dev/null || { echo "quire: install clang-format first" >&2; exit 1; }
git ls-files -z '*.c' '*.h' | xargs -0 clang-format -i

#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# cppcheck.sh BUILDFOLDER: what cppcheck finds in the product's C files is a failure; tools/cppcheck.txt says what it is not asked.
# 77 where there is no cppcheck. What was checked before and has not changed is not checked again.
set -eu
cd "$(dirname "$0")/.."
if ! command -v cppcheck >/dev/null 2>&1; then
	echo "cppcheck: not installed: apt-get install cppcheck"
	exit 77
fi
mkdir -p "$1"
exec cppcheck -j2 --quiet --std=c11 --enable=warning,portability --suppressions-list=tools/cppcheck.txt --cppcheck-build-dir="$1" \
	--error-exitcode=1 -I include -I . -I lib/include sys vm policy hat store run far lib cli lab machine/sim machine/linux

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
# check NAME ...: with a memory of its own, as files that two machines share are checked for each.
check() {
	mkdir -p "$dir/$1"
	name=$1
	shift
	cppcheck -j2 --quiet --std=c11 --enable=warning,portability --library=tools/cppcheck.cfg --suppressions-list=tools/cppcheck.txt \
		--cppcheck-build-dir="$dir/$name" --error-exitcode=1 -I include -I . -I lib/include "$@"
}
dir=$1
check hosted sys vm policy hat store run far lib cli lab machine/sim machine/linux machine/threads
for arch in x86_64 riscv64; do
	check $arch -I machine/$arch machine/$arch machine/metal kernel/core kernel/dev kernel/fs kernel/proc kernel/sys
done

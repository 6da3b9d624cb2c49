#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The runtime binds to no symbol outside itself: a program could have a function of that name. And it exports only the
# functions that interpose the C library's. Nor may the runtime bind a function lazily, at its first call: java hung, as
# the loader read the program's memory in the thread that serves its faults. Usage: bare.sh libquire-run.so
set -eu
lib=$1
undefined=$(nm -D --undefined-only "$lib" | awk '{print $NF}')
exported=$(nm -D --defined-only "$lib" | awk '{print $NF}' | sort | tr '\n' ' ')
if [ -n "$undefined" ]; then
	echo "$undefined"
	echo "the runtime must not bind to the symbols above: use sys/linux/, or add them to run/bare.c" >&2
	exit 1
fi
if readelf -d "$lib" | grep NEEDED; then
	echo "the runtime must need no library" >&2
	exit 1
fi
ours="capset close close_range closefrom dup2 dup3 getrlimit getrlimit64 prctl prlimit prlimit64 setegid seteuid setfsgid setfsuid setgid setregid setresgid setresuid setreuid setrlimit setrlimit64 setuid syscall unshare "
if [ "$exported" != "$ours" ]; then
	echo "the runtime exports: $exported" >&2
	echo "and not: $ours" >&2
	exit 1
fi
echo "no symbol is undefined, $(echo "$ours" | wc -w) are exported"

#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Links vm/ + policy/ against nothing, and lists every symbol that is missing there but is neither declared in machine.h or
# hat.h nor one of memcpy, memset, memcmp. Usage: freestanding.sh LIBRARY.a INCLUDE_DIR
set -eu
lib=$1 inc=$2
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
ld -r --whole-archive "$lib" -o "$tmp/core.o"
nm -u "$tmp/core.o" | awk '{print $NF}' | grep -v '^__\(asan\|ubsan\|tsan\|sanitizer\|gcov\|llvm\)' | grep -v '^_GLOBAL_OFFSET_TABLE_$' | sort -u > "$tmp/missing"
grep -ohE '\b(mach|hat)_[a-z_0-9]+ *\(' "$inc/quire/machine.h" "$inc/quire/hat.h" | tr -d ' (' | sort -u > "$tmp/seam"
printf 'memcmp\nmemcpy\nmemset\n' >> "$tmp/seam"
sort -u -o "$tmp/seam" "$tmp/seam"
if comm -23 "$tmp/missing" "$tmp/seam" | grep .; then
	echo "the core needs the symbols above, which are not in the seam" >&2
	exit 1
fi
echo "$(wc -l < "$tmp/missing") symbols of the seam are used, no other"

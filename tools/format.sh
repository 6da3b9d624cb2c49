#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# format.sh: reformat every tracked C file in place, by .clang-format.
# format.sh --check: name the files that are not as clang-format would have them, and fail. 77 where this version of clang-format is
# not there: others decide some lines differently.
set -eu
cd "$(dirname "$0")/.."
version=14
tool=$(command -v clang-format-$version || command -v clang-format || true)
case $("${tool:-true}" --version 2>/dev/null) in
*" version $version."*) ;;
*)
	echo "format: this needs clang-format $version: apt-get install clang-format-$version"
	[ "${1:-}" = --check ] && exit 77
	exit 1
	;;
esac
if [ "${1:-}" = --check ]; then
	# One process for many files: to start it takes longer than to look at one.
	names=$(git ls-files -z '*.c' '*.h' | xargs -0 "$tool" --dry-run --ferror-limit=1 2>&1 |
		sed -n 's/^\([^ :]*\):[0-9]*:[0-9]*: warning: .*/\1/p' | sort -u)
	[ -z "$names" ] || echo "$names"
	echo "format: $(echo "$names" | grep -c .) files are not as clang-format $version would have them: make format"
	[ -z "$names" ]
	exit
fi
# Some lines settle in the second or third pass only.
for pass in 1 2 3 4; do
	git ls-files -z '*.c' '*.h' | xargs -0 "$tool" -i
done

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
	bad=0
	for f in $(git ls-files '*.c' '*.h'); do
		"$tool" "$f" | cmp -s - "$f" || { echo "$f"; bad=$((bad + 1)); }
	done
	echo "format: $bad files are not as clang-format $version would have them: make format"
	[ $bad -eq 0 ]
	exit
fi
# Some lines settle in the second or third pass only.
for pass in 1 2 3 4; do
	git ls-files -z '*.c' '*.h' | xargs -0 "$tool" -i
done

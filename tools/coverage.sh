#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# coverage.sh [option of gcovr...]: unit tests in a build that counts, then lines and branches by folder.  --txt out.txt: by file.
# Left out: programs under quire run, whose runtime has no C library to count with, and tests of the suite uncounted.
# Assertions do not count: their other branch is what must never happen.
set -eu
cd "$(dirname "$0")/.."
b=${BUILD:-build}-cov
if ! command -v gcovr >/dev/null 2>&1; then
	echo "coverage: needs gcovr:  apt-get install gcovr"
	exit 1
fi
sh tools/build.sh "$b" -Db_coverage=true --buildtype=debug -Dc_args=-fprofile-update=atomic >/dev/null
find "$b" -name '*.gcda' -exec rm {} +
# Counting makes tests slower. A test that fails is told; the figures of all others come all the same.
failed=0
PATH=/usr/bin:$PATH meson test -C "$b" --no-rebuild --no-suite uncounted -t 4 --print-errorlogs >"$b/coverage.log" 2>&1 ||
	{ tail -40 "$b/coverage.log"; echo "coverage: a test failed"; failed=1; }
for folder in cli far hat lab lib machine policy run store sys vm; do
	set -- "$@" --filter "$folder/"
done
gcovr --root . --exclude-unreachable-branches --exclude-throw-branches --exclude-lines-by-pattern '.*(VM|POOL|HOST)_ASSERT.*' \
	--exclude-branches-by-pattern '.*(VM|POOL|HOST)_ASSERT.*' --json-summary "$b/coverage.json" "$@" "$b"
python3=$(sh tools/python.sh)
"$python3" tools/coverage.py "$b/coverage.json"
exit $failed

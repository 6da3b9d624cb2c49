#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# coverage.sh [option of gcovr...]: unit tests in a build that counts, then lines and branches by folder.  --txt out.txt: by file.
# Left out: programs under quire run, whose runtime has no C library to count with, and tests of the suite uncounted.
# Assertions do not count: their other branch must never be taken.
# SLOWNESS: factor for the bounds of tests. Status: 0; 1: a test failed, and its name is the last line but one; 2: no test ran.
set -eu
cd "$(dirname "$0")/.."
b=${BUILD:-build}-cov
if ! command -v gcovr >/dev/null 2>&1; then
	echo "coverage: needs gcovr:  apt-get install gcovr"
	exit 1
fi
sh tools/build.sh "$b" -Db_coverage=true --buildtype=debug -Dc_args=-fprofile-update=atomic >/dev/null
find "$b" -name '*.gcda' -exec rm {} +
# Counting makes tests slower: Meson's bounds and those inside of tests (tests/bound.py) are longer by this factor.
slow=${SLOWNESS:-6}
log=$b/meson-logs/testlog.json
rm -f "$log"
# A test that fails is named at the end, by coverage.py, whose status is this script's; the figures of all tests are printed in any case.
PATH=/usr/bin:$PATH QUIRE_TEST_SLOWNESS=$slow meson test -C "$b" --no-rebuild --no-suite uncounted -t "$slow" --print-errorlogs >"$b/coverage.log" 2>&1 ||
	tail -40 "$b/coverage.log"
for folder in cli far hat lab lib machine policy run store sys vm; do
	set -- "$@" --filter "$folder/"
done
gcovr --root . --exclude-unreachable-branches --exclude-throw-branches --exclude-lines-by-pattern '.*(VM|POOL|HOST)_ASSERT.*' \
	--exclude-branches-by-pattern '.*(VM|POOL|HOST)_ASSERT.*' --json-summary "$b/coverage.json" "$@" "$b"
python3=$(sh tools/python.sh)
"$python3" tools/coverage.py "$b/coverage.json" "$log"

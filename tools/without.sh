#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# without.sh: all hosting tests, and those of the Linux machine and libquire, as on kernels that lack what newer ones have
# (sys/linux/offer.h). A line a test, with its seconds; the last is "N passed, N failed". WITHOUT="LIST ..." names other lists,
# TESTS="NAME ..." other tests.
set -u
cd "$(dirname "$0")/.."
b=${BUILD:-build}
passed=0 failed=0
# No run_start: it makes each call of a start fail, whatever the kernel offers.
tests="linux adopt mach_conform-linux hat_conform-linux lib lib_race
run_bad run_guard run_fit run_report run_own run_account run_full run_unhosted run_container run_intercept run_programs far_run"
for without in ${WITHOUT:-move,scan move scan move,scan,poison,close_range,pidfd,io_uring,process_madvise io_uring,process_madvise}; do
	for t in ${TESTS:-$tests}; do
		began=$(date +%s)
		# The limits of time are for a hang: on a busy machine a test takes several times as long.
		if QUIRE_WITHOUT=$without meson test -C "$b" --no-rebuild -t 4 --print-errorlogs "$t" >"$b/without.log" 2>&1; then
			passed=$((passed + 1)) word=ok
		else
			failed=$((failed + 1)) word=FAIL
			tail -60 "$b/without.log"
		fi
		echo "$word $t without $without $(($(date +%s) - began)) s"
	done
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]

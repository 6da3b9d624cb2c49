#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# without.sh: all hosting tests, and those of the Linux machine and libquire, as on kernels that lack what newer ones have
# (sys/linux/offer.h). Ends with "N passed, N failed". WITHOUT="LIST ..." names other lists.
set -u
cd "$(dirname "$0")/.."
b=${BUILD:-build}
passed=0 failed=0
# run_container prints costs beside what there is, run_report a figure that only a new kernel can measure.
tests="linux adopt mach_conform-linux hat_conform-linux lib lib_race
run_bad run_guard run_fit run_report run_own run_account run_full run_unhosted run_intercept run_programs far_run"
for without in ${WITHOUT:-move,scan scan move,scan,poison,close_range,pidfd,io_uring,process_madvise io_uring,process_madvise}; do
	for t in $tests; do
		if QUIRE_WITHOUT=$without meson test -C "$b" --no-rebuild --print-errorlogs "$t" >"$b/without.log" 2>&1; then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
			echo "FAIL $t without $without"
			tail -60 "$b/without.log"
		fi
	done
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]

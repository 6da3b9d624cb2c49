#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# nightly.sh: the random tests for much longer than `make test` has time for.  Every line says its seed; the seeds
# differ from day to day.  NIGHTLY_SEED=n repeats a night.
set -u
cd "$(dirname "$0")/.."
b=${BUILD:-build}
seed=${NIGHTLY_SEED:-$(date +%Y%m%d)}
bad=0

run() {
	echo "== $*"
	"$@" || { bad=$((bad + 1)); echo "FAILED: $*"; }
}

echo "nightly: seed $seed"
# 100 million operations on each of the two machines, then with hardly any memory.
run "$b/tests/vm/model_test" --ops 100000000 --seed "$seed"
run "$b/tests/vm/model_test" --ops 100000000 --seed "$seed" --linux
run "$b/tests/vm/model_test" --ops 50000000 --seed "$seed" --frames 96
run "$b/tests/vm/model_test" --ops 20000000 --seed "$seed" --frames 80 --linux
run env STORE_SEED="$seed" "$b/tests/store/store_test"
run env STORE_SEED="$seed" "$b/tests/store/store_share_test"
# Every way a machine translates, every policy.
for f in la57 i386 pae sv39 sv48 sfmmu; do
	run "$b/tests/vm/model_test" --ops 10000000 --seed "$seed" --format $f
	run "$b/tests/vm/race_test" --seed "$seed" --seeds 200 --format $f
done
for f in x86_64 la57; do
	run "$b/tests/vm/model_test" --ops 10000000 --seed "$seed" --format $f --split
	run "$b/tests/vm/race_test" --seed "$seed" --seeds 200 --format $f --split
done
for p in $("$b/quire" run --policy help | cut -d" " -f1); do
	run "$b/tests/vm/model_test" --ops 5000000 --seed "$seed" --frames 96 --policy $p
	run "$b/tests/vm/model_test" --ops 5000000 --seed "$seed" --linux --policy $p
done
# Every allocation, I/O and interrupt of scripts of 400 operations fails in turn.
run "$b/tests/vm/model_test" --inject --ops 400 --seed "$seed" --seeds 20 --frames 128
run "$b/tests/vm/model_test" --inject --ops 400 --seed "$seed" --seeds 20 --frames 72
run "$b/tests/vm/model_test" --inject --ops 400 --seed "$seed" --seeds 20 --frames 96 --linux
# Several CPUs.
run "$b/tests/vm/race_test" --seed "$seed" --seeds 2000
run "$b/tests/vm/race_test" --seed "$seed" --seeds 2000 --linux
run "$b/tests/lib/lib_race_test" --seed "$seed" --rounds 100000
# Beside native mmap. A process forked for each fork of the script: a million operations a minute.
run "$b/tests/vm/diff_sim" --seed "$seed" --ops 3000000
run "$b/tests/vm/diff_quire" --seed "$seed" --ops 1000000
run "$b/tests/vm/gigabyte_test" sv39
# As on older kernels and in stricter containers.
run sh tools/without.sh
# Do the tests notice faults? A dozen of them, others each night; those that nobody noticed are named.
run "$(sh tools/python.sh)" tools/mutants.py --sample 12 --seed "$seed"
# Every system call of a start fails.
run "$(sh tools/python.sh)" tests/run/run_start_test.py "$b/quire" "$b/tests/run/fail_nth" 1
# Either end of far swap is killed at 200 random moments.
run "$(sh tools/python.sh)" tests/far/far_kill_test.py "$b/quire" --moments 200 --seed "$seed"
# All scenarios beside two other busy processes.
run "$(sh tools/python.sh)" tests/run/loaded.py tests/run/run_intercept_test.py "$b/quire" "$b/tests/run/run_scenarios"
run "$(sh tools/python.sh)" tests/run/loaded.py tests/run/run_full_test.py "$b/quire" "$b/tests/run/full"
run "$(sh tools/python.sh)" tests/run/loaded.py tests/run/run_own_test.py "$b/quire" "$b/tests/run/own_functions" \
	"tsan:$b/tests/run/own_tsan" "asan:$b/tests/run/own_asan"
# Random calls beside a native twin, others each night.
run env QUIRE_SEED="$seed" "$(sh tools/python.sh)" tests/run/run_intercept_test.py "$b/quire" "$b/tests/run/run_scenarios" random-calls random-io
# Nonsense to the supervisor, for a minute.
run "$(sh tools/python.sh)" tests/run/fuzz_test.py "$b/quire" "$b/tests/run/fuzz_family" --seconds 60 --seed "$seed"
echo "nightly: $bad failed"
[ "$bad" -eq 0 ]

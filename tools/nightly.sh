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
run "$b/model_test" --ops 100000000 --seed "$seed"
run "$b/model_test" --ops 100000000 --seed "$seed" --linux
run "$b/model_test" --ops 20000000 --seed "$seed" --frames 96
run "$b/model_test" --ops 20000000 --seed "$seed" --frames 96 --latency 20000
run "$b/model_test" --inject --ops 400 --seed "$seed" --seeds 60 --frames 128
run "$b/model_test" --inject --ops 400 --seed "$seed" --seeds 60 --frames 96 --linux
run "$b/race_test" --seed "$seed" --seeds 2000
run "$b/race_test" --seed "$seed" --seeds 2000 --linux
run "$b/diff_sim" --seed "$seed" --ops 10000000
run "$b/diff_quire" --seed "$seed" --ops 10000000
run "$b/lib_race_test" --seed "$seed" --rounds 300000
echo "nightly: $bad failed"
[ "$bad" -eq 0 ]

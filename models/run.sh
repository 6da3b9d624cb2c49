#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# run.sh [model...]: checks every state of each protocol's model: assertions and dead ends, then the property in LTL under weak
# fairness.  Then breaks the protocol in each way the model knows; the check must fail. Prints
# states searched.
set -u
cd "$(dirname "$0")"
if ! command -v spin >/dev/null 2>&1; then
	echo "models: needs spin:  apt-get install spin"
	exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

# check MODEL LABEL WANT(ok|error) FLAGS...
check() {
	model=$1 label=$2 want=$3
	shift 3
	d="$work/$model"
	rm -rf "$d"
	mkdir "$d"
	cp "$model.pml" "$d/model.pml"
	live=
	case " $* " in *" -DLIVE "*) live=1 ;; esac
	(
		cd "$d"
		spin -a "$@" model.pml >spin.out 2>&1 || exit 9
		if [ "$live" ]; then
			cc -O2 -w -DMEMLIM=2048 -DNFAIR=3 -o pan pan.c && ./pan -a -f -m1000000 >out 2>&1
		else
			cc -O2 -w -DSAFETY -DNOCLAIM -DMEMLIM=2048 -o pan pan.c && ./pan -m1000000 >out 2>&1
		fi
	)
	errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' "$d/out" 2>/dev/null)
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$d/out" 2>/dev/null)
	if grep -q "max search depth too small\|out of memory\|Search not completed" "$d/out" 2>/dev/null && [ "$want" = ok ]; then
		errors=incomplete
	fi
	got=error
	[ "$errors" = 0 ] && got=ok
	[ -z "$errors" ] && got=broken
	[ "$errors" = incomplete ] && got=incomplete
	if [ "$got" = "$want" ]; then
		case $want in
		ok) printf '  %-12s %-28s holds in %s states\n' "$model" "$label" "$states" ;;
		*) printf '  %-12s %-28s noticed: %s\n' "$model" "$label" \
			"$(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' "$d/out" | head -1)" ;;
		esac
	else
		printf '  %-12s %-28s %s, expected %s\n' "$model" "$label" "$got" "$want"
		[ -f "$d/out" ] && head -20 "$d/out"
		[ -f "$d/spin.out" ] && head -5 "$d/spin.out"
		bad=$((bad + 1))
	fi
}

for m in ${*:-page_lock slot_steal shootdown swap_remove}; do
	check "$m" "assertions, dead ends" ok
	check "$m" "property" ok -DLIVE
	for b in 1 2 3; do
		case $m$b in
		page_lock1) check "$m" "broken, $b" error -DBREAK=$b -DLIVE ;;
		*) check "$m" "broken, $b" error -DBREAK=$b ;;
		esac
	done
done
[ "$bad" -eq 0 ] || { echo "models: $bad failed"; exit 1; }
echo "models: all hold, and every broken one was noticed"

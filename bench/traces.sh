#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Runs traces of real programs (quire-lab trace; needs Debian's qemu-user) through every policy: misses in a tenth, a quarter and
# half of the pages that each program uses. Traces are made once and kept. Usage: bench/traces.sh [PROGRAM ...]
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
lab=${BUILD:-$top/build}/quire-lab
work=${BUILD:-$top/build}/traces
mkdir -p "$work"
cd "$work"
command -v qemu-x86_64 > /dev/null || { echo "traces.sh: no qemu-x86_64: apt install qemu-user" >&2; exit 1; }

numbers() { awk 'BEGIN { x = 1; for (i = 0; i < '"$1"'; i++) { x = (x * 16807) % 2147483647; print x } }'; }

trace_sort() {
	[ -s numbers ] || numbers 400000 > numbers
	"$lab" trace --output sort.new -- sort -n --parallel=1 -S 1G -o /dev/null numbers
}
trace_python() {
	"$lab" trace --output python.new -- /usr/bin/python3 -c '
d = {}
for i in range(60000):
    d[i * 7919 % 100003] = str(i) * 8
s = 0
for r in range(3):
    for k in sorted(d):
        s += len(d[k])
    for i in range(40000):
        s += len(d.get(i * i % 100003, ""))
print(s)' > /dev/null
}
trace_sqlite() {
	rm -f t.db
	"$lab" trace --output sqlite.new -- sqlite3 :memory: '
create table t(a integer primary key, b text, c integer);
with recursive n(x) as (select 1 union all select x+1 from n where x < 40000)
insert into t select x, hex(x * 7919 % 100003) || "padding padding padding", x * 16807 % 65537 from n;
create index i on t(c);
select sum(length(b)) from t where c between 1000 and 9000;
select count(*) from t x join t y on x.c = y.a;
update t set b = b || "x" where a % 7 = 0;
select count(*), sum(c) from t;' > /dev/null
}
trace_xz() {
	numbers 30000 > few
	"$lab" trace --output xz.new -- xz -T1 -1 -c few > /dev/null
}
trace_cc1() {
	[ -s big.c ] || awk 'BEGIN { print "int v[9];"; for (i = 0; i < 1500; i++) {
		printf "int f%d(int a, int b) { int s = 0; for (int i = a; i < b; i++) { s += v[i %% 9] * %d; ", i, i;
		print "if (s & 1) s ^= b << 2; else v[s & 7] = a - i; } return s; }" } }' > big.c
	"$lab" trace --output cc1.new -- "$(gcc -print-prog-name=cc1)" -quiet -O2 -o /dev/null big.c
}

for p in ${*:-sort python sqlite xz cc1}; do
	[ -s "$p.trace" ] || { "trace_$p" && mv "$p.new" "$p.trace"; }
	printf '\n%s: ' "$p"
	"$lab" policies --frames 10%,25%,50% "$p.trace"
done

#!/bin/busybox sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The first process of the machine that run.py boots. This script prepares the machine for programs, runs the tests of
# /tests/list and switches off. Lines that begin with "@" are for run.py: "@ ok NAME", "@ FAIL NAME", "@ skip NAME:
# why", "@ end".
b=/bin/busybox
export PATH=/usr/bin:/bin HOME=/tmp TMPDIR=/var/tmp
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
$b mkdir -p /dev/pts /dev/shm
$b mount -t devpts devpts /dev/pts
$b mount -t tmpfs -o mode=1777 tmpfs /dev/shm
$b mount -t tmpfs -o mode=1777 tmpfs /tmp
$b ln -s /proc/self/fd /dev/fd
while read -r m; do $b insmod "/modules/$m" || echo "@ skip $m: the module cannot be loaded"; done </modules/list
for try in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] || $b sleep 1; done
$b mount -t ext4 /dev/vda /var/tmp || echo "@ FAIL disk"
$b ifconfig lo 127.0.0.1 up
echo 1 >/proc/sys/kernel/printk
cd /tmp || exit

read -r seconds </tests/seconds

# Output, both streams, and the exit status of a command are in $1.
observe() {
	out=$1
	shift
	echo "a line" | $b timeout $seconds "$@" >"$out" 2>&1
	echo "status $?" >>"$out"
}

# A program natively and hosted in less than it needs.
hosted() {
	name=$1
	memory=$2
	shift 2
	observe /tmp/native "$@"
	observe /tmp/hosted quire run --memory "$memory" --report none $options -- "$@"
	$b grep -v '^quire: a request for memory was refused' /tmp/hosted >/tmp/hosted.said
	if $b cmp -s /tmp/native /tmp/hosted.said; then
		echo "@ ok $name"
	else
		echo "@ FAIL $name"
		$b diff /tmp/native /tmp/hosted.said | $b head -20
	fi
}

# A test program of this repository.
alone() {
	observe /tmp/alone "$@"
	if $b grep -q '^status 0$' /tmp/alone; then
		echo "@ ok $1"
	elif $b grep -q '^status 77$' /tmp/alone; then
		echo "@ skip $1: $($b tail -2 /tmp/alone | $b head -1)"
	else
		echo "@ FAIL $1"
		$b tail -20 /tmp/alone
	fi
}

echo "@ kernel $($b uname -r)"
options=
quire check | $b sed 's/^/@ check /' || echo "@ FAIL check"
while read -r kind rest; do
	echo "@ next $rest"
	# The words of a line are the words of the command.
	case $kind in
	options) options=$rest ;;
	hosted) hosted $rest ;;
	alone) alone $rest ;;
	script) hosted "$rest" 12M sh "/tests/$rest" ;;
	esac
done </tests/list
echo "@ end"
$b poweroff -f

#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# shell.sh ARCH KERNEL.elf DIR: a busybox shell on the kernel, in this terminal. MEMORY (32), CPUS (1). ^A x ends QEMU.
set -eu
arch=$1 kernel=$2 dir=$3 here=$(dirname "$0")
mkdir -p "$dir"
[ -f "$dir/root.img" ] || ARCH=$arch DEBIAN="$(dirname "$kernel")/debian" SIZE=256 sh "$here/image.sh" "$dir" sort sqlite3
echo "The shell is process 1: 'exit' or 'poweroff -f' ends the machine; ^A x ends QEMU." >&2
exec python3 "$here/machine.py" "$arch" "$kernel" "${MEMORY:-32}" "${CPUS:-1}" "root=0 swap=1 init=/bin/sh ${APPEND:-}" \
	"$dir/root.img" "$dir/swap.img"

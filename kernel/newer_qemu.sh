#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# newer_qemu.sh DIR: QEMU from the backports for Debian 12 (10.0), unpacked in DIR: DIR/bin has qemu-system-x86_64 and
# qemu-system-riscv64, which use the firmware that comes with them. apt uses its own lists in DIR and installs no package; QEMU's
# libraries are those of the installed QEMU. If DIR has it, it is not fetched again.
set -eu
dir=$1 release=bookworm-backports
[ -e "$dir/unpacked" ] && exit 0
mkdir -p "$dir/root" "$dir/bin"
dir=$(cd "$dir" && pwd)
sh "$(dirname "$0")/apt_lists.sh" "$dir" $release
export APT_CONFIG="$dir/apt.conf"
apt-get -qq update && (cd "$dir/root" && apt-get -qq download qemu-system-riscv/$release qemu-system-x86/$release \
	qemu-system-common/$release qemu-system-data/$release opensbi/$release seabios/$release) || {
	echo "quire: QEMU of $release cannot be had" >&2
	exit 1
}
for deb in "$dir"/root/*.deb; do
	dpkg-deb -x "$deb" "$dir/root"
	rm -f "$deb"
done
for arch in x86_64 riscv64; do
	cat >"$dir/bin/qemu-system-$arch" <<-END
	#!/bin/sh
	export QEMU_MODULE_DIR="$(echo "$dir"/root/usr/lib/*/qemu)"
	exec "$dir/root/usr/bin/qemu-system-$arch" -L "$dir/root/usr/share/qemu" -L "$dir/root/usr/share/seabios" "\$@"
	END
	chmod +x "$dir/bin/qemu-system-$arch"
	"$dir/bin/qemu-system-$arch" --version
done
: >"$dir/unpacked"

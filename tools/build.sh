#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# build.sh DIR [meson options]: configure DIR if it is not yet, then build it.
set -eu
cd "$(dirname "$0")/.."
dir=$1
shift
# The distribution's meson and python first: a wrapper earlier in PATH may
# belong to a python that has no meson.
PATH=/usr/bin:$PATH
export PATH
if [ ! -f "$dir/build.ninja" ]; then
	echo "quire: configuring $dir"
	rm -rf "$dir/meson-private" # of a setup that did not end; kernel-*, images and results of other targets stay
	meson setup "$dir" "$@"
fi
echo "quire: building $dir"
exec ninja -C "$dir"

#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# embed.sh SOURCE BUILD: examples/embed, a separate port, is built only from the files that `meson install` installs for
# the core, and runs; and the public headers of libquire and of the core are apart.
set -eu
source=$1
build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
meson=$(command -v /usr/bin/meson || command -v meson)

"$meson" install -C "$build" --no-rebuild --quiet --destdir "$work/root"
pc=$(find "$work/root" -name quire-core.pc)
[ -n "$pc" ] || { echo "no quire-core.pc was installed"; exit 1; }
export PKG_CONFIG_PATH="${pc%/*}" PKG_CONFIG_SYSROOT_DIR="$work/root"
flags=$(pkg-config --cflags --libs quire-core)

mkdir "$work/embed"
cp "$source"/examples/embed/*.[ch] "$work/embed"
cd "$work/embed"
# shellcheck disable=SC2086
${CC:-cc} -std=c17 -Wall -Wextra -Wno-unused-parameter -Werror -o embed ./*.c $flags
./embed
echo '#include <quire/machine.h>' >core.c
echo '#include <quire/quire.h>' >lib.c
# shellcheck disable=SC2046
if ${CC:-cc} -E core.c $(pkg-config --cflags quire) >/dev/null 2>&1; then
	echo "libquire's users see the core's headers"
	exit 1
fi
# shellcheck disable=SC2046
if ${CC:-cc} -E lib.c $(pkg-config --cflags quire-core) >/dev/null 2>&1; then
	echo "the core's users see libquire's header"
	exit 1
fi

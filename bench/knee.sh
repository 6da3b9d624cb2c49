#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# knee.sh [options of knee.py]: how programs slow down as their memory shrinks, beside the kernel's zram. Needs root for the kernel's part.
set -eu
cd "$(dirname "$0")/.."
case " $* " in
*" --quick "* | *" --draw "*) ;;
*) sh tools/setup.sh qemu-user nodejs openjdk-17-jdk-headless ;;
esac
exec "$(sh tools/python.sh)" bench/knee.py "$@"

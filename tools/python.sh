#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Name the python3 to use: the distribution's own where there is one, so that
# every machine runs the same program and no wrapper script stands in between.
if [ -x /usr/bin/python3 ]; then
	echo /usr/bin/python3
else
	command -v python3 || { echo "quire: no python3; run tools/setup.sh" >&2; exit 1; }
fi

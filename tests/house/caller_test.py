#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A helper that fails names the line of the test that called it: caller_test.py CALLER_FAILS SOURCE_OF_IT"""

import subprocess
import sys

program, source = sys.argv[1:3]
with open(source) as f:
    line = next(n for n, text in enumerate(f, 1) if "/* this line */" in text)
p = subprocess.run([program], capture_output=True, text=True, check=False)
if p.returncode != 1 or "caller_fails.c:%d: error" % line not in p.stdout + p.stderr:
    sys.exit("status %d, line %d is not named: %s%s" % (p.returncode, line, p.stdout, p.stderr))

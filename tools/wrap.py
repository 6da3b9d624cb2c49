# SPDX-License-Identifier: BSD-2-Clause
"""wrap.py FILE...: clang-format over the lines that are longer than the limit, and nothing else."""

import subprocess
import sys

LIMIT = 100


def main():
    for name in sys.argv[1:]:
        with open(name) as f:
            long = [i for i, line in enumerate(f, 1) if len(line.rstrip("\n").expandtabs(8)) > LIMIT]
        if long:
            subprocess.run(["clang-format", "-i"] + ["--lines=%d:%d" % (i, i) for i in long] + [name], check=True)


main()

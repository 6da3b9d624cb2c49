#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs a test while two other processes keep the machine busy, with work and with memory: loaded.py TEST [ARG ...]"""

import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import tidy

BUSY = "b = bytearray(16 << 20)\nwhile True: b[::64] = bytes(len(b) // 64)"


def main():
    busy = [subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.DEVNULL) for _ in range(2)]
    status = subprocess.call([sys.executable] + sys.argv[1:])
    early = [p for p in busy if p.poll() is not None]
    if early:
        print("loaded: the load has ended by itself")
    return status or len(early)


if __name__ == "__main__":
    tidy.leave_nothing()
    sys.exit(main())

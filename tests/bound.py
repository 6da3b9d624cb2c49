# SPDX-License-Identifier: BSD-2-Clause
"""The longest time that a test waits for a program. It ends a program that hangs, and judges no speed.

QUIRE_TEST_SLOWNESS in the environment multiplies it, where a build makes programs slower (tools/coverage.sh)."""
import os


def bound(seconds):
    """That many seconds of a plain build, in seconds of this one."""
    return seconds * float(os.environ.get("QUIRE_TEST_SLOWNESS", "1"))

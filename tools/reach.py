# SPDX-License-Identifier: BSD-2-Clause
"""Programs where other users can reach them: a checkout in a home folder is closed to them."""

import os
import shutil

WITH_QUIRE = ("libquire-run.so", "quire-far")     # what it looks for beside itself


def others_enter(path):
    """Whether every user may enter each folder above the file."""
    folder = os.path.dirname(os.path.realpath(path))
    while True:
        if not os.stat(folder).st_mode & 0o001:
            return False
        if folder == "/":
            return True
        folder = os.path.dirname(folder)


def reachable(folder, program):
    """The program's absolute path or, where other users cannot reach it, that of a copy in folder, which is opened to them."""
    program = os.path.abspath(program)
    if others_enter(program):
        return program
    os.chmod(folder, 0o755)
    beside = WITH_QUIRE if os.path.basename(program) == "quire" else ()
    for path in [program] + [os.path.join(os.path.dirname(program), name) for name in beside]:
        if os.path.exists(path):
            shutil.copy(path, folder)
    return os.path.join(folder, os.path.basename(program))

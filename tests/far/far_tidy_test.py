# SPDX-License-Identifier: BSD-2-Clause
"""A test of far swap that is ended by a signal leaves no folder and no server: far_tidy_test.py QUIRE-FAR FAR-DRIVE"""
import os
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from far_hosted import processes_where  # noqa: E402
from far_servers import have, wait_until  # noqa: E402


def servers(folder):
    """Processes with a current directory in the folder."""
    return processes_where(lambda p: os.readlink(p + "/cwd").startswith(folder))


if have("redis-server", "redis-cli"):
    print("skipped: redis-server is not installed")
    sys.exit(77)
here = os.path.dirname(os.path.abspath(__file__))
for number in (signal.SIGTERM, signal.SIGKILL):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        p = subprocess.Popen([sys.executable, os.path.join(here, "far_test.py"), *sys.argv[1:3], "redis_gone_for_good_is_given_up"],
                             env=dict(os.environ, TMPDIR=folder), stdout=subprocess.DEVNULL)
        assert wait_until(lambda: servers(folder)), "no server was started"
        p.send_signal(number)
        p.wait()
        assert wait_until(lambda: not servers(folder) and not os.listdir(folder)), \
            "%s left %s, %s" % (number.name, servers(folder), os.listdir(folder))
print("nothing is left")

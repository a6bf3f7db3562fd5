"""Start a command as a terminal would, whatever the tests were started from."""

import signal
import subprocess
import sys


def started(code: str, *typed: str) -> "subprocess.Popen[str]":
    """Run Python code with these arguments; Ctrl-C (SIGINT) reaches it as from a terminal."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *typed],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts a job in the background has it ignore SIGINT, and so its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

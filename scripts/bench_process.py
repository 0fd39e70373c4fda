"""Processes of scripts/bench: nothing of them is left when it ends."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys


class Broken(Exception):
    """A command that failed, with what it said last."""


@contextlib.contextmanager
def started(command, **options):
    """A process with all its descendants in a group, of which nothing is left at the end."""
    process = subprocess.Popen([str(word) for word in command], start_new_session=True, **options)
    try:
        yield process
    finally:
        if process.returncode is None:  # not yet waited for, so that the number is still its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run(command, environment=None):
    """The standard output of a command that must succeed."""
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                 env=environment) as process:
        output, errors = process.communicate()
    if process.returncode != 0:
        lines = errors.strip().splitlines() or [f"exit code {process.returncode}"]
        raise Broken(f"{pathlib.Path(str(command[0])).name} {command[1]}: {lines[-1]}")
    return output


def answer(command):
    """The JSON object that is the last line of a command's standard output."""
    return json.loads(run(command).strip().splitlines()[-1])


def say(line):
    print(line, file=sys.stderr, flush=True)

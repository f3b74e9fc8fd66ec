"""Functions that do what a session must survive (called by test/bridge-session.test.ts)."""

import os
import signal
import subprocess
import sys
import time

from lockstep.errors import LockstepError


def echo(value):
    return value


def not_a_number():
    return {"loss": float("nan")}


def infinite():
    return [1.0, float("inf")]


def refuse():
    raise LockstepError("LS_TEST_REFUSED", "expected tea, got coffee", "brew tea", "cup")


def fail():
    return {}["nothing"]


def leave():
    sys.exit(7)


def interrupt():
    raise KeyboardInterrupt


def die():
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    return "alive"


def sleep(seconds):
    time.sleep(seconds)
    return seconds


def noise():
    print('{"r": 10000, "key": "int", "val": NaN}', flush=True)
    print("noise", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-c", "print('noise of a child')"], check=True)
    return "done"


def environment(name):
    return os.environ.get(name)


def path_entries():
    return sys.path


_calls = []


def record(index):
    _calls.append(index)
    return list(_calls)


def text(length):
    return "é\u2028\n" * length


def surrogate():
    return "a\ud800b"

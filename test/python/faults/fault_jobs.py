"""A job with one fault a name (run by test/bridge-job.test.ts)."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

from lockstep import job
from lockstep.errors import LockstepError


def run(description):
    fault = description["fault"]
    if fault == "none":
        for index in range(description.get("events", 3)):
            print("noise on stdout", index)
            job.emit("progress", step=index, text="é\u2028")
        return {
            "steps": description.get("events", 3),
            "got": description.get("payload"),
        }
    if fault == "nan":
        job.emit("progress", loss=float("nan"), deep={"a": [float("inf"), 1.5]})
        return {"loss": float("-inf")}
    if fault == "threads":

        def work(thread):
            for index in range(250):
                job.emit("progress", thread=thread, index=index, pad="x" * 3000)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {}
    if fault == "refuse":
        raise LockstepError("LS_TEST_REFUSED", "expected tea, got coffee", "brew tea", "cup")
    if fault == "raise":
        raise RuntimeError("the kettle is empty")
    if fault == "kill":
        print("about to go", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "exit":
        print("left early", file=sys.stderr, flush=True)
        os._exit(5)
    if fault == "silent-exit":
        os._exit(0)
    if fault == "garbage":
        os.write(3, b"not an event\n")
        return {}
    if fault == "garbage-until-cancelled":
        os.write(3, b"not an event\n")
        while not job.cancelled():
            time.sleep(0.01)
        raise LockstepError("LS_TEST_REFUSED", "expected tea, got coffee")
    if fault == "full":
        raise OSError(28, "No space left on device", "model.safetensors")
    if fault == "memory":
        raise MemoryError("cannot allocate")
    if fault == "until-cancelled":
        job.emit("ready", pid=os.getpid())
        while not job.cancelled():
            time.sleep(0.01)
        if description.get("result", True):
            return {"cancelled": True}
        job.check_cancelled()
    if fault == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        job.emit("ready", pid=os.getpid())
        time.sleep(600)
    if fault == "grandchild":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        job.emit("ready", pid=child.pid)
        return {}
    raise AssertionError(json.dumps(description))


if __name__ == "__main__":
    job.main(run)

"""The interpreter that tests start: a Python that has imported PyTorch and transformers already.

It asks ``server.py`` for a fork with the same arguments, folder, environment, limits and open
files, hands signals on to it, and ends as it ends. If it is killed, so is the fork; if its parent
ends, the fork gets SIGTERM. Where a fork could differ from a new process, it becomes the real
interpreter.

It is started hundreds of times: it imports only what is quick to import.
"""

import _signal as signal
import _socket
import array
import marshal
import posix
import resource
import select
import sys

REAL, ADDRESS = "@REAL@", "@ADDRESS@"
FORWARDED = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2),
)


def cold():
    posix.execv(REAL, [REAL, *sys.argv[1:]])


def parse(arguments):
    """``{"unbuffered", "kind", "what", "arguments"}``; None for options that a fork cannot have."""
    unbuffered = False
    rest = list(arguments)
    while rest and rest[0] == "-u":
        unbuffered = True
        del rest[0]
    if not rest:
        return None
    if rest[0] in ("-m", "-c"):
        if len(rest) < 2:
            return None
        kind, what, rest = rest[0], rest[1], rest[2:]
    elif rest[0].startswith("-"):
        return None
    else:
        kind, what, rest = "script", rest[0], rest[1:]
    return {"unbuffered": unbuffered, "kind": kind, "what": what, "arguments": rest}


def open_files():
    found = []
    for name in posix.listdir("/proc/self/fd"):
        try:
            posix.fstat(int(name))
        except OSError:  # the listing's own
            continue
        if int(name) <= 2 or posix.get_inheritable(int(name)):
            found.append(int(name))
    return found


def main():
    request = parse(sys.argv[1:])
    files = open_files()
    if request is None or len(files) > 200:
        cold()
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        server.connect(ADDRESS)
    except OSError:
        cold()
    parent = posix.getppid()
    request["files"] = files
    request["umask"] = posix.umask(0)
    posix.umask(request["umask"])
    limits = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
    request["limits"] = {limit: resource.getrlimit(limit) for limit in limits}
    request["cwd"] = posix.getcwd()
    request["environment"] = {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, value in posix.environ.items()
    }
    text = marshal.dumps(request)
    head = len(text).to_bytes(8, "little")
    descriptors = array.array("i", files)
    server.sendmsg([head], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)])
    server.sendall(text)
    # Signals wait until there is somebody to have them.
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    answer = receive(server)
    if answer[0] != "pid":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        cold()
    pid = answer[1]
    for number in files:
        posix.close(number)

    def forward(number, _):
        try:
            posix.kill(pid, number)
        except ProcessLookupError:  # it has ended
            return

    for number in FORWARDED:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    told = False
    while not select.select([server], [], [], 0.25)[0]:
        if not told and posix.getppid() != parent:
            told = True
            forward(signal.SIGTERM, None)
    how, number = receive(server)
    if how == "signal":
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        posix.kill(posix.getpid(), number)
    posix._exit(number)


def receive(server):
    head = exactly(server, 8)
    return marshal.loads(exactly(server, int.from_bytes(head, "little")))


def exactly(server, size):
    got = b""
    while len(got) < size:
        part = server.recv(size - len(got))
        if part == b"":
            posix._exit(70)  # the server is gone
        got += part
    return got


main()

"""Speaks as much of vLLM's HTTP as the relay uses, over real sockets, and fails when it is told to.

Tokens are bytes: the next one follows from the last and its position, so that answers can be
foreseen. ``POST /fault`` sets what happens to the next completions; ``GET /seen`` tells what came.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

EOS = 256


def next_token(last: int, position: int) -> int:
    """Lower-case letters and spaces, a full stop at every eleventh position."""
    if position % 11 == 0:
        return ord(".")
    letter = (last * 7 + position * 3) % 27
    return 32 if letter == 26 else 97 + letter


class State:
    def __init__(self, options: argparse.Namespace) -> None:
        self.lock = threading.Lock()
        self.digest: str | None = options.digest
        self.architecture: str = options.architecture
        self.plugin: bool = not options.no_plugin
        self.health: bool = not options.no_health
        self.engines: int = options.engines
        self.max_len: int = options.max_len
        self.delay: float = options.delay
        self.adapters: list[dict[str, Any]] = json.loads(options.adapters)
        self.fault: dict[str, Any] = {}
        self.begun = self.running = self.completed = self.aborted = 0
        self.paths: dict[str, int] = {}
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.traces: set[str] = set()

    def take_fault(self) -> dict[str, Any]:
        with self.lock:
            if self.fault.get("times", 1) <= 0:
                return {}
            self.fault["times"] = self.fault.get("times", 1) - 1
            return dict(self.fault)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, value: Any) -> None:
        body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def note(self) -> None:
        with self.state.lock:
            paths = self.state.paths
            paths[self.path] = paths.get(self.path, 0) + 1
            self.state.keys.add(self.headers.get("authorization", ""))
            if "traceparent" in self.headers:
                self.state.traces.add(self.headers["traceparent"])

    def do_GET(self) -> None:
        self.note()
        state = self.state
        if self.path == "/health":
            return self.answer(200 if state.health else 503, "")
        if self.path == "/lockstep" and state.plugin:
            engine = {
                "digest": state.digest,
                "architecture": state.architecture,
                "pid": 1,
            }
            engines = [{"rank": i, **engine} for i in range(state.engines)]
            told = {"digest": state.digest, "version": "0.1.0", "engines": engines}
            return self.answer(200, {**told, "adapters": state.adapters})
        if self.path == "/v1/models":
            return self.answer(200, {"data": [{"id": "fake", "max_model_len": state.max_len}]})
        if self.path == "/metrics":
            return self.answer(
                200,
                "# HELP vllm:num_preemptions_total Preemptions.\n"
                "# TYPE vllm:num_preemptions_total counter\n"
                'vllm:num_preemptions_total{engine="0"} 3.0\n'
                'vllm:prefix_cache_queries_total{engine="0"} 40.0\n'
                'vllm:prefix_cache_hits_total{engine="0"} 30.0\n'
                f'vllm:num_requests_running{{engine="0"}} {state.running}\n'
                'lockstep_kv_blocks{engine="0",group="local"} 7\n'
                'lockstep_kv_bytes{engine="0"} 700\n'
                'lockstep_kv_bytes_full{engine="0"} 2100\n'
                'python_info{x="1"} 1.0\n',
            )
        if self.path == "/seen":
            return self.answer(
                200,
                {
                    "paths": state.paths,
                    "begun": state.begun,
                    "running": state.running,
                    "completed": state.completed,
                    "aborted": state.aborted,
                    "bodies": state.bodies[-50:],
                    "keys": sorted(state.keys),
                    "traces": sorted(state.traces),
                    "pid": os.getpid(),
                },
            )
        return self.answer(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        self.note()
        state = self.state
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        if self.path == "/fault":
            with state.lock:
                state.fault = body
            return self.answer(200, {})
        if self.path == "/become":
            for name, value in body.items():
                setattr(state, name, value)
            return self.answer(200, {})
        if self.path != "/v1/completions":
            return self.answer(200, {})
        with state.lock:
            state.bodies.append(body)
            state.begun += 1
            state.running += 1
        try:
            self.complete(body, state.take_fault())
            with state.lock:
                state.completed += 1
        except (BrokenPipeError, ConnectionResetError):
            with state.lock:
                state.aborted += 1
            self.close_connection = True
        finally:
            with state.lock:
                state.running -= 1

    def complete(self, body: dict[str, Any], fault: dict[str, Any]) -> None:
        kind, after = fault.get("kind"), fault.get("after", 0)
        if kind == "status":
            return self.answer(fault["status"], fault["body"])
        if kind == "drop":
            return self.drop()
        if kind == "no-http":
            self.wfile.write(b"\x00\x01 this is no HTTP\r\n\r\n")
            return self.drop()
        if not body["stream"]:
            return self.whole(body)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if kind == "tokens":
            return self.given(body, fault["token_ids"])
        last, position = body["prompt"][-1], len(body["prompt"])
        for i in range(body["max_tokens"]):
            if self.state.delay:
                time.sleep(self.state.delay)
            if kind is not None and i == after and self.fail(kind, fault):
                return
            last = next_token(last, position)
            position += 1
            if body.get("stop_token_ids") and fault.get("eos_at") == i:
                last = EOS
            ended = "stop" if last == EOS else "length" if i + 1 == body["max_tokens"] else None
            for choice in range(body.get("n", 1)):
                event = self.choice(body, choice, last, ended)
                if (body.get("stream_options") or {}).get("continuous_usage_stats"):
                    told = {"prompt_tokens": len(body["prompt"]), "completion_tokens": i + 1}
                    event["usage"] = told
                if i == 0 and choice == 0 and body.get("return_token_ids"):
                    event["choices"][0]["prompt_token_ids"] = body["prompt"]
                self.event(event)
            if last == EOS:
                break
        self.data("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def given(self, body: dict[str, Any], tokens: list[int]) -> None:
        """These tokens in one event, and the end of the text in another."""
        for new, ended, count in ([tokens, None, len(tokens)], [[EOS], "stop", len(tokens) + 1]):
            choice = {"index": 0, "token_ids": new, "finish_reason": ended, "logprobs": None}
            if ended is None:
                choice["prompt_token_ids"] = body["prompt"]
            told = {"prompt_tokens": len(body["prompt"]), "completion_tokens": count}
            self.event({"id": "cmpl-1", "choices": [choice], "usage": told})
        self.data("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def whole(self, body: dict[str, Any]) -> None:
        """Every token at once, and a layout that no policy made."""
        time.sleep(self.state.delay * body["max_tokens"])
        last, position, tokens = body["prompt"][-1], len(body["prompt"]), []
        for _ in range(body["max_tokens"]):
            last = next_token(last, position)
            tokens.append(last)
            position += 1
        choice = {
            "index": 0,
            "token_ids": tokens,
            "finish_reason": "length",
            "logprobs": None,
        }
        asked = body.get("prompt_logprobs")
        if asked is not None:
            choice["prompt_logprobs"] = [
                None
                if i == 0
                else {str((token + k) % 256): {"logprob": -1.0 - k} for k in range(asked + 1)}
                for i, token in enumerate(body["prompt"])
            ]
        told = {"segments": [[0, 7], [7, 9]], "open": [9, position]}
        answer: dict[str, Any] = {"choices": [choice]}
        if body.get("vllm_xargs", {}).get("lockstep_segments") == 1:
            answer["kv_transfer_params"] = {"lockstep": told}
        self.answer(200, answer)

    def choice(
        self, body: dict[str, Any], index: int, token: int, ended: str | None
    ) -> dict[str, Any]:
        choice: dict[str, Any] = {
            "index": index,
            "text": chr(token),
            "logprobs": None,
            "finish_reason": ended,
            "token_ids": [token],
        }
        asked = body.get("logprobs")
        if asked is not None:
            top = {f"token_id:{(token + i) % 256}": -0.5 - i for i in range(max(1, asked))}
            choice["logprobs"] = {"token_logprobs": [-0.5], "top_logprobs": [top]}
        return {"id": "cmpl-1", "choices": [choice]}

    def fail(self, kind: str, fault: dict[str, Any]) -> bool:
        """True where nothing follows."""
        if kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "drop-in-stream":
            self.drop()
            return True
        if kind == "stall":
            time.sleep(fault.get("seconds", 30))
            return False
        if kind == "early-end":
            self.wfile.write(b"0\r\n\r\n")
            return True
        if kind == "early-done":
            self.data("[DONE]")
            self.wfile.write(b"0\r\n\r\n")
            return True
        if kind == "error-event":
            self.event({"error": {"message": "EngineCore encountered an issue", "code": 500}})
            self.data("[DONE]")
            self.wfile.write(b"0\r\n\r\n")
            return True
        if kind == "abort-reason":
            aborted = {"index": 0, "token_ids": [], "finish_reason": "abort", "logprobs": None}
            self.event({"choices": [aborted]})
            return False
        if kind == "bytes":
            self.chunk(bytes.fromhex(fault["hex"]))
            return False
        if kind == "huge":
            for _ in range(40):
                self.chunk(b"x" * 1_000_000)
            return False
        return False

    def event(self, value: dict[str, Any]) -> None:
        self.data(json.dumps(value))

    def data(self, text: str) -> None:
        self.chunk(f"data: {text}\n\n".encode())

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def drop(self) -> None:
        self.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        self.connection.close()
        raise ConnectionResetError


class Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # clients that leave are the point


class UnixServer(Server):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)

    def get_request(self) -> tuple[Any, Any]:
        connection, _ = self.socket.accept()
        return connection, ("unix", 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--uds", help="listen on this Unix socket too")
    parser.add_argument("--digest")
    parser.add_argument("--digest-file", help="read at the start, before --digest")
    parser.add_argument("--architecture", default="SegmentedLlamaForCausalLM")
    parser.add_argument("--no-plugin", action="store_true")
    parser.add_argument("--no-health", action="store_true")
    parser.add_argument("--engines", type=int, default=1)
    parser.add_argument("--max-len", type=int, default=4096)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--adapters", default="[]", help="what it says of its adapters, in JSON")
    parser.add_argument("--engine-process", action="store_true", help="start a stubborn child")
    parser.add_argument("--crash-at-start", help="print this and exit with 1")
    parser.add_argument("--crash-unless", help="exit with 1 while this file does not exist")
    options = parser.parse_args()
    if options.crash_at_start is not None:
        print(options.crash_at_start.replace("\\n", "\n"), file=sys.stderr)
        sys.exit(1)
    if options.crash_unless is not None and not os.path.exists(options.crash_unless):
        sys.exit(1)
    if options.engine_process:
        code = (
            "import os, signal, time\n"
            "signal.signal(15, signal.SIG_IGN); os.setsid(); time.sleep(600)"
        )
        engine = subprocess.Popen([sys.executable, "-c", code])
        print(f"engine {engine.pid}", flush=True)
    if options.digest_file is not None:
        options.digest = Path(options.digest_file).read_text()
    Handler.state = State(options)
    server = Server(("127.0.0.1", options.port), Handler)
    print(f"pid {os.getpid()}", flush=True)
    if options.uds is not None:
        unix = UnixServer(options.uds, Handler)
        threading.Thread(target=unix.serve_forever, daemon=True).start()
    print(f"listening {server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

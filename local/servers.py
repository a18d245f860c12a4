"""The local AWS of the demo and the tests: SQS (LocalStack) and Lambda's Runtime API (cargo-lambda), on 127.0.0.1 only.

As a module: `with LocalAws() as aws:` gives `aws.sqs_url` and `aws.lambda_url`.
As a program it starts both, prints one line, `{"sqs": "http://127.0.0.1:PORT", "lambda": "http://127.0.0.1:PORT"}`, and ends
them when its standard input ends: however the process that holds the other end goes, the servers go too.

A function is any binary started with `AWS_LAMBDA_RUNTIME_API=<lambda>/.rt/<name>`, invoked by a POST of the event to
`<lambda>/2015-03-31/functions/<name>/invocations`. Names are those in FUNCTION_NAMES; several may run at once.
"""

from __future__ import annotations

import ctypes
import filecmp
import http.client
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv" / "local"
REQUIREMENTS = ROOT / "local" / "requirements.txt"
# The emulator answers for names that are binaries of a Cargo project only, so it is given a project made of names.
FUNCTION_NAMES = ["sqs-auto-redrive", *(f"function-{number}" for number in range(1, 65))]
# What a function is told of itself: the emulator alone would call it `function-arn`, with a deadline in 1970.
FUNCTION_ARN = "arn:aws:lambda:us-east-1:123456789012:function:sqs-auto-redrive"
FUNCTION_SECONDS = 60
START_SECONDS = 60.0
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StartError(Exception):
    """The servers did not come up. The text is for people."""


class PortTaken(Exception):
    """Someone took the port between our choosing and our using it: worth another try."""


class LocalAws:
    """Both servers and a temporary folder, for as long as the `with` block lasts."""

    def __init__(self) -> None:
        self.sqs_url = ""
        self.lambda_url = ""
        self._children: list[subprocess.Popen[bytes]] = []
        self._front: Front | None = None
        self._temporary = tempfile.TemporaryDirectory(prefix="local-aws-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)

    def __enter__(self) -> LocalAws:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def spawn(self, command: list[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        """Starts a process that ends with the `with` block; what it prints goes to `log`.

        It gets a session of its own, so that Ctrl-C reaches this process alone, which then ends everything in order.
        """
        with log.open("wb") as output:
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )
        self._children.append(child)
        return child

    def _start(self) -> None:
        installed = VENV / "installed.txt"
        if not installed.is_file() or not filecmp.cmp(installed, REQUIREMENTS, shallow=False):
            raise StartError("the Python packages of the local AWS are missing or out of date: run `make setup`")
        for _ in range(3):
            try:
                return self._start_on(_free_port(), _free_port())
            except PortTaken:
                self._end_children()
        raise StartError("the ports of the local AWS were taken by others, three times in a row")

    def _start_on(self, sqs_port: int, lambda_port: int) -> None:
        sqs_log, lambda_log = self.folder / "localstack.log", self.folder / "cargo-lambda.log"
        localstack = self.spawn(
            [str(VENV / "bin" / "python"), "-m", "localstack.runtime.main"], _localstack_env(sqs_port, self.folder), sqs_log
        )
        emulator = self.spawn(
            [str(VENV / "bin" / "cargo-lambda"), "lambda", "watch", "--only-lambda-apis"]
            + ["--manifest-path", str(_project_of_names(self.folder))]
            + ["--invoke-address", "127.0.0.1", "--invoke-port", str(lambda_port)],
            {name: value for name, value in os.environ.items() if not name.startswith("CARGO_LAMBDA_")},
            lambda_log,
        )
        deadline = time.monotonic() + START_SECONDS
        _wait_for(localstack, sqs_port, sqs_log, deadline, lambda: _localstack_answers(sqs_port, sqs_log))
        _wait_for(emulator, lambda_port, lambda_log, deadline, lambda: _emulator_answers(lambda_port))
        self._front = Front(lambda_port)
        self.sqs_url, self.lambda_url = f"http://127.0.0.1:{sqs_port}", f"http://127.0.0.1:{self._front.port}"

    def _stop(self) -> None:
        if self._front:
            self._front.stop()
        self._end_children()
        self._temporary.cleanup()

    def _end_children(self) -> None:
        """Kills, since a polite end takes seconds; all they would keep is in the temporary folder anyway."""
        for child in self._children:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
        self._children.clear()


class Front(socketserver.ThreadingTCPServer):
    """Stands before the emulator, passes everything on, and corrects what it tells a function of itself."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, emulator_port: int) -> None:
        super().__init__(("127.0.0.1", 0), FrontConnection)
        self.port: int = self.server_address[1]
        self.emulator_port = emulator_port
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)  # its threads inherit this: signals wake the main thread
        self.thread.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop(self) -> None:
        self.shutdown()
        self.thread.join()
        self.socket.close()


class FrontConnection(socketserver.BaseRequestHandler):
    """One connection. When either side closes, so does the other: the emulator must not hand an event to a function that left."""

    def handle(self) -> None:
        assert isinstance(self.server, Front)
        with socket.create_connection(("127.0.0.1", self.server.emulator_port)) as emulator:
            requests = threading.Thread(target=self._pass_on, args=(self.request, emulator, bytes), daemon=True)
            requests.start()
            self._pass_on(emulator, self.request, self._correct)
            requests.join()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(change(data))
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    @staticmethod
    def _correct(data: bytes) -> bytes:
        deadline = int((time.time() + FUNCTION_SECONDS) * 1000)
        data = data.replace(b"lambda-runtime-deadline-ms: 600000\r\n", b"lambda-runtime-deadline-ms: %d\r\n" % deadline)
        arn = b"lambda-runtime-invoked-function-arn: "
        return data.replace(arn + b"function-arn\r\n", arn + FUNCTION_ARN.encode() + b"\r\n")


def _localstack_env(port: int, folder: Path) -> dict[str, str]:
    """An environment made from nothing, so that no setting of the person's own LocalStack or AWS gets in."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TEMP": str(folder),
        "GATEWAY_SERVER": "hypercorn",  # the other one listens on all interfaces
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_HOST": f"127.0.0.1:{port}",
        "SQS_ENDPOINT_STRATEGY": "path",
        "DISABLE_EVENTS": "1",  # no usage statistics
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DNS_ADDRESS": "0",
        "FILESYSTEM_ROOT": str(folder / "localstack"),
    }


def _project_of_names(folder: Path) -> Path:
    """Writes a Cargo project whose binaries are FUNCTION_NAMES; it is read, and never built."""
    manifest = folder / "Cargo.toml"
    bins = "".join(f'[[bin]]\nname = "{name}"\npath = "main.rs"\n' for name in FUNCTION_NAMES)
    manifest.write_text(f'[package]\nname = "functions"\nedition = "2021"\n[workspace]\n{bins}')
    return manifest


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path, deadline: float, answers: Callable[[], bool]) -> None:
    """Returns once the server answers."""
    while not answers() or server.poll() is not None:
        ended = server.poll() is not None
        if ended and not _is_free(port):
            raise PortTaken
        if ended or time.monotonic() > deadline:
            what = f"ended with status {server.returncode}" if ended else f"did not answer within {START_SECONDS:.0f} s"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
            raise StartError(f"a server of the local AWS {what}; the end of {log.name}:\n{tail}")
        time.sleep(0.05)


def _localstack_answers(port: int, log: Path) -> bool:
    """Asks with a real call, the cheapest: LocalStack puts off loading its SQS until the first."""
    logged = log.read_bytes()
    if b"Ready." not in logged:
        return False
    if b"Running on" not in logged:  # someone else has its port, and it does not mind
        raise PortTaken
    headers = {
        "X-Amz-Target": "AmazonSQS.ListQueues",
        "Content-Type": "application/x-amz-json-1.0",
        "Authorization": "AWS4-HMAC-SHA256 Credential=123456789012/20260101/us-east-1/sqs/aws4_request, SignedHeaders=, Signature=",
    }
    return _status(port, "POST", "/", "{}", headers) == 200


def _emulator_answers(port: int) -> bool:
    """A known path with the wrong method: any unknown path would be queued as an invocation and never answered."""
    return _status(port, "GET", "/.rt/2018-06-01/runtime/init/error") == 405


def _status(port: int, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


def _is_free(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the past do not count
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _die_with_parent() -> Callable[[], None] | None:
    """What a child runs first to be killed when this process dies, even by SIGKILL. Linux alone can do that."""
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()
    set_parent_death_signal = 1

    def ask() -> None:
        libc.prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:  # died in the meantime
            os._exit(1)

    return ask


def exit_on_signals() -> None:
    """Makes the first ending signal unwind the program, so that `with` blocks clean up, and later ones not disturb that."""

    def unwind(received: int, _: object) -> None:
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt if received == signal.SIGINT else SystemExit(128 + received)

    for number in ENDING_SIGNALS:
        signal.signal(number, unwind)


def main() -> int:
    exit_on_signals()
    try:
        with LocalAws() as aws:
            print(json.dumps({"sqs": aws.sqs_url, "lambda": aws.lambda_url}), flush=True)
            while sys.stdin and os.read(sys.stdin.fileno(), 4096):
                pass
    except StartError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

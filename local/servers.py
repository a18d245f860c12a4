"""The local AWS of the demo and the tests: SQS (LocalStack), Lambda's Runtime API (cargo-lambda) and CloudWatch (MiniStack).

All listen on 127.0.0.1 only. As a module: `with LocalAws() as aws:` gives `aws.sqs_url` and `aws.lambda_url`;
`LocalAws(cloudwatch=True)` gives `aws.cloudwatch_url` too, which the demo does without.
As a program it starts all three, prints one line, `{"sqs": URL, "lambda": URL, "cloudwatch": URL}`, each `http://127.0.0.1:PORT`,
and ends them when its standard input ends: however the process that holds the other end goes, the servers go too.

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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv" / "local"
REQUIREMENTS = ROOT / "local" / "requirements.txt"
# The emulator answers for names that are binaries of a Cargo project only, so it is given a project made of names.
FUNCTION_NAMES = ["sqs-auto-redrive", *(f"function-{number}" for number in range(1, 129))]
START_SECONDS = 60.0
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StartError(Exception):
    """The servers did not come up. The text is for people."""


class PortTaken(Exception):
    """Someone took the port between our choosing and our using it: worth another try."""


class LocalAws:
    """The servers and a temporary folder, for as long as the `with` block lasts."""

    def __init__(self, cloudwatch: bool = False) -> None:
        self.sqs_url = ""
        self.lambda_url = ""
        self.cloudwatch_url = ""
        self._cloudwatch = cloudwatch
        self._children: list[subprocess.Popen[bytes]] = []
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
                return self._start_on(*_free_ports(3))
            except PortTaken:
                self._end_children()
        raise StartError("the ports of the local AWS were taken by others, three times in a row")

    def _start_on(self, sqs_port: int, lambda_port: int, cloudwatch_port: int) -> None:
        """Starts all, then waits for each: they come up side by side."""
        sqs_log, lambda_log, cloudwatch_log = (self.folder / f"{name}.log" for name in ("localstack", "cargo-lambda", "ministack"))
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
        if self._cloudwatch:
            ministack = self.spawn(
                [str(VENV / "bin" / "python"), "-m", "ministack"], _ministack_env(cloudwatch_port, sqs_port, self.folder), cloudwatch_log
            )
            _wait_for(ministack, cloudwatch_port, cloudwatch_log, deadline, lambda: _ministack_answers(cloudwatch_port, cloudwatch_log))
            self.cloudwatch_url = f"http://127.0.0.1:{cloudwatch_port}"
        _wait_for(localstack, sqs_port, sqs_log, deadline, lambda: _localstack_answers(sqs_port, sqs_log))
        _wait_for(emulator, lambda_port, lambda_log, deadline, lambda: _emulator_answers(lambda_port))
        self.sqs_url, self.lambda_url = f"http://127.0.0.1:{sqs_port}", f"http://127.0.0.1:{lambda_port}"

    def _stop(self) -> None:
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


def _ministack_env(port: int, sqs_port: int, folder: Path) -> dict[str, str]:
    """As for LocalStack, made from nothing. Its functions inherit it."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        # SQS because its tagging API knows its own queues only.
        "SERVICES": "cloudwatch,sqs,tagging,cloudformation,s3,iam,kms,lambda,logs,sns,events,scheduler",
        # Where the functions that it runs find AWS: here, but SQS there, since it has no message move tasks.
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:{sqs_port}",
        "IOT_MTLS_ENABLED": "0",  # it would listen, on all interfaces
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",  # it would remove containers of its own from earlier runs
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


def _ministack_answers(port: int, log: Path) -> bool:
    """Its own log tells that it is not someone else who answers."""
    if b"Running on" not in log.read_bytes():
        return False
    headers = {"X-Amz-Target": "GraniteServiceVersion20100801.DescribeAlarms", "Content-Type": "application/x-amz-json-1.0"}
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


def _free_ports(count: int) -> list[int]:
    """All chosen before any is let go, or two could be the same."""
    chosen = [socket.socket() for _ in range(count)]
    try:
        for one in chosen:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in chosen]
    finally:
        for one in chosen:
            one.close()


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
        with LocalAws(cloudwatch=True) as aws:
            print(json.dumps({"sqs": aws.sqs_url, "lambda": aws.lambda_url, "cloudwatch": aws.cloudwatch_url}), flush=True)
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

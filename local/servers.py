"""The local AWS for the demo and the tests.

It consists of SQS (LocalStack), Lambda's Runtime API (cargo-lambda) and CloudWatch (MiniStack). All servers listen on
127.0.0.1 only.

As a module: `with LocalAws() as aws:` provides `aws.sqs_url`, `aws.lambda_url` and `aws.cloudwatch_url`.

As a program, it starts all three servers and prints one line, `{"sqs": URL, "lambda": URL, "cloudwatch": URL}`. Each
URL is `http://127.0.0.1:PORT`. It stops the servers when its standard input ends, so they stop no matter how the
process at the other end of the pipe ends.

To run a function, start its binary with `AWS_LAMBDA_RUNTIME_API=<lambda>/.rt/<name>`. To invoke it, POST the event to
`<lambda>/2015-03-31/functions/<name>/invocations`. The name must be one of FUNCTION_NAMES. Several functions can run
concurrently.
"""

from __future__ import annotations

import contextlib
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
# The emulator only accepts names of binaries in a Cargo project, so it gets a project with these names.
FUNCTION_NAMES = ["sqs-auto-redrive", *(f"function-{number}" for number in range(1, 129))]
START_SECONDS = 60.0
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StartError(Exception):
    """The servers did not start. The text is for people."""


class PortTakenError(Exception):
    """Another process took the port after it was chosen: worth another try."""


class LocalAws:
    """The servers and a temporary folder, for the duration of the `with` block."""

    def __init__(self) -> None:
        self.sqs_url = ""
        self.lambda_url = ""
        self.cloudwatch_url = ""
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
        """Starts a process that is stopped at the end of the `with` block. Its output goes to `log`.

        It gets its own session, so Ctrl-C reaches only this process, which then stops everything in order.
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
            raise StartError("the Python packages of the local AWS are missing or outdated: run `make setup`")
        for _ in range(3):
            try:
                return self._start_on(*_free_ports(3))
            except PortTakenError:
                self._end_children()
        raise StartError("other processes took the ports of the local AWS three times in a row: try again")

    def _start_on(self, sqs_port: int, lambda_port: int, cloudwatch_port: int) -> None:
        """Starts all servers in parallel, then waits for each."""
        programs, folder = VENV / "bin", self.folder
        servers = ("localstack", "cargo-lambda", "ministack")
        sqs_log, lambda_log, cloudwatch_log = (folder / f"{server}.log" for server in servers)
        localstack = self.spawn(
            [str(programs / "python"), "-m", "localstack.runtime.main"], _localstack_env(sqs_port, folder), sqs_log
        )
        emulator = self.spawn(
            [
                *(str(programs / "cargo-lambda"), "lambda", "watch", "--only-lambda-apis"),
                *("--manifest-path", str(_project_of_names(folder))),
                *("--invoke-address", "127.0.0.1", "--invoke-port", str(lambda_port)),
            ],
            {name: value for name, value in os.environ.items() if not name.startswith("CARGO_LAMBDA_")},
            lambda_log,
        )
        deadline = time.monotonic() + START_SECONDS
        ministack = self.spawn(
            [str(programs / "python"), "-m", "ministack"],
            _ministack_env(cloudwatch_port, sqs_port, folder),
            cloudwatch_log,
        )

        def ministack_answers() -> bool:
            return _ministack_answers(cloudwatch_port, cloudwatch_log)

        _wait_for(ministack, cloudwatch_port, cloudwatch_log, deadline, ministack_answers)
        self.cloudwatch_url = f"http://127.0.0.1:{cloudwatch_port}"
        _wait_for(localstack, sqs_port, sqs_log, deadline, lambda: _localstack_answers(sqs_port, sqs_log))
        _wait_for(emulator, lambda_port, lambda_log, deadline, lambda: _emulator_answers(lambda_port))
        self.sqs_url, self.lambda_url = f"http://127.0.0.1:{sqs_port}", f"http://127.0.0.1:{lambda_port}"

    def _stop(self) -> None:
        self._end_children()
        self._temporary.cleanup()

    def _end_children(self) -> None:
        """Kills the servers: a clean shutdown takes seconds, and all their data is in the temporary folder anyway."""
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        self._children.clear()


def _localstack_env(port: int, folder: Path) -> dict[str, str]:
    """A new environment, so the user's own settings for LocalStack or AWS have no effect."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TEMP": str(folder),
        "GATEWAY_SERVER": "hypercorn",  # the other server listens on all interfaces
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_HOST": f"127.0.0.1:{port}",
        "SQS_ENDPOINT_STRATEGY": "path",
        "DISABLE_EVENTS": "1",  # no usage statistics
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DNS_ADDRESS": "0",
        "FILESYSTEM_ROOT": str(folder / "localstack"),
    }


def _ministack_env(port: int, sqs_port: int, folder: Path) -> dict[str, str]:
    """A new environment, as for LocalStack. The functions that MiniStack runs inherit it."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        # SQS is in the list because MiniStack's tagging API knows only its own queues.
        "SERVICES": "cloudwatch,sqs,tagging,cloudformation,s3,iam,sts,kms,lambda,logs,sns,events,scheduler",
        # The functions use MiniStack, except for SQS: only LocalStack has message move tasks.
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:{sqs_port}",
        "IOT_MTLS_ENABLED": "0",  # it would listen on all interfaces
        "SFTP_ENABLED": "0",
        # No Docker, because MiniStack would remove containers of its earlier runs.
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
    }


def _project_of_names(folder: Path) -> Path:
    """Writes a Cargo project whose binaries are FUNCTION_NAMES. The emulator reads it but never builds it."""
    manifest = folder / "Cargo.toml"
    bins = "".join(f'[[bin]]\nname = "{name}"\npath = "main.rs"\n' for name in FUNCTION_NAMES)
    manifest.write_text(f'[package]\nname = "functions"\nedition = "2021"\n[workspace]\n{bins}')
    return manifest


def _wait_for(
    server: subprocess.Popen[bytes], port: int, log: Path, deadline: float, answers: Callable[[], bool]
) -> None:
    """Waits until the server answers. Raises StartError at the deadline or if the server ends."""
    while not answers() or server.poll() is not None:
        ended = server.poll() is not None
        if ended and not _is_free(port):
            raise PortTakenError
        if ended or time.monotonic() > deadline:
            what = f"ended with status {server.returncode}" if ended else f"did not answer within {START_SECONDS:.0f} s"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
            raise StartError(f"a server of the local AWS {what}; the last lines of {log.name}:\n{tail}")
        time.sleep(0.05)


def _localstack_answers(port: int, log: Path) -> bool:
    """Makes the cheapest real call, because LocalStack loads its SQS only on the first call."""
    logged = log.read_bytes()
    if b"Ready." not in logged:
        return False
    if b"Running on" not in logged:  # another process has the port, and LocalStack does not report that
        raise PortTakenError
    headers = {
        "X-Amz-Target": "AmazonSQS.ListQueues",
        "Content-Type": "application/x-amz-json-1.0",
        "Authorization": (
            "AWS4-HMAC-SHA256 Credential=123456789012/20260101/us-east-1/sqs/aws4_request, SignedHeaders=, Signature="
        ),
    }
    return _status(port, "POST", "/", "{}", headers) == 200


def _ministack_answers(port: int, log: Path) -> bool:
    """Reads the log too, because another process could answer on the port."""
    if b"Running on" not in log.read_bytes():
        return False
    headers = {
        "X-Amz-Target": "GraniteServiceVersion20100801.DescribeAlarms",
        "Content-Type": "application/x-amz-json-1.0",
    }
    return _status(port, "POST", "/", "{}", headers) == 200


def _emulator_answers(port: int) -> bool:
    """Uses the wrong method on a known path. The emulator would queue an unknown path as an invocation."""
    return _status(port, "GET", "/.rt/2018-06-01/runtime/init/error") == 405


def _status(
    port: int, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None
) -> int | None:
    """The status code of the response, or None without a response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _free_ports(count: int) -> list[int]:
    """Chooses all ports before it releases any, so they all differ."""
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
        # Ignore earlier connections that are still closing.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _die_with_parent() -> Callable[[], None] | None:
    """A function that a child runs first, so that it is killed when this process dies, even by SIGKILL. Linux only."""
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()
    set_parent_death_signal = 1

    def ask() -> None:
        libc.prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:  # the parent has died in the meantime
            os._exit(1)

    return ask


def exit_on_signals() -> None:
    """Makes the first ending signal raise an exception, so `with` blocks clean up. Later ones are ignored."""

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
            urls = {"sqs": aws.sqs_url, "lambda": aws.lambda_url, "cloudwatch": aws.cloudwatch_url}
            print(json.dumps(urls), flush=True)
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

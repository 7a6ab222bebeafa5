"""`fitloop local`: it starts, prints its addresses, refuses bad settings, and shuts down in order."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from services.cli.adapter import listen
from services.cli.local import _check_exposure, _default_host, warnings
from services.core.errors import BadConfig
from services.core.settings import AuthSettings, LabelStudioSettings, Settings
from tests.support.waiting import eventually


def environment(**more: str) -> dict[str, str]:
    """The environment without the variables of Fitloop that are set here."""
    ours = ("LABEL_STUDIO", "BASIC_AUTH", "FITLOOP", "MODEL_DIR", "LOG_LEVEL")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


class LocalProcess:
    """A `fitloop local` in a process of its own, which listens on a free port."""

    def __init__(self, folder: Path, *arguments: str, **more: str) -> None:
        self._output = (folder / f"output-{len(list(folder.iterdir()))}").open("w+")
        command = [sys.executable, "-m", "services.cli", "local", "--data", str(folder / "data"), *arguments]
        self.process = subprocess.Popen(
            command,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=environment(PYTHONUNBUFFERED="1", **more),
        )

    def output(self) -> str:
        return Path(self._output.name).read_text()

    def url(self) -> str:
        """Its address, once it answers there."""
        found = eventually(lambda: re.search(r"\(Settings > Model\) to (http://\S+)", self.output()), 90)
        assert found

        def answers() -> bool:
            assert self.process.poll() is None, self.output()
            try:
                return httpx.get(f"{found[1]}/health").is_success
            except httpx.HTTPError:
                return False

        eventually(answers, 90)
        return str(found[1])

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(90)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._output.close()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[LocalProcess]]:
    made: list[LocalProcess] = []
    yield made
    for local in made:
        local.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_exits_with_0_on_a_signal(
    tmp_path: Path, started: list[LocalProcess], number: int
) -> None:
    local = LocalProcess(tmp_path, "--port", "0")
    started.append(local)
    url = local.url()
    assert httpx.get(f"{url}/health").json()["status"] == "UP"
    assert local.end(number) == 0, local.output()
    assert "Traceback" not in local.output()
    assert "Warning: LABEL_STUDIO_API_KEY is not set" in local.output()
    assert (
        "Shutting down; training resumes from its checkpoint at the next start. Press Ctrl-C again to quit now."
        in local.output()
    )


def test_only_one_process_may_use_a_data_directory(tmp_path: Path, started: list[LocalProcess]) -> None:
    first = LocalProcess(tmp_path, "--port", "0")
    started.append(first)
    first.url()
    second = LocalProcess(tmp_path, "--port", "0")
    started.append(second)
    assert second.process.wait(90) == 1
    assert f"(process {first.process.pid}) is using {tmp_path / 'data'}" in second.output()
    assert len(second.output().splitlines()) == 1
    first.end(signal.SIGKILL)
    third = LocalProcess(tmp_path, "--port", "0")
    started.append(third)
    third.url()
    assert third.end() == 0


def test_remains_of_an_interrupted_write_are_deleted(tmp_path: Path, started: list[LocalProcess]) -> None:
    partial = tmp_path / "data" / "projects" / ".partial-x"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"half")
    os.utime(partial, (1.0, 1.0))
    local = LocalProcess(tmp_path, "--port", "0")
    started.append(local)
    local.url()
    assert not partial.exists()
    assert local.end() == 0


def test_a_port_in_use_is_one_line(tmp_path: Path, started: list[LocalProcess]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        local = LocalProcess(tmp_path, "--port", str(port))
        started.append(local)
        assert local.process.wait(90) == 1
    assert f"Port {port} on 127.0.0.1 cannot be used (Address already in use)" in local.output()
    assert len(local.output().splitlines()) == 1


def test_invalid_settings_are_reported_together(tmp_path: Path, started: list[LocalProcess]) -> None:
    local = LocalProcess(tmp_path, START_TRAINING_EACH_N_UPDATES="0", LOG_LEVEL="LOUD")
    started.append(local)
    assert local.process.wait(90) == 1
    assert "START_TRAINING_EACH_N_UPDATES" in local.output()
    assert "LOG_LEVEL" in local.output()
    assert "Traceback" not in local.output()


def test_an_unknown_host_is_an_error() -> None:
    with pytest.raises(BadConfig, match=r"is not an address of this machine .* try --host 127\.0\.0\.1"):
        listen("no.such.host.invalid", 0)


def settings(user: str = "", password: str = "", path: str = "", key: str = "key") -> Settings:
    return Settings(
        label_studio=LabelStudioSettings(api_key=SecretStr(key)),
        auth=AuthSettings(username=user, password=SecretStr(password), secret_path=path),
    )


def test_the_default_host_is_public_only_with_a_password() -> None:
    assert _default_host(settings()) == "127.0.0.1"
    assert _default_host(settings("ann", "secret")) == "0.0.0.0"  # noqa: S104  # compared, not bound


def test_warnings_name_the_settings_to_change() -> None:
    assert warnings(settings(), open_to_all=False) == []
    assert "LABEL_STUDIO_API_KEY is not set" in warnings(settings(key=""), open_to_all=False)[0]
    assert "set BASIC_AUTH_USER and BASIC_AUTH_PASS" in warnings(settings(), open_to_all=True)[0]
    assert "FITLOOP_SECRET_PATH" in warnings(settings("ann", "secret"), open_to_all=True)[0]
    assert warnings(settings("ann", "secret", "a-path-of-16-letters"), open_to_all=True) == []


@pytest.mark.parametrize("host", [None, "127.0.0.1", "127.0.0.53", "::1", "localhost", "LOCALHOST."])
def test_loopback_hosts_need_no_password(host: str | None) -> None:
    _check_exposure(settings(), host)  # must not raise


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "my-laptop.lan", "localhost.evil.example"])  # noqa: S104  # refused
def test_other_hosts_need_credentials_or_anonymous_access(host: str) -> None:
    with pytest.raises(
        BadConfig, match=r"Or omit --host to listen on 127\.0\.0\.1, which only this machine can reach\."
    ):
        _check_exposure(settings(), host)
    for auth in (settings("ann", "secret"), settings(path="a-path-of-16-letters")):
        _check_exposure(auth, host)
    _check_exposure(Settings(auth=AuthSettings(anonymous=True)), host)

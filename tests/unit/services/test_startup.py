"""Command lines, logging, and the sentences of a failing start."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kilonova.base.errors import Conflict
from kilonova.services import commandline, daemon, startup
from kilonova.services.daemon import Daemon
from kilonova.services.startup import Asked, Unconfigured


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Put the root logger back."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        if handler not in before[0]:
            handler.close()
    for handler in before[0]:
        root.addHandler(handler)
    root.setLevel(before[1])


def test_the_command_line_of_an_api(tmp_path: Path) -> None:
    argv = ["--config-file", "a", "--config-file", "b", "--config-dir", "d", "--debug"]
    argv += ["--host", "127.0.0.1", "--port", "81", "--log-file", "x.log", "--use-json"]
    asked = commandline.daemon("nova-api", "", argv, api=True)
    assert asked == Asked(
        files=(Path("a"), Path("b")),
        dirs=(Path("d"),),
        overrides={"default": {"debug": True, "use_json": True, "log_file": "x.log"}},
        host="127.0.0.1",
        port=81,
    )


def test_the_host_of_other_daemons_is_their_name() -> None:
    argv = ["--config-file", "a", "--host", "compute-7"]
    asked = commandline.daemon("nova-compute", "", argv, api=False)
    assert asked.overrides == {"default": {"host": "compute-7"}}
    assert asked.port is None


@pytest.mark.parametrize("argv", [["--port", "http"], ["--port", "65536"], ["--nonsense"], ["x"]])
def test_a_senseless_command_line_is_told(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        commandline.daemon("nova-api", "", argv, api=True)
    assert ended.value.code == 2
    assert "nova-api: error:" in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        commandline.daemon("nova-compute", "", ["--version"], api=False)
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip()[0].isdigit()


def test_a_daemon_ends_with_its_signal_and_closes_its_parts(tmp_path: Path) -> None:
    said: list[str] = []

    async def compose(made: Daemon) -> None:
        made.stack.callback(said.append, "closed")
        os.kill(os.getpid(), signal.SIGTERM)

    asked = Asked(overrides={"default": {"log_dir": str(tmp_path), "use_json": True}})
    assert daemon.main("nova-test", asked, compose) == 0
    assert said == ["closed"]
    lines = [json.loads(line) for line in (tmp_path / "nova-test.log").read_text().splitlines()]
    assert lines[0]["message"].startswith("nova-test ") and lines[0]["level"] == "INFO"


@pytest.mark.parametrize(
    "error",
    [
        Unconfigured("Set [database] connection."),
        Conflict("Set [database] connection."),
    ],
)
def test_a_failing_start_is_one_sentence(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    async def compose(made: Daemon) -> None:
        raise error

    assert daemon.main("nova-test", Asked(), compose) == 1
    assert capsys.readouterr().err.endswith("nova-test: Set [database] connection.\n")


def test_a_part_that_dies_ends_the_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    async def die() -> None:
        raise RuntimeError("out of luck")

    async def compose(made: Daemon) -> None:
        made.run(die(), name="the wheel")

    assert daemon.main("nova-test", Asked(), compose) == 1
    assert "nova-test: the wheel ended by itself (out of luck)." in capsys.readouterr().err


def test_sighup_reads_mutable_options_again(tmp_path: Path) -> None:
    file = tmp_path / "nova.conf"
    file.write_text("[DEFAULT]\nhost = a\n")
    heard: list[tuple[str, bool]] = []

    async def compose(made: Daemon) -> None:
        async def hook(settings: object) -> None:
            heard.append((made.settings.default.host, made.settings.default.debug))
            os.kill(os.getpid(), signal.SIGTERM)

        made.on_reload(hook)
        file.write_text("[DEFAULT]\nhost = b\ndebug = true\n")
        os.kill(os.getpid(), signal.SIGHUP)

    log = tmp_path / "log"
    asked = Asked(files=(file,), overrides={"default": {"log_file": str(log)}})
    assert daemon.main("nova-test", asked, compose) == 0
    assert heard == [("a", True)]
    assert "A restart is needed for changed options: [DEFAULT] host" in log.read_text()
    assert logging.getLogger().level == logging.DEBUG


def test_secrets_stay_out_of_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert startup.fail("nova-test", "No broker at rabbit://me:secret@host/.") == 1
    assert "secret" not in capsys.readouterr().err

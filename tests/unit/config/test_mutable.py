from __future__ import annotations

from pathlib import Path

from kilonova.config.settings import load, mutated


def test_only_mutable_options_are_taken_anew() -> None:
    running = load(overrides={"default": {"host": "a"}})
    read = load(overrides={"default": {"host": "b", "debug": True}})
    taken, ignored = mutated(running, read)
    assert (taken.default.host, taken.default.debug) == ("a", True)
    assert ignored == ["[DEFAULT] host"]


def test_files_of_a_directory_come_after_the_files(tmp_path: Path) -> None:
    one = tmp_path / "nova.conf"
    one.write_text("[DEFAULT]\nhost = a\nmy_ip = 10.0.0.1\n")
    more = tmp_path / "nova.conf.d"
    more.mkdir()
    (more / "10-own.conf").write_text("[DEFAULT]\nhost = b\n")
    (more / "ignored.txt").write_text("[DEFAULT]\nhost = c\n")
    read = load([one], dirs=[more])
    assert (read.default.host, read.default.my_ip) == ("b", "10.0.0.1")

from __future__ import annotations

from pathlib import Path

from kilonova.virt import consolelog


def test_the_end_of_a_long_log_across_a_cut(tmp_path: Path) -> None:
    assert consolelog.tail(tmp_path) == b""
    log = tmp_path / consolelog.FILE
    log.write_bytes(b"x" * consolelog.LIMIT + b"end")
    assert consolelog.tail(tmp_path)[-4:] == b"xend"
    consolelog.trim([tmp_path, tmp_path / "nobody"])
    assert log.stat().st_size == 0
    with log.open("ab") as more:
        more.write(b" and more")
    told = consolelog.tail(tmp_path)
    assert len(told) == consolelog.KEPT
    assert told.endswith(b"xend and more")


def test_a_short_log_is_left(tmp_path: Path) -> None:
    (tmp_path / consolelog.FILE).write_bytes(b"short")
    consolelog.trim([tmp_path])
    assert consolelog.tail(tmp_path) == b"short"


def test_a_part_that_virtlogd_put_aside(tmp_path: Path) -> None:
    (tmp_path / "console.log.0").write_bytes(b"before ")
    (tmp_path / "console.log").write_bytes(b"after")
    assert consolelog.tail(tmp_path) == b"before after"

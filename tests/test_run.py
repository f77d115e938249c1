from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calls import fingerprint
from hypothesis import given
from hypothesis import strategies as st

from seqloom import files as files_module
from seqloom import run as runs_module
from seqloom.errors import RunError, UsageError
from seqloom.files import Checkpoint, digest_of, read_json, sealed, write_json, write_sealed, write_text
from seqloom.run import Run, runs
from seqloom.workflows.evaluate import title_of


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs" / "one", "seed = 1\n", {"task": "t"})


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are hashed from now on."""
    paths: list[Path] = []
    monkeypatch.setattr(files_module, "digest_of", lambda path: (paths.append(path), digest_of(path))[1])
    return paths


def contents(number: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(bytes([number]) * 1000)
        write_json(folder / "state.json", {"number": number})

    return write


def save(run: Run, *steps: int) -> list[Checkpoint]:
    return [run.save(f"step-{step:08d}", contents(step)) for step in steps]


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def refusing(number: int) -> Callable[..., Any]:
    def refuse(*args: object, **options: object) -> Any:
        raise OSError(number, os.strerror(number))

    return refuse


# Files


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_is_written_as_it_is(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new" / "x.txt"
        write_text(path, text)
        assert path.read_bytes() == text.encode()
        assert names(path.parent) == ["x.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "choose another place"),
        (errno.EROFS, "read-only"),
        (errno.ENOTDIR, "a part of this path is a file"),
        (errno.EEXIST, "a part of this path is a file"),
        (errno.ELOOP, "a loop of links"),
        (errno.ENOENT, "make its folder first"),
    ],
)
def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch, step, number, cure):
    path = tmp_path / "x.json"
    write_json(path, {"old": True})
    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), refusing(number))
    with pytest.raises(RunError, match="cannot be written") as caught:
        write_json(path, {"new": True})
    assert cure in caught.value.cure
    assert caught.value.exit_code == 2
    assert caught.value.where == str(path)
    assert names(tmp_path) == ["x.json"]
    assert json.loads(path.read_text()) == {"old": True}


# Checkpoints


def test_the_manifest_has_size_and_digest_of_every_file(run):
    (checkpoint,) = save(run, 3)
    manifest = json.loads((checkpoint.path / "MANIFEST.json").read_text())["files"]
    assert set(manifest) == {"model.safetensors", "state.json"}
    for name in manifest:
        data = (checkpoint.path / name).read_bytes()
        assert manifest[name] == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert checkpoint.fault() is None
    assert (checkpoint.step, checkpoint.state()) == (3, {"number": 3})
    assert names(run.path / "checkpoints") == ["step-00000003"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (
        lambda p: os.truncate(p / "model.safetensors", 999),
        "model.safetensors has 999 bytes instead of 1000",
    ),
    "emptied": (lambda p: os.truncate(p / "model.safetensors", 0), "model.safetensors has 0 bytes"),
    "flipped bit": (lambda p: flip(p / "model.safetensors"), "model.safetensors differs from its digest"),
    "missing file": (lambda p: (p / "state.json").unlink(), "state.json is missing"),
    "missing manifest": (lambda p: (p / "MANIFEST.json").unlink(), "MANIFEST.json is missing"),
    "cut manifest": (lambda p: os.truncate(p / "MANIFEST.json", 40), "its manifest cannot be read"),
    "manifest of another shape": (
        lambda p: (p / "MANIFEST.json").write_text("[]"),
        "its manifest is not a JSON object",
    ),
    "emptied manifest": (
        lambda p: (p / "MANIFEST.json").write_text('{"format": 2, "files": {}}'),
        "its manifest was changed after seqloom wrote it",
    ),
    "more weights": (
        lambda p: (p / "frozen.safetensors").write_bytes(b"more"),
        "frozen.safetensors is not in its manifest",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_recognized_and_the_one_before_it_used(run, damage):
    harm, fault = DAMAGES[damage]
    older, newer = save(run, 9, 10)
    harm(newer.path)
    assert fault in (newer.fault() or "")
    said: list[str] = []
    assert run.newest(said.append) == older
    assert len(said) == 1
    assert str(newer.path) in said[0]
    assert fault in said[0]


@pytest.mark.parametrize("byte", range(0, 1000, 97))
def test_any_flipped_byte_is_seen(run, byte):
    (checkpoint,) = save(run, 1)
    data = bytearray((checkpoint.path / "model.safetensors").read_bytes())
    data[byte] ^= 0x80
    (checkpoint.path / "model.safetensors").write_bytes(bytes(data))
    assert checkpoint.fault() == "model.safetensors differs from its digest"


def test_a_damaged_best_checkpoint_gives_way_to_the_newest(run):
    best, newest = save(run, 2, 4)
    run.point("best", best, step=2)
    assert run.best(pytest.fail) == best
    flip(best.weights)
    warnings: list[str] = []
    again = Run.open(run.path)
    assert again.best(warnings.append) == newest == again.best(pytest.fail)
    assert len(warnings) == 1
    assert str(best.path) in warnings[0]
    assert f"{newest.path.name} is used instead" in warnings[0]
    flip(newest.weights)
    with pytest.raises(RunError, match="no checkpoint is undamaged") as caught:
        Run.open(run.path).best(warnings.append)
    assert f"remove {run.path / 'checkpoints'}" in caught.value.cure


def test_an_open_run_hashes_each_file_once_and_for_use_only_the_weights(run, hashed):
    best, newest = save(run, 2, 4)
    run.point("best", best, step=2)
    hashed.clear()
    for opened in (Run.open(run.path), Run.open(str(run.path))):
        assert [opened.best(pytest.fail) for _ in range(3)] == [best] * 3
        assert hashed == [best.weights]
        hashed.clear()
    assert Run.open(opened) is opened
    assert opened.newest(pytest.fail) == newest == opened.newest(pytest.fail)
    assert sorted(hashed) == [newest.weights, newest.path / "state.json"]
    opened.point("best", newest, step=4)
    assert opened.best(pytest.fail) == newest
    assert len(hashed) == 2
    (newest.path / "state.json").unlink()
    assert Run.open(run.path).best(pytest.fail) == newest


def test_a_pointer_to_a_checkpoint_that_is_gone_points_nowhere(run):
    assert run.pointed("best") is None
    one, _ = save(run, 1, 2)
    run.point("best", one, step=1)
    run.keep_only({2})
    assert run.pointed("best") is None
    assert [c.step for c in run.checkpoints()] == [2]


def test_checkpoints_are_listed_by_step_and_nothing_else_is_one(run):
    save(run, 20, 3, 100)
    run.save("average", contents(1))
    (run.path / "checkpoints" / "step-by-step").mkdir()
    assert [c.step for c in run.checkpoints()] == [3, 20, 100]


def test_a_checkpoint_saved_again_replaces_the_first(run):
    save(run, 5)
    again = run.save("step-00000005", contents(7))
    assert again.state() == {"number": 7}
    assert again.fault() is None
    assert names(run.path / "checkpoints") == ["step-00000005"]


def test_a_full_disk_leaves_every_checkpoint_as_it_was(run, monkeypatch):
    save(run, 5)
    before = fingerprint(run.path)

    def half(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("step-00000005", "step-00000006"):
        with pytest.raises(RunError, match="No space left on device") as caught:
            run.save(name, half)
        assert "free some space and start the same command again" in caught.value.cure
        assert fingerprint(run.path) == before
        monkeypatch.setattr(os, "fsync", refusing(errno.ENOSPC))
        with pytest.raises(RunError, match="No space left on device"):
            run.save(name, contents(6))
        monkeypatch.undo()
        assert fingerprint(run.path) == before


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failing_rename_leaves_the_checkpoint_that_was_there(run, monkeypatch, failing):
    save(run, 5)
    before = fingerprint(run.path)
    true, calls = Path.replace, []

    def replace(self: Path, target: Path) -> Path:
        if self.parent.name == "checkpoints":
            calls.append(self)
            if len(calls) == failing:
                raise OSError(errno.EIO, "fault")
        return true(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(RunError, match="fault"):
        run.save("step-00000005", contents(6))
    assert len(calls) >= failing
    assert fingerprint(run.path) == before


# Directories


def test_a_run_is_found_again(run):
    again = Run.open(run.path)
    assert (again.name, again.info()) == ("one", {"format": 2, "task": "t", "files": {}})
    again.update_info(training={"steps": 3})
    assert run.info() == {"format": 2, "task": "t", "files": {}, "training": {"steps": 3}}
    assert [r.path for r in runs(run.path.parent)] == [run.path]


def test_runs_of_ladders_and_of_their_seeds_are_found(tmp_path):
    names = ("ladder/member", "ladder/seed-2/member", "one")
    for name in names:
        Run.create(tmp_path / name, "", {"task": "t"})
    assert [r.path for r in runs(tmp_path)] == [tmp_path / name for name in names]


def test_no_such_run_names_the_ones_there_are(run):
    with pytest.raises(RunError, match="no such run") as caught:
        Run.open(run.path.with_name("two"))
    assert str(run.path) in caught.value.cure


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("run.json", None, "was interrupted before training began"),
        ("config.toml", None, "cannot be read: No such file or directory"),
        ("config.toml", b"seed = 2\n", "was changed after seqloom wrote it"),
        ("config.toml", b"", "was changed after seqloom wrote it"),
        ("config.toml", b"\xff\n", "cannot be read"),
        ("run.json", '{"format": 99}', "written in format 99, this version reads format 2"),
        ("run.json", '{"format": 2, "task": "t", "files": {}}', "was changed after seqloom wrote it"),
        ("run.json", "[" * 100_000, "cannot be read"),
        ("run.json", '{"name": "of another program"}', "written in format None"),
        ("run.json", '{"format": 1', "cannot be read"),
        ("run.json", "[1]", "is not a JSON object"),
        ("run.json", "\udcff", "cannot be read"),
    ],
)
def test_a_directory_that_is_no_run_of_this_version(run, name, text, problem):
    if text is None:
        (run.path / name).unlink()
    else:
        (run.path / name).write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogateescape"))
    with pytest.raises(RunError, match=problem) as caught:
        Run.open(run.path)
    assert caught.value.where.startswith(str(run.path))
    assert caught.value.cure
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "test", "title"),
    [
        ("", (), "test"),
        ("", ("data/valid.tok.de", "valid.en"), "valid"),
        ("", (".hidden.txt",), "hidden"),
        ("", ("a/..two.txt",), "two"),
        ("mine", ("valid.de",), "mine"),
        ("my 2nd", (), "my 2nd"),
        ("v1.5", (), "v1.5"),
    ],
)
def test_an_evaluation_is_called_by_its_name_or_its_first_file(name, test, title):
    assert title_of(name, test) == title
    assert title_of(name, test, "valid") == (title if name or test else "valid")


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", "a\\b", "..", ".", ".x", " ", "a\nb", "\0", "a" * 201])
def test_an_evaluation_stays_in_its_folder(name):
    with pytest.raises(UsageError, match="an evaluation cannot be called") as caught:
        title_of(name, ())
    assert (caught.value.where, bool(caught.value.cure)) == ("--name", True)


@pytest.mark.parametrize("test", ["...", " .txt", "a\nb.txt", "..", "/"])
def test_a_file_that_gives_no_title_needs_a_name(test):
    with pytest.raises(UsageError, match="an evaluation cannot be called"):
        title_of("", (test,))
    assert title_of("x", (test,)) == "x"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read"),
        (b'{"half', "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[]", "is not a JSON object"),
    ],
)
def test_a_broken_json_file_is_named_with_its_cure(run, content, problem):
    path = run.evaluation_path("new")
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=problem) as caught:
        read_json(path, "do this")
    assert (caught.value.where, caught.value.cure) == (str(path), "do this")
    with pytest.raises(RunError, match=problem) as caught:
        run.evaluation("new")
    assert caught.value.cure == "remove it, or evaluate again with the same --test and --name new"
    if content is not None:
        write_sealed(run.evaluation_path("other"), {"test": "other"})
        warnings: list[str] = []
        assert run.evaluations(warnings.append) == {"other": {"test": "other"}}
        assert [w for w in warnings if str(path) in w and problem in w and "remove it" in w] == warnings != []


def test_the_evaluations_of_a_run_by_title(run):
    assert run.evaluations(pytest.fail) == {}
    for title in ("two", "one.5"):
        write_sealed(run.evaluation_path(title), {"test": title})
    assert run.evaluations(pytest.fail) == {"one.5": {"test": "one.5"}, "two": {"test": "two"}}
    assert run.evaluation("two") == {"test": "two"}


@pytest.mark.parametrize("best", ["average", "step-00000003"])
def test_an_evaluation_is_of_the_weights_that_are_best_now(run, best):
    checkpoint = run.save("average", contents(1))
    run.point("best", checkpoint)
    evaluated = {"checkpoint": "average", "weights": checkpoint.digest()}
    write_sealed(run.evaluation_path("test"), evaluated)
    assert run.evaluations(pytest.fail) == {"test": evaluated}
    run.point("best", run.save(best, contents(2)))
    warnings: list[str] = []
    assert run.evaluations(warnings.append) == {}
    (warning,) = warnings
    assert f"an earlier average; {best} is best now" in warning


def test_a_broken_state_is_named(run):
    (checkpoint,) = save(run, 3)
    os.truncate(checkpoint.path / "state.json", 5)
    with pytest.raises(RunError, match="cannot be read") as caught:
        checkpoint.state()
    assert caught.value.where == str(checkpoint.path / "state.json")


def half(path: Path) -> None:
    with Run(path).locked():
        write_text(path / "tokenizer.json", "{}")
        raise KeyError


def test_a_new_directory_an_empty_one_and_a_half_written_one_are_taken(tmp_path):
    for path in (tmp_path / "a" / "b", tmp_path / "c"):
        path.mkdir(parents=True) if path.name == "c" else None
        with pytest.raises(KeyError):
            half(path)
        with Run(path).locked():
            assert Run.create(path, "", {}).info() == {"format": 2, "files": {}}


def test_a_directory_in_which_nothing_was_written_is_removed_again(tmp_path):
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "a" / "b" / "c", tmp_path / "there"):
        with pytest.raises(RuntimeError, match="inside"), Run(path).locked():
            raise RuntimeError(f"inside {names(path)}")
    assert names(tmp_path) == ["there"]
    assert names(tmp_path / "there") == []


@pytest.mark.parametrize("content", ["checkpoints/mine.txt", "src/.git/config", ".lock", "checkpoints/.venv/x"])
def test_a_directory_without_the_marker_is_not_a_run(tmp_path, content):
    write_text(tmp_path / content, "mine")
    before = fingerprint(tmp_path)
    with pytest.raises(RunError, match="holds other things than a run"), Run(tmp_path).locked():
        pass
    assert fingerprint(tmp_path) == before


def test_a_run_that_was_copied_without_its_hidden_files_is_one(run):
    (run.path / ".seqloom").unlink()
    with Run.open(run.path).locked():
        pass
    assert (run.path / ".seqloom").is_file()


def test_a_directory_with_other_things_is_left_alone(tmp_path):
    write_text(tmp_path / "config.toml", "mine = true\n")
    before = fingerprint(tmp_path)
    for path, problem in (
        (tmp_path, r"holds other things than a run \(config\.toml\)"),
        (tmp_path / "config.toml", "is a file"),
        (tmp_path / "config.toml" / "run", "cannot be written"),
    ):
        with pytest.raises(RunError, match=problem), Run(path).locked():
            pass
    assert fingerprint(tmp_path) == before
    assert not (tmp_path / "checkpoints").exists()


def test_no_permission_says_so(tmp_path, monkeypatch):
    # The administrator may write anywhere: the refusal is played.
    monkeypatch.setattr(Path, "mkdir", refusing(errno.EACCES))
    with pytest.raises(RunError, match="Permission denied") as caught, Run(tmp_path / "r").locked():
        pass
    assert "choose another place, or change the permissions" in caught.value.cure


def test_one_process_at_a_time(run):
    with run.locked(), pytest.raises(RunError, match="another process is training this run"), Run(run.path).locked():
        pass
    with Run(run.path).locked():
        pass


def test_what_a_killed_process_was_writing_is_cleared_away(run):
    save(run, 1)
    before = fingerprint(run.path)
    for name in ("checkpoints/.step-00000002.4194305.partial/model.safetensors", ".latest.json.4194305.partial"):
        write_text(run.path / name, "half")
    mine = {"checkpoints/.git/config", ".venv/x", "eval/.mine.4194305", f".config.toml.{os.getppid()}.partial"}
    for name in mine:
        write_text(run.path / name, "mine")
    assert [c.step for c in run.checkpoints()] == [1]
    with run.locked():
        pass
    assert fingerprint(run.path) == before | {name: hashlib.sha256(b"mine").hexdigest() for name in mine}


def test_a_checkpoint_that_was_being_replaced_comes_back(run):
    (checkpoint,) = save(run, 1)
    checkpoint.path.replace(checkpoint.path.with_name(".step-00000001.4194305.old.partial"))
    with run.locked():
        assert run.newest(pytest.fail) == checkpoint


def test_files_that_may_not_be_read_are_not_damaged(run, monkeypatch):
    older, newer = save(run, 1, 2)
    true = Path.open

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == unreadable and self.parent == newer.path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return true(self, *arguments, **options)

    # The administrator may read anything: the refusal is played.
    monkeypatch.setattr(Path, "open", refuse)
    for unreadable in ("model.safetensors", "state.json", "MANIFEST.json"):
        with pytest.raises(RunError, match="cannot be read: Permission denied") as caught:
            run.newest(pytest.fail)
        assert caught.value.where == str(newer.path / unreadable)
    unreadable = ""
    assert run.newest(pytest.fail) == newer != older


def test_a_changed_pointer_is_refused(run):
    best, _ = save(run, 1, 2)
    run.point("best", best, step=1)
    assert Run.open(run.path).best(pytest.fail) == best
    (run.path / "best.json").write_text('{"checkpoint": "step-00000002", "step": 1}')
    with pytest.raises(RunError, match=r"best\.json: was changed") as caught:
        Run.open(run.path).best(pytest.fail)
    assert caught.value.cure == "remove it: the newest checkpoint knows which one is best"


@pytest.mark.parametrize(("step", "name"), [(1, "step-00000001"), (-1, "average")])
def test_the_newest_checkpoint_knows_which_one_is_best(run, step, name):
    save(run, 1)
    run.save("average", contents(1))

    def write(folder: Path) -> None:
        contents(2)(folder)
        write_json(folder / "state.json", {"best": 0.5, "best_step": step})

    newest = run.save("step-00000002", write)
    warnings: list[str] = []
    assert Run.open(run.path).best(warnings.append).path.name == name
    assert "best.json is missing" in warnings[0]
    assert f"by the newest one it was {name}" in warnings[0]
    write_json(newest.path / "state.json", {"best": 0.5, "best_step": 2})
    assert Run.open(run.path).best(warnings.append) == newest
    assert "using the newest one" in warnings[1]


def test_what_is_not_a_run_gets_the_smallest_cure(tmp_path, run, monkeypatch):
    (tmp_path / "empty").mkdir()
    cures = {
        str(run.path.parent): f"existing runs: {run.path}",
        str(tmp_path / "empty"): "seqloom runs lists",
        "/": " runs",
        "": "seqloom runs lists",
    }
    monkeypatch.chdir(tmp_path / "empty")
    for path, cure in cures.items():
        with pytest.raises(RunError) as caught:
            Run.open(path)
        assert cure in caught.value.cure
        assert "remove" not in caught.value.cure


def test_an_asset_is_the_one_that_the_run_was_created_with(tmp_path):
    write_text(tmp_path / "run" / "labels.json", '{"labels": ["a", "b"]}')
    run = Run.create(tmp_path / "run", "", {}, [tmp_path / "run" / "labels.json"])
    path = run.asset("labels.json")
    assert path == tmp_path / "run" / "labels.json"
    assert run.asset("tokenizer.json") is None
    write_text(path, '{"labels": ["b", "a"]}')
    with pytest.raises(RunError, match="is not the file this run was trained with"):
        Run.open(run.path).asset("labels.json")
    path.unlink()
    with pytest.raises(RunError, match="cannot be read: No such file"):
        Run.open(run.path).asset("labels.json")


# Lines


@pytest.mark.parametrize("line", ['{"step": 3}', '{"step": 3, "digest": "0123456789abcdef"}', "[]", "{", "[" * 100_000])
def test_a_line_that_was_changed_is_named(run, line):
    run.append("metrics.jsonl", {"step": 1}, {"step": 2})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl:3: was changed after seqloom wrote it") as caught:
        run.rows("metrics.jsonl")
    assert caught.value.cure.startswith("remove this line, or the file, and start the same training again")


rows = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"])).filter(lambda key: key != "digest"),
    st.text(st.characters(exclude_categories=["Cs"])) | st.floats(allow_nan=False) | st.integers() | st.none(),
)


@given(st.lists(rows, max_size=5))
def test_lines_come_back_whatever_they_hold(written):
    with tempfile.TemporaryDirectory() as folder:
        run = Run(folder)
        for row in written:
            run.append("metrics.jsonl", row)
        assert run.rows("metrics.jsonl") == written


def test_a_resumed_training_forgets_what_came_after_and_what_was_cut_off(run):
    for step in range(1, 6):
        run.append("metrics.jsonl", {"step": step, "text": "a\u2028b\x85c"})
    run.append("samples.jsonl", {"step": 5})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "te')
    run.forget_after(3)
    assert [row["step"] for row in run.rows("metrics.jsonl")] == [1, 2, 3]
    assert run.rows("samples.jsonl") == []
    run.append("metrics.jsonl", {"step": 4})
    assert [row["step"] for row in run.rows("metrics.jsonl")] == [1, 2, 3, 4]


def test_a_line_cut_off_by_a_crash_does_not_swallow_the_next(run):
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(sealed({"step": 1})) + '\n{"step": 2, "te')
    run.forget_after(9)
    run.append("metrics.jsonl", {"step": 2})
    assert run.rows("metrics.jsonl") == [{"step": 1}, {"step": 2}]


def test_a_line_that_cannot_be_written_says_the_cure(run, monkeypatch):
    monkeypatch.setattr(runs_module.json, "dumps", refusing(errno.ENOSPC))
    with pytest.raises(RunError, match=r"metrics\.jsonl: cannot be written: No space left on device") as caught:
        run.append("metrics.jsonl", {"step": 1})
    assert "free some space" in caught.value.cure


def test_lost_lines_of_a_finished_training_are_noticed_until_it_goes_on(run):
    run.append("metrics.jsonl", {"step": 1}, {"step": 2})
    run.count_lines()
    run.reopen_lines(pytest.fail)
    run.append("metrics.jsonl", {"step": 3})
    run.count_lines()
    path = run.path / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(RunError, match=r"metrics\.jsonl: has 2 lines instead of 3"):
        run.rows("metrics.jsonl")
    path.unlink()
    with pytest.raises(RunError, match=r"metrics\.jsonl: is missing"):
        run.rows("metrics.jsonl")
    warnings: list[str] = []
    run.reopen_lines(warnings.append)
    assert "has 0 lines instead of 3" in warnings[0]
    assert run.rows("metrics.jsonl") == []


def test_a_finished_run_without_checkpoints_has_lost_them(run):
    save(run, 1)
    run.refuse_lost()
    run.update_info(training={"steps": 1})
    run.refuse_lost()
    run.keep_only(set())
    for use in (run.refuse_lost, lambda: run.best(pytest.fail)):
        with pytest.raises(RunError, match="has lost its checkpoints"):
            use()

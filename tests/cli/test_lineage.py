from __future__ import annotations

import json

from calls import Call

LADDER = """
[members.gru.model]
preset = "small-gru"
embedding = 16
encoder.width = 16
decoder.width = 16

[members.transformer]
schedule.warmup = 7
"""


def test_a_lineage_is_trained_compared_and_resumed(call: Call, folder):
    config = folder / "ladder.toml"
    config.write_text((folder / "small.toml").read_text() + LADDER)
    words = ("lineage", "ladder.toml", "--data.test", "test.src", "test.tgt", "--run", "ladder")
    result = call(*words, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert [row["name"] for row in report["systems"]] == ["gru", "transformer"]
    assert {p.name for p in (folder / "ladder").iterdir()} == {
        "gru",
        "transformer",
        "compare.html",
        "compare.json",
        ".seqloom-output",
    }
    saved = (folder / "ladder" / "transformer" / "config.toml").read_text()
    assert "warmup = 7" in saved
    assert 'preset = "small-gru"' not in saved
    again = call(*words)
    assert again.code == 0
    assert "step 2: valid" not in again.err
    assert "gru-attention" not in again.out
    assert "fewer than the 20 that intervals need" in " ".join(again.out.split())
    listed = json.loads(call("runs", ".", "--json").out)
    assert [row["run"] for row in listed] == ["ladder/gru", "ladder/transformer", "run"]


def test_a_lineage_over_seeds(call: Call, folder):
    (folder / "ladder.toml").write_text((folder / "small.toml").read_text() + LADDER)
    words = ("lineage", "ladder.toml", "--data.test", "test.src", "test.tgt", "--run", "ladder", "--seeds", "1", "2")
    result = call(*words, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report == json.loads((folder / "ladder" / "seeds.json").read_text())
    assert report["seeds"] == [1, 2]
    assert [row["name"] for row in report["systems"]] == ["gru", "transformer"]
    for seed in (1, 2):
        alone = json.loads((folder / "ladder" / f"seed-{seed}" / "compare.json").read_text())
        for key in ("chrf", "minutes"):
            values = [row[key] for row in alone["systems"]]
            assert values == [row["scores"][key]["values"][seed - 1] for row in report["systems"]]
        assert f"seed = {seed}" in (folder / "ladder" / f"seed-{seed}" / "gru" / "config.toml").read_text()
    minutes = report["systems"][0]["scores"]["minutes"]
    first, second = minutes["values"]
    assert first != second
    assert abs(minutes["mean"] - (first + second) / 2) < 1e-9
    assert abs(minutes["deviation"] - abs(first - second) / 2**0.5) < 1e-9
    shown = call(*words)
    assert "step 2: valid" not in shown.err
    assert "over seeds 1, 2" in shown.out
    call("lineage", "ladder.toml", "--seeds", "3").refused(2, "--seeds", "two different seeds or more", "--seeds 1 2 3")
    call("lineage", "ladder.toml", "--seeds", "3", "3").refused(
        2, "--seeds", "two different seeds or more", "--seeds 1 2 3"
    )


def test_one_member_is_trained_alone(call: Call, folder):
    (folder / "ladder.toml").write_text((folder / "small.toml").read_text() + LADDER)
    result = call("train", "ladder.toml", "--member", "gru", "--model.encoder.cell", "gru", "--run", "alone", "-q")
    assert result.code == 0, result.err
    assert [p.name for p in (folder / "alone").iterdir()] == ["gru"]
    call("train", "ladder.toml", "--member", "gur").refused(2, "has no member 'gur'", "did you mean 'gru'?")


def test_members_are_verified_each(call: Call, folder):
    bands = LADDER + "accept.bleu = 0\n[members.gru.accept]\nbleu = 101\n"
    (folder / "ladder.toml").write_text((folder / "small.toml").read_text() + bands)
    words = ("verify", "ladder.toml", "--run", "ladder", "--data.test", "test.src", "test.tgt", "-q", "--json")
    result = call(*words)
    assert result.code == 1
    assert [(v["member"], v["reached"]) for v in json.loads(result.out)] == [("gru", False), ("transformer", True)]


def test_wrong_ladders(call: Call, folder):
    config = folder / "ladder.toml"
    plain = (folder / "small.toml").read_text()
    config.write_text(plain + LADDER)
    call("train", "ladder.toml").refused(2, "describes a ladder of members", "seqloom lineage ladder.toml")
    config.write_text(plain + '[members.big.model]\npreset = "smal"\n')
    words = "member 'big'", "unknown preset 'smal'", "did you mean 'small'?"
    call("lineage", "ladder.toml").refused(2, *words, cured=False)
    config.write_text(plain + "[members.one]\n")
    call("lineage", "ladder.toml").refused(2, "at least two members", "[members.NAME]")
    for name in ("", "..", "a/b", "../x"):
        config.write_text(plain + f"[members.'{name}']\n[members.two]\n")
        call("lineage", "ladder.toml").refused(2, f"the member's name {name!r} is no name of a folder", "without /")
    config.write_text("members = 3\n" + plain)
    call("lineage", "ladder.toml").refused(2, "ladder.toml:1", "members must be tables")
    call("lineage", "absent.toml").refused(2, "no such config file")
    call("lineage", "--run", "x", "--training.minutes", "-1").refused(2, "expected a number from 0")


def test_a_member_that_is_too_large_is_found_before_any_is_trained(call: Call, folder):
    huge = "[members.huge.model]\npreset = 'small-gru'\nencoder.width = 90000\ndecoder.width = 90000\n"
    (folder / "lad.toml").write_text((folder / "small.toml").read_text() + LADDER + huge)
    result = call("lineage", "lad.toml", "--run", "ladder")
    result.refused(2, "member 'huge': a model of", "are free", "choose a smaller one than 90,000")
    assert not (folder / "ladder").exists()

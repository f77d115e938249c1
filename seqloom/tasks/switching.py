"""Several adapters on one base: switched by name, also by row within one batch."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from seqloom.adaptation.adapt import merge_adapters, set_beside
from seqloom.adaptation.lora import LowRank
from seqloom.decoding.config import DecodingConfig, with_options
from seqloom.decoding.continuous import Continuous
from seqloom.errors import UsageError, counted, nearest
from seqloom.nn.effective import by_row, changes_of
from seqloom.nn.linear import pack, packed_weights, unpack
from seqloom.run import Run
from seqloom.tasks.adapter import Adapted, AdapterFile, on_base
from seqloom.tasks.building import Loaded, load_run, trusting, usable
from seqloom.tasks.task import RunConfig
from seqloom.tasks.writing import Writing
from seqloom.training.precision import Precision, dtype_for, pick_device

Source = str | Path | Run


class Adapters:
    """A base in use, and what several runs learned on it: `adapters(texts, adapter="legal")`.

    The weights of the base are in memory once, and those of the adapter that is in use are merged beside them.

    Args:
        base: the base; its model is not changed.
        adapted: the runs by name.
        options: those of their predictors.
    """

    def __init__(self, base: Loaded[Any], adapted: Mapping[str, Adapted], options: Mapping[str, Any]) -> None:
        self._base, self._adapted, self._options = base, adapted, options
        self._predictors: dict[str | None, Any] = {}
        self._numbers = {name: number for number, name in enumerate(adapted)}
        self._merged: str | None = None
        self._undo: Callable[[], None] = lambda: None
        self._beside: dict[str, Any] = {}
        for name, each in adapted.items():
            for layer, adapter in in_linear_layers(each).items():
                target: Any = base.model.get_submodule(layer)
                target.beside = {**(target.beside or {}), self._numbers[name]: adapter}
                self._beside[name] = each.loaded.config.predictor(base.model, each.loaded.assets, **options)
        pairs = {name: self.loaded(name).assets.tokenizers or () for name in (None, *self._beside)}
        self._tokenizers = {name: tuple(each.digest() for each in pair) for name, pair in pairs.items()}

    @property
    def names(self) -> list[str]:
        """The names of the adapters."""
        return [*self._adapted]

    def loaded(self, name: str | None) -> Loaded[Any]:
        """The run of an adapter; None = the base."""
        return self._base if name is None else self._adapted[name].loaded

    def number(self, name: str) -> int | None:
        """The number of an adapter in jobs on the base; None = it changes more than linear layers."""
        return self._numbers[name] if name in self._beside else None

    def alone(self, name: str) -> Loaded[Any]:
        """The run of an adapter whose model stays in use, whatever others are used.

        It has the memory of the base for all but what was learned, and for what is no linear layer, of the weights that
        are changed. It computes what the merged one does to 1e-5.
        """
        loaded = self._adapted[name].loaded
        set_beside(loaded.model)
        merge_adapters(loaded.model)
        pack(loaded.model, packed_weights(self._base.model))
        return loaded

    def using(self, name: str | None) -> Any:
        """The predictor of an adapter, whose weights are merged now; None = that of the base.

        Raises UsageError for an unknown name.
        """
        predictor = self._predictor(name)
        if name is not None and name != self._merged:
            if self._merged is not None:
                self._undo()
                unpack(self._adapted[self._merged].loaded.model)
            model, self._merged = self._adapted[name].loaded.model, name
            self._undo = merge_adapters(model)
            pack(model, packed_weights(self._base.model))
        return predictor

    def _predictor(self, name: str | None) -> Any:
        """That of an adapter, by its own model. Raises UsageError for an unknown name."""
        if name is not None and name not in self._adapted:
            raise UsageError(f"there is no adapter {name!r}", cure=nearest(str(name), self.names))
        if name not in self._predictors:
            self._predictors[name] = self.loaded(name).predictor(**self._options)
        return self._predictors[name]

    def __call__(self, *inputs: Any, adapter: str | Sequence[str | None] | None = None, **options: Any) -> Any:
        """What the predictor gives with an adapter.

        Args:
            inputs: those of the predictor.
            adapter: a name; None = the base; or a list with one of these for each text, which gives a list of results.
                Texts with adapters of linear layers alone that are generated in the same way are then one batch, others
                are computed adapter by adapter.
            options: those of the predictor.
        """
        if adapter is None or isinstance(adapter, str):
            return self.using(adapter)(*inputs, **options)
        names = [*adapter]
        for name in {*names}:
            self._predictor(name)
        texts = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], Sequence) else ""
        if isinstance(texts, str) or len(texts) != len(names):
            count = "what is no list of texts" if isinstance(texts, str) else counted(len(texts), "text")
            problem = f"{counted(len(names), 'adapter')} for {count}"
            raise UsageError(problem, cure="give a list of texts, and a name or None for each")
        batches: dict[Any, list[int]] = {}
        for row, name in enumerate(names):
            batches.setdefault(self._alike(name, options), []).append(row)
        results: dict[int, Any] = {}
        for rows in batches.values():
            part = self._batch([names[row] for row in rows], [texts[row] for row in rows], options)
            results |= zip(rows, part, strict=True)
        return [results[row] for row in range(len(names))]

    def continuous(self, **options: Any) -> Continuous:
        """What decodes jobs of all adapters together, by the weights of the base."""
        batch: Continuous = self._predictor(None).continuous(**options)
        return batch

    def job(self, *inputs: Any, adapter: str | None = None, **options: Any) -> Writing:
        """The job of a predictor with an adapter, for `continuous`; None = the base.

        Raises UsageError for an unknown name, and for an adapter that changes more than linear layers.
        """
        named = self._predictor(adapter)
        if not self._mixes(adapter):
            problem = f"the adapter {adapter!r} changes more than linear layers, which rows of one batch cannot"
            raise UsageError(problem, cure="use it alone: adapters.using(NAME)")
        predictor = self._of_base(adapter)
        predictor.config = named.config
        writing: Writing = predictor.job(*inputs, adapter=self._numbers.get(adapter or ""), **options)
        return writing

    def _mixes(self, name: str | None) -> bool:
        """Whether rows of the base are computed beside those of others; see `number`."""
        return name is None or name in self._beside

    def _of_base(self, name: str | None) -> Any:
        """What decodes rows of an adapter by the model of the base."""
        return self._predictor(None) if name is None else self._beside[name]

    def _alike(self, name: str | None, options: Mapping[str, Any]) -> Any:
        """What the adapters of one batch have in common: the way texts are generated; or the name alone."""
        predictor = self._predictor(name)
        if not self._mixes(name) or not isinstance(getattr(predictor, "config", None), DecodingConfig):
            return name
        config = with_options(predictor.config, {key: value for key, value in options.items() if key != "stop"})
        return type(predictor), config, getattr(predictor, "context", None), self._tokenizers[name]

    def _batch(self, names: Sequence[str | None], texts: Sequence[Any], options: Mapping[str, Any]) -> Any:
        if len({*names}) == 1:
            return self.using(names[0])(texts, **options)
        device, predictor = next(self._base.model.parameters()).device, self._of_base(names[0])
        predictor.config = self._predictor(names[0]).config
        with by_row(torch.tensor([-1 if name is None else self._numbers[name] for name in names], device=device)):
            return predictor(texts, **options)


def in_linear_layers(adapted: Adapted) -> dict[str, LowRank]:
    """The adapters by the name of their layer, if nothing else was learned and these layers are linear; else {}."""
    found: dict[str, LowRank] = {}
    for name, layer in adapted.loaded.model.named_modules():
        steps = [step for each in changes_of(layer).values() for step in each if isinstance(step, LowRank)]
        if steps and not hasattr(layer, "beside"):
            return {}
        found |= dict.fromkeys([name], steps[0]) if steps else {}
    return found if {name.rpartition(".changes.")[0] for name in adapted.learned} <= found.keys() else {}


def load_adapters(
    path: Source,
    adapters: Mapping[str, Source],
    *,
    precision: Precision | Literal["int8"] = "auto",
    device: str = "auto",
    special_tokens: bool = False,
    say: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> Adapters:
    """A run in use with adapters.

    Args:
        path: the base.
        adapters: runs that started from it with [adapt], or files that `export --to adapter` wrote, by name.
        precision, device, special_tokens, say: as for `load_run`.
        options: those of the predictors.

    Raises:
        RunError: an adapter of another base, or one that is damaged.
        UsageError: 8 bits, in which adapters are not computed.
    """
    if precision == "int8":
        raise UsageError("adapters are not computed in 8 bits", where="int8", cure="leave one of the two out")
    where = pick_device(device)
    base = load_run(path, RunConfig, precision="fp32", device="cpu", special_tokens=special_tokens, say=say)
    folder = tempfile.mkdtemp(prefix="seqloom-")  # of what is a file, as long as it is in use
    weakref.finalize(base.model, shutil.rmtree, folder, ignore_errors=True)
    folders = (Path(folder, str(number)) for number in range(len(adapters)))
    loaded = {name: _adapted(source, base, next(folders)) for name, source in adapters.items()}
    chosen = base.config.used_in if precision == "auto" else precision
    if (dtype := dtype_for(chosen, where)) != torch.float32 or where.type != "cpu":
        unpack(base.model)
        pack(usable(base.model, where, dtype))
    for name, each in loaded.items():
        usable(each.loaded.model, where, dtype)
        each.share(base)
        if special_tokens:
            loaded[name] = replace(each, loaded=replace(each.loaded, assets=trusting(each.loaded.assets)))
    return Adapters(base, loaded, options)


def _adapted(source: Source, base: Loaded[Any], folder: Path) -> Adapted:
    if isinstance(source, Run) or not Path(source).is_file():
        return on_base(run := Run.open(source), base, str(run.path))
    return AdapterFile.read(Path(source)).on_base(base, folder)

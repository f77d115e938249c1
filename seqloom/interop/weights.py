"""The weights of a published checkpoint: safetensors in one file or several, never a pickle."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from seqloom import files
from seqloom.errors import ConfigError, RunError, first_of
from seqloom.interop.gguf.file import GGUF, GGUFFile
from seqloom.limits import finite

INDEX = "model.safetensors.index.json"
MERGE = "merge the two first: merge_and_unload() of peft, then save_pretrained(DIR)"
"""The cure for an adapter that cannot be read with its base."""
_WRAPPERS = ("_orig_mod.", "module.", "base_model.model.", "_fsdp_wrapped_module.")
"""What torch.compile, DataParallel, peft and FSDP put before the names of the model that they wrap."""
_ADAPTER = re.compile(r"\.(lora_\w+|modules_to_save|ia3_l|prompt_embeddings|original_module|base_layer)(\.|$)")


def read_json(path: Path, kind: type = dict) -> Any:
    """A JSON object, or list; an empty one if there is no such file. Raises RunError."""
    return files.read_json(path, "", kind, finite) if path.exists() else kind()


@contextlib.contextmanager
def interpreting(path: Path) -> Iterator[None]:
    """Turns what malformed values cause into one clear error; errors without a place get this file as theirs."""
    try:
        yield
    except (ConfigError, RunError) as error:
        raise type(error)(error.problem, where=error.where or str(path), cure=error.cure) from None
    except OSError as error:
        raise files.unreadable(path, error) from None
    except Exception as error:
        malformed = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, re.error)
        if not isinstance(error, malformed) and type(error) is not Exception:  # which the tokenizers library raises
            raise
        raise ConfigError(f"cannot be interpreted: {str(error).partition(chr(10))[0]}", where=str(path)) from None


class Weights:
    """The tensors of a directory, read one at a time; those of `name`, or of the model.

    Raises RunError for a directory without them.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        index = {} if name else _weight_map(folder)
        single = folder / (name or (GGUF if (folder / GGUF).exists() else "model.safetensors"))
        paths = sorted({folder / name for name in index.values()}) or [single]
        if not index and not paths[0].is_file():
            _refuse_pickles(single)
        self._folder = folder
        self._at: dict[str, Any] = {}
        self._changes: dict[str, Callable[[Tensor], Tensor]] = {}
        self.changed: set[str] = set()
        """The names of tensors that are not those of the directory."""
        self.stripped: list[str] = []
        """The prefixes of wrappers that the names had."""
        for path in paths:
            if not path.is_file():
                raise RunError("there is no such file, but the index names it", where=str(path))
            try:
                handle: Any = GGUFFile(path) if path.name == GGUF else safe_open(path, "pt")
            except (SafetensorError, OSError) as error:
                raise RunError(f"cannot be read: {error}", where=str(path)) from None
            self._at |= {name: (handle, name) for name in list(handle.keys())}
        if missing := sorted(index.keys() - self._at.keys()):
            raise RunError(f"missing weights: {some(missing)}", where=str(folder / INDEX))
        if not name and (parts := [key for key in self._at if _ADAPTER.search(key)]):
            problem = f"has weights of an adapter beside those of its model: {some(parts, 2)}"
            raise RunError(problem, where=str(folder), cure=MERGE)
        self._unwrap()

    def _unwrap(self) -> None:
        """Removes the prefixes of wrappers from the names."""
        while self._at and (prefixes := [p for p in _WRAPPERS if all(name.startswith(p) for name in self._at)]):
            self._at = {name.removeprefix(prefixes[0]): at for name, at in self._at.items()}
            self.stripped.append(prefixes[0])
        if any("._orig_mod." in name for name in self._at):  # of compiled parts
            self._at = {name.replace("._orig_mod.", "."): at for name, at in self._at.items()}
            self.stripped.append("_orig_mod.")

    def rename(self, prefix: str, roots: set[str]) -> None:
        """Adds the prefix that a model without a head is saved without, but not to `roots`; updates names of norms."""
        bare = not any(name.startswith(prefix) for name in self._at)
        for name in list(self._at):
            new = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
            new = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", new)
            if bare and name.partition(".")[0] not in roots:
                new = prefix + new
            self._at[new] = self._at.pop(name)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {name: tuple(file.get_slice(key).get_shape()) for name, (file, key) in self._at.items()}

    def __call__(self, name: str) -> Tensor:
        """A tensor."""
        file, key = self._at[name]
        tensor: Tensor = file.get_tensor(key)
        return tensor

    def checked(self, name: str) -> Tensor:
        """A tensor. Raises RunError if it holds no numbers: NaN, infinity, or integers of a quantized model."""
        tensor = self(name)
        if not tensor.is_floating_point():
            problem = f"{name} is of the type {str(tensor.dtype).removeprefix('torch.')}: a quantized model"
            raise RunError(problem, where=str(self._folder), cure="use the checkpoint that it was made from")
        tensor = self._changes[name](tensor.float()) if name in self._changes else tensor
        values = tensor.float() if tensor.element_size() == 1 else tensor
        if bool(values.isnan().any()) or (values.dim() > 1 and bool(values.isinf().any())):
            cure = "the checkpoint is damaged: use another one"
            raise RunError(f"{name} holds NaN or infinity", where=str(self._folder), cure=cure)
        return tensor

    def change(self, name: str, change: Callable[[Tensor], Tensor]) -> None:
        """Changes a tensor where `checked` reads it, in float32."""
        self._changes[name] = change
        self.changed.add(name)

    def replace(self, name: str, by: Weights) -> None:
        """Puts a tensor of others in the place of the one here, if there is one."""
        self._at[name] = by._at[name]
        self.changed.add(name)

    def remove(self, layers: Set[str]) -> None:
        """Removes the tensors of layers."""
        self._at = {n: at for n, at in self._at.items() if not {n, n.rpartition(".")[0]} & layers}

    def without_copies(self, copies: Mapping[str, str], needed: Mapping[str, Any]) -> None:
        """Drops second names of a shared weight, unless they are needed. Raises RunError if the two weights differ."""
        for copy, name in copies.items():
            if copy not in self._at or copy in needed:
                continue
            if name in self._at and not torch.equal(self(copy), self(name)):
                cure = "its config.json declares them shared; if they are not, set tie_word_embeddings = false there"
                raise RunError(f"{copy} and {name} differ", cure=cure)
            self._at.setdefault(name, self._at.pop(copy))


def _weight_map(folder: Path) -> dict[str, str]:
    """The file of each weight; {} where there is one file. Raises RunError for files outside of the directory."""
    path = folder / INDEX
    if not path.exists():
        return {}
    names = read_json(path).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise RunError("its weight_map is not a table from weights to files", where=str(path))
    for name in names.values():
        if not re.fullmatch(r"[^/\\\0:]+\.safetensors", name):
            cure = "use a checkpoint whose files lie beside its index"
            problem = f"names {name[:80]!r}, which is not a safetensors file of its directory"
            raise RunError(problem, where=str(path), cure=cure)
    return {str(weight): str(name) for weight, name in names.items()}


def _refuse_pickles(single: Path) -> None:
    folder = single.parent
    pickles = [p.name for end in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack") for p in folder.glob(end)]
    if not pickles:
        raise RunError(f"has no {single.name}", where=str(folder))
    code = f"from transformers import AutoModel as M; M.from_pretrained({str(folder)!r}).save_pretrained('converted')"
    problem = f"its weights are a pickle ({', '.join(sorted(pickles)[:3])}), which can run any code when it is loaded"
    cure = "if you trust it, convert it to safetensors, with the AutoModelFor... class of its task: "
    raise RunError(problem, where=str(folder), cure=f'{cure}python -c "{code}"')


def misfits(shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The weights of another shape than the expected one."""
    return [f"{n} is {shapes[n]} instead of {s}" for n, s in expected.items() if shapes.get(n, s) != s]


def faults(**names: Collection[str]) -> str:
    """What is wrong with weights, by sorts of faults; "" = nothing."""
    return "; ".join(f"{what}: {some(weights)}" for what, weights in names.items() if weights)


def some(names: Iterable[str], limit: int = 8) -> str:
    """Some of the names, in alphabetical order."""
    return first_of(sorted(names), limit)

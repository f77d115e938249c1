"""How published vision models read images: preprocessor_config.json, and our facts about pixels (from 0 to 255)."""

from __future__ import annotations

from pathlib import Path

from seqloom.errors import ConfigError
from seqloom.files import Json
from seqloom.interop.side_files import FIELDS
from seqloom.interop.weights import interpreting, read_json
from seqloom.media.images import BILINEAR
from seqloom.nn.embedders import PatchConfig

NAME = "preprocessor_config.json"
_HALF, _BYTE = 0.5, 1 / 255


def read_pixels(folder: Path, patches: PatchConfig) -> tuple[Json, list[str]]:
    """The facts about pixels that a model was trained with, and warnings. Raises ConfigError, with the file."""
    path, size, channels = folder / NAME, patches.size, patches.channels
    values, facts = read_json(path), {"sizes": {"size": size, "channels": channels}}
    warnings = FIELDS[NAME].check(path, values)
    if not values:
        warnings.append(f"{path}: is missing: pixels are read from -1 to 1, as transformers does by default")
    with interpreting(path):
        stated = values.get("size", size)
        sides = {*stated.values()} if isinstance(stated, dict) else {stated}
        if sides != {size}:
            cure = f"the model reads {size} x {size}"
            raise ConfigError(f"size = {stated} is not that of the model", where=str(path), cure=cure)
        factor = float(values.get("rescale_factor", _BYTE)) if values.get("do_rescale", True) else 1.0
        mean, deviation = (values.get(key) or _HALF for key in ("image_mean", "image_std"))
        if not values.get("do_normalize", True):
            mean, deviation = 0.0, 1.0
        scale = {
            name: [float(v) / factor for v in (each if isinstance(each, list) else [each] * channels)]
            for name, each in (("mean", mean), ("deviation", deviation))
        }
        resample = int(values.get("resample", BILINEAR))
        if not 0 <= resample <= 5 or {*map(len, scale.values())} != {channels} or 0 in scale["deviation"]:
            raise ConfigError("resample, image_mean or image_std do not fit", where=str(path), cure="correct them")
    return {**facts, "scale": scale, "resample": resample}, warnings


def written_pixels(facts: Json) -> Json:
    """The preprocessor_config.json of the facts."""
    size, scale = facts["sizes"]["size"], facts["scale"]
    names = {"image_mean": "mean", "image_std": "deviation"}
    normalized = {key: [value * _BYTE for value in scale[name]] for key, name in names.items()}
    does = dict.fromkeys(("do_normalize", "do_rescale", "do_resize"), True)
    form = {"image_processor_type": "ViTImageProcessor", "resample": facts.get("resample", BILINEAR)}
    return {**does, **form, **normalized, "rescale_factor": _BYTE, "size": {"height": size, "width": size}}

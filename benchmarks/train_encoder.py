"""Training throughput of a BERT and of a ViT: seqloom and Hugging Face, in one run.

    python benchmarks/train_encoder.py --model bert
    python benchmarks/train_encoder.py --model vit --systems hf-bf16-eager+alloc seqloom+alloc

The BERT (BertForMaskedLM) has 4 layers, 256 wide, 4 heads, a vocabulary of 8,192, and dropout of 0.1 as its config has
it by default, on attention weights, too. It reads 32 texts of 128 tokens, 15 % of them masked, the same for all
systems. The loss is that of the masked tokens; Hugging Face's model computes the logits of all tokens for it, seqloom's
those of the masked ones: each as it comes. The ViT (ViTForImageClassification) has 12 layers, 192 wide, 3 heads, no
dropout, and reads 64 images of 32 x 32 in patches of 4 x 4, of 10 classes. Forward, loss, backward, clipping, AdamW.
Each system has a process of its own, and they take turns step by step, so that other load on the machine affects all
alike.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import common
import report
from common import CLIP, HUGGING_FACE, Json, Stepper

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

RATE, MASKED, MASK, CHANNELS, LABELS = 1e-4, 0.15, 0, 3, 10


class Model(NamedTuple):
    """One of the models; the layers inside the feed-forward blocks are four times as wide as it is.

    Args:
        layers, width, heads: the sizes.
        vocab_size: V, of BERT.
        patch: the height and width of a patch, of ViT.
        length: of a text in tokens, or of the side of an image in pixels.
        batch: texts or images.
        unit: what the speed is given in.
    """

    layers: int
    width: int
    heads: int
    vocab_size: int
    patch: int
    length: int
    batch: int
    unit: str

    @property
    def positions(self) -> int:
        """The vectors of a text or an image, those of the patches after a first one."""
        return (self.length // self.patch) ** 2 + 1 if self.patch else self.length


MODELS = {
    "bert": Model(4, 256, 4, 8192, 0, 128, 32, "tokens/s"),
    "vit": Model(12, 192, 3, 0, 4, 32, 64, "images/s"),
}


def hugging_face(first: Json, *, autocast: bool = False, attention: str = "sdpa") -> Stepper:
    """The library's model and its own loss, in a plain loop."""
    from transformers import BertConfig, BertForMaskedLM, ViTConfig, ViTForImageClassification

    name, size = first["model"], MODELS[first["model"]]
    sizes: Any = {"hidden_size": size.width, "num_hidden_layers": size.layers, "num_attention_heads": size.heads}
    sizes["intermediate_size"] = 4 * size.width
    model: nn.Module
    if name == "bert":
        model = BertForMaskedLM(BertConfig(vocab_size=size.vocab_size, **sizes))
    else:
        model = ViTForImageClassification(
            ViTConfig(image_size=size.length, patch_size=size.patch, num_labels=LABELS, **sizes)
        )
    model.set_attn_implementation(attention)  # type: ignore[operator]
    read = "input_ids" if name == "bert" else "pixel_values"

    def loss(given: tuple[Tensor, Tensor]) -> Tensor:
        values, targets = given
        result: Tensor = model(**{read: values}, labels=targets.where(targets >= 0, -100)).loss
        return result

    return common.plain_stepper(model.train(), loss, RATE, autocast=autocast)


def seqloom(first: Json) -> Stepper:
    """seqloom's presets in these sizes, with the objectives of the tasks masked_words and classify."""
    from seqloom.config import build
    from seqloom.data.batches.batch import ReadingBatch
    from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
    from seqloom.nn.embedders import Inputs
    from seqloom.objectives.reading import Labels, MaskedTokens
    from seqloom.training.optimizer import AdamW

    common.keep_kernels()
    name, size = first["model"], MODELS[first["model"]]
    tree: Json = {"preset": "bert-mini", "pooler": "none"}
    if name == "vit":
        embedder = {"patch": size.patch, "size": size.length, "channels": CHANNELS}
        tree = {"preset": "vit-tiny", "embedder": embedder, "encoder": {"dropout": 0.0}, "head_dropout": 0.0}
    heads, objective = ({"masked": 0}, MaskedTokens()) if name == "bert" else ({"label": LABELS}, Labels())
    inputs = Inputs.text if name == "bert" else Inputs.image

    def batch(given: tuple[Tensor, Tensor]) -> ReadingBatch:
        values, targets = given
        return ReadingBatch(inputs(values), targets, None, int((targets >= 0).sum()))

    model = EncoderOnly(build(EncoderOnlyConfig, tree), size.vocab_size, heads)
    return common.seqloom_stepper(model, objective, AdamW(lr=RATE, clip=CLIP), batch)


SYSTEMS: dict[str, tuple[str, Callable[[Json], Stepper]]] = {
    **{name: (title, partial(hugging_face, **options)) for name, (title, options) in HUGGING_FACE.items()},
    "seqloom": ("seqloom", seqloom),
}
DEFAULT = [name + suffix for suffix in ("", common.ALLOCATOR_SET) for name in HUGGING_FACE] + ["seqloom+alloc"]


def drawn(size: Model, batch: int, step: int) -> tuple[Tensor, Tensor]:
    """Token ids and the masked ones of them (-1: not masked), or pixels and labels; a pure function of the step."""
    import torch

    generator = torch.Generator().manual_seed(step)
    if size.patch:
        pixels = torch.randn(batch, CHANNELS, size.length, size.length, generator=generator)
        return pixels, torch.randint(LABELS, (batch,), generator=generator)
    ids = torch.randint(1, size.vocab_size, (batch, size.length), generator=generator)
    masked = torch.rand(ids.shape, generator=generator) < MASKED
    return ids.where(~masked, MASK), ids.where(masked, -1)


def build(system: str, first: Json) -> tuple[common.Work, Json]:
    """The worker's system, ready for {"step": i}."""
    stepper = SYSTEMS[system][1](first)

    def work(question: Json) -> Json:
        given = drawn(MODELS[first["model"]], first["batch"], question["step"])
        return common.timed_step(lambda: stepper.step(given))

    return work, {"parameters": stepper.parameters, "versions": common.versions("torch", "transformers", "seqloom")}


def main() -> None:
    """Read the options, run the systems and report."""
    options = report.parser(__doc__, SYSTEMS, DEFAULT)
    options.add_argument("--model", default="bert", choices=MODELS)
    options.add_argument("--steps", type=int, default=6, help="timed steps of each system, after one that is not")
    chosen = options.parse_args()
    if chosen.worker:
        common.serve(partial(build, chosen.worker))
        return
    if chosen.steps < 1:
        options.error("--steps must be at least 1")
    size = MODELS[chosen.model]
    steps, batch = (1, 2) if chosen.quick else (chosen.steps, size.batch)
    labels = {name: title for name, (title, _) in SYSTEMS.items()}
    work = [({"step": i}, batch if size.patch else batch * size.length) for i in range(steps + 1)]
    sizes = f"{size.layers} layers, {size.width} wide, {size.heads} heads"
    report.run(
        f"training a {'ViT' if size.patch else 'BERT'}",
        size.unit,
        chosen,
        {"model": chosen.model, "batch": batch},
        lambda workers: report.take_turns(workers, labels, work, 1, "steps"),
        {"model": sizes, "batch": f"{batch} of length {size.length}; {steps} steps after one of warm-up"},
    )


if __name__ == "__main__":
    main()

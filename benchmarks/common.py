"""What the benchmarks share: worker processes, timing, the sizes of the translation models, the Marian peer.

Only the standard library is imported at the top, so that a peer's own environment can use this file too.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import MarianMTModel

    from seqloom.training.optimizer import AdamW
    from seqloom.training.precision import Precision

VOCAB_SIZE, WIDTH, INNER, LAYERS, HEADS = 8192, 256, 1024, 3, 4
DROPOUT, SMOOTHING = 0.1, 0.1
UNK, PAD, BOS, EOS = range(4)
BEAM, OUTPUT_LENGTH = 5, 20

ALLOCATOR_SET = "+alloc"

Json = dict[str, Any]
Ids = list[int]
Work = Callable[[Json], Json]
Translate = Callable[[Any, list[Ids], int], list[Ids]]

CLIP = 1.0
HUGGING_FACE: dict[str, tuple[str, Json]] = {
    "hf-fp32": ("Hugging Face fp32", {}),
    "hf-fp32-eager": ("Hugging Face fp32, eager attention", {"attention": "eager"}),
    "hf-bf16": ("Hugging Face bf16 autocast", {"autocast": True}),
    "hf-bf16-eager": ("Hugging Face bf16 autocast, eager attention", {"autocast": True, "attention": "eager"}),
}
"""How a model of Hugging Face's is trained: titles, and the options of the functions that do it."""


def stop(problem: str) -> NoReturn:
    """Exit with a message about something the user can fix."""
    print(problem, file=sys.stderr)
    raise SystemExit(2)


# ---- one process per system ----


class Worker:
    """A system in a process of its own. It works only while it answers a question.

    Questions and answers are JSON, one object per line. `ready` is the first answer, which holds "error" if the system
    could not be built; `latest` is the last one.

    Args:
        system: the name in the report.
        command: the program to start; it must call `serve`.
        first: the first question. Its "threads" also sets the worker's OMP_NUM_THREADS.
    """

    def __init__(self, system: str, command: Sequence[str | Path], first: Json) -> None:
        self.system = system
        environment = {**os.environ, "OMP_NUM_THREADS": str(first["threads"]), "HF_HUB_OFFLINE": "1"}
        try:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                env=environment,
            )
        except OSError as error:
            stop(f"{system}: cannot start {command[0]}: {error.strerror}")
        self.ready = self.latest = self.ask(first)

    def ask(self, question: Json) -> Json:
        """Send a question and wait for the answer."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SystemExit(f"{self.system}: its process ended early; its own messages are above")
        self.latest: Json = json.loads(line)
        return self.latest

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def serve(build: Callable[[Json], tuple[Work, Json]]) -> None:
    """The worker's side: build the system from the first question, then answer the others in turn.

    Whatever the system prints goes to standard error, so that it cannot mix with the answers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    work: Work | None = None
    for line in sys.stdin:
        question = json.loads(line)
        if work is not None:
            answer = work(question)
        else:
            try:
                prepare(question)
                work, answer = build(question)
            except (ImportError, NotImplementedError, OSError) as error:
                answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


def prepare(first: Json) -> None:
    """Set the allocator, the threads and the seed of this worker from the first question."""
    if first["allocator_set"]:
        keep_freed_blocks()
    import torch

    torch.set_num_threads(first["threads"])
    torch.manual_seed(first["seed"])


def keep_freed_blocks() -> None:
    """Make glibc keep freed blocks of any size, so that large activations cause no new page faults."""
    trim_threshold, mmap_threshold = -1, -3
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not (mallopt(mmap_threshold, 1 << 30) and mallopt(trim_threshold, 2**31 - 1)):
        raise OSError("this C library has no setting to keep freed blocks")


def start(
    stack: ExitStack, systems: Iterable[str], command: Callable[[str], list[str | Path]], first: Json
) -> list[Worker]:
    """Start a worker for each system; print the name of one that cannot be built to standard error and skip it."""
    workers = []
    for name in systems:
        question = {**first, "allocator_set": name.endswith(ALLOCATOR_SET)}
        worker = stack.enter_context(Worker(name, command(base(name)), question))
        if "error" in worker.ready:
            print(f"skipped: {name}: {worker.ready['error']}", file=sys.stderr)
        else:
            workers.append(worker)
    if not workers:
        raise SystemExit("no system is left to time")
    return workers


def base(system: str) -> str:
    """A system's name without the suffix for a set allocator."""
    return system.removesuffix(ALLOCATOR_SET)


def resting_ask(worker: Worker, question: Json) -> Json:
    """Ask after a short rest, in which the previous worker's threads stop spinning."""
    time.sleep(0.02)
    return worker.ask(question)


# ---- for the workers ----


def settle(device: str) -> None:
    """Wait until a GPU has finished its queue."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def timed_step(step: Callable[[], float], device: str = "cpu") -> Json:
    """Take one training step; its seconds and its loss, or an error if the loss is not finite."""
    begun = time.perf_counter()
    loss = step()
    settle(device)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "loss": loss} if math.isfinite(loss) else {"error": f"the loss is {loss}: it diverged"}


class Stepper(NamedTuple):
    """A system's interface: `step(given)` trains on a batch and returns its mean loss; its parameter count."""

    step: Callable[[Any], float]
    parameters: int


def plain_stepper(model: nn.Module, loss: Callable[[Any], Tensor], rate: float, *, autocast: bool) -> Stepper:
    """A plain loop with the fused AdamW, in the model's type or under bf16 autocast, which covers the loss, too."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, fused=True)

    def step(given: Any) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value = loss(given)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return value.item()

    return Stepper(step, parameters(model))


def seqloom_stepper(
    model: nn.Module,
    objective: Any,
    optimizer: AdamW,
    batch: Callable[[Any], Any],
    precision: Precision = "auto",
) -> Stepper:
    """seqloom's optimizer and step, as its training loop runs them.

    Args:
        batch: what the objective reads, of what the step is given.
        precision: "auto" = bf16 where it is fast.
    """
    from seqloom.training.loop import train
    from seqloom.training.optimizer import FlatWeights, Optimizer
    from seqloom.training.precision import dtype_for

    weights = FlatWeights(model, dtype_for(precision, next(model.parameters()).device))
    current: list[Any] = []
    steps = train(model, objective, lambda _: current[0], Optimizer(weights, optimizer), lambda _: optimizer.lr)

    def step(given: Any) -> float:
        current[:] = [batch(given)]
        return next(steps).loss

    return Stepper(step, parameters(model))


def product_rate(threads: int, size: int, dtype: str) -> float:
    """GFLOP/s of products of square matrices of a type, the best of eight."""
    import torch

    torch.set_num_threads(threads)
    a, b = (torch.randn(size, size).to(getattr(torch, dtype)) for _ in range(2))
    best = math.inf
    for _ in range(8):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best / 1e9


def parameters(model: Any) -> int:
    """The number of a torch module's trainable parameters; tied ones count once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def keep_kernels() -> None:
    """Let oneDNN keep as many compiled kernels as seqloom's command line lets it."""
    from seqloom.training.precision import KERNELS

    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))


def seqloom_model() -> Any:
    """seqloom's encoder-decoder of these sizes, with tied embeddings and random weights."""
    from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
    from seqloom.nn.transformer import TransformerConfig

    keep_kernels()
    stack = TransformerConfig(layers=LAYERS, width=WIDTH, inner=INNER, heads=HEADS, dropout=DROPOUT)
    return EncoderDecoder(EncoderDecoderConfig(encoder=stack, decoder=stack), VOCAB_SIZE, VOCAB_SIZE)


def seqloom_lstm(layers: int, width: int) -> Any:
    """seqloom's LSTM encoder-decoder with a context vector, untied, with random weights and no dropout."""
    from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
    from seqloom.models.recurrent import RecurrentDecoderConfig, RecurrentEncoderConfig

    keep_kernels()
    encoder = RecurrentEncoderConfig("lstm", layers, width, "forward", dropout=0.0)
    decoder = RecurrentDecoderConfig("lstm", layers, width, dropout=0.0)
    return EncoderDecoder(EncoderDecoderConfig(encoder=encoder, decoder=decoder, tie="none"), VOCAB_SIZE, VOCAB_SIZE)


def marian(attention: str) -> MarianMTModel:
    """Hugging Face's Marian model of the benchmark's size, with random weights and no dropout on attention weights.

    Args:
        attention: "sdpa" (the library's default, a fused kernel) or "eager" (plain products).
    """
    from transformers import MarianConfig, MarianMTModel

    model = MarianMTModel(
        MarianConfig(
            vocab_size=VOCAB_SIZE,
            d_model=WIDTH,
            encoder_layers=LAYERS,
            decoder_layers=LAYERS,
            encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS,
            encoder_ffn_dim=INNER,
            decoder_ffn_dim=INNER,
            dropout=DROPOUT,
            activation_function="relu",
            scale_embedding=True,
            max_position_embeddings=512,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=EOS,
            decoder_start_token_id=BOS,
            forced_eos_token_id=None,
        )
    )
    model.set_attn_implementation(attention)
    model.generation_config.forced_eos_token_id = None
    return model


def serve_translator(model: Callable[[], Any], translate: Translate) -> None:
    """Serve a translation system: build its model once, then translate and time one slice per question."""

    def build(first: Json) -> tuple[Work, Json]:
        sources: list[Ids] = first["sources"]
        built = model()

        def work(question: Json) -> Json:
            part = sources[question["begin"] : question["end"]]
            begun = time.perf_counter()
            outputs = translate(built, part, question["size"])
            seconds = time.perf_counter() - begun
            if len(outputs) != len(part) or any(len(ids) != OUTPUT_LENGTH or EOS in ids for ids in outputs):
                lengths = sorted({len(ids) for ids in outputs})
                expected = f"{len(part)} of {OUTPUT_LENGTH} ids without the end symbol"
                return {"error": f"expected {expected}, got {len(outputs)} outputs of {lengths} ids"}
            return {"seconds": seconds}

        return work, {"parameters": parameters(built), "versions": versions("torch", "transformers", "joeynmt")}

    serve(build)


def versions(*packages: str) -> dict[str, str]:
    """The versions of the packages that are installed here."""
    from importlib import metadata

    installed = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            installed[package] = metadata.version(package)
    return installed


def write_random_run(folder: Path, name: str, config: Any) -> str:
    """A run with random weights, whose tokenizer has learned from this file; returns its path."""
    import torch

    from seqloom.config import to_toml
    from seqloom.run import Run
    from seqloom.tasks.assets import Assets
    from seqloom.text.training import train_tokenizer
    from seqloom.training.checkpoint import save_finished

    trained = train_tokenizer(config.tokenizer, [Path(__file__).read_text(encoding="utf-8")])
    assets = Assets((trained, trained))
    torch.manual_seed(1)
    weights = {name: value.detach() for name, value in config.build(assets).named_parameters()}
    about = {"task": config.task, "versions": {}}
    return str(save_finished(Run(folder / name), to_toml(config), about, weights, assets.save).path)

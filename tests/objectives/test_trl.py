"""The losses of alignment and those of trl's trainers, on the same models, tokens and rewards.

trl tokenizes, pads, asks its models, rates and weighs by its own code; only what would be drawn at random, the answers,
is given. `make test-slow` installs the last version with PPO.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import LLAMA, Publish, publish, transformers
from torch import Tensor

from seqloom.data.batches.preferences import EncodedPreference, preference_batch
from seqloom.models.decoder import LanguageModel
from seqloom.objectives.policy import Answers, GroupRelative, LeaveOneOut, PolicyObjective, Proximal
from seqloom.objectives.preference import DirectPreference, IdentityPreference, PreferenceObjective, answer_log_p
from seqloom.tasks.building import load_model
from seqloom.tasks.reinforcement.rollouts import Reading
from seqloom.training.log import Reporter
from seqloom.workflows.import_ import import_run

__all__ = ["publish", "transformers"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]
P, G, T = 3, 5, 7
END, TEMPERATURE, CLIP = 2, 0.7, 0.5
NEAR = {"rel": 1e-5, "abs": 1e-5}


@dataclass(frozen=True)
class Peer:
    """trl, with three models of transformers that differ, and the same imported here."""

    trl: Any
    theirs: dict[str, Any]
    ours: dict[str, LanguageModel]
    tokenizer: Any
    settings: dict[str, Any]


@pytest.fixture
def peer(publish: Publish, transformers: Any, tmp_path: Path) -> Peer:
    trl = pytest.importorskip("trl", reason="trl is not installed (make test-slow installs it): nothing is compared")
    theirs, ours = {}, {}
    for role, name in {"policy": "qwen3", "sampler": "llama", "reference": "mistral"}.items():
        folder = publish(name)
        theirs[role] = transformers.AutoModelForCausalLM.from_pretrained(folder)
        model, _, _ = load_model(import_run(str(folder), str(tmp_path / role), Reporter(0)), Reporter(0))
        assert isinstance(model, LanguageModel)
        ours[role] = model.eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    settings = {"output_dir": str(tmp_path / "trl"), "report_to": "none", "use_cpu": True, "bf16": False}
    settings |= {"gradient_checkpointing": False, "disable_tqdm": True, "per_device_train_batch_size": P * G}
    return Peer(trl, theirs, ours, tokenizer, settings)


def same_gradient(peer: Peer, factor: float = 1.0) -> None:
    """The gradients of the output layer, of which ours is `factor` times as large."""
    found, expected = peer.ours["policy"].head.weight.grad, peer.theirs["policy"].lm_head.weight.grad
    assert found is not None
    scale = float(expected.abs().max())
    assert scale > 1e-4
    assert float((found / factor - expected).abs().max()) < 1e-5 * max(1.0, scale)


def drawn(lengths: Sequence[int], *, ended: bool = True) -> list[np.ndarray]:
    """Tokens whose names do not begin like those of the special ones w0, w1 and w2, which would be found in them."""
    draw = np.random.default_rng(5)
    rows = [draw.integers(4, 10, length) for length in lengths]
    return [np.append(row[:-1], END) if ended and len(row) < T else row for row in rows]


def text(ids: np.ndarray) -> str:
    return " ".join(f"w{i}" for i in ids)


@pytest.mark.parametrize(
    ("loss", "objective"),
    [
        ("sigmoid", DirectPreference(beta=0.3)),
        ("sigmoid_norm", DirectPreference(beta=0.3, normalize="length")),
        ("aot", DirectPreference(beta=0.3, smoothing=0.1)),
        ("ipo", IdentityPreference(beta=0.4, normalize="length")),
    ],
    ids=["dpo", "dpo by length", "conservative", "ipo"],
)
def test_losses_of_preferences(loss: str, objective: PreferenceObjective, peer: Peer) -> None:
    """trl's IPO always divides by the lengths of the answers; ours does so if asked to.

    trl smooths labels in "aot", whose loss of a single pair is that of conservative DPO (its sorting has nothing to
    do), but no longer in "sigmoid".
    """
    from datasets import Dataset

    prompts, answers = drawn([4, 1, 6], ended=False), drawn([3, 6, 2, 5, 1, 4])
    rows = [
        {"prompt": text(prompt), "chosen": " " + text(answers[2 * i]), "rejected": " " + text(answers[2 * i + 1])}
        for i, prompt in enumerate(prompts)
    ]
    smoothing = objective.smoothing if isinstance(objective, DirectPreference) else 0.0
    trainer = peer.trl.DPOTrainer(
        model=peer.theirs["policy"],
        ref_model=peer.theirs["reference"],
        args=peer.trl.DPOConfig(**peer.settings, loss_type=[loss], beta=objective.beta, label_smoothing=smoothing),
        train_dataset=Dataset.from_list(rows),
        processing_class=peer.tokenizer,
    )
    examples = list(trainer.train_dataset)
    batches = [[example] for example in examples] if loss == "aot" else [examples]
    losses = [trainer.compute_loss(trainer.model, trainer.data_collator(batch)) for batch in batches]
    expected = sum(losses) / len(losses)
    expected.backward()
    pairs = [
        EncodedPreference(prompt, (answers[2 * i], answers[2 * i + 1]), 0.0, i) for i, prompt in enumerate(prompts)
    ]
    batch = preference_batch(pairs, np.zeros((P, 2)), None)
    with torch.no_grad():
        batch = replace(batch, reference=answer_log_p(peer.ours["reference"], batch))
    found = objective(peer.ours["policy"], batch).value / P
    found.backward()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), **NEAR)
    same_gradient(peer)


@dataclass(frozen=True)
class Learning:
    """Answers to the prompts, G to each."""

    peer: Peer
    prompts: list[np.ndarray]
    answers: list[np.ndarray]
    rewards: list[float]

    @property
    def mask(self) -> Tensor:
        return torch.arange(max(map(len, self.answers))) < torch.tensor([[len(answer)] for answer in self.answers])

    def log_p(self, role: str) -> Tensor:
        reading = Reading(self.peer.ours[role], self.prompts, self.answers, None, self.mask)
        return reading.log_p(reading.hidden(), TEMPERATURE)

    def sampled(self, *, masked: bool = False, values: Tensor | None = None) -> Answers:
        """`masked`: answers without an end are not learned; `values`: those of a critic."""
        with torch.no_grad():
            sampled, reference = self.log_p("sampler"), self.log_p("reference")
        yes = torch.ones(len(self.answers), dtype=torch.bool)
        learned = torch.tensor([not masked or int(answer[-1]) == END for answer in self.answers])
        return Answers(self.mask, torch.tensor(self.rewards), sampled, reference, learned, yes, G, values)

    def ours(self, objective: PolicyObjective, now: str = "policy", *, masked: bool = False) -> Tensor:
        """The loss by answers; differentiated is that of the model in the role `now`."""
        value, _ = objective.loss(self.log_p(now), self.sampled(masked=masked))
        (value / len(self.answers)).backward()
        return value.detach() / len(self.answers)

    def theirs(self, kind: str, now: str = "policy", **settings: Any) -> Tensor:
        from datasets import Dataset

        trl = self.peer.trl
        rows = [{"prompt": text(prompt)} for prompt in self.prompts]
        trainer = getattr(trl, f"{kind}Trainer")(
            model=self.peer.theirs["sampler"],
            reward_funcs=lambda completions, **_: self.rewards,
            args=getattr(trl, f"{kind}Config")(
                **{"num_generations": G, "temperature": TEMPERATURE, "epsilon": CLIP, "max_completion_length": T},
                **{"per_device_eval_batch_size": P * G, "num_iterations": 2},  # the sampler is not the policy
                **self.peer.settings,
                **settings,
            ),
            train_dataset=Dataset.from_list(rows[::G]),
            processing_class=self.peer.tokenizer,
        )
        trainer.ref_model = self.peer.theirs["reference"]
        ids = [answer.tolist() for answer in self.answers]
        trainer._generate_single_turn = lambda *_: (ids, None) if kind == "GRPO" else ids
        loss = trainer.compute_loss(self.peer.theirs[now], trainer._generate_and_score_completions(rows))
        loss.backward()
        return loss.detach()  # type: ignore[no-any-return]


@pytest.fixture
def learning(peer: Peer) -> Callable[[Sequence[int]], Learning]:
    """Answers of some lengths, and random rewards."""
    prompts = [prompt for prompt in drawn([4, 1, 6], ended=False) for _ in range(G)]
    return lambda lengths: Learning(peer, prompts, drawn(lengths), torch.randn(P * G).tolist())


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo"])
@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("deviation", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_losses_of_grpo(
    loss: str, beta: float, deviation: bool, masked: bool, learning: Callable[[Sequence[int]], Learning]
) -> None:
    """Weighed by answers: "grpo"; by tokens: "bnpo"; "dr_grpo" divides by the room for answers, not by their tokens.

    trl's divergence is always in the loss; here without the factor of the ratio that it has by default. trl adds 1e-4
    to the deviation of the rewards, ours 1e-6: both are nothing to the deviation of these.
    """
    data = learning([3, 7, 1, 5, 2, 7, 6, 4, 7, 3, 1, 2, 7, 7, 5])
    if deviation:
        data = replace(data, rewards=[300 * reward for reward in data.rewards])
    objective = GroupRelative(
        beta=beta, kl="loss", clip=CLIP, deviation=deviation, weigh="answers" if loss == "grpo" else "tokens"
    )
    expected = data.theirs(
        "GRPO",
        beta=beta,
        use_bias_correction_kl=False,
        loss_type=loss,
        scale_rewards="group" if deviation else "none",
        mask_truncated_completions=masked,
    )
    found = data.ours(objective, masked=masked)
    tokens = sum(len(answer) for answer in data.answers if not masked or answer[-1] == END)
    factor = P * G * T / tokens if loss == "dr_grpo" else 1.0
    assert float(found) / factor == pytest.approx(float(expected), **NEAR)
    same_gradient(data.peer, factor)


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_losses_of_rloo(beta: float, learning: Callable[[Sequence[int]], Learning]) -> None:
    """trl clips the ratio of a whole answer, ours that of each token: the same for answers of one token."""
    data = learning([1] * (P * G))
    expected = data.theirs("RLOO", beta=beta)
    found = data.ours(LeaveOneOut(beta=beta, clip=CLIP))
    assert float(found) == pytest.approx(float(expected), **NEAR)
    same_gradient(data.peer)


def test_gradient_of_rloo(learning: Callable[[Sequence[int]], Learning]) -> None:
    """Of answers just sampled no ratio is clipped, and both descend alike; trl sums over tokens, ours takes means."""
    data = learning([3, 7, 1, 5, 2, 7, 6, 4, 7, 3, 1, 2, 7, 7, 5])
    data.theirs("RLOO", "sampler", beta=0.3)
    data.ours(LeaveOneOut(beta=0.3), "sampler")
    roles = {"policy": data.peer.theirs["sampler"]}, {"policy": data.peer.ours["sampler"]}
    same_gradient(replace(data.peer, theirs=roles[0], ours=roles[1]), P * G / sum(map(len, data.answers)))


class Stopped(Exception):  # noqa: N818
    """Raised in place of a step."""


def test_losses_of_ppo(peer: Peer, transformers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of answers that fill their room, as trl rates one more place after the end of others.

    trl divides advantages by their deviation with Bessel's correction, and halves the critic's squared error; the
    range of values, which ours has not, is wide here.
    """
    trainers = pytest.importorskip(
        "trl.experimental.ppo.ppo_trainer", reason="this trl has no PPO (the last one that has is 1.12)"
    )
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig

    critic, judge = (
        transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**LLAMA, num_labels=1)).eval()
        for _ in range(2)
    )
    for parameter in [*critic.parameters(), *judge.parameters()]:
        torch.nn.init.normal_(parameter, std=0.3)
    prompts, answers = drawn([4] * P * G, ended=False), drawn([T] * P * G)
    read = []

    def generated(policy: Any, queries: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        read.append(torch.cat((queries, torch.from_numpy(np.stack(answers))), 1))
        return read[0], peer.theirs["sampler"](read[0]).logits[:, 3:-1] / TEMPERATURE

    def stop(loss: Tensor) -> None:
        loss.backward()
        raise Stopped(loss.detach())

    trainer = trainers.PPOTrainer(
        model=peer.theirs["policy"],
        ref_model=peer.theirs["reference"],
        reward_model=judge,
        value_model=critic,
        args=PPOConfig(
            **{"total_episodes": P * G, "response_length": T, "temperature": TEMPERATURE, "num_mini_batches": 1},
            **{"kl_coef": 0.3, "lam": 0.7, "cliprange": CLIP, "cliprange_value": 1e9, "vf_coef": 0.8},
            **{"num_sample_generations": 0, "local_rollout_forward_batch_size": P * G},
            **peer.settings,
        ),
        train_dataset=Dataset.from_dict({"input_ids": [prompt.tolist() for prompt in prompts]}),
        processing_class=peer.tokenizer,
    )
    monkeypatch.setattr(trainers, "batch_generation", generated)
    monkeypatch.setattr(trainer.accelerator, "backward", stop)
    with pytest.raises(Stopped) as stopped:
        trainer.train()
    with torch.no_grad():
        values, rewards = critic.score(critic.model(read[0])[0])[:, 3:-1, 0], judge(read[0]).logits[:, 0]
    data = Learning(peer, [*read[0][:, :4].numpy()], answers, rewards.tolist())
    objective = Proximal(beta=0.3, lam=0.7, clip=CLIP, value_weight=0.4)
    found, scores = objective.loss(data.log_p("policy"), data.sampled(values=values), values)
    (found / (P * G)).backward()
    squares, bessel = 0.4 * scores["critic_loss"], math.sqrt(1 - 1 / (P * G * T))
    assert squares > 0.01
    expected = (float(found.detach()) / (P * G) - squares) * bessel + squares
    assert expected == pytest.approx(float(stopped.value.args[0]), **NEAR)
    same_gradient(peer, 1 / bessel)

"""What may decode, by name; a module of its own, which the command line reads before anything else."""

from __future__ import annotations

from typing import Literal

EngineName = Literal["auto", "torch", "ctranslate2"]

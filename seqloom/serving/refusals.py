"""Why requests are refused, with what OpenAI's interface says of it."""

from __future__ import annotations

from typing import ClassVar

from seqloom.errors import SeqloomError


class RefusedError(SeqloomError):
    """A request that is not answered; its status of HTTP, its code, and the key that is to blame."""

    status: ClassVar[int] = 400
    code: ClassVar[str | None] = None
    param: ClassVar[str | None] = None


class UnknownModelError(RefusedError):
    """It names a model that is not served."""

    status, code, param = 404, "model_not_found", "model"


class WrongTaskError(RefusedError):
    """It asks a model for what it does not do."""

    code, param = "model_not_supported", "model"


class TooLongError(RefusedError):
    """The model does not see its prompt whole, with what is to follow."""

    code, param = "context_length_exceeded", "prompt"


class OverloadedError(RefusedError):
    """There are as many requests as may wait."""

    status, code = 429, "rate_limit_exceeded"

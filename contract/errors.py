"""The refusals that a client can receive, each with its status, its stable code and its title."""

from typing import ClassVar


class Refusal(Exception):
    """Sent as `application/problem+json`; `members` are the additional fields of the contract."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    retry_after_s: ClassVar[int | None] = None

    def __init__(self, detail: str, **members: object) -> None:
        super().__init__(detail)
        self.detail, self.members = detail, members


class NotFound(Refusal):
    status, code, title = 404, "not-found", "Not found"


class MethodNotAllowed(Refusal):
    status, code, title = 405, "method-not-allowed", "Method not allowed"


class TooLarge(Refusal):
    status, code, title = 413, "too-large", "Body too large"


class UnsupportedMediaType(Refusal):
    status, code, title = 415, "unsupported-media-type", "Unsupported media type"


class Malformed(Refusal):
    status, code, title = 400, "malformed", "Malformed body"


class Invalid(Refusal):
    """`errors` is a list of {"field", "reason"}; an empty field means the body as a whole."""

    status, code, title = 422, "invalid", "Invalid request"


class Unauthorized(Refusal):
    status, code, title = 401, "unauthorized", "Unauthorized"


class IdReused(Refusal):
    status, code, title = 409, "id-reused", "Id taken by other content"


class UnknownReference(Refusal):
    status, code, title = 422, "unknown-reference", "Unknown reference"


class VersionMismatch(Refusal):
    status, code, title = 412, "version-mismatch", "Version mismatch"


class WrongState(Refusal):
    status, code, title = 409, "wrong-state", "Wrong state"


class InsufficientStock(Refusal):
    """`product_id` is the first product that is short, in line order."""

    status, code, title = 409, "insufficient-stock", "Insufficient stock"


class Unavailable(Refusal):
    status, code, title, retry_after_s = 503, "unavailable", "Temporarily unavailable", 1


class StoreGone(Unavailable):
    """Raised by every adapter for whatever its store says or does that is no outcome the adapter expects. `reason`, in
    the store's own words, is for the log, for `/ready` and for who starts the service; a client reads `detail`."""

    def __init__(self, detail: str, reason: str = "") -> None:
        super().__init__(detail)
        self.reason = reason


class Behind(Refusal):
    status, code, title, retry_after_s = 503, "behind", "Not caught up yet", 1


class WorkerError(Exception):
    """A worker that must not go on; its text is the one sentence the user reads. No client ever meets it."""

"""What read stores share where the next version of their documents is built beside the one that answers."""

from contract.errors import WorkerError
from cqrs_impl.checkpoint import AnotherHistory, Checkpoint
from cqrs_impl.dead_letters import DeadLetters
from cqrs_impl.ports import Histories

HELD_S = 1.0  # a projector waits for the next version at most, whose builder says so again if it is not done


class NotBuilt(WorkerError):
    def __init__(self) -> None:
        super().__init__("There are no views that answer yet: wait until they are built, or leave out --live.")


class NextVersionGone(WorkerError):
    def __init__(self) -> None:
        super().__init__("The new views are gone, as the read store was emptied while they were built: start again.")


class Unlike(WorkerError):
    def __init__(self, letters: DeadLetters) -> None:
        first = min(letters.streams.values(), key=lambda blocked: blocked.before)
        super().__init__(
            f"The present views stay: the new ones cannot show {first.stream} from version {first.version} on"
            f" ({first.reason}), which the present ones do."
        )


async def leads_to_present(log: Histories, checkpoint: Checkpoint) -> bool:
    """Whether what has a checkpoint can follow this log from there."""
    try:
        await log.history(checkpoint.position, checkpoint.counted)
    except AnotherHistory:
        return False
    return True

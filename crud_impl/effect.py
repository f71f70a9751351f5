"""What one command did to the write model."""

from typing import NamedTuple

from contract.messages import CustomerRegistered, Event, OrderPlaced, ProductAdded, Receipt, StockDelivered


class Effect(NamedTuple):
    """`event` is None when the command was a repeat: it changed nothing."""

    receipt: Receipt
    event: Event | None

    @property
    def created(self) -> bool:
        return isinstance(self.event, CustomerRegistered | ProductAdded | StockDelivered | OrderPlaced)


def changed(event: Event) -> Effect:
    return Effect(Receipt(event.id, event.version), event)


def repeated(id: str, version: int) -> Effect:
    return Effect(Receipt(id, version), None)

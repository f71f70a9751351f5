"""An order in a part that is not its customer's: only totals count it, and a slip remembers that they did."""

from functools import partial

from msgspec.structs import replace

from contract.messages import Event, OfOrder, OrderCancelled, OrderPlaced, OrderView
from contract.text import time_text
from cqrs_impl.batch import Apply, apply
from cqrs_impl.fold import DAY_WIDTH, Missing, count_totals
from cqrs_impl.part import WHOLE, Part, Slip, customer_key, day_key, product_key, slip_id
from cqrs_impl.ports import Documents


def apply_in(part: Part) -> Apply:
    """How a part applies events: as if there were no other, if there is none."""
    return apply if part == WHOLE else partial(_apply_in, part)


async def _apply_in(part: Part, event: Event, documents: Documents) -> None:
    if not isinstance(event, OfOrder):
        await apply(event, documents, part)
    elif slip := await documents.get(Slip, slip_id(event.id, part)):
        if isinstance(event, OrderCancelled) and slip.version < event.version:
            documents.put(slip_id(event.id, part), replace(slip, version=event.version))
            await count_totals(slip, -1, documents, part)
    elif isinstance(event, OrderPlaced):
        if part.holds(customer_key, event.customer_id):
            await apply(event, documents, part)
        elif _counts(slip := _slip(event), part):
            documents.put(slip_id(event.id, part), slip)
            await count_totals(slip, 1, documents, part)
    else:
        await _advance_unknown(event, documents, part)


async def _advance_unknown(event: OfOrder, documents: Documents, part: Part) -> None:
    """Without a slip the order is the part's own, or has yet to be placed here, or is no business of the part: where
    the order could not be read, its events go to every part. The view may be another part's: of that only what never
    changes is used."""
    order = await documents.get(OrderView, event.id)
    if order is None:
        raise Missing(event.stream)
    if part.holds(customer_key, order.customer.id):
        await apply(event, documents, part)  # type: ignore[arg-type]
    elif isinstance(event, OrderCancelled) and _counts(order, part):
        raise Missing(event.stream)


def _slip(event: OrderPlaced) -> Slip:
    return Slip(event.id, event.version, time_text(event.at), event.lines, event.total_cents)


def _counts(order: OrderView | Slip, part: Part) -> bool:
    products = (part.holds(product_key, line.product_id) for line in order.lines)
    return part.holds(day_key, order.placed_at[:DAY_WIDTH]) or any(products)

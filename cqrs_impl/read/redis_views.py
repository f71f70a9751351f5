"""The views in Redis: folds events into the documents that the queries fetch, and moves the checkpoint with them.

A batch is one optimistic transaction: WATCH the checkpoint, read what the events touch, fold in memory, and
write everything with the new checkpoint in one MULTI/EXEC. If somebody else wrote meanwhile (a second projector, a
rebuild, a replay), Redis refuses the whole and the batch starts over from what is there now.
"""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace
from redis.exceptions import RedisError

from contract.http.metrics import Histogram
from contract.messages import (
    Change,
    CustomerRef,
    CustomerRegistered,
    CustomerRenamed,
    CustomerView,
    DaySales,
    Event,
    HistoryView,
    OrderCancelled,
    OrderEvent,
    OrderItem,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
    OrderView,
    ProductAdded,
    ProductRepriced,
    ProductView,
    StockDelivered,
    TopProduct,
)
from contract.position import Position
from contract.text import time_text, words
from cqrs_impl.documents.redis_client import Command, RedisClient
from cqrs_impl.ports import Parked, RecordedEvent, Unreadable
from cqrs_impl.read.checkpoint import CLEARING, AnotherSource, Checkpoint, clearing
from cqrs_impl.read.keys import MEMBER_WIDTH, TIME_WIDTH, Keys, member
from cqrs_impl.read.parking import NotYet, Parking, Tries

CACHE_MAX = 50_000
RANK_TOP = 10**19  # ranks count down from here, so that the highest revenue comes first

_encode = msgspec.json.Encoder().encode
_decoders: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (OrderView, HistoryView, CustomerView, ProductView, DaySales, TopProduct)
}
V = TypeVar("V")


class RedisViews:
    """The only writer of its keys. Keeps copies of what it wrote for as long as nobody else writes."""

    def __init__(self, line: RedisClient, keys: Keys, source: Callable[[], Awaitable[str]] | None = None) -> None:
        """`source` tells the identity of the outbox that is followed, where there could be another."""
        self._line, self._keys, self._source = line, keys, source
        self._copies: dict[str, Any] = {}
        self._copies_at: Checkpoint | None = None
        self._tries = Tries()
        self._watching: object = None  # the connection
        self._ages = Histogram("applied")  # of events when they are in the views; told with the write after

    async def position(self) -> Position:
        return (await self._looked())[0].reached

    async def apply(self, after: Position, batch: Sequence[RecordedEvent]) -> Position:
        while True:
            at, parking = await self._watched()
            if at.reached < after:
                return at.reached  # emptied under our hands: nothing may land before what it follows
            news = [placed for placed in batch if placed.position > at.reached]
            work = _Work(self._line, self._keys, self._copies, parking, self._tries)
            reached = await work.fold(news, at.reached)
            if not work.documents and not parking.changed and reached == at.reached:
                return reached
            if await self._write(work, at, reached):
                now_s = time.time()
                for placed in news:
                    if placed.recorded_s is not None and placed.position <= reached:
                        self._ages.observe(0, max(0.0, now_s - placed.recorded_s))
                return reached

    async def parked(self) -> tuple[Sequence[Parked], Position]:
        at, parking = await self._looked()
        return sorted(parking.streams.values(), key=lambda parked: parked.before), at.reached

    async def replay(self, stream: str, events: Sequence[RecordedEvent], at: Position) -> int | None:
        now, parking = await self._watched()
        if now.reached != at or stream not in parking.streams:
            return None
        work = _Work(self._line, self._keys, self._copies, parking, None)
        parking.release(stream)
        await work.fold(events, at)
        if not await self._write(work, now, at):
            return None
        return len(events) - (parking.streams[stream].events if stream in parking.streams else 0)

    async def _watched(self) -> tuple[Checkpoint, Parking]:
        """What the views hold now; from here on, our write fails if another comes before it."""
        at, parking = await self._looked()
        if at != self._copies_at or len(self._copies) > CACHE_MAX:
            self._copies = {}
        self._copies_at = None  # until a write is known to have happened, the copies prove nothing
        return at, parking

    async def _looked(self) -> tuple[Checkpoint, Parking]:
        checkpoint, source = self._keys.checkpoint, await self._source() if self._source else ""
        while True:
            *_, (found, parked) = await self._line.ask(
                ("UNWATCH",),  # what an earlier look left behind
                # An empty store says so, and then replays itself; NX because another projector may be there too.
                ("SET", checkpoint, Checkpoint.begin(source).text, "NX"),
                ("WATCH", checkpoint),
                ("MGET", checkpoint, self._keys.parked),
            )
            self._watching = self._line.connection
            if found is None:
                continue  # emptied just then
            if found.startswith(CLEARING):
                await self._empty(found)
                continue
            at = Checkpoint.of(found)
            if at.source != source:
                raise AnotherSource
            return at, Parking(parked)

    async def _write(self, work: "_Work", at: Checkpoint, reached: Position) -> bool:
        after = Checkpoint(work.parking.reflected(reached), reached, at.writes + 1, at.source)
        ages = _encode((self._ages.counts, self._ages.seconds))
        commands = (("MULTI",), *work.commands(after), ("SET", self._keys.applied, ages), ("EXEC",))
        *_, written = await self._line.ask(*commands, on=self._watching)
        if written is None:
            return False  # another came before it
        self._copies |= work.documents
        self._copies_at = after
        return True

    async def clear(self) -> None:
        mark = clearing(await self._source() if self._source else "")
        await self._line.ask(("SET", self._keys.checkpoint, mark))
        await self._empty(mark)

    async def _empty(self, mark: bytes) -> None:
        """Stops when another has finished, or begun anew: what is there then may be new."""
        checkpoint, cursor = self._keys.checkpoint, b"0"
        while True:
            *_, found, (cursor, keys) = await self._line.ask(
                ("UNWATCH",),
                ("WATCH", checkpoint),
                ("GET", checkpoint),
                ("SCAN", cursor, "MATCH", f"{self._keys.prefix}*", "COUNT", 1000),
            )
            if found != mark:
                return
            gone = [key for key in keys if key != checkpoint.encode()]
            work: list[Command] = [("UNLINK", *gone)] if gone else []
            if cursor == b"0":
                work.append(("SET", checkpoint, Checkpoint.begin(mark.split(b" ")[2].decode()).text))
            *_, written = await self._line.ask(("MULTI",), *work, ("EXEC",), on=self._line.connection)
            if written is None or cursor == b"0":
                return


class _Work:
    """One batch being folded: documents as they become, and the list members that come and go.

    What an event changes is staged, and kept when it has been applied as a whole. `tries` None says that an event
    gets one try alone, and that all of them come from before the checkpoint.
    """

    def __init__(
        self, line: RedisClient, keys: Keys, copies: dict[str, Any], parking: Parking, tries: Tries | None
    ) -> None:
        self._line, self._keys, self._copies = line, keys, copies
        self.parking, self._tries = parking, tries
        self.documents: dict[str, Any] = {}
        self._members: dict[str, dict[str, bool]] = defaultdict(dict)  # list → member → in or out
        self._staged: dict[str, Any] = {}
        self._staged_members: dict[tuple[str, str], bool] = {}

    # Request

    async def _get(self, kind: type[V], key: str) -> V | None:
        changed = self._staged.get(key) or self.documents.get(key)
        if changed is not None:
            return changed  # type: ignore[no-any-return]
        if key in self._copies:
            return self._copies[key]  # type: ignore[no-any-return]
        (found,) = await self._line.ask(("GET", key))
        value = None if found is None else _decoders[kind].decode(found)
        self._copies[key] = value
        return value

    async def _need(self, kind: type[V], key: str) -> V:
        value = await self._get(kind, key)
        if value is None:
            raise NotYet(key.removeprefix(self._keys.prefix).replace(":", "-", 1))
        return value

    async def _prefetch(self, wanted: dict[str, type]) -> None:
        missing = [key for key in wanted if key not in self._copies]
        if missing:
            (documents,) = await self._line.ask(("MGET", *missing))
            for key, found in zip(missing, documents, strict=True):
                self._copies[key] = None if found is None else _decoders[wanted[key]].decode(found)

    async def _list(self, key: str) -> list[str]:
        """The members of a list, with this batch's changes."""
        (members,) = await self._line.ask(("ZRANGE", key, 0, -1))
        there = {m.decode() for m in members}
        staged = {name: present for (of, name), present in self._staged_members.items() if of == key}
        for name, present in (self._members[key] | staged).items():
            (there.add if present else there.discard)(name)
        return sorted(there)

    # Writing

    def _put(self, key: str, value: Any) -> None:
        self._staged[key] = value

    def _member(self, key: str, name: str, present: bool) -> None:
        self._staged_members[key, name] = present

    def _keep(self) -> None:
        self.documents |= self._staged
        for (key, name), present in self._staged_members.items():
            self._members[key][name] = present
        self._drop()

    def _drop(self) -> None:
        self._staged.clear()
        self._staged_members.clear()

    def commands(self, after: Checkpoint) -> Iterator[Command]:
        yield "SET", self._keys.checkpoint, after.text
        if self.parking.changed:
            yield "SET", self._keys.parked, self.parking.text
        if self.documents:
            yield "MSET", *(text for key, value in self.documents.items() for text in (key, _encode(value)))
        for key, members in self._members.items():
            if gone := [m for m, present in members.items() if not present]:
                yield "ZREM", key, *gone
            if come := [m for m, present in members.items() if present]:
                yield "ZADD", key, *(word for m in come for word in ("0", m))

    # Folding

    async def fold(self, news: Sequence[RecordedEvent], at: Position) -> Position:
        """Apply all that can be; an event that comes before what it builds on waits inside the batch. Returns the
        place before the first that still waits at the end."""
        await self._prefetch(self._touched(news))
        waiting = list(news)
        failed: list[RecordedEvent] = []
        while True:
            still = []
            for placed in waiting:
                if self.parking.holds(placed):
                    continue
                try:
                    await self._apply(placed.event)
                    self._keep()
                except NotYet as missing:
                    self._drop()
                    if self._tries is None or self.parking.begins(missing.stream):
                        self.parking.park(placed, f"it waits for {missing.stream}")
                    else:
                        still.append(placed)
                except RedisError:
                    raise
                except Exception as failure:  # noqa: BLE001
                    # The one place that goes on after a bug: whatever is wrong with one event must not stop all
                    # others. Nothing is skipped: it is logged, its stream is parked, counted and can be replayed.
                    self._drop()
                    if self._tries is None or self._tries.over(placed.position):
                        self.parking.park(placed, str(failure) or type(failure).__name__)
                    else:
                        failed.append(placed)
            if not still or len(still) == len(waiting):
                break
            waiting = still
        self._list_totals()
        positions = [placed.position for placed in news]
        left = min((placed.position for placed in still + failed), default=None)
        return max([at, *(position for position in positions if left is None or position < left)])

    def _list_totals(self) -> None:
        """Members that are a total's own text change once a batch, however often the total did."""
        for key, total in self.documents.items():
            if isinstance(total, DaySales | TopProduct):
                for each, present in ((self._copies.get(key), False), (total, True)):
                    if each is not None and (listed := self._listed(each)):
                        of, name = listed
                        self._members[of][name] = present

    def _listed(self, total: DaySales | TopProduct) -> tuple[str, str] | None:
        """The list that shows a total, and its member: what it is ordered by, then the answer's JSON."""
        text = _encode(total).decode()
        if isinstance(total, DaySales):
            return (self._keys.days, total.day + text) if total.orders else None
        return (self._keys.top, f"{RANK_TOP - total.revenue_cents:020d}{total.id}{text}") if total.sold else None

    def _touched(self, news: Sequence[RecordedEvent]) -> dict[str, type]:
        keys = self._keys
        wanted: dict[str, type] = {}
        for _, event, _ in news:
            match event:
                case Unreadable():
                    pass
                case CustomerRegistered() | CustomerRenamed():
                    wanted[keys.customer(event.id)] = CustomerView
                case ProductAdded() | ProductRepriced() | StockDelivered():
                    wanted[keys.product(event.id)] = ProductView
                case OrderPlaced():
                    wanted[keys.order(event.id)] = OrderView
                    wanted[keys.customer(event.customer_id)] = CustomerView
                    wanted[keys.day(time_text(event.at)[:10])] = DaySales
                    for line in event.lines:
                        wanted[keys.product(line.product_id)] = ProductView
                        wanted[keys.sales(line.product_id)] = TopProduct
                case _:
                    wanted[keys.order(event.id)] = OrderView
                    wanted[keys.history(event.id)] = HistoryView
        return wanted

    async def _apply(self, event: Event | Unreadable) -> None:
        """Versions guard every apply: an old one is a repeat and changes nothing, one too new waits."""
        match event:
            case Unreadable():
                raise ValueError(event.reason)
            case CustomerRegistered() | CustomerRenamed():
                customer = await self._get(CustomerView, self._keys.customer(event.id))
                if _next(customer, event):
                    await self._name(customer, event)
            case ProductAdded() | ProductRepriced() | StockDelivered():
                product = await self._get(ProductView, self._keys.product(event.id))
                if _next(product, event):
                    self._product(product, event)
            case _:
                order = await self._get(OrderView, self._keys.order(event.id))
                if _next(order, event):
                    await self._order(order, event)

    async def _name(self, customer: CustomerView | None, event: CustomerRegistered | CustomerRenamed) -> None:
        keys = self._keys
        if customer is None:
            self._put(keys.customer(event.id), CustomerView(event.id, event.version, event.name, 0, 0, None))
            return
        for entry in await self._list(keys.orders_of(event.id)):
            name = entry[:MEMBER_WIDTH]
            order = await self._need(OrderView, keys.order(name[TIME_WIDTH:]))
            in_products = {word for line in order.lines for word in words(line.product_name)}
            for word in words(customer.name):
                if word not in in_products:
                    self._member(keys.word(word), name, False)
            for word in words(event.name):
                self._member(keys.word(word), name, True)
            self._put(keys.order(order.id), replace(order, customer=CustomerRef(event.id, event.name)))
        self._put(keys.customer(event.id), replace(customer, version=event.version, name=event.name))

    def _product(self, product: ProductView | None, event: ProductAdded | ProductRepriced | StockDelivered) -> None:
        match event:
            case ProductAdded():
                view = ProductView(event.id, event.version, event.name, event.price_cents, event.stock, 0)
            case ProductRepriced():
                assert product is not None, "version 2 comes after version 1"
                view = replace(product, version=event.version, price_cents=event.price_cents)
            case StockDelivered():
                assert product is not None, "version 2 comes after version 1"
                view = replace(product, version=event.version, stock=product.stock + event.quantity)
        self._put(self._keys.product(event.id), view)

    async def _order(self, order: OrderView | None, event: OrderEvent) -> None:
        keys = self._keys
        at = time_text(event.at)
        if isinstance(event, OrderPlaced):
            customer = await self._need(CustomerView, keys.customer(event.customer_id))
            for line in event.lines:
                await self._need(ProductView, keys.product(line.product_id))
            view = OrderView(
                event.id,
                event.version,
                "placed",
                at,
                CustomerRef(customer.id, customer.name),
                event.lines,
                event.total_cents,
            )
            history = HistoryView((Change(1, "placed", at),))
            name = member(at, event.id)
            for word in {*words(customer.name), *(w for line in event.lines for w in words(line.product_name))}:
                self._member(keys.word(word), name, True)
            await self._count(view, 1)
        else:
            assert order is not None, "version 2 comes after version 1"
            self._member(keys.orders_of(order.customer.id), _entry(_item(order)), False)
            before = await self._need(HistoryView, keys.history(event.id))
            match event:
                case OrderPaid():
                    view = replace(order, version=event.version, status="paid")
                case OrderShipped():
                    view = replace(order, version=event.version, status="shipped")
                case OrderCancelled():
                    view = replace(order, version=event.version, status="cancelled")
                    await self._count(view, -1)
            history = HistoryView((*before.changes, Change(view.version, view.status, at)))
        self._put(keys.order(view.id), view)
        self._put(keys.history(view.id), history)
        item = _item(view)
        self._put(keys.item(view.id), item)
        self._member(keys.orders_of(view.customer.id), _entry(item), True)

    async def _count(self, order: OrderView, sign: int) -> None:
        """Into every total when placed (+1), out of every total when cancelled (-1)."""
        keys = self._keys
        customer = await self._need(CustomerView, keys.customer(order.customer.id))
        name = member(order.placed_at, order.id)
        self._member(keys.active_of(customer.id), name, sign > 0)
        if sign > 0:
            last = max(customer.last_order_at or "", order.placed_at)
        else:
            active = await self._list(keys.active_of(customer.id))
            last = active[-1][:TIME_WIDTH] if active else ""
        self._put(
            keys.customer(customer.id),
            replace(
                customer,
                orders=customer.orders + sign,
                spent_cents=customer.spent_cents + sign * order.total_cents,
                last_order_at=last or None,
            ),
        )
        day = order.placed_at[:10]
        sales = await self._get(DaySales, keys.day(day)) or DaySales(day, 0, 0)
        revenue_cents = sales.revenue_cents + sign * order.total_cents
        self._put(keys.day(day), DaySales(day, sales.orders + sign, revenue_cents))
        for line in order.lines:
            product = await self._need(ProductView, keys.product(line.product_id))
            pieces, amount = sign * line.quantity, sign * line.amount_cents
            sold = product.sold + pieces
            self._put(keys.product(product.id), replace(product, stock=product.stock - pieces, sold=sold))
            top = await self._get(TopProduct, keys.sales(product.id))
            revenue_cents = (top.revenue_cents if top else 0) + amount
            self._put(keys.sales(product.id), TopProduct(product.id, product.name, sold, revenue_cents))


def _next(seen: CustomerView | ProductView | OrderView | None, event: Event) -> bool:
    """Whether to apply: True for the next version, False for one seen; raises `NotYet` for a later one."""
    version = seen.version if seen else 0
    if event.version > version + 1:
        raise NotYet(event.stream)
    return event.version == version + 1


def _item(order: OrderView) -> OrderItem:
    return OrderItem(order.id, order.version, order.status, order.placed_at, len(order.lines), order.total_cents)


def _entry(item: OrderItem) -> str:
    return member(item.placed_at, item.id) + _encode(item).decode()

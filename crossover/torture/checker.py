"""The judge: compares what clients were told with what the stores hold. It shares no code with the systems.

Pure functions over recorded data, so that a lie can be planted in a test and a finding be studied afterwards.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from crossover.torture.history import COMMANDS, Finding, Operation, effect_of
from crossover.torture.truth import Row, Truth, dumped
from crossover.torture.wire import Reply

Effect = tuple[str, str, str | int]
COUNTED = ("rename", "reprice")  # they leave no row of their own: a version counts them, and events name them
STEPS = (("placed", "placed_at"), ("paid", "paid_at"), ("shipped", "shipped_at"), ("cancelled", "cancelled_at"))


def judge_commands(operations: Iterable[Operation], truth: Truth) -> list[Finding]:
    """Every acknowledged command took effect exactly once, every refused one left no trace, an unknown is either."""
    acknowledged: dict[Effect, list[Operation]] = defaultdict(list)
    possible: dict[Effect, Operation] = {}
    for operation in operations:
        if operation.kind in COMMANDS and operation.outcome != "refused":
            possible[effect_of(operation)] = operation
            if operation.outcome == "ok":
                acknowledged[effect_of(operation)].append(operation)
    happened = effects_of(truth)
    must = [effect for effect in acknowledged if truth.events is not None or effect[0] not in COUNTED]
    findings = [Finding("lost", f"{_said(e)} was acknowledged and is not there") for e in must if not happened[e]]
    findings += [Finding("phantom", f"{_said(e)} happened and should not") for e in happened if e not in possible]
    findings += [Finding("duplicate", f"{_said(e)} happened {n} times") for e, n in happened.items() if n > 1]
    findings += _contents(possible, truth)
    for kind, things in (("rename", truth.customers), ("reprice", truth.products)):
        findings += _last_words(kind, things, acknowledged)
    return findings


def resolved(operations: Iterable[Operation], truth: Truth) -> int:
    """How many commands of unknown outcome turned out to have happened, as far as the truth can tell."""
    happened = effects_of(truth)
    return sum(o.kind in COMMANDS and o.outcome == "unknown" and happened[effect_of(o)] > 0 for o in operations)


def effects_of(truth: Truth) -> Counter[Effect]:
    """What happened. Of renames and reprices the rows show the last alone; events, where they are kept, name all."""
    happened: Counter[Effect] = Counter()
    for order in truth.orders.values():
        happened["place", order["id"], ""] += 1
        for kind, column in (("pay", "paid_at"), ("ship", "shipped_at"), ("cancel", "cancelled_at")):
            happened[kind, order["id"], ""] += order[column] is not None
    for product, delivery in truth.deliveries:
        happened["deliver", product, delivery] += 1
    for id, row in truth.customers.items():
        happened["register", id, ""] += 1
        happened["rename", id, row["name"]] += truth.events is None and row["name"] != row["registered_name"]
    for id, row in truth.products.items():
        happened["add", id, ""] += 1
        happened["reprice", id, row["price_cents"]] += (
            truth.events is None and row["price_cents"] != row["added_price_cents"]
        )
    for event in (json.loads(body) for _, _, body in truth.events or ()):
        if event["type"] == "CustomerRenamed":
            happened["rename", event["id"], event["name"]] += 1
        elif event["type"] == "ProductRepriced":
            happened["reprice", event["id"], event["price_cents"]] += 1
    return +happened


def _contents(possible: Mapping[Effect, Operation], truth: Truth) -> list[Finding]:
    """What was created is what was sent, for a price that the product had at some time."""
    findings = []
    prices = {(id, sent.body["price_cents"]) for (_, id, _), sent in possible.items() if "price_cents" in sent.body}
    for (kind, id, _), sent in possible.items():
        there: Row | None = None
        if kind == "place" and (order := truth.orders.get(id)):
            lines = [{"product_id": x["product_id"], "quantity": x["quantity"]} for x in order["lines"]]
            there = {"customer_id": order["customer_id"], "lines": lines}
            if any((x["product_id"], x["unit_price_cents"]) not in prices for x in order["lines"]):
                findings.append(Finding("differing", f"order {id} has a price that was never set"))
        elif kind == "register" and (customer := truth.customers.get(id)):
            there = {"name": customer["registered_name"]}
        elif kind == "add" and (row := truth.products.get(id)):
            there = {"name": row["name"], "price_cents": row["added_price_cents"], "stock": row["added_stock"]}
        if there not in (None, sent.body):
            findings.append(Finding("differing", f"{_said((kind, id, ''))} left {there}, sent was {sent.body}"))
    return findings


def _last_words(kind: str, things: Mapping[str, Row], acknowledged: Mapping[Effect, list[Operation]]) -> list[Finding]:
    """No two acknowledged renames or reprices share a version, and the one that has the thing's version stands."""
    findings = []
    by_version: dict[tuple[str, int | None], Effect] = {}
    for effect, (said, *_) in acknowledged.items():
        if effect[0] == kind:
            other = by_version.setdefault((said.id, said.version), effect)
            if other != effect:
                findings.append(Finding("lost", f"{_said(effect)} got the version of {_said(other)}"))
    for id, thing in things.items():
        value = thing["name" if kind == "rename" else "price_cents"]
        stands = by_version.get((id, thing["version"]))
        if stands is not None and value != stands[2]:
            findings.append(Finding("lost", f"{_said(stands)} was acknowledged as the last, yet {value} stands"))
    return findings


def judge_truth(operations: Iterable[Operation], truth: Truth) -> list[Finding]:
    """The truth agrees with itself: stock adds up and is never negative, versions count, totals are sums."""
    findings = []
    stock = {id: product["added_stock"] for id, product in truth.products.items()}
    commands: Counter[str] = Counter()
    for (id, _), quantity in truth.deliveries.items():
        stock[id] += quantity
        commands[id] += 1
    for order in truth.orders.values():
        for line in order["lines"]:
            stock[line["product_id"]] -= line["quantity"] if order["cancelled_at"] is None else 0
        done = [what for what, column in STEPS if order[column] is not None]
        total = sum(line["quantity"] * line["unit_price_cents"] for line in order["lines"])
        if (order["version"], order["status"], order["total_cents"]) != (len(done), done[-1], total):
            findings.append(Finding("differing", f"order {order['id']} does not add up: version, status or total"))
    for id, product in truth.products.items():
        if product["stock"] != stock[id] or product["stock"] < 0:
            findings.append(Finding("differing", f"{id} has {product['stock']} in stock, its moves leave {stock[id]}"))
    sent: dict[str, Counter[str]] = defaultdict(Counter)  # renames and reprices of a thing, by outcome
    for operation in operations:
        if operation.kind in COUNTED:
            sent[operation.id][operation.outcome] += 1
    for id, thing in (truth.customers | truth.products).items():
        changes, sure = thing["version"] - 1 - commands[id], sent[id]["ok"]
        if changes < sure:
            findings.append(Finding("lost", f"{id} counts {changes} changes, {sure} were acknowledged"))
        if changes > sure + sent[id]["unknown"]:
            findings.append(Finding("duplicate", f"{id} counts {changes} changes, not as many were sent"))
    return findings


def judge_events(truth: Truth) -> list[Finding]:
    """Streams run 1…n without gaps, and replaying them gives the state; nothing where no events are kept."""
    if truth.events is None:
        return []
    findings = []
    streams: dict[str, list[Row]] = defaultdict(list)
    for stream, version, body in truth.events:
        streams[stream].append(json.loads(body) | {"version": version})
    for stream, events in streams.items():
        versions = [event["version"] for event in events]
        if versions != list(range(1, len(events) + 1)):
            findings.append(Finding("lost", f"stream {stream} has gaps or doubles: {versions}"))
    kept = {f"customer-{id}": row for id, row in truth.customers.items()}
    kept |= {f"product-{id}": row for id, row in truth.products.items()}
    kept |= {f"order-{id}": row for id, row in truth.orders.items()}
    findings += [Finding("lost", f"{s} has no events") for s in kept if s not in streams]
    findings += [Finding("phantom", f"stream {s} is about nothing") for s in streams if s not in kept]
    for stream in kept.keys() & streams.keys():
        for field, value in _replayed(streams[stream]).items():
            if kept[stream].get(field) != value:
                said = f"{stream} has {field} {kept[stream].get(field)}, its events say {value}"
                findings.append(Finding("differing", said))
    return findings


def _replayed(events: Iterable[Row]) -> Row:
    """The columns that the events of one thing give."""
    state: Row = {}
    for event in events:
        if event["type"] == "OrderPlaced":
            state = {"total_cents": event["total_cents"]} | {column: None for _, column in STEPS}
        if "at" in event:  # a whole second is written without its fraction
            at = event["at"] if "." in event["at"] else event["at"].replace("Z", ".000000Z")
            state[event["type"].removeprefix("Order").lower() + "_at"] = at
        state |= {key: event[key] for key in ("version", "name", "price_cents") if key in event}
    return state


def expected_answers(truth: Truth, asked: Iterable[Operation], words: Iterable[str]) -> dict[str, bytes | None]:
    """What every query must answer now, by path; None for a 404. `asked` adds the ids that came to nothing."""
    answers: dict[str, bytes | None] = {}
    for operation in asked:
        if operation.kind in ("place", "register", "add"):
            answers[f"/{operation.thing}s/{operation.id}"] = None
    placed = sorted(truth.orders.values(), key=lambda o: (o["placed_at"], o["id"]), reverse=True)
    active = [order for order in placed if order["cancelled_at"] is None]
    of: dict[str, list[Row]] = defaultdict(list)
    sold: Counter[str] = Counter()
    revenue: Counter[str] = Counter()
    days: dict[str, list[int]] = defaultdict(list)
    for order in placed:
        of[order["customer_id"]].append(order)
        answers[f"/orders/{order['id']}"] = dumped(_order_view(order, truth))
        steps = [(what, order[column]) for what, column in STEPS if order[column] is not None]
        changes = [{"version": n, "what": what, "at": at} for n, (what, at) in enumerate(steps, 1)]
        answers[f"/orders/{order['id']}/history"] = dumped({"changes": changes})
    for order in active:
        days[order["placed_at"][:10]].append(order["total_cents"])
        for line in order["lines"]:
            sold[line["product_id"]] += line["quantity"]
            revenue[line["product_id"]] += line["quantity"] * line["unit_price_cents"]
    for id, customer in truth.customers.items():
        mine = [order for order in of[id] if order["cancelled_at"] is None]
        view = {k: customer[k] for k in ("id", "version", "name")} | {"orders": len(mine)}
        view |= {"spent_cents": sum(order["total_cents"] for order in mine)}
        answers[f"/customers/{id}"] = dumped(view | {"last_order_at": mine[0]["placed_at"] if mine else None})
        answers[f"/customers/{id}/orders"] = dumped({"orders": [_item(order) for order in of[id]], "next": None})
    for id, product in truth.products.items():
        view = {k: product[k] for k in ("id", "version", "name", "price_cents", "stock")}
        answers[f"/products/{id}"] = dumped(view | {"sold": sold[id]})
    top = sorted((id for id in sold if sold[id]), key=lambda id: (-revenue[id], id))[:100]
    names = {id: product["name"] for id, product in truth.products.items()}
    tops = [{"id": id, "name": names[id], "sold": sold[id], "revenue_cents": revenue[id]} for id in top]
    answers["/reports/top-products?limit=100"] = dumped({"products": tops})
    dailies = [{"day": d, "orders": len(days[d]), "revenue_cents": sum(days[d])} for d in sorted(days, reverse=True)]
    answers["/reports/daily-sales?days=366"] = dumped({"days": dailies})
    for word in words:
        found = [order for order in placed if word.lower() in _words_of(order, truth)][:100]
        answers[f"/search/orders?q={word}&limit=100"] = dumped({"orders": [_item(order) for order in found]})
    return answers


def _order_view(order: Row, truth: Truth) -> Row:
    lines = []
    for line in order["lines"]:
        named = {"product_id": line["product_id"], "product_name": truth.products[line["product_id"]]["name"]}
        amount = {"amount_cents": line["quantity"] * line["unit_price_cents"]}
        lines.append(named | {k: line[k] for k in ("quantity", "unit_price_cents")} | amount)
    customer = {"id": order["customer_id"], "name": truth.customers[order["customer_id"]]["name"]}
    first = {k: order[k] for k in ("id", "version", "status", "placed_at")}
    return first | {"customer": customer, "lines": lines, "total_cents": order["total_cents"]}


def _item(order: Row) -> Row:
    first = {k: order[k] for k in ("id", "version", "status", "placed_at")}
    return first | {"lines": len(order["lines"]), "total_cents": order["total_cents"]}


def _words_of(order: Row, truth: Truth) -> set[str]:
    names = [truth.products[line["product_id"]]["name"] for line in order["lines"]]
    return {word for name in (truth.customers[order["customer_id"]]["name"], *names) for word in name.lower().split()}


def judge_reads(expected: Mapping[str, bytes | None], answers: Mapping[str, Reply]) -> list[Finding]:
    """After settling the read side equals the truth: nothing missing, nothing too much, no byte different."""
    findings = []
    for path, wanted in expected.items():
        reply = answers[path]
        if reply.status not in (200, 404):
            findings.append(Finding("trouble", f"GET {path} answers {reply.status}"))
        elif wanted is None and reply.status == 200:
            findings.append(Finding("phantom", f"GET {path} finds what is not there"))
        elif wanted is not None and reply.status == 404:
            findings.append(Finding("lost", f"GET {path} does not find what is there"))
        elif wanted is not None and reply.body != wanted:
            findings.append(Finding("differing", f"GET {path} answers {reply.body.decode()}, not {wanted.decode()}"))
    return findings


def judge_sessions(operations: Iterable[Operation]) -> tuple[list[Finding], int, int]:
    """With a token, reads after a client's own writes and reads never go back. Returns violations of that, and of the
    reads without a token how many did go back, and how many could have."""
    findings = []
    stale = reads = 0
    floors: dict[tuple[str, str, str], int] = defaultdict(int)
    for seen in operations:
        key = (seen.client, seen.thing, seen.id)
        if seen.version is None or not seen.id:
            continue
        if seen.kind not in COMMANDS and floors[key]:
            went_back = seen.version < floors[key]
            if seen.tokens and went_back:
                said = f"{seen.client} saw version {floors[key]} of {seen.thing} {seen.id}, then {seen.version}"
                findings.append(Finding("stale", said))
            reads += not seen.tokens
            stale += went_back and not seen.tokens
        floors[key] = max(floors[key], seen.version)
    return findings, stale, reads


def judge_manners(operations: Iterable[Operation]) -> list[Finding]:
    """Whatever goes wrong, an answer is one of the contract's, and lag is never negative."""
    return [
        Finding("trouble", f"{o.kind} {o.id} answered {o.status}, {o.version}")
        for o in operations
        if (o.status >= 500 and o.status != 503) or (o.version or 0) < 0
    ]


def judge_rebuild(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Finding]:
    """Views that were rebuilt from nothing equal the live ones, byte by byte."""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return [Finding("differing", f"{n}: {before.get(n)!r} live, {after.get(n)!r} rebuilt") for n in names]


def _said(effect: Effect) -> str:
    kind, id, value = effect
    return f"{kind} of {id}" + (f" ({value})" if value else "")

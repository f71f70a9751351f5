"""An order service in Flask, over memory: the smallest system of one's own that Crossover can drive.

`python docs/own-system/service.py PORT`. It has the operations that `lookups.toml` asks for, those that fill it and
verify its ledger, and nothing else. Statuses and codes are those of `contract/openapi.yaml`.
"""

import json
import sys
import threading
import uuid
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server

app = Flask(__name__)
app.url_map.strict_slashes = True
lock = threading.Lock()  # a command is all or nothing
customers: dict[str, dict[str, Any]] = {}
products: dict[str, dict[str, Any]] = {}
orders: dict[str, dict[str, Any]] = {}
position = 0  # counts the commands that took effect: what a Consistency-Token stands for

NEXT = {"pay": ("paid", {"placed"}), "ship": ("shipped", {"paid"}), "cancel": ("cancelled", {"placed", "paid"})}


class Refused(Exception):
    def __init__(self, status: int, code: str, **members: Any) -> None:
        self.status, self.code, self.members = status, code, members


@app.errorhandler(Refused)
def refusal(refused: Refused) -> Response:
    problem = {"type": f"urn:crossover:{refused.code}", "title": refused.code, "status": refused.status}
    answer = reply(problem | {"detail": "Refused."} | refused.members, refused.status)
    answer.content_type = "application/problem+json"
    return answer


@app.errorhandler(HTTPException)
def elsewhere(error: HTTPException) -> Response:
    answer = refusal(Refused(error.code or 500, "method-not-allowed" if error.code == 405 else "not-found"))
    if error.code == 405:
        answer.headers["Allow"] = ", ".join(sorted(set(error.valid_methods or ()) - {"OPTIONS"}))  # type: ignore[attr-defined]
    return answer


def reply(content: dict[str, Any], status: int = 200, **headers: str) -> Response:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Response(text, status, {"Consistency-Token": str(position), **headers}, content_type="application/json")


def sent(**kinds: type) -> dict[str, Any]:
    """The body, if it has exactly these fields of these types."""
    if request.mimetype != "application/json":
        raise Refused(415, "unsupported-media-type")
    try:
        body = json.loads(request.get_data())
    except ValueError:
        raise Refused(400, "malformed") from None
    if (
        not isinstance(body, dict)
        or {name: type(value) for name, value in body.items()} != kinds
        or body.get("name") == ""
    ):
        raise Refused(422, "invalid")
    return body


def identity(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise Refused(422, "invalid") from None


def created(
    things: dict[str, dict[str, Any]], kind: str, id: str, body: dict[str, Any], thing: dict[str, Any]
) -> Response:
    global position
    if id in things:
        if things[id]["sent"] != body:
            raise Refused(409, "id-reused")
        return reply({"id": id, "version": things[id]["version"]})
    things[id] = thing | {"version": 1, "sent": body}
    position += 1
    return reply({"id": id, "version": 1}, 201, Location=f"/{kind}/{id}")


@app.put("/customers/<id>")
def register(id: str) -> Response:
    id, body = identity(id), sent(name=str)
    with lock:
        return created(customers, "customers", id, body, {"name": body["name"], "orders": []})


@app.put("/products/<id>")
def add_product(id: str) -> Response:
    id, body = identity(id), sent(name=str, price_cents=int, stock=int)
    with lock:
        return created(products, "products", id, body, body | {"sold": 0})


@app.put("/orders/<id>")
def place(id: str) -> Response:
    id, body = identity(id), sent(customer_id=str, lines=list)
    wanted = {line["product_id"]: line["quantity"] for line in body["lines"]}
    if not 1 <= len(wanted) == len(body["lines"]) <= 50 or not all(1 <= pieces <= 1000 for pieces in wanted.values()):
        raise Refused(422, "invalid")
    with lock:
        if id in orders:
            return created(orders, "orders", id, body, {})
        if body["customer_id"] not in customers or not wanted.keys() <= products.keys():
            raise Refused(422, "unknown-reference")
        for product, pieces in wanted.items():
            if products[product]["stock"] < pieces:
                raise Refused(409, "insufficient-stock", product_id=product)
        lines = []
        for product, pieces in wanted.items():
            found = products[product]
            found["stock"], found["sold"] = found["stock"] - pieces, found["sold"] + pieces
            price = {"unit_price_cents": found["price_cents"], "amount_cents": pieces * found["price_cents"]}
            lines.append({"product_id": product, "product_name": found["name"], "quantity": pieces, **price})
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        customers[body["customer_id"]]["orders"].append(id)
        return created(orders, "orders", id, body, {"status": "placed", "placed_at": at, "lines": lines, "did": []})


@app.post("/orders/<id>/<what>")
def change(id: str, what: str) -> Response:
    global position
    if what not in NEXT:
        raise Refused(404, "not-found")
    id, expected = identity(id), request.headers.get("Expected-Version")
    with lock:
        order = known(orders, id)
        status, before = NEXT[what]
        if what not in order["did"]:
            if expected is not None and int(expected) != order["version"]:
                raise Refused(412, "version-mismatch")
            if order["status"] not in before:
                raise Refused(409, "wrong-state")
            order["status"], order["version"] = status, order["version"] + 1
            order["did"].append(what)
            position += 1
            for line in order["lines"] if what == "cancel" else []:
                product = products[line["product_id"]]
                product["stock"], product["sold"] = (
                    product["stock"] + line["quantity"],
                    product["sold"] - line["quantity"],
                )
        return reply({"id": id, "version": order["version"]})


def known(things: dict[str, dict[str, Any]], id: str) -> dict[str, Any]:
    if id not in things:
        raise Refused(404, "not-found")
    return things[id]


@app.get("/orders/<id>")
def order(id: str) -> Response:
    found = known(orders, identity(id))
    customer = found["sent"]["customer_id"]
    who = {"id": customer, "name": customers[customer]["name"]}
    head = {"id": id, "version": found["version"], "status": found["status"], "placed_at": found["placed_at"]}
    return reply(head | {"customer": who, "lines": found["lines"], "total_cents": total(found)})


@app.get("/customers/<id>")
def customer(id: str) -> Response:
    found = known(customers, identity(id))
    active = [orders[one] for one in found["orders"] if orders[one]["status"] != "cancelled"]
    sums = {"orders": len(active), "spent_cents": sum(map(total, active))}
    last = max((one["placed_at"] for one in active), default=None)
    return reply({"id": id, "version": found["version"], "name": found["name"], **sums, "last_order_at": last})


def total(order: dict[str, Any]) -> int:
    return sum(line["amount_cents"] for line in order["lines"])


@app.get("/products/<id>")
def product(id: str) -> Response:
    found = known(products, identity(id))
    return reply({"id": id} | {name: found[name] for name in ("version", "name", "price_cents", "stock", "sold")})


@app.get("/health")
def health() -> Response:
    return reply({"status": "ok"})


@app.get("/ready")
def ready() -> Response:
    return reply({"lag_events": 0, "lag_seconds": 0, "parked_events": 0})


if __name__ == "__main__":
    WSGIRequestHandler.protocol_version = "HTTP/1.1"  # connections are kept
    WSGIRequestHandler.log_request = lambda *_, **__: None  # type: ignore[method-assign]
    with make_server("127.0.0.1", int(sys.argv[1]), app, threaded=True) as server:
        print(f"Orders at http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()

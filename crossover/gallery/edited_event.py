"""Editing an event where it lies, because what it says is wrong.

An UPDATE of the row seems to correct the past. But the past was acted on: answers were given from the event, and every
view has long passed it. No view shows the correction until it is rebuilt, and then nothing explains what was answered
before. The log and what was built from it contradict each other.

The remedy appends: a correcting event says what is so from now on, reaches every view by the way of all events, and
leaves what was known before as it was. Where only the shape of an event is too old, an upcast reads it in the new one.
"""

from collections.abc import Awaitable, Callable

from contract.messages import CustomerView, RenameCustomer
from cqrs_impl.documents.redis import Keys
from crossover.gallery.environment import DemoEnvironment, Evidence

CUSTOMERS = 30
EDIT = """
UPDATE outbox SET body = replace(body, '"name":"Ann"', '"name":"Anne"') WHERE stream = 'customer-' || %(id)s
RETURNING version"""

Correct = Callable[[DemoEnvironment, str], Awaitable[object]]


async def edit(env: DemoEnvironment, customer: str) -> None:
    await env.rows(EDIT, id=customer)


async def append(env: DemoEnvironment, customer: str) -> None:
    await env.execute(RenameCustomer(customer, "Anne"))


WRONG, RIGHT = edit, append


async def show(env: DemoEnvironment, correct: Correct) -> Evidence:
    customers = await env.customers(CUSTOMERS)
    await env.project()
    for customer in customers:
        await correct(env, customer)
    await env.project()
    again = Keys(f"{env.namespace}-again")
    await env.project(again)
    shown, rebuilt = [
        await env.redis.mget([keys.document(CustomerView, customer) for customer in customers])
        for keys in (env.keys, again)
    ]
    assert all(b"Anne" in document for document in rebuilt), "the log says what is right now"
    differ = sum(one != other for one, other in zip(shown, rebuilt, strict=True))
    return Evidence(differ, CUSTOMERS, "customers who are shown otherwise than the events say")

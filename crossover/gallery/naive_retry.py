"""Trying again under a new id after the reply to a COMMIT was lost.

A lost reply says nothing: the order may be there or not. If the service makes up ids, the client's second try is a
second order, and the customer pays twice. Not trying again is no cure; then some orders do not exist that should.

The remedy lets the client choose the id and keep it for every try. The service inserts first: what is there already
with the same content is a repeat, and gets the same answer.
"""

from collections.abc import Callable

from contract.messages import Command, CommandResult
from crossover.gallery.environment import DemoEnvironment, Evidence, fresh_id

INTENDED = 40


def new_id(intention: str) -> str:
    return fresh_id()


def same_id(intention: str) -> str:
    return intention


WRONG, RIGHT = new_id, same_id


class ReplyLost(Exception):
    """What a client sees of a commit whose reply never came."""


async def show(env: DemoEnvironment, id_for: Callable[[str], str]) -> Evidence:
    customer, product = await env.customer(), await env.product()

    async def without_reply(command: Command) -> CommandResult:
        await env.execute(command)
        raise ReplyLost

    for _ in range(INTENDED):
        intention = fresh_id()
        try:
            await env.place(customer, product, id=id_for(intention), by=without_reply)
        except ReplyLost:
            await env.place(customer, product, id=id_for(intention), by=env.execute)
    ((orders,),) = await env.rows("SELECT count(*) FROM orders")
    return Evidence(orders - INTENDED, INTENDED, "orders placed twice")

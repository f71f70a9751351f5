"""Reading the stock, deciding in the program, and writing the difference back.

Between the read and the write another order reads the same number. Both find stock enough and both write one less, so
two pieces are sold and one is taken. A check of `stock >= 0` in the table sees nothing: the number never gets negative.

The remedy locks the row before it decides, or lets the database do both: `UPDATE … SET stock = stock - 1 WHERE
stock >= 1`.
"""

from collections.abc import Awaitable, Callable

from contract.errors import InsufficientStock
from crossover.gallery.environment import DemoEnvironment, Evidence, crowd
from crud_impl.connections import Transaction

STOCK, ASKED = 50, 200

Sell = Callable[[DemoEnvironment, str, str], Awaitable[bool]]


async def read_then_write(env: DemoEnvironment, customer: str, product: str) -> bool:
    async def work(transaction: Transaction) -> bool:
        (stock,) = await transaction.first("SELECT stock FROM products WHERE id = %(id)s", id=product)
        if stock < 1:
            return False
        await transaction.send("UPDATE products SET stock = %(stock)s WHERE id = %(id)s", id=product, stock=stock - 1)
        return True

    return await env.writing.transact(work)


async def lock_then_decide(env: DemoEnvironment, customer: str, product: str) -> bool:
    try:
        await env.place(customer, product, by=env.execute)
    except InsufficientStock:
        return False
    return True


WRONG, RIGHT = read_then_write, lock_then_decide


async def show(env: DemoEnvironment, sell: Sell) -> Evidence:
    customer, product = await env.customer(), await env.product(stock=STOCK)
    sold = sum(await crowd(4, ASKED // 4, lambda _: sell(env, customer, product)))
    assert sold >= STOCK, "all there is gets sold"
    return Evidence(sold - STOCK, ASKED, f"buyers of a piece that is not there: {sold} sold of {STOCK}")

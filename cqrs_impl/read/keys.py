"""What the read store is called by: one key a document, one sorted set a list, the checkpoint beside them.

Members of a list begin with the time and the id of the order, so that Redis's order of bytes is the contract's
order (placed_at, id); all scores are 0.
"""

TIME_WIDTH = 27  # 2026-11-23T09:30:00.000000Z
MEMBER_WIDTH = TIME_WIDTH + 36


class Keys:
    def __init__(self, namespace: str) -> None:
        self.prefix = f"{namespace}:"
        self.checkpoint = f"{namespace}:checkpoint"
        self.parked = f"{namespace}:parked"  # streams whose events wait
        self.applied = f"{namespace}:applied"  # how long events took from their recording to here
        self.top = f"{namespace}:top"  # members: rank, then the answer's JSON
        self.days = f"{namespace}:days"  # members: day, then the answer's JSON

    def order(self, id: str) -> str:
        return f"{self.prefix}order:{id}"

    def history(self, id: str) -> str:
        return f"{self.prefix}history:{id}"

    def item(self, id: str) -> str:
        return f"{self.prefix}item:{id}"

    def customer(self, id: str) -> str:
        return f"{self.prefix}customer:{id}"

    def orders_of(self, customer_id: str) -> str:
        """Its members go on with the JSON of the list's item, so that a page is one range."""
        return f"{self.prefix}orders-of:{customer_id}"

    def active_of(self, customer_id: str) -> str:
        return f"{self.prefix}active-of:{customer_id}"

    def product(self, id: str) -> str:
        return f"{self.prefix}product:{id}"

    def sales(self, product_id: str) -> str:
        return f"{self.prefix}sales:{product_id}"

    def day(self, day: str) -> str:
        return f"{self.prefix}day:{day}"

    def word(self, word: str) -> str:
        return f"{self.prefix}word:{word}"


def member(placed_at: str, order_id: str) -> str:
    return placed_at + order_id

# %% [markdown]
# # 5 · Events as the truth
#
# The rung `event_sourced` has no tables of customers, products and orders. It keeps what happened, and folds it whenever a
# command must know what is. The views are those of `cqrs`. What does one get for it? A past that can be asked, and views of
# events that are older than the question. It runs here over 10,000 orders of the last weeks.

# %%
import asyncio
import inspect
import json

import polars as pl
from rich.console import Console

from analysis import lessons, plots
from analysis.findings import find
from analysis.prediction import costs_in
from crossover.history import life_of, show_life
from crossover.lab import Lab
from crossover.targets import quiet
from crossover.weeks import Weeks, by_product_and_week

COSTS = "../results/published/2026-11-26-events-costs-s"  # a run of `crossover costs`

# %%
lab = Lab.open("event_sourced", size="s", clock=None)
shop = lab["event_sourced"]
ADA, POT, ORDER = lab.ids("ADA", "POT", "ORDER")

# %%
lab.ask("PUT", f"/customers/{ADA}", {"name": "Ada"})
lab.ask("PUT", f"/products/{POT}", {"name": "Copper pot", "price_cents": 2490, "stock": 10})
lab.ask("PUT", f"/orders/{ORDER}", {"customer_id": ADA, "lines": [{"product_id": POT, "quantity": 2}]})
placed = shop.ask("GET", f"/orders/{ORDER}").body

# %%
lab.ask("POST", f"/orders/{ORDER}/pay")
lab.ask("POST", f"/customers/{ADA}/rename", {"name": "Ada Lovelace"})
lab.ask("POST", f"/products/{POT}/reprice", {"price_cents": 2990})
lab.ask("POST", f"/orders/{ORDER}/cancel")

# %% [markdown]
# ## What happened to this order?
# Nobody has to have logged it: what happened is all there is.

# %%
events = shop.get(f"/orders/{ORDER}/events")["events"]
rows = [(e["version"], e["type"], e["at"], shop.named(json.dumps(e["data"]))) for e in events]
pl.DataFrame(rows, schema=["version", "type", "at", "data"], orient="row")

# %% [markdown]
# ## And what did each event change?
# The fold that fills the views, played again in memory over all events. `crossover history ORDER` prints the same.

# %%
life = await asyncio.to_thread(life_of, "event_sourced", ORDER, shop.target.env, quiet)
console = Console(width=110, force_jupyter=False, color_system=None)
with console.capture() as captured:
    show_life(console, "event_sourced", ORDER, life)
print(shop.named(captured.get()))

# %% [markdown]
# ## What did we answer then?
# The order as it was when it had just been placed: the same bytes, the customer's old name too.

# %%
then = shop.ask("GET", f"/orders/{ORDER}?as_of=1").body
print("The same bytes:", then == placed)

# %%
answers = {as_of: shop.get(f"/orders/{ORDER}?as_of={as_of}") for as_of in [e["at"] for e in events]}
for as_of, answer in answers.items():
    print(as_of, answer["status"], "of", answer["customer"]["name"])

# %%
pot = [shop.get(f"/products/{POT}?as_of={as_of}") for as_of in (1, 2)]
now = shop.get(f"/products/{POT}")
print(f"In stock: {pot[0]['stock']} when it was added, {pot[1]['stock']} when it was repriced, {now['stock']} now.")

# %% [markdown]
# ## A question that nobody had asked
# How do the orders of each product go, week by week? No view shows it, and nothing was recorded for its sake. The events are
# there: this is the whole of the new view. (The first and the last week are not whole.)

# %%
print(inspect.getsource(Weeks))

# %%
weeks = await asyncio.to_thread(by_product_and_week, "event_sourced", shop.target.env)
weeks.pivot("week", index="product", values="orders").fill_null(0).head(5)

# %%
best = weeks.group_by("product").agg(pl.sum("orders")).sort("orders", "product", descending=True)["product"][:3]
names = sorted(set(weeks["week"]))
lines = {p: [weeks.filter(product=p, week=week)["orders"].sum() for week in names] for p in best}

# %%
lessons.by_week("The three best products, from events older than the question", "orders", names, lines)

# %% [markdown]
# ## What does it cost?
# An order is more rows than in `cqrs`: its own events, and one for each product that it took from or returned to.

# %%
shop.holds(ORDER).filter(store="PostgreSQL")

# %%
lab.close()

# %% [markdown]
# And a command reads and folds before it writes. A published run, each operation by itself:

# %%
costs = find(COSTS)
plots.one(costs, "operations")

# %%
print(lessons.answer_for(costs, costs_in(costs).mix))

# %% [markdown]
# **What stays.** The past can be asked because nothing was overwritten, and a new view needs no migration, only a fold. The
# price is paid by each command, by the disk, and by whoever must still read an event of ten years ago.

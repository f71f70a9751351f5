# %% [markdown]
# # 1 · Same answers, kept differently
#
# Two order systems run here on real servers. `crud` keeps one model in PostgreSQL and reads from it. `cqrs` writes to
# PostgreSQL too, but answers queries from documents in Redis, which a third process, the projector, keeps up to date.
# A client cannot tell them apart, except in one respect. Let us follow one order through both.

# %%
from crossover.lab import Lab

lab = Lab.open("crud", "cqrs")

# %%
ADA, POT, CUP, ORDER = lab.ids("ADA", "POT", "CUP", "ORDER")
lab.ask("PUT", f"/customers/{ADA}", {"name": "Ada"})
lab.ask("PUT", f"/products/{POT}", {"name": "Tea pot", "price_cents": 2490, "stock": 10})
lab.ask("PUT", f"/products/{CUP}", {"name": "Cup", "price_cents": 450, "stock": 100})

# %% [markdown]
# ## Do both answer a command alike?
# A command answers a receipt and nothing else: what was touched, and its version now.

# %%
lines = [{"product_id": POT, "quantity": 1}, {"product_id": CUP, "quantity": 4}]
placed = lab.ask("PUT", f"/orders/{ORDER}", {"customer_id": ADA, "lines": lines})
placed

# %%
print("The same receipt from both:", placed["answer"].n_unique() == 1)

# %% [markdown]
# ## And a query?

# %%
order = lab.ask("GET", f"/orders/{ORDER}")
order

# %%
print("The same bytes from both:", order["answer"].n_unique() == 1)

# %% [markdown]
# ## What does `crud` hold now?
# One row for the order, one for each line. The answer above is put together from them, the customer and the products, each
# time somebody asks.

# %%
crud = lab["crud"].holds(ORDER)
crud

# %% [markdown]
# ## And `cqrs`?
# The same rows, then an *event* in the outbox, written in the same transaction; and in Redis the finished answers: the
# order, its history, its line in a list, and its place in the lists of the customer and of each word one may search for.

# %%
cqrs = lab["cqrs"].holds(ORDER)
cqrs

# %%
print(f"crud keeps the order in {len(crud)} places, cqrs in {len(cqrs)}: that is what ready answers cost.")

# %% [markdown]
# ## What happens between the two stores?
# We hold the projector still and pay the order. The command succeeds on both. Then we ask both what they see.

# %%
with lab["cqrs"].held("projector"):
    lab["cqrs"].ask("POST", f"/orders/{ORDER}/pay")
    before = lab["cqrs"].get(f"/orders/{ORDER}")["status"]
    refused = lab["cqrs"].ask("GET", f"/orders/{ORDER}", token=lab["cqrs"].token)

# %%
lab["crud"].ask("POST", f"/orders/{ORDER}/pay")
print("crud says:", lab["crud"].get(f"/orders/{ORDER}")["status"])
print("cqrs says:", before, "while the projector stands still")

# %% [markdown]
# A client that needs to see its own write sends the token of its command along. It is then never shown anything older:
# it waits, or is told so.

# %%
print(f"With the token: {refused.status}, {refused.body.decode()}")

# %%
lab["cqrs"].settle()
print("cqrs says:", lab["cqrs"].get(f"/orders/{ORDER}")["status"], "once the projector runs again")

# %% [markdown]
# ## Where does a change of one row reach further?
# A customer's new name shows on her old orders. `crud` changes one row; `cqrs` rewrites every document that shows the name.

# %%
lab.ask("POST", f"/customers/{ADA}/rename", {"name": "Ada Lovelace"})

# %%
lab["cqrs"].holds("Lovelace")

# %% [markdown]
# ## Was that luck?
# Some hundred random operations, refusals included, settled after each command and then in bursts: every answer of both is
# compared, byte for byte.

# %%
verdict = lab.conformance()
print(f"{verdict.operations} operations, first difference: {verdict.first_difference or 'none'}")
assert verdict.ok

# %%
lab.close()

# %% [markdown]
# **What stays.** The two systems promise the same and keep it. The difference is a span of time after each write in which
# `cqrs` still gives the old answer, and the work of a third process. What both buy is the next notebook's question.

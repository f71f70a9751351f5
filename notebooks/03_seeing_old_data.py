# %% [markdown]
# # 3 · Seeing old data
#
# A rung that reads from views filled later is *eventually* right. How long is "eventually"? Who notices? And what does it
# cost to never notice? Two rungs run here: `cqrs`, and `crud` as the control that can never be stale.

# %%
from analysis import lessons, plots, sentences
from analysis.findings import find
from crossover.lab import Lab

lab = Lab.open("crud", "cqrs")
ADA, POT, ORDER = lab.ids("ADA", "POT", "ORDER")

# %%
lab.ask("PUT", f"/customers/{ADA}", {"name": "Ada"})
lab.ask("PUT", f"/products/{POT}", {"name": "Tea pot", "price_cents": 2490, "stock": 100_000})
lines = [{"product_id": POT, "quantity": 1}]

# %% [markdown]
# ## What does a reader see just after a write?
# We place an order at `cqrs` and read it again and again from the moment the command was acknowledged. Version 0 stands for
# "no such order".

# %%
seen = lab["cqrs"].watch(("PUT", f"/orders/{ORDER}", {"customer_id": ADA, "lines": lines}), f"/orders/{ORDER}")
seen

# %%
late = seen["ms after the acknowledgement"].max()
print(f"{(seen['state'] == 'old').sum()} of {len(seen)} reads saw the old state; the order showed {late:.1f} ms later.")

# %% [markdown]
# ## Was that typical?
# The same 200 times, on each rung, reading at once.

# %%
crud = lab["crud"].race(200, lines, ADA)
cqrs = lab["cqrs"].race(200, lines, ADA)
print(f"first read stale: crud {crud['stale'].sum()} of {len(crud)}, cqrs {cqrs['stale'].sum()} of {len(cqrs)}")

# %%
title = f"Half of the orders show within {cqrs['visible_ms'].median():.1f} ms, 99% within {cqrs['visible_ms'].quantile(0.99):.0f} ms"
lessons.shares_slower(title, {"crud": crud["visible_ms"], "cqrs": cqrs["visible_ms"]})

# %% [markdown]
# This loop had the system to itself. Under load, in a published run, readers came back after growing delays:

# %%
published = find("../results/published/2026-11-23-shop-thorough")
plots.one(published, "staleness")

# %%
print(sentences.staleness_line(published, "cqrs"))

# %% [markdown]
# ## Can a reader insist?
# Every command answers a token. A query that sends it back is answered from a state at least as new, or waits for one.

# %%
sure = lab["cqrs"].race(200, lines, ADA, token=True)
print(f"with the token, first read stale: {sure['stale'].sum()} of {len(sure)}")

# %%
price = sure["read_ms"].median() - cqrs["read_ms"].median()
print(f"What it costs: the median read just after a write takes {price:+.1f} ms.")

# %% [markdown]
# ## And when the projector stands still?
# Then staleness has no bound. Commands go on being acknowledged; the distance grows with each.

# %%
with lab["cqrs"].held("projector"):
    ids = [lab.ids("…")[0] for _ in range(20)]
    [lab["cqrs"].ask("PUT", f"/orders/{id}", {"customer_id": ADA, "lines": lines}) for id in ids]
    print("events behind:", lab["cqrs"].get("/ready")["lag_events"])

# %%
print(f"Caught up {1e3 * lab['cqrs'].settle():.0f} ms after it went on.")

# %%
lab.close()

# %% [markdown]
# **What stays.** Staleness is a distribution, and it has a cliff: milliseconds while the projector keeps up, without bound
# when it does not. A token turns "perhaps old" into "perhaps later", for those readers who need it and only for them.

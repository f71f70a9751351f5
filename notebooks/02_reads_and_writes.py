# %% [markdown]
# # 2 · Reads and writes
#
# Separate read models make reads cheap and writes dear. So the answer to "which is better?" is a number: the share of reads
# from which the one saves more than the other costs. Here is yours to fill in; everything below follows from it.

# %%
READ_SHARE = 90  # percent of your operations
READS = {"order": 45, "customer_orders": 25, "product": 20, "customer": 7, "history": 3}  # percent of your reads
WRITES = {"place": 45, "pay": 30, "ship": 14, "cancel": 4, "rename": 2, "reprice": 2, "deliver": 3}  # of your writes
RATE = 200  # operations a second: idle servers cost something too

# %%
from rich.console import Console

from analysis import answer, lessons, plots, prediction, tables
from analysis.findings import find
from analysis.operations import Mix

console = Console(width=110)

# %% [markdown]
# ## Which uses less CPU, at which read share?
# A published run: the same load on both, at four read shares, in slices that take turns. Each point is a ratio of CPU time per
# operation, with its 95% interval. Below 1 `cqrs` uses less. It is a quick run beside other work; README has a thorough one.

# %%
sweep = find("../results/published/2026-11-26-shop-quick")
plots.one(sweep, "ratio")

# %%
print(answer.text(sweep))

# %% [markdown]
# ## Where does the time go?
# The projector is the price of a write, PostgreSQL the price of a read.

# %%
plots.one(sweep, "cpu")

# %% [markdown]
# ## What does each operation cost by itself?
# A mix hides its parts. So each operation was also measured alone, at the same rate.

# %%
costs = find("../results/published/2026-11-26-shop-costs-s")
plots.one(costs, "operations")

# %% [markdown]
# ## And your mix?
# Costs add up. From those above follows what any mix costs, hence where the two meet.

# %%
mix = Mix("your mix", READS, WRITES, RATE)
lessons.ratio_of_mix(costs, mix, READ_SHARE)

# %%
console.print(tables.predictions(costs, mix, prediction.predict(costs, mix, [READ_SHARE])))

# %% [markdown]
# ## Can a sum be trusted?
# Predictions beside mixed runs that had no part in them: an error below 10%, or a measured cost inside the interval, holds.

# %%
console.print(tables.checks("the published run", prediction.check(costs, sweep)))

# %% [markdown]
# **What stays.** There is no better system, there is a better one *for a mix*. Change the numbers at the top and run this again.

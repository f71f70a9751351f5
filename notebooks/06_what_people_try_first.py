# %% [markdown]
# # 6 · What people try first
#
# Before read models come an ORM and a cache. What does each cost, and where does it come from? All is from published runs.

# %%
COSTS = "../results/published/2026-11-26-alternatives-costs-s"  # crud and orm, each operation by itself
POPULAR = "../results/published/2026-11-26-alternatives-popular-s"  # crud and cache at four read shares: some keys are popular
UNIFORM = "../results/published/2026-11-26-alternatives-uniform-s"  # the same, every key as popular as any other
MIXED = "../results/published/2026-11-26-shop-alternatives-quick"  # with a usual first version of an ORM

# %%
import polars as pl

from analysis import cache_plots, lessons, plots, sentences
from analysis.findings import find

_ = pl.Config.set_tbl_rows(-1)
# %% [markdown]
# ## What does a mapper cost, operation by operation?
# `orm` has the tables, the rules and the answers of `crud`, byte for byte; entities stand where SQL stood.

# %%
costs = find(COSTS)
plots.one(costs, "operations")

# %% [markdown]
# How many statements does each send, of plain SQL and of the mapper? `tests/test_orm.py` counts them.

# %%
STATEMENTS = {"place": (2, 6), "cancel": (4, 5), "deliver": (4, 4)}
STATEMENTS |= dict.fromkeys(("pay", "ship", "rename", "reprice"), (2, 2))
STATEMENTS |= dict.fromkeys(("order", "customer_orders", "product", "customer", "history"), (1, 1))
lessons.by_operation(costs, "orm", STATEMENTS)

# %% [markdown]
# **More statements.** To place an order, SQL locks the products and asks for customer and order in one statement, and writes
# order, lines and stock in a second. The mapper loads each kind by itself, and writes each table by itself.
# **The unit of work.** `pay`, `rename` and `reprice` send two statements on both sides. What is left is the session: it keeps how
# each attribute was, finds at the commit what has changed, sorts it by dependency and composes the UPDATE.
# **Rows become entities.** A read is one statement on both sides. SQL's rows go straight into the answer. The mapper looks each
# row up in its *identity map*, makes an order, a line and a product of it, and then the answer of those.
#
# None of this is a mistake: it is what a mapper does. What does it mean for the whole shop?

# %%
print(lessons.answer_for(costs, costs.operations.mix))

# %% [markdown]
# ## And a usual first version?
# `orm:naive` asks for an order, its customer, its lines, and then for the product of each line by itself: *N + 1*. It loads all
# orders of a customer, and all lines that ever sold a product, and adds them up in Python. Its pool sends the default ROLLBACK,
# after which PostgreSQL plans every read anew. Its answers are right.

# %%
cells = [cell for cell in find(MIXED).cells if cell.target in ("orm", "orm:naive")]
print(
    *(f"{c.target} at {c.where} reads: {sentences.ratio_text(c.comparison)} × the CPU of crud" for c in cells), sep="\n"
)

# %% [markdown]
# ## What does a cache do?
# It answers what was asked before and has not changed since. A miss costs more than no cache: ask, read, keep. So all depends on
# how often the same thing is asked for, and on how many writes come between. Each run begins with an empty cache: one that has
# run for longer holds more.

# %%
cache_plots.side_by_side(find(POPULAR), find(UNIFORM))

# %% [markdown]
# **What stays.** A mapper is paid for on every operation, a cache on every miss. Neither changes what a read costs that nobody
# asked before. A read model does, and is paid for on every write.

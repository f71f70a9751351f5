# %% [markdown]
# # 4 · How to measure
#
# Four ways to fool oneself, each shown: asking politely, trusting one run, an accident that looks like a win, and a ratio
# taken after one side has collapsed.

# %%
import asyncio

from analysis import lessons
from analysis.findings import find
from crossover.gallery import run_demo
from crossover.lab import stalled
from crossover.targets import start_servers
from servers.supervisor import Processes

# %% [markdown]
# ## Does it matter how one asks?
# A service answers at once, but stands still for one second out of six. A client that waits for each answer before it asks
# again meets the stall *once*. Users do not wait for each other: a client that keeps to its schedule meets it as they do.

# %%
times = await stalled()
waits = times.filter(client="waits for each answer")["latency_ms"]
keeps = times.filter(client="keeps to its schedule")["latency_ms"]

# %%
p99 = [times_ms.quantile(0.99) for times_ms in (waits, keeps)]
title = f"p99: {p99[0]:.1f} ms for the client that waits, {p99[1]:,.0f} ms for the other"
lessons.shares_slower(title, {"waits for each answer": waits, "keeps to its schedule": keeps})

# %%
print(f"Slower than 100 ms: {(waits > 100).sum()} of {len(waits)}, against {(keeps > 100).sum()} of {len(keeps)}.")

# %% [markdown]
# This is *coordinated omission*: the measuring client lets the measured service decide when to be measured. Crossover counts
# from the moment an operation was **due**.

# %% [markdown]
# ## How different are two copies of the same thing?
# Every thorough run carries the same rung twice. Whatever differs between the two is noise.

# %%
run = find("../results/published/2026-11-23-shop-thorough")
pair = run.identical[0]
ratios = lessons.round_ratios(run, pair.other)

# %%
low, high = pair.comparison.interval
title = f"Single rounds of one rung against itself: from {ratios.min():.2f} to {ratios.max():.2f}"
lessons.spread(title, ratios, (low, high))

# %%
off = ((ratios - 1).abs() > 0.05).mean()
print(
    f"{100 * off:.0f}% of single rounds differ by over 5%; all together: {pair.comparison.ratio:.3f} [{low:.3f}–{high:.3f}]"
)

# %% [markdown]
# ## Can an accident look like a win?
# One and the same query by the same driver, twice: once through a pool with its default settings, once without the ROLLBACK
# that such a pool sends when a connection comes back. The driver forgets its prepared statements at every ROLLBACK, so the
# database plans each read anew.

# %%
with Processes() as processes:
    trap = await asyncio.to_thread(run_demo, "default-rollback", start_servers(processes, ["cqrs"]))

# %%
print(f"{trap.wrong.bad} of {trap.wrong.of} {trap.wrong.what}, against {trap.right.bad} of {trap.right.of}")
print(f"A read takes {trap.wrong.cost_us / trap.right.cost_us:.1f} times as long.")

# %% [markdown]
# Whoever compares such a service with a read model in Redis counts this as a gain of CQRS. All rungs here read the way
# that plans once.

# %% [markdown]
# ## When is a ratio a ratio?
# Two systems, each with one worker: one needs 2.0 ms of CPU for an operation, the other 1.6. By cost the second is 1.25
# times better, at any load. What does the ratio of their mean latencies say?

# %%
rates = [50.0, 150.0, 250.0, 350.0, 400.0, 450.0, 480.0, 495.0]
slow = [lessons.waiting_line_ms(rate, 2.0).mean() for rate in rates]
fast = [lessons.waiting_line_ms(rate, 1.6).mean() for rate in rates]
ratio = [one / other for one, other in zip(slow, fast, strict=True)]

# %%
title = (
    f"The same two systems: {ratio[0]:.2f} times apart at {rates[0]:.0f}/s, {ratio[-1]:.0f} times at {rates[-1]:.0f}/s"
)
lessons.by_rate(title, "mean latency of one over the other", rates, {"latency": ratio, "CPU": [1.25] * len(rates)})

# %% [markdown]
# Near its capacity the slower one queues, and the ratio measures the queue. Choose the load and you choose the headline. So
# Crossover compares **cost**, at a load that both carry, and looks for **capacity** separately.

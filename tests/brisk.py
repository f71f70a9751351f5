"""The command line with runs as short as they can be: `python -m tests.brisk` is `crossover`, but what its figures rest
on is little. How long a round, a warm-up or a trial takes changes nothing of what a command does."""

from crossover import calibrate, kinds, planning

planning.PROFILES["quick"] = planning.Profile(rounds=5, restarts=1, pair=False, probes=4, warm_up_s=0.5)
kinds.TRIAL_S, kinds.GATE_WARM_UP_S = 0.5, 0.5
calibrate.SHORT["short"] = calibrate.SHORT["short"]._replace(rounds=4, restarts=2)

if __name__ == "__main__":
    from crossover.cli import main

    main()

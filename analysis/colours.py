"""One colour a rung and one a component, the same in every figure, told apart by colour-blind readers (Okabe & Ito)."""

RUNGS = {
    "noop": "#8c8c8c",
    "crud": "#0072b2",
    "orm": "#56b4e9",
    "cache": "#e69f00",
    "replica": "#f0e442",
    "handlers": "#009e73",
    "views": "#cc79a7",
    "cqrs": "#d55e00",
    "broker": "#882255",
    "event-sourced": "#44aa99",
    "search": "#999933",
}
OTHERS = ("#9467bd", "#17a2b8", "#b5651d", "#e377c2", "#8a9a00", "#7a8fd6")

COMPONENTS = {"app": "#4e79a7", "projector": "#f28e2b", "broker": "#b07aa1", "postgres": "#76b7b2", "redis": "#e15759"}
OTHER_COMPONENTS = ("#9c755f", "#edc948", "#bab0ac")


def of_targets(rungs: dict[str, str]) -> dict[str, str]:
    """The colour of each target, given the rung of each: a known rung has its own, once; others the next."""
    colours: dict[str, str] = {}
    for name, rung in rungs.items():
        own = RUNGS.get(rung)
        if own is None or own in colours.values():
            own = next(
                (colour for colour in OTHERS if colour not in colours.values()), OTHERS[len(colours) % len(OTHERS)]
            )
        colours[name] = own
    return colours


def of_components(names: list[str]) -> dict[str, str]:
    """The colour of each component; unknown ones get the next in order."""
    unknown = [name for name in names if name not in COMPONENTS]
    extra = {name: OTHER_COMPONENTS[place % len(OTHER_COMPONENTS)] for place, name in enumerate(unknown)}
    return {name: COMPONENTS.get(name) or extra[name] for name in names}

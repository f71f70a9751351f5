"""The options of rungs, such as `--orm naive` or `--replicas=2`, which choose a variant wherever the rung is named."""

from collections.abc import Callable, Collection

from crossover.errors import UserError
from ladder.rung import Rung, rungs, words_of


def in_variants(words: list[str], declared: Callable[[list[str]], Collection[str]]) -> list[str]:
    """Words of a command line in which `--orm naive` has made every rung `orm` the rung `orm:naive`. An option that
    the command itself has is the command's."""
    for one in rungs().values():
        chosen: dict[str, str] = {}
        for option, values in one.options.items():
            flag = f"--{option}"
            places = [place for place, word in enumerate(words) if word.partition("=")[0] == flag]
            if option and places and flag not in declared(words):
                words, chosen[option] = _without(words, places[0], flag, values)
        if chosen:
            words = _in_variant(words, chosen, one)
    return words


def _without(words: list[str], place: int, flag: str, values: Collection[str]) -> tuple[list[str], str]:
    """The other words, and the value of the option."""
    _, equals, value = words[place].partition("=")
    rest = words[place + 1 :] if equals else words[place + 2 :]
    value = value if equals else "".join(words[place + 1 : place + 2])
    if value not in values:
        raise UserError(f"There is no {flag} '{value}': choose one of {', '.join(values)}.")
    return words[:place] + rest, value


def _in_variant(words: list[str], chosen: dict[str, str], one: Rung) -> list[str]:
    variant = "-".join(words_of(one, chosen))
    after = [_renamed(word, one.name, f"{one.name}:{variant}") for word in words]
    if words == after:
        flag = f"--{next(iter(chosen))}"
        raise UserError(f"{flag} is for the rung {one.name}, which was not asked for: name it, or leave {flag} out.")
    return after


def _renamed(word: str, old: str, new: str) -> str:
    option, equals, names = word.rpartition("=")
    return option + equals + ",".join(new if name == old else name for name in names.split(","))

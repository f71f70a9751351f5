"""The option of a rung, such as `--orm naive` or `--replicas=2`, which chooses its variant wherever it is named."""

from collections.abc import Callable, Collection

from crossover.errors import UserError
from ladder.rung import Rung, rungs


def in_variants(words: list[str], declared: Callable[[list[str]], Collection[str]]) -> list[str]:
    """Words of a command line in which `--orm naive` has made every rung `orm` the rung `orm:naive`. An option that
    the command itself has is the command's."""
    for one in rungs().values():
        flag = f"--{one.option}"
        places = [place for place, word in enumerate(words) if word.partition("=")[0] == flag]
        if one.option and places and flag not in declared(words):
            words = _in_variant(words, places[0], flag, one)
    return words


def _in_variant(words: list[str], place: int, flag: str, one: Rung) -> list[str]:
    _, equals, variant = words[place].partition("=")
    rest = words[place + 1 :] if equals else words[place + 2 :]
    variant = variant if equals else "".join(words[place + 1 : place + 2])
    if variant not in one.variants:
        raise UserError(f"There is no {flag} '{variant}': choose one of {', '.join(one.variants)}.")
    before = words[:place] + rest
    after = [_renamed(word, one.name, f"{one.name}:{variant}") for word in before]
    if before == after:
        raise UserError(f"{flag} is for the rung {one.name}, which was not asked for: name it, or leave {flag} out.")
    return after


def _renamed(word: str, old: str, new: str) -> str:
    option, equals, names = word.rpartition("=")
    return option + equals + ",".join(new if name == old else name for name in names.split(","))

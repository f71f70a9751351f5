"""Tables and notes for a terminal: a table too wide for it is printed in parts, one below the other."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

STYLES = {
    **{"better": "bold green", "same or better": "bold green", "yes": "green", "worse": "bold red", "no": "bold red"},
    **{"equivalent": "cyan", "inconclusive": "yellow"},
}


class Sheet:
    """Rows under headings; the first `keys` columns are repeated in each part; a wide one breaks before `split` first.

    A heading that starts with `<` is of a column of words: set at its left edge. Strings are text, never markup, since
    names of targets come from users; a cell that is a verdict is coloured.
    """

    def __init__(self, headings: Sequence[str], *, split: int = 0, keys: int = 2) -> None:
        self.headings, self.split, self.keys = headings, split, keys
        self.rows: list[tuple[list[Text], str, bool]] = []

    def add(self, *cells: str | Text, style: str = "", last: bool = False) -> None:
        """`last` ends a section."""
        texts = [cell if isinstance(cell, Text) else Text(cell, STYLES.get(cell, "")) for cell in cells]
        self.rows.append((texts, style, last))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As many columns a part as fit: none is squeezed, so that no name and no number is cut."""

        def fits(columns: list[int]) -> bool:
            table = self._table(columns)
            return console.measure(table, options=options.update(max_width=1_000)).maximum <= options.max_width

        keys, rest = [*range(self.keys)], [*range(self.keys, len(self.headings))]
        while rest:
            count = next((n for n in range(len(rest), 1, -1) if fits([*keys, *rest[:n]])), 1)
            if count < len(rest) and rest[0] < self.split <= rest[count - 1]:
                count = self.split - rest[0]
            yield self._table([*keys, *rest[:count]])
            rest = rest[count:]
            if rest:
                yield Text()

    def _table(self, columns: Iterable[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        for place in columns:
            heading = self.headings[place]
            words = heading.startswith("<")
            table.add_column(heading.removeprefix("<"), justify="left" if words else "right", overflow="fold")
        for cells, style, last in self.rows:
            table.add_row(*(cells[place] for place in columns), style=style, end_section=last)
        return table


def page(
    title: str, *parts: RenderableType, notes: Iterable[str] = (), answer: str | Sequence[str] = (), headline: str = ""
) -> RenderableType:
    """The answer, what it rests on, and last, where a terminal leaves the eye, the headline."""
    said = [Text(answer, style="bold")] if isinstance(answer, str) else [Text(line) for line in answer]
    shown: list[RenderableType] = [*said, Text()] if answer else []
    shown += [Text(title, style="bold")] if title else []
    lines = [Text("· " + note) for note in notes]
    shown += [*parts, *([Text(), *lines] if lines else [])]
    return Group(*shown, Text("\n" + headline, style="bold")) if headline else Group(*shown)

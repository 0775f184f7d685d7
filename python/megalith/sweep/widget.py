"""Sliders over the points of a space: what is cached is shown at once, the rest is computed when asked for."""

from __future__ import annotations

import contextlib
import html
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from megalith._optional import require
from megalith.sweep.drawing import as_html, as_text
from megalith.sweep.parameter import find, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from megalith.sweep.parameter import Parameter
    from megalith.sweep.space import ParameterSpace

    Point = dict[str, Any]

# How long a slider rests before its point is computed.
REST_S = 0.15

# Parts of a range without steps that a slider has.
PARTS = 100


class Explorer:
    """The parts of a widget, and what they do.

    Parameters
    ----------
    space : ParameterSpace
        Whose parameters are moved.
    f : callable
        Whose results are shown.
    dependencies : sequence
        As in `ParameterSpace.sweep`.

    Attributes
    ----------
    controls : dict of Control
        What moves each parameter, by its name.
    button, automatic, status, output : ipywidgets.Widget
        Computes the point; whether that happens without it; how it is with the point; its result.
    box : ipywidgets.VBox
        All of it.
    """

    def __init__(self, space: ParameterSpace, f: Callable[..., Any], dependencies: Sequence[Any] = ()) -> None:
        widgets = require("ipywidgets", "widgets")
        self._space, self._f, self._dependencies = space, f, dependencies
        self._lock = threading.RLock()
        self._shown: Point | None = None
        self._running: Point | None = None
        self._failed: list[tuple[Point, str]] = []
        self._latest = Latest(self._compute)
        self.button = widgets.Button(description="compute", layout={"width": "auto"})
        self.automatic = widgets.Checkbox(description="compute at once", indent=False, layout={"width": "auto"})
        self.status, self.output = widgets.HTML(layout={"margin": "0 0 0 2em"}), widgets.HTML()
        parameters = space.parameters.values()
        width = f"{max((len(_title(parameter)) for parameter in parameters), default=0) + 1}ch"
        self.controls = {parameter.name: Control(widgets, parameter, width, self) for parameter in parameters}
        row = widgets.HBox([self.button, self.automatic, self.status], layout={"align_items": "center"})
        self.box = widgets.VBox([*(control.widget for control in self.controls.values()), row, self.output])
        self.button.on_click(lambda _: self.ask())
        self.automatic.observe(lambda _: self.look(again=True), "value")
        self.box.observe(lambda _: self._close(), "comm")
        self.look()

    def look(self, *, again: bool = False) -> None:
        """Show what is known of the present point, if it has changed."""
        with self._lock, self.told():
            point = self._point()
            if not again and self._shown is not None and _equal(point, self._shown):
                return
            self._shown = point
            self._latest.drop()
            if self._running is not None and _equal(point, self._running):
                self._show(None, "computing...", can_compute=False)
                return
            found, text = self._known(point)
            if found is not None:
                self._show(as_html(found.value), "cached", can_compute=False)
            elif text is not None:
                self._show(as_text(text), "failed", can_compute=True)
            elif self.automatic.value:
                self.ask()
            else:
                self._show(None, "not computed yet", can_compute=True)

    def ask(self) -> None:
        """Compute the present point in the background."""
        with self._lock, self.told():
            point = self._shown = self._point()
            self._show(None, "computing...", can_compute=False)
            self._latest.ask(point)

    def fail(self, error: BaseException) -> None:
        """Show what went wrong, until something moves."""
        with self._lock:
            self._shown = None
            text = "".join(traceback.format_exception(error))
            self._show(as_text(text), "failed", can_compute=True)

    def _point(self) -> Point:
        """Return the values that the parameters have now, and those of linked parameters that go with them."""
        own = {p.name: p.value for p in self._space.parameters.values() if p.source is None and p.value is not None}
        return self._space._call(self._f, own, self._dependencies)[1]

    def _known(self, point: Point) -> tuple[Any, str | None]:
        """Return the record of a point if there is one, else how it failed if it has."""
        function, taken = self._space._call(self._f, point, self._dependencies)
        found = self._space._found(function, taken)
        if found is not None:
            return found, None
        for failed, text in self._failed:
            if _equal(failed, point):
                return None, text
        store = self._space._store
        attempts = [] if store is None else store.attempts(function.id, function.identify(taken)[0])
        return None, attempts[-1]["traceback"] if attempts else None

    def _compute(self, point: Point) -> None:
        """Compute a point and show it, unless another one is wanted by then."""
        start = time.monotonic()
        self._running = point
        try:
            shown = as_html(self._space.run_process(self._f, point, self._dependencies))
            state = f"computed in {time.monotonic() - start:.2g} s"
        except BaseException as error:  # SystemExit too: it would end the thread and tell nobody.
            text = "".join(traceback.format_exception(error))
            shown, state = as_text(text), "failed"
        with self._lock:
            self._running = None
            self._failed = [(failed, text) for failed, text in self._failed if not _equal(failed, point)]
            if state == "failed":
                self._failed.append((point, text))
            if self._shown is not None and _equal(point, self._shown):
                self._show(shown, state, can_compute=state == "failed")
            elif state == "failed":
                values = ", ".join(f"{name}={value!r}" for name, value in point.items())
                self.status.value = f"{self.status.value}<br>failed: {html.escape(values)}"

    def _show(self, shown: str | None, state: str, *, can_compute: bool) -> None:
        """Show a result, or for a point that has none, nothing in its room: so the page does not jump."""
        self.output.layout.visibility = "hidden" if shown is None else "visible"
        if shown is not None:
            self.output.value = shown
        self.status.value = html.escape(state)
        self.button.disabled = not can_compute

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Show an exception instead of leaving it to the log of the server."""
        try:
            yield
        except Exception as error:
            self.fail(error)

    def _close(self) -> None:
        if self.box.comm is None:
            self._latest.drop()
            for control in self.controls.values():
                control.close()


class Control:
    """A slider or a drop-down that moves a parameter and moves with it.

    Parameters
    ----------
    widgets : module
        `ipywidgets`.
    parameter : Parameter
        What is moved.
    width : str
        Of its name.
    explorer : Explorer
        Told when it has moved.

    Attributes
    ----------
    widget : ipywidgets.Widget
        What is seen of it.
    """

    def __init__(self, widgets: Any, parameter: Parameter, width: str, explorer: Explorer) -> None:
        self._parameter, self._explorer = parameter, explorer
        self._values = parameter.values
        self._follower: int | None = None
        low, high = parameter.minimum, parameter.maximum
        kind: Any = widgets.Text
        about: dict[str, Any] = {"value": _label(parameter.value), "disabled": True}
        self._trait = "index" if self._values else "value"
        if parameter.source is not None:
            self._trait = ""
        elif self._values:
            numbers = len(self._values) > 1 and all(type(value) in (int, float) for value in self._values)
            kind = widgets.SelectionSlider if numbers else widgets.Dropdown
            about = {"options": _labels(self._values), "index": find(self._values, parameter.value)}
        elif low is not None and high is not None:
            is_whole = isinstance(low, int) and isinstance(high, int)
            kind = widgets.IntSlider if is_whole else widgets.FloatSlider
            step = {} if is_whole else {"step": (high - low) / PARTS or 1.0, "readout_format": ".4g"}
            about = {"min": low, "max": high, "value": parameter.value, **step}
        else:
            self._trait = ""
        self.widget = kind(
            description=_title(parameter), style={"description_width": width}, layout={"width": "30em"}, **about
        )
        if self._trait:
            self.widget.observe(self._moved, self._trait)
        parameter.register_callback(self._follow)

    def close(self) -> None:
        """Let the parameter go."""
        self._parameter.remove_callback(self._follow)

    def _moved(self, change: Any) -> None:
        """Give the parameter the value that was chosen."""
        if self._follower != threading.get_ident():
            with self._explorer.told():
                self._parameter.value = self._values[change["new"]] if self._values else change["new"]

    def _follow(self, _: Any = None) -> None:
        """Move to the value that the parameter has now."""
        value = self._parameter.value
        self._follower = threading.get_ident()
        try:
            if self._values is not self._parameter.values:
                self._values = self._parameter.values
                self.widget.options = _labels(self._values)
            now = find(self._values, value) if self._trait == "index" else value if self._trait else _label(value)
            setattr(self.widget, self._trait or "value", now)
        finally:
            self._follower = None
        self._explorer.look()


class Latest:
    """Do what was asked for last, in a thread; what has not begun when something newer is asked for is dropped.

    Parameters
    ----------
    work : callable
        Called with what was asked for. It must not raise.
    """

    def __init__(self, work: Callable[[Any], None]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._wanted: Any = None
        self._is_busy = False

    def ask(self, item: Any) -> None:
        """Do this next."""
        with self._lock:
            self._wanted = item
            if self._is_busy:
                return
            self._is_busy = True
        threading.Thread(target=self._run, name="megalith-widget", daemon=True).start()

    def drop(self) -> None:
        """Forget what has not begun."""
        with self._lock:
            self._wanted = None

    def _run(self) -> None:
        while True:
            item = self._wanted
            time.sleep(REST_S)
            with self._lock:
                if item is not self._wanted:
                    continue
                self._wanted = None
                if item is None:
                    self._is_busy = False
                    return
            self._work(item)


def _equal(a: Point, b: Point) -> bool:
    return a.keys() == b.keys() and all(same(value, b[name]) for name, value in a.items())


def _title(parameter: Parameter) -> str:
    return f"{parameter.name} [{parameter.unit}]" if parameter.unit else parameter.name


def _label(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else repr(value)


def _labels(values: Sequence[Any]) -> list[str]:
    """Return values as people read them, all different."""
    for labels in ([_label(value) for value in values], [repr(value) for value in values]):
        if len(set(labels)) == len(labels):
            return labels
    return [f"{i}: {label}" for i, label in enumerate(labels)]

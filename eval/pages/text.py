"""Numbers as text."""


def figure(value: float | None, digits: int = 4) -> str:
    """Return a number as text, a dash where there is none."""
    return "—" if value is None else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """Return seconds as text in us, ns or ps."""
    for unit, size in (("us", 1e-6), ("ns", 1e-9)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-12:.3g} ps"

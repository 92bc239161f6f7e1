"""The colours of the page as data, one set for light and one for dark.

The series colours are the blue, vermilion, green, purple and ochre of Okabe and Ito's set for
colour-blind readers, darkened or lightened until each has a contrast of 3:1 or more against its
background; the tests check it, and that any two stay apart under the three kinds of blindness.
"""

SERIES = ("c1", "c2", "c3", "c4", "c5", "c6")

LIGHT = {
    "paper": "#fdfcfa",
    "raised": "#f5f2ec",
    "ink": "#22252a",
    "soft-ink": "#5b6068",
    "rule": "#dcd7cd",
    "grid": "#e9e5dd",
    "accent": "#1f5f8b",
    "holds": "#0b6b4f",
    "violated": "#b3261e",
    "inconclusive": "#7a5600",
    "not-applicable": "#5b6068",
    "c1": "#0067a5",
    "c2": "#b43c00",
    "c3": "#00855f",
    "c4": "#a3427c",
    "c5": "#a88a00",
    "c6": "#3a3f47",
}

DARK = {
    "paper": "#15181c",
    "raised": "#1e2227",
    "ink": "#e6e3dc",
    "soft-ink": "#a3a8b0",
    "rule": "#383d45",
    "grid": "#2a2f36",
    "accent": "#86bfe8",
    "holds": "#5fcfa5",
    "violated": "#ff938a",
    "inconclusive": "#e8bd5a",
    "not-applicable": "#a3a8b0",
    "c1": "#5fb4f0",
    "c2": "#ff8a47",
    "c3": "#35c795",
    "c4": "#e795c4",
    "c5": "#f0dc72",
    "c6": "#8b929c",
}

DIVERGING = ((0.0, "#0067a5"), (0.5, "#f2f0ea"), (1.0, "#c8500a"))


def variables(colours: dict[str, str]) -> str:
    """Return CSS declarations: `--ink`, and `--c1-band` for the faint area around a series."""
    plain = [f"--{name}: {colour};" for name, colour in colours.items()]
    bands = [f"--{name}-band: {colours[name]}2e;" for name in SERIES]
    return " ".join(plain + bands)

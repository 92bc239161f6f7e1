"""The colours of both themes: legible, and apart for colour-blind readers."""

import itertools

import numpy as np
import pytest

from widthwise.report.palette import DARK, LIGHT, SERIES

# Machado, Oliveira and Fernandes (2009), severity 1.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
THEMES = [pytest.param(LIGHT, id="light"), pytest.param(DARK, id="dark")]


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    low, high = sorted((XYZ[1] @ linear(one), XYZ[1] @ linear(other)))
    return (high + 0.05) / (low + 0.05)


def lab(colour: str, blindness: str) -> np.ndarray:
    seen = np.clip(np.asarray(BLINDNESS[blindness]) @ linear(colour), 0, 1)
    ratio = XYZ @ seen / XYZ.sum(axis=1)
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ground", ["paper", "raised"])
def test_text_and_series_stand_out_from_the_paper(theme, ground):
    text = ("ink", "soft-ink", "accent", "holds", "violated", "inconclusive", "not-applicable")
    # WCAG 2.1: 4.5 for text (1.4.3), 3 for graphical objects (1.4.11).
    assert all(contrast(theme[name], theme[ground]) >= 4.5 for name in text)
    assert all(contrast(theme[name], theme["paper"]) >= 3 for name in SERIES)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("blindness", BLINDNESS)
def test_series_stay_apart_under_every_colour_blindness(theme, blindness):
    # Four times the just noticeable difference of CIELAB, 2.3.
    distances = {
        pair: np.linalg.norm(lab(theme[pair[0]], blindness) - lab(theme[pair[1]], blindness))
        for pair in itertools.combinations(SERIES, 2)
    }
    assert min(distances.values()) > 4 * 2.3, min(distances, key=distances.get)


def test_both_themes_name_the_same_colours():
    assert LIGHT.keys() == DARK.keys()

r"""What state a training is in, from its loss and from how far its rate is above or below the largest stable one.

Legend: the margin m is the sharpness over the threshold of the optimiser, $\eta S/2$ for gradient descent: below 1 the
linearised training is stable. Two margins are known: that of the Hessian, and that of the Gauss-Newton matrix, which
the residual does not enter and whose fall or rise tells a catapult from divergence.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

STABLE, SHARPENING, EDGE = "stable", "progressive sharpening", "edge of stability"
CATAPULT, DIVERGENT = "catapult", "divergent"
STATUSES = (STABLE, SHARPENING, EDGE, CATAPULT, DIVERGENT)

_TWO_LAYERS = 2.0  # the margin from which a two-layer network diverges, CATA-5
_EXPLODED = 1e6  # times the loss at the start
_GROWN = 4.0  # times the loss before: the instability is seen
_FALLEN, _RISEN = 0.98, 1.1  # of the curvature, from when the instability began
_BELOW, _LEFT = 0.8, 0.95  # of the threshold, once or for many records: the edge of stability has been left
_MANY = 8  # records below the threshold in a row
_RISE = 1.1  # of the sharpness over the last half of the steps


@dataclass(frozen=True)
class Moment:
    """One record: the step, the loss, both margins (nan where unknown) and the threshold of the sharpness."""

    step: int
    loss: float
    margin: float
    ntk_margin: float
    threshold: float

    @property
    def curvature(self) -> float:
        """What tells a catapult from divergence, in units in which only the network changes it."""
        return (self.margin if math.isnan(self.ntk_margin) else self.ntk_margin) * self.threshold


@dataclass(frozen=True)
class Phase:
    """A status, the moment at which the margin rose above 1 where it has, and the step of a crossing from below."""

    status: str = STABLE
    since: Moment | None = None
    crossing: float | None = None


def advanced(phase: Phase, moments: Sequence[Moment]) -> Phase:
    """The phase after one more moment, the last of ``moments``.

    >>> calm, steep = Moment(0, 1.0, 0.5, 0.5, 2.0), Moment(0, 1.0, 1.5, 1.5, 2.0)
    >>> advanced(Phase(), [calm]).status, advanced(Phase(), [steep]).status
    ('stable', 'catapult')
    """
    now, first = moments[-1], moments[0]
    if not math.isfinite(now.loss) or not math.isfinite(now.margin) or now.loss > _EXPLODED * abs(first.loss):
        return replace(phase, status=DIVERGENT)
    if phase.since is None and now.margin > 1.0:
        phase = _begun(phase, moments)
    if phase.since is None:
        return replace(phase, status=SHARPENING if _is_rising(moments) else STABLE)
    return _edge(phase, moments) if phase.status == EDGE else _thrown(phase, moments)


def _begun(phase: Phase, moments: Sequence[Moment]) -> Phase:
    """The margin has risen above 1: by sharpening, or because training began there or its rate was raised."""
    now = moments[-1]
    if len(moments) == 1:
        return replace(phase, status=CATAPULT, since=now)
    before = moments[-2]
    if now.threshold < 0.9 * before.threshold:
        return replace(phase, status=CATAPULT, since=now)
    part = (1.0 - before.margin) / (now.margin - before.margin)
    crossing = before.step + part * (now.step - before.step)
    return Phase(EDGE, now, crossing if phase.crossing is None else phase.crossing)


def _edge(phase: Phase, moments: Sequence[Moment]) -> Phase:
    now, since = moments[-1], phase.since
    assert since is not None
    late = [one.margin for one in moments if one.step >= now.step - 0.25 * (now.step - since.step)]
    if now.margin < _BELOW or (len(late) >= _MANY and max(late) < _LEFT):
        return replace(phase, status=STABLE, since=None)
    if now.loss > _GROWN**2 * since.loss and now.margin > _RISEN:
        return _thrown(replace(phase, status=CATAPULT), moments)
    return phase


def _thrown(phase: Phase, moments: Sequence[Moment]) -> Phase:
    """A catapult or divergence: by the rule of two-layer networks until the curvature itself has answered."""
    now, since = moments[-1], phase.since
    assert since is not None
    if now.loss <= since.loss and now.margin < 1.0:
        return replace(phase, status=STABLE, since=None)
    if now.loss <= since.loss and len(moments) > 1 and max(one.margin for one in moments[-2:]) < _RISEN:
        return replace(phase, status=EDGE)
    if now.margin < 1.0:
        return replace(phase, status=CATAPULT)
    started = since.curvature / since.threshold
    seen, change = now.loss > _GROWN * since.loss, now.curvature / since.curvature
    if seen and change < _FALLEN:
        return replace(phase, status=CATAPULT)
    if seen and change > _RISEN:
        return replace(phase, status=DIVERGENT)
    if phase.status == DIVERGENT and change > _FALLEN:
        return phase
    return replace(phase, status=CATAPULT if started < _TWO_LAYERS else DIVERGENT)


def _is_rising(moments: Sequence[Moment]) -> bool:
    """Whether the sharpness has risen over the last half of the steps, and is higher than it has been."""
    now = moments[-1]
    half = [one for one in moments if one.step >= 0.5 * (moments[0].step + now.step)]
    if len(half) < 3:
        return False
    return now.margin > _RISE * half[0].margin and now.margin >= 0.97 * max(one.margin for one in half)


def advice(phase: Phase, moments: Sequence[Moment]) -> str:
    """What the status means and what to do, in one sentence.

    >>> advice(Phase(), [Moment(0, 1.0, 0.5, 0.5, 2.0)])
    'Stable: the rate is 0.5 of the largest stable one; nothing needs to be done.'
    """
    now = moments[-1]
    if phase.status == STABLE:
        return f"Stable: the rate is {now.margin:.3g} of the largest stable one; nothing needs to be done."
    if phase.status == SHARPENING:
        return f"Progressive sharpening: {_forecast(moments)}; lower it by then if the loss has to fall in every step."
    if phase.status == EDGE:
        return (
            "Edge of stability: the sharpness stays near the threshold and the loss falls on the whole, not in every "
            "step; go on, or halve the rate for a steady fall."
        )
    if phase.status == CATAPULT:
        return (
            f"Catapult: the rate was {_excess(phase):.3g} times the largest stable one; expect the loss to rise and "
            "then to fall at a flatter point; go on, or divide the rate by that number to avoid it."
        )
    if (excess := _excess(phase, now)) > 1.0:
        return f"Divergent: go back to an earlier step and divide the rate by at least {excess:.3g}."
    if math.isfinite(now.loss) and math.isfinite(now.margin):
        return "Divergent: the loss has exploded at a stable rate; go back to an earlier step and look for what did it."
    return (
        "Divergent: the loss or its curvature is no longer a finite number, and the rate had been stable before; go "
        "back to an earlier step and look for the first value that is not finite, in the data or in the parameters."
    )


def _excess(phase: Phase, now: Moment | None = None) -> float:
    margins = [one.margin for one in (phase.since, now) if one is not None and math.isfinite(one.margin)]
    return max([*margins, 1.0])


def _forecast(moments: Sequence[Moment]) -> str:
    now = moments[-1]
    half = [one for one in moments if one.step >= 0.5 * (moments[0].step + now.step)]
    pace = (now.margin - half[0].margin) / (now.step - half[0].step)
    steps = (1.0 - now.margin) / pace
    return (
        f"the rate is {now.margin:.3g} of the largest stable one, which falls to it in {steps:.0f} steps at this pace"
    )

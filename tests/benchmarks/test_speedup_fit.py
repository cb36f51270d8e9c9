"""How well curves are fitted, over many noisy draws: run on demand, it takes a minute or two."""

from __future__ import annotations

import numpy as np
import pytest

from analysis_kit.frames import SPEEDUP_COLUMNS, frame
from analysis_kit.speedup import fit_speedup

DEFAULT = (1, 2, 3, 4, 6, 8, 12, 16)
WIDE = (1, 2, 4, 8, 16, 32)
NOISE, REPEATS, DRAWS = 0.03, 5, 100


def draws(speedup, workers):
    """Return fits of noisy curves of a known shape."""
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        yield fit_speedup(
            frame(
                (
                    {"workers": n, "repeat": r, "wall_s": 10 / speedup(n) * (1 + rng.normal(0, NOISE))}
                    for n in workers
                    for r in range(REPEATS)
                ),
                SPEEDUP_COLUMNS,
            )
        )


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_hinge_slots_are_right_in_97_of_100(slots):
    """The slots of a server with 1, 2 or 4 are right in at least 97 draws, and so are their intervals."""
    fits = list(draws(lambda n: min(n, slots), DEFAULT))
    right = sum(fit.slots == slots for fit in fits)
    covered = sum(fit.intervals["slots"][0] <= slots <= fit.intervals["slots"][1] for fit in fits)
    print(f"slots={slots}: right {right}, covered {covered} of {DRAWS}")
    assert right >= 97
    assert covered >= 97


@pytest.mark.parametrize(("sigma", "kappa"), [(0.05, 0.002), (0.1, 0.01)])
def test_usl_values_and_intervals(sigma, kappa):
    """sigma, kappa and the peak are within 20 % in 95 draws; their intervals cover in 90 and are narrower than the value."""
    fits = list(draws(lambda n: n / (1 + sigma * (n - 1) + kappa * n * (n - 1)), WIDE))
    assert sum(fit.model == "usl" for fit in fits) >= 97
    for name, value in {"sigma": sigma, "kappa": kappa, "peak_workers": ((1 - sigma) / kappa) ** 0.5}.items():
        told = [fit for fit in fits if getattr(fit, name) is not None]
        near = sum(abs(getattr(fit, name) / value - 1) <= 0.2 for fit in told)
        covered = sum(fit.intervals[name][0] <= value <= fit.intervals[name][1] for fit in told)
        narrow = sum(fit.intervals[name][1] - fit.intervals[name][0] < value for fit in told)
        print(f"{name} ({sigma}, {kappa}): near {near}, covered {covered}, narrow {narrow} of {len(told)}")
        assert near >= 95
        assert covered >= 90
        assert narrow == len(told)

"""The three shapes of a speedup curve, each fitted to many resampled curves at once.

Every function takes the worker counts (N,) and the logarithms of the wall times, one curve a row (B, N), and returns
a `Shape` whose numbers are arrays (B,). Errors are relative: a run that takes twice as long varies twice as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Kind = Literal["hinge", "amdahl", "usl"]

#: The hinge is left for another shape only where that one's AICc is lower by more than this; Burnham and Anderson
#: (2002, section 2.6) see considerably less support from 4 to 7 on.
CLEARLY_BETTER = 6.0
#: A slot that adds less than this share of the first is not told from a flat line.
MIN_EFFICIENCY = 0.1


@dataclass(frozen=True, slots=True)
class Shape:
    """One fitted shape; ``found`` holds its numbers, ``parameters`` counts the fitted ones, the wall time of one worker included, per curve."""

    kind: Kind
    found: dict[str, Floats]
    parameters: Floats

    def gains(self, workers: Floats) -> Floats:
        """Return the speedup over one worker, one row a curve: shape (B, len(workers))."""
        import numpy as np

        n = workers[None, :]
        if self.kind == "hinge":
            slots, efficiency = self.found["slots"][:, None], self.found["efficiency"][:, None]
            busy: Floats = np.minimum(n, slots)
            return 1 + efficiency * (busy - 1)
        if self.kind == "amdahl":
            return n / (1 + self.found["serial_fraction"][:, None] * (n - 1))
        sigma, kappa = self.found["sigma"][:, None], self.found["kappa"][:, None]
        return n / (1 + sigma * (n - 1) + kappa * n * (n - 1))

    def residuals(self, workers: Floats, log_wall: Floats) -> Floats:
        """Return what the shape leaves of ``log_wall`` (B, N), the wall time of one worker fitted."""
        import numpy as np

        scaled: Floats = log_wall + np.log(self.gains(workers))
        middle: Floats = scaled.mean(axis=1, keepdims=True)
        return scaled - middle

    def aicc(self, workers: Floats, log_wall: Floats) -> Floats:
        """Return Akaike's criterion corrected for few observations (Hurvich and Tsai 1989), one number a curve."""
        squares = (self.residuals(workers, log_wall) ** 2).sum(axis=1)
        return criterion(squares, len(workers), self.parameters)


def criterion(squares: Floats, size: int, parameters: Floats) -> Floats:
    """Return the AICc of a least-squares fit: sums of squares, number of observations, fitted parameters."""
    import numpy as np

    count = parameters + 1  # one more for the noise
    spare = size - count - 1
    penalty = np.where(spare > 0, 2 * count + 2 * count * (count + 1) / np.maximum(spare, 1), np.inf)
    floor = size * 1e-18  # exact curves have no noise to take the logarithm of
    result: Floats = size * np.log(np.maximum(squares, floor) / size) + penalty
    return result


def hinge(workers: Floats, log_wall: Floats) -> Shape:
    """Fit ``S(n) = 1 + e (min(n, slots) - 1)``; ``e`` is 1 unless the curve clearly says otherwise."""
    import numpy as np

    size, curves = len(workers), len(log_wall)
    shares = np.linspace(1.0, MIN_EFFICIENCY, 91)
    centred = log_wall - log_wall.mean(axis=1, keepdims=True)
    power = (centred**2).sum(axis=1)
    plain = (np.full(curves, np.inf), np.ones(curves))
    shared = (np.full(curves, np.inf), np.ones(curves), np.ones(curves))
    for slots in range(1, int(workers.max()) + 1):
        gains = np.log(1 + shares[:, None] * (np.minimum(workers, slots) - 1)[None, :])
        gains -= gains.mean(axis=1, keepdims=True)
        squares = power[:, None] + 2 * centred @ gains.T + (gains**2).sum(axis=1)[None, :]
        at = squares.argmin(axis=1)
        best = squares[np.arange(curves), at]
        better = squares[:, 0] < plain[0]
        plain = (np.where(better, squares[:, 0], plain[0]), np.where(better, slots, plain[1]))
        better = best < shared[0]
        shared = (
            np.where(better, best, shared[0]),
            np.where(better, slots, shared[1]),
            np.where(better, shares[at], shared[2]),
        )
    two, three = np.full(curves, 2.0), np.full(curves, 3.0)
    share = criterion(shared[0], size, three) < criterion(plain[0], size, two) - CLEARLY_BETTER
    values = {"slots": np.where(share, shared[1], plain[1]), "efficiency": np.where(share, shared[2], 1.0)}
    return Shape("hinge", values, np.where(share, three, two))


def amdahl(workers: Floats, log_wall: Floats) -> Shape:
    """Fit ``S(n) = n / (1 + f (n - 1))``, f in [0, 1]."""
    import numpy as np

    parts = _nonnegative(workers, log_wall, ((0,), (1,), (0, 1)))
    fraction = parts[:, 1] / (parts[:, 0] + parts[:, 1])
    return Shape("amdahl", {"serial_fraction": fraction}, np.full(len(log_wall), 2.0))


def usl(workers: Floats, log_wall: Floats) -> Shape:
    """Fit ``S(n) = n / (1 + sigma (n - 1) + kappa n (n - 1))``, sigma in [0, 1], kappa at least 0."""
    import numpy as np

    parts = _nonnegative(workers, log_wall, ((0,), (1,), (0, 1), (0, 2), (1, 2), (0, 1, 2)))
    one = parts[:, 0] + parts[:, 1]
    sigma, kappa = parts[:, 1] / one, parts[:, 2] / one
    peak = np.sqrt(np.divide(1 - sigma, kappa, out=np.full_like(kappa, np.inf), where=kappa > 0))
    values = {"sigma": sigma, "kappa": kappa, "peak_workers": np.maximum(peak, 1.0)}
    return Shape("usl", values, np.full(len(log_wall), 3.0))


def _nonnegative(workers: Floats, log_wall: Floats, choices: tuple[tuple[int, ...], ...]) -> Floats:
    """Return a, b, c >= 0 of ``wall = a / n + b + c (n - 1)`` by relative least squares, shape (B, 3).

    The USL in these terms is linear: a = T (1 - sigma), b = T sigma, c = T kappa. There are so few sets of
    parameters that can be above zero that each is solved, and the best of those without a negative one is kept.
    """
    import numpy as np

    wall = np.exp(log_wall - log_wall.mean(axis=1, keepdims=True))
    basis = np.stack([1 / workers, np.ones_like(workers), workers - 1], axis=1)
    expected = wall
    parts = np.zeros((len(wall), 3))
    for _ in range(4):  # weights by the fit and not by the noisy times, which would pull it low
        weighted = basis[None, :, :] / expected[:, :, None]
        target = wall / expected
        best = np.full(len(wall), np.inf)
        for choice in choices:
            some = weighted[:, :, list(choice)]
            normal = np.einsum("bnp,bnq->bpq", some, some)
            solved = np.linalg.solve(normal, np.einsum("bnp,bn->bp", some, target)[..., None])[..., 0]
            squares = ((np.einsum("bnp,bp->bn", some, solved) - target) ** 2).sum(axis=1)
            better = (solved >= 0).all(axis=1) & (squares < best)
            best = np.where(better, squares, best)
            full = np.zeros_like(parts)
            full[:, list(choice)] = solved
            parts = np.where(better[:, None], full, parts)
        expected = np.einsum("np,bp->bn", basis, parts)
    scale: Floats = np.exp(log_wall.mean(axis=1, keepdims=True))
    return parts * scale

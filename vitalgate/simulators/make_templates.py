"""Make ``templates.npz`` with NeuroKit2: one clean cycle of every wave that the simulators place by the heart's times.

Run as ``python -m vitalgate.simulators.make_templates``. NeuroKit2 takes seconds to import and integrates a
differential equation for every second of ECG; done once, here, that costs nothing when a thousand patients are
simulated.

The ECG waves come from ECGSYN (McSharry, Clifford, Tarassenko, Smith 2003, IEEE Trans Biomed Eng 50:289) with the
parameters of all waves but one set to nothing: the equation is linear in the wave amplitudes, so P, Q, R, S and T can
be made apart and added in any proportion, which is what a lead matrix does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitalgate.simulators.templates import FILE, R_AT, RATE, WAVES, Templates

_ANGLE = np.array([-70.0, -15.0, 0.0, 15.0, 100.0])
_WIDTH = np.array([0.25, 0.1, 0.1, 0.1, 0.4])
_SIZE = np.array([1.2, 5.0, 30.0, 7.5, 0.75])


def make() -> Templates:
    """One second of each ECG wave round the R peak, one pulse cycle and one breath; all with peak 1."""
    import neurokit2 as nk

    def run(wave: int) -> NDArray[np.float64]:
        size = np.zeros(5)
        size[wave] = _SIZE[wave]
        return np.asarray(
            nk.ecg_simulate(
                duration=40, sampling_rate=RATE, heart_rate=60, heart_rate_std=0, noise=0, method="ecgsyn",
                random_state=1, ai=size, bi=_WIDTH, ti=_ANGLE,
            )
        )  # fmt: skip

    waves = np.stack([_isolate(run(k), _ANGLE[k] / 360, _WIDTH[k] / (2 * np.pi)) for k in range(len(WAVES))])
    pulse = nk.ppg_simulate(
        duration=20, sampling_rate=100, heart_rate=60, frequency_modulation=0, ibi_randomness=0, drift=0,
        motion_amplitude=0, powerline_amplitude=0, burst_number=0, random_state=1,
    )  # fmt: skip
    breath = nk.rsp_simulate(
        duration=60, sampling_rate=100, respiratory_rate=12, noise=0, method="breathmetrics", random_state=1
    )
    return Templates(waves.astype(np.float32), _cycle(pulse, 100, 200), _cycle(breath, 500, 200))


def _isolate(signal: NDArray[np.float64], centre: float, width: float) -> NDArray[np.float64]:
    """The mean wave alone, its peak `centre` seconds from R_AT: base line off, tapered to nothing, peak 1."""
    around = np.arange(-round(5.5 * width * RATE), round(5.5 * width * RATE) + 1)
    beats = []
    for beat in range(6, 36):
        about = round((beat + centre) * RATE)
        at = about - 60 + int(signal[about - 60 : about + 60].argmax())
        piece = signal[at + around]
        edge = np.abs(around) > 4.5 * width * RATE
        beats.append(piece - np.polyval(np.polyfit(around[edge], piece[edge], 1), around))
    mean = np.mean(beats, axis=0)
    rise = np.clip((5 - np.abs(around) / (width * RATE)) / 1.5, 0, 1)
    mean *= 3 * rise**2 - 2 * rise**3
    alone = np.zeros(RATE + 2 * len(around))
    first = len(around) + R_AT + round(centre * RATE) + int(around[0])
    alone[first : first + len(around)] = mean / mean.max()
    return alone[len(around) : len(around) + RATE]


def _cycle(signal: NDArray[np.float64], period: int, points: int) -> NDArray[np.float32]:
    """One mean cycle from trough to trough, `points` long, between 0 and 1."""
    steep = np.asarray(signal, float)
    inner = steep[period : -2 * period]
    first = period + int(inner[:period].argmin())
    count = (len(steep) - first) // period - 1
    mean = steep[first : first + count * period].reshape(count, period).mean(axis=0)
    spread = np.interp(np.linspace(0, period, points, endpoint=False), np.arange(period + 1), np.append(mean, mean[0]))
    spread -= np.linspace(0, spread[-1] - spread[0], points)
    low = spread.min()
    return np.asarray((spread - low) / (spread.max() - low), np.float32)


def main() -> None:
    """Write the file beside ``templates.py``."""
    made = make()
    np.savez_compressed(Path(FILE), waves=made.waves, pulse=made.pulse, breath=made.breath)
    print(f"{FILE}: waves {made.waves.shape}, pulse {made.pulse.shape}, breath {made.breath.shape}")


if __name__ == "__main__":
    main()

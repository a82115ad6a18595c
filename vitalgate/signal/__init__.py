"""The signal room: arrays and a sampling rate in, arrays out.

Nothing here reads a file, a clock or a setting, and nothing here imports anything else of ours.

The seam that the rest of the product uses:

- ``beats.find_beats`` finds R peaks, ``pulse.find_pulses`` pulse peaks, both for many signals at once;
- ``rhythm.rr_intervals``, ``rhythm.heart_rate`` and ``rhythm.rate_events`` say what the beats amount to;
- ``hrv.time_domain`` gives heart-rate variability;
- ``quality.signal_quality`` says how far a stretch of signal can be believed;
- ``scoring`` compares beats with reference annotations as ANSI/AAMI EC57 does.

Two rules hold everywhere. *Absolute samples*: a position is the index of a sample counted from the beginning of the
recording, and a function that is given a stretch is told the index of its first sample. *Finite support*: each module
states BEFORE_S and AFTER_S, and a result in [start, stop) depends bit for bit on samples in
[start - BEFORE_S*fs, stop + AFTER_S*fs) only. So a stream cut into any packets, processed in any order, restarted at
any point, ends with the results of one pass; and a worker that starts again needs only that much history.
"""

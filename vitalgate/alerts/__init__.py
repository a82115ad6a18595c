"""The alerts room: from measurements in event time to alerts that are raised once, cleared, and taken back when wrong.

Pure: no file but the shipped rules is read, no clock, no network. The seam that the rest of the product uses:

- ``rules.load`` reads rule files, ``rules.Book`` says which rules a metric feeds, with a patient's own limits;
- ``engine.Engine`` takes readings, features and time, keeps a bounded memory of each patient, and gives alert events;
- ``events.AlertEvent`` is what goes out on ``patient.alerts``;
- ``memory`` packs and unpacks what must survive a restart.

How it works, from the inside out: a ``machine`` steps over the ordered samples of one metric for one condition of a
rule (a *term*); a ``track`` keeps the newest samples with their versions in event order and steps again from where
something changed; ``intervals`` joins the terms of a rule; ``patient`` compares the intervals that ought to be with the
alerts that are known, and the engine tells the difference. What is known at the end depends on the set of samples only,
not on the order in which they came.
"""

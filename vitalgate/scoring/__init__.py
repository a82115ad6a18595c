"""Scoring on annotated databases: reads them from disk, runs ``signal`` on them, and says how well it did.

- ``databases`` recognises a folder (MIT-BIH, NSTDB, LUDB, AFDB, CinC 2017) and reads its records;
- ``detectors`` names the beat detectors that can be compared: ours and those of other installed packages;
- ``beats``, ``classes``, ``fibrillation``, ``strips``, ``delineation`` and ``quality`` each score one ability;
- ``report`` puts the parts of one folder together, as one document that is printed or written as JSON.
"""

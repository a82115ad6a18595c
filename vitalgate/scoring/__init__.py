"""Scoring on annotated databases: reads them from disk, runs ``signal`` on them, and says how well it did.

- ``databases`` recognises a folder (MIT-BIH, NSTDB, LUDB, AFDB, CinC 2017) and reads its records;
- ``detectors`` names the beat detectors that can be compared: ours and those of other installed packages;
- ``beats``, ``classes``, ``fibrillation``, ``strips``, ``delineation`` and ``quality`` each score one ability;
- ``alarms`` scores what people are told: ``alarm_path`` takes signals through analysis and alert rules as they run,
  ``alarm_reference`` takes the annotations through the same rules;
- ``report`` puts the parts of one folder together, as one document that is printed or written as JSON.
"""

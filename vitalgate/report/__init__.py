"""Reports: pictures of signals with what was found in them. Pure drawing; reads nothing."""

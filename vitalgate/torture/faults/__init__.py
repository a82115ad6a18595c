"""The faults, each in a class with a name; `vitalgate torture --list` explains them."""

"""`python -m vitalgate.cli` is the `vitalgate` script."""

from vitalgate.cli import main

main()

"""`python -m qzoo`."""

from qzoo.cli import main

main()

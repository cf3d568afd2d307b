"""`python -m fedsynth` is the command line."""

from fedsynth.cli.main import main

main()

"""`python -m powsim` is the `powsim` command."""

from powsim.cli import main

main()

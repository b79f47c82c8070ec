# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m trackshade.cli`: the command line where its script is not on the path."""

from trackshade.cli import main

main()

# SPDX-License-Identifier: GPL-3.0-or-later
"""Families of video models behind one interface, `family.ModelFamily`; each has a file of its own."""

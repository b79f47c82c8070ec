# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade batch`: many shots by one command, with a report. A run that was interrupted goes on where it ended."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""Control: from a Shot to the tracking video that steers the model. numpy and numba only."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""Model classes, reading and fetching of checkpoints, and the embedded model `mini` (in the folder `mini`)."""

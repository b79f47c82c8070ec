# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings and command-line options, the model registry, registered checkpoints and locked package versions."""

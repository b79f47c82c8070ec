# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user can set, as tables and plain values. Its modules are its interface.

options      command-line options          settings     settings of a job
registry     known models                  checkpoints  registered checkpoints
locks        locked package versions of the backend's environments
"""

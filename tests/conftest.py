# SPDX-License-Identifier: GPL-3.0-or-later
import signal

# A run that was started in the background ignores Ctrl-C, and its children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

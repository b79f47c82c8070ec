# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade farm`: shots as jobs of render farms. Farms run the commands of `trackshade`; nothing here schedules."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""What every other package builds on; needs numpy only. Its modules are its interface.

errors  text                        errors and numbers for the user
geometry  fitting                   cameras; frame ranges and sizes fitted to a model
colors  resampling  images          sRGB; resampling; PNG files and PSNR
image_headers  color_profiles       supported image files and the meaning of their pixels
folders  atomic_files  processes    where files are, how they are written, how processes are started
"""

# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers of image files: whether a file is supported, and what its pixel values mean.

The format is detected from the content, never from the file name. The pixels are decoded by Blender or by OpenImageIO
in the backend; everything in which these two could differ (orientation, alpha, bit depth, color profile, damaged files)
is decided here and in `trackshade.shot.input_image`, so that both give the same image. Blender has no image library
in all supported versions, so the headers are parsed here.
"""

from trackshade.core.image_headers.header import MAX_PIXELS, ImageHeader
from trackshade.core.image_headers.reading import MAX_BYTES, damaged_image, read_header, read_image_bytes

__all__ = ["MAX_BYTES", "MAX_PIXELS", "ImageHeader", "damaged_image", "read_header", "read_image_bytes"]

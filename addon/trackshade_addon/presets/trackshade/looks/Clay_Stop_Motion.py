# SPDX-License-Identifier: GPL-3.0-or-later
# Hand-made; the motion is let go at the end so that surfaces may wobble.
import bpy

own = bpy.context.scene.trackshade

own.prompt = "a stop-motion film of modelling clay, fingerprints in the clay, painted cardboard set, small studio lamps"
own.negative_prompt = "blurry, washed out, flickering, warped, text, watermark, photorealistic"
own.first_frame = "none"
own.control_scale = 1.0
own.control_start = 0.0
own.control_end = 0.8

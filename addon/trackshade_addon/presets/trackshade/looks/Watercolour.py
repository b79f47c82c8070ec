# SPDX-License-Identifier: GPL-3.0-or-later
# Painted; the motion is followed a little less strictly, which leaves room for strokes.
import bpy

own = bpy.context.scene.trackshade

own.prompt = "a watercolor painting on rough paper, loose brush strokes, pigment blooms, white paper left in the lights"
own.negative_prompt = "blurry, washed out, flickering, warped, text, watermark, photograph, 3d render"
own.first_frame = "none"
own.control_scale = 0.9
own.control_start = 0.0
own.control_end = 0.7

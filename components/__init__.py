"""The pipeline's steps. In each folder `component.py` holds thin KFP functions, the modules beside it the logic."""

# "python" in the name keeps kfp's SubprocessRunner from warning about an image it does not start.
STEPS_IMAGE = "pigeonhole/steps-python:0.1.0"
# Compiling sets it on every step: containers that a step starts run the image that the step runs.
IMAGE_VARIABLE = "PIGEONHOLE_STEPS_IMAGE"

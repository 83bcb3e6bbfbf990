"""The pipeline's steps. In each folder `component.py` holds thin KFP functions, the modules beside it the logic."""

from predictor import __version__

# "python" in the name keeps kfp's SubprocessRunner from warning about an image it does not start.
STEPS_IMAGE = f"pigeonhole/steps-python:{__version__}"
# Compiling sets it on every step: containers that a step starts run the image that the step runs.
IMAGE_VARIABLE = "PIGEONHOLE_STEPS_IMAGE"

"""The steps of the training pipeline that run whether or not a model is rolled out."""

STAGES = (
    "collect", "check", "prepare", "train-baseline", "tune", "fine-tune", "export", "evaluate", "gate", "register",
)  # fmt: skip

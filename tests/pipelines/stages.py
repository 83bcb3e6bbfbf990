"""The steps of the training pipeline that run whether or not a model is rolled out."""

STAGES = (
    "collect", "check", "prepare", "inspect", "train-baseline", "tune", "fine-tune", "export", "evaluate", "gate",
    "report", "register",
)  # fmt: skip

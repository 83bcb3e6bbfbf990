"""Names of the gauges that a batch publishes, with the label `model_name`; rules and dashboards read them."""

BATCH_ACCURACY = "text_classifier_batch_accuracy_ratio"
BATCH_BASELINE = "text_classifier_batch_baseline_accuracy_ratio"
BATCH_PAUSED = "text_classifier_batch_paused"
BATCH_TIME = "text_classifier_batch_time_seconds"

"""Names of the metrics of pipelines and of the trigger: the trigger writes them, rules read them."""

PIPELINE_SUCCESS_TIME = "text_classifier_pipeline_success_time_seconds"
PIPELINE_FAILED = "text_classifier_pipeline_failed"
TRIGGER_WEBHOOKS = "text_classifier_trigger_webhooks_total"
TRIGGER_RUNS = "text_classifier_trigger_runs_total"
TRIGGER_WAITING = "text_classifier_trigger_waiting_runs"

PIPELINE = "pipeline"
RESULT = "result"
"""Of a webhook: `started`, `duplicate`, `put off`, `ignored`, `unauthorised`, `malformed`, `too large`, `unready`. Of a
run: its answer, or `failed`."""

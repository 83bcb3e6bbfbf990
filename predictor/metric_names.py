"""Names of the predictor's Prometheus metrics and labels: the server writes them, the judge of a rollout reads them.

Histograms have their usual endings: Prometheus knows the counts of buckets as `NAME_bucket`.
"""

REQUESTS = "text_classifier_requests_total"
PREDICTIONS = "text_classifier_predictions_total"
LATENCY = "text_classifier_latency_seconds"
STAGE_SECONDS = "text_classifier_stage_seconds"
BATCH_TEXTS = "text_classifier_batch_texts"
BATCH_TOKENS = "text_classifier_batch_tokens"
PADDING = "text_classifier_padding_tokens_total"
TEXT_TOKENS = "text_classifier_text_tokens"
CONFIDENCE = "text_classifier_confidence_ratio"
CACHE_LOOKUPS = "text_classifier_cache_lookups_total"
MODEL_INFO = "text_classifier_model"
QUEUE_TEXTS = "text_classifier_queue_texts"
QUEUE_TOKENS = "text_classifier_queue_tokens"

MODEL, REVISION = "model_name", "revision"
"""Labels of every metric."""
PROTOCOL, CODE = "protocol", "code"
CATEGORY = "category"
RESULT = "result"
STAGE = "stage"
TOKENISE, QUEUE, INFER = "tokenise", "queue", "infer"
"""Values of `STAGE`."""

"""The reference design's service: FastAPI, PyTorch in fp32, one text a call.

python reference.py MODEL PORT THREADS
"""

import sys
import time

import torch
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import PlainTextResponse
from prometheus_client import Counter, Histogram, generate_latest
from pydantic import BaseModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

FOLDER, PORT, THREADS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(THREADS)
app = FastAPI()
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForSequenceClassification.from_pretrained(FOLDER).eval()
requests = Counter("text_classifier_requests_total", "Requests.")
predictions = Counter("text_classifier_predictions", "Answers.", ["category"])
latency = Histogram("text_classifier_latency_seconds", "Seconds.")


class Request(BaseModel):
    text: str


@app.post("/predict")
def predict(request: Request) -> dict[str, object]:
    started = time.time()
    requests.inc()
    try:
        # Not padded to 512 as in training: that would be five times as slow, and nobody would leave it so.
        inputs = tokenizer(request.text, truncation=True, max_length=128, return_tensors="pt")
        with torch.no_grad():
            probabilities = torch.softmax(model(**inputs).logits, dim=1)
    except Exception as error:
        raise HTTPException(500, str(error)) from error
    confidence, best = probabilities.max(dim=1)
    category = model.config.id2label[int(best)]
    predictions.labels(category).inc()
    seconds = time.time() - started
    latency.observe(seconds)
    return {"category": category, "confidence": float(confidence), "processing_time": seconds}


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "healthy"}


@app.get("/metrics")
def metrics() -> PlainTextResponse:
    return PlainTextResponse(generate_latest().decode())


uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")

"""The model behind LitServe.

python lit.py MODEL PORT THREADS BATCH WAIT_MS WORKERS ENGINE

ENGINE is fp32 or bf16, for PyTorch, or an ONNX file.
"""

import sys

import litserve
import onnxruntime
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

FOLDER, ENGINE = sys.argv[1], sys.argv[7]
PORT, THREADS, BATCH, WAIT_MS, WORKERS = map(int, sys.argv[2:7])


class Classifier(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        torch.set_num_threads(THREADS)
        self.tokenizer = AutoTokenizer.from_pretrained(FOLDER)
        self.names = AutoConfig.from_pretrained(FOLDER).id2label
        if ENGINE.endswith(".onnx"):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = THREADS
            self.session = onnxruntime.InferenceSession(ENGINE, options, providers=["CPUExecutionProvider"])
        else:
            model = AutoModelForSequenceClassification.from_pretrained(FOLDER).eval()
            self.model = model.to(torch.bfloat16) if ENGINE == "bf16" else model

    def logits(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if ENGINE.endswith(".onnx"):
            names = ("input_ids", "attention_mask")
            return torch.from_numpy(self.session.run(["logits"], {name: inputs[name].numpy() for name in names})[0])
        return self.model(**inputs).logits.float()  # type: ignore[no-any-return]

    def decode_request(self, request: dict[str, str]) -> str:
        return request["text"]

    def predict(self, texts: str | list[str]) -> object:
        several = [texts] if isinstance(texts, str) else list(texts)
        inputs = self.tokenizer(several, padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            rows = torch.softmax(self.logits(inputs), dim=1)
        answers = [(self.names[int(row.argmax())], float(row.max())) for row in rows]
        return answers[0] if isinstance(texts, str) else answers

    def encode_response(self, answer: tuple[str, float]) -> dict[str, object]:
        return {"label": answer[0], "confidence": answer[1]}


if __name__ == "__main__":
    api = Classifier(max_batch_size=BATCH, batch_timeout=WAIT_MS / 1000)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, timeout=120)
    server.run(host="127.0.0.1", port=PORT, num_api_servers=1, generate_client_file=False, log_level="warning")

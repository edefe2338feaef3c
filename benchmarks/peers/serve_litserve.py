"""LitServe with transformers behind it, batched as its documentation shows. Runs in a virtual environment of its own;
`bench_http.py` makes that and calls this."""

import argparse

import litserve
import torch
from transformers import AutoModel, AutoTokenizer


class Embed(litserve.LitAPI):
    def __init__(self, base, dtype, **options):
        super().__init__(**options)
        self.base, self.dtype = base, dtype

    def setup(self, _):
        self.tokenizer = AutoTokenizer.from_pretrained(self.base)
        model = AutoModel.from_pretrained(self.base, attn_implementation="sdpa").eval()
        self.model = model.to(getattr(torch, self.dtype))

    def decode_request(self, request):
        return request["input"]

    def batch(self, inputs):
        return list(inputs)

    def predict(self, texts):
        texts = texts if isinstance(texts, list) else [texts]
        batch = self.tokenizer(texts, truncation=True, max_length=512, padding=True, return_tensors="pt")
        with torch.inference_mode():
            hidden = self.model(**batch)[0]
        weight = batch["attention_mask"][..., None].to(hidden.dtype)
        vectors = ((hidden * weight).sum(1) / weight.sum(1)).float()
        return torch.nn.functional.normalize(vectors, dim=-1)

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"embedding": output.tolist()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    api = Embed(given.base, given.dtype, max_batch_size=32, batch_timeout=0.005)
    litserve.LitServer(api, accelerator="cpu").run(host="127.0.0.1", port=given.port, generate_client_file=False)

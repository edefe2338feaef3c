"""The model as infinity's ONNX engine wants it: exported and quantized by optimum, to int8 with a scale of each batch's
activations. Runs in infinity's own virtual environment; `bench_http.py` makes that and calls this.

    python quantize_onnx.py BASE OUTPUT
"""

import shutil
import sys
from pathlib import Path

from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig
from transformers import AutoTokenizer


def main():
    base, output = Path(sys.argv[1]), Path(sys.argv[2])
    exported = output.with_name(f"{output.name}.float32")
    ORTModelForFeatureExtraction.from_pretrained(base, export=True).save_pretrained(exported)
    AutoTokenizer.from_pretrained(base, model_max_length=512).save_pretrained(output)
    instructions = AutoQuantizationConfig.avx512_vnni if has_vnni() else AutoQuantizationConfig.avx2
    ORTQuantizer.from_pretrained(exported).quantize(
        save_dir=output, quantization_config=instructions(is_static=False, per_channel=True)
    )
    shutil.rmtree(exported)


def has_vnni():
    return "avx512_vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")


if __name__ == "__main__":
    main()

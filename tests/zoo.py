"""One small random model of every kind, for a service to serve; the models themselves are the oracle."""

from dataclasses import dataclass

import torch

from model.config import TransformerConfig
from model.heads import TextModel
from model.lora import TARGETS, Adapter, LoraConfig
from model.tokenizer import Tokenizer, train_byte_bpe, train_wordpiece

TEXTS = ["我爱北京天安门", "酒店房间很小", "Good value, 非常好", "the film was fine", "服务态度差！"] * 4
SMALL = {"width": 32, "num_layers": 2, "num_heads": 2, "feed_forward_width": 64, "max_positions": 64, "dropout": 0.0}
LABELS = {"tagger": ("O", "B-LOC", "I-LOC", "B-PER"), "several": ("bad", "small", "far"), "classifier": ("no", "yes")}


@dataclass
class Zoo:
    """The models in the service's store, as they are here."""

    models: dict[str, TextModel]
    adapters: dict[str, TextModel]  # merged, as the oracle
    words: Tokenizer
    bytes: Tokenizer


def shaped(seed: int, config: TransformerConfig) -> TextModel:
    """A random model with strong opinions, so that a wrong row, mask or head shows."""
    torch.manual_seed(seed)
    model = TextModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6.0)
    return model


def make_zoo() -> Zoo:
    words = train_wordpiece(TEXTS, 300)
    bytes_ = train_byte_bpe(TEXTS, 300)
    pairs = train_byte_bpe(TEXTS, 300, encoder_decoder=True)
    encoder = TransformerConfig(vocab_size=words.vocab_size, num_segments=2, norm_embeddings=True, **SMALL)  # type: ignore[arg-type]
    decoder = TransformerConfig(
        vocab_size=bytes_.vocab_size, architecture="decoder", norm_first=True, bos_id=0, eos_id=0, task="causal_lm", **SMALL,  # type: ignore[arg-type]
    )  # fmt: skip
    both = TransformerConfig(
        vocab_size=pairs.vocab_size, architecture="encoder_decoder", positions="sinusoidal", bos_id=1, eos_id=2, task="seq2seq", **SMALL,  # type: ignore[arg-type]
    )  # fmt: skip
    configs = {
        "tagger": encoder.with_task("tagging", LABELS["tagger"]),
        "masked": encoder.with_task("masked_lm"),
        "several": encoder.with_task("multi_label", LABELS["several"]),
        "number": encoder.with_task("regression"),
        "classifier": encoder.with_task("classification", LABELS["classifier"], "first", "tanh"),
        "writer": decoder,
        "segmenter": both,
        "base": encoder,
    }
    models = {name: shaped(seed, config) for seed, (name, config) in enumerate(configs.items())}
    return Zoo(models, {}, words, bytes_)


def random_adapter(base: TextModel, rank: int, labels: tuple[str, ...], seed: int) -> Adapter:
    torch.manual_seed(seed)
    config = base.config.with_task("classification", labels, "mean", "none")
    factors = {}
    for name, module in base.named_modules():
        if isinstance(module, torch.nn.Linear) and ".layers." in name and name.rsplit(".", 1)[-1] in TARGETS:
            factors[name] = (torch.randn(rank, module.in_features), torch.randn(module.out_features, rank) * 0.3)
    head = {
        "classifier.linear.weight": torch.randn(len(labels), 32),
        "classifier.linear.bias": torch.randn(len(labels)),
    }
    return Adapter(LoraConfig(rank, alpha=2.0 * rank), config, factors, head)

